"""Proofs of denial: NSEC3 chains with and without opt-out, chains that follow a zone's changes, compact denial.

That whole answers agree with other servers is seen in the peers' test; here are the cases that it cannot make.
"""

from __future__ import annotations

import gc
import hashlib
import weakref
from base64 import b32hexencode
from collections.abc import Sequence

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.denial import DenialChains, HashChain, HashedDenial, NsecDenial, nsec3_hash, successor
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.rrset import RRset
from mpcore.zone.version import ZoneVersion

ORIGIN = owners.from_text("example.")
PLAIN = """
@        3600 SOA ns1 host 7 3600 600 86400 300
@        3600 NS ns1
ns1      3600 A 192.0.2.1
www      3600 A 192.0.2.2
deep.ent 3600 A 192.0.2.3
*.wild   3600 A 192.0.2.4
alias    3600 CNAME nothing
cut      3600 NS ns.cut
ns.cut   3600 A 192.0.2.5
*.nswild 3600 NS ns1
"""


def chained(text: str, *, iterations: int = 0, salt: bytes = b"", opt_out: bool = False) -> ZoneVersion:
    """The zone with an NSEC3 chain, made by the book (RFC 5155, section 7.1), without signatures."""
    plain = read_master_text(text, "example.")
    names: dict[bytes, tuple[int, ...]] = {}
    for owner in plain.owners():
        if plain.is_glue_or_occluded(owner):
            continue
        types = plain.types(owner)
        if opt_out and owner != ORIGIN and 2 in types and 43 not in types:
            continue
        name = owner
        names[name] = types
        while name != ORIGIN:
            name = owners.parent(name)
            names.setdefault(name, plain.types(name))
    hashed = sorted((nsec3_hash(name, iterations, salt), types) for name, types in names.items())
    head = bytes((1, int(opt_out))) + iterations.to_bytes(2, "big") + bytes((len(salt),)) + salt
    parameters = bytes((1, 0)) + head[2:]
    changes: list[tuple[bytes, int, RRset | None]] = [(ORIGIN, 51, RRset.make(51, 0, [parameters]))]
    for index, (label, types) in enumerate(hashed):
        following = hashed[(index + 1) % len(hashed)][0]
        value = dns.rdata.from_text(
            "IN",
            "NSEC3",
            f"1 {int(opt_out)} {iterations} {salt.hex() or '-'} {following.decode()} "
            + " ".join(dns.rdatatype.to_text(rdtype) for rdtype in types),
        )
        changes.append((b"\x20" + label + ORIGIN, 50, RRset.make(50, 300, [value.to_wire()])))
    return plain.update(changes)


def ask(version: ZoneVersion, name: str, rdtype: str = "A", **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, want_dnssec=True, **options)  # type: ignore[arg-type]
    return dns.message.from_wire(Responder({version.origin: version}).respond(query.to_wire(), over_tcp=True))


def proofs(message: dns.message.Message) -> list[dns.rrset.RRset]:
    return [rrset for rrset in message.authority if rrset.rdtype in (dns.rdatatype.NSEC3, dns.rdatatype.NSEC)]


def relation(rrset: dns.rrset.RRset, name: str) -> str:
    """``match``, ``cover`` or ``""``: how an NSEC3 record stands to a name, by dnspython's hash."""
    rdata = rrset[0]
    label = dns.dnssec.nsec3_hash(name, rdata.salt, rdata.iterations, rdata.algorithm).lower()
    first = rrset.name.labels[0].decode().lower()
    last = b32hexencode(rdata.next).decode().lower()
    if label == first:
        return "match"
    inside = first < label < last if first < last else label > first or label < last
    return "cover" if inside else ""


def shows(message: dns.message.Message, kind: str, name: str) -> bool:
    return any(relation(rrset, name) == kind for rrset in proofs(message))


@pytest.mark.parametrize(("iterations", "salt"), [(0, b""), (5, b"\xab\xcd"), (100, bytes(255))])
def test_the_hash_is_that_of_dnspython(iterations: int, salt: bytes) -> None:
    for name in ("example.", "a.example.", "xx.example.", "*.w.example."):
        expected = dns.dnssec.nsec3_hash(name, salt or None, iterations, 1)
        assert nsec3_hash(owners.from_text(name), iterations, salt).decode() == expected.lower()


def test_the_hashes_of_the_rfc() -> None:
    """RFC 5155, appendix A."""
    salt = bytes.fromhex("aabbccdd")
    assert nsec3_hash(owners.from_text("example."), 12, salt) == b"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"
    assert nsec3_hash(owners.from_text("x.y.w.example."), 12, salt) == b"2vptu5timamqttgl4luu9kg21e0aor3s"


