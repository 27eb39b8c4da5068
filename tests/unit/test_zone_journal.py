"""Histories of a zone: every client is led to the newest version, whatever was kept; dnspython applies the changes."""

from __future__ import annotations

import itertools

import dns.message
import dns.name
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcore.errors import TransferError, ZoneError
from mpcore.zone import owners
from mpcore.zone.journal import Delta, Journal, condense
from mpcore.zone.rrset import RRset
from mpcore.zone.transfer import InboundIxfr, axfr_messages, axfr_query, ixfr_messages, ixfr_query
from mpcore.zone.version import ZoneVersion, diff

ORIGIN = owners.from_text("example.")
NAMES = tuple(owners.from_text(f"{label}.example.") for label in ("a", "b", "c.b", "*.d", "zz"))
TYPES = (1, 2, 16)


def soa(serial: int) -> RRset:
    timers = b"".join(number.to_bytes(4, "big") for number in (serial, 3600, 600, 86400, 300))
    return RRset.make(6, 300, [owners.from_text("ns.example.") + owners.from_text("host.example.") + timers])


def first(serial: int = 1, names: int = 0) -> ZoneVersion:
    rrsets = [(ORIGIN, soa(serial)), (ORIGIN, RRset.make(2, 300, [owners.from_text("ns.example.")]))]
    for number in range(names):
        label = b"host%d" % number
        rrsets.append((bytes((len(label),)) + label + ORIGIN, RRset.make(1, 60, [number.to_bytes(4, "big")])))
    return ZoneVersion.build(ORIGIN, rrsets)


def rdata(rdtype: int, number: int) -> bytes:
    if rdtype == 1:
        return bytes((192, 0, 2, number))
    if rdtype == 2:
        return owners.from_text(f"ns{number}.example.")
    return bytes((1, 65 + number))


edits = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(TYPES),
        st.sampled_from((60, 300)),
        st.sets(st.integers(0, 5), max_size=4),
    ),
    max_size=6,
)


def history(steps: list[list[tuple[bytes, int, int, set[int]]]]) -> list[ZoneVersion]:
    versions = [first(0xFFFFFFFE)]
    for step in steps:
        changes = [
            (owner, rdtype, RRset.make(rdtype, ttl, [rdata(rdtype, n) for n in numbers]) if numbers else None)
            for owner, rdtype, ttl, numbers in step
        ]
        serial = (versions[-1].serial + 1) & 0xFFFFFFFF
        versions.append(versions[-1].update(changes).with_serial(serial))
    return versions


def follow(base: ZoneVersion, messages: list[bytes], query_id: int = 1) -> InboundIxfr:
    inbound = InboundIxfr(base, query_id)
    for message in messages[:-1]:
        assert not inbound.feed(message)
    assert inbound.feed(messages[-1])
    return inbound


def contents(zone: dns.zone.Zone) -> list[object]:
    return sorted(
        (owner.to_wire().lower(), int(rdataset.rdtype), rdataset.ttl, sorted(item.to_wire() for item in rdataset))
        for owner, node in zone.items()
        for rdataset in node
    )


def judged(version: ZoneVersion) -> dns.zone.Zone:
    """The version as a zone of dnspython."""
    zone = dns.zone.Zone("example.", relativize=False)
    with dns.xfr.Inbound(zone, dns.rdatatype.AXFR) as transfer:
        for message in axfr_messages(version, axfr_query(ORIGIN, 1)):
            transfer.process_message(dns.message.from_wire(message, xfr=True, one_rr_per_rrset=True))
    return zone


@given(steps=st.lists(edits, min_size=1, max_size=6), data=st.data())
def test_every_client_is_led_to_the_newest_version(
    steps: list[list[tuple[bytes, int, int, set[int]]]], data: st.DataObject
) -> None:
    versions = history(steps)
    journal = Journal()
    for old, new in itertools.pairwise(versions):
        journal.record(old, new)
    assert journal.serials == tuple(version.serial for version in versions[:-1])
    base = data.draw(st.sampled_from(versions[:-1]))
    deltas = journal.since(base.serial)
    assert deltas is not None
    size = data.draw(st.sampled_from((150, 512, 16384)))
    for chosen in (deltas, [condense(deltas)]):
        messages = list(ixfr_messages(chosen, ixfr_query(base, 1), size))
        inbound = follow(base, messages)
        assert inbound.incremental
        assert diff(inbound.version, versions[-1]) == []
        assert inbound.version.record_count == versions[-1].record_count

        judge = judged(base)
        with dns.xfr.Inbound(judge, dns.rdatatype.IXFR, serial=base.serial) as transfer:
            done = [
                transfer.process_message(dns.message.from_wire(message, xfr=True, one_rr_per_rrset=True))
                for message in messages
            ]
        assert done[-1]
        assert contents(judge) == contents(judged(versions[-1]))


@given(steps=st.lists(edits, min_size=2, max_size=6))
def test_a_condensed_change_is_the_change_from_end_to_end(
    steps: list[list[tuple[bytes, int, int, set[int]]]],
) -> None:
    versions = history(steps)
    deltas = [Delta.between(old, new) for old, new in itertools.pairwise(versions)]
    one, direct = condense(deltas), Delta.between(versions[0], versions[-1])
    assert (set(one.removed), set(one.added)) == (set(direct.removed), set(direct.added))
    assert (one.old_serial, one.new_serial) == (direct.old_serial, direct.new_serial)


