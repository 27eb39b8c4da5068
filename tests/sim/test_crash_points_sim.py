"""The power fails at every commit of a daemon in turn, before, in the middle of and after what it writes.

After each failure the daemon starts with what was on the disk.  Nothing that it had acknowledged may be missing, and in
the end everybody agrees (:mod:`mpcore.sim.invariants`: ``lost``, ``term``, ``settled`` and the others).
"""

from __future__ import annotations

import anyio
import pytest

from mpcore.control.models import ChangeRequest
from mpcore.errors import LocalError
from mpcore.sim.disk import PowerFailure, _torn
from mpcore.sim.invariants import Watcher
from mpcore.sim.world import Plan, World, simulate

pytestmark = pytest.mark.timeout(180)

ZONE = "customer.example."
PLAN = Plan(providers=("alpha", "bravo"), signers=("alpha", "bravo"))
COMMITS = {"agent": 24, "combiner": 12, "signer": 6}


async def story(world: World) -> None:
    """Start, changes at both ends; whoever dies is started again a second later."""

    async def revive() -> None:
        while True:
            for daemon in world.daemons.values():
                if not daemon.alive and daemon.lives:
                    await anyio.sleep(1)
                    await daemon.start()
            await anyio.sleep(0.1)

    async def change(provider: str, operation: str, number: int) -> None:
        request = ChangeRequest.model_validate(
            {"operation": operation, "record": f"{ZONE} 3600 IN NS ns{number}.{provider}.example."}
        )
        try:
            daemon = world.daemon(provider)
            if daemon.alive:
                await daemon.node.change(ZONE, request)
        except (LocalError, PowerFailure):
            return

    world.tasks.start_soon(revive)
    await world.start_all()
    await world.until(world.led, 20)
    for step, (provider, operation, number) in enumerate(
        [("alpha", "add", 1), ("bravo", "add", 1), ("alpha", "add", 2), ("alpha", "delete", 1), ("bravo", "delete", 1)]
    ):
        await change(provider, operation, number)
        await anyio.sleep(1 + step)


def crash(role: str, commit: int, written: float) -> tuple[list[str], int]:
    """Let the power fail at one commit; what was broken, and how many lives the daemon had."""
    watcher = Watcher()

    async def main(world: World) -> int:
        victim = world.daemon(f"alpha.{role}")
        victim.disk.fail_at(commit, written)
        await story(world)
        await world.until(lambda: not watcher.unsettled(), 900, 1.0)
        watcher.settled()
        return victim.lives

    lives = simulate(main, commit, PLAN, observer=watcher, start=False)
    return [str(breach) for breach in watcher.breaches], lives


def fail_at_every_commit(role: str, commits: range, written: tuple[float, ...]) -> None:
    crashes = runs = 0
    for commit in commits:
        part = written[commit % len(written)]
        broken, lives = crash(role, commit, part)
        assert not broken, f"commit {commit}, {part:.0%} written: {broken}"
        crashes += lives - 1
        runs += 1
    assert crashes >= runs * 0.8


@pytest.mark.parametrize(
    ("role", "commits"),
    [
        ("agent", range(1, 9)),
        ("agent", range(9, 17)),
        ("agent", range(17, 25)),
        ("combiner", range(1, 7)),
        ("combiner", range(7, 13)),
        ("signer", range(1, 7)),
    ],
)
def test_the_power_fails_at_every_commit(role: str, commits: range) -> None:
    fail_at_every_commit(role, commits, (0.0, 0.5, 1.0))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("role", ["agent", "combiner", "signer"])
@pytest.mark.parametrize("written", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_power_fails_at_every_commit_in_every_way(role: str, written: float) -> None:
    fail_at_every_commit(role, range(1, COMMITS[role] + 1), (written,))


def test_a_torn_write_is_a_mixture_of_before_and_after() -> None:
    before, after = b"aaaa1111", b"aaaa2222bbbb"
    assert _torn(before, after, 0.0) == before
    assert _torn(before, after, 1.0) == after
    assert _torn(before, after, 0.25) == b"aaaa2211"
    assert _torn(before, after, 0.75) == b"aaaa2222bb"
    assert _torn(before, before, 0.5) == before
