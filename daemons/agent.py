"""The console script ``mpagent``; see :mod:`daemons.commandline`."""

from __future__ import annotations

import sys

from daemons import commandline

__all__ = ("main",)


def main() -> None:
    """Run ``mpagent`` with the arguments of the process and end with its exit status."""
    sys.exit(commandline.main("agent"))


if __name__ == "__main__":
    main()
