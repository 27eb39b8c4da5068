"""Signing: what is published and signed by whom, what a pass costs, and when the next one is due."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import dns.dnssec
import dns.rdata
import pytest

from mpcore.errors import ConfigError, NotReadyError, ZoneError
from mpcore.signer.keys import KeyState, SigningKey, generate_signing_key
from mpcore.signer.signing import (
    Progress,
    SigningPolicy,
    ZoneSigner,
    ds_digest,
    foreign_dnskeys,
    sign_zone,
    type_bitmap,
)
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset, parse_record
from mpcore.zone.version import ZoneVersion

NOW = 1_800_000_000.0
ORIGIN = from_text("example.")
A, NS, SOA, TXT, DNAME, DS, RRSIG, NSEC, DNSKEY, NSEC3PARAM, CDS, CDNSKEY, ZONEMD = (
    1, 2, 6, 16, 39, 43, 46, 47, 48, 51, 59, 60, 63,
)  # fmt: skip

BASE = """
example. 900 IN SOA ns.example. h.example. 4000000000 3600 600 86400 300
example. 900 IN NS ns.example.
ns.example. 900 IN A 192.0.2.1
b.example. 60 IN TXT b
sub.example. 60 IN NS ns.sub.example.
ns.sub.example. 60 IN A 192.0.2.2
"""


def _zone(text: str = BASE) -> ZoneVersion:
    parsed = [parse_record(line) for line in text.strip().splitlines()]
    return ZoneVersion.build(
        ORIGIN, ((owner, RRset.make(rdtype, ttl, [rdata])) for owner, rdtype, ttl, rdata in parsed)
    )


def _key(ksk: bool, state: KeyState = KeyState.ACTIVE, algorithm: int = 13, avoid: Iterable[int] = ()) -> SigningKey:
    return generate_signing_key("example.", algorithm, ksk, NOW, state=state, avoid=set(avoid))


def _pair(algorithm: int = 13, avoid: Iterable[int] = ()) -> list[SigningKey]:
    ksk = _key(True, algorithm=algorithm, avoid=avoid)
    return [ksk, _key(False, algorithm=algorithm, avoid=[*avoid, ksk.key_tag])]


def _signed_by(version: ZoneVersion, owner: bytes, covered: int) -> set[int]:
    rrset = version.get(owner, RRSIG)
    rdatas = () if rrset is None else rrset.rdatas
    return {int.from_bytes(rdata[16:18]) for rdata in rdatas if int.from_bytes(rdata[:2]) == covered}


def _rdatas(version: ZoneVersion, rdtype: int, owner: bytes = ORIGIN) -> set[bytes]:
    rrset = version.get(owner, rdtype)
    return set() if rrset is None else set(rrset.rdatas)


@dataclass(frozen=True, slots=True)
class CountingKey(SigningKey):
    """Counts the signatures that are made with it."""

    made: list[bytes] = field(default_factory=list, compare=False)

    def signer(self) -> Callable[[bytes], bytes]:
        sign = SigningKey.signer(self)

        def counted(data: bytes) -> bytes:
            self.made.append(data)
            return sign(data)

        return counted


def _counting(key: SigningKey) -> CountingKey:
    return CountingKey(
        key.zone, key.state, key.dnskey, key.created_at, key.changed_at, pem=key.pem, private=key.private
    )


# -- what is published ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", KeyState)
@pytest.mark.parametrize("ksk", [True, False])
def test_state_decides_about_publication_and_signatures(state: KeyState, ksk: bool) -> None:
    pair = _pair()
    key = _key(ksk, state, avoid=[key.key_tag for key in pair])
    signed = sign_zone(_zone(), [*pair, key], now=NOW, serial=1)
    published = state.value not in ("created", "mpremove", "removed")
    assert (key.dnskey in _rdatas(signed, DNSKEY)) == published
    assert (key.key_tag in _signed_by(signed, ORIGIN, DNSKEY)) == (ksk and state.value in ("active", "retired"))
    assert (key.key_tag in _signed_by(signed, ORIGIN, SOA)) == (not ksk and state.value == "active")
    agreed = ksk and published and state.value != "mpdist"
    assert (key.dnskey in _rdatas(signed, CDNSKEY)) == agreed
    assert (ds_digest(ORIGIN, key.dnskey) in _rdatas(signed, CDS)) == agreed


def test_dnskey_rrset_is_the_union_with_one_ttl() -> None:
    mine, theirs = _pair(), _pair()
    incoming = _zone().update([(ORIGIN, DNSKEY, RRset.make(DNSKEY, 77, [theirs[0].dnskey, theirs[1].dnskey]))])
    signed = sign_zone(incoming, mine, now=NOW, serial=1, dnskey_ttl=1234)
    rrset = signed.get(ORIGIN, DNSKEY)
    assert rrset is not None
    assert rrset.ttl == 1234
    assert set(rrset.rdatas) == {key.dnskey for key in mine + theirs}
    # Both KSKs, so that all signers publish the same set whoever is asked.
    assert _rdatas(signed, CDNSKEY) == {mine[0].dnskey, theirs[0].dnskey}


def test_foreign_keys_can_be_given_or_refused() -> None:
    mine, theirs, third = _pair(), _pair(), _key(False)
    incoming = _zone().update([(ORIGIN, DNSKEY, RRset.make(DNSKEY, 77, [theirs[0].dnskey]))])
    alone = sign_zone(incoming, mine, (), now=NOW, serial=1)
    assert _rdatas(alone, DNSKEY) == {key.dnskey for key in mine}
    given = sign_zone(incoming, mine, [third.dnskey], now=NOW, serial=1)
    assert _rdatas(given, DNSKEY) == {key.dnskey for key in [*mine, third]}


def test_our_withdrawn_keys_do_not_come_back_as_foreign() -> None:
    """Others may still contribute a key that we have withdrawn, or are told late."""
    mine = _pair()
    gone = _key(False, KeyState.MPREMOVE, avoid=[key.key_tag for key in mine])
    incoming = _zone().update([(ORIGIN, DNSKEY, RRset.make(DNSKEY, 77, [gone.dnskey]))])
    assert foreign_dnskeys(incoming, [*mine, gone]) == ()
    assert gone.dnskey not in _rdatas(sign_zone(incoming, [*mine, gone], now=NOW, serial=1), DNSKEY)


@pytest.mark.parametrize(
    "rdata",
    [b"\x01\x01\x03\x0d", b"\x01\x01\x02\x0dkey", b"\x00\x01\x03\x0dkey"],
    ids=["no key", "protocol 2", "no zone key"],
)
def test_what_is_no_zone_key_is_not_published(rdata: bytes) -> None:
    incoming = _zone().update([(ORIGIN, DNSKEY, RRset(DNSKEY, 77, (rdata,)))])
    assert rdata not in _rdatas(sign_zone(incoming, _pair(), now=NOW, serial=1), DNSKEY)


def test_revoked_foreign_ksk_gets_no_cds() -> None:
    revoked = b"\x01\x81\x03\x0d" + bytes(64)
    incoming = _zone().update([(ORIGIN, DNSKEY, RRset(DNSKEY, 77, (revoked,)))])
    signed = sign_zone(incoming, _pair(), now=NOW, serial=1)
    assert revoked in _rdatas(signed, DNSKEY)
    assert revoked not in _rdatas(signed, CDNSKEY)


def test_cds_is_the_digest_that_dnspython_makes_and_a_ksk_signs_it() -> None:
    ksk, zsk = _pair()
    signed = sign_zone(_zone(), [ksk, zsk], now=NOW, serial=1)
    dnskey = dns.rdata.from_wire("IN", "DNSKEY", ksk.dnskey, 0, len(ksk.dnskey))
    assert _rdatas(signed, CDS) == {dns.dnssec.make_cds("example.", dnskey, "SHA256").to_wire()}
    for rdtype in (CDS, CDNSKEY):
        assert ksk.key_tag in _signed_by(signed, ORIGIN, rdtype)  # RFC 7344, section 4.1


def test_contributed_cds_gives_way_and_can_be_left_out() -> None:
    other = bytes.fromhex("1234 0d 02") + bytes(32)
    incoming = _zone().update([(ORIGIN, CDS, RRset(CDS, 60, (other,)))])
    keys = _pair()
    assert other not in _rdatas(sign_zone(incoming, keys, now=NOW, serial=1), CDS)
    signer = ZoneSigner(ORIGIN, SigningPolicy(publish_cds=False))
    signer.set_keys(keys)
    signed = signer.sign(incoming, NOW, 1)
    assert not _rdatas(signed, CDS) | _rdatas(signed, CDNSKEY)


def test_an_upstream_signing_is_taken_off() -> None:
    keys, upstream = _pair(), _pair()
    presigned = sign_zone(_zone(), upstream, now=NOW - 5, serial=1).update(
        [
            (ORIGIN, NSEC3PARAM, RRset(NSEC3PARAM, 0, (b"\1\0\0\0\0",))),
            (ORIGIN, ZONEMD, RRset(ZONEMD, 60, (bytes(54),))),
            (from_text("0123456789abcdefghijklmnopqrstuv.example."), 50, RRset(50, 60, (b"\1\0\0\0\0\1x\0\1\x40",))),
        ]
    )
    signed = sign_zone(presigned, keys, (), now=NOW, serial=1)
    assert list(signed.rrsets()) == list(sign_zone(_zone(), keys, now=NOW, serial=1).rrsets())


def test_single_kind_of_key_signs_everything() -> None:
    for index in (0, 1):
        key = _pair()[index]
        signed = sign_zone(_zone(), [key], now=NOW, serial=1)
        for rdtype in (SOA, DNSKEY, NSEC):
            assert _signed_by(signed, ORIGIN, rdtype) == {key.key_tag}


def test_every_algorithm_signs_every_rrset() -> None:
    """An algorithm rollover: a pair of each, and a lone KSK of a third (RFC 4035, section 2.2)."""
    keys = [*_pair(13), *_pair(15), _key(True, algorithm=8)]
    signed = sign_zone(_zone(), keys, now=NOW, serial=1)
    for owner, rrset in signed.rrsets():
        if rrset.rdtype == RRSIG:
            algorithms: dict[int, set[int]] = {}
            for rdata in rrset.rdatas:
                algorithms.setdefault(int.from_bytes(rdata[:2]), set()).add(rdata[2])
            assert set(map(frozenset, algorithms.values())) == {frozenset({8, 13, 15})}, owner


def test_no_active_key_is_not_ready() -> None:
    with pytest.raises(NotReadyError, match="example"):
        sign_zone(_zone(), [_key(True, KeyState.STANDBY)], now=NOW, serial=1)
    with pytest.raises(NotReadyError):
        sign_zone(_zone(), [], now=NOW, serial=1)


# -- NSEC and RRSIG ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl", "minimum", "expected"), [(900, 300, 300), (100, 300, 100), (0, 300, 0)])
def test_nsec_ttl_is_the_lesser_of_soa_ttl_and_minimum(ttl: int, minimum: int, expected: int) -> None:
    text = f"example. {ttl} IN SOA a. b. 1 2 3 4 {minimum}\nexample. 60 IN NS a.\n"
    rrset = sign_zone(_zone(text), _pair(), now=NOW, serial=1).get(ORIGIN, NSEC)
    assert rrset is not None
    assert rrset.ttl == expected  # RFC 9077


def test_delegation_has_ns_unsigned_and_glue_has_nothing() -> None:
    signed = sign_zone(_zone(), _pair(), now=NOW, serial=1)
    sub, glue = from_text("sub.example."), from_text("ns.sub.example.")
    assert not _signed_by(signed, sub, NS)
    assert _signed_by(signed, sub, NSEC)
    assert signed.types(glue) == (A,)


@pytest.mark.parametrize(
    "types", [[1], [1, 2, 46, 47], [1, 15, 46, 47, 1234], [65535, 256, 255], [65285, 65286, 0x7FFF]]
)
def test_type_bitmap_reads_back(types: list[int]) -> None:
    wire = b"\0" + type_bitmap(types)
    nsec = dns.rdata.from_wire("IN", "NSEC", wire, 0, len(wire))
    shown = {
        (window << 8) + index * 8 + bit
        for window, block in nsec.windows
        for index, octet in enumerate(block)
        for bit in range(8)
        if octet & (0x80 >> bit)
    }
    assert shown == set(types)


def test_bitmap_of_the_example_in_rfc_4034() -> None:
    assert type_bitmap([1, 15, 46, 47, 1234]).hex() == (
        "0006400100000003" + "041b" + "00" * 26 + "20"
    )  # RFC 4034, section 4.3


def test_serial_times_and_signer_name() -> None:
    signed = sign_zone(_zone(), _pair(), now=NOW, serial=77, lifetime=7200, refresh=600)
    assert signed.serial == 77
    for _, rrset in signed.rrsets():
        if rrset.rdtype == RRSIG:
            for rdata in rrset.rdatas:
                expiration, inception = int.from_bytes(rdata[8:12]), int.from_bytes(rdata[12:16])
                assert inception == NOW - 3600
                assert NOW + 7200 - 3300 <= expiration <= NOW + 7200
                assert rdata[18 : 18 + len(ORIGIN)] == ORIGIN


def test_expirations_are_spread_and_always_the_same() -> None:
    policy = SigningPolicy()
    owners = [from_text(f"n{number}.example.") for number in range(1000)]
    times = {policy.expiration(owner, NOW) for owner in owners}
    assert len(times) > 950
    assert min(times) >= NOW + policy.lifetime - policy.spread
    assert max(times) <= NOW + policy.lifetime
    # Not more than a few in a hundred of the zone are due in the same hundredth of the time.
    width = policy.spread / 100
    assert max(sum(low <= time < low + width for time in times) for low in sorted(times)) < 40


@pytest.mark.parametrize(
    "values",
    [
        {"lifetime": 60.0},
        {"lifetime": 400 * 86400.0},
        {"lifetime": 7200.0, "refresh": 7200.0},
        {"refresh": 59.0},
        {"dnskey_ttl": -1},
        {"backdate": -1.0},
    ],
)
def test_unusable_policies(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SigningPolicy(**values)


# -- passes --------------------------------------------------------------------------------------------------------


def _large(names: int) -> ZoneVersion:
    lines = [f"n{number:05}.example. 60 IN A 192.0.2.{number % 250}" for number in range(names)]
    return _zone(BASE + "\n".join(lines))


def test_a_change_costs_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a zone of thousands of names one change makes a handful of signatures and does not walk the zone."""
    keys = [_counting(key) for key in _pair()]
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(keys)
    version = _large(3000)
    first = signer.sign(version, NOW, 1)
    assert sum(len(key.made) for key in keys) > 6000

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("the zone was walked")

    for walking in ("survey", "owners", "nodes", "rrsets"):
        monkeypatch.setattr(ZoneVersion, walking, refuse)
    expected = {
        "n00007.example. 60 IN A 192.0.2.251": 2,  # the RRset, SOA
        "n00007.example. 60 IN TXT new": 3,  # the RRset, its NSEC, SOA
        "n00007a.example. 60 IN TXT new": 4,  # the RRset, its NSEC, the NSEC before it, SOA
        "n00009.sub.example. 60 IN A 192.0.2.3": 1,  # glue: SOA
    }
    for serial, (line, signatures) in enumerate(expected.items(), 2):
        for key in keys:
            key.made.clear()
        owner, rdtype, ttl, rdata = parse_record(line)
        version = version.update([(owner, rdtype, RRset(rdtype, ttl, (rdata,)))])
        signed = signer.sign(version, NOW + 60, serial)
        assert [len(key.made) for key in keys] == [0, signatures], line
        assert signed.serial == serial
    untouched = from_text("n02000.example.")
    assert signer.signed is not None
    assert signer.signed.packed_node(untouched) is first.packed_node(untouched)


