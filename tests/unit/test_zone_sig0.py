"""Signatures by public key over messages: what verifies, what does not, and what is never let near a verification."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

import dns.message
import dns.rdtypes.ANY.SIG
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mpcore.errors import RecordError, Sig0Error
from mpcore.signer.keys import Algorithm, dnskey_rdata, generate_private_key, raw_signer
from mpcore.zone.owners import from_text
from mpcore.zone.sig0 import (
    MAX_LIFETIME,
    SKEW,
    Sig0Key,
    Sig0Keys,
    check_time,
    find_sig0,
    fingerprint,
    key_tag,
    sign_sig0,
    strip_sig0,
    verify_sig0,
)

NOW = 1_800_000_000.0
SIGNER = from_text("host.customer.example.")
QUERY = dns.message.make_query("customer.example.", "SOA", use_edns=0, id=4711).to_wire()
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def pair(algorithm: Algorithm, name: bytes = SIGNER) -> tuple[Sig0Key, Callable[[bytes], bytes]]:
    private = generate_private_key(algorithm)
    return Sig0Key(name, dnskey_rdata(private, 0x0200)), raw_signer(private)


PAIRS = {algorithm: pair(algorithm) for algorithm in Algorithm}


def verify(octets: bytes, *keys: Sig0Key, now: float = NOW, request: bytes = b"") -> bytes:
    """Every step, as a receiver takes them."""
    signature, key = Sig0Keys(keys).choose(find_sig0(octets))
    check_time(signature, now)
    return verify_sig0(octets, signature, key, request=request)


def failure(octets: bytes, *keys: Sig0Key, now: float = NOW) -> int:
    with pytest.raises(Sig0Error) as caught:
        verify(octets, *keys, now=now)
    return caught.value.rcode


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_was_signed_verifies_and_comes_out_as_it_was(algorithm: Algorithm) -> None:
    key, sign = PAIRS[algorithm]
    signed = sign_sig0(QUERY, key, sign, NOW)
    assert verify(signed, key) == QUERY
    # dnspython's own reading of the record (RFC 2931, section 3: owner root, class ANY, TTL 0; covers nothing)
    record = signed[len(QUERY) :]
    assert record[:9] == b"\0" + struct.pack("!HHI", 24, 255, 0)
    rdata = dns.rdata.from_wire("ANY", "SIG", record, 11, len(record) - 11)
    assert isinstance(rdata, dns.rdtypes.ANY.SIG.SIG)
    assert (rdata.type_covered, rdata.algorithm, rdata.labels, rdata.original_ttl) == (0, algorithm, 0, 0)
    assert (rdata.inception, rdata.expiration) == (NOW - 300, NOW + 300)
    assert (rdata.key_tag, rdata.signer.to_text()) == (key.tag, "host.customer.example.")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_no_octet_can_be_changed(algorithm: Algorithm) -> None:
    key, sign = PAIRS[algorithm]
    signed = sign_sig0(QUERY, key, sign, NOW)
    accepted = []
    for at in range(len(signed)):
        damaged = signed[:at] + bytes((signed[at] ^ 1,)) + signed[at + 1 :]
        try:
            verify(damaged, key)
        except Sig0Error:
            continue
        accepted.append(at - len(QUERY))
    # The owner's terminator aside, only what stands outside the RDATA and is nobody's promise: the TTL.
    assert accepted == [5, 6, 7, 8]


def test_a_signature_has_its_time() -> None:
    key, sign = PAIRS[Algorithm.ED25519]
    signed = sign_sig0(QUERY, key, sign, NOW)
    for offset in (-300 - SKEW, 0, 300 + SKEW):
        assert verify(signed, key, now=NOW + offset) == QUERY
    for offset in (-301 - SKEW, 301 + SKEW, -(2**31), 2**31 - 1, 2**31):
        assert failure(signed, key, now=NOW + offset) == 18
    assert failure(sign_sig0(QUERY, key, sign, NOW, lifetime=MAX_LIFETIME // 2 + 1), key) == 18
    assert failure(sign_sig0(QUERY, key, sign, NOW, lifetime=-1), key) == 18
    wrapped = 2.0**32 + 5  # the clock of 2106
    assert verify(sign_sig0(QUERY, key, sign, wrapped), key, now=wrapped) == QUERY


def test_only_known_keys_count_and_only_the_first_that_is_known() -> None:
    key, sign = PAIRS[Algorithm.ED25519]
    other, other_sign = pair(Algorithm.ED25519)
    assert failure(sign_sig0(QUERY, key, sign, NOW), other) == 17
    assert failure(sign_sig0(QUERY, key, sign, NOW)) == 17
    # under a known key's tag, but not by it
    forged = sign_sig0(QUERY, key, other_sign, NOW)
    assert failure(forged, key) == 16
    # two signatures: of the old key and of the new one
    both = sign_sig0(QUERY, key, sign, NOW)
    extra = sign_sig0(QUERY, other, other_sign, NOW)[len(QUERY) :]
    both = both[:10] + (int.from_bytes(both[10:12], "big") + 1).to_bytes(2, "big") + both[12:] + extra
    assert verify(both, key) == verify(both, other) == verify(both, key, other) == QUERY
    signatures = find_sig0(both)
    assert [signature.key_tag for signature in signatures] == [key.tag, other.tag]
    with pytest.raises(Sig0Error, match="more than 4"):
        find_sig0(both[:10] + b"\0\6" + both[12:] + extra * 3)


def test_records_as_other_implementations_send_them_are_taken() -> None:
    """Owner the signer's name, class IN, a TTL, and names in capitals; what is signed is the RDATA as sent."""
    key, sign = PAIRS[Algorithm.ECDSAP256SHA256]
    spelled = dataclasses.replace(key, name=b"\x04HOST" + SIGNER[5:])
    signed = sign_sig0(QUERY, spelled, sign, NOW)
    rdata = signed[len(QUERY) + 11 :]
    other = signed[: len(QUERY)] + SIGNER + struct.pack("!HHIH", 24, 1, 300, len(rdata)) + rdata
    assert verify(other, key) == QUERY


