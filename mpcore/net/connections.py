"""Which connections a server keeps: so many in all, so many of one source, the idle before the busy."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, Protocol, TypeVar

import anyio

__all__ = ("ConnectionTable", "Kept")


class Kept(Protocol):
    """A connection as the table sees it; told apart by identity."""

    @property
    def source(self) -> str:
        """Whose it is, see :func:`~mpcore.net.ratelimit.source_key`."""
        ...

    @property
    def scope(self) -> anyio.CancelScope:
        """Cancelled to close it."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing is under way on it."""
        ...


_KeptT = TypeVar("_KeptT", bound=Kept)


class ConnectionTable(Generic[_KeptT]):
    """The connections of one server.

    :param most: in all; when full, the idle connection heard from least recently makes room.
    :param most_per_source: of one source.
    """

    def __init__(self, most: int, most_per_source: int) -> None:
        self._most, self._most_per_source = most, most_per_source
        self._connections: OrderedDict[_KeptT, None] = OrderedDict()  # the one heard from least recently first
        self._per_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def room_for(self, source: str) -> bool:
        """Whether one more of *source* may be added; an idle connection may have been closed for it."""
        if self._per_source[source] >= self._most_per_source:
            return False
        if len(self._connections) < self._most:
            return True
        for connection in self._connections:
            if connection.idle:
                connection.scope.cancel()
                self.remove(connection)
                return True
        return False

    def add(self, connection: _KeptT) -> None:
        """Keep one for which there is room."""
        self._connections[connection] = None
        self._per_source[connection.source] += 1

    def heard(self, connection: _KeptT) -> None:
        """Something came on it; nothing happens if it is not kept any more."""
        if connection in self._connections:
            self._connections.move_to_end(connection)

    def remove(self, connection: _KeptT) -> None:
        """Forget it, if it is kept."""
        if connection in self._connections:
            del self._connections[connection]
            self._per_source[connection.source] -= 1
            if not self._per_source[connection.source]:
                del self._per_source[connection.source]
