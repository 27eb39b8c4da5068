"""Validated value types for the names that the system passes around.

All three are :class:`str`, so they print, sort, hash and serialise as what they are; constructing one validates it.
"""

from __future__ import annotations

import re
from typing import Self

import dns.exception
import dns.name

from mpcore.errors import LocalError

__all__ = ("Identity", "InvalidNameError", "Label", "ZoneName")

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


class InvalidNameError(LocalError, ValueError):
    """A text is not a usable name."""


def _absolute(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(text, origin=dns.name.root)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise InvalidNameError(f"{text!r} is not a domain name: {error}") from None


class Identity(str):
    """Identity of a node: an absolute domain name with its trailing dot.

    The spelling is kept, because peers compare identities octet by octet and hash them as spelled
    (guide, wire format, "Identities"); our own identities are lower case, see :meth:`lowered`.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        name = _absolute(text)
        if name == dns.name.root:
            raise InvalidNameError("the root is not an identity")
        if any(b"." in label for label in name.labels):
            raise InvalidNameError(f"{text!r}: an identity has no escaped dots")
        return super().__new__(cls, name.to_text())

    @classmethod
    def lowered(cls, text: str) -> Self:
        """The identity in lower case, as every node must spell its own."""
        return cls(text.lower())

    @property
    def name(self) -> dns.name.Name:
        """The identity as a dnspython name."""
        return dns.name.from_text(self)


class ZoneName(str):
    """Name of a zone: absolute, lower case, with its trailing dot."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, _absolute(text.lower()).to_text())

    @property
    def name(self) -> dns.name.Name:
        """The zone name as a dnspython name."""
        return dns.name.from_text(self)

    @property
    def owner(self) -> bytes:
        """The apex as canonical wire octets, the key under which zones keep their records."""
        return self.name.to_wire() or b""


class Label(str):
    """A provider's short tag in HSYNC3 and HSYNCPARAM: one label, without the trailing dot."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        bare = text[:-1] if text.endswith(".") else text
        if not _LABEL.match(bare):
            raise InvalidNameError(f"{text!r} is not a provider label (letters, digits, hyphen; 63 at most)")
        return super().__new__(cls, bare)
