"""``simulate``: whole providers on a virtual clock, with faults, from a scenario and a seed."""

from __future__ import annotations

import subprocess
import sys

from cockpit.commands.base import Command, Parameter, Values
from cockpit.output import Writer
from cockpit.session import Session

__all__ = ("COMMANDS",)


def _simulate(session: Session, values: Values, writer: Writer) -> int:
    words = [sys.executable, "-m", "daemons.simulate"]
    if values["scenario"] is None:
        words.append("--list")
    else:
        words += [values["scenario"], "--seed", str(values["seed"]), "--runs", str(values["runs"])]
        for name in ("trace", "record"):
            if values[name] is not None:
                words += [f"--{name}", values[name]]
    if writer.output == "json":
        words.append("--json")
    # Its output is data and its narration is narration: both streams are passed on as they are.
    return subprocess.run(words, check=False).returncode


COMMANDS = (
    Command(
        ("simulate",),
        "Play a scenario: whole providers on a virtual clock, with faults; without one, list those shipped",
        (
            Parameter("scenario", "A file, or the name of a shipped scenario.", positional=True),
            Parameter("seed", "Everything random comes from it; the same seed, the same run.", "number", default=1),
            Parameter("runs", "Play so many seeds, counting up.", "number", default=1, least=1, most=100000),
            Parameter("trace", "Write messages and events, one JSON object a line.", "file", metavar="FILE"),
            Parameter("record", "Write a recording for --replay.", "file", metavar="FILE"),
        ),
        details="Needs the extra 'simulate' (pip install '.[cockpit,simulate]'). What must hold is checked all the "
        "time; the exit code is 1 if it did not.",
        examples=("simulate first-change", "simulate everything --seed 7 --record run.jsonl"),
        local=_simulate,
    ),
)
