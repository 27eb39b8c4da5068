"""One peer message and the one DNS message that carries it.

From inside out: :mod:`mpcore.wire.messages` (JSON), :mod:`mpcore.wire.seal` (encryption for the receiver, signature of
the sender), :mod:`mpcore.wire.frame` (NOTIFY, its response, CHUNK queries) and :mod:`mpcore.wire.chunks` (payloads that
are fetched in pieces).  Import the modules, not this package: each has its own cost.
"""

__all__ = ()
