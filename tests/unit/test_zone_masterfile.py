"""Master files; dnspython's reader and named-compilezone's conventions are the yardstick."""

from __future__ import annotations

from pathlib import Path

import dns.zone
import pytest

from mpcore.errors import MasterFileError, ZoneError
from mpcore.zone import owners
from mpcore.zone.masterfile import (
    MAX_INCLUDE_DEPTH,
    read_master_file,
    read_master_text,
    write_master_file,
    write_master_text,
)
from mpcore.zone.rrset import RRset
from mpcore.zone.version import ZoneVersion, diff

ORIGIN = owners.from_text("example.")
SOA = "@ 3600 SOA ns1 host 7 3600 600 86400 300\n"

RICH = r"""
; a comment, "with a quote" (and a parenthesis
$TTL 1h
@   IN SOA ns1.example. host\.master.example. ( ; serial etc.
        7       ; serial
        3600 600
        1w 300 )
        NS  ns1
        NS  NS2.Example.Net.
    300 MX  10 mail
        TXT ( "semicolon ; (inside) \" quote"
              "second" )
ns1     A   192.0.2.1 ; trailing
    60 IN  AAAA 2001:db8::1
    IN 60  HINFO "a b" c
$ORIGIN sub.example.
www     CNAME www.example.
w\.w    A   192.0.2.2
\097    A   192.0.2.3
$ORIGIN example.
$TTL 60
www     A   192.0.2.4
_s._tcp SRV 1 2 53 ns1
type    TYPE65400 \# 4 ( 0102
              0304 )
known   A \# 4 c0000205
dnskey  DNSKEY ( 257 3 15
        l02Woi0iS8Aa25FQkUd9RMzZHJpBo
        RQwAQEX1SxZJA4= )
WwW.UPPER A 192.0.2.6
caa     CAA 0 issue "ca.example; x=y"
@       NSEC a A NS
"""


def contents(zone: ZoneVersion) -> set[tuple[bytes, int, int, bytes]]:
    return {(owner, rrset.rdtype, rrset.ttl, rdata) for owner, rrset in zone.rrsets() for rdata in rrset.rdatas}


def judged(text: str) -> set[tuple[bytes, int, int, bytes]]:
    zone = dns.zone.from_text(text, origin="example.", relativize=False, check_origin=False)
    return {
        (owner.to_digestable(), int(rdataset.rdtype), rdataset.ttl, rdata.to_wire())
        for owner, node in zone.items()
        for rdataset in node
        for rdata in rdataset
    }


def test_a_rich_file_is_read_as_dnspython_reads_it() -> None:
    zone = read_master_text(RICH, "example.")
    assert contents(zone) == judged(RICH)
    assert zone.record_count == 19
    txt = zone.get(ORIGIN, 16)
    assert txt is not None
    assert txt.rdatas[0] == b'\x1fsemicolon ; (inside) " quote\x06second'.replace(b"\x1f", bytes((28,)))


def test_what_is_written_is_read_back() -> None:
    zone = read_master_text(RICH, "example.")
    for generic in (True, False):
        text = write_master_text(zone, generic)
        assert text.startswith("example.\t3600\tIN\tSOA\t")
        assert diff(zone, read_master_text(text)) == []
    assert contents(zone) == judged(write_master_text(zone))


def test_private_types_are_written_so_that_every_server_can_read_them() -> None:
    zone = read_master_text(SOA + "@ 60 HSYNC3 ON alpha agent.alpha. .\n", "example.")
    assert "TYPE65285\t\\# " in write_master_text(zone)
    assert "HSYNC3\tON " in write_master_text(zone, generic_private=False)


def test_ttls_come_from_the_line_then_the_directive_then_the_line_before_then_the_soa() -> None:
    zone = read_master_text(
        "@ SOA ns1 host 7 3600 600 86400 300\na A 192.0.2.1\nb 60 A 192.0.2.1\nc A 192.0.2.1\n$TTL 2m\nd A 192.0.2.1\n",
        "example.",
    )
    found = {owners.to_text(owner)[0]: rrset.ttl for owner, rrset in zone.rrsets()}
    assert found == {"e": 300, "a": 300, "b": 60, "c": 60, "d": 120}


