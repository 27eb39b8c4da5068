"""Properties of the zone room: orders, round trips, and that octets from outside raise nothing but RemoteError."""

from __future__ import annotations

import bisect
import contextlib

import dns.message
import dns.name
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.errors import RemoteError
from mpcore.zone import owners, packed, serial
from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_text, write_master_text
from mpcore.zone.rrset import RRset, canonical_rdata, check_rdata, expand_rdata, parse_record, record_text
from mpcore.zone.transfer import InboundAxfr, axfr_messages, axfr_query
from mpcore.zone.tree import Tree
from mpcore.zone.tsig import TsigKey, TsigStreamVerifier, error_response, find_signature, sign_message, verify_message
from mpcore.zone.version import Standing, ZoneVersion, diff

ORIGIN = owners.from_text("example.")
SOA = RRset.make(6, 60, [b"\x00\x00" + bytes(20)])
bounded = settings(max_examples=150, deadline=None, derandomize=True)

label = st.one_of(
    st.sampled_from([b"a", b"b", b"*", b"\x00", b"\x01", b"\x01\x02", b"a\x00", b"."]),
    st.binary(min_size=1, max_size=5),
)
names = st.lists(label, max_size=4).map(lambda parts: b"".join(bytes((len(p),)) + p for p in parts).lower() + ORIGIN)
rrsets = st.one_of(
    st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=3).map(lambda rdatas: RRset.make(1, 300, rdatas)),
    st.just(RRset.make(2, 300, [b"\x02ns\x00"])),
    st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(lambda rdatas: RRset.make(65400, 60, rdatas)),
    st.just(RRset.make(39, 300, [b"\x01x\x00"])),
)
zones = st.lists(st.tuples(names, rrsets), max_size=25).map(
    lambda entries: ZoneVersion.build(
        ORIGIN, [(ORIGIN, SOA), *{(owner, rrset.rdtype): (owner, rrset) for owner, rrset in entries}.values()]
    )
)


def as_name(owner: bytes) -> dns.name.Name:
    return dns.name.from_wire(owner, 0)[0]


@bounded
@given(st.lists(names, min_size=2, max_size=12, unique=True))
def test_sort_keys_give_the_canonical_order(found: list[bytes]) -> None:
    assert sorted(found, key=owners.canonical_key) == sorted(found, key=as_name)
    prefix = len(owners.canonical_key(ORIGIN))
    for owner in found:
        key = owners.canonical_key(owner)
        assert owners.owner_of_key(key) == owner
        assert owners.relative_key(owner, ORIGIN) == key[prefix:]
        for other in found:
            assert owners.is_subdomain(owner, other) == as_name(owner).is_subdomain(as_name(other))
            assert key.startswith(owners.canonical_key(other)) == owners.is_subdomain(owner, other)


keys = st.binary(max_size=2)


@bounded
@given(
    st.lists(st.dictionaries(keys, st.one_of(st.none(), st.binary(max_size=2)), max_size=400), max_size=6),
    st.lists(keys, max_size=10),
)
def test_the_tree_is_a_sorted_map(steps: list[dict[bytes, bytes | None]], probes: list[bytes]) -> None:
    tree, model = Tree(), {}
    for step in steps:
        former, before = tree, dict(model)
        tree = tree.apply(step.items())
        for key, value in step.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert list(former.items()) == sorted(before.items())
        assert list(tree.items()) == sorted(model.items())
        assert {key: (old, new) for key, old, new in former.difference(tree)} == {
            key: (before.get(key), model.get(key))
            for key in before.keys() | model.keys()
            if before.get(key) != model.get(key)
        }
    ordered = sorted(model)
    for probe in probes:
        low, high = bisect.bisect_left(ordered, probe), bisect.bisect_right(ordered, probe)
        pairs = [None, *((key, model[key]) for key in ordered), None]
        assert tree.get(probe) == model.get(probe)
        assert tree.floor(probe) == pairs[high]
        assert tree.floor(probe, strict=True) == pairs[low]
        assert tree.ceiling(probe) == pairs[low + 1]
        assert tree.ceiling(probe, strict=True) == pairs[high + 1]
        assert list(tree.items(probe)) == [(key, model[key]) for key in ordered[low:]]
    assert len(tree) == len(list(tree.keys())) == len(model)


