"""The keys of one zone at one signer, and what moves them from state to state.

============  ============  =====================================================================================
from          to            when
============  ============  =====================================================================================
(none)        active        the zone is loaded, its roles say that we sign, and no key of that kind is active
(none)        mpdist        :meth:`KeyMachine.add_key`, and other providers sign the zone
(none)        published     :meth:`KeyMachine.add_key`, and nobody else does
mpdist        published     KEYSTATE ``propagated``: all other providers have the key
mpdist        mpdist        KEYSTATE ``rejected``: the reason is kept, the key is never used
any but       mpremove      :meth:`KeyMachine.withdraw`, and other providers sign the zone
active
any but       removed       :meth:`KeyMachine.withdraw`, and nobody else does
active
mpremove      removed       KEYSTATE ``propagated``: all other providers are without the key
============  ============  =====================================================================================

The first keys of a zone are active at once: without them it could not be served, and no DS names them yet.  They are
distributed like any other; the signal for them changes nothing.

A removed key keeps its entry, so that its tag is not given out again while caches may know it, but loses its private
part.  Foreign keys are what the incoming zone says; they are not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mpcore.actions import Action, Store
from mpcore.errors import ConflictError, NotFoundError
from mpcore.names import ZoneName
from mpcore.signer.inventory import inventory
from mpcore.signer.keys import KeyState, SigningKey, generate_signing_key, key_tag
from mpcore.signer.signing import foreign_dnskeys
from mpcore.wire.messages import KeyInventoryEntry
from mpcore.zone.version import ZoneVersion

__all__ = ("STORE_KIND", "KeyMachine", "KeysChanged", "SignalIgnored")

STORE_KIND = "key"  #: kind of the Store actions; their key is ``zone/tag/algorithm``


class _Generate(Protocol):
    def __call__(
        self,
        zone: str,
        algorithm: int,
        ksk: bool,
        now: float,
        *,
        state: KeyState,
        passphrase: bytes | None,
        avoid: set[int],
    ) -> SigningKey: ...


@dataclass(frozen=True, slots=True)
class KeysChanged(Action):
    """Sign the zone again; if *distribute*, also send the inventory to the agents: the set that they spread changed."""

    zone: str
    distribute: bool


@dataclass(frozen=True, slots=True)
class SignalIgnored(Action):
    """A KEYSTATE signal changed nothing, for the log."""

    zone: str
    key_tag: int
    reason: str


class KeyMachine:
    """Keys of one zone; events in, actions out.

    Every change of a key is a ``Store``; a ``KeysChanged`` follows when the zone has to be signed again.

    :param zone: zone name.
    :param algorithm: number of the algorithm for new keys.
    :param passphrase: encrypts private keys in the values stored.
    :param dnskey_ttl: TTL in seconds in inventory records.
    :param generate: makes keys; :func:`~mpcore.signer.keys.generate_signing_key` or one with a seeded source.  With
        RSA or a passphrase it takes tens to hundreds of milliseconds.
    """

    def __init__(
        self,
        zone: str,
        *,
        algorithm: int,
        passphrase: bytes | None = None,
        dnskey_ttl: int = 3600,
        generate: _Generate = generate_signing_key,
    ) -> None:
        self.zone = ZoneName(zone)
        self._algorithm = algorithm
        self._passphrase = passphrase
        self._ttl = dnskey_ttl
        self._generate = generate
        self._keys: dict[tuple[int, int], SigningKey] = {}
        self._foreign: tuple[bytes, ...] = ()
        self._signs = False
        self._shared = False

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Own keys in all states, by key tag."""
        return tuple(self._keys[index] for index in sorted(self._keys))

    @property
    def foreign(self) -> tuple[bytes, ...]:
        """DNSKEY RDATA of the other providers, as the zone last loaded has them; what the signer publishes."""
        return self._foreign

    @property
    def signs(self) -> bool:
        """Whether we sign this zone, by the roles last given."""
        return self._signs

    def restore(self, stored: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the keys of this zone from a former run.

        :param stored: values by key, as kept from the ``Store`` actions; other zones' are passed over.
        :raises ConfigError: the passphrase does not open a private key.
        :raises StoreError: a value is damaged.
        """
        for value in stored.values():
            if value.get("zone") == self.zone:
                key = SigningKey.from_value(value, self._passphrase)
                self._keys[key.key_tag, key.algorithm] = key

    def wanted(self, *, sign: bool) -> tuple[bool, ...]:
        """The keys that :meth:`zone_loaded` will make: ``True`` for a KSK, ``False`` for a ZSK."""
        active = {key.is_ksk for key in self._keys.values() if key.state is KeyState.ACTIVE}
        return tuple(ksk for ksk in (True, False) if sign and ksk not in active)

    def make(self, ksk: bool, version: ZoneVersion, now: float, also: Iterable[SigningKey] = ()) -> SigningKey:
        """Make an active key for :meth:`zone_loaded`; may take long and changes nothing: for a worker thread.

        :param version: the zone that is about to be loaded; tags of keys in it are avoided.
        :param also: further keys whose tags are taken.
        """
        taken = {tag for tag, _ in self._keys} | {key.key_tag for key in also}
        taken |= {key_tag(rdata) for rdata in foreign_dnskeys(version, self.keys)}
        return self._generate(
            self.zone, self._algorithm, ksk, now, state=KeyState.ACTIVE, passphrase=self._passphrase, avoid=taken
        )

    def zone_loaded(
        self, version: ZoneVersion, *, sign: bool, shared: bool, now: float, made: Sequence[SigningKey] = ()
    ) -> list[Action]:
        """A version of the zone came in: note the foreign keys, take the first own ones.

        :param sign: whether the zone's roles name us as a signer.
        :param shared: whether they name other signers too; if not, DNSKEY records of the incoming zone do not count.
        :param made: the keys :meth:`wanted`, made beforehand with :meth:`make`; those that are not there are made now.
        """
        before = self._signs, self._foreign
        self._signs, self._shared = sign, sign and shared
        self._foreign = foreign_dnskeys(version, self.keys) if self._shared else ()
        actions: list[Action] = []
        ready = {key.is_ksk: key for key in made}
        actions += [
            self._put(ready[ksk]) if ksk in ready else self._new(ksk, KeyState.ACTIVE, now)
            for ksk in self.wanted(sign=sign)
        ]
        if actions:
            actions.append(KeysChanged(self.zone, distribute=True))
        elif before != (self._signs, self._foreign):
            actions.append(KeysChanged(self.zone, distribute=before[0] != sign))
        return actions

    def add_key(self, ksk: bool, now: float) -> list[Action]:
        """Make a further key and begin its way into the DNSKEY RRset.

        :raises ConflictError: we do not sign the zone.
        """
        if not self._signs:
            raise ConflictError(f"{self.zone} is not signed here")
        store = self._new(ksk, KeyState.MPDIST if self._shared else KeyState.PUBLISHED, now)
        return [store, KeysChanged(self.zone, distribute=True)]

    def withdraw(self, tag: int, now: float) -> list[Action]:
        """Take a key out of the DNSKEY RRset.

        :raises NotFoundError: no own key has this tag.
        :raises ConflictError: it is active, or withdrawn already.
        """
        key = self._own(tag)
        if key is None:
            raise NotFoundError(f"{self.zone} has no key {tag} of ours")
        if key.state is KeyState.ACTIVE:
            raise ConflictError(f"key {tag} of {self.zone} is active")
        if key.state in (KeyState.MPREMOVE, KeyState.REMOVED):
            raise ConflictError(f"key {tag} of {self.zone} is withdrawn already")
        state = KeyState.MPREMOVE if self._shared else KeyState.REMOVED
        return [self._put(key.to_state(state, now)), KeysChanged(self.zone, distribute=True)]

    def signal(self, signal: str, tag: int, algorithm: int, now: float, reason: str = "") -> list[Action]:
        """A KEYSTATE message of one of our agents.

        :param signal: ``propagated`` or ``rejected``; others are ignored.
        :param algorithm: 0 matches any, since the Go implementation's agents send it.
        :param reason: the message's text.
        """
        key = self._own(tag, algorithm)
        if key is None:
            return [SignalIgnored(self.zone, tag, "no own key has this tag")]
        match signal, key.state:
            case "propagated", KeyState.MPDIST:
                following = KeyState.PUBLISHED
            case "propagated", KeyState.MPREMOVE:
                following = KeyState.REMOVED
            case "rejected", KeyState.MPDIST:
                return [self._put(key.with_rejection(reason or "refused by another provider"))]
            case _:
                return [SignalIgnored(self.zone, tag, f"{signal} means nothing for a key that is {key.state}")]
        return [self._put(key.to_state(following, now)), KeysChanged(self.zone, distribute=False)]

    def inventory(self) -> list[KeyInventoryEntry]:
        """All keys in order of key tag; empty if we do not sign the zone."""
        if not self._signs:
            return []
        return inventory(self.zone, self.keys, self._foreign, ttl=self._ttl)

    def _own(self, tag: int, algorithm: int = 0) -> SigningKey | None:
        found = [key for key in self.keys if key.key_tag == tag and algorithm in (0, key.algorithm)]
        return found[0] if found else None

    def _new(self, ksk: bool, state: KeyState, now: float) -> Store:
        taken = {tag for tag, _ in self._keys} | {key_tag(rdata) for rdata in self._foreign}
        key = self._generate(
            self.zone, self._algorithm, ksk, now, state=state, passphrase=self._passphrase, avoid=taken
        )
        return self._put(key)

    def _put(self, key: SigningKey) -> Store:
        self._keys[key.key_tag, key.algorithm] = key
        return Store(STORE_KIND, key.store_key, key.to_value())