def test_nothing_to_do_gives_the_same_version() -> None:
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(_pair())
    signed = signer.sign(_zone(), NOW, 1)
    assert signer.sign(_zone(), NOW + 60, 2) is signed
    bumped = signer.sign(_zone().with_serial(4000000001), NOW + 60, 2)
    assert bumped is not signed
    assert bumped.serial == 2


def test_new_key_set_without_new_signers_touches_the_apex_only() -> None:
    pair = [_counting(key) for key in _pair()]
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(pair)
    signer.sign(_large(100), NOW, 1)
    for key in pair:
        key.made.clear()
    signer.set_keys([*pair, _key(False, KeyState.MPDIST, avoid=[key.key_tag for key in pair])])
    signer.sign(_large(100), NOW, 2)
    assert [len(key.made) for key in pair] == [1, 1]  # DNSKEY; SOA


def test_new_zone_signing_key_replaces_all_signatures() -> None:
    ksk, zsk = _pair()
    successor = _key(False, avoid=[ksk.key_tag, zsk.key_tag])
    signer = ZoneSigner(ORIGIN)
    signer.set_keys([ksk, zsk])
    signer.sign(_zone(), NOW, 1)
    signer.set_keys([ksk, zsk.to_state(KeyState.RETIRED, NOW), successor])
    signed = signer.sign(_zone(), NOW, 2)
    tags = {
        int.from_bytes(rdata[16:18]) for _, rrset in signed.rrsets() if rrset.rdtype == RRSIG for rdata in rrset.rdatas
    }
    assert tags == {ksk.key_tag, successor.key_tag}
    assert zsk.dnskey in _rdatas(signed, DNSKEY)


