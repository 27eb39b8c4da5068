"""Keys: what they look like on the wire, how they are kept, what they refuse.  dnspython is the judge."""

from __future__ import annotations

import random

import dns.dnssec
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mpcore.errors import ConfigError, ConflictError, StoreError
from mpcore.signer.keys import (
    KSK_FLAGS,
    Algorithm,
    KeyState,
    SigningKey,
    algorithm_number,
    dnskey_rdata,
    dnskey_text,
    dump_pem,
    generate_private_key,
    generate_signing_key,
    key_tag,
    load_pem,
    raw_signer,
)

ZONE = "example."
NOW = 1_800_000_000.0


def _parsed(rdata: bytes) -> dns.rdata.Rdata:
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, rdata, 0, len(rdata))


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("ksk", [True, False])
def test_public_half_is_what_dnspython_makes_of_the_same_key(algorithm: Algorithm, ksk: bool) -> None:
    key = generate_signing_key(ZONE, algorithm, ksk, NOW)
    assert key.private is not None
    expected = dns.dnssec.make_dnskey(key.private.public_key(), int(algorithm), flags=257 if ksk else 256)
    assert key.dnskey == expected.to_wire()
    assert key.key_tag == dns.dnssec.key_id(expected)
    assert (key.flags, key.algorithm, key.is_ksk) == (257 if ksk else 256, algorithm, ksk)


def test_key_tag_of_the_example_in_rfc_4034() -> None:
    rdata = dns.rdata.from_text(
        "IN",
        "DNSKEY",
        "256 3 5 AQPSKmynfzW4kyBv015MUG2DeIQ3Cbl+BBZH4b/0PY1kxkmvHjcZc8nokfzj31GajIQKY+5CptLr3buXA10hWqTk"
        "F7H6RfoRqXQeogmMHfpftf6zMv1LyBUgia7za6ZEzOJBOztyvhjL742iU/TpPSEDhm2SNKLijfUppn1UaNvv4w==",
    ).to_wire()
    assert key_tag(rdata) == 2642


@pytest.mark.parametrize("length", [5, 6, 35, 68, 1000])
def test_key_tag_of_odd_and_even_lengths(length: int) -> None:
    rdata = b"\x01\x01\x03\x0d" + bytes((index * 37) & 255 for index in range(length - 4))
    total = 0
    for index, octet in enumerate(rdata):  # RFC 4034, appendix B, as written there
        total += octet if index & 1 else octet << 8
    total += (total >> 16) & 0xFFFF
    assert key_tag(rdata) == total & 0xFFFF


@pytest.mark.parametrize("algorithm", Algorithm)
def test_signature_has_the_form_that_dnssec_wants(algorithm: Algorithm) -> None:
    private = generate_private_key(algorithm)
    public = _parsed(dnskey_rdata(private, KSK_FLAGS))
    sign = raw_signer(private)
    checker = dns.dnssec.get_algorithm_cls_from_dnskey(public).public_cls.from_dnskey(public)
    for number in range(300 if algorithm is not Algorithm.RSASHA256 else 3):  # short r and s occur once in 128
        data = b"record %d" % number
        checker.verify(sign(data), data)
        assert sign(data) == sign(data)


def test_pem_goes_round_in_the_clear_and_encrypted() -> None:
    private = generate_private_key(Algorithm.ECDSAP256SHA256)
    for passphrase in (None, b"correct horse"):
        text = dump_pem(private, passphrase)
        assert ("ENCRYPTED" in text) == (passphrase is not None)
        assert dnskey_rdata(load_pem(text, passphrase), 256) == dnskey_rdata(private, 256)
    # A passphrase that is configured does not hinder reading a file in the clear.
    assert load_pem(dump_pem(private), b"correct horse") is not None


@pytest.mark.parametrize("passphrase", [None, b"", b"wrong"])
def test_encrypted_key_stays_shut(passphrase: bytes | None) -> None:
    text = dump_pem(generate_private_key(Algorithm.ED25519), b"right")
    with pytest.raises(ConfigError, match="passphrase") as caught:
        load_pem(text, passphrase, file="zsk.pem")
    assert caught.value.file == "zsk.pem"


def _pkcs8(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        _pkcs8(ec.generate_private_key(ec.SECP384R1())),
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "text", "damaged", "P-384", "public"],
)
def test_what_is_no_key_of_ours_is_a_configuration_error(text: bytes) -> None:
    with pytest.raises(ConfigError):
        load_pem(text)


