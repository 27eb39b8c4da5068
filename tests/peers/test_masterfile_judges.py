"""Master files with odd syntax, read by us, by named-compilezone and by ldns-read-zone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.ttl
import pytest

from mpcore.errors import ZoneError
from mpcore.zone.masterfile import read_master_file

pytestmark = pytest.mark.peer

HEAD = "$ORIGIN example.\n$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns.test.\n"

# Text behind HEAD; all of it is one zone.
GOOD = r"""
a A 192.0.2.1
  A 192.0.2.2 ; blank owner
	60 IN AAAA 2001:DB8:0:0::1
b IN 1h30m A 192.0.2.3
c 1W2d3H4m5S CLASS1 TYPE1 \# 4 ( C0 00
   02 04 )
( d 7 A 192.0.2.5 )
(e
  8 A
  192.0.2.6)
@ MX 10 @
f MX 0 ( mail ; comment )
 )
g TXT "semi;colon" plain "par(en)" "quo\"te" \; "" \065\\ "a b"
h SRV 1 2 53 ns1
$ORIGIN sub
i CNAME j.k
w\.w A 192.0.2.7
\097\032b A 192.0.2.8
$ORIGIN example.
j TYPE65400 \# 0
k TYPE731 \# 6 abcd ( ef 01 23 45 )
* TXT wild
l DS 1 13 2 ( ABABABABABABABABABABABABABABABAB
    abababababababababababababababab )
m CAA 0 issue "ca.example.net; policy=ev"
n LOC 51 30 12.748 N 0 7 39.611 W 0.00m 0.00m 0.00m 0.00m
o NAPTR 100 10 "u" "sip+E2U" "!^.*$!sip:x@y!" .
p HINFO "a b" c
q RP host text
r SSHFP 1 1 ( 00112233445566778899aabbccddeeff00112233 )
s TLSA 3 1 1 0011223344556677889900112233445566778899001122334455667788990011
t SVCB 1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.1
u HTTPS 0 svc
v DNSKEY 257 3 15 ( l02Woi0iS8Aa25FQkUd9RMzZHJpBo
    RQwAQEX1SxZJA4= )
x RRSIG A 13 2 300 20300101000000 20200101000000 1 example. AAAA
y NSEC z A RRSIG TYPE1000
z NSEC3PARAM 1 0 0 -
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NSEC3 1 0 0 AB 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG
dup A 192.0.2.9
dup A 192.0.2.9
UPPER.Case A 192.0.2.10
$TTL 2h
late A 192.0.2.11
"""

GENERATED = r"""
$GENERATE 1-3 host$ A 192.0.2.$
$GENERATE 0-20/7 n${10,5,x} 60 IN AAAA 2001:db8::${0,4,X}
$GENERATE 1-2 p${0,7,n}.ip6 PTR h${-1}.example.
$GENERATE 1-2 q${0,3,N}.ip6 IN 77 PTR h${0,0,o}.example.
$GENERATE 1-2 a$$b\$c${1}d$ TXT "t $ \$ $$ x"
$GENERATE 300-301 w$ CNAME $.w
$GENERATE 1-2 m$ MX "10 mail$"
$GENERATE 10-11 d${-20,4,d} TXT ${-20,4,d}
$GENERATE 10-11 r${0,0,d}.${0,2,d} A 10.0.0.$ ; comment
$GENERATE 1-2 s${-5}x$ TXT ${-5,3}$
$GENERATE 1-2 t${0,3,o}-${0,3,x} TXT ${-5,3,x}
$GENERATE 1-2 u$ TYPE65400 "\# 1 0$"
$GENERATE 254-257 v${0,0,n} TXT ${0,3,N}|${0,5,n}|${1,1,n}
$GENERATE 0-1 x$ TXT \$$|\\$|\065$
$GENERATE 0-1 y$ CLASS1 TXT "\"a b\" c$"
$GENERATE 1-2 z${-5,3,n} 7 A 192.0.2.4
p 60 A 192.0.2.1
$generate 1-1 aa$ 99 txt a
 A 192.0.2.3
