"""Versions of a zone: what is there, what is beside it, what changed."""

from __future__ import annotations

import pytest

from mpcore.errors import ZoneError
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.rrset import RRset
from mpcore.zone.version import Standing, ZoneVersion, diff

ORIGIN = owners.from_text("example.")
TEXT = """
@            3600 SOA ns1 host 7 3600 600 86400 300
@            3600 NS ns1
ns1          3600 A 192.0.2.1
b.ent        3600 A 192.0.2.2
cut          3600 NS ns.cut
ns.cut       3600 A 192.0.2.3
x.ns.cut     3600 A 192.0.2.3
dn           3600 DNAME elsewhere.
lost.dn      3600 A 192.0.2.4
*.wild       3600 A 192.0.2.5
zz           3600 TXT "last"
"""


def name(text: str) -> bytes:
    return owners.from_text(text, ORIGIN)


@pytest.fixture(scope="module")
def zone() -> ZoneVersion:
    return read_master_text(TEXT, "example.")


def test_reading(zone: ZoneVersion) -> None:
    assert zone.serial == 7
    assert zone.minimum == 300
    assert zone.record_count == 11
    assert zone.get(name("ns1"), 1) == RRset(1, 3600, (b"\xc0\x00\x02\x01",))
    assert zone.get(name("ns1"), 28) is None
    assert zone.get(name("nothing"), 1) is None
    assert zone.get(owners.from_text("other."), 1) is None
    assert set(zone.node(ORIGIN) or ()) == {2, 6}
    assert zone.node(name("ent")) is None
    assert zone.types(ORIGIN) == (2, 6)
    assert "serial 7" in repr(zone)


def test_owners_come_in_canonical_order(zone: ZoneVersion) -> None:
    listed = list(zone.owners())
    assert listed == sorted(listed, key=owners.canonical_key)
    assert listed[0] == ORIGIN
    assert [owner for owner, _ in zone.nodes()] == listed
    assert sum(len(rrset.rdatas) for _, rrset in zone.rrsets()) == zone.record_count


def test_existence_knows_empty_non_terminals(zone: ZoneVersion) -> None:
    for text in ("@", "ns1", "ent", "b.ent", "wild", "*.wild"):
        assert zone.exists(name(text)), text
    for text in ("b", "a.ent", "en", "x.wild", "n"):
        assert not zone.exists(name(text)), text
    assert not zone.exists(owners.from_text("other."))


@pytest.mark.parametrize(
    ("owner", "encloser"),
    [
        ("nope", "@"),
        ("a.b.c", "@"),
        ("x.ent", "ent"),
        ("x.y.b.ent", "b.ent"),
        ("ns1", "ns1"),
        ("ent", "ent"),
        ("@", "@"),
    ],
)
def test_closest_encloser(zone: ZoneVersion, owner: str, encloser: str) -> None:
    assert zone.closest_encloser(name(owner)) == name(encloser)


def test_zone_cuts(zone: ZoneVersion) -> None:
    assert zone.delegation_of(name("x.ns.cut")) == name("cut")
    assert zone.delegation_of(name("cut")) == name("cut")
    assert zone.delegation_of(ORIGIN) is None
    assert zone.delegation_of(name("lost.dn")) is None
    occluded = [
        text
        for text in ("@", "cut", "ns.cut", "no.such.cut", "dn", "lost.dn", "zz")
        if zone.is_glue_or_occluded(name(text))
    ]
    assert occluded == ["ns.cut", "no.such.cut", "lost.dn"]
    assert zone.standing(name("cut")) is Standing.DELEGATION
    for owner, _, standing in zone.survey():
        assert standing is zone.standing(owner)
    with pytest.raises(ZoneError, match="not in"):
        zone.delegation_of(owners.from_text("other."))


def test_the_chain_of_names_skips_glue_and_closes(zone: ZoneVersion) -> None:
    chain = [owner for owner, _, standing in zone.survey() if standing is not Standing.OCCLUDED]
    for index, owner in enumerate(chain):
        assert zone.neighbours(owner) == (chain[index - 1], chain[(index + 1) % len(chain)])
        assert zone.covering(owner) == owner
    assert zone.neighbours(name("y.cut")) == (name("cut"), name("dn"))
    assert zone.covering(name("y.cut")) == name("cut")
    assert zone.neighbours(name("ent")) == (name("dn"), name("b.ent"))
    assert zone.covering(name("zzz")) == name("zz")
    assert zone.neighbours(name("zzz")) == (name("zz"), ORIGIN)


