"""What a node is given by whoever runs it: network, clock, randomness, worker threads, sealing.

Production uses :meth:`Runtime.production`; the simulator injects an in-memory network, the virtual clock, a seeded
generator and inline execution.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio.to_thread
import dns.name
from cryptography.hazmat.primitives.asymmetric import ec

from mpcore.actions import RandomSource
from mpcore.net.channel import ChannelSecurity
from mpcore.net.clock import Clock, SystemClock
from mpcore.net.network import InternetNetwork, Network
from mpcore.net.resolver_types import Answer
from mpcore.peer.discovery import HTTPS_HOST
from mpcore.store.database import Executor
from mpcore.wire import seal
from mpcore.wire.seal import PrivateKey, PublicKey

__all__ = ("JoseSealing", "Lookups", "Runtime", "Sealing")


class Sealing(Protocol):
    """Sealing and opening of payloads; real JOSE in production, a pass-through in large simulations."""

    def seal(
        self,
        plaintext: bytes,
        sender: PrivateKey,
        recipient: PublicKey,
        recipient_identity: str,
        now: float,
    ) -> bytes: ...

    def unseal(self, data: bytes, sender: PublicKey, recipient: PrivateKey) -> bytes: ...


class Lookups(Protocol):
    """Look-ups in DNS, as :class:`mpcore.net.resolver.Resolver` does them; every answer says whether it is proven."""

    async def resolve(self, name: dns.name.Name | str, rdtype: int) -> Answer: ...

    def flush(self, name: dns.name.Name | str, subtree: bool = True) -> object: ...


class JoseSealing:
    """JWS over JWE, as every peer on the wire does (guide, wire format, "JOSE")."""

    def seal(
        self,
        plaintext: bytes,
        sender: PrivateKey,
        recipient: PublicKey,
        recipient_identity: str,
        now: float,
    ) -> bytes:
        """See :func:`mpcore.wire.seal.seal`."""
        return seal.seal(plaintext, sender, recipient, recipient_identity, now)

    def unseal(self, data: bytes, sender: PublicKey, recipient: PrivateKey) -> bytes:
        """See :func:`mpcore.wire.seal.unseal`."""
        return seal.unseal(data, sender, recipient)


def _mutual_tls(key: ec.EllipticCurvePrivateKey, identity: str) -> ChannelSecurity:
    from mpcore.net.mutual_tls import MutualTls  # OpenSSL's bindings, which only HTTPS needs

    return MutualTls(key, (identity, f"{HTTPS_HOST}.{identity}"))


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments)


@dataclass(frozen=True)
class Runtime:
    """The world around a node.

    :param network: how sockets are made.
    :param clock: the time, Unix seconds.
    :param random: ids, votes, nonces, jitter.
    :param run_blocking: runs a CPU-bound function away from the event loop.
    :param executor: where the database runs; ``None``: worker threads of its own.
    :param sealing: seals and opens payloads.
    :param process_id: what the status says.
    :param resolver: look-ups of an agent; ``None``: it makes the resolver that its settings describe.
    :param key_random: where generated DNSSEC keys come from; ``None``: the operating system.
    :param channels: makes channels with a private key (EC P-256) and for an identity; real TLS in production.
    """

    network: Network
    clock: Clock
    random: RandomSource
    run_blocking: Callable[..., Awaitable[Any]] = _in_thread
    executor: Executor | None = None
    sealing: Sealing = field(default_factory=JoseSealing)
    process_id: int = 0
    resolver: Lookups | None = None
    key_random: RandomSource | None = None
    channels: Callable[[ec.EllipticCurvePrivateKey, str], ChannelSecurity] = _mutual_tls

    @classmethod
    def production(cls) -> Runtime:
        """Real sockets, the system's clock and random source, worker threads, JOSE; call it in a running event loop."""
        return cls(network=InternetNetwork(), clock=SystemClock(), random=random.SystemRandom(), process_id=os.getpid())
