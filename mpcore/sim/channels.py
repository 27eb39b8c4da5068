"""Channels in a simulation: either end says which key it has, and is believed."""

from __future__ import annotations

from contextlib import suppress

import anyio
from cryptography.hazmat.primitives.asymmetric import ec

from mpcore.errors import ExchangeError
from mpcore.net.channel import Channel, spki_of
from mpcore.net.network import ByteStream

__all__ = ("PlainChannels",)

_LENGTH = 2  #: octets of the length in front of a key


class PlainChannels:
    """A :class:`~mpcore.net.channel.ChannelSecurity` without any: keys are told, everything else passes as it is.

    :param key: ours.
    :param identity: ours; it means nothing here.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, identity: str) -> None:
        self._spki = spki_of(key.public_key())

    async def accept(self, stream: ByteStream) -> Channel:
        """See :class:`~mpcore.net.channel.ChannelSecurity`."""
        return await self._greet(stream)

    async def connect(self, stream: ByteStream, server_name: str) -> Channel:
        """See :class:`~mpcore.net.channel.ChannelSecurity`."""
        return await self._greet(stream)

    async def _greet(self, stream: ByteStream) -> Channel:
        buffer = bytearray()
        try:
            await stream.send(len(self._spki).to_bytes(_LENGTH) + self._spki)
            while len(buffer) < _LENGTH or len(buffer) < _LENGTH + int.from_bytes(buffer[:_LENGTH]):
                buffer += await stream.receive()
        except BaseException as error:
            with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError):
                await stream.aclose()
            if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | anyio.ClosedResourceError | OSError):
                raise ExchangeError("the connection ended during the handshake") from None
            raise
        end = _LENGTH + int.from_bytes(buffer[:_LENGTH])
        return Channel(_Begun(stream, bytes(buffer[end:])), bytes(buffer[_LENGTH:end]))


class _Begun:
    """A stream of which something was read already."""

    def __init__(self, stream: ByteStream, rest: bytes) -> None:
        self._stream, self._rest = stream, rest

    @property
    def local(self) -> tuple[str, int]:
        return self._stream.local

    @property
    def peer(self) -> tuple[str, int]:
        return self._stream.peer

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._rest:
            octets, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
            return octets
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def aclose(self) -> None:
        await self._stream.aclose()
