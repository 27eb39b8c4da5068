"""The short cuts of text give what dnspython gives, or nothing."""

from __future__ import annotations

import dns.rdata
import dns.rdataclass
import dns.rdatatype
from hypothesis import given
from hypothesis import strategies as st

from mpcore.errors import RecordError
from mpcore.zone import owners, presentation
from mpcore.zone.rrset import check_rdata, parse_rdata, rdata_text

ORIGIN = owners.from_text("Example.")
TYPES = (1, 2, 5, 12, 15, 16, 28, 33, 39, 43, 46, 47, 48, 50, 60)

number = st.sampled_from(["0", "1", "7", "255", "256", "65535", "65536", "007", "-1", "x", "4294967296"])
name = st.sampled_from(["a", "A.b", "a.b.", ".", "@", "a..b", "-x_*", "a\\.b", "é", "x" * 64, '"q"', "a" * 60 + ".b.c"])
octet = st.sampled_from(["0", "1", "9", "10", "255", "256", "01", "", "a"])
address = st.lists(octet, min_size=3, max_size=5).map(".".join)
group = st.sampled_from(["0", "1", "abcd", "FFFF", "00a0", "12345", "", "g", "ffff"])
address6 = st.lists(group, min_size=2, max_size=9).map(":".join) | st.sampled_from(
    [
        "::",
        "::1",
        "1::",
        "::ffff:1.2.3.4",
        "::1.2.3.4",
        "1:2:3:4:5:6:7::",
        "1::2::3",
        "1:2:3:4:5:6:1.2.3.4",
        ":::",
        ":1::",
    ]
)
base64 = st.sampled_from(["AAAA", "AA==", "AAA", "A A", "!!!!", "AAECAwQFBgcICQ==", "AAAA AAAA", ""])
digest = st.sampled_from(["00" * 20, "AB" * 32, "ab" * 16 + " " + "cd" * 16, "0", "zz" * 20, "00" * 48, ""])
types = st.lists(
    st.sampled_from(["A", "NS", "RRSIG", "TYPE65285", "HSYNC3", "TYPE0", "TYPE1000", "nope", "a"]), max_size=5
)
time = st.sampled_from(["20300101000000", "20301301000000", "0", "4294967295", "4294967296", "2030", "99999999999999"])
hashed = st.sampled_from(
    ["0p9mhaveqvm6t7vbl5lop2u3t2rp3tom", "0P9MHAVEQVM6T7VBL5LOP2U3T2RP3TOM", "0p9mhaveqvm6t7vb", "0p9=", "z"]
)
string = st.sampled_from(
    ['"a b"', "a", '"a; (b)"', '"a\\"b"', '"' + "x" * 255 + '"', "x" * 256, '""', '"a"b', "é", '"a', "a\\065"]
)
words = st.lists(number | name | string | base64, max_size=6).map(" ".join)

texts = {
    1: address,
    28: address6,
    15: st.tuples(number, name).map(" ".join),
    16: st.lists(string, max_size=4).map(" ".join),
    33: st.tuples(number, number, number, name).map(" ".join),
    43: st.tuples(number, number, st.sampled_from("12340"), digest).map(" ".join),
    46: st.tuples(
        st.sampled_from(["A", "TYPE65285", "nope", "a"]), number, number, number, time, time, number, name, base64
    ).map(" ".join),
    47: st.tuples(name, types.map(" ".join)).map(" ".join),
    48: st.tuples(number, number, number, base64).map(" ".join),
    50: st.tuples(
        number, number, number, st.sampled_from(["-", "ab", "a", "AB" * 256]), hashed, types.map(" ".join)
    ).map(" ".join),
}
cases = st.sampled_from(TYPES).flatmap(lambda rdtype: st.tuples(st.just(rdtype), texts.get(rdtype, name) | words))


