"""Zones and queries for comparing name servers: every construct that answers depend on, and thousands of questions."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import dns.exception
import dns.name
import dns.rdatatype

from tests.peers.servers import Zone

__all__ = ("KINDS", "Query", "queries", "zones")

KINDS = {"example.": "nsec", "hashed.": "nsec3", "optout.": "nsec3 opt-out", "plain.": "unsigned"}
"""Apex -> how the zone proves denial.  All four have the same contents, made from ``CONTENTS``."""

CONTENTS = rf"""
$TTL 3600
@            SOA   ns1 hostmaster 2024010101 3600 600 86400 300
@            NS    ns1
@            NS    ns2.elsewhere.test.
@            MX    10 mail
@            TXT   "apex" "two"
@            CAA   0 issue "ca.test"
@            TYPE65285 \# 24 01027031056167656e74027031076578616d706c6500012e
ns1          A     192.0.2.1
ns1          AAAA  2001:db8::1
mail         A     192.0.2.2
www          A     192.0.2.3
www          A     192.0.2.4
www      60  AAAA  2001:db8::3
WwW.Upper    A     192.0.2.5
deep.ent.one.two A 192.0.2.6
*.wild       A     192.0.2.7
*.wild       MX    5 mail
sub.wild     TXT   "explicit"
*.cwild      CNAME www
*.nx.cwild2  CNAME missing
*.below.entwild TXT "below"
*.out.cwild3 CNAME elsewhere.test.
*.dwild      DNAME target.dnt
x.*.starent  TXT   "under a star"
alias        CNAME www
alias2       CNAME alias
alias3       CNAME alias2
dangling     CNAME nothing.here
outside      CNAME www.elsewhere.test.
loop1        CNAME loop2
loop2        CNAME loop1
self         CNAME self
towild       CNAME any.wild
tocut        CNAME host.insecure
toent        CNAME ent.one.two
todname      CNAME a.dn
tolocal      CNAME www.local
dn           DNAME target.dnt
dn           TXT   "beside the DNAME"
a.target.dnt A     192.0.2.8
*.w.target.dnt TXT "wild below"
dnout        DNAME elsewhere.test.
dnchain      DNAME dn
dnloop       DNAME x.dnloop
dncut        DNAME insecure
long         DNAME {"a" * 60}.{"b" * 60}.{"c" * 60}
insecure     NS    ns.insecure
insecure     NS    ns.elsewhere.test.
ns.insecure  A     192.0.2.20
ns.insecure  AAAA  2001:db8::20
secure       NS    ns.insecure
secure       NS    ns.secure
secure       DS    4242 13 2 0000000000000000000000000000000000000000000000000000000000000001
ns.secure    A     192.0.2.21
local        NS    ns1
deeper.cut.ent NS  ns1
onlycut.hollow NS  ns.insecure
a-last       HINFO "cpu" "os"
srv._tcp     SRV   1 2 53 ns1
naptr        NAPTR 1 2 "u" "x" "!a!b!" .
svc          HTTPS 1 . alpn=h2 ipv4hint=192.0.2.9
svc          SVCB  0 www
tlsa._tcp    TLSA  3 1 1 00000000000000000000000000000000000000000000000000000000000000ff
unknown      TYPE65400 \# 3 abcdef
unknown      TYPE300 \# 0
ptr          PTR   www
rp           RP    a.b c.d
loc          LOC   52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
afsdb        AFSDB 1 www
uri          URI   10 1 "https://www.test/"
sshfp        SSHFP 1 1 0000000000000000000000000000000000000001
mid\.dot     TXT   "a dot in a label"
\000.\255    TXT   "odd octets"
big          TXT   {" ".join(f'"{"x" * 200}{number}"' for number in range(9))}
fat          A     192.0.2.100
{"".join(f"fat A 192.0.2.{number}{chr(10)}" for number in range(101, 140))}
zzz          A     192.0.2.31
"""

LOCAL = """
@ 600 SOA ns1 host 1 3600 600 86400 60
@ 600 NS ns1
ns1 600 A 192.0.2.41
www 600 A 192.0.2.42
"""

TYPES = (
    *(
        "A",
        "AAAA",
        "NS",
        "SOA",
        "MX",
        "TXT",
        "CNAME",
        "DNAME",
        "DS",
        "PTR",
        "SRV",
        "NAPTR",
        "CAA",
        "HINFO",
        "RP",
        "LOC",
    ),
    *("DNSKEY", "NSEC", "NSEC3", "NSEC3PARAM", "CDS", "CSYNC", "HTTPS", "SVCB", "TLSA", "URI", "SSHFP", "AFSDB"),
    *("TYPE65285", "TYPE65400", "TYPE300", "TYPE1234", "TYPE65534", "SPF", "KEY", "WKS"),
)
COMMON = ("A", "A", "A", "TXT", "DS", "NS", "AAAA", "CNAME", "SOA")
RARE = ("ANY", "RRSIG", "NXNAME", "MAILB", "TYPE0", "IXFR", "SIG", "NXT")


@dataclass(frozen=True, slots=True)
class Query:
    """One question, as it is put to all servers.

    :param payload: UDP payload size of the OPT record, ``None`` without OPT.
    """

    name: str
    rdtype: str
    kind: str
    payload: int | None
    dnssec: bool
    version: int
    flags: int
    over_tcp: bool
    options: bytes

    def to_octets(self, ident: int) -> bytes:
        """The message."""
        opt = b""
        if self.payload is not None:
            flags = 0x8000 if self.dnssec else 0
            opt = b"\0\0\x29" + self.payload.to_bytes(2, "big") + bytes((0, self.version)) + flags.to_bytes(2, "big")
            opt += len(self.options).to_bytes(2, "big") + self.options
        header = ident.to_bytes(2, "big") + self.flags.to_bytes(2, "big") + b"\0\1\0\0\0\0\0" + bytes((bool(opt),))
        name = dns.name.from_text(self.name).to_wire()
        rdtype = int(dns.rdatatype.from_text(self.rdtype))
        return header + name + rdtype.to_bytes(2, "big") + b"\0\1" + opt

    def __str__(self) -> str:
        edns = "" if self.payload is None else f" EDNS{self.version}/{self.payload}{' DO' if self.dnssec else ''}"
        options = f" options {self.options.hex()}" if self.options else ""
        return f"{self.name} {self.rdtype}{edns}{options} {'TCP' if self.over_tcp else 'UDP'} flags {self.flags:04x}"


def _run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


def zones(directory: Path) -> list[Zone]:
    """The zones, the signed ones signed by BIND's tools."""
    assert shutil.which("dnssec-signzone")
    options = {
        "nsec": (),
        "nsec3": ("-3", "abcd", "-H", "3"),
        "nsec3 opt-out": ("-3", "-", "-H", "0", "-A"),
    }
    result = [Zone("local.example.", text=LOCAL), Zone("local.plain.", text=LOCAL)]
    for apex, kind in KINDS.items():
        text = CONTENTS
        if kind != "unsigned":
            file = directory / apex
            for flags in ((), ("-f", "KSK")):
                key = _run("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", *flags, apex, cwd=directory).strip()
                text += (directory / f"{key}.key").read_text()
            file.write_text(text)
            _run("dnssec-signzone", "-S", "-O", "full", *options[kind], "-o", apex, "-f", "signed", apex, cwd=directory)
            text = (directory / "signed").read_text()
        result.append(Zone(apex, text=text))
    return result


