"""Response rate limiting for UDP, so that a server is of little use for attacking a third party by forged sources.

Responses are counted by the network that they go to and by what they say: an answer by its name, a denial or a referral
by the zone that it speaks for, an error by its code.  A network that asks many different things is not limited by one
of them; asking for many names that do not exist is asking for one thing, the denial of one zone.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

from mpcore.errors import RecordError
from mpcore.net.messages import question_end
from mpcore.zone.owners import read_name

__all__ = ("ResponseLimiter", "Verdict", "network_of")

_Key: TypeAlias = tuple[bytes, int, bytes]

_NXDOMAIN: Final = 3


class Verdict(Enum):
    """What becomes of a response."""

    SEND = "send"
    SLIP = "slip"
    """Send it truncated: an honest client comes back over TCP."""
    DROP = "drop"


@lru_cache(maxsize=4096)
def network_of(host: str) -> bytes:
    """The network that a host is counted with: 24 bits of an IPv4 address, 56 of an IPv6 address; empty for loopback,
    which is not limited."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.encode()
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    if address.is_loopback:
        return b""
    return address.packed[: 3 if address.version == 4 else 7]


class ResponseLimiter:
    """Token buckets by network and meaning.

    :param rate: responses a second of one meaning to one network, above 0.
    :param burst: responses at once; ``None`` for those of two seconds.
    :param slip: of the responses above the rate, each *slip*-th is sent truncated and the others are dropped; 1
        truncates all, 0 drops all.
    :param max_buckets: number of buckets remembered, about 300 octets each; the one used least recently is forgotten.
    """

    __slots__ = ("_buckets", "_burst", "_max", "_rate", "_slip")

    def __init__(self, rate: float, *, burst: float | None = None, slip: int = 2, max_buckets: int = 16384) -> None:
        self._rate, self._burst = rate, 2 * rate if burst is None else burst
        self._slip, self._max = slip, max_buckets
        self._buckets: OrderedDict[_Key, tuple[float, float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def judge(self, host: str, response: bytes, now: float) -> Verdict:
        """Count a response and say what becomes of it.

        :param host: numeric address that it goes to.
        :param response: one message of at least 12 octets.
        :param now: seconds on any clock.
        """
        network = network_of(host)
        if not network:
            return Verdict.SEND
        key = (network, *_meaning(response))
        level, at, over = self._buckets.pop(key, (self._burst, now, 0))
        level = min(self._burst, level + max(0.0, now - at) * self._rate)
        verdict = Verdict.SEND
        if level >= 1:
            level -= 1
            over = 0
        else:
            over += 1
            verdict = Verdict.SLIP if self._slip and over % self._slip == 0 else Verdict.DROP
        self._buckets[key] = (level, now, over)
        if len(self._buckets) > self._max:
            self._buckets.popitem(last=False)
        return verdict


def _meaning(response: bytes) -> tuple[int, bytes]:
    """RCODE, and the name that the response speaks for; empty for an error."""
    rcode = response[3] & 15
    if rcode not in (0, _NXDOMAIN):
        return rcode, b""
    end = question_end(response)
    if end is None:
        return rcode, b""
    if response[6:8] != b"\0\0":
        return rcode, response[12 : end - 4].lower()
    if response[8:10] == b"\0\0":
        return rcode, b""
    try:
        return rcode, read_name(response, end)[0].lower()
    except RecordError:
        return rcode, b""
