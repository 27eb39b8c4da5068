"""The command line: ``mpcockpit``, built from the registry of commands.

Importing this module costs nothing; what a command needs is loaded when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from click import Command as ClickCommand

    from cockpit.commands.base import Command, Parameter
    from cockpit.output import Writer
    from cockpit.session import Session

__all__ = ("Invocation", "execute_line", "main", "parse")

_EXTRA = "pip install '.[cockpit]'"
_NEEDED = ("click", "textual", "pydantic_settings")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``mpcockpit``; the exit code is what :mod:`cockpit.output` says."""
    from importlib.util import find_spec

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"mpcockpit: {', '.join(missing)} not installed: the cockpit is an extra, {_EXTRA}\n")
        return 2
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return execute_line(words, None, None)
    except BrokenPipeError:
        # The reader went away (``| head``): nothing is wrong, and nothing can be said.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class Invocation:
    """A command line that was understood.

    :param command: which operation, ``None``: open the screens.
    :param values: of its parameters.
    :param common: values of the common options, ``None`` where they were not given.
    """

    __slots__ = ("command", "common", "values")

    def __init__(self, command: Command | None, values: dict[str, Any], common: dict[str, Any]) -> None:
        self.command, self.values, self.common = command, values, common


def execute_line(arguments: Sequence[str], session: Session | None, writer: Writer | None) -> int:
    """Understand and execute one command line; what goes wrong is said on standard error.

    :param session: what holds where the line says nothing; ``None``: nothing was said before.
    :param writer: likewise.
    :returns: the exit code.
    """
    import click

    from cockpit.output import ExitCode, exit_code, narrate

    try:
        invocation = parse(arguments)
        if invocation is None:
            return ExitCode.DONE
        return _execute(invocation, session, writer)
    except click.ClickException as error:
        error.show(sys.stderr)
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        narrate("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        return _report(error, exit_code(error))


def _report(error: Exception, code: int) -> int:
    from cockpit.output import narrate
    from mpcore.errors import MpError

    if isinstance(error, BaseExceptionGroup):
        from cockpit.output import exit_code

        first = error.exceptions[0]
        return _report(first, exit_code(first)) if isinstance(first, Exception) else code
    if not isinstance(error, (MpError, TimeoutError, OSError)):
        import traceback

        traceback.print_exception(error)
        return code
    words = {"PolicyError": "refused: ", "ConflictError": "refused: ", "TimeoutError": "time is over: "}
    narrate(f"mpcockpit: {words.get(type(error).__name__, '')}{error or 'no answer in time'}")
    return code


# ---------------------------------------------------------------------------------------------------------------------
# Understanding


def parse(arguments: Sequence[str]) -> Invocation | None:
    """Understand a command line; ``None``: it asked for help, which was shown.

    :raises click.ClickException: it is not understood.
    """
    import click

    try:
        found = _tree().main(list(arguments), prog_name="mpcockpit", standalone_mode=False)
    except click.exceptions.Exit as ended:
        found = ended.exit_code
    return found if isinstance(found, Invocation) else None


def _common_options() -> list[Any]:
    """Options that every command takes, before or after its words."""
    from pathlib import Path

    import click

    return [
        click.Option(["--context"], help="Which provider's daemons; the first one unless given.", metavar="NAME"),
        click.Option(
            ["--state-dir"],
            help="Directory with contexts.yaml, the lab's unless given.",
            metavar="DIR",
            type=click.Path(path_type=Path),
        ),
        click.Option(["--output"], help="How results are written.", type=click.Choice(["text", "json"])),
        click.Option(
            ["--json", "output"], flag_value="json", help="The same as --output json.", default=None, show_default=False
        ),
    ]


def _root_options() -> list[Any]:
    import click

    context, state_dir, *rest = _common_options()
    context.envvar, state_dir.envvar = "MPCOCKPIT_CONTEXT", "MPCOCKPIT_STATE_DIR"
    return [
        context,
        state_dir,
        *rest,
        click.Option(
            ["--read-only"], is_flag=True, default=None, help="Refuse everything that would change something."
        ),
        click.Option(
            ["--replay"], metavar="FILE", help="Open the screens on a recording ('watch --snapshots --json')."
        ),
        click.Option(["--version"], is_flag=True, help="The same as the command 'version'."),
    ]


_TREE: list[Any] = []


def _tree() -> ClickCommand:
    """The command line as click has it, built once."""
    import click

    from cockpit.commands import all_commands, find_command

    if _TREE:
        tree: ClickCommand = _TREE[0]
        return tree
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

    def open_screens(**values: Any) -> Invocation | None:
        context = click.get_current_context()
        if values.pop("version"):
            return Invocation(find_command("version"), {}, values)
        return None if context.invoked_subcommand else Invocation(None, {}, values)

    root = click.Group(
        "mpcockpit",
        callback=open_screens,
        invoke_without_command=True,
        params=_root_options(),
        context_settings=settings,
        help="Watch and drive multi-provider DNSSEC. Without a command, the screens open.",
        epilog="Start with 'mpcockpit lab', read on with 'mpcockpit guide'.",
    )
    groups: dict[tuple[str, ...], click.Group] = {(): root}
    commands = all_commands()
    for command in commands:
        parent = root
        for depth in range(1, len(command.words)):
            path = command.words[:depth]
            if path not in groups:
                own = next((each for each in commands if each.words == path), None)
                groups[path] = click.Group(path[-1], **_group(path, own))
                parent.add_command(groups[path])
            parent = groups[path]
        if command.words in groups or any(
            each.words[: len(command.words)] == command.words and each is not command for each in commands
        ):
            if command.words not in groups:
                groups[command.words] = click.Group(command.words[-1], **_group(command.words, command))
                parent.add_command(groups[command.words])
            continue
        parent.add_command(
            click.Command(
                command.words[-1],
                callback=_callback(command),
                params=[*(_click_parameter(parameter) for parameter in command.parameters), *_common_options()],
                help=_help(command),
                short_help=command.summary,
            )
        )
    _TREE.append(root)
    return root


_GROUPS = {
    ("peer",): "Whom a daemon talks to.",
    ("gossip",): "What the members of a group tell each other.",
    ("gossip", "group"): "Provider groups: matrix, election, leader.",
    ("zone",): "Zones, their records and changes to them.",
    ("zone", "edits"): "Synchronised records and their confirmations.",
    ("zone", "keys"): "DNSSEC keys.",
    ("combiner",): "What the combiner sees.",
    ("combiner", "zone"): "Zones at the combiner.",
    ("combiner", "zone", "edits"): "Contributions at the combiner.",
    ("signer",): "What the signer sees.",
    ("signer", "zone"): "Zones at the signer.",
    ("signer", "keys"): "DNSSEC keys.",
    ("combiner", "tsig"): "TSIG keys of the combiner.",
    ("signer", "tsig"): "TSIG keys of the signer.",
    ("agent",): "What the agent sees.",
    ("agent", "tsig"): "TSIG keys of the agent.",
    ("queue",): "Messages that wait for delivery.",
    ("distribution",): "Messages of the last minutes, in and out.",
    ("group",): "Orders to a provider group.",
    ("group", "election"): "Elect a leader, or stop being one.",
    ("transaction",): "Changes, and how far they have come.",
}


def _group(path: tuple[str, ...], own: Command | None) -> dict[str, Any]:
    """Arguments of a group; *own*: the command that runs when only the group's words are given."""
    import click

    if own is None:
        return {"help": _GROUPS.get(path, " ".join(path)), "no_args_is_help": True}
    run = _callback(own)

    def callback(**values: Any) -> Invocation | None:
        return None if click.get_current_context().invoked_subcommand else run(**values)

    return {
        "callback": callback,
        "invoke_without_command": True,
        "params": [*(_click_parameter(parameter) for parameter in own.parameters), *_common_options()],
        "help": _help(own),
        "short_help": own.summary,
    }


def _help(command: Command) -> str:
    parts = [f"{command.summary}."]
    if command.details:
        parts.append(command.details)
    if command.changes:
        parts.append(f"Changes: {command.changes}.")
    if command.examples:
        parts.append("\b\nExamples:\n" + "\n".join(f"  mpcockpit {example}" for example in command.examples))
    return "\n\n".join(parts)


def _callback(command: Command) -> Any:
    common = ("context", "state_dir", "output")

    def callback(**values: Any) -> Invocation:
        import click

        chain: list[dict[str, Any]] = []
        context: click.Context | None = click.get_current_context()
        while context is not None:
            chain.append(context.params)
            context = context.parent
        merged: dict[str, Any] = {}
        for params in chain:  # the innermost word wins
            for key in (*common, "read_only", "replay"):
                if merged.get(key) is None:
                    merged[key] = params.get(key)
        names = {parameter.name for parameter in command.parameters}
        return Invocation(command, {key: value for key, value in values.items() if key in names}, merged)

    return callback


def _click_parameter(parameter: Parameter) -> Any:
    import click

    kind: Any = str
    if parameter.choices:
        kind = click.Choice(parameter.choices)
    elif parameter.kind == "number":
        kind = click.IntRange(
            None if parameter.least is None else int(parameter.least),
            None if parameter.most is None else int(parameter.most),
        )
    elif parameter.kind == "seconds":
        kind = click.FloatRange(parameter.least, parameter.most)
    if parameter.positional:
        return click.Argument(
            [parameter.name],
            type=kind,
            required=parameter.required,
            nargs=-1 if parameter.kind == "words" else 1,
            default=None if parameter.required else parameter.default,
            metavar=parameter.metavar or parameter.name.upper() + ("..." if parameter.kind == "words" else ""),
        )
    flags = [f"--{parameter.name.replace('_', '-')}", *([parameter.short] if parameter.short else [])]
    if parameter.kind == "flag":
        return click.Option(
            [*flags, parameter.name], is_flag=True, default=bool(parameter.default), help=parameter.help
        )
    return click.Option(
        [*flags, parameter.name],
        type=kind,
        default=parameter.default,
        show_default=parameter.default is not None,
        metavar=parameter.metavar,
        help=parameter.help,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Executing


def _execute(invocation: Invocation, session: Session | None, writer: Writer | None) -> int:
    from cockpit.output import Writer
    from cockpit.session import Session

    common, command = invocation.common, invocation.command
    chosen = common.get("output") or (writer.output if writer is not None else "text")
    if writer is None or writer.output != chosen:
        writer = Writer(chosen)
    if session is None or common.get("state_dir") is not None:
        session = Session(common.get("state_dir"), common.get("context"), read_only=bool(common.get("read_only")))
    elif common.get("context") is not None:
        session = session.with_context(common["context"])
    if command is None:
        from cockpit.screens_entry import open_screens

        return open_screens(session, common.get("replay"))
    if command.local is not None:
        return int(command.local(session, invocation.values, writer))
    import anyio

    return anyio.run(_answer, command, session, invocation.values, writer)


async def _answer(command: Command, session: Session, values: dict[str, Any], writer: Writer) -> int:
    if command.stream is not None:
        return int(await command.stream(session, values, lambda result: writer.result(result, compact=True)))
    assert command.run is not None
    result = await command.run(session, values)
    writer.result(result)
    return int(result.code)


if __name__ == "__main__":
    sys.exit(main())
