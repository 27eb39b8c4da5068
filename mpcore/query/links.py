"""A chain of trust in words: which key or proof vouches for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dns.name
import dns.rcode
import dns.rdatatype
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS

from mpcore.net.resolver_denial import DelegationProof, Proof, Statement
from mpcore.net.resolver_events import AbsenceJudged, DataJudged, DelegationJudged, Event, KeysJudged
from mpcore.net.resolver_validation import Verified
from mpcore.query.explain import algorithm_text, digest_text, flags_role, time_text
from mpcore.query.layout import words_of_time

__all__ = ("Link", "LinkKind", "trust_links")

LinkKind = Literal["anchor", "keys", "ds", "no ds", "no cut", "data", "absent"]


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a chain of trust."""

    name: str
    kind: LinkKind
    good: bool
    words: str
    details: tuple[str, ...] = ()  #: one for each NSEC or NSEC3 record of a proof
    signed_by: int | None = None  #: key tag
    signer: str | None = None  #: zone of that key
    until: int | None = None  #: Unix seconds at which the signature expires
    error: int | None = None  #: extended DNS error

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"details": list(self.details)}


def trust_links(events: Sequence[Event], now: float) -> list[Link]:
    """The links in the order from the anchor down; what was told twice counts as it was told last."""
    keys: dict[dns.name.Name, KeysJudged] = {}
    delegations: dict[dns.name.Name, DelegationJudged] = {}
    data: dict[tuple[dns.name.Name, int], DataJudged | AbsenceJudged] = {}
    for event in events:
        match event:
            case KeysJudged():
                keys[event.zone] = event
            case DelegationJudged():
                delegations[event.apex] = event
            case DataJudged():
                data[event.rrset.name, int(event.rrset.rdtype)] = event
            case AbsenceJudged():
                data[event.name, int(event.rdtype)] = event
    links: list[Link] = []
    for name in sorted({*keys, *delegations}, key=lambda name: (len(name), name)):
        delegation, judged = delegations.get(name), keys.get(name)
        if delegation is not None:
            links.append(_delegation_link(delegation, now))
        if judged is not None:
            if delegation is None:
                words = ", ".join(map(_anchor_words, judged.anchors))
                links.append(Link(name.to_text(), "anchor", True, words))
            links.append(_keys_link(judged, now))
    links += [
        _data_link(found, now) if isinstance(found, DataJudged) else _absence_link(found) for found in data.values()
    ]
    return links


def _anchor_words(anchor: DS | DNSKEY) -> str:
    tag = anchor.key_id() if isinstance(anchor, DNSKEY) else anchor.key_tag
    return f"{'DNSKEY' if isinstance(anchor, DNSKEY) else 'DS'} {tag} {algorithm_text(int(anchor.algorithm))}"


def _signed_words(verified: Verified, now: float) -> str:
    signature = verified.signature
    left = words_of_time(signature.expiration - now)
    by = f"{signature.key_tag} of {signature.signer}"
    return f"signed by {by} until {time_text(signature.expiration)} ({left})"


def _link(
    name: dns.name.Name,
    kind: LinkKind,
    words: str,
    verified: Verified | None = None,
    problem: Any = None,
    details: tuple[str, ...] = (),
) -> Link:
    signature = None if verified is None else verified.signature
    return Link(
        name=name.to_text(),
        kind=kind,
        good=problem is None,
        words=words,
        details=details,
        signed_by=None if signature is None else signature.key_tag,
        signer=None if signature is None else signature.signer.to_text(),
        until=None if signature is None else signature.expiration,
        error=None if problem is None else int(problem.code),
    )


def _keys_link(judged: KeysJudged, now: float) -> Link:
    named = {(anchor.key_id() if isinstance(anchor, DNSKEY) else anchor.key_tag) for anchor in judged.anchors}
    by = "its DS" if any(isinstance(anchor, DS) for anchor in judged.anchors) else "the trust anchor"
    keys = sorted(judged.keys, key=lambda key: (not int(key.flags) & 1, key.key_id()))
    details = tuple(
        f"{flags_role(int(key.flags))} {key.key_id()} {algorithm_text(int(key.algorithm))}"
        + (f", named by {by}" if key.key_id() in named else "")
        for key in keys
    )
    if judged.problem is not None:
        return _link(judged.zone, "keys", f"BOGUS: {judged.problem}", problem=judged.problem, details=details)
    assert judged.verified is not None
    return _link(judged.zone, "keys", _signed_words(judged.verified, now), judged.verified, details=details)


