"""Orders about peers, elections and data at whole nodes, and what the doctor finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpcore.control.models import (
    ChangeRequest,
    Diagnosis,
    DiagnosisStep,
    GroupAction,
    GroupActionRequest,
    QueueAction,
    QueueRequest,
    RecordState,
    Wait,
    ZoneAction,
    ZoneActionRequest,
)
from mpcore.errors import ConflictError, NotFoundError
from mpcore.net.clock import SystemClock
from mpcore.wire.messages import Acknowledgement
from mpcore.wire.seal import PrivateKey
from tests.node_world import CUSTOMER, Received, Stranger, World

pytestmark = pytest.mark.anyio

ALPHA, BRAVO, COMBINER = "agent.alpha.example.", "agent.bravo.example.", "combiner.alpha.example."


@asynccontextmanager
async def two_providers(directory: Path, **options: Any) -> AsyncIterator[World]:
    world = World(directory, **options)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label)
        await world.until(world.agreed, what="one leader")
        yield world


@asynccontextmanager
async def played(directory: Path) -> AsyncIterator[tuple[World, Stranger, Any]]:
    """Provider alpha at work, and agent bravo played by the test."""
    world = World(directory)
    async with world.open():
        bravo = Stranger(world, BRAVO, world.providers["bravo"].address("agent"))
        await bravo.serve()
        agent, *_ = await world.start_provider("alpha")
        await world.until(lambda: BRAVO in agent.machines and agent.peer(BRAVO).state == "OPERATIONAL", what="beats")
        yield world, bravo, agent


def step(found: Diagnosis, begins: str) -> DiagnosisStep:
    steps = [item for item in found.steps if item.step.startswith(begins)]
    assert steps, f"no step {begins} in {[item.step for item in found.steps]}"
    return steps[0]


# ----------------------------------------------------------------------------------------------------------- elections


async def test_step_down_and_force(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as world:
        agents = {agent.identity: agent for agent in world.agents()}
        (leader,) = world.leaders()
        (group,) = agents[ALPHA].groups()
        down, force = GroupActionRequest(action=GroupAction.STEP_DOWN), GroupActionRequest(action=GroupAction.FORCE)
        (other,) = set(agents) - {leader}
        with pytest.raises(ConflictError, match="not the leader"):
            await agents[other].group_action(group.hash, down)
        assert leader is not None
        answer = await agents[leader].group_action(group.hash[:8], down)
        assert answer.election.leader is None
        await world.until(lambda: world.leaders() == {other}, what="the other one leads")
        terms = {agent.groups()[0].election.term for agent in world.agents()}
        (term,) = terms
        forced = await agents[other].group_action(group.hash, force)
        assert forced.election.phase in ("voting", "confirming")
        await world.until(lambda: world.agreed() and agents[other].groups()[0].election.term > term, what="a new term")
        with pytest.raises(NotFoundError):
            await agents[other].group_action("nothing", force)
        with pytest.raises(NotFoundError, match="ask the agent"):
            await world.node("combiner", "alpha").group_action(group.hash, force)


# --------------------------------------------------------------------------------------------------------------- data


async def test_resync_repairs_both_ways(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as world:
        alpha, bravo = world.node("agent", "alpha"), world.node("agent", "bravo")
        for agent, label in ((alpha, "alpha"), (bravo, "bravo")):
            record = f"{CUSTOMER} 300 IN NS ns9.{label}.example."
            made = await agent.change(CUSTOMER, ChangeRequest(operation="add", record=record))
            assert (await agent.wait(made.id, Wait.EVERYWHERE, 30)).state == "accepted"
            await agent.drain(30)

        def held(agent: Any) -> set[tuple[str, str]]:
            return {
                (item.originator, item.record)
                for item in agent.edits(CUSTOMER).records
                if item.type == "NS" and item.state is RecordState.ACCEPTED
            }

        def lose(agent: Any, author: str) -> None:
            ledger = agent.sde._ledger
            for key, entries in list(ledger.zone_sets(CUSTOMER)):
                if key[1:] == (author, "NS"):
                    for entry in list(entries.values()):
                        ledger.drop(entry)
                    ledger.marks.pop(key, None)

        whole = held(alpha)
        assert held(bravo) == whole
        assert {author for author, _ in whole} == {ALPHA, BRAVO}
        lose(bravo, ALPHA)
        assert held(bravo) != whole
        pushed = await alpha.zone_action(CUSTOMER, ZoneActionRequest(action=ZoneAction.RESYNC, direction="push"))
        assert "1 other providers" in pushed.message
        await world.until(lambda: held(bravo) == whole, what="pushed")
        lose(alpha, BRAVO)
        pulled = await alpha.zone_action(CUSTOMER, ZoneActionRequest(action=ZoneAction.RESYNC, direction="pull"))
        assert "are asked" in pulled.message
        assert "did not answer" not in pulled.message
        await world.until(lambda: held(alpha) == whole, what="pulled")
        await alpha.drain(30)
        await world.stop(bravo)
        both = await alpha.zone_action(CUSTOMER, ZoneActionRequest(action=ZoneAction.RESYNC))
        assert f"{BRAVO} did not answer" in both.message
        with pytest.raises(ConflictError):
            await alpha.zone_action(CUSTOMER, ZoneActionRequest(action=ZoneAction.BUMP))
        with pytest.raises(NotFoundError):
            await alpha.zone_action("other.example.", ZoneActionRequest(action=ZoneAction.RESYNC))


# -------------------------------------------------------------------------------------------------------------- peers


async def test_reset_finds_a_peer_anew(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as world:
        agent = world.node("agent", "alpha")
        assert (await agent.reset_peer(BRAVO)).state == "NEEDED"
        assert agent.directory.get(BRAVO) is None
        await world.until(lambda: agent.peer(BRAVO).state == "OPERATIONAL", what="bravo is found again")
        assert (await agent.reset_peer(COMBINER)).state == "KNOWN"
        await world.until(lambda: agent.peer(COMBINER).state == "OPERATIONAL", what="the combiner answers")
        with pytest.raises(NotFoundError):
            await agent.reset_peer("agent.nobody.example.")
        with pytest.raises(NotFoundError, match="configured"):
            await world.node("combiner", "alpha").reset_peer(ALPHA)


async def test_a_healthy_peer(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as world:
        agent = world.node("agent", "alpha")
        found = await agent.diagnose(BRAVO, 30)
        assert found.ok, [item for item in found.steps if item.ok is False]
        assert "well" in found.verdict
        for name in (
            "HSYNC3",
            "HSYNC3, their view",
            f"_dns._tcp.{BRAVO} URI",
            f"dns.{BRAVO} SVCB",
            f"dns.{BRAVO} JWK",
            "TLSA",
            "our own records",
            "key",
            "connection to",
            "ping",
            "decryption",
            "clock",
            "round trips",
            "HELLO and BEAT",
            "queue",
        ):
            assert step(found, name).ok, name
        assert "secure" in step(found, f"dns.{BRAVO} JWK").detail
        assert "5: median" in step(found, "round trips").detail
        combiner = await agent.diagnose(COMBINER, 30)
        assert combiner.ok, [item for item in combiner.steps if item.ok is False]
        with pytest.raises(NotFoundError):
            await agent.diagnose("agent.nobody.example.", 5)
        (late, *_) = reversed((await agent.diagnose(BRAVO, 0)).steps)
        assert (late.step, late.ok) == ("time", None), late


async def test_a_peer_that_is_down_or_paused(tmp_path: Path) -> None:
    async with two_providers(tmp_path) as world:
        agent = world.node("agent", "alpha")
        await world.stop(world.node("agent", "bravo"))
        await agent.queue_action(QueueRequest(action=QueueAction.PAUSE, peer=BRAVO))
        found = await agent.diagnose(BRAVO, 30)
        assert not found.ok
        assert (step(found, "connection").ok, step(found, "connection").side) == (False, "theirs")
        assert (step(found, "ping").ok, step(found, "decryption").ok) == (False, None)
        assert (step(found, "queue").ok, step(found, "queue").side) == (False, "ours")


async def test_refusals_in_words(tmp_path: Path) -> None:
    async with played(tmp_path) as (_, bravo, agent):

        async def refuse(received: Received) -> Acknowledgement | None:
            return None

        bravo.answer = refuse  # SERVFAIL
        found = await agent.diagnose(BRAVO, 30)
        assert "could not handle the message now (answered SERVFAIL" in step(found, "ping").detail
        assert step(found, "ping").side == "theirs"
        bravo.answer = bravo.acknowledge


async def test_clocks_that_differ(tmp_path: Path) -> None:
    async with played(tmp_path) as (_, bravo, agent):

        async def early(received: Received) -> Acknowledgement | None:
            answer = await bravo.acknowledge(received)
            assert answer is not None
            return answer.model_copy(update={"timestamp": int(SystemClock().now()) - 300})

        bravo.answer = early
        found = await agent.diagnose(BRAVO, 30)
        assert step(found, "clock").ok is False
        assert "300 s behind ours" in step(found, "clock").detail or "299 s behind" in step(found, "clock").detail
        bravo.answer = bravo.acknowledge


async def test_a_peer_that_has_changed_its_key(tmp_path: Path) -> None:
    async with played(tmp_path) as (world, bravo, agent):
        bravo.key = world.keys[BRAVO] = PrivateKey.generate()
        bravo.publish()
        contact = agent.directory.get(BRAVO)
        agent.directory.put(replace(contact, key=PrivateKey.generate().public()))
        found = await agent.diagnose(BRAVO, 30)
        assert (step(found, "key").ok, step(found, "key").side) == (False, "ours")
        assert "peer reset" in (step(found, "key").advice or "")
        await agent.reset_peer(BRAVO)
        await world.until(lambda: agent.peer(BRAVO).state == "OPERATIONAL", what="the new key is found")
        assert step(await agent.diagnose(BRAVO, 30), "key").ok


async def test_names_that_cannot_be_found(tmp_path: Path) -> None:
    """A peer without records, and our own records that others would not get."""
    async with two_providers(tmp_path) as world:
        agent = world.node("agent", "alpha")
        await world.stop(world.node("agent", "bravo"))
        agent.served.clear()
        agent.resolver.flush(".")
        found = await agent.diagnose(BRAVO, 30)
        assert (step(found, f"_dns._tcp.{BRAVO} URI").ok, step(found, "discovery").ok) == (False, False)
        assert (step(found, "our own records").ok, step(found, "our own records").side) == (False, "ours")
