"""State machines as data: one row per transition, from which code is checked and documentation is generated.

Every machine opens with a table of :class:`Transition` rows.  The class below it looks its moves up in the table
(:func:`allowed`), so that the table cannot lie, and :func:`mermaid` and :func:`markdown` turn it into a diagram and a
table for the reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ("ANY", "Transition", "allowed", "markdown", "mermaid")

ANY = "*"
"""In :attr:`Transition.source`: from every state."""


class Transition(NamedTuple):
    """One row of a transition table.

    :ivar source: state before, or :data:`ANY`.
    :ivar event: what happens.
    :ivar guard: under which condition, in words; ``""``: always.
    :ivar target: state after.
    :ivar effect: what is done, in words.
    """

    source: str
    event: str
    guard: str
    target: str
    effect: str


def allowed(table: Iterable[Transition]) -> frozenset[tuple[str, str, str]]:
    """The (source, event, target) triples of *table*; a source may be :data:`ANY`."""
    return frozenset((row.source, row.event, row.target) for row in table)


def mermaid(table: Iterable[Transition]) -> str:
    """*table* as a Mermaid state diagram; rows that stay in their state are left out."""
    lines = ["stateDiagram-v2"]
    for row in table:
        if row.source == row.target:
            continue
        source = "[*]" if row.source == ANY else row.source
        label = f"{row.event} [{row.guard}]" if row.guard else row.event
        lines.append(f"    {source} --> {row.target}: {label}")
    return "\n".join(lines) + "\n"


def markdown(table: Iterable[Transition]) -> str:
    """*table* as a Markdown table."""
    lines = ["| From | Event | Condition | To | Effect |", "|---|---|---|---|---|"]
    for row in table:
        source = "any" if row.source == ANY else row.source
        lines.append(f"| {source} | {row.event} | {row.guard} | {row.target} | {row.effect} |")
    return "\n".join(lines) + "\n"
