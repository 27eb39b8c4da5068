"""What the synchronised data engine asks its node to do or tell, besides :mod:`mpcore.actions`."""

from __future__ import annotations

from dataclasses import dataclass

from mpcore.actions import Action

__all__ = ("KeysPropagated", "TransactionChanged", "ZoneChanged")


@dataclass(frozen=True, slots=True)
class KeysPropagated(Action):
    """Every provider has answered about these keys of ours: tell our signer, one KEYSTATE for each tag.

    :param zone: the zone.
    :param tags: key tags, sorted.
    :param rejected: ``False``: every provider that publishes DNSKEYs has them, or is without those that were withdrawn;
        ``True``: one refused.
    :param reason: why, in words; ``""`` unless *rejected*.
    """

    zone: str
    tags: tuple[int, ...]
    rejected: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ZoneChanged(Action):
    """What :meth:`~mpcore.sde.engine.SynchronisedData.entries` says about *zone* changed."""

    zone: str


@dataclass(frozen=True, slots=True)
class TransactionChanged(Action):
    """The transaction *id* changed."""

    id: str