@bounded
@given(zones, st.lists(names, max_size=8))
def test_existence_cuts_and_neighbours_follow_from_their_definitions(zone: ZoneVersion, probes: list[bytes]) -> None:
    held = {owner: set(packed.types(blob)) for owner, blob in zone.nodes()}
    hidden = [o for o, types in held.items() if (2 in types and o != ORIGIN) or 39 in types]

    def occluded(owner: bytes) -> bool:
        return any(owner != cut and owners.is_subdomain(owner, cut) for cut in hidden)

    chain = sorted((o for o in held if not occluded(o)), key=as_name)
    for owner in [*held, *probes]:
        assert zone.exists(owner) == any(owners.is_subdomain(other, owner) for other in held)
        assert zone.is_glue_or_occluded(owner) == occluded(owner)
        before = [o for o in chain if as_name(o) < as_name(owner)]
        after = [o for o in chain if as_name(o) > as_name(owner)]
        assert zone.neighbours(owner) == ((before or chain)[-1], (after or chain)[0])
        assert zone.covering(owner) == (owner if owner in chain else before[-1])
        ancestor = owner
        while not any(owners.is_subdomain(other, ancestor) for other in held):
            ancestor = owners.parent(ancestor)
        assert zone.closest_encloser(owner) == ancestor
        cuts = [o for o, types in held.items() if 2 in types and o != ORIGIN and owners.is_subdomain(owner, o)]
        if not any(39 in held[o] for o in hidden):
            assert zone.delegation_of(owner) == min(cuts, key=len, default=None)
    for owner, _, standing in zone.survey():
        assert (standing is Standing.OCCLUDED) == occluded(owner)
        assert standing is zone.standing(owner)


@bounded
@given(zones, st.lists(st.tuples(names, st.one_of(rrsets, st.sampled_from([1, 2, 39, 65400]))), max_size=12))
def test_an_update_equals_a_zone_built_anew(zone: ZoneVersion, changes: list[tuple[bytes, RRset | int]]) -> None:
    model = {(owner, rrset.rdtype): rrset for owner, rrset in zone.rrsets()}
    steps = []
    for owner, change in changes:
        if isinstance(change, RRset):
            steps.append((owner, change.rdtype, change))
            model[owner, change.rdtype] = change
        else:
            steps.append((owner, change, None))
            model.pop((owner, change), None)
    changed = zone.update(steps)
    rebuilt = ZoneVersion.build(ORIGIN, [(owner, rrset) for (owner, _), rrset in model.items()])
    assert diff(changed, rebuilt) == []
    assert changed.record_count == rebuilt.record_count == sum(len(rrset.rdatas) for rrset in model.values())
    assert zone.update((owner, rdtype, new) for owner, rdtype, _, new in diff(zone, changed)).record_count == (
        changed.record_count
    )


@bounded
@given(zones, st.integers(600, 65535))
def test_a_transfer_carries_a_zone_whole(zone: ZoneVersion, size: int) -> None:
    inbound = InboundAxfr(ORIGIN, 5)
    for message in axfr_messages(zone, axfr_query(ORIGIN, 5), size):
        assert len(message) <= size
        inbound.feed(message)
    assert diff(zone, inbound.version) == []


@bounded
@given(zones)
def test_a_master_file_carries_a_zone_whole(zone: ZoneVersion) -> None:
    assert diff(zone, read_master_text(write_master_text(zone))) == []


@bounded
@given(names, st.integers(1, 127) | st.integers(256, 65535), st.binary(max_size=60))
def test_a_record_survives_its_text(owner: bytes, rdtype: int, rdata: bytes) -> None:
    try:
        check_rdata(rdtype, rdata)
    except RemoteError:
        return
    if rdtype == 41:
        return
    ttl = int.from_bytes(rdata[4:8], "big") & 0x7FFFFFFF if rdtype == 46 else 60
    if rdtype != 46 or rdata[4] < 128:
        assert parse_record(record_text(owner, rdtype, 60, rdata)) == (owner, rdtype, ttl, rdata)


@bounded
@given(st.integers(1, 70), st.binary(max_size=80), st.integers(0, 40))
def test_octets_from_outside_raise_nothing_but_remote_errors(rdtype: int, octets: bytes, offset: int) -> None:
    for attempt in (
        lambda: check_rdata(rdtype, octets),
        lambda: canonical_rdata(rdtype, octets),
        lambda: expand_rdata(rdtype, octets, offset, max(0, len(octets) - offset)),
        lambda: owners.read_name(octets, offset),
        lambda: owners.labels(octets),
        lambda: find_signature(octets),
        lambda: InboundAxfr(ORIGIN, 1).feed(octets),
        lambda: list(axfr_messages(MUTATED, octets)),
        lambda: record_text(ORIGIN, rdtype, 1, octets),
    ):
        with contextlib.suppress(RemoteError):
            attempt()


@bounded
@given(st.integers(1, 70), st.binary(max_size=80))
def test_what_is_accepted_expanded_is_accepted_plain(rdtype: int, octets: bytes) -> None:
    with contextlib.suppress(RemoteError):
        rdata = expand_rdata(rdtype, octets, 0, len(octets))
        check_rdata(rdtype, rdata)
        canonical = canonical_rdata(rdtype, rdata)
        assert canonical_rdata(rdtype, canonical) == canonical
        assert len(canonical) == len(rdata)


