"""Connections on which both ends have proved which key they hold, on top of any :class:`~mpcore.net.network.Network`.

A channel says which public key the other end has; whether that key is anybody's is for the caller to look up
(:mod:`mpcore.peer.dane`).  :mod:`mpcore.net.mutual_tls` has the real ones; the simulator brings a pass-through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mpcore.net.network import ByteStream

__all__ = ("Channel", "ChannelSecurity", "spki_of")


@dataclass(frozen=True, slots=True)
class Channel:
    """A connection whose two ends are known.

    :ivar stream: what is sent and received through it.
    :ivar spki: the public key of the other end, SubjectPublicKeyInfo, DER.
    """

    stream: ByteStream
    spki: bytes


class ChannelSecurity(Protocol):
    """How a connection becomes a :class:`Channel`; one object for each key of ours."""

    async def accept(self, stream: ByteStream) -> Channel:
        """Our side of a connection that we accepted; closes *stream* if it fails.

        :raises ExchangeError: the other end did not prove a key.
        """
        ...

    async def connect(self, stream: ByteStream, server_name: str) -> Channel:
        """Our side of a connection that we made; closes *stream* if it fails.

        :param server_name: whom we ask for.
        :raises ExchangeError: the other end did not prove a key.
        """
        ...


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
