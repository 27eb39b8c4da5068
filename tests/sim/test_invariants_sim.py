"""Every invariant that the simulator watches is broken once on purpose: a watch that cannot fail proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

import mpcore.node.agent
import mpcore.node.combiner as combiner_node
from mpcore.actions import Action
from mpcore.combiner import Contributions, UpdateResult, handle_update, rebuild
from mpcore.control.models import ChangeRequest
from mpcore.group.election import Election
from mpcore.group.gossip import GossipTable
from mpcore.node.agent import AgentNode
from mpcore.node.base import Node
from mpcore.node.replay import ReplayMemory
from mpcore.sde.engine import SynchronisedData
from mpcore.sim.faults import Delay, Fault, Faults, Partition, Repeat
from mpcore.sim.invariants import Watcher
from mpcore.sim.runner import play
from mpcore.sim.scenario import scenario_from_text
from mpcore.sim.world import Plan, World, simulate
from mpcore.zone.rrset import RRset, parse_rdata

pytestmark = pytest.mark.timeout(180)

ZONE = "customer.example."
NS = 2


def broken(text: str, seed: int = 1) -> set[str]:
    """Names of the invariants that a scenario breaks."""
    return {breach.invariant for breach in play(scenario_from_text(text), seed).breaches}


def add(at: str, provider: str, number: int = 1, verb: str = "add") -> str:
    record = f"{ZONE} 3600 IN NS ns{number}.{provider}.example."
    return f"  - at: {at}\n    {verb}: {{provider: {provider}, record: {record}}}\n"


CHANGES = (
    "steps:\n" + add("10s", "alpha") + add("12s", "bravo") + add("20s", "alpha", verb="delete") + add("22s", "charlie")
)


def test_without_a_fault_nothing_is_broken() -> None:
    assert broken(CHANGES + "end: 2m\n") == set()


def test_leader_two_in_one_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that takes its own opinion for everybody's."""

    class Hasty(Election):
        def _advance(self, now: float) -> list[Action]:
            if self._phase == "voting" and self._round is not None and len(self._round.votes) >= 2:
                for voter in self._group.voters:
                    self._round.votes.setdefault(voter, 0)
            actions = super()._advance(now)
            if self._phase == "confirming" and self._round is not None and self._round.winner is not None:
                for voter in self._group.voters:
                    self._round.confirms.setdefault(voter, self._round.winner)
                actions += super()._advance(now)
            return actions

    monkeypatch.setattr(mpcore.node.agent, "Election", Hasty)
    assert any("leader" in broken("delay: 10ms .. 900ms\nend: 20s\n", seed) for seed in range(12))


def test_term_forgotten_in_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    original = AgentNode.restore

    def forgetful(self: AgentNode, *arguments: Any) -> None:
        original(self, *arguments)
        self._terms = {}

    monkeypatch.setattr(AgentNode, "restore", forgetful)
    text = "steps:\n  - {at: 10s, for: 5s, kill: alpha.agent}\n  - {at: 10s, for: 5s, kill: bravo.agent}\n"
    text += "  - {at: 10s, for: 5s, kill: charlie.agent}\n"
    assert "term" in broken(text + "end: 3m\n")


def test_row_taken_whatever_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    original = GossipTable._merge_row

    def gullible(self: GossipTable, group: Any, sender: str, member: str, wire: Any, now: float) -> bool:
        if member != self._identity:
            self._rows[group.hash].pop(member, None)
        return original(self, group, sender, member, wire, now)

    monkeypatch.setattr(GossipTable, "_merge_row", gullible)
    assert "row" in broken("end: 2m\n")