def test_changes_that_do_not_follow_each_other_are_not_condensed() -> None:
    one, two, three = first(1), first(2), first(3)
    with pytest.raises(ZoneError):
        condense([Delta.between(two, three), Delta.between(one, two)])


def test_a_journal_is_bounded_and_drops_the_oldest() -> None:
    versions = [first(1)]
    for number in range(40):
        changes = [(NAMES[0], 16, RRset.make(16, 60, [b"\x64" + bytes((48 + number,)) * 100]))]
        versions.append(versions[-1].update(changes).with_serial(2 + number))
    few = Journal(max_deltas=5)
    small = Journal(max_octets=1000)
    none = Journal(max_octets=0)
    for old, new in itertools.pairwise(versions):
        for journal in (few, small, none):
            journal.record(old, new)
    assert few.serials == (36, 37, 38, 39, 40)
    assert few.since(35) is None
    assert len(few.since(36) or ()) == 5
    assert 0 < small.octets <= 1000
    assert small.serials[-1] == 40
    assert (len(none), none.octets) == (0, 0)
    too_large = RRset.make(16, 60, [bytes((200,)) + bytes((65 + number,)) * 200 for number in range(10)])
    small.record(versions[-1], versions[-1].update([(NAMES[2], 16, too_large)]).with_serial(99))
    assert (len(small), small.octets) == (0, 0)


def test_what_does_not_continue_the_history_ends_it() -> None:
    versions = history([[(NAMES[0], 1, 60, {n})] for n in range(4)])
    journal = Journal()
    journal.record(versions[0], versions[1])
    journal.record(versions[1], versions[1])
    assert len(journal) == 1
    journal.record(versions[2], versions[3])  # one is missing
    assert journal.serials == (versions[2].serial,)
    journal.record(versions[3], versions[1])  # back
    assert len(journal) == 0
    journal.record(versions[1], versions[2])
    journal.record(None, versions[3])
    assert len(journal) == 0


def test_a_large_change_is_left_to_whoever_has_time() -> None:
    old = first(1, names=8000)
    new = old.update([(owner, 1, RRset.make(1, 60, [b"\1\2\3\4"])) for owner in old.owners()]).with_serial(2)
    newer = new.with_serial(3)
    journal = Journal()
    journal.record(old, new)
    journal.record(new, newer)
    assert journal.since(1) is None
    assert len(journal.since(2) or ()) == 1
    (step,) = journal.unsettled()
    delta = step.compute()
    journal.settle(step, delta)
    journal.settle(step, delta)
    assert journal.unsettled() == ()
    deltas = journal.since(1)
    assert deltas is not None
    assert len(deltas[0].added) == 8001
    messages = list(ixfr_messages(deltas, ixfr_query(old, 1)))
    assert len(messages) > 5
    assert diff(follow(old, messages).version, newer) == []
    dropped = Journal(max_octets=100)
    dropped.record(old, new)
    dropped.settle(dropped.unsettled()[0], delta)
    assert len(dropped) == 0


def test_whole_zones_and_no_changes_are_answers_too() -> None:
    old, new = first(1, names=3), first(2, names=300)
    for size in (150, 16384):
        inbound = follow(old, list(axfr_messages(new, ixfr_query(old, 1), size)))
        assert not inbound.incremental
        assert diff(inbound.version, new) == []
    alone = ixfr_query(new, 1)
    current = alone[:2] + b"\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00" + alone[12:]
    for base in (new, first(3)):
        inbound = InboundIxfr(base, 1)
        assert inbound.feed(current)
        assert inbound.version is base
    assert not InboundIxfr(old, 1).feed(current)  # more must come


def test_changes_that_do_not_fit_are_refused() -> None:
    versions = history([[(NAMES[0], 1, 60, {1, 2})], [(NAMES[0], 1, 60, {2, 3})], [(NAMES[0], 1, 60, {3})]])
    deltas = [Delta.between(old, new) for old, new in itertools.pairwise(versions)]
    other = versions[1].update([(NAMES[0], 1, None)])
    has_it = versions[1].update([(NAMES[0], 1, RRset.make(1, 60, [rdata(1, n) for n in (1, 2, 3)]))])
    for base, chosen, fault in (
        (other, deltas[1:], "removed that is not here"),
        (has_it, deltas[1:], "added that is here"),
        (versions[0], deltas[1:], "do not begin with the version"),
        (versions[0], [deltas[0], deltas[2]], "do not follow each other"),
    ):
        messages = list(ixfr_messages(chosen, ixfr_query(base, 1)))
        with pytest.raises(TransferError, match=fault):
            follow(base, messages)
    bare = Delta(deltas[0].old_soa, deltas[0].new_soa, deltas[0].removed, ())
    inbound = follow(versions[0], list(ixfr_messages([bare], ixfr_query(versions[0], 1))))
    assert inbound.version.serial == versions[1].serial


def test_versions_that_came_whole_share_what_is_equal() -> None:
    old = first(1, names=8000)
    new = old.update([(NAMES[0], 1, RRset.make(1, 60, [b"\1\2\3\4"]))]).with_serial(2)
    apart = follow(first(0), list(axfr_messages(new, ixfr_query(old, 1)))).version
    assert not old.is_near(apart)
    joined = apart.sharing_with(old)
    assert old.is_near(joined)
    assert diff(joined, apart) == []
    assert joined.record_count == apart.record_count
    assert first(3).sharing_with(old).record_count == 2
    with pytest.raises(ZoneError):
        old.sharing_with(ZoneVersion.build(NAMES[0], [(NAMES[0], soa(1))]))
