"""Whom the node can talk to: identity -> addresses and key, and how that goes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mpcore.control.models import Counter
from mpcore.node.transports import Transport, TransportHealth
from mpcore.peer.discovery import HttpsContact
from mpcore.wire.seal import PublicKey

__all__ = ("Contact", "Directory", "Traffic")


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a peer is reached and with which key it signs and opens."""

    identity: str
    addresses: tuple[tuple[str, int], ...]  #: host and port, best first
    key: PublicKey  #: we encrypt with it
    other_key: PublicKey | None = None  #: it may sign with this one as well: its next key, or its former one
    https: HttpsContact | None = None  #: how it is reached by HTTPS, where both sides have that

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """The keys that it may sign with."""
        return (self.key,) if self.other_key is None else (self.key, self.other_key)


@dataclass(slots=True)
class Traffic:
    """What went to and came from one peer since the start."""

    sent: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    last_heard: float | None = None
    last_acknowledged: float | None = None
    round_trip: float | None = None
    last_error: str | None = None
    transports: dict[Transport, TransportHealth] = field(default_factory=dict)

    def over(self, transport: Transport) -> TransportHealth:
        """How one transport does, in both directions."""
        return self.transports.setdefault(transport, TransportHealth())

    def counters(self) -> dict[str, Counter]:
        """The counters per message type."""
        types = sorted(self.sent.keys() | self.received.keys())
        return {name: Counter(sent=self.sent.get(name, 0), received=self.received.get(name, 0)) for name in types}


class Directory:
    """The contacts of one node, and the traffic with them."""

    def __init__(self) -> None:
        self._contacts: dict[str, Contact] = {}
        self._traffic: dict[str, Traffic] = {}

    def put(self, contact: Contact) -> None:
        """Add or replace a contact."""
        self._contacts[contact.identity] = contact

    def remove(self, identity: str) -> None:
        """Forget a contact and its traffic."""
        self._contacts.pop(identity, None)
        self._traffic.pop(identity, None)

    def proven(self, contact: Contact, key: PublicKey) -> Contact:
        """*contact* has signed with *key*: we encrypt with that one from now on; returns what is kept of it."""
        if key == contact.key:
            return contact
        turned = replace(contact, key=key, other_key=contact.key)
        if self._contacts.get(contact.identity) == contact:
            self._contacts[contact.identity] = turned
        return turned

    def forget_contact(self, identity: str) -> None:
        """Forget where a peer is reached and its key, but not the traffic with it."""
        self._contacts.pop(identity, None)

    def get(self, identity: str) -> Contact | None:
        """The contact, or ``None``: not configured and not discovered yet."""
        return self._contacts.get(identity)

    def identities(self) -> tuple[str, ...]:
        """All identities with a contact."""
        return tuple(self._contacts)

    def traffic(self, identity: str) -> Traffic:
        """Traffic with *identity*; kept for known contacts only, so that strangers cost no memory."""
        found = self._traffic.get(identity)
        if found is None:
            found = Traffic()
            if identity in self._contacts:
                self._traffic[identity] = found
        return found
