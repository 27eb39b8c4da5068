"""Answers at the level of messages: header, EDNS, truncation, zone choice; the data is compared in the peers' test."""

from __future__ import annotations

import struct
import tracemalloc

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mpcore.zone import answer as answers
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.rrset import RRset
from mpcore.zone.tsig import TsigKey, find_signature, sign_message
from mpcore.zone.version import ZoneVersion

PARENT = """
@       3600 SOA ns1 host 7 3600 600 86400 300
@       3600 NS ns1
ns1     3600 A 192.0.2.1
www     3600 A 192.0.2.2
www     3600 AAAA 2001:db8::2
child   3600 NS ns1.child
child   3600 DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000001
ns1.child 3600 A 192.0.2.3
big     3600 TXT "{big}"
glued   3600 NS a.glued
a.glued 3600 A 192.0.2.4
many    3600 NS ns1
alias   60 CNAME www
"""
CHILD = "@ 60 SOA ns1 host 1 3600 600 86400 30\n@ 60 NS ns1\nns1 60 A 192.0.2.3\n"


def parent() -> ZoneVersion:
    text = PARENT.replace('"{big}"', " ".join(f'"{"x" * 200}{i}"' for i in range(8)))
    text += "".join(f"many 3600 NS ns{i}.elsewhere.with.a.long.name.test.\n" for i in range(40))
    text += "".join(f"glued 3600 NS a{i}.glued\na{i}.glued 3600 A 192.0.2.{i}\n" for i in range(60))
    return read_master_text(text, "example.")


ZONES: dict[bytes, ZoneVersion | None] = {
    owners.from_text("example."): parent(),
    owners.from_text("child.example."): read_master_text(CHILD, "child.example."),
    owners.from_text("loading.example."): None,
}
RESPONDER = Responder(ZONES)


def ask(query: dns.message.Message | bytes, *, over_tcp: bool = False, udp_limit: int = 1232) -> dns.message.Message:
    wire = query if isinstance(query, bytes) else query.to_wire()
    octets = RESPONDER.respond(wire, over_tcp=over_tcp, udp_limit=udp_limit)
    return dns.message.from_wire(octets)


def make(name: str, rdtype: str = "A", **kwargs: object) -> dns.message.Message:
    return dns.message.make_query(name, rdtype, **kwargs)  # type: ignore[arg-type]


def test_flags_and_question_are_echoed() -> None:
    query = make("WwW.eXample.", flags=dns.flags.RD | dns.flags.CD | dns.flags.AD)
    answer = ask(query)
    assert query.is_response(answer)
    assert answer.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
    assert answer.question[0].name.to_text() == "WwW.eXample."
    assert answer.edns == -1
    assert answer.answer == [dns.rrset.from_text("www.example.", 3600, "IN", "A", "192.0.2.2")]


def test_no_answer_to_an_answer_or_to_less_than_a_header() -> None:
    query = make("www.example.").to_wire()
    assert RESPONDER.respond(query[:11], over_tcp=False) == b""
    assert RESPONDER.respond(query[:2] + b"\x80" + query[3:], over_tcp=False) == b""


@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        (lambda q: q[:2] + b"\x28" + q[3:], dns.rcode.NOTIMP),
        (lambda q: q[:5] + b"\x00" + q[6:], dns.rcode.FORMERR),
        (lambda q: q[:5] + b"\x02" + q[6:], dns.rcode.FORMERR),
        (lambda q: q[:-3], dns.rcode.FORMERR),
        (lambda q: q[:12] + b"\xc0\x0c" + q[13:], dns.rcode.FORMERR),
        (lambda q: q + b"\x00", dns.rcode.FORMERR),
        (lambda q: q[:11] + b"\x01" + q[12:], dns.rcode.FORMERR),
        (
            lambda q: (
                q[:12]
                + b"\x3fxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" * 4
                + b"\x00\x00\x01\x00\x01"
            ),
            1,
        ),
    ],
)
def test_malformed_queries_get_a_bare_header(change: object, rcode: int) -> None:
    octets = RESPONDER.respond(change(make("www.example.").to_wire()), over_tcp=False)  # type: ignore[operator]
    assert len(octets) == 12
    assert octets[3] & 15 == rcode
    assert octets[2] & 0x80


def test_edns() -> None:
    plain = ask(make("www.example.", use_edns=0))
    assert (plain.edns, plain.payload, plain.ednsflags) == (0, 1232, 0)
    assert ask(make("www.example.", want_dnssec=True)).ednsflags == dns.flags.DO
    newer = ask(make("www.example.", use_edns=1))
    assert newer.rcode() == dns.rcode.BADVERS
    assert not newer.answer
    option = dns.edns.GenericOption(65001, b"abc")
    assert ask(make("www.example.", use_edns=0, options=[option])).answer


