"""What the screens ask of daemons besides the feed: records, plans, changes, pings."""

from __future__ import annotations

from typing import Protocol

from cockpit.contexts import RoleName
from cockpit.session import Session
from mpcore.control.models import ChangePlan, ChangeRequest, PingResult, Transaction, ZoneRecords
from mpcore.errors import NotFoundError, PolicyError

__all__ = ("Backend", "LiveBackend", "ReplayBackend")


class Backend(Protocol):
    """Calls to the daemons of named contexts; errors are those of the control client."""

    async def zone_records(self, context: str, role: RoleName, zone: str, limit: int) -> ZoneRecords:
        """Records of a zone as served."""
        ...

    async def plan(self, context: str, zone: str, request: ChangeRequest) -> ChangePlan:
        """What a change would do."""
        ...

    async def change(self, context: str, zone: str, request: ChangeRequest) -> Transaction:
        """Make a change."""
        ...

    async def ping(self, context: str, identity: str) -> PingResult:
        """Measure a round trip from an agent to a peer."""
        ...


class LiveBackend:
    """The daemons themselves."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def zone_records(self, context: str, role: RoleName, zone: str, limit: int) -> ZoneRecords:
        """See :class:`Backend`."""
        return await self._session.client(role, self._session.fleet.context(context)).zone_records(zone, limit)

    async def plan(self, context: str, zone: str, request: ChangeRequest) -> ChangePlan:
        """See :class:`Backend`."""
        return await self._session.client("agent", self._session.fleet.context(context)).plan(zone, request)

    async def change(self, context: str, zone: str, request: ChangeRequest) -> Transaction:
        """See :class:`Backend`."""
        self._session.check_writable()
        return await self._session.client("agent", self._session.fleet.context(context)).change(zone, request)

    async def ping(self, context: str, identity: str) -> PingResult:
        """See :class:`Backend`."""
        return await self._session.client("agent", self._session.fleet.context(context)).ping(identity)


class ReplayBackend:
    """A recording: what was not recorded cannot be asked for."""

    async def zone_records(self, context: str, role: RoleName, zone: str, limit: int) -> ZoneRecords:
        """See :class:`Backend`."""
        raise NotFoundError("a recording has no zone contents")

    async def plan(self, context: str, zone: str, request: ChangeRequest) -> ChangePlan:
        """See :class:`Backend`."""
        raise PolicyError("a recording cannot be changed")

    async def change(self, context: str, zone: str, request: ChangeRequest) -> Transaction:
        """See :class:`Backend`."""
        raise PolicyError("a recording cannot be changed")

    async def ping(self, context: str, identity: str) -> PingResult:
        """See :class:`Backend`."""
        raise PolicyError("nobody answers in a recording")
