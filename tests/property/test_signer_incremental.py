"""Following a zone through arbitrary changes gives what signing it from scratch gives, and every signature holds.

The judges are a full signing of the same version, dnspython's validation, and a denial chain made here by its
definition from dnspython's name order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.signer.keys import KeyState, SigningKey, generate_signing_key
from mpcore.signer.signing import SigningPolicy, ZoneSigner, sign_zone
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset, parse_rdata
from mpcore.zone.version import ZoneVersion

NOW = 1_900_000_000.0
ORIGIN = from_text("zone.test.")
SOA, RRSIG, NSEC = 6, 46, 47
NS, CNAME, DNAME, DS = 2, 5, 39, 43
POLICY = SigningPolicy(lifetime=10 * 86400, refresh=4 * 86400)

OWNERS = tuple(
    from_text(name)
    for name in (
        "zone.test.",
        "a.zone.test.",
        "b.a.zone.test.",
        "c.b.a.zone.test.",
        "*.a.zone.test.",
        "b.zone.test.",
        "b.b.zone.test.",
        "x.b.b.zone.test.",
        "*.zone.test.",
        "\\000.zone.test.",
        "\\001.b.zone.test.",
        "-.zone.test.",
        "zz.zone.test.",
        "a.zz.zone.test.",
    )
)
VALUES: dict[int, tuple[str, ...]] = {
    1: ("192.0.2.1", "192.0.2.20", "192.0.2.3"),
    NS: ("ns.b.zone.test.", "NS.Elsewhere.Test.", "ns.a.zone.test."),
    CNAME: ("B.zone.test.", "other.test."),
    15: ("10 Mail.Zone.Test.", "5 b.zone.test.", "10 b.zone.test."),
    16: ('"one"', '"two" "three"'),
    DNAME: ("other.test.", "Other2.Test."),
    DS: ("1 13 2 " + "00" * 32, "2 13 2 " + "11" * 32),
    43690: ("\\# 2 4142", "\\# 2 6162"),
}
RDATA = {rdtype: tuple(parse_rdata(rdtype, text) for text in texts) for rdtype, texts in VALUES.items()}
KEYS = tuple(
    generate_signing_key("zone.test.", 13, ksk, NOW, state=state, random=random.Random(seed))
    for seed, (ksk, state) in enumerate(
        [(True, KeyState.ACTIVE), (False, KeyState.ACTIVE), (True, KeyState.STANDBY), (False, KeyState.STANDBY)]
    )
)

Edit = tuple[bytes, int, int, list[bytes]]

records = st.sampled_from(sorted(RDATA)).flatmap(
    lambda rdtype: st.tuples(
        st.sampled_from(OWNERS),
        st.just(rdtype),
        st.sampled_from((60, 3600)),
        st.lists(st.sampled_from(RDATA[rdtype]), max_size=2),
    )
)
# Names vanish as a whole, and zone cuts come and go above names that exist.
drops = st.sampled_from(OWNERS[1:]).map(lambda owner: [(owner, rdtype, 60, []) for rdtype in RDATA])
cuts = st.tuples(
    st.sampled_from([from_text(name) for name in ("a.zone.test.", "b.a.zone.test.", "b.zone.test.", "b.b.zone.test.")]),
    st.sampled_from((NS, DNAME)),
    st.booleans(),
).map(lambda cut: [(cut[0], cut[1], 60, list(RDATA[cut[1]][:1]) if cut[2] else [])])
edits_of_a_step = st.lists(st.one_of(records.map(lambda record: [record]), drops, cuts), max_size=3).map(
    lambda groups: [edit for group in groups for edit in group]
)
populated = st.tuples(
    st.sets(st.sampled_from(OWNERS[1:]), min_size=5).map(
        lambda names: [(owner, 1, 60, [RDATA[1][0]]) for owner in sorted(names)]
    ),
    st.lists(records, max_size=8),
).map(lambda parts: parts[0] + parts[1])
steps = st.lists(
    st.tuples(
        edits_of_a_step,  # an empty list of RDATA removes
        st.sampled_from((0, 0, 3600, 86400, 3 * 86400)),  # time that passes
        st.sampled_from((None, None, None, "swap ksk", "swap zsk", "soa")),
    ),
    min_size=1,
    max_size=6,
)


def _first() -> ZoneVersion:
    soa = parse_rdata(SOA, "NS.zone.test. h.zone.test. 1 3600 600 864000 300")
    return ZoneVersion.build(ORIGIN, [(ORIGIN, RRset(SOA, 900, (soa,)))])


def _edited(version: ZoneVersion, edits: Sequence[Edit]) -> ZoneVersion:
    """The version after those of the edits that a zone can take."""
    for owner, rdtype, ttl, rdatas in edits:
        single = rdatas[:1] if rdtype in (CNAME, DNAME) else rdatas
        present = set(version.types(owner)) - {rdtype}
        if single and (
            (rdtype == CNAME and present)
            or CNAME in present
            or {rdtype, *present} >= {NS, DNAME}
            or (owner == ORIGIN and rdtype in (CNAME, DS))
        ):
            continue
        version = version.update([(owner, rdtype, RRset.make(rdtype, ttl, single) if single else None)])
    return version


def _normal(version: ZoneVersion) -> dict[tuple[bytes, int], object]:
    """The records without what differs between two signings: times and signatures."""
    result: dict[tuple[bytes, int], object] = {}
    for owner, rrset in version.rrsets():
        if rrset.rdtype == RRSIG:
            heads = sorted(rdata[:8] + rdata[16 : 18 + len(ORIGIN)] for rdata in rrset.rdatas)
            result[owner, RRSIG] = heads
        else:
            result[owner, rrset.rdtype] = rrset
    return result


def _name(owner: bytes) -> dns.name.Name:
    return dns.name.from_wire(owner, 0)[0]


def _dnspython(owner: bytes, rrset: RRset) -> dns.rrset.RRset:
    result = dns.rrset.RRset(_name(owner), dns.rdataclass.IN, dns.rdatatype.RdataType.make(rrset.rdtype))
    result.update_ttl(rrset.ttl)
    for rdata in rrset.rdatas:
        result.add(dns.rdata.from_wire(dns.rdataclass.IN, rrset.rdtype, rdata, 0, len(rdata)))
    return result


def _hidden(owner: bytes, version: ZoneVersion) -> bool:
    """By definition: below an NS other than the apex's, or below a DNAME."""
    name = _name(owner)
    origin = _name(ORIGIN)
    while name != origin:
        name = name.parent()
        types = version.types(name.to_wire())
        if DNAME in types or (NS in types and name != origin):
            return True
    return False


