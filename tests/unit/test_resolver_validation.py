"""Signatures, chains and proofs of absence, on records made here and signed by dnspython."""

from __future__ import annotations

from collections.abc import Iterable

import dns.dnssec
import dns.edns
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from mpcore.net.resolver_denial import DelegationProof, Denial, Proof, collect_denial
from mpcore.net.resolver_types import Budget, BudgetError, ResolverLimits, ValidationError
from mpcore.net.resolver_validation import KeySet, entry_keys, usable_ds, verify_rrset

NOW = 1_800_000_000.0
ZONE = dns.name.from_text("example.")
EDE = dns.edns.EDECode


class Signer:
    """A key, and what it signs."""

    def __init__(self, algorithm: str = "ED25519", flags: int = 257, zone: dns.name.Name = ZONE) -> None:
        if algorithm == "ED25519":
            self.private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())
        self.key: DNSKEY = dns.dnssec.make_dnskey(self.private.public_key(), algorithm, flags)
        self.zone = zone

    def sign(self, rrset: dns.rrset.RRset, since: float = -3600, until: float = 3600) -> dns.rrset.RRset:
        rrsig = dns.dnssec.sign(
            rrset, self.private, self.zone, self.key, inception=int(NOW + since), expiration=int(NOW + until)
        )
        return dns.rrset.from_rdata(rrset.name, rrset.ttl, rrsig)


def rrs(name: str, rdtype: str, *texts: str, ttl: int = 300) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, ttl, "IN", rdtype, *texts)


def budget(**limits: int) -> Budget:
    return Budget(ResolverLimits(**limits))


def keys_of(*signers: Signer) -> KeySet:
    return KeySet(ZONE, [signer.key for signer in signers])


DATA = rrs("www.example.", "A", "192.0.2.1", "192.0.2.2")


# --- signatures ---


@pytest.mark.parametrize("algorithm", ["ED25519", "ECDSAP256SHA256"])
def test_a_good_signature_verifies(algorithm: str) -> None:
    signer = Signer(algorithm)
    verified = verify_rrset(DATA, signer.sign(DATA), keys_of(signer), NOW, budget())
    assert verified.ttl == 300
    assert verified.expanded_from is None


def test_any_signature_by_any_key_of_the_zone_will_do() -> None:
    """RFC 8901: the RRset comes with signatures of two providers, one of which this DNSKEY RRset does not list."""
    ours, theirs, unknown = Signer(), Signer("ECDSAP256SHA256"), Signer()
    signatures = unknown.sign(DATA)
    for signer in (ours, theirs):
        signatures.update(signer.sign(DATA))
    for known in (ours, theirs):
        verify_rrset(DATA, signatures, keys_of(known), NOW, budget())
    with pytest.raises(ValidationError) as caught:
        verify_rrset(DATA, signatures, keys_of(Signer()), NOW, budget())
    assert caught.value.code == EDE.DNSKEY_MISSING


@pytest.mark.parametrize(
    ("since", "until", "code"),
    [
        (-7200, -1, EDE.SIGNATURE_EXPIRED),
        (1, 7200, EDE.SIGNATURE_NOT_YET_VALID),
    ],
)
def test_a_signature_outside_its_time_is_refused(since: float, until: float, code: EDE) -> None:
    signer = Signer()
    with pytest.raises(ValidationError) as caught:
        verify_rrset(DATA, signer.sign(DATA, since, until), keys_of(signer), NOW, budget())
    assert caught.value.code == code


def test_data_is_believed_no_longer_than_its_signature() -> None:
    signer = Signer()
    assert verify_rrset(DATA, signer.sign(DATA, until=10), keys_of(signer), NOW, budget()).ttl == 10
    signatures = signer.sign(DATA)
    inflated = rrs("www.example.", "A", "192.0.2.1", "192.0.2.2", ttl=80000)
    signatures.ttl = 80000
    assert verify_rrset(inflated, signatures, keys_of(signer), NOW, budget()).ttl == 300, "the original TTL caps it"


