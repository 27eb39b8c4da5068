"""Who may transfer: an ordered list of address prefixes, each with the TSIG key it needs.  The default is nobody."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias

from mpcore.errors import ConfigError
from mpcore.net.keyring import key_name
from mpcore.net.remote import Remote

__all__ = ("Acl", "AclEntry", "Prefix")

Prefix: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AclEntry:
    """One line of an :class:`Acl`."""

    prefix: Prefix
    key: bytes | None = (
        None  #: name (wire octets) of the TSIG key the request must be signed with; ``None``: none needed
    )
    blocked: bool = False  #: refuse everything from here, whatever other entries say


class Acl:
    """Decides by source address and verified TSIG key.

    A request is permitted if an entry's prefix contains its source and the entry needs no key, or the one that the
    request was signed with; and if no blocking entry contains its source.  IPv4-mapped IPv6 addresses count as IPv4.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[AclEntry] = ()) -> None:
        self._entries = tuple(entries)

    def __repr__(self) -> str:
        return f"Acl({list(self._entries)!r})"

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None]]) -> Self:
        """An ACL from (prefix or single address, key name or ``None``) as texts.

        :raises ConfigError: a text is not a prefix, has host bits set, or is not a key name.
        """
        entries = []
        for prefix, key in pairs:
            try:
                network = ipaddress.ip_network(prefix)
            except ValueError as error:
                raise ConfigError(str(error), key="prefix") from None
            entries.append(AclEntry(network, None if key is None else key_name(key)))
        return cls(entries)

    @classmethod
    def for_servers(cls, servers: Iterable[Remote]) -> Self:
        """An ACL that permits exactly *servers*, each with its TSIG key if it has one.

        :raises ConfigError: an address is not numeric, or a key's name is not a name.
        """
        return cls.of((server.address, server.tsig_key) for server in servers)

    def permits(self, host: str, key: bytes | None = None) -> bool:
        """Whether a request from *host* is permitted.

        :param host: numeric source address.
        :param key: name (canonical wire octets) of the TSIG key the request was verified with; ``None`` for none.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without the scope
        matching = [entry for entry in self._entries if address in entry.prefix]
        return not any(entry.blocked for entry in matching) and any(
            entry.key is None or entry.key == key for entry in matching
        )
