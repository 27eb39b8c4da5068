"""The three election messages, as values and as members of an RFI.

An election message is an ``rfi`` of type ``ELECT-CALL``, ``ELECT-VOTE`` or ``ELECT-CONFIRM``, whose ``records`` map
holds lists of one text each: ``_term``, ``_group`` and ``_vote`` or ``_winner``; numbers are decimal, and one that
is missing or malformed reads as 0 (guide, wire format, "Elections").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

__all__ = ("MAX_TERM", "MAX_VOTE", "Ballot", "Kind")

Kind = Literal["CALL", "VOTE", "CONFIRM"]

MAX_TERM: Final = 0xFFFFFFFF
"""Largest term that gossip can carry."""

MAX_VOTE: Final = 0xFFFFFFFF
"""Largest vote."""

_PREFIX: Final = "ELECT-"
_KINDS: Final = ("CALL", "VOTE", "CONFIRM")


def _number(texts: Sequence[str], limit: int) -> int:
    text = texts[0] if texts else ""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return 0
    number = int(text)
    return number if number <= limit else 0


@dataclass(frozen=True, slots=True)
class Ballot:
    """One election message.

    :param group: hash of the group.
    :param kind: ``CALL``, ``VOTE`` or ``CONFIRM``.
    :param term: 0 to :data:`MAX_TERM`.
    :param vote: 0 to :data:`MAX_VOTE`, of CALL (0: none) and VOTE; ``None`` in a CONFIRM.
    :param winner: identity, of CONFIRM; ``None`` in the others.
    """

    group: str
    kind: Kind
    term: int
    vote: int | None = None
    winner: str | None = None

    @property
    def rfi_type(self) -> str:
        """``RfiType`` of the message."""
        return _PREFIX + self.kind

    @property
    def value(self) -> int | str:
        """The vote of a CALL or VOTE, the winner of a CONFIRM."""
        return (self.winner or "") if self.kind == "CONFIRM" else (self.vote or 0)

    def records(self) -> dict[str, list[str]]:
        """The ``records`` member of the message."""
        members = {"_term": [str(self.term)], "_group": [self.group]}
        if self.kind == "CONFIRM":
            members["_winner"] = [self.winner or ""]
        else:
            members["_vote"] = [str(self.vote or 0)]
        return members

    @classmethod
    def from_rfi(cls, rfi_type: str, records: Mapping[str, Sequence[str]]) -> Ballot | None:
        """The ballot in an RFI, or ``None``: it is no election message, or one without a group.

        Elections of a single zone, without ``_group``, are obsolete and ignored.
        """
        kind = rfi_type.removeprefix(_PREFIX)
        group = (records.get("_group") or [""])[0]
        if kind == rfi_type or kind not in _KINDS or not group:
            return None
        term = _number(records.get("_term") or (), MAX_TERM)
        if kind == "CONFIRM":
            return cls(group, "CONFIRM", term, winner=(records.get("_winner") or [""])[0])
        return cls(group, cast(Kind, kind), term, vote=_number(records.get("_vote") or (), MAX_VOTE))
