"""TSIG: dnspython's message layer is the other side."""

from __future__ import annotations

import base64

import dns.message
import dns.name
import dns.rcode
import dns.tsig
import pytest

from mpcore.errors import TsigError
from mpcore.zone import owners
from mpcore.zone.transfer import axfr_query
from mpcore.zone.tsig import (
    ALGORITHMS,
    TSIG_RESERVE,
    TsigKey,
    TsigStream,
    TsigStreamVerifier,
    error_response,
    find_signature,
    sign_message,
    verify_message,
)

NOW = 1_800_000_000.5
SECRET = bytes(range(32))
KEY = TsigKey.from_text("xfr.Example.", "HMAC-SHA256.", base64.b64encode(SECRET).decode())
KEYS = {KEY.name: KEY}
QUERY = axfr_query(owners.from_text("example."), 77)


def judge(key: TsigKey) -> dns.tsig.Key:
    return dns.tsig.Key(key.name_text, key.secret, key.algorithm)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_dnspython_accepts_our_signature_and_we_accept_its(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    key = TsigKey(KEY.name, algorithm, SECRET)
    octets, mac = sign_message(QUERY, key, NOW)
    assert len(octets) - len(QUERY) <= TSIG_RESERVE
    message = dns.message.from_wire(octets, keyring=judge(key))
    assert message.had_tsig
    assert message.mac == mac
    response = dns.message.make_response(message)
    wire = response.to_wire()
    verified = verify_message(wire, {key.name: key}, NOW, request_mac=mac)
    assert verified is not None
    assert verified.key is key
    assert dns.message.from_wire(verified.octets).id == 77


def test_a_request_without_tsig_is_told_apart() -> None:
    assert verify_message(QUERY, KEYS, NOW) is None
    assert find_signature(QUERY) is None


@pytest.mark.parametrize(("error", "name"), [(16, "BADSIG"), (17, "BADKEY"), (18, "BADTIME"), (22, "BADTRUNC")])
def test_what_is_wrong_is_told_in_the_answer(error: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    octets, mac = sign_message(QUERY, KEY, NOW)
    keys, now = KEYS, NOW
    if name == "BADSIG":
        keys = {KEY.name: TsigKey(KEY.name, KEY.algorithm, b"other")}
    elif name == "BADKEY":
        keys = {}
    elif name == "BADTIME":
        now = NOW + 301
    else:
        signature = find_signature(octets)
        assert signature is not None
        cut = octets.replace(mac, mac[:16]).replace(b"\x00\x20" + mac[:16], b"\x00\x10" + mac[:16])
        rdlength = int.from_bytes(octets[signature.start + len(KEY.name) + 8 :][:2], "big") - 16
        at = signature.start + len(KEY.name) + 8
        octets = cut[:at] + rdlength.to_bytes(2, "big") + cut[at + 2 :]
    with pytest.raises(TsigError) as caught:
        verify_message(octets, keys, now)
    assert (caught.value.rcode, caught.value.error) == (9, error)

    answer = error_response(octets, caught.value, keys, now)
    signature = find_signature(answer)
    assert signature is not None
    assert signature.error == error
    assert (len(signature.mac) > 0) == (name in ("BADTIME", "BADTRUNC"))
    assert answer[:2] == QUERY[:2]
    assert answer[3] & 15 == dns.rcode.NOTAUTH
    if name == "BADTIME":
        assert int.from_bytes(signature.other, "big") == int(now)
    with pytest.raises(TsigError, match=name):
        verify_message(answer, KEYS, NOW, request_mac=mac)


def test_a_key_serves_only_its_algorithm() -> None:
    octets, _ = sign_message(QUERY, TsigKey(KEY.name, "hmac-sha512", SECRET), NOW)
    with pytest.raises(TsigError) as caught:
        verify_message(octets, KEYS, NOW)
    assert caught.value.error == 17


def test_a_misplaced_or_malformed_tsig_is_a_format_error() -> None:
    octets, _ = sign_message(QUERY, KEY, NOW)
    twice, _ = sign_message(octets, KEY, NOW)
    for faulty in (twice, octets[:-3], octets + b"\x00", octets.replace(b"\x00\xfa\x00\xff", b"\x00\xfa\x00\x01")):
        with pytest.raises(TsigError) as caught:
            verify_message(faulty, KEYS, NOW)
        assert caught.value.rcode == 1
        assert find_signature(error_response(faulty, caught.value, KEYS, NOW)) is None


def test_a_changed_message_does_not_verify() -> None:
    octets, _ = sign_message(QUERY, KEY, NOW)
    with pytest.raises(TsigError):
        verify_message(octets[:13] + b"F" + octets[14:], KEYS, NOW)


def test_a_stream_is_accepted_by_dnspython_and_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    request, mac = sign_message(QUERY, KEY, NOW)
    out, back = TsigStream(KEY, mac), TsigStreamVerifier(KEY, mac)
    plain = [bytes((0, 77, 0x84, 0)) + QUERY[4:] for _ in range(3)]
    signed = [out.sign(octets, NOW) for octets in plain]
    assert [back.verify(octets, NOW) for octets in signed] == plain
    back.finish()
    context = None
    for octets in signed:
        message = dns.message.from_wire(
            octets, keyring=judge(KEY), request_mac=mac, xfr=True, multi=True, tsig_ctx=context
        )
        context = message.tsig_ctx
    reordered = TsigStreamVerifier(KEY, mac)
    reordered.verify(signed[0], NOW)
    with pytest.raises(TsigError):
        reordered.verify(signed[2], NOW)
    assert request != QUERY


def test_messages_between_signed_ones_may_be_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    _, mac = sign_message(QUERY, KEY, NOW)
    answer = bytes((0, 77, 0x84, 0)) + QUERY[4:]
    out = TsigStream(KEY, mac)
    first = out.sign(answer, NOW)
    out._context.update(answer)  # an unsigned message is part of the next MAC
    third = out.sign(answer, NOW)
    back = TsigStreamVerifier(KEY, mac)
    back.verify(first, NOW)
    back.verify(answer, NOW)
    with pytest.raises(TsigError, match="last message"):
        back.finish()
    back.verify(third, NOW)
    back.finish()
    with pytest.raises(TsigError, match="first message"):
        TsigStreamVerifier(KEY, mac).verify(answer, NOW)
    for _ in range(99):
        back.verify(answer, NOW)
    with pytest.raises(TsigError, match="99"):
        back.verify(answer, NOW)


def test_no_representation_shows_the_secret() -> None:
    text = base64.b64encode(SECRET).decode()
    for value in (KEY, TsigStream(KEY, b""), TsigStreamVerifier(KEY, b"")):
        shown = repr(value) + str(value)
        assert text not in shown
        assert repr(SECRET)[2:-1] not in shown
    with pytest.raises(ValueError, match="base64") as caught:
        TsigKey.from_text("k.", "hmac-sha256", "s3cret!")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="hmac-md5"):
        TsigKey.from_text("k.", "hmac-md5", text)
    with pytest.raises(ValueError, match="empty"):
        TsigKey.from_text("k.", "hmac-sha256", "")