def _check(unsigned: ZoneVersion, signed: ZoneVersion, keys: Sequence[SigningKey], now: float) -> None:
    own = [dns.rdata.from_wire("IN", "DNSKEY", key.dnskey, 0, len(key.dnskey)) for key in keys]
    validators = {_name(ORIGIN): dns.rdataset.from_rdata_list(3600, own)}
    chain = sorted(_name(owner) for owner in unsigned.owners() if not _hidden(owner, unsigned))
    following = dict(zip(chain, chain[1:] + chain[:1], strict=True))
    seen = set()
    for owner in signed.owners():
        name = _name(owner)
        node = signed.node(owner)
        assert node is not None
        if name not in following:
            assert not {RRSIG, NSEC} & set(node)
            continue
        seen.add(name)
        nsec = _dnspython(owner, node[NSEC])[0]
        assert nsec.next == following[name]
        delegation = NS in node and owner != ORIGIN
        shown = {rdtype for rdtype in node if not delegation or rdtype in (NS, DS, RRSIG, NSEC)}
        assert _bits(nsec.windows) == shown
        signatures: dict[int, list[bytes]] = {}
        for rdata in node[RRSIG].rdatas:
            signatures.setdefault(int.from_bytes(rdata[:2]), []).append(rdata)
        assert set(signatures) == shown - {RRSIG} - ({NS} if delegation else set())
        for covered, rdatas in signatures.items():
            rrset = _dnspython(owner, node[covered])
            for rdata in rdatas:
                rrsig = dns.rdata.from_wire("IN", "RRSIG", rdata, 0, len(rdata))
                assert rrsig.original_ttl == node[covered].ttl
                dns.dnssec.validate_rrsig(rrset, rrsig, validators, now=now)
                assert rrsig.expiration - now > POLICY.refresh - POLICY.bucket
    assert seen == set(chain)


def _bits(windows: Sequence[tuple[int, bytes]]) -> set[int]:
    return {
        (window << 8) + index * 8 + bit
        for window, block in windows
        for index, octet in enumerate(block)
        for bit in range(8)
        if octet & (0x80 >> bit)
    }


@settings(max_examples=60, derandomize=True, deadline=None)
@given(populated, steps)
def test_following_equals_signing_anew(
    start: list[Edit],
    changes: list[tuple[list[Edit], int, str | None]],
) -> None:
    signer = ZoneSigner(ORIGIN, POLICY)
    keys, now, serial = list(KEYS), NOW, 1
    unsigned = _edited(_first(), start)
    signer.set_keys(keys)
    signed = signer.sign(unsigned, now, serial)
    _check(unsigned, signed, keys, now)
    for edits, seconds, event in changes:
        now += seconds
        serial += 1
        before = signed
        unsigned = _edited(unsigned, edits)
        if event == "soa":
            soa = parse_rdata(SOA, f"ns.zone.test. h.zone.test. {serial} 3600 600 864000 {serial * 10}")
            unsigned = unsigned.update([(ORIGIN, SOA, RRset(SOA, 900, (soa,)))])
        elif event is not None:
            place = 0 if event == "swap ksk" else 1
            keys[place], keys[place + 2] = (
                keys[place + 2].to_state(KeyState.ACTIVE, now),
                keys[place].to_state(KeyState.RETIRED, now),
            )
        signer.set_keys(keys)
        signed = signer.sign(unsigned, now, serial)
        if signed is not before:
            assert signed.serial == serial
        anew = sign_zone(
            unsigned, keys, now=now, serial=signed.serial, lifetime=POLICY.lifetime, refresh=POLICY.refresh
        )
        assert _normal(signed) == _normal(anew)
        _check(unsigned, signed, keys, now)
        due = signer.next_due()
        assert due is not None
        assert due > now - POLICY.bucket


@settings(max_examples=30, derandomize=True, deadline=None)
@given(populated, st.integers(1, 5))
def test_steps_and_a_whole_pass_agree(start: list[Edit], chunk: int) -> None:
    unsigned = _edited(_first(), start)
    results = []
    for size in (chunk, 1000):
        signer = ZoneSigner(ORIGIN, POLICY)
        signer.set_keys(KEYS)
        passing = signer.signing_steps(unsigned, NOW, 5, chunk=size)
        try:
            while True:
                next(passing)
        except StopIteration as end:
            results.append(list(end.value.rrsets()))
    assert results[0] == results[1]
