"""Work that several questions wait for is done once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from mpcore.errors import ResolutionError
from mpcore.net.resolver_types import BudgetError

__all__ = ("Flights",)

T = TypeVar("T")


class _Flight:
    """One piece of work that several questions wait for."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.result: Any = None
        self.error: ResolutionError | None = None


class Flights:
    """The work under way, by key.

    :ivar epoch: counts flushes: what was begun before one is not remembered after it.
    """

    __slots__ = ("_flights", "epoch")

    def __init__(self) -> None:
        self._flights: dict[object, _Flight] = {}
        self.epoch = 0

    async def shared(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work*, unless someone does it already: then wait for the result.

        :param key: what the work is for.
        :raises ResolutionError: what the work raised.
        """
        while True:
            flight = self._flights.get(key)
            if flight is None:
                break
            await flight.done.wait()
            if flight.error is not None:
                raise ResolutionError(str(flight.error)) from flight.error
            if flight.result is not None:
                result: T = flight.result
                return result
            # It was given up, because whoever waited for it did or had spent its budget: ours to do.
        flight = self._flights[key] = _Flight()
        try:
            result = await work()
            flight.result = result
            return result
        except BudgetError:
            raise
        except ResolutionError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.done.set()
