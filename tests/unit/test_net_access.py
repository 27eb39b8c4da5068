"""Access lists, keyrings and rate limits."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mpcore.errors import ConfigError
from mpcore.net.acl import Acl, AclEntry
from mpcore.net.keyring import find_key, load_keyring
from mpcore.net.ratelimit import RateLimiter, source_key
from mpcore.net.remote import RemoteServer
from mpcore.zone.owners import from_text

SECRET = base64.b64encode(bytes(32)).decode()
GOOD = f"""
# of the secondaries
- name: Transfer.Key
  algorithm: HMAC-SHA256
  secret: {SECRET}
- {{name: other., algorithm: hmac-sha512., secret: "{SECRET}"}}
"""


def written(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "tsig.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_nobody_is_permitted_by_default() -> None:
    assert not Acl().permits("127.0.0.1")
    assert not Acl().permits("::1", b"\1k\0")


def test_prefix_and_key_must_both_match() -> None:
    acl = Acl.of([("192.0.2.0/24", "k."), ("198.51.100.7", None), ("2001:db8::/32", "K6.")])
    key, other = from_text("k."), from_text("other.")
    assert acl.permits("192.0.2.9", key)
    assert acl.permits("::ffff:192.0.2.9", key)
    assert not acl.permits("192.0.2.9")
    assert not acl.permits("192.0.2.9", other)
    assert not acl.permits("192.0.3.9", key)
    assert acl.permits("198.51.100.7")
    assert acl.permits("198.51.100.7", other)
    assert not acl.permits("198.51.100.8")
    assert acl.permits("2001:db8::1", from_text("k6."))
    assert not acl.permits("2001:db8::1", key)
    assert not acl.permits("not an address", key)


def test_a_block_wins() -> None:
    everyone = Acl.of([("0.0.0.0/0", None)])._entries
    bad = Acl.of([("192.0.2.66", None)])._entries[0]
    acl = Acl([*everyone, AclEntry(bad.prefix, blocked=True)])
    assert acl.permits("192.0.2.65")
    assert not acl.permits("192.0.2.66")


def test_the_configured_secondaries_are_permitted_with_their_keys() -> None:
    acl = Acl.for_servers([RemoteServer("192.0.2.1", 53, "k."), RemoteServer("192.0.2.2", 53)])
    assert acl.permits("192.0.2.1", from_text("k."))
    assert not acl.permits("192.0.2.1")
    assert acl.permits("192.0.2.2")


@pytest.mark.parametrize("pair", [("192.0.2.1/24", None), ("localhost", None), ("192.0.2.1", "a..b")])
def test_a_wrong_entry_is_a_configuration_error(pair: tuple[str, str | None]) -> None:
    with pytest.raises(ConfigError):
        Acl.of([pair])


def test_a_keyring_is_read(tmp_path: Path) -> None:
    keyring = load_keyring(written(tmp_path, GOOD))
    assert {name: key.algorithm for name, key in keyring.items()} == {
        from_text("transfer.key."): "hmac-sha256",
        from_text("other."): "hmac-sha512",
    }
    key = find_key(keyring, "TRANSFER.key.")
    assert key is not None
    assert key.secret == bytes(32)
    assert SECRET not in repr(keyring)
    assert "secret" not in repr(key)
    assert find_key(keyring, None) is None
    with pytest.raises(ConfigError, match=r"no TSIG key missing\."):
        find_key(keyring, "missing.")
    assert load_keyring(written(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: x\n", 1, "a list"),
        ("- 1\n", 1, "name, algorithm and secret"),
        (f"\n- name: a\n  secret: {SECRET}\n", 2, "algorithm: is missing"),
        (f"- name: a\n  algorithm: hmac-md5\n  secret: {SECRET}\n", 1, "hmac-md5"),
        (f"- name: a\n  algorithm: hmac-sha256\n  secret: {SECRET}\n  port: 1\n", 4, "only name"),
        (f"- name: a\n  name: b\n  algorithm: hmac-sha256\n  secret: {SECRET}\n", 2, "given twice"),
        ("- name: a\n  algorithm: hmac-sha256\n  secret: '!!!topsecret!!!'\n", 1, "not base64"),
        ("- name: a\n  algorithm: hmac-sha256\n  secret: c2hvcnQ=\n", 1, "5 octets"),
        (f"- name: NoKey\n  algorithm: hmac-sha256\n  secret: {SECRET}\n", 1, "reserved"),
        (f"- name: a..b\n  algorithm: hmac-sha256\n  secret: {SECRET}\n", 1, "a..b"),
        (f"- name: [a]\n  algorithm: hmac-sha256\n  secret: {SECRET}\n", 1, "must be a text"),
        (GOOD + GOOD, 9, "a second key transfer.key."),
        ("- {", 1, "not YAML"),
        ("- name: a\n  secret: " + "[" * 5000, 2, "nested too deeply"),
        ("- !!python/object/apply:os.system [id]\n", 1, "must have name"),
    ],
)
def test_a_faulty_keyring_is_refused_by_line_and_without_secrets(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_keyring(path)
    assert str(caught.value).startswith(f"{path}:{line}")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_keyring_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="0600"):
        load_keyring(written(tmp_path, GOOD, mode))


def test_a_keyring_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keyring(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(ConfigError):
        load_keyring(tmp_path / "binary")


def test_a_source_has_its_rate_and_its_burst() -> None:
    limiter = RateLimiter(10, 5)
    assert [limiter.allow("192.0.2.1", 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.allow("192.0.2.2", 100.0)
    assert [limiter.allow("192.0.2.1", 100.25) for _ in range(3)] == [True, True, False]
    assert sum(limiter.allow("192.0.2.1", 1000.0) for _ in range(100)) == 5


def test_a_wait_grows_with_the_debt() -> None:
    limiter = RateLimiter(10, 2)
    assert [round(limiter.delay("192.0.2.1", 0.0), 3) for _ in range(5)] == [0, 0, 0.1, 0.2, 0.3]
    assert limiter.delay("192.0.2.1", 10.0) == 0


def test_the_number_of_sources_remembered_is_bounded() -> None:
    limiter = RateLimiter(1, 1, max_sources=10)
    for number in range(1000):
        limiter.allow(f"10.0.{number // 250}.{number % 250}", 0.0)
    assert len(limiter._buckets) == 10


def test_an_ipv6_source_is_a_network_of_64_bits() -> None:
    assert source_key("2001:db8::1") == source_key("2001:db8:0:0:ffff::2")
    assert source_key("2001:db8::1") != source_key("2001:db8:0:1::1")
    assert source_key("::ffff:192.0.2.1") == source_key("192.0.2.1")
    assert source_key("fe80::1%eth0") == source_key("fe80::2")