def test_due_signatures_are_replaced_in_time_and_bit_by_bit() -> None:
    policy = SigningPolicy(lifetime=10 * 86400, refresh=5 * 86400)
    signer = ZoneSigner(ORIGIN, policy)
    assert signer.next_due() is None
    keys = [_counting(key) for key in _pair()]
    signer.set_keys(keys)
    version = _large(500)
    signer.sign(version, NOW, 1)
    for key in keys:
        key.made.clear()
    most, serial, now = 0, 1, NOW
    while (due := signer.next_due()) is not None and due < NOW + 12 * 86400:
        assert due > now
        now, serial = due, serial + 1
        before = sum(len(key.made) for key in keys)
        signed = signer.sign(version, now, serial)
        most = max(most, sum(len(key.made) for key in keys) - before)
        for _, rrset in signed.rrsets():
            if rrset.rdtype == RRSIG:
                soonest = min(int.from_bytes(rdata[8:12]) for rdata in rrset.rdatas)
                assert soonest - now > policy.refresh - policy.bucket
    assert sum(len(key.made) for key in keys) > 2000  # everything twice
    assert most < 100  # and never a tenth of the zone at once


def test_a_late_pass_renews_all_that_is_due() -> None:
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(_pair())
    signer.sign(_zone(), NOW, 1)
    now = NOW + 60 * 86400
    signed = signer.sign(_zone(), now, 2)
    for _, rrset in signed.rrsets():
        if rrset.rdtype == RRSIG:
            assert all(int.from_bytes(rdata[8:12]) > now for rdata in rrset.rdatas)


