"""DNS cookies of a server (RFC 7873), in the form that servers of any make agree on (RFC 9018).

A client that returns a server cookie made for its address has shown that it receives what is sent there: it is not held
to the response rate of its network.  Servers of one anycast set share their secrets and so accept each other's cookies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from mpcore.errors import ExchangeError
from mpcore.net.messages import OPT, counts, question_end, skip_record
from mpcore.net.siphash import siphash24

__all__ = ("COOKIE_OPTION", "CookieStanding", "ServerCookies", "SuppliedCookie", "find_cookie", "find_opt")

COOKIE_OPTION: Final = 10
"""EDNS(0) option code (RFC 7873, section 4)."""

_VERSION: Final = 1
_MAX_AGE: Final = 3600  # seconds that a cookie is accepted for
_MAX_SKEW: Final = 300  # seconds that a cookie may be ahead of the clock: servers that share a secret differ a little
_RENEW_AGE: Final = 1800  # seconds after which a cookie, though accepted, is replaced (RFC 9018, section 4.3)


class CookieStanding(Enum):
    """What a query says by its COOKIE option."""

    ABSENT = "absent"
    MALFORMED = "malformed"
    """Of a length that no cookie has: FORMERR (RFC 7873, section 5.2.2)."""
    CLIENT = "client"
    """No server cookie, or one that is not valid here and now."""
    VALID = "valid"


@dataclass(frozen=True, slots=True)
class SuppliedCookie:
    """The judgement of a query's COOKIE option.

    :param option: the whole option for the response, code and length included; empty for none.
    """

    standing: CookieStanding
    option: bytes = b""


_ABSENT: Final = SuppliedCookie(CookieStanding.ABSENT)
_MALFORMED: Final = SuppliedCookie(CookieStanding.MALFORMED)


class ServerCookies:
    """Makes and judges server cookies.

    :param secrets: 16 octets each: the first makes cookies, all are accepted, so that a secret can be replaced without
        a break (RFC 9018, section 5): add the new one behind, then put it first, then drop the old one.
    :raises ValueError: no secret, or one of another length.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) != 16 for secret in secrets):
            raise ValueError("a cookie secret has 16 octets, and there must be one")
        self._secrets = tuple(secrets)

    def __repr__(self) -> str:
        return f"<ServerCookies with {len(self._secrets)} secrets>"

    def judge(self, query: bytes, host: str, now: float) -> SuppliedCookie:
        """What the COOKIE option of a query is worth, and the option for the response.

        :param query: one message of at least 12 octets.
        :param host: numeric address of the client.
        :param now: Unix seconds.
        """
        data = find_cookie(query)
        if data is None:
            return _ABSENT
        if len(data) != 8 and not 16 <= len(data) <= 40:
            return _MALFORMED
        client, server = data[:8], data[8:]
        address = _address(host)
        stamp = int(now) & 0xFFFFFFFF
        if len(server) == 16 and server[0] == _VERSION:
            age = (stamp - int.from_bytes(server[4:8], "big") + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            if -_MAX_SKEW <= age <= _MAX_AGE:
                for index, secret in enumerate(self._secrets):
                    if _hash(secret, client + server[:8] + address) == server[8:]:
                        renew = index or age > _RENEW_AGE
                        cookie = self._make(client, address, stamp) if renew else server
                        return SuppliedCookie(CookieStanding.VALID, _option(client, cookie))
        return SuppliedCookie(CookieStanding.CLIENT, _option(client, self._make(client, address, stamp)))

    def _make(self, client: bytes, address: bytes, stamp: int) -> bytes:
        head = bytes((_VERSION, 0, 0, 0)) + stamp.to_bytes(4, "big")
        return head + _hash(self._secrets[0], client + head + address)


@lru_cache(maxsize=4096)
def _hash(secret: bytes, data: bytes) -> bytes:
    return siphash24(secret, data)


@lru_cache(maxsize=4096)
def _address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.encode()
    mapped = getattr(address, "ipv4_mapped", None)
    return (address if mapped is None else mapped).packed


def _option(client: bytes, server: bytes) -> bytes:
    return COOKIE_OPTION.to_bytes(2, "big") + (len(client) + len(server)).to_bytes(2, "big") + client + server


def find_opt(message: bytes) -> tuple[int, int] | None:
    """Where the RDATA of the OPT record of a message begins and ends; ``None`` without one, or if it is malformed."""
    questions, answers, authorities, additionals = counts(message)
    before = answers + authorities
    if not additionals or questions > 1:
        return None
    position = question_end(message) if questions else 12
    try:
        for index in range(before + additionals):
            rdtype, rdata, end = skip_record(message, position or 12)
            if rdtype == OPT and index >= before:
                return rdata, end
            position = end
    except ExchangeError:
        pass
    return None


def find_cookie(message: bytes) -> bytes | None:
    """Data of the first COOKIE option of a message of at least 12 octets; ``None`` without one."""
    found = find_opt(message)
    if found is None:
        return None
    position, end = found
    while position + 4 <= end:
        code = message[position] << 8 | message[position + 1]
        after = position + 4 + (message[position + 2] << 8 | message[position + 3])
        if code == COOKIE_OPTION:
            return message[position + 4 : after] if after <= end else None
        position = after
    return None
