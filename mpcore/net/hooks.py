"""Where a role takes part in what the engine does with zones and messages.

=====================  =================================================================================================
event                  when the handlers run, one after the other in the order of their registration
=====================  =================================================================================================
before refresh         a version came from a primary, and nothing has been done with it: a handler may return another
                       version in its place, or refuse it (:class:`~mpcore.errors.ZoneRefusedError`)
after refresh          a version has been taken: what was to be published of it is
first load             after the first version of a zone since the start, once
changed RRsets         after a version that was taken after another: the RRsets in which they differ
query, notify          a QUERY or NOTIFY of the type came in; there is one handler for each type
=====================  =================================================================================================

A version is taken when every before-refresh handler has passed it on.  One that raises anything has not: the zone in
service stays.  A handler of another event that raises is logged, and the others run all the same.  Every failure is
logged with the zone and the handler's name, and nothing that a handler raises stops the server.

A handler has a time limit.  One that is an ``async def`` runs on the event loop and has to give way; how long it kept
the loop is watched and logged.  One that is a plain function runs in a worker thread, which is left behind when the
time is over: it cannot hold up anything.
"""

from __future__ import annotations

import inspect
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from mpcore.errors import ZoneRefusedError
from mpcore.net.messages import NOTIFY, QUERY
from mpcore.net.server import DnsServer, Handler
from mpcore.zone import owners
from mpcore.zone.rrset import RRset
from mpcore.zone.version import Difference, ZoneVersion, differences