@bounded
@given(st.text(max_size=60))
def test_any_text_is_a_zone_or_a_remote_error(text: str) -> None:
    for whole in (text, "@ 60 SOA . . 1 2 3 4 5\n" + text, "@ 60 TXT " + text):
        with contextlib.suppress(RemoteError):
            read_master_text(whole, "example.")
    with contextlib.suppress(RemoteError):
        parse_record(text)


MUTATED = read_master_text(
    "@ 60 SOA ns1 h 1 2 3 4 5\n@ 60 NS ns1\n@ 60 MX 1 mail\nns1 60 A 192.0.2.1\n*.w 60 TXT x\nc 60 CNAME d\n"
    "cut 60 NS a.cut\na.cut 60 A 192.0.2.2\ndn 60 DNAME w\n",
    "example.",
)
KEY = TsigKey(b"\x01k\x00", "hmac-sha256", b"secret")
QUERIES = [
    dns.message.make_query(name, rdtype, want_dnssec=True).to_wire()
    for name, rdtype in (("a.b.example.", "A"), ("x.dn.example.", "MX"), ("x.cut.example.", "NS"), ("example.", "ANY"))
]


def mutate(octets: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    mutated = bytearray(octets)
    for position, value in changes:
        mutated[position % len(mutated)] = value
    return bytes(mutated[: len(mutated) - cut]) if cut < len(mutated) else b""


mutations = st.tuples(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4), st.integers(0, 12))


@bounded
@given(st.sampled_from(QUERIES), mutations, st.booleans())
def test_a_damaged_query_gets_a_wellformed_answer_or_none(
    query: bytes, mutation: tuple[list[tuple[int, int]], int], over_tcp: bool
) -> None:
    octets = Responder({ORIGIN: MUTATED}).respond(mutate(query, *mutation), over_tcp=over_tcp)
    if octets:
        assert len(octets) <= (65535 if over_tcp else 1232)
        with contextlib.suppress(dns.message.UnknownTSIGKey):
            message = dns.message.from_wire(octets)
            assert message.flags & 0x8000
        assert octets[2] & 0x80


@bounded
@given(st.sampled_from(list(axfr_messages(MUTATED, axfr_query(ORIGIN, 1)))), mutations)
def test_a_damaged_transfer_is_a_zone_or_a_remote_error(
    message: bytes, mutation: tuple[list[tuple[int, int]], int]
) -> None:
    inbound = InboundAxfr(ORIGIN, 1)
    with contextlib.suppress(RemoteError):
        if inbound.feed(mutate(message, *mutation)):
            assert inbound.version.record_count > 0
            write_master_text(inbound.version)


@bounded
@given(mutations)
def test_a_damaged_signature_never_verifies(mutation: tuple[list[tuple[int, int]], int]) -> None:
    plain = axfr_query(ORIGIN, 1)
    signed, mac = sign_message(plain, KEY, 1000)
    damaged = mutate(signed, *mutation)
    try:
        found = verify_message(damaged, {KEY.name: KEY}, 1000)
    except RemoteError as fault:
        if len(damaged) >= 12:
            error_response(damaged, fault, {KEY.name: KEY}, 1000)  # type: ignore[arg-type]
    else:
        if found is not None:
            # Only what the MAC does not cover may differ: the case of the key's name, and the id, which is restored.
            assert found.octets[2:] == plain[2:]
    with contextlib.suppress(RemoteError):
        TsigStreamVerifier(KEY, mac).verify(damaged, 1000)


@bounded
@given(st.integers(0, serial.MAX_SERIAL), st.integers(0, 0x7FFFFFFF))
def test_adding_makes_a_serial_newer(value: int, step: int) -> None:
    assert serial.compare(serial.add(value, step), value) == (1 if step else 0)
    assert serial.is_newer(serial.next_serial(value, "persist", 0.0, inbound=step), value)
    assert serial.is_newer(serial.next_serial(value, "unixtime", float(step)), value)


@given(
    st.integers(0, serial.MAX_SERIAL),
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "unixtime", "persist", "dateserial"]),
            st.floats(0, 5e9),
            st.none() | st.integers(0, serial.MAX_SERIAL),
        ),
        max_size=20,
    ),
)
def test_no_policy_and_no_change_of_policy_or_clock_takes_a_serial_back(
    value: int, steps: list[tuple[serial.SerialPolicy, float, int | None]]
) -> None:
    for policy, now, inbound in steps:
        following = serial.next_serial(value, policy, now, inbound=inbound)
        assert 0 <= following <= serial.MAX_SERIAL
        assert serial.compare(following, value) == 1
        value = following
