"""Times in messages: RFC 3339 text, Unix seconds here."""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Final

from mpcore.errors import MessageError

__all__ = ("ZERO_TIME", "parse_rfc3339", "rfc3339", "rfc3339_seconds")

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
"""How an unset time is written."""

_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,30}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))\Z", re.ASCII
)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_YEAR_1 = (1 - _EPOCH_ORDINAL) * 86400
_YEAR_10000 = (date(9999, 12, 31).toordinal() + 1 - _EPOCH_ORDINAL) * 86400


def rfc3339(now: float) -> str:
    """The time *now* (Unix seconds, years 1 to 9999) as RFC 3339 text in UTC.

    Microseconds, trailing zeros dropped; ``0.0``, "no time", becomes :data:`ZERO_TIME`.

    :raises ValueError: *now* is not in the range.
    """
    if now == 0:
        return ZERO_TIME
    if not _YEAR_1 <= now < _YEAR_10000:
        raise ValueError(f"{now!r} is not within the years 1 to 9999")
    seconds = math.floor(now)
    micros = round((now - seconds) * 1_000_000)
    if micros == 1_000_000 and seconds + 1 < _YEAR_10000:
        seconds, micros = seconds + 1, 0
    days, rest = divmod(seconds, 86400)
    day = date.fromordinal(_EPOCH_ORDINAL + days)
    text = f"{day.year:04}-{day.month:02}-{day.day:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    if micros := min(micros, 999_999):
        text += f".{micros:06}".rstrip("0")
    return text + "Z"


def parse_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 *text*; :data:`ZERO_TIME` becomes ``0.0``.

    :raises MessageError: it is not RFC 3339, or the date does not exist.
    """
    match = _RFC3339.match(text)
    if match is None:
        raise MessageError(f"{text[:64]!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, off_hour, off_minute = match.group(7, 8, 9, 10)
    if hour > 23 or minute > 59 or second > 59 or int(off_hour or 0) > 23 or int(off_minute or 0) > 59:
        raise MessageError(f"{text[:64]!r} is not a time of day")
    try:
        days = date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        raise MessageError(f"{text[:64]!r} is not a date") from None
    offset = int(off_hour or 0) * 3600 + int(off_minute or 0) * 60
    seconds = days * 86400 + hour * 3600 + minute * 60 + second - (-offset if sign == "-" else offset)
    if seconds == _YEAR_1 and not (fraction or "").strip("0"):
        return 0.0
    return seconds + float(f"0.{fraction}") if fraction else float(seconds)


def rfc3339_seconds(now: float) -> str:
    """Like :func:`rfc3339`, without the fraction of the second.

    :raises ValueError: *now* is not within the years 1 to 9999.
    """
    return rfc3339(float(math.floor(now)))