def test_faulty_opt_records_are_format_errors() -> None:
    base = make("www.example.").to_wire()
    opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
    long_option = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x03\x00\x01"
    owned = b"\x01a" + opt
    for count, tail in ((2, opt + opt), (1, long_option), (1, owned), (1, opt + b"x"), (1, opt[:-1])):
        octets = RESPONDER.respond(base[:11] + bytes((count,)) + base[12:] + tail, over_tcp=False)
        assert octets[3] & 15 == dns.rcode.FORMERR
    misplaced = base[:7] + b"\x01" + base[8:] + opt
    assert RESPONDER.respond(misplaced, over_tcp=False)[3] & 15 == dns.rcode.FORMERR
    # A record beside OPT is no fault.
    extra = b"\x01a\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04abcd"
    assert dns.message.from_wire(
        RESPONDER.respond(base[:11] + b"\x02" + base[12:] + extra + opt, over_tcp=False)
    ).answer


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "ede"),
    [
        ("other.", "A", dns.rcode.REFUSED, 20),
        (".", "NS", dns.rcode.REFUSED, 20),
        ("x.loading.example.", "A", dns.rcode.SERVFAIL, 14),
        ("www.example.", "TYPE128", dns.rcode.FORMERR, 30),
        ("www.example.", "OPT", dns.rcode.FORMERR, None),
        ("www.example.", "TYPE0", dns.rcode.FORMERR, None),
        ("www.example.", "MAILB", dns.rcode.NOTIMP, None),
        ("example.", "AXFR", dns.rcode.REFUSED, None),
        ("www.example.", "IXFR", dns.rcode.NOTAUTH, None),
    ],
)
def test_refusals_say_why(name: str, rdtype: str, rcode: int, ede: int | None) -> None:
    answer = ask(make(name, rdtype, use_edns=0))
    assert answer.rcode() == rcode
    assert not answer.flags & dns.flags.AA
    codes = [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)]
    assert codes == ([] if ede is None else [ede])
    assert not answer.answer


def test_other_classes_are_refused() -> None:
    assert ask(make("version.bind.", "TXT", rdclass="CH")).rcode() == dns.rcode.REFUSED
    assert ask(make("www.example.", "A", rdclass="ANY")).rcode() == dns.rcode.REFUSED


def test_ixfr_over_udp_gets_the_soa() -> None:
    answer = ask(make("example.", "IXFR"))
    assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.SOA]
    assert ask(make("example.", "IXFR"), over_tcp=True).rcode() == dns.rcode.REFUSED


def test_a_signed_query_without_a_known_key_gets_badkey() -> None:
    query, _ = sign_message(make("www.example.").to_wire(), TsigKey(b"\x01k\x00", "hmac-sha256", b"x"), 0)
    octets = RESPONDER.respond(query, over_tcp=False)
    signature = find_signature(octets)
    assert octets[3] & 15 == dns.rcode.NOTAUTH
    assert signature is not None
    assert signature.error == 17


def test_the_closest_zone_answers_and_ds_comes_from_the_parent() -> None:
    soa = ask(make("nothing.child.example.")).authority[0]
    assert soa.name.to_text() == "child.example."
    assert soa.ttl == 30
    ds = ask(make("child.example.", "DS"))
    assert ds.flags & dns.flags.AA
    assert ds.answer[0].rdtype == dns.rdatatype.DS
    alone = Responder({owners.from_text("child.example."): ZONES[owners.from_text("child.example.")]})
    answer = dns.message.from_wire(alone.respond(make("child.example.", "DS").to_wire(), over_tcp=False))
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
    assert not answer.answer


def test_zones_are_looked_up_anew_for_each_query() -> None:
    zones: dict[bytes, ZoneVersion | None] = {}
    responder = Responder(zones)
    query = make("www.example.").to_wire()
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.REFUSED
    zones[owners.from_text("example.")] = parent()
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.NOERROR


def test_too_large_an_answer_is_truncated_over_udp_and_whole_over_tcp() -> None:
    query = make("big.example.", "TXT", use_edns=0, payload=4096)
    cut = ask(query)
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    assert cut.edns == 0
    assert ask(query, udp_limit=4096).answer
    assert ask(query, over_tcp=True).answer
    small = make("big.example.", "TXT")
    assert ask(small, udp_limit=4096).flags & dns.flags.TC


@pytest.mark.parametrize("limit", [512, 700, 1232])
def test_no_answer_exceeds_the_limit(limit: int) -> None:
    for name in ("many.example.", "glued.example.", "www.example.", "child.example.", "example.", "nope.example."):
        for rdtype in ("A", "NS", "ANY", "SOA"):
            query = make(name, rdtype, use_edns=0, payload=limit).to_wire()
            assert len(RESPONDER.respond(query, over_tcp=False)) <= limit


def test_a_referral_is_compressed_before_it_is_cut_and_needs_its_glue() -> None:
    many = ask(make("many.example.", use_edns=0))
    whole = ask(make("many.example."), over_tcp=True)
    assert len(whole.authority[0]) == 41
    if not many.flags & dns.flags.TC:
        assert len(many.authority[0]) == 41
    glued = ask(make("x.glued.example.", use_edns=0))
    assert glued.flags & dns.flags.TC  # 61 addresses below the cut do not fit (RFC 9471, 3.1)
    assert len(ask(make("x.glued.example."), over_tcp=True).additional) == 61
    # Addresses elsewhere in the zone are optional.
    for room in range(900, 1232, 8):
        answer = ask(make("many.example.", use_edns=0), udp_limit=room)
        if not answer.flags & dns.flags.TC:
            assert len(answer.authority[0]) == 41


