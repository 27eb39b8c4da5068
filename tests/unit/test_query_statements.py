"""Updates, keys and transfers of the query tool, without a network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dns.rdatatype
import pytest

from mpcore.errors import ConfigError, TransferError
from mpcore.query.keyfiles import load_sig0_key, load_tsig_key, parse_tsig_keys
from mpcore.query.transfer import TransferCheck
from mpcore.query.update import parse_update
from mpcore.query.words import QueryError
from mpcore.zone import owners
from mpcore.zone.rrset import parse_rdata
from mpcore.zone.sig0 import find_sig0, sign_sig0, verify_sig0

ZONE = owners.from_text("example.")
WWW = owners.from_text("www.example.")
ADDRESS = parse_rdata(1, "192.0.2.1")


def soa(serial: int) -> bytes:
    return parse_rdata(6, f"ns. host. {serial} 1 2 3 4")


@pytest.mark.parametrize(
    ("since", "records", "ends"),
    [
        (None, [soa(1), ADDRESS, soa(1)], "done"),
        (None, [soa(1), ADDRESS], "zone"),
        (7, [soa(7)], "first"),
        (1, [soa(3), soa(1), ADDRESS, soa(2), ADDRESS, soa(2), soa(3), ADDRESS, soa(3)], "done"),
        (1, [soa(3), ADDRESS, soa(3)], "done"),
        (1, [soa(3), soa(1), soa(3), ADDRESS], "adding"),
    ],
)
def test_what_is_a_whole_transfer(since: int | None, records: list[bytes], ends: str) -> None:
    check = TransferCheck(ZONE, since)
    for rdata in records:
        check.take(ZONE if len(rdata) > 4 else WWW, 6 if len(rdata) > 4 else 1, rdata)
    assert check.state == ends
    if since == 7:
        check.message_taken()
        assert check.state == "done"


@pytest.mark.parametrize(
    ("since", "records", "complaint"),
    [
        (None, [ADDRESS], "first record is not SOA"),
        (None, [soa(1), ADDRESS, soa(2)], "ends with serial 2"),
        (None, [soa(1), soa(1), ADDRESS], "follows the end"),
        (1, [soa(3), soa(1), soa(1)], "not newer"),
        (1, [soa(4), soa(1), soa(2), soa(3)], "serial 2 has been reached"),
    ],
)
def test_what_is_none(since: int | None, records: list[bytes], complaint: str) -> None:
    check = TransferCheck(ZONE, since)
    *good, last = records
    for rdata in good:
        check.take(ZONE if len(rdata) > 4 else WWW, 6 if len(rdata) > 4 else 1, rdata)
    with pytest.raises(TransferError, match=complaint):
        check.take(ZONE if len(last) > 4 else WWW, 6 if len(last) > 4 else 1, last)


def test_statements_become_messages() -> None:
    text = """; a comment
zone example.
ttl 60
prereq nxdomain new.example.
yxrrset www.example. IN A 192.0.2.1
update add new.example. A 192.0.2.2
add\tp1.example.\t300\tIN\tHSYNC3\tON p1. agent.p1.example. .
update delete old.example. A
del gone.example.

delete www.example. 300 A 192.0.2.1
send
"""
    first, second = parse_update(text.splitlines(), where="f")
    assert first.statements == (
        "nxdomain new.example.",
        "yxrrset www.example. A 192.0.2.1",
        "add new.example. 60 A 192.0.2.2",
        "add p1.example. 300 HSYNC3 ON p1. agent.p1.example. .",
        "delete old.example. A",
        "delete gone.example.",
    )
    assert second.statements == ("delete www.example. A 192.0.2.1",)
    assert [rrset.rdtype for rrset in second.message.update] == [dns.rdatatype.A]


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("add a.example. A 192.0.2.1", "TTL is missing"),
        ("add a.example. 300 A 1.2.3", "1.2.3"),
        ("add a.other. 300 A 192.0.2.1", "a.other."),
        ("add a.example. 2147483648 A 192.0.2.1", "2147483648"),
        ("add a.example. 300 MXX 1", "MXX"),
        ("delete a.example. AXFR", "AXFR"),
        ("frob a.example.", "frob"),
        ("prereq add a.example. 1 A 192.0.2.1", "add"),
        ("nxrrset a.example. A 192.0.2.1", "192.0.2.1"),
        ("yxdomain a.example. b", "b"),
        ("key a secret", "--tsig-file"),
        ("zone", "zone"),
        ("server 192.0.2", "192.0.2"),
    ],
)
def test_wrong_statements_name_line_and_word(statement: str, word: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_update(["; first", statement], zone="example.", where="changes")
    assert str(caught.value).startswith("changes:2: ")
    assert word in str(caught.value)


SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.mark.parametrize(
    "text",
    [
        f'key "ops.example" {{ algorithm hmac-sha256; secret "{SECRET}"; }};',
        f"# made today\nkey ops.example. {{\n\talgorithm HMAC-SHA256;\n\tsecret {SECRET};\n}};\n",
        f"key:\n  - id: ops.example.\n    algorithm: hmac-sha256\n    secret: {SECRET}\n",
        f"- name: ops.example\n  algorithm: hmac-sha256\n  secret: {SECRET}\n",
        f"ops.example:{SECRET}",
        f"hmac-sha256:ops.example:{SECRET}",
    ],
)
def test_forms_of_tsig_keys(text: str) -> None:
    (key,) = parse_tsig_keys(text, "f")
    assert (key.name_text, key.algorithm, key.secret) == ("ops.example.", "hmac-sha256", b"0123456789abcdef" * 2)


@pytest.mark.parametrize(
    "text", ["", "key x {};", "a:b:c:d", "- name: x\n", "[[[", f"a..b:{SECRET}", f"md5:a:{SECRET}"]
)
def test_texts_that_are_no_tsig_keys(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_tsig_keys(text, "f")
    assert SECRET not in str(caught.value)


def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text(f"ops.example:{SECRET}\nx")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read"):
        load_tsig_key(path)
    path.write_text("".join(f'key "{name}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n' for name in "ab"))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="--tsig-key"):
        load_tsig_key(path)
    assert load_tsig_key(path, "B").name_text == "b."
    with pytest.raises(ConfigError, match="no key c"):
        load_tsig_key(path, "c")


@pytest.mark.peer
@pytest.mark.parametrize("algorithm", ["ECDSAP256SHA256", "ED25519", "RSASHA256"])
def test_sig0_keys_of_binds_tools(tmp_path: Path, algorithm: str) -> None:
    made = subprocess.run(
        ["dnssec-keygen", "-T", "KEY", "-n", "HOST", "-a", algorithm, "-K", str(tmp_path), "-b", "2048", "ops.example"]
        if algorithm == "RSASHA256"
        else ["dnssec-keygen", "-T", "KEY", "-n", "HOST", "-a", algorithm, "-K", str(tmp_path), "ops.example"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    signer = load_sig0_key(tmp_path / f"{made}.private")
    message = bytes(12)
    signed = sign_sig0(message, signer.key, signer.sign, 1.8e9)
    assert verify_sig0(signed, find_sig0(signed)[0], signer.key) == message
