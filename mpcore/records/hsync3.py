"""HSYNC3 (type 65285): one record per provider of a zone, at the apex (guide, wire format, "HSYNC3").

RDATA: state (1 octet: 0 OFF, 1 ON), label (character-string), identity (name, uncompressed), upstream
(character-string).  Text: ``ON alpha agent.alpha.example. .``

Zones made by the deployed implementation carry labels with a trailing dot (``alpha.``), and ``.`` for "no upstream";
compare :attr:`HSYNC3.label_text` and :attr:`HSYNC3.upstream_text`.  Octets received are kept as they are.
"""

from __future__ import annotations

from typing import Any, Final

import dns.immutable
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire

from mpcore.records._common import (
    PrivateRdata,
    character_string,
    generic_text,
    label_text,
    quoted,
    unsigned,
)

__all__ = ("HSYNC3", "HSYNC3_TYPE")

HSYNC3_TYPE: Final = 65285
"""Type number, of the range for private use."""

_FIELDS: Final = 4


@dns.immutable.immutable
class HSYNC3(PrivateRdata):
    """One provider of a zone.

    :ivar state: 0 OFF, 1 ON; other values can be received.
    :ivar label: the provider's tag, octets as on the wire.
    :ivar identity: identity of the provider's agent.
    :ivar upstream: label of the provider that this one takes the zone from; ``.`` or nothing if none.
    :ivar fields: how many of the four fields the RDATA has; fewer than four only in a truncated record received.
    """

    __slots__ = ["fields", "identity", "label", "state", "upstream"]

    TYPE = HSYNC3_TYPE

    state: int
    label: bytes
    identity: dns.name.Name
    upstream: bytes
    fields: int

    def __init__(
        self,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        state: int,
        label: bytes,
        identity: dns.name.Name,
        upstream: bytes,
        fields: int = _FIELDS,
    ) -> None:
        super().__init__(rdclass, rdtype)
        self.state = unsigned(8, state)
        self.label = self._as_bytes(label, True, 255)
        self.identity = identity
        self.upstream = self._as_bytes(upstream, True, 255)
        self.fields = fields
        if not self.identity.is_absolute():
            raise ValueError("identity is not an absolute name")
        if not 1 <= fields <= _FIELDS:
            raise ValueError("there are four fields")

    @classmethod
    def make(
        cls, label: str, identity: str | dns.name.Name, upstream: str = "", on: bool = True, *, dotted: bool = True
    ) -> HSYNC3:
        """A new record.

        :param label: the provider's tag; one trailing dot is ignored.
        :param identity: its agent's identity, a domain name.
        :param upstream: label of its upstream provider; ``""`` or ``.``: none.
        :param on: ``False`` means that the provider is leaving.
        :param dotted: whether labels get the trailing dot that the deployed implementation writes.  Within one zone all
            records must agree, because an upstream is looked up octet by octet there.
        :raises ValueError: a label is empty, too long or not ASCII, or *identity* is not a name.
        """
        own, other = (text.removesuffix(".").encode("ascii") for text in (label, upstream))
        if not own:
            raise ValueError("a provider has a label")
        dot = b"." if dotted else b""
        name = dns.name.from_text(identity) if isinstance(identity, str) else identity
        rdtype = dns.rdatatype.RdataType.make(HSYNC3_TYPE)
        return cls(dns.rdataclass.IN, rdtype, int(on), own + dot, name, other + dot if other else b".")

    @property
    def complete(self) -> bool:
        """Whether all four fields are there."""
        return self.fields == _FIELDS

    @property
    def is_on(self) -> bool:
        """Whether the state is ON."""
        return self.state == 1

    @property
    def label_text(self) -> str:
        """The label without one trailing dot."""
        return label_text(self.label)

    @property
    def upstream_text(self) -> str:
        """The upstream's label without one trailing dot; ``""`` if there is none."""
        return label_text(self.upstream)

    @property
    def identity_text(self) -> str:
        """The identity as text, with its trailing dot."""
        return self.identity.to_text()

    def to_octets(self) -> bytes:
        """The RDATA."""
        octets = (
            bytes((self.state,)),
            bytes((len(self.label),)) + self.label,
            self.identity.to_wire() or b"",
            bytes((len(self.upstream),)) + self.upstream,
        )
        return b"".join(octets[: self.fields])

    def to_styled_text(self, style: dns.rdata.RdataStyle) -> str:
        """Text form; the generic one if a field is missing or the state has no word."""
        if not self.complete or self.state > 1:
            return generic_text(self.to_octets())
        state = "ON" if self.state else "OFF"
        return f"{state} {quoted(self.label)} {self.identity.to_text()} {quoted(self.upstream)}"

    @classmethod
    def from_text(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        tok: Any,
        origin: dns.name.Name | None = None,
        relativize: bool = True,
        relativize_to: dns.name.Name | None = None,
    ) -> HSYNC3:
        """Four tokens; the identity gets its trailing dot if it lacks one, and is never completed with *origin*."""
        word = tok.get_string()
        if word not in ("ON", "OFF"):
            raise ValueError(f"state {word!r} is neither ON nor OFF")
        label = character_string(tok)
        token = tok.get()
        if not token.is_identifier() or token.value in ("", "@"):
            raise ValueError("identity is not a domain name")
        identity = dns.name.from_text(token.value, dns.name.root)
        upstream = character_string(tok)
        return cls(rdclass, rdtype, int(word == "ON"), label, identity, upstream)

    @classmethod
    def from_wire_parser(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        parser: dns.wire.Parser,
        origin: dns.name.Name | None = None,
    ) -> HSYNC3:
        """RDATA that may end after any field; octets after the last one are refused by the caller."""
        state, label, identity, upstream, fields = parser.get_uint8(), b"", dns.name.root, b"", 1
        if parser.remaining():
            label, fields = parser.get_counted_bytes(), 2
        if parser.remaining():
            identity, fields = parser.get_name(), 3
        if parser.remaining():
            upstream, fields = parser.get_counted_bytes(), 4
        return cls(rdclass, rdtype, state, label, identity, upstream, fields)
