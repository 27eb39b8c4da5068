"""Signed zones before two judges that share no code with us: ldns-verify-zone and dnssec-verify of BIND.

Both must accept every zone that the signer makes, and both must refuse each planted fault: a judge that cannot say no
proves nothing.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mpcore.signer.keys import KeyState, SigningKey, generate_signing_key
from mpcore.signer.signing import SigningPolicy, ZoneSigner, sign_zone
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset, parse_record
from mpcore.zone.version import ZoneVersion

pytestmark = [
    pytest.mark.peer,
]

ORIGIN = from_text("example.")
PRIVATE = {"HSYNC3": "TYPE65285", "HSYNCPARAM": "TYPE65286", "CHUNK": "TYPE65288", "JWK": "TYPE65324"}
A, NS, DS, TXT, RRSIG, NSEC, DNSKEY = 1, 2, 43, 16, 46, 47, 48

ZONE = r"""
example. 3600 IN SOA NS.Example. Hostmaster.Example. 7 3600 600 864000 300
example. 3600 IN NS ns.example.
example. 3600 IN NS NS2.Elsewhere.Test.
example. 3600 IN MX 10 Mail.Example.
example. 3600 IN MX 5 mail.Other.Test.
example. 120 IN HSYNC3 ON alpha Agent.Alpha.Example. .
example. 120 IN HSYNC3 ON bravo agent.bravo.example. .
example. 120 IN HSYNCPARAM servers="alpha,bravo" signers="alpha,bravo"
ns.example. 3600 IN A 192.0.2.1
ns.example. 3600 IN AAAA 2001:db8::1
mail.example. 60 IN A 192.0.2.2
mail.example. 60 IN A 192.0.2.10
mail.example. 60 IN A 192.0.2.9
www.example. 60 IN CNAME Mail.Example.
*.wild.example. 60 IN TXT "any" "thing"
deep.*.wild.example. 60 IN TXT "below a wildcard"
*.example. 60 IN MX 20 Mail.Example.
leaf.ent2.ent1.example. 60 IN TXT "below two empty non-terminals"
_sip._tcp.example. 60 IN SRV 1 2 5060 Sip.Example.
naptr.example. 60 IN NAPTR 1 2 "S" "SIP+D2T" "" _Sip._Tcp.Example.
person.example. 60 IN RP Me.Example. Text.Example.
px.example. 60 IN PX 10 Map822.Example. MapX400.Example.
host.example. 60 IN HINFO "PC-Intel-700mhz" "Redhat Linux 7.1"
svc.example. 60 IN HTTPS 1 Svc.Example. alpn=h2
caa.example. 60 IN CAA 0 issue "ca.example"
alias.example. 60 IN DNAME Other.Test.
secure.example. 600 IN NS ns.secure.example.
secure.example. 600 IN NS ns.elsewhere.test.
secure.example. 600 IN DS 12345 13 2 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF
ns.secure.example. 600 IN A 192.0.2.53
insecure.example. 600 IN NS ns.sub.insecure.example.
ns.sub.insecure.example. 600 IN AAAA 2001:db8::53
a.b.c.insecure.example. 600 IN A 192.0.2.54
incut.example. 600 IN NS incut.example.
incut.example. 600 IN A 192.0.2.55
incut.example. 600 IN AAAA 2001:db8::55
\000.example. 60 IN TXT "least label"
\001.example. 60 IN TXT "next"
a\000b.example. 60 IN TXT "zero inside"
a.example. 60 IN TXT "a"
dot\.dot.example. 60 IN TXT "dot inside"
abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-012345678.example. 60 IN TXT "63 octets"
\200.example. 60 IN TXT "an octet above the letters"
zz.example. 60 IN TYPE65000 \# 3 010203
zz.example. 60 IN TYPE1025 \# 0
"""

Judge = Callable[..., dict[str, tuple[int, str]]]


def _zone(text: str) -> ZoneVersion:
    nodes: dict[tuple[bytes, int], tuple[int, list[bytes]]] = {}
    for line in text.strip().splitlines():
        owner, rdtype, ttl, rdata = parse_record(line)
        nodes.setdefault((owner, rdtype), (ttl, []))[1].append(rdata)
    return ZoneVersion.build(
        ORIGIN, ((owner, RRset.make(rdtype, ttl, rdatas)) for (owner, rdtype), (ttl, rdatas) in nodes.items())
    )


def _line(owner: bytes, rrset: RRset, text: str, rdata: bytes) -> str:
    """A line that tools without our private types can read."""
    name, ttl, rdclass, rdtype, fields = text.split("\t")
    if rrset.rdtype >= 65280 or rdtype == "TYPE1025":
        return f"{name} {ttl} {rdclass} TYPE{rrset.rdtype} \\# {len(rdata)} {rdata.hex()}"
    if rrset.rdtype in (RRSIG, NSEC):
        fields = re.sub(r"\b(?:HSYNC3|HSYNCPARAM|CHUNK|JWK)\b", lambda match: PRIVATE[match[0]], fields)
    return f"{name} {ttl} {rdclass} {rdtype} {fields}"


def _text(version: ZoneVersion) -> str:
    lines = [
        _line(owner, rrset, text, rdata)
        for owner, rrset in version.rrsets()
        for text, rdata in zip(rrset.texts(owner), rrset.rdatas, strict=True)
    ]
    soa = next(index for index, line in enumerate(lines) if " SOA " in line and " RRSIG " not in line)
    lines.insert(0, lines.pop(soa))
    return "\n".join(lines) + "\n"


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Exit code and output of each tool, for a version and further options of dnssec-verify; 0 is acceptance."""

    def run(version: ZoneVersion, *options: str) -> dict[str, tuple[int, str]]:
        file = tmp_path / "zone"
        file.write_text(_text(version))
        verdicts = {}
        for name, command in (
            ("ldns", ["ldns-verify-zone", str(file)]),
            ("bind", ["dnssec-verify", *options, "-o", "example.", str(file)]),
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
            verdicts[name] = done.returncode, done.stdout + done.stderr
        return verdicts

    return run


def _accepted(verdicts: dict[str, tuple[int, str]]) -> None:
    for name, (code, output) in verdicts.items():
        assert code == 0, f"{name}: {output}"


def _keys(algorithm: int, now: float) -> list[SigningKey]:
    keys: list[SigningKey] = []
    for ksk in (True, False):
        taken = [key.key_tag for key in keys]
        keys.append(generate_signing_key("example.", algorithm, ksk, now, state=KeyState.ACTIVE, avoid=taken))
    return keys


def _with(version: ZoneVersion, *lines: str, without: Iterable[tuple[str, int]] = ()) -> ZoneVersion:
    """The version with other RRsets: *lines* replace what is at their owner and type."""
    nodes: dict[tuple[bytes, int], RRset] = {}
    for line in lines:
        owner, rdtype, ttl, rdata = parse_record(line)
        present = nodes.get((owner, rdtype))
        rdatas = (*present.rdatas, rdata) if present else (rdata,)
        nodes[owner, rdtype] = RRset.make(rdtype, ttl, rdatas)
    changes = [(owner, rdtype, rrset) for (owner, rdtype), rrset in nodes.items()]
    return version.update([*changes, *((from_text(name), rdtype, None) for name, rdtype in without)])


@pytest.mark.parametrize("algorithm", [8, 13, 15], ids=["RSASHA256", "ECDSAP256SHA256", "ED25519"])
def test_full_signing(judge: Judge, algorithm: int) -> None:
    now = time.time()
    _accepted(judge(sign_zone(_zone(ZONE), _keys(algorithm, now), now=now, serial=100)))


def test_smallest_zone(judge: Judge) -> None:
    now = time.time()
    text = "example. 60 IN SOA a. b. 1 2 3 4 5\nexample. 60 IN NS ns.elsewhere.test."
    _accepted(judge(sign_zone(_zone(text), _keys(13, now), now=now, serial=1)))


def test_combined_signing_key(judge: Judge) -> None:
    now = time.time()
    # -z: a key with the SEP flag may sign everything
    _accepted(judge(sign_zone(_zone(ZONE), _keys(13, now)[:1], now=now, serial=1), "-z"))


@pytest.mark.parametrize("algorithm", [13, 15])
def test_keys_in_every_state_and_foreign_keys(judge: Judge, algorithm: int) -> None:
    """Two providers of one zone, each with keys on the way in and out."""
    now = time.time()
    mine, theirs = _keys(algorithm, now), _keys(algorithm, now)
    for state in (KeyState.MPDIST, KeyState.PUBLISHED, KeyState.STANDBY, KeyState.RETIRED, KeyState.MPREMOVE):
        for ksk in (True, False):
            taken = [key.key_tag for key in mine + theirs]
            mine.append(generate_signing_key("example.", algorithm, ksk, now, state=state, avoid=taken))
    incoming = _zone(ZONE).update([(ORIGIN, DNSKEY, RRset.make(DNSKEY, 60, [key.dnskey for key in theirs]))])
    signed = sign_zone(incoming, mine, now=now, serial=3)
    dnskeys = signed.get(ORIGIN, DNSKEY)
    assert dnskeys is not None
    assert len(dnskeys.rdatas) == 2 + 8 + 2
    _accepted(judge(signed))


@pytest.mark.parametrize("algorithm", [13, 15], ids=["ECDSAP256SHA256", "ED25519"])
def test_following_changes(judge: Judge, algorithm: int) -> None:
    """One signer through changes of every kind; both judges look at each version."""
    now = time.time()
    version = _zone(ZONE)
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(_keys(algorithm, now))
    changes: list[tuple[list[str], list[tuple[str, int]]]] = [
        ([], []),
        (["mail.example. 60 IN A 192.0.2.77"], []),
        (["new.example. 60 IN TXT new", "a.new.example. 60 IN TXT new"], []),
        ([], [("mail.example.", A)]),
        ([], [("new.example.", TXT)]),
        (["zzzz.example. 60 IN TXT last", "\\000.\\000.example. 60 IN TXT first"], []),
        ([], [("zzzz.example.", TXT), ("\\000.\\000.example.", TXT)]),
        # a delegation appears above existing names, becomes secure, insecure, and goes
        (["ent1.example. 60 IN NS ns.ent1.example.", "ns.ent1.example. 60 IN A 192.0.2.3"], []),
        (["ent1.example. 60 IN DS 1 13 2 " + "00" * 32], []),
        ([], [("ent1.example.", DS)]),
        ([], [("ent1.example.", NS)]),
        # a delegation goes and leaves its glue as data
        ([], [("insecure.example.", NS)]),
        # a DNAME appears above nothing, and goes
        (["new.example. 60 IN DNAME other.test."], [("a.new.example.", TXT)]),
        ([], [("new.example.", 39)]),
        # a CNAME turns into an address and back
        (["www.example. 60 IN A 192.0.2.88"], [("www.example.", 5)]),
        (["www.example. 60 IN CNAME ns.example."], [("www.example.", A)]),
        # the negative TTL changes
        (["example. 3600 IN SOA ns.example. h.example. 8 3600 600 864000 60"], []),
    ]
    for serial, (lines, without) in enumerate(changes, 10):
        version = _with(version, *lines, without=without)
        _accepted(judge(signer.sign(version, now, serial)))


def test_rollovers_and_a_joining_provider(judge: Judge) -> None:
    now = time.time()
    version = _zone(ZONE)
    signer = ZoneSigner(ORIGIN)
    ksk, zsk = _keys(13, now)
    next_ksk, next_zsk = _keys(13, now)
    their_ksk, their_zsk = _keys(13, now)
    joined = version.update([(ORIGIN, DNSKEY, RRset.make(DNSKEY, 60, [their_ksk.dnskey, their_zsk.dnskey]))])

    def to(key: SigningKey, state: KeyState) -> SigningKey:
        return key.to_state(state, now)

    steps = [
        (version, [ksk, zsk]),
        (joined, [ksk, zsk]),
        (joined, [ksk, zsk, to(next_zsk, KeyState.MPDIST)]),
        (joined, [ksk, zsk, to(next_zsk, KeyState.STANDBY)]),
        (joined, [ksk, to(zsk, KeyState.RETIRED), next_zsk]),
        (joined, [ksk, to(zsk, KeyState.MPREMOVE), next_zsk]),
        (joined, [ksk, to(zsk, KeyState.REMOVED), next_zsk, to(next_ksk, KeyState.PUBLISHED)]),
        (joined, [to(ksk, KeyState.RETIRED), next_ksk, next_zsk]),
        (joined, [to(ksk, KeyState.REMOVED), next_ksk, next_zsk]),
        (version, [next_ksk, next_zsk]),
    ]
    for serial, (unsigned, keys) in enumerate(steps, 10):
        signer.set_keys(keys)
        _accepted(judge(signer.sign(unsigned, now, serial)))


def test_refreshed_signatures(judge: Judge) -> None:
    """Signatures made two weeks ago would be void today; those refreshed on the way are not."""
    now = time.time()
    policy = SigningPolicy(lifetime=4 * 86400, refresh=2 * 86400)
    signer = ZoneSigner(ORIGIN, policy)
    signer.set_keys(_keys(13, now))
    version = _zone(ZONE)
    when = now - 14 * 86400
    stale = signer.sign(version, when, 1)
    for serial in range(2, 400):
        due = signer.next_due()
        assert due is not None
        if due > now:
            break
        signer.sign(version, max(when, due), serial)
    fresh = signer.sign(version, now, 1000)
    _accepted(judge(fresh))
    assert all(code != 0 for code, _ in judge(stale).values())


def _without_signature(signed: ZoneVersion, owner: bytes, covered: int) -> ZoneVersion:
    rrset = signed.get(owner, RRSIG)
    assert rrset is not None
    kept = [rdata for rdata in rrset.rdatas if int.from_bytes(rdata[:2]) != covered]
    return signed.update([(owner, RRSIG, RRset.make(RRSIG, rrset.ttl, kept) if kept else None)])


def _broken_signature(signed: ZoneVersion, owner: bytes, covered: int) -> ZoneVersion:
    rrset = signed.get(owner, RRSIG)
    assert rrset is not None
    rdatas = [
        rdata[:-1] + bytes((rdata[-1] ^ 1,)) if int.from_bytes(rdata[:2]) == covered else rdata
        for rdata in rrset.rdatas
    ]
    return signed.update([(owner, RRSIG, RRset.make(RRSIG, rrset.ttl, rdatas))])


FAULTS: dict[str, Callable[[ZoneVersion], ZoneVersion]] = {
    "signature broken": lambda signed: _broken_signature(signed, from_text("mail.example."), A),
    "signature of the DNSKEY RRset broken": lambda signed: _broken_signature(signed, ORIGIN, DNSKEY),
    "signature of an NSEC broken": lambda signed: _broken_signature(signed, from_text("mail.example."), NSEC),
    "signature of a DS broken": lambda signed: _broken_signature(signed, from_text("secure.example."), DS),
    "signature of a private type broken": lambda signed: _broken_signature(signed, ORIGIN, 65285),
    "signature missing": lambda signed: _without_signature(signed, from_text("mail.example."), A),
    "record changed": lambda signed: _with(signed, "mail.example. 60 IN A 192.0.2.99"),
    "record added": lambda signed: _with(signed, "mail.example. 60 IN TXT smuggled"),
    "name added": lambda signed: _with(signed, "smuggled.example. 60 IN TXT smuggled"),
    "RRset removed": lambda signed: signed.update([(from_text("person.example."), 17, None)]),
    "NSEC missing": lambda signed: signed.update([(from_text("person.example."), NSEC, None)]),
}
#: ldns-verify-zone does not compare bitmaps with the types that are there.
ONLY_BIND = {"RRset removed", "forgets a type"}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(judge: Judge, fault: str) -> None:
    now = time.time()
    signed = sign_zone(_zone(ZONE), _keys(13, now), now=now, serial=1)
    verdicts = judge(FAULTS[fault](signed))
    if fault in ONLY_BIND:
        del verdicts["ldns"]
    for name, (code, output) in verdicts.items():
        assert code != 0, f"{name} sees nothing wrong: {output}"


@pytest.mark.parametrize(
    ("fault", "line"),
    [("leads past a name", "nsa.example. 60 IN TXT between"), ("forgets a type", "ns.example. 60 IN TXT more")],
)
def test_faults_in_the_chain_alone_are_seen(judge: Judge, fault: str, line: str) -> None:
    """An NSEC with a good signature, out of a version before a change, put into the version after it."""
    now = time.time()
    signer = ZoneSigner(ORIGIN)
    signer.set_keys(_keys(13, now))
    before = signer.sign(_zone(ZONE), now, 1)
    after = signer.sign(_with(_zone(ZONE), line), now, 1)
    _accepted(judge(after))

    name = from_text("ns.example.")
    nsec, old, new = before.get(name, NSEC), before.get(name, RRSIG), after.get(name, RRSIG)
    assert nsec is not None
    assert old is not None
    assert new is not None
    wanted = NSEC.to_bytes(2)
    signatures = [rdata for rdata in new.rdatas if rdata[:2] != wanted]
    signatures += [rdata for rdata in old.rdatas if rdata[:2] == wanted]
    mixed = after.update([(name, NSEC, nsec), (name, RRSIG, RRset.make(RRSIG, 0, signatures))])
    verdicts = judge(mixed)
    assert verdicts["bind"][0] != 0
    assert (verdicts["ldns"][0] != 0) == (fault not in ONLY_BIND)


def test_names_below_a_dname_are_hidden(judge: Judge) -> None:
    """BIND hides them as we do (RFC 6672, section 2.4); ldns does not know that rule, so it is not asked."""
    now = time.time()
    version = _with(_zone(ZONE), "below.alias.example. 60 IN TXT hidden")
    signed = sign_zone(version, _keys(13, now), now=now, serial=1)
    assert signed.get(from_text("below.alias.example."), NSEC) is None
    code, output = judge(signed)["bind"]
    assert code == 0, output