def test_changed_data_no_signature_and_foreign_signers_are_refused() -> None:
    signer = Signer()
    signatures = signer.sign(DATA)
    with pytest.raises(ValidationError) as caught:
        verify_rrset(rrs("www.example.", "A", "192.0.2.9"), signatures, keys_of(signer), NOW, budget())
    assert caught.value.code == EDE.DNSSEC_BOGUS
    with pytest.raises(ValidationError) as caught:
        verify_rrset(DATA, None, keys_of(signer), NOW, budget())
    assert caught.value.code == EDE.RRSIGS_MISSING
    foreign = Signer(zone=dns.name.from_text("org."))
    with pytest.raises(ValidationError, match="signed by org"):
        verify_rrset(DATA, foreign.sign(DATA), keys_of(foreign), NOW, budget())


@pytest.mark.parametrize("flags", [0, 1, 257 | 0x80])
def test_keys_that_are_no_zone_keys_or_revoked_verify_nothing(flags: int) -> None:
    """RFC 4034, section 2.1.1; RFC 5011, section 2.1."""
    signer = Signer(flags=flags)
    with pytest.raises(ValidationError):
        verify_rrset(DATA, signer.sign(DATA), keys_of(signer), NOW, budget())


def test_a_wildcard_signature_names_the_closest_encloser() -> None:
    signer = Signer()
    wildcard = rrs("*.wild.example.", "A", "192.0.2.1")
    signatures = signer.sign(wildcard)
    verified = verify_rrset(wildcard, signatures, keys_of(signer), NOW, budget())
    assert verified.expanded_from is None, "the wildcard itself is not expanded"
    expanded = rrs("x.y.wild.example.", "A", "192.0.2.1")
    moved = dns.rrset.from_rdata_list(expanded.name, 300, list(signatures))
    verified = verify_rrset(expanded, moved, keys_of(signer), NOW, budget())
    assert verified.expanded_from == dns.name.from_text("wild.example.")


def test_work_for_hostile_signatures_is_bounded() -> None:
    """CVE-2023-50387: hundreds of keys with one tag, hundreds of signatures that all have to be tried."""
    signer = Signer()
    good = signer.sign(DATA)[0]
    bad = [good.replace(signature=bytes([n]) * 64) for n in range(200)]
    signatures = dns.rrset.from_rdata_list(DATA.name, 300, bad)
    work = budget()
    with pytest.raises(ValidationError):
        verify_rrset(DATA, signatures, keys_of(signer), NOW, work)
    assert work.limits.signatures - work.signatures == work.limits.signatures_per_rrset
    work = budget(signatures=3)
    with pytest.raises(BudgetError):
        verify_rrset(DATA, signatures, keys_of(signer), NOW, work)

    class SameTag(KeySet):
        def candidates(self, tag: int, algorithm: int) -> list[DNSKEY]:
            return [Signer().key for _ in range(50)]

    work = budget()
    with pytest.raises(ValidationError):
        verify_rrset(DATA, signer.sign(DATA), SameTag(ZONE, []), NOW, work)
    assert work.limits.signatures - work.signatures == work.limits.keys_per_tag


# --- chain ---


def test_only_keys_that_a_ds_or_anchor_names_open_the_zone() -> None:
    ksk, zsk, foreign = Signer(), Signer(flags=256), Signer()
    rrset = dns.rrset.from_rdata_list(ZONE, 300, [ksk.key, zsk.key, foreign.key])
    signatures = ksk.sign(rrset)
    for signer in (zsk, foreign):
        signatures.update(signer.sign(rrset))
    ds = dns.dnssec.make_ds(ZONE, ksk.key, "SHA256")
    for anchor in (ds, ksk.key):
        trusted = entry_keys(ZONE, list(rrset), list(signatures), [anchor], budget())
        assert [trusted.candidates(s.key.key_id(), 15) for s in (ksk, zsk, foreign)] == [[ksk.key], (), ()]
    wrong = ds.replace(digest=bytes(32))
    assert len(entry_keys(ZONE, list(rrset), list(signatures), [wrong], budget())) == 0
    unsigned_by_ksk = zsk.sign(rrset)
    assert len(entry_keys(ZONE, list(rrset), list(unsigned_by_ksk), [ds], budget())) == 0
    many = [ds.replace(digest=bytes([n]) * 32) for n in range(200)]
    with pytest.raises(BudgetError):
        entry_keys(ZONE, list(rrset), list(signatures), many, budget())


