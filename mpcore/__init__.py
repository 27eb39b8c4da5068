"""The library of the multi-provider DNSSEC system: no daemon, no screen.

The rooms, and what may import what, are described in the operator's guide (``cockpit/guide/architecture.md``)
and enforced by the import-linter contracts in ``.importlinter``.
"""

__all__ = ("__version__",)

__version__ = "0.1.0"
