"""The record of a run: one JSON object a line, in the order in which things happened.

``t`` is the virtual time in seconds since the beginning.  A line is one of

* ``{"t", "from", "to", "message"}``: a payload leaves; ``from`` is a daemon, ``to`` an identity, ``message`` the
  plaintext;
* ``{"t", "at", "event", ...}``: something happened at a daemon or to it.

The SHA-256 of all lines is the run's fingerprint: the same seed gives the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import anyio

__all__ = ("Trace",)


class Trace:
    """Takes the lines.

    :param sink: called with each line, without its end; ``None``: only the fingerprint is kept.
    """

    def __init__(self, sink: Callable[[str], None] | None = None) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self.lines = 0
        self.messages = 0
        self.octets = 0  #: of plaintext
        self.tail: list[str] = []  #: the last events, for people who look at a failure

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all lines so far, hexadecimal."""
        return self._digest.hexdigest()

    def message(self, daemon: str, recipient: str, plaintext: bytes) -> None:
        """A payload leaves."""
        self.messages += 1
        self.octets += len(plaintext)
        self._write(
            f'{{"t":{anyio.current_time():.6f},"from":"{daemon}","to":"{recipient}","message":{plaintext.decode()}}}'
        )

    def event(self, daemon: str, event: str, **details: Any) -> None:
        """Something happened."""
        line = json.dumps({"t": round(anyio.current_time(), 6), "at": daemon, "event": event, **details})
        self.tail.append(line)
        del self.tail[:-200]
        self._write(line)

    def _write(self, line: str) -> None:
        self.lines += 1
        self._digest.update(line.encode())
        self._digest.update(b"\n")
        if self._sink is not None:
            self._sink(line)
