"""Owners, RRsets and serials; dnspython is the judge of names, canonical order and text."""

from __future__ import annotations

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from mpcore.errors import RecordError
from mpcore.zone import owners, serial
from mpcore.zone.rrset import (
    RRset,
    canonical_rdata,
    check_rdata,
    expand_rdata,
    parse_rdata,
    parse_record,
    record_text,
    type_from_text,
)

RECORDS = """
a.example.	3600	IN	A	192.0.2.1
a.example.	3600	IN	AAAA	2001:db8::1
a.example.	3600	IN	NS	ns1.Example.net.
a.example.	3600	IN	MX	10 mail.example.
a.example.	3600	IN	TXT	"one two" "three"
a.example.	3600	IN	SRV	1 2 53 ns1.example.
a.example.	3600	IN	CAA	0 issue "ca.example"
a.example.	3600	IN	DS	4242 13 2 ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB
a.example.	3600	IN	CSYNC	66 3 A NS AAAA
a.example.	3600	IN	TYPE65400	\\# 3 abcdef
a.example.	3600	IN	NSEC	b.example. A RRSIG NSEC
a.example.	3600	IN	DNSKEY	257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=
""".strip().splitlines()


@pytest.mark.parametrize("line", RECORDS)
def test_text_survives_a_round_trip(line: str) -> None:
    owner, rdtype, ttl, rdata = parse_record(line)
    assert record_text(owner, rdtype, ttl, rdata) == line
    theirs = dns.rdata.from_text("IN", dns.rdatatype.RdataType.make(rdtype), line.split(None, 4)[4])
    assert rdata == theirs.to_wire()
    assert RRset.make(rdtype, ttl, [rdata]).texts(owner) == [line]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a.example.", "before its type"),
        ("a.example. 3600", "before its type"),
        ("a.example. 3600 IN NOTYPE x", "not a record type"),
        ("a.example. 3600 IN ANY x", "not a type that a zone can hold"),
        ("a.example. 3600 CH A 192.0.2.1", "not a record type"),
        ("a.example. 1x IN A 192.0.2.1", "not a TTL"),
        ("a.example. IN A 192.0.2", "A"),
        ("a.example. IN A 192.0.2.1 192.0.2.2", "A"),
        ("a..example. IN A 192.0.2.1", "not a domain name"),
        ("a.example. IN A \\# 3 000000", "A"),
        ("a.example. IN TXT " + "x" * 200_001, "200000"),
    ],
)
def test_faulty_text_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        parse_record(text)


def test_class_and_ttl_stand_in_either_order_or_not_at_all() -> None:
    expected = (b"\x01a\x07example\x00", 1, 60, b"\xc0\x00\x02\x01")
    assert parse_record("a.example. IN 1m A 192.0.2.1") == expected
    assert parse_record("a.example. 60 in A 192.0.2.1 ; comment") == expected
    assert parse_record("a 60 A 192.0.2.1", b"\x07example\x00") == expected
    assert parse_record("a.example. A 192.0.2.1")[2] == 0
    assert parse_record("@ NS @", b"\x07example\x00") == (b"\x07example\x00", 2, 0, b"\x07example\x00")


def test_an_rrset_is_ordered_and_without_duplicates() -> None:
    upper, lower = b"\x01B\x00", b"\x01b\x00"
    rrset = RRset.make(2, 60, [b"\x01c\x00", upper, b"\x01a\x00", lower])
    assert rrset.rdatas == (b"\x01a\x00", upper, b"\x01c\x00")
    assert rrset.without([lower]) == RRset(2, 60, (b"\x01a\x00", b"\x01c\x00"))
    assert rrset.without(rrset.rdatas) is None
    assert rrset.adding([lower]) == rrset
    # A private type is octets: case is kept and matters.
    assert len(RRset.make(65400, 60, [upper, lower]).rdatas) == 2


def test_the_order_is_that_of_dnspython() -> None:
    texts = ["20 b.", "10 B.", "10 a.b.", "10 a.", "5 zz."]
    rdatas = [parse_rdata(15, text) for text in texts]
    theirs = sorted(dns.rdata.from_text("IN", "MX", text) for text in texts)
    assert list(RRset.make(15, 1, rdatas).rdatas) == [rdata.to_wire() for rdata in theirs]


@pytest.mark.parametrize(
    ("rdtype", "ttl", "rdatas"),
    [(1, 60, []), (0, 60, [b""]), (65536, 60, [b""]), (1, -1, [bytes(4)]), (1, 1 << 31, [bytes(4)]), (1, 1, [b"abc"])],
)
def test_an_impossible_rrset_is_refused(rdtype: int, ttl: int, rdatas: list[bytes]) -> None:
    with pytest.raises(RecordError):
        RRset.make(rdtype, ttl, rdatas)


