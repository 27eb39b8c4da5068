"""Our answers beside those of Knot and BIND, for the same signed zone and several hundred queries.

The comparison is of meaning.  Each way in which servers may differ without one being wrong is a rule in
:func:`picture` or :func:`excused`, with its reason.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_file
from tests.peers.servers import Bind, Knot, NameServer, Nsd, Zone

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        shutil.which("dnssec-signzone") is None or shutil.which("dnssec-keygen") is None,
        reason="needs the Debian package bind9-utils",
    ),
]

ZONE = r"""
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
*.nx.cwild2  CNAME missing.example.
*.below.entwild TXT "below"
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
dn           DNAME target.dnt
dn           TXT   "beside the DNAME"
a.target.dnt A     192.0.2.8
*.w.target.dnt TXT "wild below"
dnout        DNAME elsewhere.test.
dnchain      DNAME dn
insecure     NS    ns.insecure
insecure     NS    ns.elsewhere.test.
ns.insecure  A     192.0.2.20
ns.insecure  AAAA  2001:db8::20
secure       NS    ns.insecure
secure       NS    ns.secure
secure       DS    4242 13 2 0000000000000000000000000000000000000000000000000000000000000001
ns.secure    A     192.0.2.21
deeper.cut.ent NS  ns1
a-last       HINFO "cpu" "os"
srv._tcp     SRV   1 2 53 ns1
naptr        NAPTR 1 2 "u" "x" "!a!b!" .
svc          HTTPS 1 . alpn=h2 ipv4hint=192.0.2.9
svc          SVCB  0 www
tlsa._tcp    TLSA  3 1 1 00000000000000000000000000000000000000000000000000000000000000ff
unknown      TYPE65400 \# 3 abcdef
ptr          PTR   www
rp           RP    a.b c.d
loc          LOC   52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
mid\.dot     TXT   "a dot in a label"
zzz          A     192.0.2.31
"""

ZONE += f"long DNAME {'a' * 60}.{'b' * 60}.{'c' * 60}\n"

TYPES = ("A", "AAAA", "NS", "SOA", "MX", "TXT", "CNAME", "DS", "DNSKEY", "NSEC", "TYPE65285", "TYPE65400", "HTTPS")

EXTRA = r"""
missing a.missing 0 zzzz www.www any.wild a.b.wild sub.wild a.sub.wild wild *.sub.wild any.cwild a.b.cwild
any.nx.cwild2 cwild2 nx.cwild2 entwild below.entwild a.below.entwild a.b.below.entwild starent *.starent
a.starent y.*.starent x.*.starent ent.one.two one.two two a.two b.one.two deep.ent.one.two x.deep.ent.one.two
host.insecure a.b.insecure ns.insecure host.secure ns.secure x.ns.secure cut.ent ent deeper.cut.ent
a.deeper.cut.ent a.dn b.dn x.w.dn a.b.dn target.dnt dnt a.target.dnt w.dn y.dnout a.dnchain b.dnchain
zzzzzzzzzzzzzzzzzzzzzzzzz.long zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.long
x.alias any.alias2 _tcp srv._tcp x.srv._tcp mid\.dot mid.dot UPPER wWw.uPPer WWW ALIAS3 nothing.here here
*.wild *.cwild *.missing *.www \000.www a\000.www
"""


def queries() -> Iterator[tuple[str, str]]:
    """Names of every kind; every type at the interesting ones, A, TXT and DS at all."""
    names = [line.split()[0] for line in ZONE.strip().splitlines()[1:]]
    full = {"@", "www", "alias", "insecure", "secure", "*.wild", "dn", "dangling", "any.wild", "ent.one.two", "tocut"}
    extra = EXTRA.split()
    seen = set()
    for name in names + extra:
        for rdtype in TYPES if name in full else ("A", "TXT", "DS", "NS") if name in extra else ("A", "TXT", "DS"):
            if (name, rdtype) not in seen:
                seen.add((name, rdtype))
                text = "example." if name == "@" else name if name.endswith(".") else f"{name}.example."
                yield text, rdtype
    for name in names[1:]:
        for prefix in ("x", "*", "zz.yy"):
            yield f"{prefix}.{name}.example.", "A"
    for name, rdtype in (("@", "CAA"), ("ptr", "PTR"), ("naptr", "NAPTR"), ("srv._tcp", "SRV"), ("svc", "SVCB")):
        yield ("example." if name == "@" else f"{name}.example."), rdtype
    for name in ("other.", ".", "xexample.", "example.example.net."):
        yield name, "A"


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zone, signed by BIND's tools."""
    path = tmp_path_factory.mktemp("zone")
    (path / "zone").write_text(ZONE)
    for flags in ((), ("-f", "KSK")):
        key = run("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", *flags, "example", cwd=path).strip()
        with (path / "zone").open("a") as file:
            file.write((path / f"{key}.key").read_text())
    run("dnssec-signzone", "-S", "-O", "full", "-o", "example", "-f", "signed", "zone", cwd=path)
    return path / "signed"


@pytest.fixture(scope="module", params=[Knot, Bind, Nsd], ids=lambda peer: peer.program)
def server(request: pytest.FixtureRequest, signed: Path) -> Iterator[NameServer]:
    with request.param([Zone("example.", text=signed.read_text())], key=None) as running:
        yield running


