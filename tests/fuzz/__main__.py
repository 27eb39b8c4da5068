"""``python -m tests.fuzz TARGET|all --executions N --seed S``: damage octets, print what broke a decoder's rule.

``--input HEX`` runs one input again, the one that a former run has printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.fuzz.engine import execute, fuzz
from tests.fuzz.targets import TARGETS

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets named; 1 if any of them broke its rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("all", *TARGETS), metavar="TARGET", help=", ".join(("all", *TARGETS)))
    parser.add_argument("--executions", type=int, default=10_000, help="of a target; costly ones make fewer of all")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--input", metavar="HEX", type=bytes.fromhex, help="run these octets, undamaged")
    options = parser.parse_args(arguments)
    broken = 0
    if options.input is None:
        sys.stdout.write(f"seed {options.seed}\n")
    for target in TARGETS.values() if options.target == "all" else (TARGETS[options.target],):
        if options.input is not None:
            report = execute(target, options.input)
        else:
            share = target.cost if options.target == "all" else 1
            report = fuzz(target, max(1, options.executions // share), options.seed)
        broken += report.broken
        sys.stdout.write(f"{report}\n")
        sys.stdout.flush()
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
