"""Server cookies against the vectors of RFC 9018, and what a query's option is worth."""

from __future__ import annotations

import dns.edns
import dns.message
import pytest

from mpcore.net.cookies import CookieStanding, ServerCookies, SuppliedCookie, find_cookie
from mpcore.net.siphash import siphash24

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
CLIENT = bytes.fromhex("2464c4abcf10c957")
NOW = 1559731985


def query(cookie: bytes | None, *others: dns.edns.Option) -> bytes:
    options = list(others)
    if cookie is not None:
        options.append(dns.edns.GenericOption(10, cookie))
    return dns.message.make_query("example.", "A", use_edns=0, options=options).to_wire()


def judge(cookies: ServerCookies, cookie: bytes, host: str, now: float) -> SuppliedCookie:
    return cookies.judge(query(cookie), host, now)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "310e0edd47db6f72"),
        (1, "fd67dc93c539f874"),
        (7, "37d1018bf50002ab"),
        (8, "6224939a79f5f593"),
        (15, "e545be4961ca29a1"),
        (63, "724506eb4c328a95"),
    ],
)
def test_siphash_of_the_reference(length: int, expected: str) -> None:
    """The vectors of the reference implementation: key 00 to 0f, data 00, 01, 02 and so on."""
    assert siphash24(bytes(range(16)), bytes(range(length))).hex() == expected


def test_siphash_wants_a_key_of_16_octets() -> None:
    with pytest.raises(ValueError, match="15 octets"):
        siphash24(bytes(15), b"")


def test_learning_a_new_cookie() -> None:
    """RFC 9018, appendix A.1."""
    supplied = judge(ServerCookies([SECRET]), CLIENT, "198.51.100.100", NOW)
    assert supplied.standing is CookieStanding.CLIENT
    assert supplied.option.hex() == "000a0018" + "2464c4abcf10c957010000005cf79f111f8130c3eee29480"


def test_a_cookie_is_renewed() -> None:
    """RFC 9018, appendix A.2: 40 minutes old; before that the client keeps what it has."""
    cookie = bytes.fromhex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")
    supplied = judge(ServerCookies([SECRET]), cookie, "198.51.100.100", 1559734385)
    assert supplied.standing is CookieStanding.VALID
    assert supplied.option.hex() == "000a0018" + "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"
    kept = judge(ServerCookies([SECRET]), cookie, "198.51.100.100", NOW + 1800)
    assert kept.option[4:] == cookie


def test_reserved_octets_are_hashed_not_judged() -> None:
    """RFC 9018, appendix A.3."""
    cookie = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    supplied = judge(ServerCookies([SECRET]), cookie, "203.0.113.203", 0x5CF78F71 + 2000)
    assert supplied.standing is CookieStanding.VALID
    late = judge(ServerCookies([SECRET]), cookie, "203.0.113.203", 1559734700)
    assert late.option.hex() == "000a0018" + "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"


def test_a_replaced_secret_is_still_accepted() -> None:
    """RFC 9018, appendix A.4: an IPv6 client with a cookie of the secret before."""
    new, old = bytes.fromhex("445536bcd2513298075a5d379663c962"), bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715")
    cookie = bytes.fromhex("22681ab97d52c298010000005cf7c57926556bd0934c72f8")
    host = "2001:db8:220:1:59de:d0f4:8769:82b8"
    supplied = judge(ServerCookies([new, old]), cookie, host, 1559741961)
    assert supplied.standing is CookieStanding.VALID
    assert supplied.option.hex() == "000a0018" + "22681ab97d52c298010000005cf7c609a6bb79d16625507a"
    assert judge(ServerCookies([new]), cookie, host, 1559741961).standing is CookieStanding.CLIENT


def test_a_cookie_is_valid_for_one_address_and_one_hour() -> None:
    cookies = ServerCookies([SECRET])
    cookie = judge(cookies, CLIENT, "198.51.100.100", NOW).option[4:]

    def standing(now: float, host: str = "198.51.100.100", cookie: bytes = cookie) -> CookieStanding:
        return judge(cookies, cookie, host, now).standing

    assert standing(NOW + 3600) is CookieStanding.VALID
    assert standing(NOW + 3601) is CookieStanding.CLIENT
    assert standing(NOW - 300) is CookieStanding.VALID
    assert standing(NOW - 301) is CookieStanding.CLIENT
    assert standing(NOW, "198.51.100.101") is CookieStanding.CLIENT
    assert standing(NOW, "::ffff:198.51.100.100") is CookieStanding.VALID
    for position in range(8, 24):
        damaged = cookie[:position] + bytes((cookie[position] ^ 1,)) + cookie[position + 1 :]
        assert standing(NOW, cookie=damaged) is CookieStanding.CLIENT


def test_time_stamps_wrap() -> None:
    """RFC 9018, section 4.3: serial number arithmetic."""
    cookies = ServerCookies([SECRET])
    cookie = judge(cookies, CLIENT, "192.0.2.1", 2**32 - 10).option[4:]
    assert judge(cookies, cookie, "192.0.2.1", 2**32 + 10).standing is CookieStanding.VALID
    assert judge(cookies, cookie, "192.0.2.1", 2**32 + 3600).standing is CookieStanding.CLIENT


def test_lengths() -> None:
    """RFC 7873, section 5.2.2."""
    cookies = ServerCookies([SECRET])
    for length in (*range(8), *range(9, 16), 41, 60):
        assert judge(cookies, bytes(length), "192.0.2.1", NOW).standing is CookieStanding.MALFORMED
    for length in (8, *range(16, 41)):
        assert judge(cookies, bytes(length), "192.0.2.1", NOW).standing is CookieStanding.CLIENT
    assert cookies.judge(query(None), "192.0.2.1", NOW).standing is CookieStanding.ABSENT
    assert (
        cookies.judge(dns.message.make_query("a.", "A").to_wire(), "192.0.2.1", NOW).standing is CookieStanding.ABSENT
    )


def test_finding_the_option() -> None:
    other = dns.edns.GenericOption(65001, b"x")
    assert find_cookie(query(CLIENT, other)) == CLIENT
    octets = query(CLIENT)
    for size in range(12, len(octets)):
        assert find_cookie(octets[:size]) is None
    assert find_cookie(octets[:-10] + b"\x00\x09" + octets[-8:]) is None


@pytest.mark.parametrize("secrets", [[], [bytes(15)], [bytes(16), bytes(17)]])
def test_secrets_have_16_octets(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 octets"):
        ServerCookies(secrets)


def test_secrets_are_not_shown() -> None:
    assert SECRET.hex() not in repr(ServerCookies([SECRET]))
    assert repr(SECRET) not in repr(ServerCookies([SECRET]))
