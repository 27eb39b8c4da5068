"""What the machines of a group ask their node to do, besides :mod:`mpcore.actions`."""

from __future__ import annotations

from dataclasses import dataclass

from mpcore.actions import Action
from mpcore.group.ballot import Ballot

__all__ = ("Broadcast", "LeaderChanged", "Leadership")


@dataclass(frozen=True, slots=True)
class Broadcast(Action):
    """Send an election message as ``rfi``: one attempt each, concurrently, outcome ignored.

    :param ballot: what to say.
    :param recipients: identities; a recipient that cannot be reached is skipped.
    """

    ballot: Ballot
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads under which term.

    :param leader: identity; ``""`` in gossip of a member that knows of none.
    :param term: 0 to 4294967295; 0 with the only voter of a group.
    :param expires: Unix seconds, by our clock.
    """

    leader: str
    term: int
    expires: float


@dataclass(frozen=True, slots=True)
class LeaderChanged(Action):
    """Another leader, or none, is known for a group; the same leader elected again is reported too.

    :param group: hash of the group.
    :param leadership: the leadership, ``None``: there is no valid leader.
    :param reason: why, in words.
    """

    group: str
    leadership: Leadership | None
    reason: str