def test_a_name_that_does_not_exist() -> None:
    answer = ask(chained(PLAIN, iterations=2, salt=b"s"), "a.b.www.example.")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert shows(answer, "match", "www.example.")
    assert shows(answer, "cover", "b.www.example.")
    assert shows(answer, "cover", "*.www.example.")


def test_no_data_at_a_name_and_at_an_empty_non_terminal() -> None:
    version = chained(PLAIN)
    for name in ("www.example.", "ent.example."):
        answer = ask(version, name, "TXT")
        assert answer.rcode() == dns.rcode.NOERROR
        assert len(proofs(answer)) == 1
        assert shows(answer, "match", name)


def test_a_wildcard_answer_and_its_denial() -> None:
    version = chained(PLAIN)
    answer = ask(version, "x.y.wild.example.")
    assert answer.answer
    assert shows(answer, "cover", "y.wild.example.")
    assert len(proofs(answer)) == 1
    answer = ask(version, "x.y.wild.example.", "TXT")
    assert not answer.answer
    assert shows(answer, "match", "wild.example.")
    assert shows(answer, "cover", "y.wild.example.")
    assert shows(answer, "match", "*.wild.example.")


def test_an_insecure_delegation_with_and_without_opt_out() -> None:
    answer = ask(chained(PLAIN), "host.cut.example.")
    assert shows(answer, "match", "cut.example.")
    assert len(proofs(answer)) == 1
    answer = ask(chained(PLAIN, opt_out=True), "host.cut.example.")
    assert shows(answer, "match", "example.")
    assert shows(answer, "cover", "cut.example.")
    assert all(rrset[0].flags == 1 for rrset in proofs(answer))


def test_an_empty_non_terminal_that_opt_out_leaves_out() -> None:
    text = PLAIN + "only.hollow 3600 NS ns1\n"
    version = chained(text, opt_out=True)
    for name in ("hollow.example.", "x.hollow.example."):
        answer = ask(version, name)
        assert answer.rcode() == (dns.rcode.NOERROR if name.startswith("hollow") else dns.rcode.NXDOMAIN)
        assert shows(answer, "match", "example.")
        assert shows(answer, "cover", "hollow.example.")


def test_the_owner_of_an_nsec3_record_does_not_exist() -> None:
    """RFC 5155, section 7.2.8."""
    version = chained(PLAIN)
    label = nsec3_hash(owners.from_text("www.example."), 0, b"").decode()
    for name in (f"{label}.example.", f"x.{label}.example.", f"{label.upper()}.example."):
        for rdtype in ("NSEC3", "A", "RRSIG"):
            answer = ask(version, name, rdtype)
            assert answer.rcode() == dns.rcode.NXDOMAIN, name
            assert shows(answer, "match", "example.")
            assert shows(answer, "cover", f"{label}.example.")
            assert shows(answer, "cover", "*.example.")
    below = version.update([(owners.from_text(f"x.y.{label}.example."), 1, RRset.make(1, 60, [b"abcd"]))])
    assert ask(below, f"{label}.example.", "NSEC3").rcode() == dns.rcode.NOERROR
    assert ask(below, f"z.{label}.example.").rcode() == dns.rcode.NXDOMAIN


def test_a_referral_from_a_wildcard() -> None:
    for version in (chained(PLAIN), read_master_text(PLAIN, "example.")):
        answer = ask(version, "a.b.nswild.example.")
        assert not answer.flags & dns.flags.AA
        assert answer.authority[0].name.to_text() == "a.b.nswild.example."
        assert answer.authority[0].rdtype == dns.rdatatype.NS
    answer = ask(chained(PLAIN), "a.b.nswild.example.")
    assert shows(answer, "cover", "b.nswild.example.")
    assert shows(answer, "match", "*.nswild.example.")


def test_a_chain_of_too_many_iterations_or_without_the_apex_is_not_used() -> None:
    version = chained(PLAIN, iterations=2501)
    assert DenialChains().find(version) is None
    assert ask(version, "nope.example.").rcode() == dns.rcode.NXDOMAIN
    broken = chained(PLAIN)
    owner = b"\x20" + nsec3_hash(ORIGIN, 0, b"") + ORIGIN
    assert DenialChains().find(broken.update([(owner, 50, None)])) is None
    nsec = dns.rdata.from_text("IN", "NSEC", "example. SOA NS").to_wire()
    mixed = broken.update([(ORIGIN, 47, RRset.make(47, 300, [nsec])), (owner, 50, None)])
    assert isinstance(DenialChains().find(mixed), NsecDenial)