def test_the_zone_is_the_owner_of_the_soa_when_no_origin_is_given() -> None:
    text = "a.b.example. 60 A 192.0.2.1\nb.example. 60 SOA . . 1 2 3 4 5\n"
    assert read_master_text(text).origin == owners.from_text("b.example.")
    assert read_master_text("$ORIGIN example.\n" + SOA).origin == ORIGIN
    with pytest.raises(MasterFileError, match="no origin"):
        read_master_text(SOA)
    with pytest.raises(MasterFileError, match="no origin"):
        read_master_text("example. 60 NS ns1\n")
    with pytest.raises(ZoneError, match="no SOA"):
        read_master_text("a.example. 60 A 192.0.2.1\n")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("\n\na 60 A 192.0.2\n", 4, "not an address"),
        ("a 60 AAAA 192.0.2.1.\n", 2, "not an address"),
        ("a 60 NOTYPE x\n", 2, "not a record type"),
        ("a 60 CH A 192.0.2.1\n", 2, "class CH"),
        ("a 60\n", 2, "before its type"),
        ("a..b 60 A 192.0.2.1\n", 2, "not a domain name"),
        ('a 60 TXT "open\n', 2, "quoted string"),
        ("a 60 TXT x\\\n", 2, "backslash"),
        ("a 60 TXT (\nx\n", 2, "not closed"),
        ("a 60 TXT x )\n", 2, "without an opening"),
        ("a 60 MX 10 (\n\n mail. x )\n", 2, "MX"),
        ("other. 60 A 192.0.2.1\n", 2, "not in example."),
        ("$TTL\n", 2, r"\$TTL with 0"),
        ("$TTL x\n", 2, "not a TTL"),
        ("$UNKNOWN 1-5\n", 2, "not a directive"),
        ("$INCLUDE /etc/passwd\n", 2, "not possible here"),
        ("a 60 TYPE65400 \\# 3 00\n", 2, "TYPE65400"),
        ("a 60 DS 1 2\n", 2, "DS"),
        ("a 60 TXT (" + "xx\n" * 200_000, 2, "too long"),
    ],
    ids=lambda value: value[:12].strip() if isinstance(value, str) else None,
)
def test_errors_name_file_and_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(MasterFileError, match=reason) as caught:
        read_master_text(SOA + text, "example.", file="here")
    assert (caught.value.file, caught.value.line) == ("here", line)
    assert str(caught.value).startswith(f"here:{line}: ")


def test_a_first_record_without_owner_or_ttl_is_refused() -> None:
    with pytest.raises(MasterFileError, match="no owner"):
        read_master_text(" 60 A 192.0.2.1\n", "example.")
    with pytest.raises(MasterFileError, match="no TTL"):
        read_master_text("a A 192.0.2.1\n", "example.")


def test_include_keeps_origin_and_owner(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "zone").write_text(
        SOA + "$TTL 60\nwww A 192.0.2.1\n$INCLUDE sub/part inner\n    A 192.0.2.2\n$INCLUDE sub/part\n"
    )
    (tmp_path / "sub" / "part").write_text("x A 192.0.2.3\n$INCLUDE leaf\n$ORIGIN lost.example.\n")
    (tmp_path / "sub" / "leaf").write_bytes(b"y A 192.0.2.4\r\n")
    zone = read_master_file(tmp_path / "zone", ORIGIN)
    names = [owners.to_text(owner).removesuffix("example.") for owner in zone.owners()]
    assert names == ["", "x.inner.", "y.inner.", "www.", "x.", "y."]
    assert zone.get(owners.from_text("www.example."), 1) == RRset.make(
        1, 60, [b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"]
    )


def test_include_is_bounded_and_its_faults_are_located(tmp_path: Path) -> None:
    (tmp_path / "loop").write_text("\n$INCLUDE loop\n")
    with pytest.raises(MasterFileError, match=f"deeper than {MAX_INCLUDE_DEPTH}") as caught:
        read_master_file(tmp_path / "loop", "example.")
    assert caught.value.line == 2
    (tmp_path / "zone").write_text(SOA + "$INCLUDE missing\n")
    with pytest.raises(MasterFileError, match="No such file") as caught:
        read_master_file(tmp_path / "zone", "example.")
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "zone"), 2)
    (tmp_path / "latin").write_bytes(SOA.encode() + b"a 60 TXT \xe9\n")
    with pytest.raises(MasterFileError, match="UTF-8") as caught:
        read_master_file(tmp_path / "latin", "example.")
    assert caught.value.line == 2
    with pytest.raises(ZoneError):
        read_master_text(SOA, "no..name")


