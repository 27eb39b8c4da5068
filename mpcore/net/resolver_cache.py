"""What the resolver remembers: a bounded map whose entries end, and the short memory of failures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ("BoundedMap", "FailureMemory")

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """A map that forgets entries when their time is over, and the least recently used one when it is full.

    :param size: number of entries, 1 or more.
    """

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """The value of *key* unless its time is over at *now* (Unix seconds)."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, value = entry
        if expires <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, expires: float, now: float) -> None:
        """Remember *value* until *expires*; if that is not after *now*, forget *key*."""
        if expires <= now:
            self._entries.pop(key, None)
            return
        self._entries[key] = (expires, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget *key*."""
        self._entries.pop(key, None)

    def drop_where(self, condition: Callable[[K], bool]) -> int:
        """Forget the entries whose key fulfils *condition*; their number."""
        doomed = [key for key in self._entries if condition(key)]
        for key in doomed:
            del self._entries[key]
        return len(doomed)


class FailureMemory(Generic[K, V]):
    """Failures, remembered just long enough that a busy client does not hammer servers that are down.

    The first failure of a key is remembered for a tenth of *longest*, each further one twice as long as the one before,
    up to *longest*: a world that is starting is asked again soon.  (RFC 9520 wants a second or more of a public
    resolver; this one serves one node.)

    :param size: number of keys.
    :param longest: seconds.
    """

    __slots__ = ("_forgotten_after", "_longest", "_map")

    def __init__(self, size: int, longest: float) -> None:
        self._longest = longest
        self._forgotten_after = 10 * longest
        self._map: BoundedMap[K, tuple[float, float, V]] = BoundedMap(size)

    def get(self, key: K, now: float) -> V | None:
        """What went wrong with *key*, if that is to be repeated to whoever asks at *now*."""
        entry = self._map.get(key, now)
        return entry[2] if entry is not None and entry[0] > now else None

    def put(self, key: K, failure: V, now: float) -> float:
        """Remember *failure*; returns until when (Unix seconds)."""
        entry = self._map.get(key, now)
        delay = self._longest / 10 if entry is None else min(self._longest, 2 * entry[1])
        until = now + delay
        self._map.put(key, (until, delay, failure), until + self._forgotten_after, now)
        return until

    def drop(self, key: K) -> None:
        """Forget *key*."""
        self._map.drop(key)

    def drop_where(self, condition: Callable[[K], bool]) -> int:
        """Forget the keys that fulfil *condition*; their number."""
        return self._map.drop_where(condition)
