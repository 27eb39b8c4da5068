"""Queue control and the list of distributions at whole nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from mpcore.control.models import ChangeRequest, QueueAction, QueueRequest, RecordState, Wait
from mpcore.errors import ConflictError, NotFoundError, PolicyError
from mpcore.node.distributions import DistributionLog
from tests.node_world import CUSTOMER, World

pytestmark = pytest.mark.anyio

ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."


async def change(agent: Any, name: str) -> str:
    record = f"{CUSTOMER} 300 IN NS {name}.{agent.identity.split('.')[1]}.example."
    return str((await agent.change(CUSTOMER, ChangeRequest(operation="add", record=record))).id)


def waiting_for(agent: Any, recipient: str) -> list[Any]:
    return [item for item in agent.queue_view().messages if item.recipient == recipient]


def order(action: QueueAction, **members: Any) -> QueueRequest:
    return QueueRequest(action=action, **members)


async def test_pause_drop_resume_and_drain(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label)
        await world.until(world.agreed, what="one leader")
        agent = world.node("agent", "alpha")
        assert (await agent.drain(30)).messages == ()

        planned = await agent.queue_action(order(QueueAction.PAUSE, peer=BRAVO, dry_run=True))
        assert not planned.done
        assert agent.queue_view().paused == ()
        assert (await agent.queue_action(order(QueueAction.PAUSE, peer=BRAVO))).done
        dropped, sent = await change(agent, "ns8"), None
        with pytest.raises(ConflictError, match=f"wait for {BRAVO}, which is paused"):
            await agent.drain(30)
        (waiting,) = waiting_for(agent, BRAVO)
        assert (waiting.recipient, waiting.state, waiting.type, waiting.attempts) == (BRAVO, "paused", "sync", 0)

        # The pause is still there after a restart.
        await world.stop(agent)
        agent = await world.start("agent", "alpha")
        await world.until(
            lambda: BRAVO in agent.machines and agent.peer(BRAVO).state == "OPERATIONAL", what="bravo is back"
        )
        (waiting,) = waiting_for(agent, BRAVO)
        assert waiting.state == "paused"

        plan = await agent.queue_action(order(QueueAction.DROP, id=waiting.id, dry_run=True))
        assert "does not learn of our 1 NS records" in plan.effects[0]
        assert waiting_for(agent, BRAVO) == [waiting]
        done = await agent.queue_action(order(QueueAction.DROP, id=waiting.distribution_id))
        assert done.affected == (waiting,)
        assert waiting_for(agent, BRAVO) == []
        assert agent.transaction(dropped).state == "rejected"

        sent = await change(agent, "ns9")
        (waiting,) = waiting_for(agent, BRAVO)
        stuck = await agent.queue_action(order(QueueAction.RETRY, peer=BRAVO))
        assert "paused" in stuck.effects[0]
        await agent.queue_action(order(QueueAction.RESUME, peer=BRAVO))
        assert (await agent.wait(sent, Wait.EVERYWHERE, 30)).state == "accepted"
        assert (await agent.drain(30)).messages == ()
        bravo = world.node("agent", "bravo")
        assert {item.state for item in bravo.edits(CUSTOMER).records if item.originator == ALPHA} == {
            RecordState.ACCEPTED
        }

        for request, error in (
            (order(QueueAction.PAUSE), PolicyError),
            (order(QueueAction.PAUSE, peer="agent.nobody.example."), NotFoundError),
            (order(QueueAction.DROP), PolicyError),
            (order(QueueAction.DROP, id="4711"), NotFoundError),
        ):
            with pytest.raises(error):
                await agent.queue_action(request)


async def test_drain_tells_who_is_in_the_way(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label)
        await world.until(world.agreed, what="one leader")
        agent = world.node("agent", "alpha")
        await agent.drain(30)
        await world.stop(world.node("agent", "bravo"))
        await change(agent, "ns8")
        with pytest.raises(TimeoutError, match=f"1 messages are left after 0.3 s: {BRAVO}"):
            await agent.drain(0.3)
        await world.start("agent", "bravo")
        await agent.drain(30)


async def test_distributions_are_listed_and_purged(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label, chunk_mode="query")
        await world.until(world.agreed, what="one leader")
        agent = world.node("agent", "alpha")
        await agent.wait(await change(agent, "ns8"), Wait.EVERYWHERE, 30)
        await agent.drain(30)
        listed = agent.distributions()
        seen = {(item.direction, item.peer, item.type, item.state) for item in listed}
        assert ("out", BRAVO, "sync", "confirmed") in seen
        assert ("in", BRAVO, "confirm", "confirmed") in seen
        assert ("out", "combiner.alpha.example.", "update", "confirmed") in seen
        assert {item.mode for item in listed if item.type == "sync"} == {"query"}
        assert all(item.octets for item in listed if item.state == "confirmed")
        purged = agent.purge_distributions(everything=True)
        assert purged.purged > 0
        await world.stop(world.node("agent", "bravo"))
        await world.until(
            lambda: any(item.state == "failed" and item.error for item in agent.distributions()) or agent_pings(agent),
            what="a failed message",
        )


def agent_pings(agent: Any) -> None:
    agent.spawn(agent.ping, BRAVO, 1.0)


async def test_what_is_listed_for_how_long() -> None:
    class Clock:
        time = 1000.0

        def now(self) -> float:
            return self.time

    clock = Clock()
    log = DistributionLog(clock, {"sync": 1000.0}, capacity=4)
    for kind in ("beat", "ping", "update", "sync", "sync"):
        log.end(log.begin("out", BRAVO, kind, CUSTOMER, "6a12f0d0"), None if kind == "sync" else "refused")
    open_ = log.begin("in", BRAVO, "sync", CUSTOMER, "6a12f0d1")
    assert [item.type for item in log.listed()] == ["update", "sync", "sync", "sync"]
    clock.time += 299
    assert log.purge() == 0
    clock.time += 1
    assert [(item.type, item.state) for item in log.listed()] == [
        ("sync", "confirmed"),
        ("sync", "confirmed"),
        ("sync", "pending"),
    ]
    assert log.purge() == 2
    assert log.purge(everything=True) == 0
    log.end(open_)
    assert log.purge(everything=True) == 1
    beat = log.begin("out", BRAVO, "beat", "", "6a12f0d2")
    clock.time += 30
    assert log.listed() == []
    log.end(beat)
    await anyio.lowlevel.checkpoint()
