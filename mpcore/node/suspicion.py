"""Before a peer is called dead: what the others say, and whether the fault may be our own.

One missing beat proves little.  The matrix is indirect evidence: where others hear the peer, the fault lies between it
and us.  And where most of our peers are late at the same moment, the likely fault is ours (the observation of
*Lifeguard*, Dadgar, Phillips and Currey, 2017): then each of them gets more time before we tell the group that it is
degraded.  The words of the matrix keep their meaning; a peer is never called healthy that was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpcore.group.gossip import OPERATIONAL
from mpcore.peer.machine import Peer

__all__ = ("LATE", "PATIENCE", "ourselves_suspected", "suspicion")

LATE = 1.5
"""Intervals after which a peer counts as late; it is degraded after 2."""

PATIENCE = 1.25
"""Factor by which the time until a peer is degraded is stretched while we suspect ourselves.

Not more: in a group that has fallen into halves everybody suspects itself, and still nobody may believe in its leader
three intervals later.
"""

_FEWEST = 2  #: of one late peer among one nobody can say whose fault it is


def ourselves_suspected(peers: Iterable[Peer], now: float) -> tuple[int, int] | None:
    """How many of how many active agents are late, if they are so many that the fault is likely ours."""
    counted = [peer for peer in peers if peer.kind == "agent" and peer.watched]
    late = sum(1 for peer in counted if peer.lateness(now) > LATE)
    return (late, len(counted)) if late >= _FEWEST and 2 * late > len(counted) else None


def suspicion(peer: Peer, said: Mapping[str, str], ours: tuple[int, int] | None, now: float) -> str | None:
    """What is to be thought of a peer that is late, in words; ``None``: it is not late.

    :param said: what other members report about it of late: member -> state word.
    :param ours: what :func:`ourselves_suspected` says.
    """
    if not peer.watched or peer.lateness(now) <= LATE:
        return None
    if ours is not None:
        late, of = ours
        return f"late like {late} of {of} peers at the same time: the fault is probably ours"
    hear = sorted(name for name, word in said.items() if word == OPERATIONAL)
    deaf = sorted(name for name, word in said.items() if word != OPERATIONAL)
    if hear:
        who = f"{', '.join(hear)} {'hears' if len(hear) == 1 else 'hear'} it"
        return f"suspected one-way: {who}, so the fault is between us and it"
    if deaf:
        return f"{', '.join(deaf)} {'does' if len(deaf) == 1 else 'do'} not hear it either: it is probably down"
    return "late, and nobody else reports about it"
