"""The inventory of a zone's keys that a signer reports to its agents (guide, wire format, "keystate").

All keys of the zone, in every state, the other providers' and the removed ones included, in order of key tag.  The
agent makes its DNSKEY contribution from the entries that are neither ``created``, ``mpremove``, ``removed`` nor
``foreign``; :func:`contributed` is that selection.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpcore.signer.keys import KeyState, SigningKey, dnskey_text, key_tag
from mpcore.wire.messages import KeyInventoryEntry

__all__ = ("contributed", "inventory")

_KEPT_BACK = frozenset({KeyState.CREATED, KeyState.MPREMOVE, KeyState.REMOVED, KeyState.FOREIGN})


def inventory(
    zone: str, keys: Iterable[SigningKey], foreign: Iterable[bytes] = (), *, ttl: int = 3600
) -> list[KeyInventoryEntry]:
    """Inventory entries in order of key tag, then algorithm.

    :param zone: zone name with its trailing dot, as in the text of the records.
    :param keys: own keys in all states.
    :param foreign: DNSKEY RDATA of other providers.
    :param ttl: TTL of the records in seconds.
    """
    rows = [(key.dnskey, key.state) for key in keys]
    rows += [(rdata, KeyState.FOREIGN) for rdata in foreign if len(rdata) > 4]
    entries = [
        KeyInventoryEntry(
            key_tag=key_tag(rdata),
            algorithm=rdata[3],
            flags=int.from_bytes(rdata[:2]),
            state=state.value,
            keyrr=dnskey_text(zone, ttl, rdata),
        )
        for rdata, state in rows
    ]
    return sorted(entries, key=lambda entry: (entry.key_tag, entry.algorithm, entry.keyrr))


def contributed(entries: Iterable[KeyInventoryEntry]) -> list[KeyInventoryEntry]:
    """The entries whose records a provider sends to the others: in the RRset, and its own.

    An entry in a state that is not known here counts as contributed, as it does with the Go implementation's agents.
    """
    return [entry for entry in entries if entry.keyrr and entry.state not in _KEPT_BACK]