def test_of_two_chains_one_is_used_alone() -> None:
    first, second = chained(PLAIN, salt=b"a"), chained(PLAIN, salt=b"b", iterations=1)
    changes = [(owner, 50, rrset) for owner, rrset in second.rrsets() if rrset.rdtype == 50]
    both = first.update(changes)
    for name in ("nope.example.", "x.cut.example.", "www.example."):
        answer = ask(both, name, "TXT")
        assert proofs(answer)
        assert {rrset[0].salt for rrset in proofs(answer)} == {b"a"}


def test_the_chain_of_a_later_version_is_made_from_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    chains = DenialChains()
    old = chained(PLAIN)
    assert isinstance(chains.find(old), HashedDenial)
    reads = 0
    whole = HashChain.of.__func__

    def of(*args: object) -> HashChain | None:
        nonlocal reads
        reads += 1
        return whole(*args)  # type: ignore[no-any-return]

    monkeypatch.setattr(HashChain, "of", classmethod(of))
    text = PLAIN
    version = old
    for step in range(5):
        text += f"new{step} 3600 A 192.0.2.9\n"
        target = chained(text if step != 3 else PLAIN)
        version = version.update(
            [
                (owner, rdtype, (target.get(owner, rdtype)))
                for owner in {*version.owners(), *target.owners()}
                for rdtype in {*version.types(owner), *target.types(owner)}
                if version.get(owner, rdtype) != target.get(owner, rdtype)
            ]
        )
        denial = chains.find(version)
        assert isinstance(denial, HashedDenial)
        fresh = whole(HashChain, version, 0, b"")
        assert denial.chain._labels == fresh._labels
    assert reads == 0


def test_the_first_answer_of_a_prepared_version_reads_no_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    version = chained(PLAIN)
    responder = Responder({ORIGIN: version})
    responder.prepare(version)
    monkeypatch.setattr(HashChain, "of", None)
    query = dns.message.make_query("nope.example.", "A", want_dnssec=True)
    assert shows(dns.message.from_wire(responder.respond(query.to_wire(), over_tcp=True)), "match", "example.")


def test_a_version_is_forgotten_with_its_chain() -> None:
    chains = DenialChains()
    version = chained(PLAIN)
    denial = chains.find(version)
    assert isinstance(denial, HashedDenial)
    witness = weakref.ref(version)
    del version, denial
    gc.collect()
    assert witness() is None


def test_the_successor_of_a_name() -> None:
    assert successor(b"\x01a" + ORIGIN, ORIGIN) == b"\x01\x00\x01a" + ORIGIN
    assert successor(ORIGIN, ORIGIN) == b"\x01\x00" + ORIGIN


def test_successors_of_names_of_full_length() -> None:
    """RFC 4471, section 3.1.2: what cannot grow is counted up."""
    root = owners.ROOT
    base = b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3f" + b"d" * 63 + root

    def full(label: bytes) -> bytes:
        return bytes((len(label),)) + label + base

    room = 255 - len(base) - 1
    assert successor(full(b"a" * (room - 1)), root) == full(b"a" * (room - 1) + b"\x00")
    assert successor(full(b"a" * room), root) == full(b"a" * (room - 1) + b"b")
    assert successor(full(b"a" * (room - 1) + b"\xff"), root) == full(b"a" * (room - 2) + b"b")
    assert successor(full(b"a" * (room - 1) + b"@"), root) == full(b"a" * (room - 1) + b"[")
    assert successor(full(b"\xff" * room), root) == b"\x3f" + b"b" * 62 + b"c" + base[64:]
    last = b"\x3f" + b"\xff" * 63
    assert successor(full(b"\xff" * room).replace(base, last * 3 + root), root) == root
    for name in (full(b"a" * (room - 1)), full(b"a" * room)):
        assert owners.canonical_key(successor(name, root)) > owners.canonical_key(name)


# -- compact denial ---------------------------------------------------------------------------------------------------


