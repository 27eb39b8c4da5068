"""Serial numbers: arithmetic (RFC 1982) and the policy by which a zone's outgoing serial advances."""

from __future__ import annotations

from typing import Literal

__all__ = ("MAX_SERIAL", "SerialPolicy", "add", "compare", "is_newer", "next_serial")

MAX_SERIAL = 0xFFFFFFFF
"""The largest serial."""

SerialPolicy = Literal["keep", "persist", "unixtime"]
"""How a zone's outgoing serial is chosen.

``keep``: the inbound serial if it is newer than the previous one, else previous + 1.  ``persist``: the same rule; the
caller stores the serial, so that it also holds over a restart.  ``unixtime``: the current time in seconds, or
previous + 1 if that is not newer.
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
    :param now: Unix time in seconds; used by ``unixtime``, and by the others when there is neither a previous nor an
        inbound serial.
    :param inbound: serial of the version that was just loaded or transferred, ``None`` for a local change.
    :return: a serial newer than *previous* (RFC 1982).
    """
    clock = int(now) & MAX_SERIAL
    candidate = clock if policy == "unixtime" or inbound is None else inbound & MAX_SERIAL
    if previous is None:
        return candidate
    if policy != "unixtime" and inbound is None:
        return add(previous, 1)
    return candidate if is_newer(candidate, previous) else add(previous, 1)
