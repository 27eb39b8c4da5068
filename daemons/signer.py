"""The console script ``mpsigner``; see :mod:`daemons.commandline`."""

from __future__ import annotations

import sys

from daemons import commandline

__all__ = ("main",)


def main() -> None:
    """Run ``mpsigner`` with the arguments of the process and end with its exit status."""
    sys.exit(commandline.main("signer"))


if __name__ == "__main__":
    main()
