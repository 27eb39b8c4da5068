"""Every operation of the cockpit.

:func:`all_commands` gives the declarations, from one module for each noun.  The command line, script files and the
palette of the screens serve from them; none has operations of its own.
"""

from __future__ import annotations

from functools import cache

from cockpit.commands.base import Command, Parameter

__all__ = ("Command", "Parameter", "all_commands", "find_command")


@cache
def all_commands() -> tuple[Command, ...]:
    """Every operation, in the order in which help lists them."""
    from cockpit.commands import (
        certificate,
        edits,
        fleet,
        gossip,
        keys,
        lab,
        local,
        lookup,
        messagekeys,
        peers,
        queue,
        resync,
        simulate,
        transactions,
        watch,
        zone_actions,
        zones,
    )

    modules = (
        fleet,
        peers,
        gossip,
        zones,
        edits,
        keys,
        transactions,
        queue,
        resync,
        zone_actions,
        lookup,
        messagekeys,
        certificate,
        watch,
        local,
        simulate,
        lab,
    )
    return tuple(command for module in modules for command in module.COMMANDS)


def find_command(*words: str) -> Command:
    """The operation called *words*; :raises KeyError: there is none."""
    for command in all_commands():
        if command.words == words:
            return command
    raise KeyError(" ".join(words))
