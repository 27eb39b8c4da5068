"""How an operation is declared: once, for the command line, for scripts and for the palette of the screens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cockpit.output import ExitCode, Result, Writer
from cockpit.session import Session

__all__ = ("Command", "Emit", "Kind", "Local", "Parameter", "Run", "Stream", "Values")

Values = Mapping[str, Any]
Run = Callable[[Session, Values], Awaitable[Result]]
Emit = Callable[[Result], None]
Stream = Callable[[Session, Values, Emit], Awaitable[ExitCode]]
Local = Callable[[Session, Values, Writer], int]

#: ``words``: all remaining arguments, as a tuple.
Kind = Literal["text", "number", "seconds", "flag", "words", "file"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a command.

    :param name: key of the value; as an option it is written ``--name``, with hyphens for underscores.
    :param help: one sentence, with unit and range where there is one.
    :param positional: an argument rather than an option.
    :param required: must be given; only positional parameters are.
    :param choices: the only values allowed.
    :param short: a one-letter option, ``-s``.
    :param least: smallest number allowed.
    :param most: largest number allowed.
    """

    name: str
    help: str
    kind: Kind = "text"
    positional: bool = False
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    short: str | None = None
    metavar: str | None = None
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One operation.

    Exactly one of *run*, *stream* and *local* is given.

    :param words: how it is called, noun then verb: ``("peer", "list")``.
    :param summary: one sentence without a full stop.
    :param details: what else there is to know, paragraphs of plain text.
    :param changes: what it may change, in words; empty for a command that only reads.
    :param examples: command lines without the program's name.
    :param run: gives one result.
    :param stream: hands over results as they come, until it is stopped.
    :param ends: the stream ends by itself, so it can be run where its results are shown at once.
    :param local: starts processes, reads files; returns the exit code.
    """

    words: tuple[str, ...]
    summary: str
    parameters: tuple[Parameter, ...] = ()
    details: str = ""
    changes: str = ""
    examples: tuple[str, ...] = ()
    run: Run | None = None
    stream: Stream | None = None
    ends: bool = False
    local: Local | None = None

    @property
    def name(self) -> str:
        """The words as one text."""
        return " ".join(self.words)

    @property
    def usage(self) -> str:
        """The words and what must or may follow them."""
        parts = [self.name]
        for parameter in self.parameters:
            if parameter.positional:
                metavar = parameter.metavar or parameter.name.upper()
                parts.append(metavar if parameter.required else f"[{metavar}]")
        return " ".join(parts)

    @property
    def needs_arguments(self) -> bool:
        """Whether it cannot be run by its words alone."""
        return any(parameter.required for parameter in self.parameters)
