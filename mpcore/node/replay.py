"""Memory of the messages received, so that a repeat is answered and not processed again.

A message is known by sender, receiver, distribution id, type and SHA-256 of the opened payload: ids alone repeat
legitimately, a CONFIRM reuses the id of the message that it confirms.  Messages that change durable state are
remembered on disk, in the transaction that makes the change; hello, beat, ping and the elections, which only matter
while they are fresh, in memory.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from mpcore.wire.messages import Message

__all__ = ("MAX_AGE", "MEMORY", "ReplayMemory", "SeenKey", "seen_key")

#: How old a message may be, by its own time, and how long it is remembered: the life time of a queued message.
MAX_AGE = 86400.0
#: How many messages are remembered in memory.
MEMORY = 20000
_MOST_OCTETS = 32 << 20


@dataclass(frozen=True, slots=True)
class SeenKey:
    """What makes a message the same message."""

    sender: str
    receiver: str
    distribution_id: str
    type: str
    digest: bytes  #: SHA-256 of the opened payload


def seen_key(sender: str, receiver: str, distribution_id: str, message: Message, payload: bytes) -> SeenKey:
    """The key of a message just opened."""
    return SeenKey(sender, receiver, distribution_id, message.TYPE, hashlib.sha256(payload).digest())


class ReplayMemory:
    """The newest messages with the inline answers they got, in bounded memory.

    :param capacity: most messages.
    :param octets: most octets of answers.
    """

    def __init__(self, capacity: int = MEMORY, octets: int = _MOST_OCTETS) -> None:
        self._capacity, self._most_octets, self._octets = capacity, octets, 0
        self.complete = True  #: nothing younger than MAX_AGE has been forgotten: what is not here is new
        self._answers: OrderedDict[SeenKey, tuple[float, bytes]] = OrderedDict()

    def answer(self, key: SeenKey, now: float) -> bytes | None:
        """The inline answer given to *key* before, or ``None``."""
        found = self._answers.get(key)
        if found is None or found[0] < now - MAX_AGE:
            return None
        return found[1]

    def remember(self, key: SeenKey, answer: bytes, now: float) -> None:
        """Keep *answer* for repeats of *key*."""
        before = self._answers.pop(key, None)
        if before is not None:
            self._octets -= len(before[1])
        self._answers[key] = (now, answer)
        self._octets += len(answer)
        while len(self._answers) > self._capacity or self._octets > self._most_octets:
            _, (at, forgotten) = self._answers.popitem(last=False)
            self._octets -= len(forgotten)
            if at >= now - MAX_AGE:
                self.complete = False
