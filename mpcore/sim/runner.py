"""Plays a scenario: carries its steps out, waits until everything has settled, and says what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import anyio

from mpcore.control.models import ChangeRequest, Event
from mpcore.errors import LocalError
from mpcore.sim.disk import PowerFailure
from mpcore.sim.faults import Delay, Fault, Faults, Flap, Loss, OneWay, Partition, Pause, Repeat, Slow
from mpcore.sim.invariants import Breach, Watcher
from mpcore.sim.scenario import Scenario, Step, chaos_steps
from mpcore.sim.trace import Trace
from mpcore.sim.world import Daemon, World, simulate

__all__ = ("Result", "play")

_PACE = 1.0


@dataclass(frozen=True)
class Result:
    """What came of a run.

    :param fingerprint: SHA-256 of the trace.
    :param breaches: of invariants and expectations; none: it went well.
    :param settled_after: seconds from the end of the last fault until everything had settled; ``None``: it did not.
    :param seconds: virtual time.
    :param messages: payloads sent.
    :param octets: of these payloads.
    :param commits: of all databases.
    :param kills: lives that ended early.
    """

    title: str
    seed: int
    fingerprint: str
    breaches: tuple[Breach, ...]
    settled_after: float | None
    seconds: float
    messages: int
    octets: int
    commits: int
    kills: int
    tail: tuple[str, ...] = field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was breached."""
        return not self.breaches


def play(
    scenario: Scenario,
    seed: int,
    *,
    sink: Callable[[str], None] | None = None,
    recorder: Callable[[Daemon, Event | None], None] | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Play *scenario* with *seed*.

    :param sink: called with every line of the trace.
    :param recorder: see :func:`mpcore.sim.world.simulate`.
    :param watcher: watches the invariants.
    """
    trace, eyes = Trace(sink), watcher or Watcher()
    steps = list(scenario.steps)
    if scenario.chaos is not None:
        steps += chaos_steps(scenario.chaos, scenario.plan, Random(f"chaos {seed}"))
        steps.sort(key=lambda step: step.at)
    faults = Faults([fault for step in steps for fault in _faults(step)])

    async def main(world: World) -> tuple[float | None, float]:
        async with anyio.create_task_group() as tasks:
            for step in steps:
                tasks.start_soon(_perform, world, eyes, step)
        quiet = max([faults.last_end, *(step.at + (step.lasts or 0.0) for step in steps)], default=0.0)
        await anyio.sleep(max(0.0, quiet - world.now))
        for daemon in world.daemons.values():
            daemon.disk.latency = (0.001, 0.005)
        await world.start_all()
        world.trace.event("world", "quiet")
        started = world.now
        settled = await world.until(lambda: not eyes.unsettled(), max(1.0, scenario.end - started), _PACE)
        if settled is None:
            eyes.settled()
        else:
            await anyio.sleep(scenario.plan.beat * 2)  # whatever comes late must not unsettle it
            eyes.settled()
        return settled, world.now

    commits = kills = 0

    async def counted(world: World) -> tuple[float | None, float]:
        nonlocal commits, kills
        try:
            return await main(world)
        finally:
            commits = sum(daemon.disk.commits for daemon in world.daemons.values())
            kills = sum(daemon.lives - 1 for daemon in world.daemons.values())

    settled, seconds = simulate(
        counted, seed, scenario.plan, observer=eyes, faults=faults, trace=trace, recorder=recorder
    )
    return Result(
        title=scenario.title,
        seed=seed,
        fingerprint=trace.fingerprint,
        breaches=tuple(eyes.breaches),
        settled_after=settled,
        seconds=seconds,
        messages=trace.messages,
        octets=trace.octets,
        commits=commits,
        kills=kills,
        tail=tuple(trace.tail),
    )


def _faults(step: Step) -> list[Fault]:
    """The faults of the network that a step makes."""
    start, end = step.at, math.inf if step.lasts is None else step.at + step.lasts
    kinds: dict[str, type[Fault]] = {
        "partition": Partition,
        "one-way": OneWay,
        "flap": Flap,
        "loss": Loss,
        "repeat": Repeat,
        "jitter": Delay,
        "slow": Slow,
        "pause": Pause,
    }
    kind = kinds.get(step.verb)
    return [] if kind is None else [kind(start, end, **step.details)]


async def _perform(world: World, watcher: Watcher, step: Step) -> None:
    await anyio.sleep_until(step.at)
    details = step.details
    who = str(details.get("who", "world"))
    if step.verb not in ("add", "delete", "expect"):
        shown = {key: _plain(value) for key, value in details.items() if key != "who"}
        world.trace.event(who, step.verb, lasts=step.lasts, **shown)
    match step.verb:
        case "add" | "delete":
            await _change(world, details["provider"], step.verb, details["record"])
        case "expect":
            _expect(world, watcher, details["what"])
        case "start":
            await world.daemon(who).start()
        case "kill":
            world.daemon(who).kill()
        case "power-cut":
            disk = world.daemon(who).disk
            disk.fail_at(disk.commits + max(1, details["commit"]), details["written"])
        case "disk":
            world.daemon(who).disk.latency = (details["latency"] / 2, details["latency"])
    if step.lasts is None:
        return
    await anyio.sleep(step.lasts)
    match step.verb:
        case "kill" | "power-cut":
            world.daemon(who).disk.fail_at(0)
            await world.daemon(who).start()
        case "disk":
            world.daemon(who).disk.latency = (0.001, 0.005)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return sorted(value) if isinstance(value, frozenset) else value


async def _change(world: World, provider: str, operation: str, record: str) -> None:
    daemon = world.daemon(provider)
    zone = record.split()[0]
    if not daemon.alive:
        world.trace.event(daemon.name, "change-failed", reason="it does not run")
        return
    try:
        request = ChangeRequest.model_validate({"operation": operation, "record": record})
        with anyio.move_on_after(30):
            await daemon.node.change(zone, request)
    except PowerFailure:
        world.trace.event(daemon.name, "change-failed", reason="the power failed")
    except LocalError as error:
        world.trace.event(daemon.name, "change-failed", reason=str(error))


def _expect(world: World, watcher: Watcher, what: str) -> None:
    match what:
        case "settled":
            watcher.settled()
        case "leader" if not world.led():
            watcher.breach("expected", "world", f"a leader; there is {world.leaders()}")
        case "operational" if not world.operational():
            watcher.breach("expected", "world", "complete matrices")
        case "no leader" if any(held != {None} for held in world.leaders().values()):
            watcher.breach("expected", "world", f"no leader; there is {world.leaders()}")
