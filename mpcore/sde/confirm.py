"""Words and lists of CONFIRM messages (guide, wire format, "Confirmations")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mpcore.wire.messages import Confirm, RejectedItem

__all__ = ("make_confirm", "read_status", "status_word")

_STATUSES: Final = {
    "SUCCESS": "SUCCESS",
    "OK": "SUCCESS",
    "PARTIAL": "PARTIAL",
    "FAILED": "FAILED",
    "ERROR": "FAILED",
    "REJECTED": "REJECTED",
    "PENDING": "PENDING",
    "IGNORED": "IGNORED",
}


def read_status(text: str) -> str:
    """The status of a CONFIRM as one of SUCCESS, PARTIAL, FAILED, REJECTED, PENDING, IGNORED; unknown words fail."""
    return _STATUSES.get(text.strip().upper(), "FAILED")


def status_word(applied: int, removed: int, ignored: int, rejected: int) -> str:
    """Status of a CONFIRM with so many records in its lists."""
    if not rejected and not ignored:
        return "SUCCESS"
    if applied + removed:
        return "PARTIAL"
    return "FAILED" if rejected else "IGNORED"


def make_confirm(
    sender: str,
    zone: str,
    distribution_id: str,
    now: float,
    *,
    status: str | None = None,
    nonce: str = "",
    message: str = "",
    applied: Iterable[str] = (),
    removed: Iterable[str] = (),
    ignored: Iterable[str] = (),
    rejected: Mapping[str, str] | None = None,
) -> Confirm:
    """A CONFIRM with these lists and the counts that go with them.

    :param sender: the confirming node.
    :param status: ``None``: what :func:`status_word` says of the lists.
    :param rejected: record text -> reason.
    :param now: Unix seconds.
    """
    taken, dropped, kept, refused = list(applied), list(removed), list(ignored), dict(rejected or {})
    return Confirm(
        sender_id=sender,
        zone=zone,
        distribution_id=distribution_id,
        nonce=nonce,
        status=status or status_word(len(taken), len(dropped), len(kept), len(refused)),
        message=message,
        applied_count=len(taken),
        removed_count=len(dropped),
        rejected_count=len(refused),
        ignored_count=len(kept),
        applied_records=taken,
        removed_records=dropped,
        ignored_records=kept,
        rejected_items=[RejectedItem(record=text, reason=reason) for text, reason in refused.items()],
        timestamp=int(now),
    )