def _names(apex: str, texts: Sequence[Zone]) -> tuple[list[str], list[str]]:
    """Owners of a zone and their ancestors, and the owners of NSEC3 records."""
    owners: dict[str, None] = {}
    hashes = []
    for line in CONTENTS.strip().splitlines()[1:]:
        owner = (line.split() or ["@"])[0]
        name = apex if owner == "@" else f"{owner}.{apex}"
        while name != apex:
            owners[name] = None
            name = dns.name.from_text(name).parent().to_text()
    text = next(zone.text or "" for zone in texts if zone.name == apex)
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "NSEC3":
            hashes.append(fields[0])
    return [apex, *owners], hashes


def queries(count: int, texts: Sequence[Zone], seed: int) -> Iterator[Query]:
    """Different queries, the same for the same *seed*.

    First all owners with the types that matter, then names near them with types of all sorts.
    """
    random = Random(seed)
    seen: set[tuple[object, ...]] = set()
    names = {apex: _names(apex, texts) for apex in KINDS}
    apexes = list(KINDS)

    def variant(name: str, apex: str, hashes: list[str]) -> str:
        how = random.randrange(20)
        if how < 6:
            return name
        if how < 10:
            return f"{random.choice(('x', 'zz', 'a', 'www', 'host', 'ns', 'aa-1', '0', 'any'))}.{name}"
        if how < 12:
            return f"{random.choice('xyz')}{random.randrange(100)}.{random.choice(('b', '*', 'w', 'sub'))}.{name}"
        if how == 12:
            return f"*.{name}"
        if how == 13 and name != apex:
            first, _, rest = name.partition(".")
            return f"{first}{random.choice('-0az')}.{rest}"
        if how == 14:
            return "".join(random.choice((letter.upper(), letter)) for letter in name)
        if how == 15 and hashes:
            return random.choice(("", "", "x.")) + random.choice(hashes)
        if how == 16:
            return f"\\000.{name}"
        if how == 17:
            return f"{'y' * random.randrange(30, 63)}.{'z' * 40}.{name}"
        if how == 18:
            return random.choice((f"x{random.randrange(10**6)}.{apex}", f"{apex}x.", "elsewhere.test.", "."))
        return name

    total = 0
    while total < count:
        apex = random.choice(apexes)
        owners, hashes = names[apex]
        if total < 8 * len(owners) * len(COMMON):
            name = owners[total % len(owners)]
            rdtype = random.choice(COMMON + TYPES)
        else:
            name = variant(random.choice(owners), apex, hashes)
            rdtype = random.choice(random.choice((COMMON, COMMON, TYPES, TYPES, RARE if total % 4 == 0 else TYPES)))
        try:
            dns.name.from_text(name)
        except dns.exception.DNSException:  # too long, or an escape cut in two
            continue
        dnssec = random.random() < 0.65
        edns = dnssec or random.random() < 0.6
        over_tcp = random.random() < 0.8
        if rdtype == "IXFR" and (over_tcp or name.lower() == apex):
            continue  # who may transfer is policy
        query = Query(
            name=name,
            rdtype=rdtype,
            kind=KINDS[apex],
            payload=random.choice((512, 1232, 1232, 4096, 100)) if edns else None,
            dnssec=dnssec,
            version=1 if edns and random.random() < 0.01 else 0,
            flags=random.choice((0, 0, 0, 0x0100, 0x0010, 0x0020)),
            over_tcp=over_tcp,
            options=random.choice((b"", b"", b"", b"\xfd\xe9\0\2hi", b"\0\3\0\0")) if edns else b"",
        )
        key = (name, rdtype, query.payload, dnssec, query.version, query.flags, over_tcp, query.options)
        if key not in seen:
            seen.add(key)
            total += 1
            yield query
