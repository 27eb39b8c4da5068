"""Certificates without authorities: the public key of a node is in its signed zone (RFC 6698, RFC 7671).

Only one kind of TLSA record is used, DANE-EE with the public key: usage 3, selector 1, SHA-256 or SHA-512.  For it
neither the names in a certificate, nor its dates, nor who signed it mean anything (RFC 7671, section 5.1): a key is
valid as long as its record is published and validated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

__all__ = ("MAX_TLSA", "Tlsa", "matches", "tlsa_text", "usable")

MAX_TLSA: Final = 4
"""Records that are kept of one node: the current key, the next one, and room for an operator's mistake."""

_USAGE, _SELECTOR = 3, 1
_HASHES: Final = {1: hashlib.sha256, 2: hashlib.sha512}


class Tlsa(NamedTuple):
    """A TLSA record of usage 3 and selector 1.

    :ivar matching: 1 SHA-256, 2 SHA-512.
    :ivar data: the hash of the SubjectPublicKeyInfo.
    """

    matching: int
    data: bytes


def usable(rdatas: Iterable[Any]) -> tuple[Tlsa, ...]:
    """The records that can be used among TLSA records as dnspython has them, in canonical order."""
    found = set()
    for rdata in rdatas:
        hashing = _HASHES.get(rdata.mtype)
        if (rdata.usage, rdata.selector) != (_USAGE, _SELECTOR) or hashing is None:
            continue
        if len(rdata.cert) == hashing().digest_size:
            found.add(Tlsa(int(rdata.mtype), bytes(rdata.cert)))
    return tuple(sorted(found))[:MAX_TLSA]


def matches(records: Iterable[Tlsa], spki: bytes) -> bool:
    """Whether one of *records* is of the key *spki* (SubjectPublicKeyInfo, DER)."""
    return any(_HASHES[record.matching](spki).digest() == record.data for record in records)


def tlsa_text(spki: bytes) -> str:
    """The RDATA of the record for the key *spki*, in presentation form: ``3 1 1`` and SHA-256."""
    return f"{_USAGE} {_SELECTOR} 1 {hashlib.sha256(spki).hexdigest()}"
