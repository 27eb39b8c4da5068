"""Whole nodes under all faults at once, from seeds: the three daemons of each provider, disks, network, clocks.

One run is three virtual minutes in which some sixteen things go wrong, and as long as it takes until everything has
settled.  All invariants of :mod:`mpcore.sim.invariants` are watched.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mpcore.sim.runner import Result, play
from mpcore.sim.scenario import Chaos, Scenario
from mpcore.sim.world import LABELS, Plan, World, simulate

pytestmark = pytest.mark.timeout(180)

SETTLES = 600.0


def scenario(seed: int, *, jose: bool = False) -> Scenario:
    """The mix of a seed: two to four providers; nobody, everybody or one of them signs."""
    count = (3, 2, 3, 4, 3)[seed % 5]
    labels = LABELS[:count]
    signers = ((), labels, labels[:1])[seed % 3]
    skew = {"bravo": 1.5, "alpha.combiner": -0.7}
    plan = Plan(providers=labels, signers=signers, skew=skew, jose=jose)
    return Scenario("all faults mixed", plan, chaos=Chaos(5, 180, 16), end=180 + SETTLES)


def judge(result: Result) -> None:
    assert result.ok, f"seed {result.seed}: {[str(breach) for breach in result.breaches]}"
    assert result.settled_after is not None


@pytest.mark.parametrize("first", range(0, 50, 2))
def test_fifty_seeds(first: int) -> None:
    for seed in range(first, first + 2):
        judge(play(scenario(seed), seed))


@pytest.mark.parametrize("seed", [1000, 1001])
def test_with_real_sealing(seed: int) -> None:
    judge(play(scenario(seed, jose=True), seed))


@pytest.mark.long
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("first", range(2000, 3000, 100))
def test_a_thousand_seeds(first: int) -> None:
    for seed in range(first, first + 100):
        judge(play(scenario(seed), seed))


def test_the_same_seed_gives_the_same_trace() -> None:
    one, two, other = (play(scenario(seed), seed) for seed in (4, 4, 9))
    assert one.fingerprint == two.fingerprint
    assert one == two
    assert one.fingerprint != other.fingerprint


def test_sealing_leaves_the_trace_as_it_is() -> None:
    """The trace has plaintext only; how long it is sealed does not matter to anybody."""
    assert play(scenario(4), 4).messages == play(scenario(4, jose=True), 4).messages


def test_another_process_with_other_hashes_gives_the_same_trace() -> None:
    """Nothing depends on the order of a set."""
    program = (
        "from mpcore.sim.runner import play\n"
        "from mpcore.sim.scenario import read_scenario\n"
        "import pathlib, mpcore.sim\n"
        "path = pathlib.Path(mpcore.sim.__file__).parent / 'scenarios' / 'everything.yaml'\n"
        "print(play(read_scenario(path), 5).fingerprint)\n"
    )
    root = str(Path(__file__).resolve().parent.parent.parent)
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.environ.get("PYTHONPATH", root)},
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_two_who_wait_for_the_same_end_begin_one_life() -> None:
    """Two faults may both bring a daemon up again while its last life is still ending."""

    async def main(world: World) -> tuple[int, bool]:
        alpha = world.daemon("alpha")
        before = alpha.lives
        alpha.kill()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alpha.start)
            tasks.start_soon(alpha.start)
        return alpha.lives - before, alpha.alive

    assert simulate(main, 1) == (1, True)
