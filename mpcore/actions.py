"""What state machines ask their node to do.

A machine takes an event and ``now`` and returns a list of actions; the node performs them in order.  A ``Send`` after a
``Store`` waits for its commit, and nothing is visible to a peer before it.  Rooms add actions of their own where these
do not say enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mpcore.wire.messages import Message

__all__ = ("Action", "CancelTimer", "RandomSource", "Send", "SetTimer", "Store")


class Action:
    """Base of all actions."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Send(Action):
    """Send *message* to the peer *recipient*.

    :param recipient: identity of the peer.
    :param message: what to say.
    :param distribution_id: 8 lower-case hex digits; a CONFIRM carries the id of the message that it confirms.
    :param durable: ``True``: keep it in the delivery queue until it is acknowledged or 24 hours old;
        ``False``: one attempt, whose outcome nobody waits for.
    """

    recipient: str
    message: Message
    distribution_id: str
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Store(Action):
    """Keep *value* (JSON-able) under (*kind*, *key*) across restarts; ``None`` deletes it."""

    kind: str
    key: str
    value: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class SetTimer(Action):
    """Call the machine's ``timer(name, now)`` at *at* (Unix seconds); a second one of that name replaces the first."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class CancelTimer(Action):
    """Forget the timer *name*, if it runs."""

    name: str


class RandomSource(Protocol):
    """The part of :class:`random.Random` that machines use; the node injects a seeded or a system one."""

    def getrandbits(self, k: int, /) -> int: ...

    def uniform(self, a: float, b: float, /) -> float: ...