def _delegation_link(judged: DelegationJudged, now: float) -> Link:
    if judged.problem is not None:
        return _link(judged.apex, "ds", f"BOGUS: {judged.problem}", problem=judged.problem)
    if judged.ds and judged.verified is not None:
        words = _signed_words(judged.verified, now)
        if not judged.usable:
            words += "; none is of a supported algorithm and digest, so what is below counts as not signed"
        details = tuple(
            f"{digest_text(int(ds.digest_type))} of key {ds.key_tag} {algorithm_text(int(ds.algorithm))}"
            + ("" if ds in judged.usable else ", not usable")
            for ds in sorted(judged.ds, key=lambda ds: (ds.key_tag, ds.digest_type))
        )
        return _link(judged.apex, "ds", words, judged.verified, details=details)
    details = tuple(_statement_words(each) for each in judged.statements if each.subject == judged.apex)
    details = details or tuple(map(_statement_words, judged.statements))
    if judged.proof is DelegationProof.UNSIGNED:
        words = f"{judged.parent} proves that there is no DS: what is below is not signed"
        return _link(judged.apex, "no ds", words, details=details)
    what = "no such name" if judged.proof is DelegationProof.ABSENT else "no zone of its own"
    return _link(judged.apex, "no cut", f"{what} in {judged.parent}", judged.verified, details=details)


def _data_link(judged: DataJudged, now: float) -> Link:
    name, rdtype = judged.rrset.name, dns.rdatatype.to_text(judged.rrset.rdtype)
    if judged.problem is not None:
        return _link(name, "data", f"{rdtype} BOGUS: {judged.problem}", problem=judged.problem)
    assert judged.verified is not None
    words = f"{rdtype} {_signed_words(judged.verified, now)}"
    details = tuple(map(_statement_words, judged.statements))
    if judged.verified.expanded_from is not None:
        wildcard = "*." if judged.verified.expanded_from != dns.name.root else "*"
        words += f", made from {wildcard}{judged.verified.expanded_from}"
    return _link(name, "data", words, judged.verified, details=details)


def _absence_link(judged: AbsenceJudged) -> Link:
    rdtype = dns.rdatatype.to_text(judged.rdtype)
    what = "the name does not exist" if judged.rcode == dns.rcode.NXDOMAIN else f"there is no {rdtype}"
    if judged.problem is not None:
        return _link(judged.name, "absent", f"BOGUS: {judged.problem}", problem=judged.problem)
    details = tuple(map(_statement_words, judged.statements))
    words = f"{what}, as {judged.zone} proves"
    if judged.proof is Proof.INSECURE:
        words = f"{what}, and {judged.zone} proves nothing about it (opt-out, or too many NSEC3 iterations)"
    return _link(judged.name, "absent", words, details=details)


def _statement_words(statement: Statement) -> str:
    hashed = statement.hashed is not None
    kind = "NSEC3" if hashed else "NSEC"
    owner, following = (
        (f"{statement.owner[:8]}..", f"{statement.next[:8]}..") if hashed else (statement.owner, statement.next)
    )
    subject = statement.subject.to_text() + (f" (hash {str(statement.hashed)[:8]}..)" if hashed else "")
    if statement.matches:
        types = " ".join(dns.rdatatype.to_text(dns.rdatatype.RdataType.make(each)) for each in statement.types)
        return f"{kind} matches {subject}, which has {types or 'no types'}"
    if not hashed and dns.name.from_text(following).is_subdomain(statement.subject):
        return f"{kind} {owner} -> {following} shows that {subject} has no records, and names below it"
    opt_out = ", opt-out" if statement.opt_out else ""
    return f"{kind} {owner} -> {following} covers {subject}{opt_out}"
