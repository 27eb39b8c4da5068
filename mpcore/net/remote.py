"""Another DNS server as the configuration names it: address, port, and the TSIG key shared with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mpcore.net.tls import ClientIdentity, ServerIdentity

__all__ = ("Remote", "RemoteServer")


class Remote(Protocol):
    """Any object with these three: a configured primary or secondary, or a :class:`RemoteServer`.

    If it also has a ``tls`` that is not ``None``, zones are transferred from and to it by TLS only (RFC 9103): for a
    primary a :class:`mpcore.net.tls.ServerIdentity`, for a secondary a :class:`mpcore.net.tls.ClientIdentity`.
    """

    @property
    def address(self) -> str:
        """Numeric address."""
        ...

    @property
    def port(self) -> int:
        """1 to 65535."""
        ...

    @property
    def tsig_key(self) -> str | None:
        """Name of the TSIG key in the keyring; ``None``: talk without."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A :class:`Remote` made on the spot."""

    address: str
    port: int = 53
    tsig_key: str | None = None
    tls: ServerIdentity | ClientIdentity | None = None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if ":" not in self.address else f"[{self.address}]:{self.port}"
