"""Serial numbers: arithmetic (RFC 1982) and the policy by which a zone's outgoing serial advances."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

__all__ = ("MAX_SERIAL", "SerialPolicy", "add", "compare", "is_newer", "next_serial")

MAX_SERIAL = 0xFFFFFFFF
"""The largest serial."""

SerialPolicy = Literal["keep", "unixtime", "persist", "dateserial"]
"""How a zone's outgoing serial is chosen.

==============  ===================================================  ==========================================
policy          after a transfer                                     after a local change, a signing pass, a bump
==============  ===================================================  ==========================================
``keep``        the inbound serial, if it is newer                   previous + 1
``unixtime``    the time in seconds, if that is newer                the same
``persist``     the inbound serial, if it is newer than that saved   previous + 1
``dateserial``  ``YYYYMMDD00`` of the day (UTC), if that is newer    the same
==============  ===================================================  ==========================================

What is not newer than the previous serial (RFC 1982) becomes previous + 1 with every policy: a serial never goes back,
and after ``YYYYMMDD99`` a dateserial simply counts on.  The caller stores each serial before it is served.  With
``keep``, too, the serial stored holds over a restart: a zone that went back would not be transferred any more.
"""

_HALF = 1 << 31


def compare(left: int, right: int) -> int:
    """Compare two serials (RFC 1982, section 3.2).

    :return: -1, 0 or 1 as *left* is older than, equal to or newer than *right*.  Two serials exactly 2**31 apart, for
        which the RFC leaves the result undefined, compare as -1 both ways, so that neither counts as newer.
    """
    difference = (left - right) & MAX_SERIAL
    if difference == 0:
        return 0
    return 1 if difference < _HALF else -1


def is_newer(candidate: int, than: int) -> bool:
    """Whether *candidate* is newer than *than* (RFC 1982, section 3.2)."""
    return compare(candidate, than) > 0


def add(serial: int, increment: int) -> int:
    """Add to a serial (RFC 1982, section 3.1).

    :param increment: 0 to 2**31 - 1.
    :raises ValueError: the increment is out of range.
    """
    if not 0 <= increment < _HALF:
        raise ValueError(f"a serial can only be advanced by 0 to {_HALF - 1}, not {increment}")
    return (serial + increment) & MAX_SERIAL


def next_serial(previous: int | None, policy: SerialPolicy, now: float, *, inbound: int | None = None) -> int:
    """The serial for a new outgoing version of a zone.

    :param previous: serial last published, ``None`` if nothing was.
    :param policy: see :data:`SerialPolicy`.
    :param now: Unix time in seconds; used by ``unixtime`` and ``dateserial``, and by the others when there is neither
        a previous nor an inbound serial.
    :param inbound: serial of the version that was just loaded or transferred, ``None`` for a local change.
    :return: a serial newer than *previous* (RFC 1982).
    """
    if policy == "dateserial":
        day = datetime.fromtimestamp(now, UTC)
        candidate: int | None = ((day.year * 100 + day.month) * 100 + day.day) * 100 & MAX_SERIAL
    elif policy == "unixtime":
        candidate = int(now) & MAX_SERIAL
    else:
        candidate = None if inbound is None else inbound & MAX_SERIAL
    if previous is None:
        return int(now) & MAX_SERIAL if candidate is None else candidate
    if candidate is not None and is_newer(candidate, previous):
        return candidate
    return add(previous, 1)
