"""Words for the schemes of DSYNC (type 66, RFC 9859).

dnspython has the record; it knows the one scheme of the RFC and prints others as numbers.  The deployed implementation
uses more (guide, wire format, "DSYNC").
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DSYNC

from mpcore.errors import RecordError

__all__ = ("DSYNC_TYPE", "DsyncScheme", "dsync_from_text", "dsync_to_text", "make_dsync")

DSYNC_TYPE: Final = 66
"""Type number (RFC 9859)."""


class DsyncScheme(IntEnum):
    """How the receiver wants to be told; only NOTIFY is of RFC 9859."""

    NOTIFY = 1
    UPDATE = 2
    SCANNER = 3
    API = 4
    MSUPDATE = 129
    REPORT = 130


_SYNONYMS: Final = {"REPORTER": DsyncScheme.REPORT}


def make_dsync(rrtype: int, scheme: int, port: int, target: dns.name.Name) -> dns.rdtypes.ANY.DSYNC.DSYNC:
    """A new record.

    :param rrtype: type whose changes the receiver wants to know (59 CDS, 62 CSYNC, 255 ANY).
    :param scheme: 0-255, see :class:`DsyncScheme`.
    :param port: 0-65535.
    :param target: the receiver.
    :raises ValueError: a number is out of range.
    """
    return dns.rdtypes.ANY.DSYNC.DSYNC(  # type: ignore[no-untyped-call]
        dns.rdataclass.IN, dns.rdatatype.RdataType.make(DSYNC_TYPE), rrtype, scheme, port, target
    )


def dsync_to_text(rdata: dns.rdtypes.ANY.DSYNC.DSYNC) -> str:
    """``ANY UPDATE 53 updates.example.``; an unknown scheme is printed as its number."""
    try:
        scheme = DsyncScheme(int(rdata.scheme)).name
    except ValueError:
        scheme = str(int(rdata.scheme))
    return f"{dns.rdatatype.to_text(rdata.rrtype)} {scheme} {rdata.port} {rdata.target.to_text()}"


def dsync_from_text(text: str) -> dns.rdtypes.ANY.DSYNC.DSYNC:
    """The record with this text form, with a word or a number for the scheme; names are absolute.

    :raises RecordError: it is none.
    """
    fields = text.split()
    if len(fields) == 4:
        word = fields[1].upper()
        scheme = _SYNONYMS.get(word) or DsyncScheme.__members__.get(word)
        if scheme is not None:
            fields[1] = str(int(scheme))
    try:
        rdata = dns.rdata.from_text(
            dns.rdataclass.IN, dns.rdatatype.RdataType.make(DSYNC_TYPE), " ".join(fields), dns.name.root, False
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise RecordError(f"DSYNC: {error}") from None
    assert isinstance(rdata, dns.rdtypes.ANY.DSYNC.DSYNC)
    return rdata