@pytest.fixture(scope="module")
def responder(signed: Path) -> Responder:
    version = read_master_file(signed, "example.")
    return Responder({version.origin: version})


Picture = dict[str, object]


def records(section: list[dns.rrset.RRset], *types: str) -> frozenset[tuple[str, str, int, str]]:
    """Records as text in lower case with their TTLs; of the given types, or all."""
    return frozenset(
        (rrset.name.to_text().lower(), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, rdata.to_text().lower())
        for rrset in section
        for rdata in rrset
        if not types or dns.rdatatype.to_text(rrset.rdtype) in types
    )


def picture(message: dns.message.Message) -> Picture:
    """What must agree.

    Left out: NS records in the authority section beside an answer, which any server may add (RFC 1034, 4.3.2, step 4);
    the additional section except the glue that a referral must have: addresses below the cut (RFC 9471, 2.1).
    """
    authority = message.authority
    cut = next((rrset.name for rrset in authority if rrset.rdtype == dns.rdatatype.NS), None)
    if any(rrset.rdtype == dns.rdatatype.SOA for rrset in authority):
        cut = None
    if cut is not None and message.answer and cut == dns.name.from_text("example."):
        authority = [rrset for rrset in authority if rrset.rdtype != dns.rdatatype.NS and not covers_ns(rrset)]
        cut = None
    glue = [rrset for rrset in message.additional if cut is not None and rrset.name.is_subdomain(cut)]
    return {
        "rcode": dns.rcode.to_text(message.rcode()),
        "aa": bool(message.flags & dns.flags.AA),
        "answer": records(message.answer),
        "authority": records(authority),
        "glue": records(glue, "A", "AAAA"),
    }


def covers_ns(rrset: dns.rrset.RRset) -> bool:
    return rrset.rdtype == dns.rdatatype.RRSIG and rrset.covers == dns.rdatatype.NS


def excused(program: str, name: str, rdtype: str, key: str, mine: object, theirs: object) -> bool:
    """Differences in one part of the picture that are no fault of ours."""
    if program == "named" and (name.startswith(("loop", "self.")) or ".loop" in name):
        # BIND gives up an alias that leads back to itself; Knot and we return the aliases with NOERROR.  RFC 1034,
        # 3.6.2, asks only that the loop be noticed.
        return key == "rcode" and (mine, theirs) == ("NOERROR", "SERVFAIL")
    if program == "knotd" and name.endswith(".long.example."):
        # Knot 3.2 answers NXDOMAIN, BIND, NSD and we YXDOMAIN, if a DNAME makes the name too long (RFC 6672, 2.2).
        return True
    if program == "named" and rdtype == "SOA" and key == "authority":
        # BIND sends TTL 0 with the SOA when the SOA itself was asked for (its option zero-no-soa-ttl).
        return without_ttl(mine) == without_ttl(theirs)
    if program == "named" and rdtype == "NSEC" and name in ("insecure.example.", "secure.example."):
        # The NSEC at a zone cut is the parent's own: BIND answers with it; Knot, NSD and we refer to the child.
        return True
    if key == "authority" and rdtype == "NSEC" and name == "any.wild.example.":
        # Knot leaves out the NSEC that shows that the name itself does not exist (RFC 4035, 3.1.3.3).
        return program == "knotd" and superset(mine, theirs)
    if key == "authority" and ".starent." in name:
        # The wildcard is an empty non-terminal.  Knot and BIND show only that the name does not exist, we also that the
        # wildcard has no records (RFC 4035, 3.1.3.4).
        return superset(mine, theirs)
    # NSD 4.6 proves other names than the target after a DNAME; Knot and BIND agree with us.
    return program == "nsd" and key == "authority" and name.endswith((".dn.example.", ".dnchain.example."))


def without_ttl(records_: object) -> set[tuple[str, str, str]]:
    assert isinstance(records_, frozenset)
    return {(name, rdtype, text) for name, rdtype, _, text in records_}


def superset(mine: object, theirs: object) -> bool:
    assert isinstance(mine, frozenset)
    assert isinstance(theirs, frozenset)
    return mine > theirs


def describe(key: str, mine: object, theirs: object) -> str:
    if isinstance(mine, frozenset) and isinstance(theirs, frozenset):
        return f"{key}: ours only {sorted(mine - theirs)}, theirs only {sorted(theirs - mine)}"
    return f"{key}: {mine}, theirs {theirs}"


@pytest.mark.parametrize("dnssec", [False, True], ids=["plain", "DO"])
def test_answers_agree(server: NameServer, dnssec: bool, responder: Responder) -> None:
    differences = []
    count = 0
    connection = socket.create_connection((server.address, server.port), 5)
    connection.setblocking(False)
    for name, rdtype in queries():
        query = dns.message.make_query(name, rdtype, use_edns=0, want_dnssec=dnssec, flags=0)
        mine = dns.message.from_wire(responder.respond(query.to_wire(), over_tcp=True))
        assert query.is_response(mine)
        theirs = picture(dns.query.tcp(query, server.address, 5, sock=connection))
        count += 1
        for key, value in picture(mine).items():
            if value != theirs[key] and not excused(server.program, name, rdtype, key, value, theirs[key]):
                differences.append(f"{name} {rdtype} {describe(key, value, theirs[key])}")
    connection.close()
    assert count > 600
    assert not differences, f"{len(differences)} differences:\n" + "\n".join(differences)
