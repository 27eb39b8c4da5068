"""Late peers: evidence of others, doubts about ourselves, and time that is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio.testing

from mpcore.node.suspicion import LATE, PATIENCE, ourselves_suspected, suspicion
from mpcore.peer.actions import StateChanged
from mpcore.peer.discovery import Contact
from mpcore.peer.machine import Peer, PeerSettings
from mpcore.sim.network import SimNetwork
from tests.node_world import World

NOW = 1_780_000_000.0
INTERVAL = 10.0


def beaten(name: str, at: float = NOW) -> Peer:
    """A peer whose last beat, and last acknowledgement, came at *at*."""
    peer = Peer(f"agent.{name}.example.", "agent", PeerSettings(beat_interval=INTERVAL))
    peer.set_zones(["a.example."], at)
    peer.start(at)
    peer.discovered(Contact(("192.0.2.1",), 53, {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}), at)
    peer.hello_accepted(at)
    peer.beat_received(INTERVAL, at)
    peer.beat_acknowledged(at)
    assert peer.state == "OPERATIONAL"
    return peer


def moved(actions: list[Any]) -> list[str]:
    return [action.new for action in actions if isinstance(action, StateChanged)]


def test_most_peers_late_at_once_means_us() -> None:
    now = NOW + 1.6 * INTERVAL
    peers = [beaten("a"), beaten("b"), beaten("c", now)]
    assert ourselves_suspected(peers, NOW + LATE * INTERVAL) is None
    assert ourselves_suspected(peers, now) == (2, 3)
    assert ourselves_suspected(peers[1:], now) is None  # one of two
    assert ourselves_suspected(peers[:1], now) is None  # one of one: who could tell
    assert ourselves_suspected([*peers, beaten("d", now)], now) is None  # two of four
    configured = Peer("combiner.a.example.", "combiner", contact=Contact(("192.0.2.1",), 53, {}))
    configured.start(NOW)
    assert ourselves_suspected([*peers, configured], now) == (2, 3)


def test_patience_delays_what_is_not_degraded_yet() -> None:
    peer, degraded = beaten("a"), beaten("b")
    assert moved(degraded.timer("health", NOW + 2.001 * INTERVAL + 1)) == ["DEGRADED"]
    at = NOW + 2.05 * INTERVAL
    assert moved(peer.set_patience(PATIENCE, NOW + 1.9 * INTERVAL)) == []
    assert moved(degraded.set_patience(PATIENCE, at)) == []
    assert degraded.state == "DEGRADED"  # what is degraded stays so
    assert moved(peer.timer("health", at)) == []
    assert peer.state == "OPERATIONAL"
    assert moved(peer.set_patience(1.0, at)) == ["DEGRADED"]

    other = beaten("c")
    other.set_patience(PATIENCE, NOW)
    assert moved(other.timer("health", NOW + 2.4 * INTERVAL)) == []
    assert moved(other.timer("health", NOW + 2.6 * INTERVAL)) == ["DEGRADED"]
    assert moved(other.timer("health", NOW + 10.1 * INTERVAL)) == ["INTERRUPTED"]
    assert moved(other.beat_received(INTERVAL, NOW + 10.2 * INTERVAL)) != ["OPERATIONAL"]  # no acknowledgement yet
    assert moved(other.beat_acknowledged(NOW + 10.3 * INTERVAL)) == ["OPERATIONAL"]
    assert beaten("d").set_patience(0.1, NOW) == []


@pytest.mark.parametrize(
    ("said", "ours", "words"),
    [
        ({}, None, "late, and nobody else reports about it"),
        ({"c.": "OPERATIONAL"}, None, "suspected one-way: c. hears it, so the fault is between us and it"),
        ({"c.": "OPERATIONAL", "d.": "OPERATIONAL"}, None, "suspected one-way: c., d. hear it"),
        ({"c.": "OPERATIONAL", "d.": "DEGRADED"}, None, "suspected one-way: c. hears it"),
        ({"d.": "DEGRADED"}, None, "d. does not hear it either: it is probably down"),
        ({"c.": "NEEDED", "d.": "DEGRADED"}, None, "c., d. do not hear it either"),
        ({"c.": "OPERATIONAL"}, (3, 4), "late like 3 of 4 peers at the same time: the fault is probably ours"),
    ],
)
def test_in_words(said: dict[str, str], ours: tuple[int, int] | None, words: str) -> None:
    peer = beaten("b")
    assert suspicion(peer, said, ours, NOW + LATE * INTERVAL) is None
    found = suspicion(peer, said, ours, NOW + 1.6 * INTERVAL)
    assert found is not None
    assert found.startswith(words)


# --------------------------------------------------------------------------------------------------------- whole nodes


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.mark.anyio
async def test_one_way_and_our_own_fault(tmp_path: Path) -> None:
    """Of three providers, first one connection fails, then everything at one of them."""
    cut: set[frozenset[str]] = set()
    wire = SimNetwork(lambda passage: None if frozenset((passage.source[0], passage.target[0])) in cut else 0.005)
    world = World(tmp_path, wire, providers=("alpha", "bravo", "charlie"), epoch=1.8e9)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label)
        await world.until(world.agreed, 60, "one leader")
        at = {label: provider.address("agent") for label, provider in world.providers.items()}
        agent = world.node("agent", "alpha")

        cut.add(frozenset((at["alpha"], at["bravo"])))
        await world.until(lambda: agent.peer("agent.bravo.example.").state == "DEGRADED", 120, "bravo is late")
        waiting = agent.peer("agent.bravo.example.").waiting_for or ""
        assert "suspected one-way: agent.charlie.example. hears it" in waiting
        assert any("suspected one-way" in text for text in agent.groups()[0].problems)
        assert agent.suspected is None

        cut.clear()
        await world.until(lambda: agent.groups()[0].operational, 120, "all is well")
        assert not any("suspected" in text for text in agent.groups()[0].problems)

        cut.update(frozenset((at["alpha"], at[label])) for label in ("bravo", "charlie"))
        await world.until(lambda: agent.suspected == (2, 2), 120, "we suspect ourselves")
        assert any("the fault is probably ours" in text for text in agent.status().warnings)
        charlie = world.node("agent", "charlie")
        await world.until(lambda: charlie.peer("agent.alpha.example.").state == "DEGRADED", 120, "they see us late")
        assert charlie.suspected is None

        cut.clear()
        await world.until(lambda: agent.suspected is None and agent.groups()[0].operational, 240, "all is well")
        assert not any("ours" in text for text in agent.status().warnings)