def test_signatures_take_their_ttl_from_the_original_ttl_field() -> None:
    def rrsig(covered: int, ttl: int) -> bytes:
        return covered.to_bytes(2, "big") + b"\x0f\x02" + ttl.to_bytes(4, "big") + bytes(10) + b"\x00sig"

    rrset = RRset.make(46, 9999, [rrsig(6, 3600), rrsig(1, 300)])
    assert rrset.ttl == 300
    assert [line.split("\t")[1] for line in rrset.texts(b"\x00")] == ["300", "3600"]


def test_canonical_form_lowers_names_where_the_rfc_says_so() -> None:
    name = b"\x03WwW\x00"
    assert canonical_rdata(15, b"\x00\x0a" + name) == b"\x00\x0a\x03www\x00"
    assert canonical_rdata(6, name + name + b"A" * 20) == b"\x03www\x00" * 2 + b"A" * 20
    assert canonical_rdata(46, b"A" * 18 + name + b"SIG") == b"A" * 18 + b"\x03www\x00SIG"
    assert canonical_rdata(35, b"ABCD\x01U\x01S\x01R" + name) == b"ABCD\x01U\x01S\x01R\x03www\x00"
    for rdtype in (47, 64, 65285, 16):  # NSEC, SVCB, a private type, text
        rdata = name + b"\x00\x01\x40" if rdtype == 47 else b"\x00\x01" + name if rdtype == 64 else b"\x03ABC"
        assert canonical_rdata(rdtype, rdata) == rdata