def test_any_gets_one_rrset_over_udp_and_all_over_tcp() -> None:
    assert len(ask(make("www.example.", "ANY")).answer) == 1
    assert {rrset.rdtype for rrset in ask(make("www.example.", "ANY"), over_tcp=True).answer} == {1, 28}
    assert {rrset.rdtype for rrset in ask(make("example.", "ANY"), over_tcp=True).answer} == {2, 6}
    assert ask(make("nope.example.", "ANY")).rcode() == dns.rcode.NXDOMAIN


def test_a_chain_is_bounded() -> None:
    text = CHILD + "".join(f"c{i} 60 CNAME c{i + 1}\n" for i in range(40))
    zone = read_master_text(text, "example.")
    octets = Responder({zone.origin: zone}).respond(make("c0.example.").to_wire(), over_tcp=True)
    assert len(dns.message.from_wire(octets).answer) == 17


def test_answers_at_the_root() -> None:
    root = read_master_text(
        "@ 60 SOA ns. host. 1 2 3 4 5\n@ 60 NS ns.\ntest 60 NS ns.test.\nns.test 60 A 192.0.2.9\n", "."
    )
    responder = Responder({root.origin: root})
    soa = dns.message.from_wire(responder.respond(make(".", "SOA").to_wire(), over_tcp=False))
    assert soa.answer[0].name.to_text() == "."
    referral = dns.message.from_wire(responder.respond(make("www.test.").to_wire(), over_tcp=False))
    assert referral.authority[0].name.to_text() == "test."
    assert referral.additional[0].name.to_text() == "ns.test."
    nothing = dns.message.from_wire(responder.respond(make("nope.").to_wire(), over_tcp=False))
    assert nothing.rcode() == dns.rcode.NXDOMAIN
    assert struct.unpack("!H", responder.respond(make("test.", "DS").to_wire(), over_tcp=False)[2:4])[0] & 0x0400


def test_a_remembered_answer_is_made_to_fit_the_query() -> None:
    """Id, spelling, EDNS, DO and the size allowed are those of the query, whatever was asked before."""
    zones: dict[bytes, ZoneVersion | None] = {owners.from_text("example."): parent()}
    for name, rdtype in (
        ("wWw.example.", "A"),
        ("nope.www.example.", "A"),
        ("child.example.", "A"),
        ("big.example.", "TXT"),
    ):
        queries = [
            make(spelling, rdtype, **options)
            for spelling in (name, name.upper(), name)
            for options in (
                {},
                {"use_edns": 0, "payload": 512},
                {"use_edns": 0, "payload": 4096},
                {"want_dnssec": True},
                {"flags": dns.flags.RD},
            )
        ]
        warm = Responder(zones)
        for query in queries * 2:
            for over_tcp in (False, True):
                fresh = Responder(zones).respond(query.to_wire(), over_tcp=over_tcp, udp_limit=4096)
                assert warm.respond(query.to_wire(), over_tcp=over_tcp, udp_limit=4096) == fresh
        any_query = make(name, "ANY")
        for over_tcp in (False, True, False):
            expected = Responder(zones).respond(any_query.to_wire(), over_tcp=over_tcp)
            assert warm.respond(any_query.to_wire(), over_tcp=over_tcp) == expected


def test_a_remembered_answer_is_not_given_for_another_version() -> None:
    origin = owners.from_text("example.")
    zones: dict[bytes, ZoneVersion | None] = {origin: parent()}
    responder = Responder(zones)
    query = make("new.example.").to_wire()
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.NXDOMAIN
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.NXDOMAIN
    zones[origin] = parent().update([(owners.from_text("new.example."), 1, RRset.make(1, 60, [b"abcd"]))])
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.NOERROR
    zones[owners.from_text("new.example.")] = None  # a closer zone, without data
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.SERVFAIL
    del zones[owners.from_text("new.example.")]
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.NOERROR
    zones[origin] = None
    assert responder.respond(query, over_tcp=False)[3] & 15 == dns.rcode.SERVFAIL


def test_remembered_answers_are_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "KEPT_OCTETS", 1 << 18)
    responder = Responder(ZONES)
    respond = responder.respond
    query = make("aaaaaaaa.example.", "A", want_dnssec=True).to_wire()
    tracemalloc.start()
    try:
        for number in range(2000):
            respond(query[:13] + b"%08d" % number + query[21:], over_tcp=False)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 1 << 18


@pytest.mark.parametrize("rdtype", ["KEY", "NSEC", "RRSIG"])
def test_types_that_may_stand_beside_a_cname_are_not_looked_for_at_its_target(rdtype: str) -> None:
    """RFC 4035, section 2.5."""
    answer = ask(make("alias.example.", rdtype))
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
