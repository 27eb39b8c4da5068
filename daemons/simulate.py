"""Play a scenario of the simulator: ``python -m daemons.simulate SCENARIO --seed 7``.

The scenario is a file (see :mod:`mpcore.sim.scenario`) or the name of one that is shipped.  The run needs no network
and no lab and takes seconds for many minutes of virtual time.  Exit code: 0 everything held, 1 something did not, 2 the
scenario cannot be used or trio is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpcore.sim
from mpcore.errors import ConfigError

if TYPE_CHECKING:
    from mpcore.control.models import Event
    from mpcore.sim.runner import Result
    from mpcore.sim.world import Daemon

__all__ = ("SCENARIOS", "main")

SCENARIOS = Path(mpcore.sim.__file__).parent / "scenarios"
"""Where the shipped scenarios are."""

_HASH_SEED = "PYTHONHASHSEED"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.list:
        for name in _shipped():
            _say(name)
        return 0
    if options.scenario is None:
        _complain("which scenario? One of " + ", ".join(_shipped()) + ", or a file")
        return 2
    if importlib.util.find_spec("trio") is None:
        _complain("the simulator needs trio: pip install 'multi-provider-dnssec[simulate]'")
        return 2
    logging.basicConfig(level=logging.CRITICAL if not options.verbose else logging.INFO, format="%(message)s")
    try:
        return _play(options)
    except ConfigError as error:
        _complain(str(error))
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mpcockpit simulate", description="Play a scenario on a virtual clock.")
    parser.add_argument("scenario", nargs="?", help="file, or name of a shipped scenario")
    parser.add_argument("--seed", type=int, default=1, help="everything random comes from it (default: 1)")
    parser.add_argument("--runs", type=int, default=1, help="play so many seeds, counting up from --seed")
    parser.add_argument("--json", action="store_true", help="one JSON object for each run")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write messages and events, one JSON object a line")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write a recording that the cockpit replays")
    parser.add_argument("--list", action="store_true", help="name the shipped scenarios")
    parser.add_argument("--verbose", action="store_true", help="let the daemons' log through")
    return parser


def _shipped() -> list[str]:
    return sorted(path.stem for path in SCENARIOS.glob("*.yaml"))


def _file(name: str) -> Path:
    given = Path(name)
    shipped = SCENARIOS / f"{name}.yaml"
    return shipped if not given.exists() and shipped.exists() else given


def _play(options: argparse.Namespace) -> int:
    from mpcore.sim.runner import play
    from mpcore.sim.scenario import read_scenario

    scenario = read_scenario(_file(options.scenario))
    good = True
    for seed in range(options.seed, options.seed + max(1, options.runs)):
        with _lines(options.trace) as sink, _lines(options.record) as record:
            recorder = None if record is None else _Recorder(record)
            result = play(scenario, seed, sink=sink, recorder=recorder)
        good = good and result.ok
        _report(result, as_json=options.json)
    return 0 if good else 1


@contextlib.contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[str], None] | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(path)) from None
    with file:

        def write(line: str) -> None:
            file.write(f"{line}\n")

        yield write


class _Recorder:
    """Writes events of daemons in the form of a recording: ``at``, ``context``, ``role``, and one of ``snapshot``,
    ``event`` and ``down``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def __call__(self, daemon: Daemon, event: Event | None) -> None:
        entry: dict[str, Any] = {"at": daemon.world.clock.now(), "context": daemon.label, "role": daemon.role}
        if event is None:
            entry["down"] = "it does not run"
        elif event.kind == "gap":
            entry["snapshot"] = daemon.node.snapshot().model_dump(mode="json")
        else:
            entry["event"] = event.model_dump(mode="json")
        self._write(json.dumps(entry))


def _report(result: Result, *, as_json: bool) -> None:
    if as_json:
        _say(
            json.dumps(
                {
                    "title": result.title,
                    "seed": result.seed,
                    "ok": result.ok,
                    "fingerprint": result.fingerprint,
                    "virtual_seconds": round(result.seconds, 3),
                    "settled_after": result.settled_after,
                    "messages": result.messages,
                    "octets": result.octets,
                    "commits": result.commits,
                    "kills": result.kills,
                    "breaches": [
                        {"invariant": item.invariant, "at": round(item.at, 3), "where": item.where, "what": item.what}
                        for item in result.breaches
                    ],
                }
            )
        )
        return
    verdict = "held" if result.ok else f"{len(result.breaches)} breaches"
    settled = (
        "never settled" if result.settled_after is None else f"settled {result.settled_after:.0f} s after the last"
    )
    _say(
        f"{result.title or 'scenario'}: seed {result.seed}: {verdict}; {settled}; {result.seconds:.0f} s virtual, "
        f"{result.messages} messages, {result.kills} kills, fingerprint {result.fingerprint[:16]}"
    )
    for breach in result.breaches:
        _say(f"  {breach}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"mpcockpit simulate: {text}\n")


if __name__ == "__main__":
    if os.environ.get(_HASH_SEED) != "0":
        # What depends on the order of a set would be another in each process; none should, and now none can.
        command = [sys.executable, "-m", "daemons.simulate", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, _HASH_SEED: "0"})
    sys.exit(main())
