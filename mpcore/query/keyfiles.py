"""Keys from files: TSIG in the forms that name servers use, SIG(0) as BIND's tools write them.

A secret is never an argument: arguments are seen by everybody on the machine.  A file that everybody can read is
refused for the same reason.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from typing import Final

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mpcore.errors import ConfigError, RecordError
from mpcore.query.asking import Sig0Signer
from mpcore.signer.keys import PrivateKey, load_pem, raw_signer
from mpcore.zone.sig0 import Sig0Key
from mpcore.zone.tsig import TsigKey

__all__ = ("load_sig0_key", "load_tsig_key", "parse_tsig_keys")

_MAX_OCTETS: Final = 1 << 16
_BIND_KEY = re.compile(r'key\s+(?:"([^"]+)"|([^\s{"]+))\s*\{([^{}]*)\}\s*;?')
_BIND_STATEMENT = re.compile(r'(algorithm|secret)\s+(?:"([^"]*)"|([^\s;"]+))\s*;')
_COMMENTS = re.compile(r"/\*.*?\*/|(?://|#)[^\n]*", re.DOTALL)


def _read_secret(path: Path) -> str:
    where = str(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(_MAX_OCTETS + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=where) from None
    if mode & stat.S_IRWXO:
        raise ConfigError(f"everybody may read this key (mode {stat.S_IMODE(mode):04o}); chmod 0600", file=where)
    if len(octets) > _MAX_OCTETS:
        raise ConfigError("is larger than 64 KiB, so it is no key", file=where)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ConfigError("is not text, so it is no key", file=where) from None


# --- TSIG ------------------------------------------------------------------------------------------------------------


def load_tsig_key(path: Path, name: str | None = None) -> TsigKey:
    """The TSIG key in a file; it blocks.

    :param name: which one, if there are several.
    :raises ConfigError: the file cannot be read, everybody may read it, it has no key, or several and none is named;
        the message never shows a secret.
    """
    keys = parse_tsig_keys(_read_secret(path), str(path))
    if name is not None:
        wanted = name.lower().rstrip(".") + "."
        for key in keys:
            if key.name_text == wanted:
                return key
        raise ConfigError(f"no key {name}; there are {', '.join(key.name_text for key in keys)}", file=str(path))
    if len(keys) > 1:
        names = ", ".join(key.name_text for key in keys)
        raise ConfigError(f"{len(keys)} keys ({names}); choose one with --tsig-key", file=str(path))
    return keys[0]


def parse_tsig_keys(text: str, file: str) -> list[TsigKey]:
    """TSIG keys in one of four forms.

    ``key "NAME" { algorithm hmac-sha256; secret "..."; };`` as BIND has it, the ``key:`` section of Knot DNS, a list of
    ``name``, ``algorithm`` and ``secret`` as the daemons here have it, or ``[algorithm:]name:secret`` on one line.

    :param file: its name, for errors.
    :raises ConfigError: none of these, or without a key.
    """
    stripped = text.strip()
    if re.match(r'(?:/\*|//|#|key\s+["\w])', stripped) and _BIND_KEY.search(_COMMENTS.sub(" ", _guarded(stripped))):
        found = _bind_keys(stripped, file)
    elif re.fullmatch(r"\S+", stripped) and ":" in stripped:
        parts = stripped.split(":")
        if len(parts) not in (2, 3):
            raise ConfigError("a TSIG key on one line is [algorithm:]name:secret", file=file)
        found = [(parts[-2], parts[0] if len(parts) == 3 else "hmac-sha256", parts[-1])]
    else:
        found = _yaml_keys(stripped, file)
    if not found:
        raise ConfigError("no TSIG key in it", file=file)
    keys = []
    for name, algorithm, secret in found:
        try:
            keys.append(TsigKey.from_text(name, algorithm, secret))
        except ValueError as error:
            raise ConfigError(str(error), file=file) from None
    return keys


def _guarded(text: str) -> str:
    """*text* with ``//`` in quotation marks replaced: base64 has slashes."""
    return re.sub(r'"[^"\n]*"', lambda match: match[0].replace("/", "_").replace("#", "_"), text)


