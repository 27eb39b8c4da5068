"""What the machines of a peer ask their node to do, besides :mod:`mpcore.actions`."""

from __future__ import annotations

from dataclasses import dataclass

from mpcore.actions import Action
from mpcore.peer.outbound_entry import OutboundEntry

__all__ = (
    "Attempt",
    "Discover",
    "Expired",
    "Forget",
    "SendBeat",
    "SendHello",
    "StateChanged",
    "Superseded",
)


@dataclass(frozen=True, slots=True)
class Discover(Action):
    """Look up where *identity* is reached and its key (:mod:`mpcore.peer.discovery`), then report the outcome.

    :param flush: first forget what the resolver has cached at and below the identity.
    """

    identity: str
    flush: bool = False


@dataclass(frozen=True, slots=True)
class SendHello(Action):
    """Send a HELLO, then report the outcome.

    :param zone: one zone that we share, ``""`` if there is none.
    """

    identity: str
    zone: str


@dataclass(frozen=True, slots=True)
class SendBeat(Action):
    """Send a BEAT with the zones that we share and the gossip of this moment, then report the outcome."""

    identity: str


@dataclass(frozen=True, slots=True)
class StateChanged(Action):
    """A peer's state is another: rewrite our gossip row, tell the delivery queue, tell the operator.

    :param old: state word before.
    :param new: state word now.
    :param reason: why, in words.
    """

    identity: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forget(Action):
    """The peer shares no zone with us any more, and the time of grace is over: remove it."""

    identity: str


@dataclass(frozen=True, slots=True)
class Attempt(Action):
    """Send the message of *entry* now, then report the outcome to the queue."""

    entry: OutboundEntry


@dataclass(frozen=True, slots=True)
class Expired(Action):
    """A message was given up; its ``Store`` that deletes it precedes this.

    :param reason: why, in words.
    """

    entry: OutboundEntry
    reason: str


@dataclass(frozen=True, slots=True)
class Superseded(Action):
    """A message that was never tried is not needed any more, because a newer one replaces all that it says.

    :param by: distribution id of the newer one.
    """

    entry: OutboundEntry
    by: str