def test_usable_ds_records() -> None:
    """RFC 4509, section 3: SHA-1 does not count beside SHA-256; unknown algorithms and digests never do."""
    sha1, sha256 = f"1 13 1 {'ab' * 20}", f"1 13 2 {'ab' * 32}"
    assert [int(ds.digest_type) for ds in usable_ds(rrs("example.", "DS", sha1, sha256))] == [2]
    assert [int(ds.digest_type) for ds in usable_ds(rrs("example.", "DS", sha1))] == [1]
    assert usable_ds(rrs("example.", "DS", f"1 253 2 {'ab' * 32}", f"1 13 77 {'ab' * 32}")) == []
    assert usable_ds(rrs("example.", "DS", f"1 5 2 {'ab' * 32}")) == [], "RSASHA1 counts as unsupported (RFC 9905)"


# --- absence ---


def denial(*records: dns.rrset.RRset, **limits: int) -> Denial:
    """What validated records prove: signed here, verified by the code under test."""
    signer = Signer()
    section = [part for record in records for part in (record, signer.sign(record))]
    return collect_denial(section, keys_of(signer), NOW, budget(**limits))


def nsec(owner: str, following: str, *types: str) -> dns.rrset.RRset:
    return rrs(owner, "NSEC", " ".join((following, *types, "RRSIG", "NSEC")))


def name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


A, AAAA, DS, TXT = (dns.rdatatype.from_text(text) for text in ("A", "AAAA", "DS", "TXT"))
APEX = nsec("example.", "b.example.", "SOA", "NS", "DNSKEY")


def test_nsec_name_error_needs_the_name_and_the_wildcard_covered() -> None:
    covering = nsec("b.example.", "d.example.", "A")
    assert denial(covering, APEX).name_error(name("c.example.")) is Proof.SECURE
    assert denial(covering).name_error(name("c.example.")) is Proof.NONE, "*.example. may exist"
    assert denial(APEX).name_error(name("c.example.")) is Proof.NONE
    assert denial(APEX).name_error(name("a.example.")) is Proof.SECURE, "one record covers both"
    last = nsec("y.example.", "example.", "A")
    assert denial(last, APEX).name_error(name("z.example.")) is Proof.SECURE, "the end of the chain"
    assert denial(last, APEX).name_error(name("z.org.")) is Proof.NONE


def test_nsec_no_data() -> None:
    matching = nsec("b.example.", "d.example.", "A")
    assert denial(matching).no_data(name("b.example."), AAAA) is Proof.SECURE
    assert denial(matching).no_data(name("B.EXAMPLE."), AAAA) is Proof.SECURE
    assert denial(matching).no_data(name("b.example."), A) is Proof.NONE
    assert denial(matching).no_data(name("c.example."), AAAA) is Proof.NONE
    assert denial(nsec("b.example.", "d.example.", "CNAME")).no_data(name("b.example."), AAAA) is Proof.NONE
    non_terminal = nsec("b.example.", "x.c.example.", "A")
    assert denial(non_terminal).no_data(name("c.example."), AAAA) is Proof.SECURE
    assert denial(non_terminal, APEX).name_error(name("c.example.")) is Proof.NONE, "it exists, without data"


def test_nsec_no_data_at_a_wildcard() -> None:
    wildcard = nsec("*.example.", "b.example.", "TXT")
    covering = nsec("b.example.", "d.example.", "A")
    assert denial(covering, wildcard).no_data(name("c.example."), A) is Proof.SECURE
    assert denial(covering, wildcard).no_data(name("c.example."), TXT) is Proof.NONE
    assert denial(covering, wildcard).name_error(name("c.example.")) is Proof.NONE


def test_nsec_of_the_parent_side_proves_nothing_below() -> None:
    """RFC 6840, section 4.1."""
    cut = nsec("b.example.", "d.example.", "NS")
    assert denial(cut, APEX).name_error(name("x.b.example.")) is Proof.NONE
    assert denial(cut).no_data(name("b.example."), A) is Proof.NONE
    assert denial(cut).no_data(name("b.example."), DS) is Proof.SECURE
    assert denial(nsec("b.example.", "d.example.", "DNAME"), APEX).name_error(name("x.b.example.")) is Proof.NONE
    assert denial(nsec("b.example.", "d.example.", "NS", "SOA")).no_data(name("b.example."), DS) is Proof.NONE