def _bind_keys(text: str, file: str) -> list[tuple[str, str, str]]:
    # Comments are blanked where they stand, so that positions in both texts are the same.
    blanked = _COMMENTS.sub(lambda match: " " * len(match[0]), _guarded(text))
    found = []
    for match in _BIND_KEY.finditer(blanked):
        name = match[1] or match[2]
        body = text[match.start(3) : match.end(3)]
        statements = {word: quoted or bare for word, quoted, bare in _BIND_STATEMENT.findall(body)}
        for word in ("algorithm", "secret"):
            if word not in statements:
                raise ConfigError(f"key {name} has no {word}", file=file)
        found.append((name, statements["algorithm"], statements["secret"]))
    return found


def _yaml_keys(text: str, file: str) -> list[tuple[str, str, str]]:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise ConfigError("no TSIG key in a form that is known", file=file) from None
    if isinstance(value, dict):
        value = value.get("key")
    if not isinstance(value, list):
        raise ConfigError("no TSIG key in a form that is known", file=file)
    found = []
    for number, entry in enumerate(value):
        members = entry if isinstance(entry, dict) else {}
        name, algorithm = members.get("id", members.get("name")), members.get("algorithm", "hmac-sha256")
        secret = members.get("secret")
        if not all(isinstance(each, str) and each for each in (name, algorithm, secret)):
            raise ConfigError(f"key {number + 1} wants id or name, algorithm and secret, as texts", file=file)
        found.append((str(name), str(algorithm), str(secret)))
    return found


# --- SIG(0) ----------------------------------------------------------------------------------------------------------


def load_sig0_key(path: Path) -> Sig0Signer:
    """The SIG(0) key in ``K*.private`` and the KEY record beside it in ``K*.key``; it blocks.

    The private half may be PEM as well.

    :param path: either of the two files, or their common beginning.
    :raises ConfigError: a file is missing or unusable, everybody may read the private one, or they do not belong
        together.
    """
    base = str(path).removesuffix(".private").removesuffix(".key").removesuffix(".")
    private_file, public_file = Path(f"{base}.private"), Path(f"{base}.key")
    text = _read_secret(private_file)
    try:
        record = public_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"the KEY record cannot be read: {reason}", file=str(public_file)) from None
    lines = [line for line in record.splitlines() if line.strip() and not line.lstrip().startswith(";")]
    if len(lines) != 1:
        raise ConfigError(f"holds {len(lines)} records, not one KEY record", file=str(public_file))
    try:
        key = Sig0Key.from_text(lines[0])
    except RecordError as error:
        raise ConfigError(str(error), file=str(public_file)) from None
    private = load_pem(text, file=str(private_file)) if "-----BEGIN" in text else _bind_private(text, str(private_file))
    sign = raw_signer(private)
    try:
        key._verify(sign(b"try"), b"try")
    except Exception:  # whatever the library finds wrong with keys of different kinds
        raise ConfigError(f"does not belong to the KEY record in {public_file}", file=str(private_file)) from None
    return Sig0Signer(key, sign)


def _bind_private(text: str, file: str) -> PrivateKey:
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            values[name.strip()] = value.strip()
    if not values.get("Private-key-format", "").startswith("v1."):
        raise ConfigError("neither PEM nor a private key as BIND's tools write it", file=file)
    algorithm = values.get("Algorithm", "").split(" ")[0]

    def octets(name: str) -> bytes:
        return base64.b64decode(values[name], validate=True)

    def number(name: str) -> int:
        return int.from_bytes(octets(name), "big")

    try:
        if algorithm == "15":
            return ed25519.Ed25519PrivateKey.from_private_bytes(octets("PrivateKey"))
        if algorithm == "13":
            return ec.derive_private_key(number("PrivateKey"), ec.SECP256R1())
        if algorithm == "8":
            public = rsa.RSAPublicNumbers(number("PublicExponent"), number("Modulus"))
            return rsa.RSAPrivateNumbers(
                p=number("Prime1"),
                q=number("Prime2"),
                d=number("PrivateExponent"),
                dmp1=number("Exponent1"),
                dmq1=number("Exponent2"),
                iqmp=number("Coefficient"),
                public_numbers=public,
            ).private_key()
    except (KeyError, ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else "a number of it is wrong"
        raise ConfigError(f"not a private key: {what}", file=file) from None
    raise ConfigError(f"algorithm {algorithm or '(none)'} is not 8, 13 or 15", file=file)
