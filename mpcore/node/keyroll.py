"""Rolling our message key over with overlap: prepare, switch, finish.

The next key lies in a file beside the current one and is published beside it, so that peers know it before it signs.
After the switch only the new one is published; the former one still opens what was sealed for it.  Files are replaced
in such an order that a crash at any moment leaves a key that peers know.

A deployed peer takes the first of several JWK records that it can read, and records have no order but the canonical one
(RFC 4034, section 6.3), in which most name servers answer: the next key is chosen so that its record comes after the
current one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpcore.errors import ConfigError, RemoteError
from mpcore.records import JWK
from mpcore.wire.seal import PrivateKey, read_private_key, write_private_key

__all__ = ("OVERLAP", "KeyFiles", "StoredKeys", "make_next")

OVERLAP = 7500.0
"""Seconds after which every peer has looked our records up again: their TTL, an hour between look-ups, and a margin."""

_TRIES = 64


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys in the files."""

    current: PrivateKey
    next: PrivateKey | None = None
    previous: PrivateKey | None = None

    @property
    def step(self) -> Literal["steady", "prepared", "switched"]:
        """How far a roll-over is."""
        if self.next is not None:
            return "prepared"
        return "switched" if self.previous is not None else "steady"

    @property
    def others(self) -> tuple[PrivateKey, ...]:
        """The keys that open messages besides the current one."""
        return tuple(key for key in (self.next, self.previous) if key is not None)


def make_next(current: PrivateKey) -> PrivateKey:
    """A new key whose record comes after that of *current*, if there is one among some dozens."""
    limit = _octets(current)
    key = PrivateKey.generate()
    for _ in range(_TRIES):
        if _octets(key) > limit:
            break
        key = PrivateKey.generate()
    return key


def _octets(key: PrivateKey) -> bytes:
    return JWK.from_public_key_jwk(key.public().to_jwk()).to_octets()


class KeyFiles:
    """The key files of one node; every method may block.

    :param current: ``key_file``.
    :param following: ``next_key_file``; ``None``: beside the current one.
    """

    def __init__(self, current: Path, following: Path | None) -> None:
        self.current = current
        self.next = following or current.with_name(f"{current.name}.next")
        self.previous = current.with_name(f"{current.name}.previous")

    def load(self) -> StoredKeys:
        """The keys; :raises ConfigError: a file cannot be used."""
        current = self._read(self.current)
        assert current is not None
        following, previous = (self._read(path, missing_ok=True) for path in (self.next, self.previous))
        return StoredKeys(
            current,
            following if following is not None and following.public() != current.public() else None,
            previous if previous is not None and previous.public() != current.public() else None,
        )

    @staticmethod
    def _read(path: Path, *, missing_ok: bool = False) -> PrivateKey | None:
        try:
            return read_private_key(path.read_text("utf-8"))
        except FileNotFoundError:
            if missing_ok:
                return None
            raise ConfigError("does not exist", file=str(path)) from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot be read: {error}", file=str(path)) from None
        except RemoteError as error:
            raise ConfigError(f"is not a private EC P-256 JWK: {error}", file=str(path)) from None

    def prepare(self) -> StoredKeys:
        """Make the next key, unless there is one."""
        stored = self.load()
        if stored.next is None:
            self._write(self.next, make_next(stored.current))
        return self.load()

    def switch(self) -> StoredKeys:
        """The next key becomes the current one, the current one the previous one."""
        stored = self.load()
        assert stored.next is not None
        self._write(self.previous, stored.current)
        self._write(self.current, stored.next)
        self.next.unlink()
        return self.load()

    def finish(self) -> StoredKeys:
        """Forget the previous key."""
        self.previous.unlink(missing_ok=True)
        return self.load()

    def cancel(self) -> StoredKeys:
        """Forget the next key."""
        self.next.unlink(missing_ok=True)
        return self.load()

    @staticmethod
    def _write(path: Path, key: PrivateKey) -> None:
        """Replace a file as a whole, durably, readable by us alone; :raises ConfigError: it cannot be written."""
        fresh = path.with_name(f".{path.name}.new")
        try:
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(write_private_key(key))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", file=str(path)) from None