@pytest.mark.parametrize(
    ("rdtype", "rdata"),
    [
        (2, b""),
        (2, b"\x03ns1"),
        (2, b"\xc0\x0c"),
        (2, b"\x00\x00"),
        (6, b"\x00\x00" + bytes(19)),
        (15, b"\x00"),
        (16, b""),
        (16, b"\x05abc"),
        (13, b"\x01a"),
        (28, bytes(15)),
        (46, bytes(18)),
        (2, b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3f" + b"d" * 63 + b"\x00"),
    ],
)
def test_rdata_that_does_not_fit_its_type_is_refused(rdtype: int, rdata: bytes) -> None:
    with pytest.raises(RecordError):
        check_rdata(rdtype, rdata)
    with pytest.raises(RecordError):
        expand_rdata(rdtype, rdata, 0, len(rdata))


def test_compressed_names_are_expanded_in_the_types_of_rfc_3597() -> None:
    message = b"\x03ns1\x07Example\x00"
    for rdtype, before, after in ((2, b"", b""), (17, b"\x00", b""), (33, bytes(6), b""), (24, bytes(18), b"sig")):
        rdata = before + b"\x01x\xc0\x04" + after
        expanded = expand_rdata(rdtype, message + rdata, len(message), len(rdata))
        assert expanded == before + b"\x01x\x07Example\x00" + after


def test_types_have_names_and_numbers() -> None:
    assert type_from_text("TYPE65400") == 65400
    assert type_from_text("aaaa") == 28
    for text in ("TYPE0", "TYPE65536", "OPT", "TSIG", "AXFR", "", "X Y"):
        with pytest.raises(RecordError):
            type_from_text(text)


def test_blanks_stand_anywhere_between_the_digits_of_the_generic_form() -> None:
    assert parse_record(r"a. TYPE65300 \# 3 0 102	0 3")[3] == b"\1\2\3"
    with pytest.raises(RecordError):
        parse_record(r"a. TYPE65300 \# 1 0 1 0")


def test_whatever_dnspython_raises_about_text_is_a_record_error() -> None:
    with pytest.raises(RecordError):  # struct.error in dnspython 2.8
        parse_record("a. LOC 52 22 23.000 N 4 53 32.000 E -210000m 10m")


def test_undecodable_rdata_has_a_generic_text() -> None:
    assert record_text(b"\x00", 1, 5, b"ab") == ".\t5\tIN\tA\t\\# 2 6162"


# -- owners ------------------------------------------------------------------------------------------------------------


def test_names_are_those_of_dnspython() -> None:
    for text in (
        ".",
        "a.",
        "WwW.Example.",
        "*.a.",
        r"a\.b.c.",
        r"\000\001.x.",
        r"\"q\".x.",
        "a-b_c.0.",
        "x" * 63 + ".",
    ):
        name = dns.name.from_text(text)
        owner = owners.from_text(text)
        assert owner == name.to_digestable()
        assert dns.name.from_text(owners.to_text(owner)) == name
        assert owners.labels(owner) == tuple(label.lower() for label in name.labels[:-1])
    assert owners.from_text("www", b"\x07example\x00") == b"\x03www\x07example\x00"


def test_relations_between_names() -> None:
    www, example, xample = (owners.from_text(text) for text in ("www.example.", "example.", "xample."))
    assert owners.is_subdomain(www, example)
    assert owners.is_subdomain(example, example)
    assert owners.is_subdomain(www, owners.ROOT)
    assert not owners.is_subdomain(example, www)
    assert not owners.is_subdomain(example, xample)
    assert not owners.is_subdomain(b"\x02a\x01\x00", b"\x01\x00\x00"[:2])  # the end of a label is no label
    assert owners.parent(www) == example
    assert owners.parent(owners.ROOT) == owners.ROOT
    assert owners.label_count(owners.wildcard_below(example)) == 1
    assert owners.is_wildcard(owners.wildcard_below(example))
    assert owners.relative_key(xample, example) is None


@pytest.mark.parametrize(
    "octets", [b"", b"\x03ab", b"\x40", b"\x01a\x00x", b"\xc0\x00", b"\x3f" + b"a" * 63 + b"\x00x"]
)
def test_octets_that_are_no_owner_are_refused(octets: bytes) -> None:
    with pytest.raises(RecordError):
        owners.labels(octets)


@pytest.mark.parametrize(
    "message",
    [
        b"\xc0\x00",  # to itself
        b"\xc0\x02\x00",  # forwards
        b"\x01a\xc0\x00",  # round in circles
        b"\x01a",
        b"\x41a\x00",
        b"\xc0",
    ],
)
def test_pointers_lead_strictly_backwards(message: bytes) -> None:
    with pytest.raises(RecordError):
        owners.read_name(message, 0)


def test_a_name_longer_than_255_octets_is_refused_also_when_compressed() -> None:
    label = b"\x3f" + b"a" * 63
    message = label * 3 + b"\x00" + label + b"\xc0\x00"
    with pytest.raises(RecordError, match="255"):
        owners.read_name(message, 193)
    assert (
        owners.read_name(message[:193] + b"\x3c" + b"b" * 60 + b"\xc0\x00", 193)[0]
        == b"\x3c" + b"b" * 60 + label * 3 + b"\x00"
    )


# -- serials -----------------------------------------------------------------------------------------------------------


def test_serial_arithmetic_wraps() -> None:
    assert serial.compare(1, 1) == 0
    assert serial.compare(2, 1) == 1
    assert serial.compare(0, 0xFFFFFFFF) == 1
    assert serial.compare(0xFFFFFFFF, 0) == -1
    assert serial.compare(0, 1 << 31) == serial.compare(1 << 31, 0) == -1
    assert serial.add(0xFFFFFFFF, 1) == 0
    with pytest.raises(ValueError, match="serial"):
        serial.add(1, 1 << 31)


@pytest.mark.parametrize(
    ("previous", "policy", "inbound", "expected"),
    [
        (None, "keep", 7, 7),
        (7, "keep", 9, 9),
        (9, "keep", 9, 10),
        (9, "persist", 3, 10),
        (9, "persist", None, 10),
        (0xFFFFFFFF, "keep", None, 0),
        (None, "persist", None, 1000),
        (None, "unixtime", 7, 1000),
        (7, "unixtime", None, 1000),
        (1000, "unixtime", None, 1001),
        (5000, "unixtime", 6000, 5001),
        (None, "dateserial", 7, 1970010100),
        (7, "dateserial", 9, 1970010100),
        (1970010100, "dateserial", None, 1970010101),
        (1970010199, "dateserial", None, 1970010200),
        (1970010200, "dateserial", 1970010300, 1970010201),
        (1970010100 + (1 << 31), "dateserial", None, 1970010101 + (1 << 31)),
    ],
)
def test_the_next_serial_is_newer(
    previous: int | None, policy: serial.SerialPolicy, inbound: int | None, expected: int
) -> None:
    found = serial.next_serial(previous, policy, 1000.9, inbound=inbound)
    assert found == expected
    assert previous is None or serial.is_newer(found, previous)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(1.8e9, 2027011500), (1798761599.9, 2026123100), (1798761600, 2027010100), (1709164800.0, 2024022900)],
)
def test_a_dateserial_is_the_day_in_utc(now: float, expected: int) -> None:
    assert serial.next_serial(None, "dateserial", now) == expected
    assert serial.next_serial(expected, "dateserial", now) == expected + 1
    assert serial.next_serial(expected + 40, "dateserial", now + 86400) > expected + 41


def test_a_hundred_changes_of_a_day_count_on_and_the_next_day_does_not_go_back() -> None:
    now, value = 1.8e9, None
    seen = []
    for _ in range(150):
        value = serial.next_serial(value, "dateserial", now)
        seen.append(value)
    assert seen == list(range(2027011500, 2027011650))
    assert serial.next_serial(value, "dateserial", now + 86400) == 2027011650
    assert serial.next_serial(value, "dateserial", now + 2 * 86400) == 2027011700