__all__ = (
    "AfterRefresh",
    "BeforeRefresh",
    "ChangedRRsets",
    "FirstLoad",
    "Hooks",
    "Refresh",
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT: Final = 30.0
_SLICE: Final = 0.05  # seconds of the event loop that a handler may take at a time without being named in the log


@dataclass(frozen=True, slots=True)
class Refresh:
    """A version that came from a primary.

    :param old: the version taken before, ``None`` for the first since the start.
    :param new: the one that came, as the handlers before have left it.
    """

    origin: bytes
    old: ZoneVersion | None
    new: ZoneVersion


BeforeRefresh: TypeAlias = Callable[[Refresh], Awaitable[ZoneVersion | None] | ZoneVersion | None]
"""Returns the version to go on with; ``None``: as it is."""
AfterRefresh: TypeAlias = Callable[[Refresh], Awaitable[None] | None]
FirstLoad: TypeAlias = Callable[[ZoneVersion], Awaitable[None] | None]
ChangedRRsets: TypeAlias = Callable[[bytes, Sequence[Difference]], Awaitable[None] | None]
"""Gets the apex and owner, type, RRset before, RRset after; owners in canonical order, types ascending."""

_Function = TypeVar("_Function")
RunHandler: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Registration(Generic[_Function]):
    name: str
    function: _Function
    zone: bytes | None
    timeout: float
    apex: bool = False
    types: frozenset[int] | None = None


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


class Hooks:
    """Handlers of one server.

    :param server: receives the messages for :meth:`on_query` and :meth:`on_notify`; ``None``: there are none.
    :param run: runs a plain function away from the event loop, and can be cancelled.
    """

    def __init__(self, server: DnsServer | None = None, *, run: RunHandler = _in_thread) -> None:
        self._server, self._run = server, run
        self._before: list[_Registration[BeforeRefresh]] = []
        self._after: list[_Registration[AfterRefresh]] = []
        self._first: list[_Registration[FirstLoad]] = []
        self._changed: list[_Registration[ChangedRRsets]] = []
        self._loaded: set[bytes] = set()
        self.failures: dict[str, int] = defaultdict(int)  #: how often each handler has failed, by name

    # -- registration ------------------------------------------------------------------------------------------------

    def before_refresh(
        self, name: str, handler: BeforeRefresh, *, zone: bytes | None = None, timeout: float = _TIMEOUT
    ) -> None:
        """Look at every version that comes from a primary, before anything is done with it.

        :param name: for the log.
        :param zone: apex; ``None``: all zones.
        :param timeout: seconds.
        """
        self._before.append(_Registration(name, handler, zone, timeout))

    def after_refresh(
        self, name: str, handler: AfterRefresh, *, zone: bytes | None = None, timeout: float = _TIMEOUT
    ) -> None:
        """Be told of every version that has been taken; parameters as of :meth:`before_refresh`."""
        self._after.append(_Registration(name, handler, zone, timeout))

    def first_load(
        self, name: str, handler: FirstLoad, *, zone: bytes | None = None, timeout: float = _TIMEOUT
    ) -> None:
        """Be told once that a zone has been loaded; parameters as of :meth:`before_refresh`."""
        self._first.append(_Registration(name, handler, zone, timeout))

    def changed_rrsets(
        self,
        name: str,
        handler: ChangedRRsets,
        *,
        zone: bytes | None = None,
        timeout: float = _TIMEOUT,
        apex: bool = False,
        types: Collection[int] | None = None,
    ) -> None:
        """Be told what has changed, if anything has; parameters as of :meth:`before_refresh`.

        :param apex: only RRsets at the apex: then it costs nothing, however large the change.
        :param types: only RRsets of these types.
        """
        kinds = None if types is None else frozenset(types)
        self._changed.append(_Registration(name, handler, zone, timeout, apex, kinds))

    def on_query(self, rdtype: int, name: str, handler: Handler, *, timeout: float | None = None) -> None:
        """Answer queries of a type; see :meth:`mpcore.net.server.DnsServer.register`."""
        self._register(QUERY, rdtype, name, handler, timeout)

    def on_notify(self, rdtype: int, name: str, handler: Handler, *, timeout: float | None = None) -> None:
        """Answer NOTIFY of a type; see :meth:`mpcore.net.server.DnsServer.register`."""
        self._register(NOTIFY, rdtype, name, handler, timeout)

    def _register(self, opcode: int, rdtype: int, name: str, handler: Handler, timeout: float | None) -> None:
        if self._server is None:
            raise ValueError("these hooks have no server")
        self._server.register(handler, opcode, rdtype, name=name, timeout=timeout)

    # -- what the engine calls -----------------------------------------------------------------------------------------

    def restored(self, origin: bytes) -> None:
        """A zone goes on from a former run: its first version is none that is loaded for the first time."""
        self._loaded.add(origin)

    def forget(self, origin: bytes) -> None:
        """A zone is gone."""
        self._loaded.discard(origin)

    async def refreshing(self, refresh: Refresh) -> ZoneVersion:
        """Run the before-refresh handlers.

        :return: the version to take.
        :raises ZoneRefusedError: one of them refuses it, or failed.
        """
        version = refresh.new
        for registration in self._of(self._before, refresh.origin):
            given = Refresh(refresh.origin, refresh.old, version)
            try:
                changed = await self._bounded(registration, refresh.origin, partial(registration.function, given))
                if changed is not None:
                    if changed.origin != refresh.origin:
                        raise ValueError("a version of another zone was returned")
                    version = changed
            except ZoneRefusedError:
                raise
            except Exception as error:
                self._failed(registration.name, refresh.origin, error)
                raise ZoneRefusedError(f"{registration.name} failed: {_reason(error)}") from error
        return version

    async def refreshed(self, refresh: Refresh) -> None:
        """Run the handlers of what follows when a version has been taken."""
        for after in self._of(self._after, refresh.origin):
            await self._guarded(after, refresh.origin, partial(after.function, refresh))
        if refresh.origin not in self._loaded:
            self._loaded.add(refresh.origin)
            for first in self._of(self._first, refresh.origin):
                await self._guarded(first, refresh.origin, partial(first.function, refresh.new))
        if refresh.old is not None and refresh.old is not refresh.new:
            await self._tell_changes(refresh, refresh.old)

    async def _tell_changes(self, refresh: Refresh, old: ZoneVersion) -> None:
        registrations = self._of(self._changed, refresh.origin)
        found: list[Difference] = []
        if any(not registration.apex for registration in registrations):

            def take() -> list[Difference]:
                return list(differences(old, refresh.new))

            found = take() if old.is_near(refresh.new) else await self._run(take)
        for registration in registrations:
            changes = _at_apex(old, refresh.new) if registration.apex else found
            if registration.types is not None:
                changes = [change for change in changes if change[1] in registration.types]
            if changes:
                await self._guarded(
                    registration, refresh.origin, partial(registration.function, refresh.origin, changes)
                )

    @staticmethod
    def _of(registrations: list[_Registration[_Function]], origin: bytes) -> list[_Registration[_Function]]:
        return [each for each in registrations if each.zone is None or each.zone == origin]

    async def _guarded(self, registration: _Registration[Any], origin: bytes, call: Callable[[], Any]) -> None:
        try:
            await self._bounded(registration, origin, call)
        except Exception as error:
            self._failed(registration.name, origin, error)

    async def _bounded(self, registration: _Registration[Any], origin: bytes, call: Callable[[], Any]) -> Any:
        with anyio.fail_after(registration.timeout):
            if not _is_async(registration.function):
                return await self._run(call)
            watched = _Watched(call())
            result = await watched
        if watched.longest > _SLICE:
            logger.warning(
                "%s: handler %s kept the event loop for %.0f ms",
                owners.to_text(origin),
                registration.name,
                watched.longest * 1000,
            )
        return result

    def _failed(self, name: str, origin: bytes, error: Exception) -> None:
        self.failures[name] += 1
        trace = None if isinstance(error, TimeoutError) else error
        logger.error("%s: handler %s failed: %s", owners.to_text(origin), name, _reason(error), exc_info=trace)


def _reason(error: Exception) -> str:
    return "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function if inspect.isroutine(function) else type(function).__call__)


def _at_apex(old: ZoneVersion, new: ZoneVersion) -> list[Difference]:
    before: dict[int, RRset] = dict(old.node(old.origin) or {})
    after: dict[int, RRset] = dict(new.node(new.origin) or {})
    return [
        (new.origin, rdtype, before.get(rdtype), after.get(rdtype))
        for rdtype in sorted(before.keys() | after.keys())
        if before.get(rdtype) != after.get(rdtype)
    ]


class _Watched(Generic[T]):
    """A coroutine whose longest step on the event loop, in seconds, is noted."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.longest = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        iterator = self._coroutine.__await__()
        step: Callable[[], Any] = partial(iterator.send, None)
        while True:
            begun = anyio.current_time()
            try:
                given = step()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.longest = max(self.longest, anyio.current_time() - begun)
            try:
                step = partial(iterator.send, (yield given))
            except GeneratorExit:
                iterator.close()
                raise
            except BaseException as error:
                step = partial(iterator.throw, error)
