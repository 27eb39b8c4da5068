"""Payloads kept for receivers that fetch them: the sending side of query mode (guide, wire format, "Query mode").

A payload lies under three kinds of names for five minutes: ``0.<base>`` the manifest, ``1.<base>`` and so on the data
chunks, and ``<base>`` alone the whole payload in one record, if it fits, for receivers that do not ask for pieces.
Whoever knows the name may fetch it: it is sealed for one receiver.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mpcore.errors import DeliveryError, FrameError, PolicyError
from mpcore.net.clock import Clock
from mpcore.net.messages import truncated_reply
from mpcore.net.server import Request
from mpcore.records import CHUNK, FORMAT_JWT
from mpcore.wire import frame
from mpcore.wire.chunks import split

__all__ = ("LIFETIME", "ChunkStore")

LIFETIME = 300.0
"""Seconds for which a payload is kept."""

_LARGEST_WHOLE = 65000  #: octets of a payload that one record under the bare name carries, with room for the names


@dataclass(frozen=True, slots=True)
class _Kept:
    pieces: tuple[CHUNK, ...]
    whole: CHUNK | None
    octets: int
    until: float


class ChunkStore:
    """The payloads that can be fetched from one node; bounded, the oldest give way.

    :param clock: for the life time.
    :param otherwise: answers queries for names that are not here; message, source, over TCP.
    :param capacity: most payloads.
    :param octets: most octets of all payloads.
    """

    def __init__(
        self,
        clock: Clock,
        otherwise: Callable[[bytes, tuple[str, int], bool], bytes | None],
        *,
        capacity: int = 1000,
        octets: int = 64 << 20,
    ) -> None:
        self._clock, self._otherwise = clock, otherwise
        self._capacity, self._most_octets, self._octets = capacity, octets, 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, receiver: str, distribution_id: str, sender: str, content: str, payload: bytes) -> None:
        """Keep a sealed *payload*; one under the same name is replaced.

        :param content: type of the message.
        :raises DeliveryError: it is too large for any receiver, or for this store.
        """
        now = self._clock.now()
        try:
            pieces = split(
                payload, content=content, distribution_id=distribution_id, receiver=receiver, timestamp=int(now)
            )
        except PolicyError as error:
            raise DeliveryError(str(error)) from None
        if len(payload) > self._most_octets:
            raise DeliveryError(f"the sealed {content} has {len(payload)} octets; {self._most_octets} can be kept")
        whole = CHUNK.make(0, 1, payload, FORMAT_JWT) if len(payload) <= _LARGEST_WHOLE else None
        name = frame.chunk_name(receiver, distribution_id, sender).lower()
        self._drop(name)
        self._kept[name] = _Kept(tuple(pieces), whole, len(payload), now + LIFETIME)
        self._octets += len(payload)
        self._forget(now)

    def get(self, query: frame.ChunkQuery) -> CHUNK | None:
        """The record at the name of *query*, or ``None``."""
        self._forget(self._clock.now())
        kept = self._kept.get(query.name.lower())
        if kept is not None:
            return kept.whole
        kept = self._kept.get(query.base.lower())
        number = query.sequence
        if kept is None or number is None or number >= len(kept.pieces):
            return None
        return kept.pieces[number]

    async def handle(self, request: Request) -> bytes | None:
        """The answer to a CHUNK query, for :class:`mpcore.net.server.DnsServer`; over UDP it is truncated."""
        try:
            query = frame.decode_chunk_query(request.octets)
        except FrameError as error:
            return None if error.rcode is None else frame.encode_error(request.octets, error.rcode)
        chunk = self.get(query)
        if chunk is None:
            return self._otherwise(request.octets, request.source, request.over_tcp)
        answer = frame.encode_chunk_answer(query, chunk)
        return answer if request.over_tcp else truncated_reply(answer)

    def _forget(self, now: float) -> None:
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if oldest.until > now and len(self._kept) <= self._capacity and self._octets <= self._most_octets:
                return
            self._drop(name)

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._octets -= kept.octets
