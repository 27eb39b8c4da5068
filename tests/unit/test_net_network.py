"""The network of the operating system: a connection that is gone before anybody looked at it is an OSError."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
import pytest

from mpcore.net.network import InternetNetwork

pytestmark = pytest.mark.anyio


class _WithoutSocket:
    """A stream as anyio has it on asyncio when the transport has dropped its socket."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self.closed = False

    def extra(self, attribute: Any, default: Any = None) -> Any:
        socket: Any = None
        return socket.getpeername()

    async def aclose(self) -> None:
        self.closed = True
        await self._stream.aclose()


@pytest.mark.parametrize("gone", ["closed", "without socket"])
async def test_a_connection_that_ends_while_it_begins_is_reset(monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    listener = await InternetNetwork().listen_tcp("127.0.0.1", 0)
    connect = anyio.connect_tcp
    made: list[Any] = []

    async def connect_and_end(*arguments: Any, **named: Any) -> Any:
        stream = await connect(*arguments, **named)
        if gone == "closed":
            await stream.aclose()
        made.append(stream if gone == "closed" else _WithoutSocket(stream))
        return made[-1]

    monkeypatch.setattr(anyio, "connect_tcp", connect_and_end)
    try:
        with pytest.raises(ConnectionResetError, match="reset the connection"):
            await InternetNetwork().connect_tcp(*listener.address)
    finally:
        await listener.aclose()
    assert gone == "closed" or made[0].closed


async def test_a_connection_that_ends_before_it_is_accepted_is_aborted() -> None:
    listener = await InternetNetwork().listen_tcp("127.0.0.1", 0)
    inner: Any = listener._listener  # type: ignore[attr-defined]
    accept = inner.accept

    async def accept_and_lose() -> Any:
        return _WithoutSocket(await accept())

    inner.accept = accept_and_lose
    try:
        async with await anyio.connect_tcp(*listener.address):
            with pytest.raises(ConnectionAbortedError):
                await listener.accept()
    finally:
        await listener.aclose()