def test_confirmed_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A combiner that says yes and does nothing."""
    original = handle_update

    def liar(policy: Any, kept: Contributions, *rest: Any) -> UpdateResult:
        return replace(original(policy, kept, *rest), contributions=kept, stored=(), dropped=())

    monkeypatch.setattr(combiner_node, "handle_update", liar)
    assert "confirmed" in broken(CHANGES + "end: 2m\n")


def test_deleted_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old messages are taken for new ones: no memory of messages, and no look at the author's time."""
    monkeypatch.setattr(ReplayMemory, "answer", lambda self, key, now: None)
    original = SynchronisedData._take

    def timeless(self: SynchronisedData, sender: str, sync: Any, distribution_id: str, *rest: Any) -> Any:
        for key, mark in list(self._ledger.marks.items()):
            if key[1] == sender:
                mark.time = 0.0
        self._ledger.inbounds.pop((sender, distribution_id), None)
        return original(self, sender, sync, distribution_id, *rest)

    monkeypatch.setattr(SynchronisedData, "_take", timeless)
    steps = "steps:\n  - {at: 5s, for: 40s, repeat: 100%}\n" + add("10s", "alpha") + add("14s", "alpha", verb="delete")
    assert any("deleted" in broken(steps + "end: 3m\n", seed) for seed in range(5))


def test_origin_of_a_record_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    original = rebuild

    def generous(version: Any, kept: Contributions, *rest: Any) -> Any:
        rebuilt = original(version, kept, *rest)
        apex = rebuilt.version.origin
        held = rebuilt.version.get(apex, NS)
        assert held is not None
        more = RRset.make(NS, held.ttl, [*held.rdatas, parse_rdata(NS, "ns.nobody.example.")])
        return replace(rebuilt, version=rebuilt.version.update([(apex, NS, more)]))

    monkeypatch.setattr(combiner_node, "rebuild", generous)
    assert "origin" in broken(CHANGES + "end: 1m\n")


def test_lost_what_was_acknowledged_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that acknowledges while the disk is still at work."""

    async def careless(self: Node, function: Any, **options: Any) -> None:
        self.tasks.start_soon(self.database.write, function)

    monkeypatch.setattr(Node, "write", careless)

    async def main(world: World) -> None:
        await world.until(world.operational, 60)
        alpha = world.daemon("alpha")
        alpha.disk.latency = (0.5, 0.5)
        request = ChangeRequest(operation="add", record=f"{ZONE} 3600 IN NS ns1.alpha.example.")
        await alpha.node.change(ZONE, request)
        await anyio.sleep(0.1)
        alpha.kill()
        await alpha.start()

    watcher = Watcher()
    simulate(main, 1, observer=watcher)
    assert "lost" in {breach.invariant for breach in watcher.breaches}


def test_settled_is_not_said_of_different_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that acknowledges a SYNC and forgets it."""
    original = SynchronisedData.sync_received

    def forgetful(self: SynchronisedData, sender: str, *rest: Any) -> list[Action]:
        if self.identity.startswith("agent.charlie") and sender.startswith("agent.alpha"):
            return []
        return original(self, sender, *rest)

    monkeypatch.setattr(SynchronisedData, "sync_received", forgetful)
    assert "settled" in broken("steps:\n" + add("10s", "alpha") + "end: 1m\n")


def test_expectations_of_a_scenario_are_checked() -> None:
    assert "expected" in broken("steps:\n  - {at: 10s, expect: no leader}\nend: 1m\n")
    cut = "steps:\n  - {at: 1s, for: 1m, partition: [[alpha], [bravo, charlie]]}\n  - {at: 50s, expect: leader}\n"
    assert "expected" in broken(cut + "end: 3m\n")


def test_faults_hold_from_their_start_to_their_end() -> None:
    faults = Faults([Partition(1.0, 2.0), Delay(1.5, 3.0, 0.1), Repeat(5.0)])
    assert [type(fault) for fault in faults.at(1.6)] == [Partition, Delay]
    assert [type(fault) for fault in faults.at(2.0)] == [Delay]
    assert faults.at(4.0) == ()
    assert faults.last_end == 3.0
    faults.heal(6.0)
    assert faults.at(6.0) == ()
    assert [type(fault) for fault in faults.at(5.5)] == [Repeat]
    faults.add(Fault(7.0))
    assert len(faults.at(8.0)) == 1
    assert Plan().providers == ("alpha", "bravo", "charlie")
