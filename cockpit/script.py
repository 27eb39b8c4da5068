"""Script files: command lines as typed at a shell, one after another.

A line that begins with ``-`` may fail; ``#`` begins a comment; quotes group as in a shell.  ``--context`` and the other
common options on a line override those of ``run`` itself.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from cockpit.output import ExitCode, Writer, narrate
from cockpit.session import Session
from mpcore.errors import ConfigError

__all__ = ("Step", "read_script", "run_script")


class Step:
    """One command of a script.

    :param line: 1-based number of its line.
    :param arguments: its words.
    :param may_fail: whether the script goes on when it fails.
    """

    __slots__ = ("arguments", "line", "may_fail")

    def __init__(self, line: int, arguments: list[str], may_fail: bool) -> None:
        self.line, self.arguments, self.may_fail = line, arguments, may_fail


def read_script(text: str, file: str) -> list[Step]:
    """The commands of a script; :raises ConfigError: a line has an open quotation, or is a lone ``-``."""
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        may_fail = stripped.startswith("-")
        try:
            words = shlex.split(stripped.removeprefix("-"), comments=True)
        except ValueError as error:
            raise ConfigError(str(error), file=file, line=number) from None
        if words:
            steps.append(Step(number, words, may_fail))
        elif may_fail:
            raise ConfigError("a command is missing after '-'", file=file, line=number)
    return steps


def run_script(path: Path, session: Session, writer: Writer) -> int:
    """Run the script in *path*; :raises ConfigError: it cannot be read."""
    from cockpit.cli import execute_line

    name = str(path)
    try:
        text = sys.stdin.read() if name == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=name) from None
    for step in read_script(text, name):
        if step.arguments[0] == "mpcockpit":
            step.arguments.pop(0)
        if step.arguments[:1] == ["run"]:
            raise ConfigError("a script does not run scripts", file=name, line=step.line)
        code = execute_line(step.arguments, session, writer)
        if code == ExitCode.INTERRUPTED:
            return code
        if code != ExitCode.DONE:
            narrate(f"{name}:{step.line}: ended with exit code {code}{', going on' if step.may_fail else ''}")
            if not step.may_fail:
                return code
    return ExitCode.DONE
