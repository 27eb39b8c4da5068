"""Where chains of trust begin: reading the DS and DNSKEY records of a file."""

from __future__ import annotations

from pathlib import Path

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zonefile

from mpcore.errors import ConfigError

__all__ = ("load_trust_anchors",)

_DS, _DNSKEY = dns.rdatatype.DS, dns.rdatatype.DNSKEY


def load_trust_anchors(path: str | Path) -> list[dns.rrset.RRset]:
    """Read trust anchors: DS or DNSKEY records in master-file form (RFC 1035, section 5).  Blocks: it reads a file.

    :raises ConfigError: the file cannot be read, does not parse, holds other records, or none.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from error
    try:
        rrsets = dns.zonefile.read_rrsets(
            text, rdclass=None, default_rdclass=dns.rdataclass.IN, default_ttl=0, origin=dns.name.root, relativize=False
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigError(f"does not parse as trust anchors: {error}", file=file) from error
    for rrset in rrsets:
        if rrset.rdtype not in (_DS, _DNSKEY) or rrset.rdclass != dns.rdataclass.IN:
            raise ConfigError(f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} is not a trust anchor", file=file)
    if not rrsets:
        raise ConfigError("there is no trust anchor in it", file=file)
    return list(rrsets)