def test_an_answer_is_bound_to_its_request() -> None:
    key, sign = PAIRS[Algorithm.ED25519]
    request = sign_sig0(QUERY, key, sign, NOW)
    answer = sign_sig0(QUERY[:2] + b"\x80" + QUERY[3:], key, sign, NOW, request=request)
    assert verify(answer, key, request=request) == QUERY[:2] + b"\x80" + QUERY[3:]
    with pytest.raises(Sig0Error):
        verify(answer, key, request=QUERY)


def test_another_form_of_a_signature_has_the_same_fingerprint() -> None:
    """Anybody can turn (r, s) into (r, -s): a repetition must be known again all the same."""
    key, sign = PAIRS[Algorithm.ECDSAP256SHA256]
    signed = sign_sig0(QUERY, key, sign, NOW)
    s = int.from_bytes(signed[-32:], "big")
    turned = signed[:-32] + (P256_ORDER - s).to_bytes(32, "big")
    assert verify(turned, key) == QUERY
    assert turned != signed
    assert fingerprint(turned, find_sig0(turned)[0]) == fingerprint(signed, find_sig0(signed)[0])
    later = sign_sig0(QUERY, key, sign, NOW + 1)
    assert fingerprint(later, find_sig0(later)[0]) != fingerprint(signed, find_sig0(signed)[0])


def test_a_message_without_signature_has_none() -> None:
    assert find_sig0(QUERY) == ()


def test_malformed_signatures_are_format_errors() -> None:
    key, sign = PAIRS[Algorithm.ED25519]
    signed = sign_sig0(QUERY, key, sign, NOW)
    start = len(QUERY)
    rdata = signed[start + 11 :]

    def with_rdata(octets: bytes, rdclass: int = 255) -> bytes:
        return signed[:start] + b"\0" + struct.pack("!HHIH", 24, rdclass, 0, len(octets)) + octets

    for octets in (
        signed[:-1],
        signed + b"\0",
        with_rdata(rdata[:18]),
        with_rdata(rdata[: 18 + len(SIGNER)]),
        with_rdata(rdata[:20]),
        with_rdata(rdata, rdclass=3),
        signed[:10] + b"\0\3" + signed[12:] + QUERY[-11:],  # the OPT once more, behind the SIG
    ):
        assert failure(octets, key) == 1
    # a SIG that covers a type is a record like any other
    assert find_sig0(with_rdata(b"\0\1" + rdata[2:])) == ()
    assert strip_sig0(signed, find_sig0(signed)[0]) == QUERY


def test_keys_that_do_not_sign_messages_are_refused() -> None:
    good = PAIRS[Algorithm.ED25519][0].rdata
    weak = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    modulus = weak.n.to_bytes(128, "big")
    for rdata in (
        good[:4],
        good[:-1],
        b"\x82\x00" + good[2:],  # authentication prohibited (RFC 2535, section 3.1.2)
        good[:2] + b"\2" + good[3:],  # protocol 2
        good[:3] + b"\5" + good[4:],  # RSASHA1
        bytes((2, 0, 3, 13)) + b"\1" * 64,  # not on the curve
        bytes((2, 0, 3, 8)) + b"\3\1\0\1" + modulus[64:],  # 512 bits
        bytes((2, 0, 3, 8)) + b"\1\1" + modulus,  # exponent 1
        bytes((2, 0, 3, 8)) + b"\0",
    ):
        with pytest.raises(RecordError):
            Sig0Key(SIGNER, rdata)
    assert Sig0Key(SIGNER, bytes((2, 0, 3, 8)) + b"\3\1\0\1" + modulus).algorithm == 8


def test_keys_are_read_from_records() -> None:
    key = PAIRS[Algorithm.ED25519][0]
    text = f"Host.Customer.Example. IN KEY {dns.rdata.from_wire('IN', 'KEY', key.rdata, 0, len(key.rdata)).to_text()}"
    assert Sig0Key.from_text(text) == key
    assert key.tag == key_tag(key.rdata)
    with pytest.raises(RecordError, match="not a KEY"):
        Sig0Key.from_text("host.example. IN A 192.0.2.1")
    assert len(Sig0Keys([key, key])) == 1


def test_two_keys_with_one_tag_are_refused() -> None:
    key = PAIRS[Algorithm.ED25519][0]
    # the tag is a sum of 16-bit words: exchanging two of them keeps it
    twin = None
    for at in range(4, 34, 2):
        swapped = key.rdata[:at] + key.rdata[at + 2 : at + 4] + key.rdata[at : at + 2] + key.rdata[at + 4 :]
        if swapped != key.rdata:
            twin = Sig0Key(SIGNER, swapped)
            break
    assert twin is not None
    assert twin.tag == key.tag
    with pytest.raises(RecordError, match="have the tag"):
        Sig0Keys([key, twin])