def test_key_file_of_an_identity_zone() -> None:
    text = dump_pem(generate_private_key(Algorithm.ED25519))
    key = SigningKey.from_pem("Agent.Example.", text, ksk=False, now=NOW)
    assert (key.zone, key.state, key.flags, key.algorithm) == ("agent.example.", KeyState.ACTIVE, 256, 15)


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_stored_value_goes_round(passphrase: bytes | None) -> None:
    key = generate_signing_key(ZONE, 13, True, NOW, state=KeyState.MPDIST, passphrase=passphrase)
    value = key.to_value()
    assert ("ENCRYPTED" in value["pem"]) == (passphrase is not None)
    again = SigningKey.from_value(value, passphrase)
    assert again == key
    assert again.signer()(b"x") == key.signer()(b"x")
    assert again.store_key == f"example./{key.key_tag}/13"


def test_state_changes_keep_the_encrypted_form() -> None:
    key = generate_signing_key(ZONE, 13, True, NOW, passphrase=b"secret")
    later = key.to_state(KeyState.ACTIVE, NOW + 5)
    assert (later.pem, later.state, later.changed_at, later.created_at) == (key.pem, KeyState.ACTIVE, NOW + 5, NOW)


def test_removed_key_has_no_private_part() -> None:
    gone = generate_signing_key(ZONE, 13, True, NOW).to_state(KeyState.REMOVED, NOW)
    assert gone.to_value()["pem"] is None
    again = SigningKey.from_value(gone.to_value())
    assert again.dnskey == gone.dnskey
    with pytest.raises(ConflictError):
        again.signer()


def test_private_part_is_not_shown() -> None:
    key = generate_signing_key(ZONE, 13, True, NOW)
    assert "PRIVATE" not in repr(key)
    assert "private" not in repr(key).lower()


def test_damaged_values_are_store_errors() -> None:
    good = generate_signing_key(ZONE, 13, True, NOW).to_value()
    other = generate_signing_key(ZONE, 13, True, NOW).to_value()
    for damage in (
        {"dnskey": "%%%"},
        {"dnskey": ""},
        {"state": "sleeping"},
        {"zone": "a..b."},
        {"created_at": None},
        {"dnskey": other["dnskey"]},
    ):
        with pytest.raises(StoreError):
            SigningKey.from_value({**good, **damage})
    with pytest.raises(StoreError):
        SigningKey.from_value({})
    with pytest.raises(ConfigError):
        SigningKey.from_value({**good, "pem": "rubbish"})


@pytest.mark.parametrize("algorithm", [13, 15])
def test_taken_tags_are_avoided(algorithm: int) -> None:
    tags = [generate_signing_key(ZONE, algorithm, False, NOW, random=random.Random(7)).key_tag]
    for _ in range(5):
        key = generate_signing_key(ZONE, algorithm, False, NOW, avoid=tags, random=random.Random(7))
        assert key.key_tag not in tags
        tags.append(key.key_tag)


def test_generation_gives_up_when_no_tag_is_free() -> None:
    with pytest.raises(ConflictError):
        generate_signing_key(ZONE, 15, False, NOW, avoid=range(65536), random=random.Random(7))


def test_seeded_keys_are_the_same_every_time_and_rsa_cannot_be_seeded() -> None:
    for algorithm in (13, 15):
        one, two = (generate_signing_key(ZONE, algorithm, True, NOW, random=random.Random(3)) for _ in range(2))
        assert one == two
    with pytest.raises(ConfigError):
        generate_signing_key(ZONE, 8, True, NOW, random=random.Random(3))


def test_algorithms_by_name_and_number() -> None:
    assert algorithm_number("ECDSAP256SHA256") == 13
    assert algorithm_number("ed25519") == 15
    assert algorithm_number("RSASHA256") == 8
    with pytest.raises(ConfigError, match="RSAMD5"):
        algorithm_number("RSAMD5")
    with pytest.raises(ConfigError):
        generate_signing_key(ZONE, 14, True, NOW)


def test_text_of_a_record_reads_back() -> None:
    key = generate_signing_key(ZONE, 13, True, NOW)
    owner, ttl, rdclass, rdtype, rdata = dnskey_text(ZONE, 3600, key.dnskey).split("\t")
    assert (owner, ttl, rdclass, rdtype) == ("example.", "3600", "IN", "DNSKEY")
    assert len(rdata.split(" ")) == 4
    assert dns.rdata.from_text("IN", "DNSKEY", rdata).to_wire() == key.dnskey
    with pytest.raises(ConfigError):
        dnskey_text(ZONE, 3600, b"\1\1\3")


def test_which_states_are_in_the_rrset() -> None:
    assert {state.value for state in KeyState if state.publishes} == {
        "mpdist",
        "published",
        "ds-published",
        "standby",
        "active",
        "retired",
        "foreign",
    }
