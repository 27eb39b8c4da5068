"""What was seen of a fleet, one JSON object a line: written by ``mpcockpit watch --json``, replayed by the screens.

A line is one :class:`Entry`.  ``at`` is when the cockpit learned of it, Unix seconds; ``context`` and ``role`` name the
daemon.  Exactly one of the rest is there: ``snapshot`` (everything of the daemon), ``event`` (one element of its event
stream) or ``down`` (why it cannot be reached).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mpcore.control.models import Event, Snapshot
from mpcore.errors import ConfigError

__all__ = ("Entry", "read_recording")


class Entry(BaseModel):
    """One thing that was seen."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    at: float
    context: str
    role: Literal["agent", "combiner", "signer"]
    snapshot: Snapshot | None = None
    event: Event | None = None
    down: str | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Entry:
        if sum(part is not None for part in (self.snapshot, self.event, self.down)) != 1:
            raise ValueError("exactly one of snapshot, event and down is expected")
        return self

    def to_line(self) -> str:
        """The entry as one line of JSON, without the end of the line."""
        return self.model_dump_json(exclude_none=True)


def read_recording(lines: Iterable[str], file: str) -> Iterator[Entry]:
    """The entries of a recording; :raises ConfigError: a line is none, with its number."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Entry.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"is no line of a recording: {where + ': ' if where else ''}{first['msg']}", file=file, line=number
            ) from None
