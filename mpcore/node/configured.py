"""Peers known from configuration, as the control API shows them."""

from __future__ import annotations

from typing import Literal

from mpcore.control.models import Peer
from mpcore.node.directory import Directory
from mpcore.node.settings import ConfiguredPeer

__all__ = ("configured_view",)


def configured_view(
    peer: ConfiguredPeer,
    kind: Literal["agent", "combiner", "signer"],
    directory: Directory,
    started_at: float,
    zones: tuple[str, ...] = (),
    beat_interval: float | None = None,
) -> Peer:
    """A configured peer: KNOWN until something was heard, then OPERATIONAL; DEGRADED while sending to it fails."""
    traffic = directory.traffic(peer.identity)
    heard = max(traffic.last_heard or 0.0, traffic.last_acknowledged or 0.0)
    state = "OPERATIONAL" if heard else "KNOWN"
    waiting = None if heard else f"{peer.identity} has not been heard yet"
    if traffic.last_error is not None:
        state, waiting = "DEGRADED", f"{peer.identity} must answer again: {traffic.last_error}"
    return Peer(
        identity=peer.identity,
        kind=kind,
        state=state,
        since=heard or started_at,
        address=f"{peer.address}:{peer.port}",
        zones=zones,
        beat_interval=beat_interval,
        last_heard=traffic.last_heard,
        last_acknowledged=traffic.last_acknowledged,
        round_trip=traffic.round_trip,
        last_error=traffic.last_error,
        waiting_for=waiting,
        counters=traffic.counters(),
    )
