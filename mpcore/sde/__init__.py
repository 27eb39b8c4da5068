"""Synchronised data: what each provider contributes to the zones, and how far every record has come."""

from mpcore.sde.actions import KeysPropagated, TransactionChanged, ZoneChanged
from mpcore.sde.engine import SynchronisedData
from mpcore.sde.plan import Plan

__all__ = ("KeysPropagated", "Plan", "SynchronisedData", "TransactionChanged", "ZoneChanged")
