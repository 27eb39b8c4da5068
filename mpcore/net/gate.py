"""What a response passes on its way out: DNS cookies and the response rate of the client's network.

=====================================  =====================================================
query and response                     what is sent
=====================================  =====================================================
malformed COOKIE option                FORMERR (RFC 7873, section 5.2.2)
valid server cookie                    the response with the cookie, whatever the rate
UDP, above the rate, a client cookie   BADCOOKIE with a server cookie to come back with
UDP, above the rate, no cookie         nothing, or the response truncated
all else                               the response, with a server cookie to a client cookie
=====================================  =====================================================
"""

from __future__ import annotations

from typing import Final

from mpcore.net.cookies import CookieStanding, ServerCookies, find_opt
from mpcore.net.messages import FORMERR, empty_reply, question_end, requested_payload
from mpcore.net.rrl import ResponseLimiter, Verdict, network_of

__all__ = ("ResponseGate",)

_BADCOOKIE: Final = 23
_MAX_MESSAGE: Final = 65535


class ResponseGate:
    """Cookies and limits of one server.

    :param cookies: ``None`` ignores cookies.
    :param limiter: ``None`` sets no limit.
    :param udp_payload: octets of the largest response over UDP.
    """

    __slots__ = ("_cookies", "_limiter", "_udp_payload")

    def __init__(self, cookies: ServerCookies | None, limiter: ResponseLimiter | None, udp_payload: int) -> None:
        self._cookies, self._limiter, self._udp_payload = cookies, limiter, udp_payload

    def holds(self, query: bytes, host: str) -> bool:
        """Whether :meth:`respond` may change anything: false for the plain query of an unlimited client."""
        if self._limiter is not None and network_of(host):
            return True
        # With a cookie a query has at least 12 octets of header, 11 of OPT and 12 of option, and does not end with an
        # OPT that has no options.
        return (
            self._cookies is not None
            and len(query) >= 35
            and query[11] != 0
            and not (query.endswith(b"\0\0") and query[-11:-8] == b"\0\0\x29")
        )

    def respond(self, query: bytes, host: str, response: bytes, now: float, *, over_tcp: bool) -> bytes | None:
        """What is sent instead of *response*; ``None`` for nothing.

        :param query: the request, at least 12 octets.
        :param host: numeric address of the client.
        :param response: at least 12 octets, unsigned.
        :param now: Unix seconds.
        """
        option = b""
        standing = CookieStanding.ABSENT
        if self._cookies is not None:
            supplied = self._cookies.judge(query, host, now)
            standing, option = supplied.standing, supplied.option
            if standing is CookieStanding.MALFORMED:
                return empty_reply(query, FORMERR)
            if option and query[4:6] == b"\0\0" and not query[2] & 0xF8:
                return _bare(query, 0, option)  # a query for a cookie alone (RFC 7873, section 5.4)
        if self._limiter is not None and not over_tcp and standing is not CookieStanding.VALID:
            verdict = self._limiter.judge(host, response, now)
            if verdict is not Verdict.SEND:
                if option:
                    return _bare(query, _BADCOOKIE, option)
                return _cut(response) if verdict is Verdict.SLIP else None
        if not option:
            return response
        limit = _MAX_MESSAGE if over_tcp else min(requested_payload(query), self._udp_payload)
        whole = _with_option(response, option)
        return whole if len(whole) <= limit else _with_option(_cut(response), option)


def _with_option(response: bytes, option: bytes) -> bytes:
    """*response* with an option more in its OPT record; unchanged without OPT."""
    found = find_opt(response)
    if found is None:
        return response
    start, end = found
    length = (end - start + len(option)).to_bytes(2, "big")
    return response[: start - 2] + length + response[start:end] + option + response[end:]


def _cut(response: bytes) -> bytes:
    """*response* with no records but OPT, and TC set (RFC 2181, section 9; RFC 6891, section 7)."""
    end = question_end(response)
    opt = b""
    found = find_opt(response)
    if found is not None:
        opt = response[found[0] - 11 : found[1]]
    header = response[:2] + bytes((response[2] | 0x02, response[3])) + response[4:6] + b"\0\0\0\0"
    return header + (b"\0\1" if opt else b"\0\0") + response[12 : end or 12] + opt


def _bare(query: bytes, rcode: int, option: bytes) -> bytes:
    """A response of header, question and OPT with one option."""
    head = empty_reply(query, rcode & 15)
    opt = b"\0\0\x29\x04\xd0" + bytes((rcode >> 4,)) + b"\0\0\0" + len(option).to_bytes(2, "big") + option
    return head[:10] + b"\0\1" + head[12:] + opt
