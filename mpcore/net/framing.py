"""DNS messages on a TCP connection: two octets of length, then the message (RFC 1035, section 4.2.2; RFC 7766)."""

from __future__ import annotations

import anyio

from mpcore.errors import ExchangeError
from mpcore.net.network import Address, ByteStream

__all__ = ("MAX_MESSAGE", "MessageStream")

MAX_MESSAGE = 65535  #: octets of the largest DNS message
_CHUNK = 65536


class MessageStream:
    """A TCP connection as a sequence of DNS messages.

    A cancelled :meth:`receive` loses nothing: what had arrived is kept for the next call.

    :param stream: the connection; closed by :meth:`aclose`.
    """

    __slots__ = ("_buffer", "_sending", "_stream")

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._sending = anyio.Lock()

    @property
    def local(self) -> Address:
        """Our end of the connection."""
        return self._stream.local

    @property
    def peer(self) -> Address:
        """The other end of the connection."""
        return self._stream.peer

    @property
    def partial(self) -> bool:
        """Whether a message has begun to arrive and is not complete."""
        return bool(self._buffer)

    async def receive(self, limit: int = MAX_MESSAGE) -> bytes:
        """The next message.

        :param limit: octets of the largest message to accept, at most 65535.
        :raises anyio.EndOfStream: the other end closed after a complete message.
        :raises ExchangeError: it closed or broke inside a message, or announced one beyond *limit*.
        """
        buffer = self._buffer
        while True:
            if len(buffer) >= 2:
                size = buffer[0] << 8 | buffer[1]
                if size > limit:
                    raise ExchangeError(f"{self.peer[0]}: a message of {size} octets, more than {limit}")
                if len(buffer) >= size + 2:
                    octets = bytes(memoryview(buffer)[2 : size + 2])
                    del buffer[: size + 2]
                    return octets
            try:
                buffer += await self._stream.receive(_CHUNK)
            except anyio.EndOfStream:
                if buffer:
                    raise ExchangeError(f"{self.peer[0]} closed the connection inside a message") from None
                raise
            except (OSError, anyio.BrokenResourceError) as error:
                raise ExchangeError(f"{self.peer[0]}: the connection broke") from error

    async def send(self, *messages: bytes) -> None:
        """Send messages, each whole; concurrent callers take turns.

        After a cancelled call the connection must be closed: a message may have gone out in part.

        :raises ValueError: a message is longer than 65535 octets.
        :raises ExchangeError: the connection broke.
        """
        if any(len(message) > MAX_MESSAGE for message in messages):
            raise ValueError("a DNS message has at most 65535 octets")
        octets = b"".join(part for message in messages for part in (len(message).to_bytes(2, "big"), message))
        async with self._sending:
            try:
                await self._stream.send(octets)
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise ExchangeError(f"{self.peer[0]}: the connection broke") from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()
