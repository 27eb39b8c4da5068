"""Ways in which servers may differ without one of them being wrong: each with the RFC that leaves it open.

A difference that no rule covers is a fault.  A rule that covers no difference is superfluous, which is a fault too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.peers.answer_compare import Difference, Record

__all__ = ("RULES", "Rule")

RULES: tuple[Rule, ...]
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, YXDOMAIN, BADVERS = 0, 1, 2, 3, 4, 5, 6, 16
A, NS, CNAME, SOA, AAAA, DNAME, DS, RRSIG, NSEC, NSEC3 = 1, 2, 5, 6, 28, 39, 43, 46, 47, 50
PROOF = frozenset({NSEC, NSEC3})


@dataclass(frozen=True, slots=True)
class Rule:
    """One permitted way to differ.

    :param name: in a few words.
    :param rfc: what leaves it open.
    :param programs: the servers that differ from ours in this way.
    :param predicate: whether a difference is of this kind.
    """

    name: str
    rfc: str
    programs: frozenset[str]
    predicate: Callable[[Difference], bool]

    def covers(self, difference: Difference) -> bool:
        """Whether the rule explains a difference."""
        return difference.program in self.programs and self.predicate(difference)


def _theirs(difference: Difference, part: str, *types: int) -> bool:
    """A record of these types, or a signature over them, that only the other server has."""
    record = difference.theirs
    return difference.part == part and isinstance(record, Record) and (record.rdtype in types or record.covers in types)


def _ours(difference: Difference, part: str, *types: int) -> bool:
    """A record of these types, or a signature over them, that only we have."""
    record = difference.ours
    return difference.part == part and isinstance(record, Record) and (record.rdtype in types or record.covers in types)


def _is_loop(difference: Difference) -> bool:
    """Whether our answer is aliases alone that lead back to one another."""
    aliases = {record.owner: record.rdata for record in difference.mine.sections[0] if record.rdtype == CNAME}
    return bool(aliases) and all(target in aliases for target in aliases.values())


def _is_glue(difference: Difference, record: Record) -> bool:
    """Whether a record lies at or below the cut that our answer refers to: glue that must be there."""
    cuts = {other.owner for other in difference.mine.sections[1] if other.rdtype == NS}
    return any(record.owner == cut or record.owner.endswith(cut) for cut in cuts)


def _optional_address(difference: Difference) -> bool:
    record = difference.ours or difference.theirs
    if difference.part != "additional" or not isinstance(record, Record) or difference.mine.sections[0]:
        return difference.part == "additional"
    return record.rdtype == RRSIG or not _is_glue(difference, record)


def _truncated(difference: Difference) -> bool:
    if difference.query.over_tcp or not (difference.mine.truncated or difference.other.truncated):
        return False
    return difference.part in ("tc", "answer", "authority", "additional", "rcode")


def _has(difference: Difference, part: str, rdtype: int) -> bool:
    """Whether either answer has a record of a type in a section."""
    index = ("answer", "authority", "additional").index(part)
    return any(
        record.rdtype == rdtype for side in (difference.mine, difference.other) for record in side.sections[index]
    )


def _leads_to_local(difference: Difference) -> bool:
    return any(
        record.rdtype == CNAME and b"\x05local" in record.rdata and b"\x05local" not in record.owner
        for record in difference.mine.sections[0]
    )


def _ttl_0(difference: Difference) -> bool:
    return all(record.ttl == 0 for record in difference.other.sections[1] if record.rdtype == SOA)


ALL = frozenset({"knotd", "named", "nsd"})
KNOT, BIND, NSD = frozenset({"knotd"}), frozenset({"named"}), frozenset({"nsd"})

RULES = (
    Rule(
        "BIND copies the CD bit; an authoritative answer should have it cleared",
        "RFC 4035, 3.1.6",
        BIND,
        lambda d: d.part == "cd" and d.theirs is True,
    ),
    Rule(
        "Knot tells its name to who asks for it",
        "RFC 5001, 2.2",
        KNOT,
        lambda d: d.part == "option" and d.theirs == 3 and d.query.options == b"\0\3\0\0",
    ),
    Rule(
        "BIND gives up aliases that lead in a circle; what is answered then is not laid down",
        "RFC 1034, 3.6.2",
        BIND,
        lambda d: d.other.rcode == SERVFAIL and d.mine.rcode == NOERROR and _is_loop(d),
    ),
    Rule(
        "NSD adds the name servers of the zone to an answer",
        "RFC 1034, 6.2",
        NSD,
        lambda d: _theirs(d, "authority", NS) and bool(d.mine.sections[0]) and d.mine.flags & 0x0400 != 0,
    ),
    Rule(
        "addresses that are no glue below the cut may be added, or left out, and be signed",
        "RFC 1034, 4.3.2; RFC 9471, 2.2",
        ALL,
        _optional_address,
    ),
    Rule(
        "NSD repeats other flags when it refuses the EDNS version: DO not, CD yes",
        "RFC 6891, 6.1.3",
        NSD,
        lambda d: d.part in ("edns", "cd") and d.mine.rcode == d.other.rcode == BADVERS,
    ),
    Rule(
        "what fits differs with compression and advertised sizes, and a truncated answer holds nothing to be used",
        "RFC 2181, 9; RFC 6891, 6.2.5",
        ALL,
        _truncated,
    ),
    Rule(
        "extended errors may be sent or not, with different codes",
        "RFC 8914, 2",
        ALL,
        lambda d: d.part == "option" and (d.ours or d.theirs) == 15,
    ),
    Rule(
        "types that may stand beside a CNAME: at the alias itself or at its target",
        "RFC 4035, 2.5; RFC 3007, 3",
        KNOT | NSD,
        lambda d: d.query.rdtype in ("KEY", "NSEC", "NSEC3", "RRSIG", "SIG", "NXT") and _has(d, "answer", CNAME),
    ),
    Rule(
        "an alias into another zone that is here: NSD goes on there, we refer to it, BIND stops",
        "RFC 1034, 4.3.2 and 5.2.2",
        BIND | NSD,
        lambda d: d.part in ("answer", "authority", "rcode", "additional") and _leads_to_local(d),
    ),
    Rule(
        "BIND sends the SOA of a negative answer with TTL 0 if the SOA was asked for",
        "RFC 2308, 3",
        BIND,
        lambda d: (
            d.query.rdtype == "SOA" and (_ours(d, "authority", SOA) or _theirs(d, "authority", SOA)) and _ttl_0(d)
        ),
    ),
    Rule(
        "Knot and NSD treat a DNAME at a wildcard their own way",
        "RFC 6672, 3.3",
        KNOT | NSD,
        lambda d: ".dwild." in d.query.name.lower(),
    ),
    Rule(
        "types that are no data: refused by an error, or answered as if they were",
        "RFC 6895, 3.1; RFC 9824, 3.5",
        ALL,
        lambda d: d.query.rdtype in ("TYPE0", "MAILB", "NXNAME") and d.mine.rcode in (FORMERR, NOTIMP),
    ),
    Rule(
        "how far a chain of aliases is followed",
        "RFC 1034, 5.2.2",
        ALL,
        lambda d: (
            ".dnloop." in d.query.name.lower()
            and d.part in ("answer", "rcode", "authority", "tc", "option", "additional")
        ),
    ),
    Rule(
        "ANY and RRSIG are answered with some of what is there, and ANY may be content with an alias",
        "RFC 8482, 4 and 7",
        ALL,
        lambda d: (
            d.query.rdtype in ("ANY", "RRSIG")
            and d.part in ("answer", "authority", "additional", "rcode")
            and all(side.sections[0] for side in (d.mine, d.other))
        ),
    ),
    Rule(
        "BIND keeps rules of its own for the obsolete types SIG and NXT",
        "RFC 3755, 3",
        BIND,
        lambda d: d.query.rdtype in ("SIG", "NXT"),
    ),
    Rule(
        "Knot denies the name that a DNAME makes too long",
        "RFC 6672, 2.2",
        KNOT,
        lambda d: d.mine.rcode == YXDOMAIN and d.other.rcode == NXDOMAIN,
    ),
    Rule(
        "where the wildcard is an empty non-terminal we show that too, Knot and BIND do not",
        "RFC 4035, 3.1.3.4; RFC 4592, 2.2.2",
        KNOT | BIND,
        lambda d: _ours(d, "authority", NSEC, NSEC3) and ".starent." in d.query.name.lower(),
    ),
    Rule(
        "NSD takes an empty non-terminal that opt-out leaves without NSEC3 for proven",
        "RFC 5155, 7.1 and 7.2.3",
        NSD,
        lambda d: (
            (_ours(d, "authority", NSEC3) or _theirs(d, "authority", NSEC3))
            and d.query.kind == "nsec3 opt-out"
            and any(end in f".{d.query.name.lower()}" for end in (".ent.optout.", ".hollow.optout.", ".cut.ent."))
        ),
    ),
    Rule(
        "after a DNAME or an alias NSD proves the denial of another name than the last",
        "RFC 6672, 3.2",
        NSD,
        lambda d: (
            (_ours(d, "authority", NSEC, NSEC3) or _theirs(d, "authority", NSEC, NSEC3)) and _has(d, "answer", CNAME)
        ),
    ),
    Rule(
        "BIND answers for NSEC at a zone cut, where the record is; we, Knot and NSD refer to the child",
        "RFC 4035, 2.3 and 3.1.4",
        BIND,
        lambda d: d.query.rdtype == "NSEC" and not d.mine.flags & 0x0400 and d.other.flags & 0x0400 != 0,
    ),
    Rule(
        "BIND leaves glue out rather than truncate",
        "RFC 9471, 3.1",
        BIND,
        lambda d: _ours(d, "additional", A, AAAA) and not d.query.over_tcp and d.other.size > 400,
    ),
    Rule(
        "NSD adds covers to a proof that needs none: a name with a star is taken for synthesised from itself",
        "RFC 5155, 7.2.5; RFC 4035, 3.1.3.4",
        NSD,
        lambda d: _theirs(d, "authority", NSEC, NSEC3) and d.query.name.startswith("*."),
    ),
    Rule(
        "NSD takes the owner of an NSEC3 record for an existing name",
        "RFC 5155, 7.2.8",
        NSD,
        lambda d: len(d.query.name.split(".")[1]) == 32 and d.query.kind.startswith("nsec3"),
    ),
    Rule(
        "Knot leaves out the cover of the name if the NSEC of the wildcard itself is asked for",
        "RFC 4035, 3.1.3.3",
        KNOT,
        lambda d: d.query.rdtype == "NSEC" and _ours(d, "authority", NSEC) and _has(d, "answer", NSEC),
    ),
)
