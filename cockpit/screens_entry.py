"""The door to the screens: everything is checked before textual is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit.output import ExitCode
from cockpit.session import Session
from mpcore.errors import ConfigError

if TYPE_CHECKING:
    from cockpit.lab import LabProcess

__all__ = ("open_screens",)


def open_screens(session: Session, replay: str | None = None, lab: LabProcess | None = None) -> int:
    """Open the screens and stay until they are left.

    :param replay: show this recording instead of a fleet.
    :param lab: tell of its events, too.
    :raises ConfigError: there are no contexts, the recording cannot be read, or there is no terminal.
    """
    entries = None
    if replay is not None:
        from cockpit.recording import read_recording

        try:
            entries = tuple(read_recording(Path(replay).read_text("utf-8").splitlines(), replay))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot be read: {error}", file=replay) from None
        if not entries:
            raise ConfigError("the recording is empty", file=replay)
    else:
        # Both complain in words when there is nothing to look at.
        _ = session.fleet, session.context
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise ConfigError("the screens need a terminal; 'mpcockpit --help' lists the commands that do not")
    from cockpit.app import run_app

    return run_app(session, entries, lab) or ExitCode.DONE
