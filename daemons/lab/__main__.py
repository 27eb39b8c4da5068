"""``python -m daemons.lab``: what ``mpcockpit lab`` runs.

``run`` prints one JSON object for each event on standard output; ``kill``, ``start`` and ``status`` talk to a running
lab.  Exit status: 0 done, 1 failed, 2 usage or configuration, 3 no lab runs there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from daemons.lab.layout import (
    TRANSPORTS,
    Layout,
    plan_layout,
    read_layout,
    socket_directory,
    take_block,
    write_files,
)
from daemons.lab.supervisor import Supervisor, command, remove_state, tie_to_parent
from mpcore.errors import ConfigError, MpError, ZoneError
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_file

__all__ = ("main",)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m daemons.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="set a lab up and run it until SIGTERM or SIGINT")
    run.add_argument("--providers", type=int, default=3, metavar="N", help="2 to 8 (default 3)")
    run.add_argument("--signers", metavar="LIST", help="labels of those that sign, with commas between (default: all)")
    run.add_argument("--transport", choices=TRANSPORTS, default="dns", help="how agents talk (default: dns)")
    run.add_argument("--zone-file", type=Path, metavar="FILE", help="the customer's zone (default: an example)")
    run.add_argument("--keep", action="store_true", help="keep the state directory after the end")
    run.add_argument("--die-with-parent", action="store_true", help="end when the parent process ends")
    for name, text in (("kill", "kill a daemon with SIGKILL"), ("start", "start it again"), ("status", "what runs")):
        other = commands.add_parser(name, help=text)
        if name != "status":
            other.add_argument("name", help="for example alpha.agent, or alpha for all three")
        other.add_argument("--state-dir", type=Path, required=True, metavar="DIR")
    run.add_argument("--state-dir", type=Path, required=True, metavar="DIR", help="created if it does not exist")
    return parser


def _report(event: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        # Whoever read us is gone; the lab goes on until it is told to end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _set_up(options: argparse.Namespace) -> Layout:
    directory: Path = options.state_dir.absolute()
    if directory.exists() and any(directory.iterdir()) and not (directory / "lab.json").exists():
        raise ConfigError("is neither empty nor a lab's", file=str(directory), key="--state-dir")
    former = read_layout(directory) if (directory / "lab.json").exists() else None
    if former is not None and _answers(former):
        raise ConfigError("a lab runs there already", file=str(directory), key="--state-dir")
    signers = options.signers.split(",") if options.signers is not None else None
    with as_file(files("daemons.lab") / "customer.zone") as example:
        zone_file: Path = options.zone_file or example
        zone = owners.to_text(read_master_file(zone_file).origin)
        block = take_block(former.block if former is not None else None)
        sockets = socket_directory(directory)
        layout = plan_layout(
            directory, block.block, zone, options.providers, signers, sockets / "lab", options.transport
        )
        if options.zone_file is None and former is not None and _same_roles(former, layout):
            zone_file = layout.zone_file  # with the changes that the owner has made by UPDATE
        write_files(layout, zone_file)
    return layout


def _same_roles(former: Layout, layout: Layout) -> bool:
    """Whether the zone as the former lab left it fits the new one."""

    def roles(of: Layout) -> list[tuple[str, bool, str]]:
        return [(provider.label, provider.signs, provider.upstream) for provider in of.providers]

    return former.zone == layout.zone and roles(former) == roles(layout) and layout.zone_file.exists()


def _answers(layout: Layout) -> bool:
    try:
        return bool(command(layout, "status")["ok"])
    except (OSError, ValueError):
        return False


def _run(options: argparse.Namespace) -> int:
    if options.die_with_parent:
        tie_to_parent(os.getppid())
    try:
        layout = _set_up(options)
    except (ConfigError, ZoneError) as error:
        _report({"event": "failed", "message": str(error), "log": None})
        return 2
    _report(
        {
            "event": "planned",
            "directory": layout.directory,
            "zone": layout.zone,
            "providers": [provider.label for provider in layout.providers],
        }
    )
    status = Supervisor(layout, _report).run()
    if not options.keep and status == 0:
        remove_state(layout)
    return status


def _ask(options: argparse.Namespace) -> int:
    layout = read_layout(options.state_dir.absolute())
    try:
        answer = command(layout, options.command, getattr(options, "name", ""))
    except (OSError, ValueError):
        sys.stderr.write(f"no lab runs in {options.state_dir}\n")
        return 3
    if options.command == "status":
        sys.stdout.write(json.dumps(answer["daemons"]) + "\n")
    else:
        (sys.stdout if answer["ok"] else sys.stderr).write(f"{answer['message']}\n")
    return 0 if answer["ok"] else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options) if options.command == "run" else _ask(options)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (MpError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