def test_nsec_delegations() -> None:
    assert denial(nsec("b.example.", "d.example.", "NS")).delegation(name("b.example.")) is DelegationProof.UNSIGNED
    signed = nsec("b.example.", "d.example.", "NS", "DS")
    assert denial(signed).delegation(name("b.example.")) is DelegationProof.NONE, "DS was withheld"
    assert denial(nsec("b.example.", "d.example.", "A")).delegation(name("b.example.")) is DelegationProof.NO_CUT
    child = nsec("b.example.", "x.b.example.", "NS", "SOA")
    assert denial(child).delegation(name("b.example.")) is DelegationProof.NONE, "the child cannot deny its DS"
    assert denial(nsec("b.example.", "x.c.example.", "A")).delegation(name("c.example.")) is DelegationProof.NO_CUT
    assert denial(APEX).delegation(name("a.example.")) is DelegationProof.ABSENT
    assert denial().delegation(name("a.example.")) is DelegationProof.NONE


def test_nsec_for_an_expanded_wildcard() -> None:
    covering = nsec("b.wild.example.", "d.wild.example.", "A")
    assert denial(covering).no_closer_match(name("c.wild.example."), name("wild.example.")) is Proof.SECURE
    assert denial(covering).no_closer_match(name("c.wild.example."), name("example.")) is Proof.NONE
    assert denial(covering).no_closer_match(name("b.wild.example."), name("wild.example.")) is Proof.NONE


def test_compact_denial_of_existence() -> None:
    """RFC 9824: the name error is a lie about one name, with the type NXNAME."""
    compact = nsec("c.example.", "\\000.c.example.", "TYPE128")
    assert denial(compact).name_error(name("c.example.")) is Proof.SECURE
    assert denial(compact).no_data(name("c.example."), A) is Proof.NONE
    assert denial(compact).delegation(name("c.example.")) is DelegationProof.ABSENT


def test_records_that_do_not_verify_prove_nothing() -> None:
    signer, other = Signer(), Signer()
    found = collect_denial([APEX, other.sign(APEX)], keys_of(signer), NOW, budget())
    assert found.name_error(name("a.example.")) is Proof.NONE
    assert found.problem is not None
    wildcard = nsec("*.example.", "b.example.", "TXT")
    signatures = dns.rrset.from_rdata_list(name("a.example."), 300, list(signer.sign(wildcard)))
    expanded = nsec("a.example.", "b.example.", "TXT")
    found = collect_denial([expanded, signatures], keys_of(signer), NOW, budget())
    assert found.no_data(name("a.example."), A) is Proof.NONE, "an NSEC record made from a wildcard"


def hashed(text: str, iterations: int = 1) -> str:
    return dns.dnssec.nsec3_hash(name(text), "abcd", iterations, "SHA1")


def matching3(text: str, *types: str, opt_out: bool = False, iterations: int = 1) -> dns.rrset.RRset:
    """An NSEC3 record that matches *text* and covers hardly anything."""
    label = hashed(text, iterations)
    flags = 1 if opt_out else 0
    return rrs(f"{label}.example.", "NSEC3", f"1 {flags} {iterations} abcd {_increment(label)} {' '.join(types)}")


def covering3(text: str, *, opt_out: bool = False, iterations: int = 1) -> dns.rrset.RRset:
    """An NSEC3 record that covers *text* and hardly anything else."""
    label = hashed(text, iterations)
    flags = 1 if opt_out else 0
    return rrs(f"{_decrement(label)}.example.", "NSEC3", f"1 {flags} {iterations} abcd {_increment(label)} A RRSIG")


_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


