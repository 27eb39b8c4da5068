"""``guide`` and ``run``: what needs no daemon, or many commands in one."""

from __future__ import annotations

from pathlib import Path

from cockpit.commands.base import Command, Parameter, Values
from cockpit.output import ExitCode, Lines, Result, Writer
from cockpit.session import Session

__all__ = ("COMMANDS", "versions")


async def _guide(session: Session, values: Values) -> Result:
    from cockpit.guide import page, page_names

    if values["list"]:
        return Result(list(page_names()), [Lines(page_names())])
    text = page(values["page"])
    return Result({"page": values["page"], "markdown": text}, [Lines(text.splitlines())])


def _run(session: Session, values: Values, writer: Writer) -> int:
    from cockpit.script import run_script

    return run_script(Path(values["file"]), session, writer)


def versions() -> dict[str, str]:
    """The versions of this distribution and of what it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    found = {}
    for name, package in (("version", "multi-provider-dnssec"), ("dnspython", "dnspython")):
        try:
            found[name] = installed(package)
        except PackageNotFoundError:
            found[name] = "unknown"
    return {"version": found["version"], "python": platform.python_version(), "dnspython": found["dnspython"]}


def _version(session: Session, values: Values, writer: Writer) -> int:
    found = versions()
    text = f"mpcockpit {found['version']} (Python {found['python']}, dnspython {found['dnspython']})"
    writer.result(Result(found, [Lines([text])]))
    return ExitCode.DONE


COMMANDS = (
    Command(
        ("guide",),
        "Read the operator's guide",
        (
            Parameter("page", "Name of the page; the first one unless given.", positional=True, default="index"),
            Parameter("list", "Only list the pages.", "flag", default=False),
        ),
        examples=("guide", "guide wire-format"),
        run=_guide,
    ),
    Command(
        ("run",),
        "Run the commands in a file, one a line, and stop at the first that fails",
        (Parameter("file", "The script; - for standard input.", "file", positional=True, required=True),),
        details="Lines are written as on the command line, without the program's name; quotes group, # begins a "
        "comment. A line that begins with '-' may fail. The exit code is that of the command that stopped the script.",
        changes="whatever its commands change",
        examples=("run morning-check.mp",),
        local=_run,
    ),
    Command(
        ("version",),
        "Show the versions of the program, of Python and of the DNS library",
        details="'mpcockpit --version' does the same.",
        local=_version,
    ),
)
