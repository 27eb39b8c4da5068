"""The guide's page on commands, made from their declarations."""

from __future__ import annotations

from cockpit.commands import all_commands
from cockpit.commands.base import Command, Parameter

__all__ = ("reference",)

_HEAD = """\
# Commands

Noun, then verb. Options may stand anywhere; `--help` after any words explains them.

| option | meaning |
|---|---|
| `--context NAME` | which provider's daemons; the first one unless given (`MPCOCKPIT_CONTEXT`) |
| `--state-dir DIR` | directory with `contexts.yaml`; the lab's unless given (`MPCOCKPIT_STATE_DIR`) |
| `--json` | the same as `--output json`: one JSON document, or one on each line for streams |
| `--read-only` | refuse everything that would change something (before the command) |
| `--replay FILE` | open the screens on a recording (before the command) |

Standard output is data, standard error is narration.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | refused or failed |
| 2 | usage or configuration |
| 3 | try again later: a daemon or peer is out of reach or not ready, or time ran out |
| 4 | it would change something (`--expect-no-changes`) |
| 130 | interrupted |

The JSON shapes are those of the control API (`GET /v1/openapi.json` at any daemon); members are added, never
renamed. Times are
Unix seconds.

## Scripts

`mpcockpit run FILE` runs command lines from a file, without the program's name, and stops at the first that fails;
its exit
code is the script's. A line that begins with `-` may fail. `#` begins a comment.

```
# every morning
status
zone addrr customer.example. 'customer.example. 300 IN NS ns2.alpha.example.' --wait everywhere --timeout 60
- peer ping agent.bravo.example.
zone addrr customer.example. 'customer.example. 300 IN NS ns2.alpha.example.' --expect-no-changes
```

A change that is dangerous asks for the name of the zone when it is typed at a terminal; a script has named the
zone in the
command already. `--confirm ZONE` answers beforehand.
"""


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *(_section(command) for command in all_commands())])


def _section(command: Command) -> str:
    lines = [f"## {command.name}", "", f"`mpcockpit {command.usage}`", "", f"{command.summary}."]
    if command.details:
        lines += ["", command.details]
    if command.changes:
        lines += ["", f"Changes: {command.changes}."]
    if command.parameters:
        lines += ["", "| parameter | meaning |", "|---|---|"]
        lines += [f"| `{_name(parameter)}` | {_meaning(parameter)} |" for parameter in command.parameters]
    if command.examples:
        lines += ["", "```", *(f"mpcockpit {example}" for example in command.examples), "```"]
    return "\n".join([*lines, ""])


def _name(parameter: Parameter) -> str:
    if parameter.positional:
        return parameter.metavar or parameter.name.upper()
    name = f"--{parameter.name.replace('_', '-')}"
    return name if parameter.kind == "flag" else f"{name} {parameter.metavar or parameter.kind.upper()}"


def _meaning(parameter: Parameter) -> str:
    words = parameter.help
    if parameter.choices:
        words += f" One of {', '.join(parameter.choices)}."
    if parameter.default not in (None, False) and not parameter.positional and "unless given" not in words:
        words += f" Default: {parameter.default}."
    return words
