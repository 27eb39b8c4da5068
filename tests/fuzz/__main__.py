"""``python -m tests.fuzz TARGET|all --executions N --seed S``: damage octets, print what broke a decoder's rule.

``--input HEX`` runs one input again, the one that a former run has printed.

A campaign: ``python -m tests.fuzz all --full --executions 1000000 --until 10:00 --log FILE`` makes that many executions
of every target, those first whose executions cost least, and adds a line for each target to the file when it is done.
It begins no target after the time of day given; ``--skip`` names targets that are done.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.engine import execute, fuzz
from tests.fuzz.targets import TARGETS

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets named; 1 if any of them broke its rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("all", *TARGETS), metavar="TARGET", help=", ".join(("all", *TARGETS)))
    parser.add_argument("--executions", type=int, default=10_000, help="of a target; costly ones make fewer of all")
    parser.add_argument("--full", action="store_true", help="all: the whole number for costly targets too")
    parser.add_argument("--until", metavar="HH:MM", help="all: begin no target after this time of today")
    parser.add_argument("--log", type=Path, metavar="FILE", help="add a line for each target")
    parser.add_argument("--skip", nargs="*", default=[], metavar="TARGET", help="all: but these")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--input", metavar="HEX", type=bytes.fromhex, help="run these octets, undamaged")
    options = parser.parse_args(arguments)
    broken = 0
    if options.input is None:
        sys.stdout.write(f"seed {options.seed}\n")
    if options.target == "all":
        targets = [target for target in TARGETS.values() if target.name not in options.skip]
    else:
        targets = [TARGETS[options.target]]
    if options.full:
        targets.sort(key=lambda target: target.cost)
    for target in targets:
        if options.until is not None and time.strftime("%H:%M") >= options.until:
            break
        if options.input is not None:
            report = execute(target, options.input)
        else:
            share = target.cost if options.target == "all" and not options.full else 1
            report = fuzz(target, max(1, options.executions // share), options.seed)
        broken += report.broken
        sys.stdout.write(f"{report}\n")
        sys.stdout.flush()
        if options.log is not None:
            with options.log.open("a") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {report.seconds:.0f} s {report}\n")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