def test_steps_give_way_and_an_abandoned_pass_leaves_no_trace() -> None:
    keys = _pair()
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(keys)
    steps = signer.signing_steps(_large(100), NOW, 1, chunk=10)
    reports = [next(steps) for _ in range(5)]
    assert all(isinstance(report, Progress) and 0 < report.done <= report.total for report in reports)
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    steps.close()
    assert signer.signed is None
    assert signer.next_due() is None

    first = signer.sign(_large(100), NOW, 1)
    due = signer.next_due()
    later = _large(100).update((from_text(f"n{number:05}.example."), A, None) for number in range(0, 100, 2))
    steps = signer.signing_steps(later, NOW + 86400, 2, chunk=5)
    next(steps)
    steps.close()
    assert signer.signed is first
    assert signer.next_due() == due
    assert list(signer.sign(later, NOW, 2).rrsets()) == list(sign_zone(later, keys, now=NOW, serial=2).rrsets())


def test_adopted_version_lends_its_signatures() -> None:
    """After a restart only what changed meanwhile is signed again."""
    keys = [_counting(key) for key in _pair()]
    version = _large(200)
    before = sign_zone(version, keys, now=NOW, serial=1)
    for key in keys:
        key.made.clear()
    changed = version.update([(from_text("n00050.example."), A, None)])
    after = sign_zone(changed, keys, now=NOW + 600, serial=2, previous=before)
    assert [len(key.made) for key in keys] == [0, 2]  # the NSEC before the name that went; SOA
    assert after.get(from_text("n00050.example."), NSEC) is None


def test_foreign_zones_are_refused() -> None:
    signer = ZoneSigner(from_text("other."))
    signer.set_keys(_pair())
    with pytest.raises(ZoneError):
        signer.sign(_zone(), NOW, 1)
    with pytest.raises(ZoneError):
        signer.adopt(_zone())