@given(cases, st.sampled_from([ORIGIN, None]))
def test_what_is_read_quickly_is_what_dnspython_reads(case: tuple[int, str], origin: bytes | None) -> None:
    rdtype, text = case
    read = presentation.reader(rdtype)
    assert read is not None
    line = f"owner  60 {text}"
    if not line.isascii():
        return
    try:
        found = read(line.split(), 2, line, presentation.Names(origin))
    except RecordError:
        found = None
    if found is not None:
        assert found == parse_rdata(rdtype, text, origin)
        check_rdata(rdtype, found)


def test_what_is_common_is_read_quickly() -> None:
    """Not everything goes the long way."""
    for rdtype, text in (
        (1, "192.0.2.1"),
        (2, "ns1"),
        (15, "10 mail.example."),
        (16, '"v=spf1 -all; x" "y"'),
        (16, "plain words"),
        (28, "2001:db8::1"),
        (33, "1 2 53 ns1"),
        (43, "1 13 2 " + "AB" * 32),
        (46, "A 13 2 300 20300101000000 20200101000000 1 example. AAAA AAAA"),
        (47, "b.example. A RRSIG NSEC"),
        (48, "257 3 13 AAAA AAAA"),
        (50, "1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A RRSIG"),
    ):
        read, write = presentation.reader(rdtype), presentation.writer(rdtype)
        assert read is not None
        assert write is not None
        rdata = read(text.split(), 0, text, presentation.Names(ORIGIN))
        assert rdata is not None
        assert rdata == parse_rdata(rdtype, text, ORIGIN)
        assert write(rdata) == rdata_text(rdtype, rdata)


wire_name = st.lists(st.binary(min_size=1, max_size=3) | st.sampled_from([b"Ab", b"ns1"]), max_size=3).map(
    lambda parts: b"".join([bytes((len(part),)) + part for part in parts]) + b"\0"
)
bitmaps = st.sampled_from([b"\0\x01\x40", b"\0\x06\x20\0\0\0\0\x13", b"\xff\x01\x04", b"\0\x01\0", b"\0\x01\x80", b""])
zero_groups = st.lists(st.sampled_from([b"\0\0", b"\0\x01", b"\xff\xff", b"\x12\0"]), min_size=8, max_size=8).map(
    b"".join
)
rdatas = {
    28: zero_groups,
    15: st.tuples(st.binary(min_size=2, max_size=2), wire_name).map(b"".join),
    16: st.lists(
        st.binary(max_size=5) | st.sampled_from([b'a"b', b"plain text", b"x" * 255]), min_size=1, max_size=3
    ).map(lambda parts: b"".join([bytes((len(part),)) + part for part in parts])),
    33: st.tuples(st.binary(min_size=6, max_size=6), wire_name).map(b"".join),
    43: st.tuples(
        st.binary(min_size=3, max_size=3), st.sampled_from([b"\x02" + bytes(32), b"\x01" + bytes(20), b"\5ab"])
    ).map(b"".join),
    46: st.tuples(st.binary(min_size=18, max_size=18), wire_name, st.binary(max_size=5)).map(b"".join),
    47: st.tuples(wire_name, bitmaps).map(b"".join),
    50: st.tuples(
        st.just(b"\1\0\0\0"),
        st.sampled_from([b"\0", b"\2ab"]),
        st.just(b"\x14"),
        st.binary(min_size=20, max_size=20),
        bitmaps,
    ).map(b"".join),
}
octets = st.sampled_from(TYPES).flatmap(
    lambda rdtype: st.tuples(st.just(rdtype), rdatas.get(rdtype, wire_name) | st.binary(max_size=40))
)


@given(octets)
def test_what_is_written_quickly_is_what_dnspython_writes(case: tuple[int, bytes]) -> None:
    rdtype, rdata = case
    write = presentation.writer(rdtype)
    assert write is not None
    text = write(rdata)
    if text is None:
        return
    assert text == rdata_text(rdtype, rdata)
    if rdtype != 46 or rdata[4] < 128:  # dnspython does not read TTLs with the top bit set
        value = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), text)
        assert value.to_wire() == rdata
