"""Connections to peers: kept, used again, given up when they have gone."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from mpcore.errors import ExchangeError
from mpcore.net.messages import NOTIFY
from mpcore.net.network import InternetNetwork
from mpcore.net.server import DnsServer, Request, reply
from mpcore.node.links import Links
from mpcore.wire import frame

pytestmark = pytest.mark.anyio

MESSAGE = frame.encode_notify(0x1234, "6a12f0d0", "agent.alpha.example.")


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[str, int]]:
    server = DnsServer(InternetNetwork(), [("127.0.0.1", port)])

    async def answer(request: Request) -> bytes:
        return reply(request, 0)

    server.register(answer, NOTIFY)
    async with anyio.create_task_group() as tasks:
        yield (await tasks.start(server.serve))[0]
        tasks.cancel_scope.cancel()


async def test_a_connection_is_used_again() -> None:
    links = Links(InternetNetwork())
    async with serving() as (host, port):
        for _ in range(5):
            assert (await links.exchange(MESSAGE, host, port, timeout=5))[3] & 15 == 0
        assert (links.connections, links.reused) == (1, 4)
        await links.aclose()
        await links.exchange(MESSAGE, host, port, timeout=5)
        await links.exchange(MESSAGE, host, port, timeout=5)
        assert links.connections == 3  # nothing is kept any more


async def test_messages_at_once_take_connections_of_their_own() -> None:
    links = Links(InternetNetwork(), per_address=2)
    async with serving() as (host, port):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(lambda: links.exchange(MESSAGE, host, port, timeout=5))
        assert links.connections + links.reused == 6
        assert len(links._free) <= 2
        await links.aclose()


async def test_a_connection_that_the_peer_has_closed_is_replaced() -> None:
    links = Links(InternetNetwork())
    async with serving() as (host, port):
        await links.exchange(MESSAGE, host, port, timeout=5)
    async with serving(port=port):  # it was restarted
        assert (await links.exchange(MESSAGE, host, port, timeout=5))[3] & 15 == 0
    assert links.connections == 2
    with pytest.raises(ExchangeError):
        await links.exchange(MESSAGE, host, port, timeout=5)
    await links.aclose()


async def test_old_connections_are_not_used() -> None:
    links = Links(InternetNetwork(), idle=-1.0)
    async with serving() as (host, port):
        for _ in range(3):
            await links.exchange(MESSAGE, host, port, timeout=5)
        assert (links.connections, links.reused) == (3, 0)
        await links.aclose()


async def test_time_is_bounded() -> None:
    links = Links(InternetNetwork())
    listener = await InternetNetwork().listen_tcp("127.0.0.1", 0)
    try:
        with pytest.raises(ExchangeError, match=r"within 0\.05 s"):
            await links.exchange(MESSAGE, *listener.address, timeout=0.05)
        assert not links._free
    finally:
        await listener.aclose()


async def test_nothing_is_left_of_what_was_cancelled() -> None:
    """Whenever a call is cut short, its socket is closed; one that is not would be reported when it is collected."""
    network = InternetNetwork()
    async with serving() as (host, port):
        for _ in range(3):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await (await network.connect_tcp(host, port, local_host=host)).aclose()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await (await network.bind_udp(host, 0)).aclose()
        stream = await network.connect_tcp(host, port, local_host=host)
        assert stream.local[0] == host
        await stream.aclose()
    with pytest.raises(ConnectionRefusedError):
        await network.connect_tcp(host, port, local_host=host)
    with pytest.raises(OSError, match=r"."):
        await network.connect_tcp(host, port, local_host="192.0.2.1")
    gc.collect()
