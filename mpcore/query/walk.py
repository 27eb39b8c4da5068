"""The way from the root to an answer: which server was asked for what, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from mpcore.net.resolver_events import Asked, Event, Referred, ServerLame

__all__ = ("Step", "walk_steps")

_DENIAL_TYPES: Final = (dns.rdatatype.NSEC, dns.rdatatype.NSEC3)


@dataclass(frozen=True, slots=True)
class Step:
    """One message of a walk, and what came of it."""

    zone: str  #: that the server was asked for
    server: str
    port: int
    name: str
    rdtype: str
    transport: Literal["udp", "tcp"]
    seconds: float
    outcome: Literal["referral", "answer", "lame", "silent", "truncated"]
    words: str
    child: str | None = None  #: of a referral
    nameservers: tuple[str, ...] = ()
    ds: tuple[int, ...] | None = None  #: key tags of the DS records that came with a referral; ``None``: no referral

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        shown = {name: getattr(self, name) for name in self.__slots__} | {"seconds": round(self.seconds, 6)}
        return shown | {"nameservers": list(self.nameservers), "ds": None if self.ds is None else list(self.ds)}


def walk_steps(events: Sequence[Event], walk: bool) -> list[Step]:
    """The messages that *events* tell of, in their order.

    :param walk: whether authoritative servers were asked, from the root down.
    """
    steps: list[Step] = []
    cuts = {dns.name.root}
    for number, event in enumerate(events):
        if not isinstance(event, Asked):
            continue
        after = events[number + 1] if number + 1 < len(events) else None
        same = isinstance(after, Referred | ServerLame) and after.server == event.server
        zone = _zone_of(event, cuts) if walk else dns.name.root
        child: dns.name.Name | None = None
        nameservers: tuple[str, ...] = ()
        ds: tuple[int, ...] | None = None
        outcome: Literal["referral", "answer", "lame", "silent", "truncated"]
        if event.message is None:
            outcome, words = "silent", event.problem
        elif event.message.flags & dns.flags.TC and not event.over_tcp:
            outcome, words = "truncated", "truncated, asked again over TCP"
        elif same and isinstance(after, Referred):
            zone, child, outcome = after.zone, after.child, "referral"
            cuts.add(child)
            nameservers = tuple(name.to_text() for name in after.nameservers)
            ds = _delegated(event.message, child)
            words = _referral_words(after, ds, event.message)
        elif same and isinstance(after, ServerLame):
            zone, outcome, words = after.zone, "lame", f"LAME: {after.problem}"
        else:
            outcome, words = "answer", _answer_words(event.message)
        steps.append(
            Step(
                zone=zone.to_text() if walk else "(forwarded)",
                server=event.server[0],
                port=event.server[1],
                name=event.name.to_text(),
                rdtype=dns.rdatatype.to_text(event.rdtype),
                transport="tcp" if event.over_tcp else "udp",
                seconds=event.seconds,
                outcome=outcome,
                words=words,
                child=None if child is None else child.to_text(),
                nameservers=nameservers,
                ds=ds,
            )
        )
    return steps


def _zone_of(event: Asked, cuts: set[dns.name.Name]) -> dns.name.Name:
    """The zone whose server was asked: the closest known one above the name; for DS, above its parent."""
    name = event.name
    if event.rdtype == dns.rdatatype.DS and name != dns.name.root:
        name = name.parent()
    while name not in cuts:
        name = name.parent()
    return name


def _delegated(message: dns.message.Message, child: dns.name.Name) -> tuple[int, ...]:
    found = [rrset for rrset in message.authority if rrset.rdtype == dns.rdatatype.DS and rrset.name == child]
    return tuple(dict.fromkeys(int(rdata.key_tag) for rrset in found for rdata in rrset))


def _referral_words(referred: Referred, ds: tuple[int, ...], message: dns.message.Message) -> str:
    names = [name.to_text() for name in referred.nameservers]
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    glue = "" if referred.addresses else ", without addresses"
    if ds:
        signed = f"DS {', '.join(map(str, ds))}"
    elif any(rrset.rdtype in _DENIAL_TYPES for rrset in message.authority):
        signed = "no DS: not signed"
    else:
        signed = "no DS"
    return f"referral to {referred.child} ({some}{glue}), {signed}"


def _answer_words(message: dns.message.Message) -> str:
    rcode = dns.rcode.to_text(message.rcode())
    count = sum(len(rrset) for rrset in message.answer if rrset.rdtype != dns.rdatatype.RRSIG)
    if rcode == "NOERROR" and not count:
        return "answer: no such type (NOERROR)"
    return f"answer: {rcode}" + (f", {count} record{'s' if count != 1 else ''}" if count else "")
