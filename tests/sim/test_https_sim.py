"""Agents with HTTPS, all or some of them, under all faults at once, from seeds; channels are a pass-through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpcore.sim.runner import play
from mpcore.sim.scenario import Chaos, Scenario, scenario_from_text
from mpcore.sim.world import LABELS, Plan, World, simulate

pytestmark = pytest.mark.timeout(180)

LABELS3 = LABELS[:3]


def scenario(seed: int) -> Scenario:
    """HTTPS everywhere, or at two of three."""
    plan = Plan(providers=LABELS3, signers=((), LABELS3)[seed % 2], https=(LABELS3, LABELS3[:2])[seed // 2 % 2])
    return Scenario("all faults mixed, by HTTPS", plan, chaos=Chaos(5, 120, 12), end=720)


@pytest.mark.parametrize("seed", range(300, 308))
def test_seeds(seed: int) -> None:
    result = play(scenario(seed), seed)
    assert result.ok, f"seed {seed}: {[str(breach) for breach in result.breaches]}"
    assert result.settled_after is not None


def test_the_same_seed_gives_the_same_trace() -> None:
    one, two = play(scenario(311), 311), play(scenario(311), 311)
    assert one == two
    plain = scenario(311)
    assert play(replace(plain, plan=replace(plain.plan, https=())), 311).fingerprint != one.fingerprint


def test_messages_take_the_way_that_is_there() -> None:
    """Two of three have HTTPS: between them everything goes by it once they know each other, the third gets DNS."""

    def counted(world: World) -> dict[tuple[str, str], dict[str, tuple[int, int]]]:
        return {
            (one.label, other.label): {
                way.name: (way.sent, way.received) for way in one.node.peer_transports(other.identity)
            }
            for one in world.agents()
            for other in world.agents()
            if one is not other
        }

    async def main(world: World) -> tuple[dict[tuple[str, str], dict[str, tuple[int, int]]], ...]:
        assert await world.until(world.led, 60) is not None
        # At the start one may not know the other's certificate yet; then HTTPS rests for some seconds.
        await world.until(lambda: False, 60)
        before = counted(world)
        await world.until(lambda: False, 120)
        return before, counted(world)

    before, after = simulate(main, 7, Plan(https=LABELS3[:2]))
    for pair, ways in after.items():
        if "charlie" not in pair:
            assert min(ways["https"]) > 5, (pair, ways)
            assert ways["dns"] == before[pair]["dns"], (pair, before[pair], ways)
        elif pair[0] != "charlie":
            assert ways["https"] == (0, 0)
            assert min(ways["dns"]) > 5
        else:
            assert not ways


def test_discovery_by_dns_finds_certificates() -> None:
    """The records that agents publish are those that agents look for, through resolver and signatures."""

    async def main(world: World) -> bool:
        assert await world.until(world.led, 120) is not None
        await world.until(lambda: False, 60)
        return all(
            one.node.directory.get(other.identity).https is not None
            for one in world.agents()
            for other in world.agents()
            if one is not other
        )

    assert simulate(main, 8, Plan(https=LABELS3, dns=True))


def test_a_file_says_who_has_https() -> None:
    text = "providers: [alpha, bravo]\nhttps: [bravo]\nend: 1m\n"
    assert scenario_from_text(text).plan.https == ("bravo",)