class Online:
    """Signs with one ECDSA key, by dnspython."""

    def __init__(self) -> None:
        self.private = ec.derive_private_key(
            int.from_bytes(hashlib.sha256(b"compact").digest(), "big") >> 1, ec.SECP256R1()
        )
        self.dnskey = dns.dnssec.make_dnskey(self.private.public_key(), "ECDSAP256SHA256", flags=256)
        self.calls = 0

    def __call__(self, version: ZoneVersion, owner: bytes, rrset: RRset) -> Sequence[bytes]:
        self.calls += 1
        name, signer = dns.name.from_wire(owner, 0)[0], dns.name.from_wire(version.origin, 0)[0]
        held = dns.rrset.from_rdata_list(
            name, rrset.ttl, [dns.rdata.from_wire("IN", rrset.rdtype, rdata, 0, len(rdata)) for rdata in rrset.rdatas]
        )
        signature = dns.dnssec.sign(
            held, self.private, signer, self.dnskey, inception=1_600_000_000, expiration=2_600_000_000, verify=False
        )
        return [signature.to_wire()]

    def verify(self, message: dns.message.Message) -> None:
        """All NSEC records and the answer are signed as they stand."""
        keys = {dns.name.from_text("example."): dns.rrset.from_rdata(dns.name.from_text("example."), 60, self.dnskey)}
        checked = 0
        for section in (message.answer, message.authority):
            for rrset in section:
                signed = section is message.answer and rrset.rdtype != dns.rdatatype.RRSIG
                if signed or rrset.rdtype == dns.rdatatype.NSEC:
                    signatures = message.get_rrset(
                        section, rrset.name, rrset.rdclass, dns.rdatatype.RRSIG, rrset.rdtype
                    )
                    assert signatures is not None
                    assert signatures[0].labels == len(rrset.name) - 1
                    dns.dnssec.validate(rrset, signatures, keys, now=2_000_000_000)
                    checked += 1
        assert checked


def compact(name: str, rdtype: str = "A", *, ednsflags: int = 0x8000) -> tuple[dns.message.Message, Online]:
    online = Online()
    version = read_master_text(PLAIN + "secure 60 NS ns1\nsecure 60 A 192.0.2.7\n", "example.")
    query = dns.message.make_query(name, rdtype, use_edns=0, ednsflags=ednsflags)
    octets = Responder({ORIGIN: version}, online=online).respond(query.to_wire(), over_tcp=True)
    return dns.message.from_wire(octets), online


@pytest.mark.parametrize(
    ("name", "rdtype", "bitmap"),
    [
        ("nope.example.", "A", "RRSIG NSEC NXNAME"),
        ("a.b.www.example.", "A", "RRSIG NSEC NXNAME"),
        ("www.example.", "TXT", "A RRSIG NSEC"),
        ("ent.example.", "A", "RRSIG NSEC"),
        ("x.wild.example.", "TXT", "A RRSIG NSEC"),
        ("secure.example.", "DS", "NS RRSIG NSEC"),
        ("alias.example.", "NSEC", "CNAME RRSIG NSEC"),
    ],
)
def test_compact_denial(name: str, rdtype: str, bitmap: str) -> None:
    """RFC 9824, sections 3.1 to 3.3: one NSEC of the name itself, and NOERROR."""
    message, online = compact(name, rdtype)
    assert message.rcode() == dns.rcode.NOERROR
    assert message.flags & dns.flags.AA
    assert not message.answer
    (nsec,) = proofs(message)
    assert nsec.name.to_text() == name
    assert nsec.ttl == 300
    shown = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(128))
    assert nsec[0].to_text() == f"\\000.{name} {bitmap.replace('NXNAME', shown)}"
    online.verify(message)
    assert online.calls == 1


def test_compact_denial_with_the_response_code_restored() -> None:
    """RFC 9824, section 5.1: the client sets CO, and so does the answer."""
    message, online = compact("nope.example.", ednsflags=0xC000)
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert message.ednsflags == 0xC000
    online.verify(message)
    assert compact("www.example.", "TXT", ednsflags=0xC000)[0].rcode() == dns.rcode.NOERROR
    assert compact("nope.example.")[0].ednsflags == 0x8000
    plain, online = compact("nope.example.", ednsflags=0)
    assert plain.rcode() == dns.rcode.NXDOMAIN
    assert not proofs(plain)
    assert online.calls == 0


def test_a_wildcard_answer_is_signed_as_if_the_name_existed() -> None:
    """RFC 9824, section 3.3."""
    message, online = compact("x.y.wild.example.")
    assert message.answer[0].name.to_text() == "x.y.wild.example."
    assert not message.authority
    online.verify(message)


def test_compact_referral_and_alias() -> None:
    message, online = compact("host.cut.example.")
    assert not message.flags & dns.flags.AA
    (nsec,) = proofs(message)
    assert nsec.name.to_text() == "cut.example."
    assert nsec[0].to_text().endswith(" NS RRSIG NSEC")
    online.verify(message)
    message, _ = compact("alias.example.")
    assert [rrset.name.to_text() for rrset in proofs(message)] == ["nothing.example."]
    assert message.rcode() == dns.rcode.NOERROR