def test_private_types_are_generic_where_rdata_names_them(tmp_path: Path) -> None:
    text = (
        "example. 60 IN SOA ns.example. host.example. 1 2 3 4 5\n"
        "example. 60 IN NSEC hsync3.example. NS SOA RRSIG NSEC TYPE65285 TYPE65286\n"
        "example. 60 IN RRSIG TYPE65285 15 1 60 20300101000000 20200101000000 1 hsync3. AAAA\n"
        "example. 60 IN CSYNC 1 0 NS TYPE65324\n"
    )
    version = read_master_text(text)
    lines = write_master_text(version).splitlines()
    assert sorted(" ".join(line.split()) for line in lines) == sorted(text.splitlines())
    path = tmp_path / "zone"
    for _ in range(2):
        write_master_file(path, version)
        assert path.read_text() == write_master_text(version)
    assert [entry.name for entry in tmp_path.iterdir()] == ["zone"]
    with pytest.raises(FileNotFoundError):
        write_master_file(tmp_path / "missing" / "zone", version)


def test_a_fault_in_an_included_file_names_both_files(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text(SOA + "\n$INCLUDE part\n")
    (tmp_path / "part").write_text("a 60 A 192.0.2.1\n$INCLUDE leaf\n")
    (tmp_path / "leaf").write_text("\n\nb 60 A 192.0.2\n")
    with pytest.raises(MasterFileError) as caught:
        read_master_file(tmp_path / "zone", "example.")
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "leaf"), 3)
    assert f"(included from {tmp_path / 'part'}:2)" in str(caught.value)
    assert f"(included from {tmp_path / 'zone'}:3)" in str(caught.value)
    (tmp_path / "leaf").write_bytes(b"\n\xff\n")
    with pytest.raises(MasterFileError, match="not UTF-8") as caught:
        read_master_file(tmp_path / "zone", "example.")
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "leaf"), 2)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 16])
def test_where_a_file_is_cut_into_pieces_does_not_matter(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcore.zone.masterfile._PIECES", size)
    for text in (RICH, RICH.replace("\n", "\r\n"), RICH.rstrip("\n")):
        (tmp_path / "zone").write_bytes(text.encode())
        assert contents(read_master_file(tmp_path / "zone", "example.")) == judged(RICH)


def test_the_length_of_a_line_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text(SOA + "# " * 300_000)
    with pytest.raises(MasterFileError, match="line is too long") as caught:
        read_master_file(tmp_path / "zone", "example.")
    assert caught.value.line == 2


def test_odd_places_of_parentheses_blanks_and_classes() -> None:
    zone = read_master_text(
        SOA
        + "( a 60 A 192.0.2.1 )\n"  # as in BIND: the owner may stand behind a parenthesis and a blank
        + "(b\n60\nIN\nA 192.0.2.2)\n"
        + "\t( 60 ) CLASS1 TYPE1 \\# ( 4 c0 00 02 03 )\n"
        + "c class1 1h30m a 192.0.2.4;x\n"
        + 'd 60 TXT "a;(" b\\;\\( ; "\n'
        + "@ 0 NS @\n",
        "example.",
    )
    found = [line.replace("\t", " ") for line in write_master_text(zone).splitlines()]
    assert found[1:] == [
        "example. 0 IN NS example.",
        "a.example. 60 IN A 192.0.2.1",
        "b.example. 60 IN A 192.0.2.2",
        "b.example. 60 IN A 192.0.2.3",
        "c.example. 5400 IN A 192.0.2.4",
        'd.example. 60 IN TXT "a;(" "b;("',
    ]


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    zone = read_master_text(SOA, "example.")
    path, link = tmp_path / "zone", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    (tmp_path / ".zone.new").symlink_to(tmp_path / "elsewhere")  # what somebody else left there is not followed
    write_master_file(link, zone)
    assert link.is_symlink()
    assert path.read_text() == write_master_text(zone)
    assert path.stat().st_mode & 0o7777 == 0o640
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "zone"]


def test_a_file_that_cannot_be_written_whole_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "zone"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_master_file(path, read_master_text(SOA, "example."))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["zone"]