def test_an_update_leaves_the_old_version_alone(zone: ZoneVersion) -> None:
    changed = zone.update(
        [
            (name("ns1"), 1, RRset.make(1, 60, [b"\x7f\x00\x00\x01", b"\x7f\x00\x00\x02"])),
            (name("b.ent"), 1, None),
            (name("new.name"), 16, RRset.make(16, 60, [b"\x01x"])),
            (name("absent"), 1, None),
        ]
    )
    assert zone.exists(name("ent"))
    assert not changed.exists(name("ent"))
    assert changed.exists(name("name"))
    assert changed.record_count == zone.record_count + 1
    assert [(owner, rdtype) for owner, rdtype, _, _ in diff(zone, changed)] == [
        (name("b.ent"), 1),
        (name("new.name"), 16),
        (name("ns1"), 1),
    ]
    assert diff(changed, zone.update([])) == [(o, t, new, old) for o, t, old, new in diff(zone, changed)]
    assert zone.update([]) is zone
    assert changed.neighbours(name("new.name")) == (name("dn"), name("ns1"))


def test_a_serial_is_replaced_alone(zone: ZoneVersion) -> None:
    newer = zone.with_serial(0xFFFFFFFF)
    assert newer.serial == 0xFFFFFFFF
    assert [(owner, rdtype) for owner, rdtype, _, _ in diff(zone, newer)] == [(ORIGIN, 6)]
    assert newer.soa.rdatas[0][-16:] == zone.soa.rdatas[0][-16:]
    assert zone.with_serial(7) is zone


A = RRset.make(1, 60, [bytes(4)])
SOA = RRset.make(6, 60, [b"\x00\x00" + bytes(20)])
CNAME = RRset.make(5, 60, [b"\x00"])


@pytest.mark.parametrize(
    ("rrsets", "reason"),
    [
        ([(ORIGIN, A)], "no SOA"),
        ([(ORIGIN, SOA), (ORIGIN, RRset.make(6, 60, [b"\x00\x00" + bytes(19) + b"\x01"]))], "2 SOA"),
        ([(ORIGIN, SOA), (owners.from_text("other."), A)], "not in example"),
        ([(ORIGIN, SOA), (owners.from_text("xexample."), A)], "not in example"),
        ([(ORIGIN, SOA), (name("a"), SOA)], "below the apex"),
        ([(ORIGIN, SOA), (name("a"), A), (name("a"), CNAME)], "CNAME and A"),
        ([(ORIGIN, SOA), (name("a"), CNAME), (name("a"), RRset.make(5, 60, [b"\x01x\x00"]))], "more than one CNAME"),
        ([(ORIGIN, SOA), (ORIGIN, CNAME)], "CNAME and SOA"),
    ],
)
def test_a_zone_that_breaks_a_rule_is_refused(rrsets: list[tuple[bytes, RRset]], reason: str) -> None:
    with pytest.raises(ZoneError, match=reason):
        ZoneVersion.build(ORIGIN, rrsets)
    base = ZoneVersion.build(ORIGIN, [(ORIGIN, SOA)])
    if "SOA" not in reason and "more than one" not in reason:
        with pytest.raises(ZoneError, match=reason):
            base.update([(owner, rrset.rdtype, rrset) for owner, rrset in rrsets])


def test_updates_that_break_a_rule_are_refused(zone: ZoneVersion) -> None:
    with pytest.raises(ZoneError, match="no SOA"):
        zone.update([(ORIGIN, 6, None)])
    with pytest.raises(ZoneError, match="given as"):
        zone.update([(ORIGIN, 2, A)])
    with pytest.raises(ZoneError, match="different zones"):
        diff(zone, ZoneVersion.build(owners.ROOT, [(owners.ROOT, SOA)]))


def test_rrsets_of_one_owner_and_type_are_joined_under_the_smallest_ttl() -> None:
    joined = ZoneVersion.build(
        ORIGIN, [(ORIGIN, SOA), (ORIGIN, A), (ORIGIN, RRset.make(1, 30, [b"\x01" * 4, bytes(4)]))]
    )
    assert joined.get(ORIGIN, 1) == RRset(1, 30, (bytes(4), b"\x01" * 4))
    assert joined.record_count == 3


def test_a_root_zone_works() -> None:
    root = ZoneVersion.build(owners.ROOT, [(owners.ROOT, SOA), (owners.from_text("a."), A)])
    assert root.neighbours(owners.ROOT) == (owners.from_text("a."), owners.from_text("a."))
    assert root.closest_encloser(owners.from_text("x.y.")) == owners.ROOT
