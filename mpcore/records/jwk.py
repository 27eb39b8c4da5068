"""JWK (type 65324): the public key of a node, at ``dns.<identity>`` (guide, wire format, "JWK").

RDATA: length (16 bits), then that many octets: the base64url text, without padding, of one JSON Web Key (RFC 7517).
Text: that base64url text in double quotes.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

import dns.immutable
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.wire

from mpcore.errors import RecordError
from mpcore.records._common import PrivateRdata, character_string, generic_text

__all__ = ("JWK", "JWK_TYPE")

JWK_TYPE: Final = 65324
"""Type number, of the range for private use."""

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*\Z")
_MAX_TEXT: Final = 65533
_MAX_KEY: Final = 8192
"""Longest base64url text that is looked into; a P-256 key has 168 octets."""


def _is_base64url(text: bytes) -> bool:
    return _BASE64URL.match(text) is not None and len(text) % 4 != 1


@dns.immutable.immutable
class JWK(PrivateRdata):
    """The public key of a node.

    :ivar text: base64url text, at most 65533 octets.
    """

    __slots__ = ["text"]

    TYPE = JWK_TYPE

    text: bytes

    def __init__(self, rdclass: dns.rdataclass.RdataClass, rdtype: dns.rdatatype.RdataType, text: bytes) -> None:
        super().__init__(rdclass, rdtype)
        self.text = self._as_bytes(text, True, _MAX_TEXT)

    @classmethod
    def from_public_key_jwk(cls, jwk: Mapping[str, Any]) -> JWK:
        """The record that publishes a P-256 key: members ``kty``, ``crv``, ``x``, ``y`` in this order and no others.

        :raises ValueError: it is not a P-256 key with coordinates of 32 octets.
        """
        members = {name: jwk.get(name) for name in ("kty", "crv", "x", "y")}
        if members["kty"] != "EC" or members["crv"] != "P-256":
            raise ValueError("not a P-256 key")
        for name in ("x", "y"):
            text = members[name]
            if not isinstance(text, str) or len(text) != 43 or not _is_base64url(text.encode("ascii", "replace")):
                raise ValueError(f"{name} is not base64url of 32 octets")
        octets = json.dumps(members, separators=(",", ":")).encode()
        rdtype = dns.rdatatype.RdataType.make(JWK_TYPE)
        return cls(dns.rdataclass.IN, rdtype, base64.urlsafe_b64encode(octets).rstrip(b"="))

    def jwk(self) -> dict[str, Any]:
        """The JSON Web Key inside, as JSON members; whether it is a usable key is for the reader to find out.

        :raises RecordError: the text is not base64url of a JSON object with a ``kty``, or longer than 8192 octets.
        """
        if len(self.text) > _MAX_KEY or not _is_base64url(self.text):
            raise RecordError("JWK: not base64url text of a key")
        try:
            octets = base64.urlsafe_b64decode(self.text + b"=" * (-len(self.text) % 4))
            value = json.loads(octets.decode())
        except (ValueError, RecursionError) as error:
            raise RecordError(f"JWK: {error}") from None
        if type(value) is not dict or not isinstance(value.get("kty"), str):
            raise RecordError("JWK: not a JSON Web Key")
        return value

    def to_octets(self) -> bytes:
        """The RDATA."""
        return struct.pack("!H", len(self.text)) + self.text

    def to_styled_text(self, style: dns.rdata.RdataStyle) -> str:
        """Text form; the generic one if the octets are not base64url."""
        if not _is_base64url(self.text):
            return generic_text(self.to_octets())
        return f'"{self.text.decode()}"'

    @classmethod
    def from_text(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        tok: dns.tokenizer.Tokenizer,
        origin: dns.name.Name | None = None,
        relativize: bool = True,
        relativize_to: dns.name.Name | None = None,
    ) -> JWK:
        """One token, quoted or not."""
        text = character_string(tok)
        if not _is_base64url(text):
            raise ValueError("not base64url text without padding")
        return cls(rdclass, rdtype, text)

    @classmethod
    def from_wire_parser(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        parser: dns.wire.Parser,
        origin: dns.name.Name | None = None,
    ) -> JWK:
        """Length and text; octets after them are refused by the caller."""
        return cls(rdclass, rdtype, parser.get_bytes(parser.get_uint16()))
