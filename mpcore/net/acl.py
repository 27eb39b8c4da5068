"""Who may transfer: a list of address prefixes, each with the proofs it needs.  The default is nobody.

Proofs are a TSIG key, a connection by TLS, and the certificate of the client on it (RFC 9103, section 9).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

from mpcore.errors import ConfigError
from mpcore.net.keyring import key_name
from mpcore.net.remote import Remote

__all__ = ("Acl", "AclEntry", "Prefix", "normal_fingerprint")

Prefix: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AclEntry:
    """One line of an :class:`Acl`."""

    prefix: Prefix
    key: bytes | None = (
        None  #: name (wire octets) of the TSIG key the request must be signed with; ``None``: none needed
    )
    blocked: bool = False  #: refuse everything from here, whatever other entries say
    tls: bool = False  #: only over TLS
    certificate: str | None = None  #: only with this client certificate, see :func:`mpcore.net.tls.fingerprint_of`


class Acl:
    """Decides by source address, verified TSIG key, and TLS.

    A request is permitted if an entry's prefix contains its source and the request has every proof that the entry
    needs; and if no blocking entry contains its source.  IPv4-mapped IPv6 addresses count as IPv4.
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

        A server with a ``tls`` (a :class:`mpcore.net.tls.ClientIdentity`) may transfer only by TLS.

        :raises ConfigError: an address is not numeric, or a key's name is not a name.
        """
        entries: list[AclEntry] = []
        for server in servers:
            (entry,) = cls.of([(server.address, server.tsig_key)])._entries
            tls = getattr(server, "tls", None)
            if tls is not None:
                wanted = tls.client_fingerprint
                entry = replace(entry, tls=True, certificate=None if wanted is None else normal_fingerprint(wanted))
            entries.append(entry)
        return cls(entries)

    def permits(
        self, host: str, key: bytes | None = None, *, tls: bool = False, certificate: str | None = None
    ) -> bool:
        """Whether a request from *host* is permitted.

        :param host: numeric source address.
        :param key: name (canonical wire octets) of the TSIG key the request was verified with; ``None`` for none.
        :param tls: whether it came by TLS.
        :param certificate: fingerprint of the client's certificate, if it has shown one.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without the scope
        matching = [entry for entry in self._entries if address in entry.prefix]
        return not any(entry.blocked for entry in matching) and any(
            (entry.key is None or entry.key == key)
            and (tls or not entry.tls)
            and (entry.certificate is None or (tls and entry.certificate == certificate))
            for entry in matching
        )


def normal_fingerprint(text: str) -> str:
    """A fingerprint as :func:`mpcore.net.tls.fingerprint_of` writes it, from one with colons or capitals.

    :raises ConfigError: it is not 32 octets in hexadecimal digits.
    """
    digits = text.replace(":", "").lower()
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ConfigError(f"{text!r} is not a SHA-256 in hexadecimal digits", key="tls.client_fingerprint")
    return digits
