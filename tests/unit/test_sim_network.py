"""The in-memory network: it behaves like sockets where the library can tell, and passes time on the virtual clock."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio.testing

from mpcore.net.client import exchange
from mpcore.net.messages import QUERY
from mpcore.net.network import InternetNetwork, Network
from mpcore.net.server import DnsServer, Request, reply
from mpcore.sim.network import ATTEMPTS, WINDOW, Passage, SimNetwork

pytestmark = pytest.mark.anyio

A, B, V6 = "10.0.0.1", "10.0.0.2", "fd00::1"
QUESTION = bytes.fromhex("1234000000010000000000000161076578616d706c6500000100" + "01")


@pytest.fixture
def wire() -> SimNetwork:
    return SimNetwork()


async def pair(wire: SimNetwork) -> tuple[Any, Any, Any, Any]:
    """Two hosts with one connection: (host a, host b, end of a, end of b)."""
    a, b = wire.host(A, V6), wire.host(B)
    listener = await b.listen_tcp(B, 53)
    near = await a.connect_tcp(B, 53)
    return a, b, near, await listener.accept()


async def test_octets_arrive_in_order_and_the_end_after_them(wire: SimNetwork) -> None:
    _, _, near, far = await pair(wire)
    assert near.peer == (B, 53)
    assert far.peer == near.local
    await near.send(b"abc")
    await near.send(b"def")
    assert await far.receive(4) == b"abcd"
    await near.aclose()
    assert await far.receive() == b"ef"
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await far.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await far.send(b"x")
    with pytest.raises(anyio.ClosedResourceError):
        await near.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"x")


async def test_a_sender_waits_for_a_slow_reader(wire: SimNetwork) -> None:
    _, _, near, far = await pair(wire)
    payload = bytes(range(256)) * (4 * WINDOW // 256)
    sent = []

    async def send() -> None:
        await near.send(payload)
        sent.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert not sent
        received = b""
        while len(received) < len(payload):
            received += await far.receive(50_000)
    assert sent == [True]
    assert received == payload


async def test_a_sender_that_waits_is_told_of_the_end(wire: SimNetwork) -> None:
    _, _, near, far = await pair(wire)
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await near.send(bytes(2 * WINDOW))

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        await far.aclose()


async def test_nobody_listens(wire: SimNetwork) -> None:
    a = wire.host(A)
    wire.host(B)
    with pytest.raises(ConnectionRefusedError):
        await a.connect_tcp(B, 53)


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda a: a.listen_tcp(B, 53), errno.EADDRNOTAVAIL),
        (lambda a: a.bind_udp(B, 53), errno.EADDRNOTAVAIL),
        (lambda a: a.connect_tcp("host.example", 53), errno.EADDRNOTAVAIL),
        (lambda a: a.connect_tcp(B, 53, local_host="10.9.9.9"), errno.EADDRNOTAVAIL),
        (lambda a: a.connect_tcp(B, 53, local_host=V6), errno.EAFNOSUPPORT),
    ],
)
async def test_what_a_host_cannot_do(wire: SimNetwork, call: Callable[[Network], Any], number: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is checked below
        await call(wire.host(A, V6))
    assert caught.value.errno == number


async def test_an_address_is_bound_once_and_free_when_closed(wire: SimNetwork) -> None:
    a = wire.host(A)
    for bind in (a.listen_tcp, a.bind_udp):
        first = await bind(A, 53)
        with pytest.raises(OSError, match="in use"):
            await bind(A, 53)
        await first.aclose()
        await (await bind(A, 53)).aclose()
        other = await bind(A, 0)
        assert other.address != (await bind(A, 0)).address


async def test_wildcards_of_two_hosts_do_not_meet(wire: SimNetwork) -> None:
    hosts = [wire.host(address) for address in (A, B)]
    listeners = [await host.listen_tcp("0.0.0.0", 53) for host in hosts]
    sockets = [await host.bind_udp("0.0.0.0", 53) for host in hosts]
    client = await hosts[0].bind_udp("0.0.0.0", 0)
    await client.send(b"hello", (B, 53))
    octets, source = await sockets[1].receive()
    assert (octets, source[0]) == (b"hello", A)
    await sockets[1].send(b"answer", source)
    assert await client.receive() == (b"answer", (B, 53))
    stream = await hosts[0].connect_tcp(B, 53)
    assert (await listeners[1].accept()).peer == stream.local


async def test_a_listener_that_closes_resets_what_waits(wire: SimNetwork) -> None:
    a, b = wire.host(A), wire.host(B)
    listener = await b.listen_tcp(B, 53)
    waiting = await a.connect_tcp(B, 53)
    await listener.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await waiting.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await listener.accept()
    with pytest.raises(ConnectionRefusedError):
        await a.connect_tcp(B, 53)


async def test_a_cut_breaks_both_ends(wire: SimNetwork) -> None:
    _, _, near, far = await pair(wire)
    await near.send(b"unread")
    wire.cut(B)
    for end in (near, far):
        with pytest.raises(anyio.BrokenResourceError):
            await end.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await end.send(b"x")


async def test_closing_wakes_who_waits(wire: SimNetwork) -> None:
    a, b, near, _ = await pair(wire)
    socket, listener = await a.bind_udp(A, 53), await b.listen_tcp(B, 54)
    waits = [near.receive, socket.receive, listener.accept]
    async with anyio.create_task_group() as tasks:

        async def wait(call: Callable[[], Any]) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await call()

        for call in waits:
            tasks.start_soon(wait, call)
        await anyio.wait_all_tasks_blocked()
        for item in (near, socket, listener):
            await item.aclose()


async def test_one_reader_at_a_time(wire: SimNetwork) -> None:
    _, _, near, _ = await pair(wire)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(near.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await near.receive()
        tasks.cancel_scope.cancel()


async def test_the_same_conversation_as_over_real_sockets() -> None:
    """DNS server and client over this network and over loopback: the same answers."""

    async def answer(request: Request) -> bytes:
        return reply(request, 0, authoritative=True)

    async def converse(network: Network, client: Network, host: str) -> list[bytes]:
        server = DnsServer(network, [(host, 0)])
        server.register(answer, QUERY)
        async with anyio.create_task_group() as tasks:
            ((_, port),) = await tasks.start(server.serve)
            answers = [await exchange(client, QUESTION, host, port, over_tcp=tcp) for tcp in (False, True)]
            tasks.cancel_scope.cancel()
        return answers

    wire = SimNetwork()
    simulated = await converse(wire.host(A), wire.host(B), A)
    assert simulated == await converse(InternetNetwork(), InternetNetwork(), "127.0.0.1")


# --------------------------------------------------------------------------- on the virtual clock


def run_virtual(main: Callable[[], Any]) -> Any:
    return anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})


def test_delay_is_time_on_the_clock() -> None:
    async def main() -> list[float]:
        wire = SimNetwork(lambda passage: 0.25)
        start = anyio.current_time()
        _, _, near, far = await pair(wire)
        moments = [anyio.current_time() - start]
        await near.send(b"x")
        moments.append(anyio.current_time() - start)
        await far.receive()
        moments.append(anyio.current_time() - start)
        return moments

    assert run_virtual(main) == pytest.approx([0.5, 0.5, 0.75])


def test_segments_do_not_overtake_and_datagrams_do() -> None:
    delays = {b"slow": 2.0, b"quick": 0.5}

    async def main() -> tuple[bytes, list[bytes]]:
        wire = SimNetwork()
        a, b, near, far = await pair(wire)
        sender, receiver = await a.bind_udp(A, 0), await b.bind_udp(B, 53)
        for payload, delay in delays.items():
            wire.weather = lambda passage, delay=delay: delay
            await near.send(payload)
            await sender.send(payload, (B, 53))
        stream = b""
        while len(stream) < 9:
            stream += await far.receive()
        return stream, [(await receiver.receive())[0] for _ in delays]

    stream, datagrams = run_virtual(main)
    assert stream == b"slowquick"
    assert datagrams == [b"quick", b"slow"]


def test_lost_segments_are_sent_again_and_lost_datagrams_are_not() -> None:
    async def main() -> tuple[float, bool]:
        wire = SimNetwork()
        a, b, near, far = await pair(wire)
        sender, receiver = await a.bind_udp(A, 0), await b.bind_udp(B, 53)
        wire.weather = lambda passage: None if passage.attempt < 2 else 0.1
        start = anyio.current_time()
        await near.send(b"x")
        await sender.send(b"x", (B, 53))
        await far.receive()
        took = anyio.current_time() - start
        with anyio.move_on_after(1000) as scope:
            await receiver.receive()
        return took, scope.cancelled_caught

    took, lost = run_virtual(main)
    assert took == pytest.approx(3.1)  # two retransmissions, after one and after two seconds more
    assert lost


def test_a_partition_times_out_and_breaks_what_is_open() -> None:
    async def main() -> tuple[int | None, float]:
        wire = SimNetwork()
        a, _, near, far = await pair(wire)
        wire.weather = lambda passage: None
        with pytest.raises(anyio.BrokenResourceError):
            await near.send(b"x")
        with pytest.raises(anyio.BrokenResourceError):
            await far.receive()
        start = anyio.current_time()
        with pytest.raises(TimeoutError) as caught:
            await a.connect_tcp(B, 53)
        return caught.value.errno, anyio.current_time() - start

    number, took = run_virtual(main)
    assert number == errno.ETIMEDOUT
    assert took == 2**ATTEMPTS - 1


def test_the_same_events_make_the_same_run() -> None:
    def history() -> list[Any]:
        seen: list[Any] = []

        def weather(passage: Passage) -> float | None:
            seen.append(passage)
            return (len(seen) * 37 % 11) / 10 if len(seen) % 5 else None

        async def main() -> None:
            wire = SimNetwork(weather)
            a, b = wire.host(A), wire.host(B)
            listener = await b.listen_tcp(B, 53)

            async def serve() -> None:
                for _ in range(5):
                    stream = await listener.accept()
                    seen.append((stream.peer, await stream.receive(), anyio.current_time()))
                    await stream.send(b"ok")
                    await stream.aclose()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                for number in range(5):
                    stream = await a.connect_tcp(B, 53)
                    await stream.send(bytes([number]))
                    seen.append((await stream.receive(), anyio.current_time()))
                    await stream.aclose()

        run_virtual(main)
        return seen

    assert history() == history()
