"""The EDNS(0) options that carry peer messages: CHUNK (65004) and CHUNK query endpoint (65005).

CHUNK: format (8 bits), length of the HMAC (16 bits, at most 64), HMAC, length of the data (16 bits), data; octets after
the data are ignored.  The endpoint is ``host:port`` in ASCII, IPv6 addresses in brackets (guide, wire format, "EDNS").
"""

from __future__ import annotations

import re
import struct
from typing import Any, Final

import dns.edns
import dns.wire

from mpcore.errors import RecordError

__all__ = (
    "CHUNK_ENDPOINT_OPTION",
    "CHUNK_OPTION",
    "MAX_OPTION_DATA",
    "ChunkEndpointOption",
    "ChunkOption",
    "register_options",
)

CHUNK_OPTION: Final = 65004
"""Option code, of the range for local use (RFC 6891, section 9)."""

CHUNK_ENDPOINT_OPTION: Final = 65005
"""Option code, of the range for local use."""

MAX_OPTION_DATA: Final = 65530
"""Most octets of data that one option with its 16-bit length holds; the DNS message around it allows fewer."""

_MAX_HMAC: Final = 64
_ENDPOINT = re.compile(rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]):(?:0|[1-9][0-9]{0,4})\Z")


class ChunkOption(dns.edns.Option):
    """Option 65004: the payload of a NOTIFY or of its response.

    :ivar format: 1 clear JSON, 2 sealed; other values 0-255 are kept.
    :ivar data: the payload.
    :ivar hmac: usually empty; at most 64 octets.
    """

    def __init__(self, format: int, data: bytes, hmac: bytes = b"") -> None:
        """:raises ValueError: a value is out of range."""
        super().__init__(dns.edns.OptionType.make(CHUNK_OPTION))
        if not 0 <= format <= 255 or len(hmac) > _MAX_HMAC or len(data) + len(hmac) > MAX_OPTION_DATA:
            raise ValueError("CHUNK option: a value is out of range")
        self.format, self.data, self.hmac = format, data, hmac

    @classmethod
    def from_octets(cls, octets: bytes) -> ChunkOption:
        """The option with this data; octets after its last field are ignored.

        :raises RecordError: it is shorter than it says, or the HMAC is longer than 64 octets.
        """
        if len(octets) < 5:
            raise RecordError("CHUNK option: fewer than 5 octets")
        number, length = struct.unpack_from("!BH", octets)
        if length > _MAX_HMAC or len(octets) < 5 + length:
            raise RecordError("CHUNK option: bad length of the HMAC")
        (size,) = struct.unpack_from("!H", octets, 3 + length)
        start = 5 + length
        if len(octets) < start + size:
            raise RecordError("CHUNK option: bad length of the data")
        if size + length > MAX_OPTION_DATA:
            raise RecordError("CHUNK option: too long")
        return cls(number, octets[start : start + size], octets[3 : 3 + length])

    def to_octets(self) -> bytes:
        """The data of the option, without code and length."""
        return b"".join(
            (struct.pack("!BH", self.format, len(self.hmac)), self.hmac, struct.pack("!H", len(self.data)), self.data)
        )

    def to_wire(self, file: Any | None = None) -> bytes | None:
        octets = self.to_octets()
        if file is None:
            return octets
        file.write(octets)
        return None

    def to_text(self) -> str:
        """``CHUNK format=JWT data=1488 octets``."""
        word = {1: "JSON", 2: "JWT"}.get(self.format, str(self.format))
        return f"CHUNK format={word} data={len(self.data)} octets"

    @classmethod
    def from_wire_parser(cls, otype: dns.edns.OptionType, parser: dns.wire.Parser) -> dns.edns.Option:
        """The option; one that does not parse becomes a generic one, so that it counts as absent."""
        octets = parser.get_remaining()
        try:
            return cls.from_octets(octets)
        except RecordError:
            return dns.edns.GenericOption(otype, octets)


class ChunkEndpointOption(dns.edns.Option):
    """Option 65005: where the sender answers CHUNK queries.

    :ivar endpoint: ``host:port``; ``""`` means nothing.
    """

    def __init__(self, endpoint: str) -> None:
        """:raises ValueError: *endpoint* is not ``host:port``."""
        super().__init__(dns.edns.OptionType.make(CHUNK_ENDPOINT_OPTION))
        if endpoint and not _ENDPOINT.match(endpoint.encode("ascii")):
            raise ValueError(f"{endpoint!r} is not host:port")
        self.endpoint = endpoint

    @classmethod
    def from_octets(cls, octets: bytes) -> ChunkEndpointOption:
        """The option with this data.

        :raises RecordError: it is not ``host:port``.
        """
        if octets and not _ENDPOINT.match(octets):
            raise RecordError("CHUNK query endpoint option: not host:port")
        return cls(octets.decode("ascii"))

    def to_octets(self) -> bytes:
        """The data of the option, without code and length."""
        return self.endpoint.encode("ascii")

    def to_wire(self, file: Any | None = None) -> bytes | None:
        octets = self.to_octets()
        if file is None:
            return octets
        file.write(octets)
        return None

    def to_text(self) -> str:
        """``CHUNK-ENDPOINT 192.0.2.10:8998``."""
        return f"CHUNK-ENDPOINT {self.endpoint}"

    @classmethod
    def from_wire_parser(cls, otype: dns.edns.OptionType, parser: dns.wire.Parser) -> dns.edns.Option:
        """The option; one that does not parse becomes a generic one, so that it counts as absent."""
        octets = parser.get_remaining()
        try:
            return cls.from_octets(octets)
        except RecordError:
            return dns.edns.GenericOption(otype, octets)


def register_options() -> None:
    """Make dnspython use these classes for the two codes; a second call changes nothing."""
    dns.edns.register_type(ChunkOption, dns.edns.OptionType.make(CHUNK_OPTION))
    dns.edns.register_type(ChunkEndpointOption, dns.edns.OptionType.make(CHUNK_ENDPOINT_OPTION))
