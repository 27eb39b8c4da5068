"""Whole providers in one process: they find each other, elect a leader and agree on data; on the virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio.testing

from mpcore.control.models import ChangeRequest, RecordState, Wait
from mpcore.sim.network import SimNetwork
from tests.node_world import CUSTOMER, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_three_providers_agree(tmp_path: Path) -> None:
    world = World(tmp_path, SimNetwork(lambda passage: 0.005), providers=("alpha", "bravo", "charlie"), epoch=1.8e9)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label)
        await world.until(world.agreed, 60, "one leader")
        agent = world.node("agent", "bravo")
        record = f"{CUSTOMER} 300 IN NS ns9.bravo.example."
        transaction = await agent.change(CUSTOMER, ChangeRequest(operation="add", record=record))
        done = await agent.wait(transaction.id, Wait.EVERYWHERE, 60)
        assert done.state == "accepted"
        for other in world.agents():
            states = {item.record: item.state for item in other.edits(CUSTOMER).records}
            assert states[record.replace(" ", "\t")] is RecordState.ACCEPTED
        signer = world.node("signer", "charlie")
        await world.until(
            lambda: any("ns9.bravo.example." in item.record for item in signer.zone_records(CUSTOMER, 1000).records)
        )
