"""The agent's own zone: what peers find it by, signed here, served by its secondaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcore.actions import Action, Store
from mpcore.errors import ConfigError
from mpcore.names import ZoneName
from mpcore.net.acl import Acl
from mpcore.net.clock import Clock
from mpcore.node.settings import AgentSettings
from mpcore.peer.identity_zone import identity_zone_records
from mpcore.signer.keys import SigningKey
from mpcore.signer.signing import SigningPolicy, ZoneSigner
from mpcore.wire.seal import PublicKey
from mpcore.zone.serial import next_serial
from mpcore.zone.version import ZoneVersion

__all__ = ("IdentityZone",)

_KIND = "identity-zone"


def _signing_key(path: Path, zone: str, *, ksk: bool, now: float) -> SigningKey:
    try:
        text = path.read_text("ascii")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except ValueError:
        raise ConfigError("is not a PEM file", file=str(path)) from None
    return SigningKey.from_pem(zone, text, ksk=ksk, now=now, file=str(path))


class IdentityZone:
    """Content, keys and serial of the identity zone.

    :param settings: see :class:`~mpcore.node.settings.AgentSettings`.
    :param key: the public key that peers verify and encrypt with.
    :raises ConfigError: a key file cannot be used.
    """

    def __init__(self, settings: AgentSettings, key: PublicKey, clock: Clock) -> None:
        self._settings, self._key, self._clock = settings, key, clock
        self._next_key: PublicKey | None = None
        self._https_keys: tuple[bytes, ...] = ()
        self.origin = ZoneName(settings.identity).owner
        self.acl = Acl.for_servers(settings.identity_zone.secondaries)
        keys = (
            _signing_key(settings.identity_zone.ksk_file, settings.identity, ksk=True, now=0.0),
            _signing_key(settings.identity_zone.zsk_file, settings.identity, ksk=False, now=0.0),
        )
        self._signer = ZoneSigner(self.origin, SigningPolicy(publish_cds=True))
        self._signer.set_keys(keys, ())
        self._serial: int | None = None
        self._version: ZoneVersion | None = None

    def set_keys(self, key: PublicKey, next_key: PublicKey | None) -> None:
        """The keys that :meth:`load` publishes from now on."""
        self._key, self._next_key = key, next_key

    def set_https_keys(self, keys: Sequence[bytes]) -> None:
        """The public keys of the certificate (DER) that :meth:`load` publishes from now on."""
        self._https_keys = tuple(keys)

    @property
    def version(self) -> ZoneVersion:
        """The signed zone; there is one after the first :meth:`load`."""
        assert self._version is not None
        return self._version

    def restore(self, state: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take over the serial of a former run."""
        stored = state.get(_KIND, {}).get("serial")
        if stored is not None and isinstance(stored.get("serial"), int):
            self._serial = stored["serial"]

    def load(self, now: float) -> list[Action]:
        """Make the zone anew and sign what is due; serve :attr:`version` when the actions are carried out."""
        serial = next_serial(self._serial, "unixtime", now)
        records = identity_zone_records(
            self._settings.identity,
            self._settings.publish,
            self._key.to_jwk(),
            None,
            self._settings.identity_zone.nameservers,
            serial,
            None if self._next_key is None else self._next_key.to_jwk(),
            () if self._settings.https is None else self._settings.https.publish,
            self._https_keys,
        )
        self._version = self._signer.sign(ZoneVersion.build(self.origin, records), now, serial)
        self._serial = serial
        return [Store(_KIND, "serial", {"serial": serial})]

    def next_due(self) -> float:
        """When signatures are due, Unix seconds."""
        due = self._signer.next_due()
        return self._clock.now() + 86400 if due is None else max(due, self._clock.now() + 60)
