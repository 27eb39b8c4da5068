"""The command line of the daemons: run, check the configuration, make keys.

Exit statuses: 0 done, 1 refused or failed, 2 usage or configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mpcore.errors import ConfigError, MpError
from mpcore.names import Identity, InvalidNameError

__all__ = ("main",)

_COMMANDS = ("run", "check", "keygen")

_DESCRIPTIONS = {
    "agent": "Agent of a DNS provider: finds the agents of the other providers of its zones, agrees with them, and "
    "passes their data to its own combiner.",
    "combiner": "Combiner of a DNS provider: merges the owner's zone with what the providers contribute, and serves "
    "the result to the signer.",
    "signer": "Signer of a DNS provider: signs the merged zone, with the keys of all providers in its DNSKEY RRset, "
    "and serves it to the public secondaries.",
}


def main(role: str, arguments: Sequence[str] | None = None) -> int:
    """Run the console script of a role.

    :param role: ``agent``, ``combiner`` or ``signer``.
    :param arguments: without the program's name; ``None``: those of the process.
    :returns: the exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # "mpagent FILE" runs; so does "mpagent --ready-fd 3 FILE".
    if given and given[0] not in {*_COMMANDS, "-h", "--help", "--version"}:
        given.insert(0, "run")
    parser = _parser(role)
    try:
        options = parser.parse_args(given)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    try:
        match options.command:
            case "run":
                return _run(role, options)
            case "check":
                return _check(role, options)
            case _:
                return _keygen(options)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n" if error.file else f"{parser.prog}: {error}\n")
        return 2
    except InvalidNameError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    except MpError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{parser.prog}: {error.filename}: {(error.strerror or str(error)).lower()}\n")
        return 1


def _version() -> str:
    try:
        return version("multi-provider-dnssec")
    except PackageNotFoundError:
        return "unknown"


def _parser(role: str) -> argparse.ArgumentParser:
    program = f"mp{role}"
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=program,
        description=_DESCRIPTIONS[role],
        formatter_class=raw,
        epilog=f"examples:\n  {program} {role}.yaml\n  {program} check --show {role}.yaml\n"
        f"  {program} keygen jose {role}.jwk\n\n{program} COMMAND --help explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run the daemon (this is what happens when only a file is given)",
        description="Run in the foreground until SIGTERM or SIGINT; messages go to standard error.",
        formatter_class=raw,
        epilog=f"examples:\n  {program} run {role}.yaml\n  {program} run --log-format json {role}.yaml",
    )
    run.add_argument("config", metavar="CONFIG", help="configuration file, YAML")
    run.add_argument("--log-format", choices=("text", "json"), default="text", help="default: text")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: info")
    run.add_argument(
        "--ready-fd",
        type=_descriptor,
        metavar="N",
        help="write a line to this file descriptor when ready, and close it",
    )
    run.add_argument("--die-with-parent", action="store_true", help="end at once when the parent process ends")

    check = commands.add_parser(
        "check",
        help="check a configuration file and the key files it names",
        description="Check a configuration file without starting anything. Exit status 0: usable, 2: not.",
        formatter_class=raw,
        epilog=f"examples:\n  {program} check {role}.yaml\n  {program} check --show {role}.yaml",
    )
    check.add_argument("config", metavar="CONFIG", help="configuration file, YAML")
    check.add_argument("--show", action="store_true", help="print every setting in force and the line it comes from")

    keygen = commands.add_parser(
        "keygen", help="make keys", description="Make keys. A file that exists is never overwritten."
    )
    kinds = keygen.add_subparsers(dest="kind", required=True, metavar="KIND")
    jose = kinds.add_parser(
        "jose",
        help="key that signs and opens messages",
        description="Write a private JWK (EC, P-256; mode 0600) to FILE and the public half to FILE.pub, which the "
        "other daemons of the provider name as public_key_file.",
        formatter_class=raw,
        epilog=f"example:\n  {program} keygen jose {role}.jwk",
    )
    jose.add_argument("file", metavar="FILE", type=Path)
    if role == "agent":
        zone = kinds.add_parser(
            "zone",
            help="DNSSEC keys of the identity zone",
            description="Write the KSK and the ZSK of the identity zone (PKCS#8 PEM, mode 0600) and print the DS "
            "record for its parent.",
            formatter_class=raw,
            epilog=f"example:\n  {program} keygen zone agent.alpha.example. --ksk zone-ksk.pem --zsk zone-zsk.pem",
        )
        zone.add_argument("identity", metavar="IDENTITY", help="identity of the agent, the name of the zone")
        zone.add_argument("--ksk", metavar="FILE", type=Path, required=True)
        zone.add_argument("--zsk", metavar="FILE", type=Path, required=True)
        zone.add_argument("--algorithm", choices=("ECDSAP256SHA256", "ED25519", "RSASHA256"), default="ECDSAP256SHA256")
    return parser


def _descriptor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise argparse.ArgumentTypeError(f"{text!r} is not a file descriptor")
    try:
        os.fstat(int(text))
    except OSError:
        raise argparse.ArgumentTypeError(f"{text} is not an open file descriptor") from None
    return int(text)


def _run(role: str, options: argparse.Namespace) -> int:
    from daemons.runtime import RunOptions, run_daemon

    return run_daemon(
        role,
        options.config,
        RunOptions(
            log_format=options.log_format,
            log_level=options.log_level,
            ready_fd=options.ready_fd,
            die_with_parent=options.die_with_parent,
        ),
    )


def _check(role: str, options: argparse.Namespace) -> int:
    from daemons.config import ROLES, check_keys, load

    loaded = load(options.config, ROLES[role])
    check_keys(loaded)
    if options.show:
        sys.stdout.write(loaded.show())
    else:
        sys.stdout.write(f"{options.config}: usable: {role} {loaded.settings.identity}\n")
    return 0


def _keygen(options: argparse.Namespace) -> int:
    if options.kind == "jose":
        return _keygen_jose(options.file)
    return _keygen_zone(options)


def _keygen_jose(file: Path) -> int:
    from mpcore.wire.seal import PrivateKey, write_private_key, write_public_key

    key = PrivateKey.generate()
    public = file.with_name(f"{file.name}.pub")
    _create({file: (write_private_key(key), 0o600), public: (write_public_key(key.public()), 0o644)})
    sys.stdout.write(f"private key: {file}\npublic key:  {public}\n")
    return 0


def _keygen_zone(options: argparse.Namespace) -> int:
    import dns.dnssec
    import dns.name
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype

    from mpcore.signer.keys import KSK_FLAGS, algorithm_number, dnskey_rdata, dump_pem, generate_private_key

    identity = Identity.lowered(options.identity)
    algorithm = algorithm_number(options.algorithm)
    ksk, zsk = generate_private_key(algorithm), generate_private_key(algorithm)
    _create({options.ksk: (dump_pem(ksk), 0o600), options.zsk: (dump_pem(zsk), 0o600)})
    octets = dnskey_rdata(ksk, KSK_FLAGS)
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, octets, 0, len(octets))
    ds = dns.dnssec.make_ds(dns.name.from_text(identity), rdata, "SHA256")
    sys.stdout.write(f"{identity}\t3600\tIN\tDS\t{ds.to_text()}\n")
    return 0


def _create(files: dict[Path, tuple[str, int]]) -> None:
    """Write new files, all or none; :raises OSError: one exists, or cannot be written."""
    written: list[Path] = []
    try:
        for path, (text, mode) in files.items():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            written.append(path)
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(descriptor, mode)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
