"""``lab``: a whole multi-provider world on this machine, to look at and to break."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cockpit.commands.base import Command, Parameter, Values
from cockpit.output import ExitCode, Lines, Result, Writer, narrate
from cockpit.session import Session

if TYPE_CHECKING:
    from cockpit.lab import LabEvent, LabProcess

__all__ = ("COMMANDS",)


def _lab(session: Session, values: Values, writer: Writer) -> int:
    from cockpit.lab import LabError, LabProcess, Progress, wait_until_up

    options = ["--providers", str(values["providers"])]
    if values["signers"] is not None:
        options += ["--signers", values["signers"]]
    if values["transport"] != "dns":
        options += ["--transport", values["transport"]]
    if values["zone_file"] is not None:
        options += ["--zone-file", str(Path(values["zone_file"]).absolute())]
    if values["keep"]:
        options.append("--keep")
    headless = values["headless"]
    if not headless and not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        narrate("no terminal: the lab runs without screens (--headless)")
        headless = True

    def tell(event: LabEvent) -> None:
        if writer.output == "json":
            writer.result(Result(event), compact=True)

    # A request to end is handled like Ctrl-C: the lab is ended in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        with LabProcess(session.state_dir, options) as lab:
            wait_until_up(lab, Progress(), tell)
            here = Session(session.state_dir, session.context_name, read_only=session.read_only)
            code = _headless(here, lab, writer) if headless else _screens(here, lab)
            status = lab.stop()
        if values["keep"]:
            narrate(f"the state is kept in {session.state_dir}")
        return code or (ExitCode.DONE if status == 0 else ExitCode.FAILED)
    except LabError as error:
        for line in str(error).splitlines():
            narrate(line)
        return ExitCode.USAGE if error.status == ExitCode.USAGE else ExitCode.FAILED


def _screens(session: Session, lab: LabProcess) -> int:
    from cockpit.screens_entry import open_screens

    return open_screens(session, None, lab)


def _headless(session: Session, lab: LabProcess, writer: Writer) -> int:
    import anyio

    return anyio.run(_watch_headless, session, lab, writer)


async def _watch_headless(session: Session, lab: LabProcess, writer: Writer) -> int:
    """Tell of leaders and of daemons that end, until a signal or until the lab ends by itself."""
    import anyio

    from cockpit.feed import follow_all
    from cockpit.model import Model, reduce
    from cockpit.recording import Entry

    model = Model()
    leaders: dict[str, str] = {}
    code: int = ExitCode.DONE

    def tell(entry: Entry) -> None:
        nonlocal model
        model = reduce(model, entry)
        agents = [daemon for key, daemon in model.daemons.items() if key.role == "agent"]
        for group in agents[0].groups.values() if agents else ():
            views = [agent.groups[group.hash].election for agent in agents if group.hash in agent.groups]
            named = {view.leader for view in views}
            leader = views[0].leader
            if len(named) == 1 and len(views) == len(group.members) and leader and leaders.get(group.hash) != leader:
                leaders[group.hash] = leader
                data = {"event": "leader", "group": group.hash, "leader": leader, "term": views[0].term}
                text = f"leader: {leader} (group {group.hash[:8]}, term {views[0].term}, {', '.join(group.zones)})"
                writer.result(Result(data, [Lines([text])]), compact=True)

    async with anyio.create_task_group() as tasks:

        async def signals() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
                async for _ in received:
                    tasks.cancel_scope.cancel()

        async def events() -> None:
            nonlocal code
            while True:
                for event in lab.pending_events():
                    if event is None:
                        narrate("the lab has ended")
                        code = ExitCode.FAILED
                        tasks.cancel_scope.cancel()
                    else:
                        _tell_event(event, writer)
                await anyio.sleep(0.1)

        tasks.start_soon(signals)
        tasks.start_soon(events)
        tasks.start_soon(follow_all, session.fleet.contexts, tell, session.clock, ("agent",))
        narrate("Ctrl-C ends the lab")
    return code


def _tell_event(event: LabEvent, writer: Writer) -> None:
    if writer.output == "json":
        writer.result(Result(event), compact=True)
        return
    match event.get("event"):
        case "exited":
            narrate(f"{event['name']} ended with status {event['status']}; log: {event['log']}")
        case "started" | "ready":
            narrate(f"{event['name']} {event['event']}")
        case "failed":
            narrate(f"failed: {event['message']}")


def _ask(word: str) -> Any:
    def ask(session: Session, values: Values, writer: Writer) -> int:
        from cockpit.lab import ask_lab

        return ask_lab(session.state_dir, [word, *([values["name"]] if "name" in values else [])])

    return ask


_NAME = Parameter(
    "name", "A daemon such as alpha.agent, or a provider: all three of its daemons.", positional=True, required=True
)

COMMANDS = (
    Command(
        ("lab",),
        "Start a lab: a DNS world and several providers on this machine, then open the screens",
        (
            Parameter("providers", "Number of providers, 2 to 8.", "number", default=3, least=2, most=8),
            Parameter("signers", "Labels of the providers that sign, with commas between; all unless given."),
            Parameter(
                "transport",
                "How agents talk: by DNS, by HTTPS first, by nothing but HTTPS, or mixed: the last one has DNS only.",
                default="dns",
                choices=("dns", "https", "https-only", "mixed"),
            ),
            Parameter("headless", "No screens: stay in the foreground until Ctrl-C.", "flag", default=False),
            Parameter("keep", "Keep the state directory after the end.", "flag", default=False),
            Parameter(
                "zone_file", "Master file of the customer's zone; an example unless given.", "file", metavar="FILE"
            ),
        ),
        details="Every server has an address of its own in 127/8; nothing outside the machine is asked or reached. "
        "Leaving the screens, or Ctrl-C with --headless, ends all processes and removes the state directory unless "
        "--keep is given. From another terminal, all other commands work on a running lab.",
        changes="processes on this machine and the state directory",
        examples=(
            "lab",
            "lab --providers 5 --signers alpha,bravo",
            "lab --transport https",
            "lab --headless --state-dir /tmp/lab",
        ),
        local=_lab,
    ),
    Command(
        ("lab", "kill"),
        "Kill a daemon of a running lab, to see what happens",
        (_NAME,),
        changes="ends processes of the lab",
        examples=("lab kill bravo.agent",),
        local=_ask("kill"),
    ),
    Command(
        ("lab", "start"),
        "Start a daemon of a running lab again",
        (_NAME,),
        changes="starts processes of the lab",
        examples=("lab start bravo.agent",),
        local=_ask("start"),
    ),
    Command(("lab", "status"), "Show the processes of a running lab, as JSON", local=_ask("status")),
)
