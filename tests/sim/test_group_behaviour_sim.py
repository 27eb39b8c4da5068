"""What operators were promised of groups of whole nodes: healing, detection, return, cost."""

from __future__ import annotations

import math

import anyio
import pytest

from mpcore.sim.faults import Partition, Pause
from mpcore.sim.world import LABELS, Plan, World, simulate

pytestmark = pytest.mark.timeout(180)

BEAT = 15.0
ROUND = 10.0  # seconds that a round of an election may take at most, half of it for votes, half for confirmations


async def ready(world: World) -> None:
    assert await world.until(lambda: world.operational() and world.led(), 60) is not None


def bipartitions(labels: tuple[str, ...]) -> list[tuple[frozenset[str], frozenset[str]]]:
    everybody = frozenset(labels)
    first, *rest = labels
    found = []
    for bits in range(2 ** len(rest) - 1):
        one = {first} | {label for index, label in enumerate(rest) if bits >> index & 1}
        found.append((frozenset(one), everybody - one))
    return found


def heal_all(count: int, seed: int, which: slice = slice(None)) -> tuple[list[float], list[float]]:
    """Make and heal every bipartition; seconds until matrices are complete and until there is a leader."""

    async def main(world: World) -> tuple[list[float], list[float]]:
        await ready(world)
        matrices, leaders = [], []
        for islands in bipartitions(world.plan.providers)[which]:
            world.faults.add(Partition(world.now, math.inf, islands))
            await anyio.sleep(45 + world.random.uniform(0, BEAT))
            assert not world.operational()
            assert not world.led(), "no leader is believed in while the group is apart"
            world.faults.heal(world.now)
            healed = world.now
            took = await world.until(world.operational, 60)
            assert took is not None, f"{islands} did not heal"
            matrices.append(took)
            assert await world.until(world.led, 60) is not None
            leaders.append(world.now - healed)
            await anyio.sleep(2)
        return matrices, leaders

    return simulate(main, seed, Plan(providers=LABELS[:count]))


@pytest.mark.parametrize(
    ("count", "which"),
    [(3, slice(None)), (4, slice(None)), (5, slice(0, 5)), (5, slice(5, 10)), (5, slice(10, 15))],
)
def test_every_bipartition_heals_within_two_beats(count: int, which: slice) -> None:
    assert len(bipartitions(LABELS[:count])) == 2 ** (count - 1) - 1
    matrices, leaders = heal_all(count, count, which)
    assert max(matrices) <= 2 * BEAT
    assert max(leaders) <= BEAT + ROUND


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_bipartitions_many_times() -> None:
    matrices: list[float] = []
    leaders: list[float] = []
    for seed in range(40):
        for count in (3, 4, 5):
            one, two = heal_all(count, seed)
            matrices += one
            leaders += two
    matrices.sort()
    leaders.sort()
    assert len(leaders) == 40 * 25
    assert matrices[-1] <= 2 * BEAT
    assert leaders[int(0.99 * len(leaders))] <= BEAT + ROUND


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_agent_is_noticed_and_its_return_too(seed: int) -> None:
    async def main(world: World) -> tuple[float, float, float]:
        await ready(world)
        await anyio.sleep(world.random.uniform(20, 20 + BEAT))
        victim = world.daemon("bravo")
        others = [world.daemon(label).node for label in ("alpha", "charlie")]
        victim.kill()
        suspected = await world.until(
            lambda: all(node.machines[victim.identity].view(0).last_error is not None for node in others), 120
        )
        assert suspected is not None
        degraded = await world.until(
            lambda: all(node.machines[victim.identity].state == "DEGRADED" for node in others), 120
        )
        assert degraded is not None
        assert await world.until(lambda: not world.led(), 10) is not None
        await anyio.sleep(world.random.uniform(0, 60))
        await victim.start()
        back = await world.until(lambda: world.operational() and world.led(), 60)
        assert back is not None
        return suspected, suspected + degraded, back

    suspected, degraded, back = simulate(main, seed)
    assert suspected <= BEAT
    assert degraded <= 2 * BEAT + 5
    assert back <= 5


def test_an_agent_that_stands_still_is_noticed_too() -> None:
    """It accepts connections and never answers: a time-out, not a refusal."""

    async def main(world: World) -> float:
        await ready(world)
        world.faults.add(Pause(world.now, world.now + 100, "bravo.agent"))
        peer = world.daemon("alpha").node.machines["agent.bravo.example."]
        degraded = await world.until(lambda: peer.state == "DEGRADED", 100)
        assert degraded is not None
        await anyio.sleep(100 - degraded)
        assert await world.until(lambda: world.operational() and world.led(), 2 * BEAT) is not None
        return degraded

    assert simulate(main, 1) <= 2 * BEAT + 5


def cost(zones: int, providers: int = 3) -> tuple[int, int]:
    """Messages, and octets between sites, of ten beat intervals."""

    async def main(world: World) -> tuple[int, int]:
        await ready(world)
        await anyio.sleep(2 * BEAT)
        messages, octets = world.trace.messages, world.weather.octets
        await anyio.sleep(10 * BEAT)
        return world.trace.messages - messages, world.weather.octets - octets

    names = tuple(f"zone{number}.example." for number in range(zones))
    return simulate(main, 1, Plan(zones=names, providers=LABELS[:providers]))


def test_what_a_group_costs_does_not_grow_with_its_zones() -> None:
    messages, octets = cost(1)
    many_messages, many_octets = cost(25)
    assert many_messages == messages
    assert many_octets <= octets * 1.02
    # Two agents beat each other, and each its combiner and signer; every message is answered.
    assert messages == 10 * 2 * (3 * 2 + 3 * 2)
