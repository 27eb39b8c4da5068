"""What a command works with: the fleet, the chosen context, clients of its daemons."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit.contexts import Context, Fleet, RoleName, default_state_dir, load_fleet
from mpcore.errors import PolicyError

if TYPE_CHECKING:
    from mpcore.control.client import ControlClient

__all__ = ("Session",)


class Session:
    """The circumstances of a command.

    :param state_dir: directory with ``contexts.yaml``, ``None`` for the default one.
    :param context: name of the context, ``None`` for the first one.
    :param read_only: refuse everything that would change something.
    :param fleet: instead of reading ``contexts.yaml``.
    :param clock: Unix seconds.
    """

    def __init__(
        self,
        state_dir: Path | None = None,
        context: str | None = None,
        *,
        read_only: bool = False,
        fleet: Fleet | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state_dir, self._context_name, self._fleet = state_dir, context, fleet
        self.read_only = read_only
        self.clock = clock

    @property
    def state_dir(self) -> Path:
        """The state directory."""
        return self._state_dir if self._state_dir is not None else default_state_dir()

    @property
    def context_name(self) -> str | None:
        """The context that was asked for, ``None`` when nobody did."""
        return self._context_name

    @cached_property
    def fleet(self) -> Fleet:
        """All contexts; :raises ConfigError: there are none, or the file cannot be used."""
        return self._fleet if self._fleet is not None else load_fleet(self.state_dir)

    @property
    def fleet_if_any(self) -> Fleet | None:
        """All contexts; ``None`` where there are none and nobody named a directory with some.

        :raises ConfigError: the file cannot be used, or the directory that was named has none.
        """
        if self._fleet is None and self._state_dir is None and not (self.state_dir / "contexts.yaml").exists():
            return None
        return self.fleet

    @property
    def context(self) -> Context:
        """The chosen context; :raises ConfigError: there is none of that name."""
        return self.fleet.context(self._context_name)

    @property
    def contexts(self) -> tuple[Context, ...]:
        """The chosen context alone when one was asked for, else all."""
        return self.fleet.contexts if self._context_name is None else (self.context,)

    def client(self, role: RoleName = "agent", context: Context | None = None) -> ControlClient:
        """A client of one daemon; :raises ConfigError: the context has no such daemon."""
        from mpcore.control.client import ControlClient

        return ControlClient((context or self.context).socket(role))

    def with_context(self, name: str | None) -> Session:
        """The same session looking at another context."""
        return Session(
            self._state_dir,
            name,
            read_only=self.read_only,
            fleet=self.__dict__.get("fleet", self._fleet),
            clock=self.clock,
        )

    def check_writable(self) -> None:
        """:raises PolicyError: this session only reads."""
        if self.read_only:
            raise PolicyError("this session only reads (--read-only)")