"""

BAD = [
    "a A 192.0.2",
    "a A 192.0.2.1 192.0.2.2",
    "a AAAA 1::2::3",
    "a MX mail",
    "a NOTYPE x",
    "a CH A 192.0.2.1",
    'a TXT "open',
    "a TXT ( open",
    "a TXT closed )",
    "a..b A 192.0.2.1",
    "a" * 64 + " A 192.0.2.1",
    "a TYPE65400 \\# 3 00",
    "a DS 1 13 2 zz",
    "a RRSIG A 13 2 300 20301301000000 20200101000000 1 example. AAAA",
    "a CNAME b\na A 192.0.2.1",
    "$TTL x",
    "$ORIGIN",
    "$UNKNOWN x",
    "$INCLUDE missing",
    "@ SOA ns h 1 2 3 4 5\na SOA ns h 1 2 3 4 5",
    "$GENERATE 5-1 a$ A 192.0.2.$",
    "$GENERATE 1-5/0 a$ A 192.0.2.$",
    "$GENERATE 1- a$ A 192.0.2.$",
    "$GENERATE 1-2 a${1,2,q} A 192.0.2.1",
    "$GENERATE 1-2 a${} A 192.0.2.1",
    "$GENERATE 1-2 a${1,2 A 192.0.2.1",
    "$GENERATE 1-2 a${1,200,d} A 192.0.2.1",
    "$GENERATE 1-2 a$ MX 10 mail$",
    "$GENERATE 255-256 a$ A 192.0.2.$",
    "$GENERATE 2147483646-2147483647 b TXT ${1}",
]


def compiled(path: Path) -> subprocess.CompletedProcess[str]:
    command = ["named-compilezone", "-i", "none", "-k", "ignore", "-n", "ignore", "-s", "full", "-o", "-", "example."]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False, cwd=path.parent)


def records(text: str) -> set[tuple[bytes, int, int, bytes]]:
    """The records of lines with owner, TTL, class, type and RDATA, as octets."""
    found = set()
    for line in text.splitlines():
        if line.startswith(";") or not line.strip():
            continue
        owner, ttl, rdclass, rdtype, *rdata = line.split(None, 4)
        assert rdclass == "IN"
        value = dns.rdata.from_text(dns.rdataclass.IN, rdtype, rdata[0] if rdata else "")
        found.add(
            (
                dns.name.from_text(owner).to_digestable(),
                dns.ttl.from_text(ttl),
                int(value.rdtype),
                value.to_digestable(),
            )
        )
    return found


def ours(path: Path) -> set[tuple[bytes, int, int, bytes]]:
    return {
        (
            owner,
            rrset.ttl,
            rrset.rdtype,
            dns.rdata.from_wire(
                dns.rdataclass.IN, dns.rdatatype.RdataType.make(rrset.rdtype), rdata, 0, len(rdata)
            ).to_digestable(),
        )
        for owner, rrset in read_master_file(path, "example.").rrsets()
        for rdata in rrset.rdatas
    }


@pytest.mark.parametrize("text", [GOOD, GENERATED], ids=["syntax", "generate"])
def test_what_bind_reads_is_what_we_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_text(HEAD + text)
    judged = compiled(path)
    assert judged.returncode == 0, judged.stderr
    expected = records(judged.stdout.removesuffix("OK\n"))
    assert len(expected) > 30
    assert ours(path) == expected


def test_what_bind_refuses_is_what_we_refuse(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    for text in BAD:
        path.write_text(HEAD + text + "\n")
        assert compiled(path).returncode, text
        with pytest.raises(ZoneError) as caught:
            read_master_file(path, "example.")
        assert str(path) in str(caught.value), text


def test_what_ldns_reads_is_what_we_read(tmp_path: Path) -> None:
    """The lines that ldns knows; it has neither the units of TTLs nor all types."""
    path = tmp_path / "zone"
    lines = 'a A 192.0.2.1\n 60 AAAA 2001:DB8::1\nb MX 10 a\nt TXT ( "a;b"\n plain )\nd NAPTR 1 2 "u" "s" "" .\n'
    path.write_text(
        HEAD + lines + "x RRSIG A 13 2 300 20300101000000 20200101000000 1 example. AAAA\ny NSEC z A RRSIG\n"
    )
    result = subprocess.run(["ldns-read-zone", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert ours(path) == records(result.stdout)