def _shift(label: str, by: int) -> str:
    value = (sum(_DIGITS.index(d) * 32**i for i, d in enumerate(reversed(label))) + by) % 32 ** len(label)
    return "".join(_DIGITS[value // 32**i % 32] for i in reversed(range(len(label))))


def _increment(label: str) -> str:
    return _shift(label, 1)


def _decrement(label: str) -> str:
    return _shift(label, -1)


def test_nsec3_name_error() -> None:
    """RFC 5155, section 8.4."""
    apex, closer, wildcard = matching3("example.", "NS", "SOA"), covering3("b.example."), covering3("*.example.")
    assert denial(apex, closer, wildcard).name_error(name("a.b.example.")) is Proof.SECURE
    for two in ((apex, closer), (apex, wildcard), (closer, wildcard)):
        assert denial(*two).name_error(name("a.b.example.")) is Proof.NONE
    opted_out = covering3("b.example.", opt_out=True)
    assert denial(apex, opted_out, wildcard).name_error(name("a.b.example.")) is Proof.INSECURE


def test_nsec3_no_data() -> None:
    """RFC 5155, sections 8.5 to 8.7."""
    assert denial(matching3("b.example.", "A")).no_data(name("b.example."), AAAA) is Proof.SECURE
    assert denial(matching3("b.example.", "A")).no_data(name("b.example."), A) is Proof.NONE
    assert denial(matching3("b.example.", "NS")).no_data(name("b.example."), A) is Proof.NONE
    assert denial(matching3("b.example.", "NS")).no_data(name("b.example."), DS) is Proof.SECURE
    apex, closer = matching3("example.", "NS", "SOA"), covering3("b.example.")
    wildcard = matching3("*.example.", "TXT")
    assert denial(apex, closer, wildcard).no_data(name("b.example."), A) is Proof.SECURE
    assert denial(apex, closer, wildcard).no_data(name("b.example."), TXT) is Proof.NONE
    assert denial(apex, closer).no_data(name("b.example."), DS) is Proof.NONE
    opted_out = covering3("b.example.", opt_out=True)
    assert denial(apex, opted_out).no_data(name("b.example."), DS) is Proof.INSECURE


def test_nsec3_delegations_and_wildcards() -> None:
    apex = matching3("example.", "NS", "SOA")
    assert denial(matching3("b.example.", "NS")).delegation(name("b.example.")) is DelegationProof.UNSIGNED
    assert denial(matching3("b.example.", "NS", "DS")).delegation(name("b.example.")) is DelegationProof.NONE
    assert denial(matching3("b.example.")).delegation(name("b.example.")) is DelegationProof.NO_CUT
    assert denial(apex, covering3("b.example.")).delegation(name("b.example.")) is DelegationProof.ABSENT
    out = covering3("b.example.", opt_out=True)
    assert denial(apex, out).delegation(name("b.example.")) is DelegationProof.UNSIGNED
    closer = covering3("b.example.")
    assert denial(closer).no_closer_match(name("a.b.example."), ZONE) is Proof.SECURE
    assert denial(out).no_closer_match(name("a.b.example."), ZONE) is Proof.INSECURE
    assert denial(closer).no_closer_match(name("a.c.example."), ZONE) is Proof.NONE


def test_nsec3_encloser_at_a_cut_proves_nothing() -> None:
    cut = matching3("c.example.", "NS")
    closer, wildcard = covering3("b.c.example."), covering3("*.c.example.")
    assert denial(cut, closer, wildcard).name_error(name("b.c.example.")) is Proof.NONE


def test_nsec3_iterations_are_capped_and_hashing_is_paid_for() -> None:
    """RFC 9276, section 3.2; CVE-2023-50868."""
    costly = matching3("b.example.", "A", iterations=151)
    work = budget()
    signer = Signer()
    found = collect_denial([costly, signer.sign(costly)], keys_of(signer), NOW, work)
    assert found.no_data(name("b.example."), AAAA) is Proof.INSECURE
    assert found.delegation(name("b.example.")) is DelegationProof.UNSIGNED
    assert work.hash_rounds == work.limits.hash_rounds, "nothing was hashed"
    apex = matching3("example.", "NS", "SOA", iterations=150)
    deep = name(".".join(["x"] * 100) + ".example.")
    with pytest.raises(BudgetError):
        denial(apex, hash_rounds=1000).name_error(deep)


def test_nsec3_with_other_parameters_is_left_out() -> None:
    first, second = matching3("example.", "NS", "SOA"), matching3("b.example.", "A", iterations=2)
    assert denial(first, second).no_data(name("b.example."), AAAA) is Proof.NONE
    unknown = rrs(f"{hashed('b.example.')}.example.", "NSEC3", f"2 0 1 abcd {_increment(hashed('b.example.'))} A")
    assert denial(unknown).no_data(name("b.example."), AAAA) is Proof.NONE


def test_only_so_many_records_are_looked_at() -> None:
    records: Iterable[dns.rrset.RRset] = [
        nsec(f"a{index:03}.example.", f"a{index:03}z.example.") for index in range(50)
    ]
    work = budget()
    signer = Signer()
    section = [part for record in records for part in (record, signer.sign(record))]
    collect_denial(section, keys_of(signer), NOW, work)
    assert work.limits.signatures - work.signatures == work.limits.denial_records
