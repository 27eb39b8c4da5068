"""TSIG keys from their file.

The file is YAML: a list of ``{name, algorithm, secret}``, the secret in base64::

    - name: xfr.alpha.example.
      algorithm: hmac-sha256
      secret: kXk5...=

Nobody but its owner may be able to read it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import yaml

from mpcore.errors import ConfigError, RecordError
from mpcore.yamltext import check_yaml
from mpcore.zone import owners
from mpcore.zone.tsig import ALGORITHMS, TsigKey

__all__ = ("Keyring", "find_key", "key_name", "load_keyring")

Keyring: TypeAlias = Mapping[bytes, TsigKey]
"""TSIG keys by name: canonical wire octets."""

_RESERVED = frozenset({"nokey.", "blocked."})  # words of access lists, not keys
_MAX_OCTETS = 1 << 20
_MAX_DEPTH = 8


def key_name(text: str) -> bytes:
    """The canonical form of a TSIG key's name: wire octets, lower case (RFC 8945, section 4.2).

    :raises ConfigError: not a domain name.
    """
    try:
        return owners.from_text(text)
    except RecordError as error:
        raise ConfigError(f"{text!r} is not the name of a TSIG key: {error}") from None


def find_key(keyring: Keyring, name: str | None) -> TsigKey | None:
    """The key of that name; ``None`` for ``None``.

    :raises ConfigError: there is none.
    """
    if name is None:
        return None
    key = keyring.get(key_name(name))
    if key is None:
        raise ConfigError(f"there is no TSIG key {name}", key="tsig_key")
    return key


def load_keyring(path: Path) -> dict[bytes, TsigKey]:
    """Read a file of TSIG keys.

    :raises ConfigError: the file cannot be read, others may read it, or a line of it is wrong; the error never shows a
        secret.
    """
    where = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            octets = file.read(_MAX_OCTETS + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=where) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"holds secrets, so its mode must be 0600, not {stat.S_IMODE(mode):04o}", file=where)
    if len(octets) > _MAX_OCTETS:
        raise ConfigError("is larger than 1 MiB", file=where)
    try:
        text = octets.decode()
        check_yaml(text, where, max_depth=_MAX_DEPTH)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", file=where) from None
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise ConfigError(f"is not YAML: {error.problem}", file=where, line=line) from None
    except yaml.YAMLError:
        raise ConfigError("is not YAML", file=where) from None
    if root is None:
        return {}
    if not isinstance(root, yaml.SequenceNode):
        raise ConfigError("must be a list of keys", file=where, line=root.start_mark.line + 1)
    keyring: dict[bytes, TsigKey] = {}
    for index, node in enumerate(root.value):
        key = _key(node, where, f"[{index}]")
        if key.name in keyring:
            raise ConfigError(
                f"a second key {key.name_text}", file=where, key=f"[{index}].name", line=node.start_mark.line + 1
            )
        keyring[key.name] = key
    return keyring


def _key(node: yaml.Node, where: str, path: str) -> TsigKey:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("must have name, algorithm and secret", file=where, key=path, line=line)
    values: dict[str, str] = {}
    for name, value in node.value:
        at = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode) or name.value not in ("name", "algorithm", "secret"):
            raise ConfigError("only name, algorithm and secret belong here", file=where, key=path, line=at)
        if name.value in values:
            raise ConfigError("given twice", file=where, key=f"{path}.{name.value}", line=at)
        if not isinstance(value, yaml.ScalarNode):
            raise ConfigError("must be a text", file=where, key=f"{path}.{name.value}", line=at)
        values[name.value] = value.value
    for name in ("name", "algorithm", "secret"):
        if not values.get(name):
            raise ConfigError("is missing", file=where, key=f"{path}.{name}", line=line)
    try:
        key = TsigKey.from_text(values["name"], values["algorithm"], values["secret"])
    except ValueError as error:
        raise ConfigError(str(error), file=where, key=path, line=line) from None
    if key.name_text in _RESERVED:
        raise ConfigError(f"{key.name_text} is a reserved word", file=where, key=f"{path}.name", line=line)
    if len(key.secret) < ALGORITHMS[key.algorithm] // 2:
        raise ConfigError(
            f"the secret has {len(key.secret)} octets; {key.algorithm} needs {ALGORITHMS[key.algorithm] // 2} at least",
            file=where,
            key=f"{path}.secret",
            line=line,
        )
    return key
