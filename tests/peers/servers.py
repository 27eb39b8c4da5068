"""Real name servers for tests: knotd, named and nsd on loopback, each with an address and a free port of its own.

``with Knot([Zone("example.", text=...)], key=KEY) as knot:`` starts the server, waits until it answers, and stops it.
Every server but named listens at, and sends from, an address of its own in 127/8, so that addresses tell them apart.
"""

from __future__ import annotations

import base64
import getpass
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import dns.exception
import dns.flags
import dns.message
import dns.query

__all__ = (
    "KEY",
    "Bind",
    "IncrementalNsd",
    "Key",
    "Knot",
    "NameServer",
    "Nsd",
    "Remote",
    "Zone",
    "free_port",
    "loopback_address",
)

_numbers = itertools.count(1)


def loopback_address() -> str:
    """An address in 127/8 that nothing else in this test run uses."""
    number = next(_numbers)
    return f"127.{os.getpid() % 200 + 20}.{number // 250 % 250}.{number % 250 + 1}"


def free_port(address: str) -> int:
    """A port that is free for UDP and TCP at *address*."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((address, 0))
            try:
                udp.bind((address, tcp.getsockname()[1]))
            except OSError:
                continue
            return int(tcp.getsockname()[1])


@dataclass(frozen=True)
class Key:
    """A TSIG key."""

    name: str = "transfer.key."
    algorithm: str = "hmac-sha256"
    secret: str = base64.b64encode(bytes(range(32))).decode()

    @property
    def bare(self) -> str:
        """The name without the final dot, as configuration files want it."""
        return self.name.rstrip(".")


KEY = Key()


@dataclass(frozen=True)
class Remote:
    """A server that ours talks with."""

    address: str
    port: int
    key: Key | None = None
    tls: Any = None  #: a tests.unit.certificates.Certificate: transfers from there go by TLS and must show it


@dataclass(frozen=True)
class Zone:
    """A zone of a server: a primary's with *text* (a master file), or a secondary's with *primary*."""

    name: str
    text: str | None = None
    primary: Remote | None = None
    notify: tuple[Remote, ...] = ()
    options: tuple[str, ...] = ()  #: more lines for the zone, in the language of the server


class NameServer(ABC):
    """A name server process; a context manager.

    :param zones: what it serves.  Transfers and updates need the key of the server.
    :param key: skipped if ``None``: then nobody may transfer or update.
    :param tls: a certificate to listen for TLS with, at *tls_port*.
    """

    program: ClassVar[str]
    fixed_address: ClassVar[str | None] = None

    def __init__(self, zones: Sequence[Zone], *, key: Key | None = KEY, tls: Any = None) -> None:
        self.zones, self.key = tuple(zones), key
        self.address = self.fixed_address or loopback_address()
        self.port = free_port(self.address)
        self.tls, self.tls_port = tls, free_port(self.address) if tls is not None else 0
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))  # short: it holds Unix sockets
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def configure(self) -> list[str]:
        """Write the configuration; returns the command."""

    def zone_file(self, zone: Zone) -> Path:
        """Where the master file of a zone is."""
        return self.directory / f"{zone.name.rstrip('.') or 'root'}.zone"

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self, *, timeout: float = 10.0) -> None:
        """Start the server and wait until it answers a query."""
        for zone in self.zones:
            if zone.text is not None and not self.zone_file(zone).exists():
                self.zone_file(zone).write_text(zone.text)
        command = self.configure()
        environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin"}
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = self.log
                self.stop()
                raise AssertionError(f"{self.program} did not start:\n{log_text}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """The process id while the server runs."""
        assert self._process is not None
        return self._process.pid

    def _answers(self) -> bool:
        """Whether all zones of which it is the primary are served, and anything is answered at all."""
        for zone in self.zones or (Zone("."),):
            query = dns.message.make_query(zone.name, "SOA")
            try:
                answer = dns.query.udp(query, self.address, port=self.port, timeout=0.05)
            except (dns.exception.DNSException, OSError):
                return False
            if zone.text is not None and not answer.flags & dns.flags.AA:
                return False
        return True

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the server at once (SIGKILL), with the processes that it has started (nsd serves from several, and they
        hold its sockets); its files stay, and :meth:`start` starts it again."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        deadline = time.monotonic() + 10
        while not self._may_listen():
            assert time.monotonic() < deadline, f"{self.program} is killed and its sockets are still in use"
            time.sleep(0.02)

    def _may_listen(self) -> bool:
        """Whether nothing listens at our address and port."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            try:
                tcp.bind((self.address, self.port))
                udp.bind((self.address, self.port))
            except OSError:
                return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def update(self, zone: str, *lines: str) -> None:
        """Change a zone by RFC 2136: lines of nsupdate, such as ``add www.example. 60 A 192.0.2.1``."""
        assert self.key is not None
        script = f"server {self.address} {self.port}\nzone {zone}\n"
        script += "".join(f"update {line}\n" for line in lines) + "send\n"
        command = ["nsupdate", "-y", f"{self.key.algorithm}:{self.key.bare}:{self.key.secret}"]
        done = subprocess.run(command, input=script, capture_output=True, timeout=10, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{self.log}"


class Knot(NameServer):
    """knotd, changed with :meth:`update` or :meth:`control`."""

    program = "knotd"

    def configure(self) -> list[str]:
        keys = {remote.key for remote in self._remotes()} | {self.key}
        lines = [
            f'server:\n  rundir: "{self.directory}"\n  listen: {self.address}@{self.port}',
            "  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  automatic-acl: off",
            f'log:\n- target: stderr\n  any: info\ncontrol:\n  listen: "{self.directory}/sock"',
            f'database:\n  storage: "{self.directory}/db"\nkey:',
        ]
        lines += [
            f"- id: {key.bare}\n  algorithm: {key.algorithm}\n  secret: {key.secret}" for key in keys if key is not None
        ]
        remotes = {remote: f"remote{number}" for number, remote in enumerate(self._remotes())}
        lines += ["remote:"] if remotes else []
        for remote, name in remotes.items():
            lines.append(f"- id: {name}\n  address: {remote.address}@{remote.port}\n  via: {self.address}")
            if remote.key is not None:
                lines.append(f"  key: {remote.key.bare}")
        lines.append("acl:")
        if self.key is not None:
            lines.append(f"- id: keyed\n  key: {self.key.bare}\n  action: [transfer, update]")
        for remote, name in remotes.items():
            lines.append(f"- id: notify-{name}\n  address: {remote.address}\n  action: notify")
            if remote.key is not None:
                lines.append(f"  key: {remote.key.bare}")
        lines.append("zone:")
        for zone in self.zones:
            lines.append(f'- domain: {zone.name}\n  storage: "{self.directory}"\n  file: "{self.zone_file(zone)}"')
            lines.append("  semantic-checks: off\n  zonefile-sync: -1\n  journal-content: changes")
            if zone.primary is not None:
                lines.append(f"  master: {remotes[zone.primary]}\n  acl: notify-{remotes[zone.primary]}")
            elif self.key is not None:
                lines.append("  acl: keyed")
            if zone.notify:
                lines.append(f"  notify: [{', '.join(remotes[remote] for remote in zone.notify)}]")
            lines += [f"  {option}" for option in zone.options]
        (self.directory / "db").mkdir(exist_ok=True)
        (self.directory / "conf").write_text("\n".join(lines) + "\n")
        return ["knotd", "-c", str(self.directory / "conf")]

    def _remotes(self) -> list[Remote]:
        found = [remote for zone in self.zones for remote in (*zone.notify, zone.primary) if remote is not None]
        return list(dict.fromkeys(found))

    def control(self, *arguments: str) -> str:
        """Run knotc."""
        command = ["knotc", "-b", "-s", str(self.directory / "sock"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, timeout=10, text=True).stdout


class Bind(NameServer):
    """named.  It listens only at addresses that an interface has, so not at those of its own in 127/8."""

    program = "named"
    fixed_address = "127.0.0.1"

    def configure(self) -> list[str]:
        remotes = [remote for zone in self.zones for remote in (*zone.notify, zone.primary) if remote is not None]
        keys = dict.fromkeys(key for key in (self.key, *(remote.key for remote in remotes)) if key is not None)
        secured = f'key "{self.key.bare}";' if self.key is not None else "none;"
        lines = [
            f'options {{ directory "{self.directory}"; pid-file none; session-keyfile "{self.directory}/session";',
            f"listen-on port {self.port} {{ {self.address}; }}; listen-on-v6 {{ none; }}; recursion no;",
            f"notify-source {self.address}; transfer-source {self.address}; query-source address {self.address};",
            f"allow-transfer {{ {secured} }}; notify explicit; notify-delay 0; dnssec-validation no;",
            "empty-zones-enable no; minimal-responses yes; zone-statistics none; };",
            "controls { };",
        ]
        lines += [f'key "{key.bare}" {{ algorithm {key.algorithm}; secret "{key.secret}"; }};' for key in keys]
        if self.tls is not None:
            files = f'cert-file "{self.tls.certificate_file}"; key-file "{self.tls.private_key_file}";'
            lines.append(f"tls ours {{ {files} protocols {{ TLSv1.3; }}; }};")
            lines[2] += f" listen-on port {self.tls_port} tls ours {{ {self.address}; }};"
        for number, remote in enumerate(remotes):
            if remote.tls is not None:
                lines.append(
                    f'tls strict{number} {{ ca-file "{remote.tls.certificate_file}"; remote-hostname "ns.test";'
                    " protocols { TLSv1.3; }; };"
                )
        for zone in self.zones:
            name = self.zone_file(zone)
            if zone.primary is None:
                lines.append(f'zone "{zone.name}" {{ type primary; file "{name}"; allow-update {{ {secured} }};')
            else:
                lines.append(
                    f'zone "{zone.name}" {{ type secondary; file "{name}";'
                    f" primaries {{ {_bind(zone.primary, remotes.index(zone.primary))} }};"
                )
            if zone.notify:
                lines.append(f"also-notify {{ {' '.join(_bind(remote) for remote in zone.notify)} }};")
            lines += [*zone.options, "};"]
        (self.directory / "conf").write_text("\n".join(lines) + "\n")
        return ["named", "-g", "-n", "1", "-U", "1", "-c", str(self.directory / "conf")]


def _bind(remote: Remote, number: int = 0) -> str:
    key = f' key "{remote.key.bare}"' if remote.key is not None else ""
    return f"{remote.address} port {remote.port}{key}" + (f" tls strict{number};" if remote.tls is not None else ";")


class Nsd(NameServer):
    """nsd; knows no updates."""

    program = "nsd"
    incremental: ClassVar[bool] = False  #: ask primaries for changes

    def configure(self) -> list[str]:
        remotes = [remote for zone in self.zones for remote in (*zone.notify, zone.primary) if remote is not None]
        keys = dict.fromkeys(key for key in (self.key, *(remote.key for remote in remotes)) if key is not None)
        where = self.directory
        lines = [
            f"server:\n  ip-address: {self.address}\n  port: {self.port}\n  server-count: 1",
            f'  username: "{getpass.getuser()}"',
            f'  zonesdir: "{where}"\n  database: ""\n  pidfile: "{where}/pid"\n  xfrdfile: "{where}/xfrd"',
            f'  zonelistfile: "{where}/zones"\n  xfrdir: "{where}"\n  verbosity: 2\n  rrl-ratelimit: 0',
            "  xfrd-reload-timeout: 0\n  hide-version: yes",
        ]
        if self.tls is not None:
            lines.append(f"  ip-address: {self.address}@{self.tls_port}\n  tls-port: {self.tls_port}")
            lines.append(f'  tls-service-pem: "{self.tls.certificate_file}"')
            lines.append(f'  tls-service-key: "{self.tls.private_key_file}"')
        strict = next((remote.tls for remote in remotes if remote.tls is not None), None)
        if strict is not None:
            lines.append(f'  tls-cert-bundle: "{strict.certificate_file}"')
        lines.append("remote-control:\n  control-enable: no")
        if strict is not None:
            lines.append('tls-auth:\n  name: "strict"\n  auth-domain-name: "ns.test"')
        lines += [f'key:\n  name: "{key.bare}"\n  algorithm: {key.algorithm}\n  secret: "{key.secret}"' for key in keys]
        for zone in self.zones:
            lines.append(f'zone:\n  name: "{zone.name}"\n  zonefile: "{self.zone_file(zone)}"')
            lines.append(f"  outgoing-interface: {self.address}")
            if self.key is not None:
                lines.append(f"  provide-xfr: 127.0.0.0/8 {self.key.bare}")
            if zone.primary is not None:
                name = "NOKEY" if zone.primary.key is None else zone.primary.key.bare
                lines.append(f"  allow-notify: {zone.primary.address} {name}")
                tls = " strict" if zone.primary.tls is not None else ""
                kind = "" if self.incremental else "AXFR "
                lines.append(f"  request-xfr: {kind}{zone.primary.address}@{zone.primary.port} {name}{tls}")
            for remote in zone.notify:
                name = "NOKEY" if remote.key is None else remote.key.bare
                lines.append(f"  notify: {remote.address}@{remote.port} {name}")
            lines += [f"  {option}" for option in zone.options]
        (where / "conf").write_text("\n".join(lines) + "\n")
        return ["nsd", "-d", "-c", str(where / "conf")]


class IncrementalNsd(Nsd):
    """nsd that asks its primaries for changes (IXFR)."""

    incremental = True
