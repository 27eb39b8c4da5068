"""The server, asked over real sockets, judged with dnspython."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest

from mpcore.errors import ExchangeError
from mpcore.net.client import exchange, query
from mpcore.net.clock import SystemClock
from mpcore.net.framing import MessageStream
from mpcore.net.messages import empty_reply
from mpcore.net.network import Address, InternetNetwork, Listener, UDPSocket
from mpcore.net.server import Answer, DnsServer, Request, ServerLimits, reply
from mpcore.zone.owners import from_text
from mpcore.zone.tsig import TsigKey, find_signature, sign_message

pytestmark = pytest.mark.anyio

NETWORK = InternetNetwork()


class PortableNetwork:
    """The same sockets, under a type that the server does not know: so it takes its portable UDP listener."""

    async def connect_tcp(self, host: str, port: int, *, local_host: str | None = None) -> object:
        return await NETWORK.connect_tcp(host, port, local_host=local_host)

    async def listen_tcp(self, host: str, port: int) -> Listener:
        return await NETWORK.listen_tcp(host, port)

    async def bind_udp(self, host: str, port: int) -> UDPSocket:
        return await NETWORK.bind_udp(host, port)


@pytest.fixture(params=["own", "portable"])
def network(request: pytest.FixtureRequest) -> InternetNetwork:
    return NETWORK if request.param == "own" else PortableNetwork()  # type: ignore[return-value]


@asynccontextmanager
async def serving(server: DnsServer) -> AsyncIterator[Address]:
    async with anyio.create_task_group() as tasks:
        addresses = await tasks.start(server.serve)
        yield addresses[0]
        tasks.cancel_scope.cancel()


def asks(name: str = "example.", rdtype: str = "SOA", opcode: dns.opcode.Opcode = dns.opcode.QUERY) -> bytes:
    message = dns.message.make_query(name, rdtype)
    message.set_opcode(opcode)
    return message.to_wire()


async def rcode(server: Address, octets: bytes, *, over_tcp: bool = False) -> str:
    answer = await exchange(NETWORK, octets, *server, over_tcp=over_tcp, timeout=5)
    return dns.rcode.to_text(dns.message.from_wire(answer).rcode())


async def refuses_later(request: Request) -> Answer:
    return reply(request, dns.rcode.NXDOMAIN)


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_dispatch_takes_the_most_specific_handler(network: InternetNetwork, over_tcp: bool) -> None:
    def answering(code: int):  # type: ignore[no-untyped-def]
        async def handler(request: Request) -> Answer:
            return reply(request, code)

        return handler

    server = DnsServer(network, [("127.0.0.1", 0)])
    server.register(answering(dns.rcode.YXDOMAIN), dns.opcode.QUERY, dns.rdatatype.AXFR)
    server.register(answering(dns.rcode.YXRRSET), dns.opcode.QUERY)
    server.register(answering(dns.rcode.NXRRSET), dns.opcode.NOTIFY, dns.rdatatype.SOA)
    server.register_query(lambda octets, source, tcp: empty_reply(octets, 0) if b"fast" in octets else None)
    async with serving(server) as address:
        assert await rcode(address, asks("fast."), over_tcp=over_tcp) == "NOERROR"
        assert await rcode(address, asks("slow."), over_tcp=over_tcp) == "YXRRSET"
        assert await rcode(address, asks("fast.", "AXFR"), over_tcp=over_tcp) == "YXDOMAIN"
        assert await rcode(address, asks("a.", "SOA", dns.opcode.NOTIFY), over_tcp=over_tcp) == "NXRRSET"
        assert await rcode(address, asks("a.", "A", dns.opcode.NOTIFY), over_tcp=over_tcp) == "REFUSED"
        assert await rcode(address, asks("a.", "SOA", dns.opcode.UPDATE), over_tcp=over_tcp) == "REFUSED"
        with pytest.raises(ValueError, match="has a handler"):
            server.register(refuses_later, dns.opcode.QUERY)


@pytest.mark.parametrize("over_tcp", [False, True])
async def test_what_is_not_understood_gets_an_error_and_nothing_else(network: InternetNetwork, over_tcp: bool) -> None:
    server = DnsServer(network, [("127.0.0.1", 0)])
    server.register_query(lambda octets, source, tcp: empty_reply(octets, 0))
    async with serving(server) as address:
        status = bytearray(asks())
        status[2] |= 2 << 3  # opcode STATUS
        assert (await exchange(NETWORK, bytes(status), *address, over_tcp=over_tcp))[3] & 15 == dns.rcode.NOTIMP
        two_answers = asks()[:6] + b"\0\2" + asks()[8:]
        assert (await exchange(NETWORK, two_answers, *address, over_tcp=over_tcp))[3] & 15 == dns.rcode.FORMERR
        pointer = asks()[:12] + b"\xc0\x0c\0\6\0\1"
        answer = await exchange(NETWORK, pointer, *address, over_tcp=over_tcp)
        assert (len(answer), answer[3] & 15) == (12, dns.rcode.FORMERR)
        with pytest.raises(ExchangeError, match="no answer"):
            await exchange(NETWORK, asks()[:2] + b"\x80" + asks()[3:], *address, over_tcp=over_tcp, timeout=0.1)


async def test_garbage_changes_nothing(network: InternetNetwork) -> None:
    server = DnsServer(network, [("127.0.0.1", 0)])
    server.register_query(lambda octets, source, tcp: empty_reply(octets, 0))
    good = asks()
    async with serving(server) as address:
        socket = await NETWORK.bind_udp("127.0.0.1", 0)
        for size in range(len(good)):
            await socket.send(good[:size], address)
            await socket.send(b"\xff" * size, address)
            await socket.send(good[:12] + b"\x3f" * size, address)
        stream = await NETWORK.connect_tcp(*address)
        await stream.send(b"\0\5hello" + b"\0\0" + b"\0\x10" + b"\xff" * 16)
        assert await rcode(address, good) == "NOERROR"
        assert await rcode(address, good, over_tcp=True) == "NOERROR"
        await stream.aclose()
        await socket.aclose()


async def test_a_handler_that_raises_makes_servfail_and_one_log_entry(
    network: InternetNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Request) -> Answer:
        raise RuntimeError("out of order")

    def broken_fast(octets: bytes, source: Address, over_tcp: bool) -> bytes:
        raise RuntimeError("fast and out of order")

    server = DnsServer(network, [("127.0.0.1", 0)])
    server.register(broken, dns.opcode.NOTIFY)
    server.register_query(broken_fast)
    async with serving(server) as address:
        for _ in range(3):
            assert await rcode(address, asks(opcode=dns.opcode.NOTIFY)) == "SERVFAIL"
            assert await rcode(address, asks(opcode=dns.opcode.NOTIFY), over_tcp=True) == "SERVFAIL"
            assert await rcode(address, asks()) == "SERVFAIL"
            assert await rcode(address, asks(), over_tcp=True) == "SERVFAIL"
        assert server.counters["failed"] == 12
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert sorted(record.exc_info[1].args[0] for record in errors if record.exc_info and record.exc_info[1]) == [
        "fast and out of order",
        "out of order",
    ]


async def test_a_handler_that_hangs_makes_servfail(network: InternetNetwork) -> None:
    async def hangs(request: Request) -> Answer:
        await anyio.sleep_forever()

    server = DnsServer(network, [("127.0.0.1", 0)], limits=ServerLimits(answer_timeout=0.05))
    server.register(hangs, dns.opcode.QUERY)
    async with serving(server) as address:
        assert await rcode(address, asks()) == "SERVFAIL"
        assert await rcode(address, asks(), over_tcp=True) == "SERVFAIL"


async def test_an_answer_too_large_for_the_client_is_truncated_and_fetched_over_tcp(network: InternetNetwork) -> None:
    async def large(request: Request) -> Answer:
        message = dns.message.make_response(dns.message.from_wire(request.octets))
        texts = " ".join(['"' + "x" * 200 + '"'] * 4)
        message.answer.append(dns.rrset.from_text("example.", 1, "IN", "TXT", texts))
        return message.to_wire(max_size=65535)

    server = DnsServer(network, [("127.0.0.1", 0)])
    server.register(large, dns.opcode.QUERY)
    async with serving(server) as address:
        small = dns.message.make_query("example.", "TXT")
        roomy = dns.message.make_query("example.", "TXT", payload=1232)
        cut = dns.message.from_wire(await exchange(NETWORK, small.to_wire(), *address))
        assert cut.flags & dns.flags.TC
        assert not cut.answer
        assert dns.message.from_wire(await exchange(NETWORK, roomy.to_wire(), *address)).answer
        assert dns.message.from_wire(await query(NETWORK, small.to_wire(), *address)).answer


async def test_a_stream_is_produced_only_as_fast_as_the_client_takes_it() -> None:
    produced = 0
    closed = anyio.Event()

    async def endless(request: Request) -> Answer:
        async def messages() -> AsyncIterator[bytes]:
            nonlocal produced
            try:
                while True:
                    produced += 1
                    yield request.octets[:2] + b"\x80" + bytes(60000)
            finally:
                closed.set()

        return messages()

    server = DnsServer(NETWORK, [("127.0.0.1", 0)], limits=ServerLimits(send_timeout=0.3))
    server.register(endless, dns.opcode.QUERY, dns.rdatatype.AXFR)
    async with serving(server) as address:
        stream = MessageStream(await NETWORK.connect_tcp(*address))
        await stream.send(asks(rdtype="AXFR"))
        assert len(await stream.receive()) == 60003
        with anyio.fail_after(10):
            await closed.wait()  # the client read one message and no more: the server gave up
        assert produced < 1000
        await stream.aclose()
        assert await rcode(address, asks()) == "REFUSED"


async def test_pipelined_queries_are_answered_up_to_the_bound_and_in_any_order() -> None:
    waiting: list[int] = []
    full, release = anyio.Event(), anyio.Event()

    async def slow(request: Request) -> Answer:
        waiting.append(request.id)
        if len(waiting) == 3:
            full.set()
        await release.wait()
        return reply(request, 0)

    async def quick(request: Request) -> Answer:
        return reply(request, 0)

    server = DnsServer(NETWORK, [("127.0.0.1", 0)], limits=ServerLimits(max_pipelined=4))
    server.register(slow, dns.opcode.QUERY, dns.rdatatype.A)
    server.register(quick, dns.opcode.QUERY, dns.rdatatype.AAAA)
    async with serving(server) as address:
        stream = MessageStream(await NETWORK.connect_tcp(*address))
        queries = [asks(rdtype="A") for _ in range(3)] + [asks(rdtype="AAAA")] + [asks(rdtype="A") for _ in range(3)]
        await stream.send(*queries)
        with anyio.fail_after(5):
            await full.wait()
            assert (await stream.receive())[:2] == queries[3][:2]
        await anyio.wait_all_tasks_blocked()
        assert len(waiting) == 4
        release.set()
        answered = {(await stream.receive())[:2] for _ in range(6)}
        assert answered == {octets[:2] for octets in queries if octets != queries[3]}
        await stream.aclose()


async def test_connections_are_bounded_in_total_and_by_source() -> None:
    server = DnsServer(
        NETWORK, [("127.0.0.1", 0)], limits=ServerLimits(max_connections=3, max_connections_per_source=2)
    )
    server.register_query(lambda octets, source, tcp: empty_reply(octets, 0))
    async with serving(server) as address, AsyncExitStack() as stack:

        async def connect(local_host: str) -> MessageStream:
            stream = MessageStream(await NETWORK.connect_tcp(*address, local_host=local_host))
            stack.push_async_callback(stream.aclose)
            return stream

        async def works(stream: MessageStream) -> bool:
            try:
                await stream.send(asks())
                return (await stream.receive())[3] & 15 == 0
            except (ExchangeError, anyio.EndOfStream):
                return False

        first, second = await connect("127.0.0.2"), await connect("127.0.0.2")
        assert await works(second)
        assert await works(first)
        assert not await works(await connect("127.0.0.2"))  # a third of the same source
        other, another = await connect("127.0.0.3"), await connect("127.0.0.4")
        assert await works(other)
        assert await works(another)  # the fourth in total: the one idle for longest made room
        assert not await works(second)
        assert await works(first)


async def test_idle_and_slow_connections_are_closed() -> None:
    server = DnsServer(NETWORK, [("127.0.0.1", 0)], limits=ServerLimits(idle_timeout=0.3))
    server.register_query(lambda octets, source, tcp: empty_reply(octets, 0))
    async with serving(server) as address:
        idle = await NETWORK.connect_tcp(*address)
        slow = await NETWORK.connect_tcp(*address)
        framed = struct.pack("!H", len(asks())) + asks()

        async def trickle() -> None:
            for octet in framed * 100:  # one octet at a time: no message is ever complete in time
                await slow.send(bytes((octet,)))
                await anyio.sleep(0.02)

        with anyio.fail_after(5):
            with pytest.raises(anyio.BrokenResourceError):
                await trickle()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await idle.receive()
        assert await rcode(address, asks(), over_tcp=True) == "NOERROR"
        await idle.aclose()
        await slow.aclose()


async def test_a_message_beyond_the_limit_closes_the_connection() -> None:
    server = DnsServer(NETWORK, [("127.0.0.1", 0)], limits=ServerLimits(max_message=100))
    async with serving(server) as address:
        with pytest.raises(ExchangeError):
            await exchange(NETWORK, asks() + bytes(100), *address, over_tcp=True)


async def test_a_source_beyond_its_rate_is_dropped_on_udp_and_delayed_on_tcp() -> None:
    asked = 0

    async def counting(request: Request) -> Answer:
        nonlocal asked
        asked += 1
        return reply(request, 0)

    limits = ServerLimits(rate_per_source=20, burst_per_source=5)
    server = DnsServer(NETWORK, [("127.0.0.1", 0)], limits=limits)
    server.register(counting, dns.opcode.NOTIFY)
    async with serving(server) as address:
        socket = await NETWORK.bind_udp("127.0.0.1", 0)
        for _ in range(50):
            await socket.send(asks(opcode=dns.opcode.NOTIFY), address)
        stream = MessageStream(await NETWORK.connect_tcp(*address))
        await stream.send(*[asks(opcode=dns.opcode.NOTIFY) for _ in range(10)])
        for _ in range(10):
            assert (await stream.receive())[3] & 15 == 0  # all are answered, however late
        assert server.counters["dropped"] > 0
        assert asked < 50 + 10
        await stream.aclose()
        await socket.aclose()


async def test_a_client_may_close_its_side_and_still_gets_its_answer() -> None:
    async def later(request: Request) -> Answer:
        await anyio.sleep(0.05)
        return reply(request, 0)

    server = DnsServer(NETWORK, [("127.0.0.1", 0)])
    server.register(later, dns.opcode.QUERY)
    async with serving(server) as address, await anyio.connect_tcp(*address) as stream:
        await stream.send(struct.pack("!H", len(asks())) + asks())
        await stream.send_eof()
        assert len(await stream.receive()) > 12


async def test_an_address_in_use_is_an_error_at_start() -> None:
    listener = await NETWORK.listen_tcp("127.0.0.1", 0)
    with pytest.raises(BaseExceptionGroup) as caught:
        await DnsServer(NETWORK, [listener.address]).serve()
    assert caught.group_contains(OSError)
    with pytest.raises(OSError, match="not a numeric"):
        await NETWORK.listen_tcp("localhost", 0)
    await listener.aclose()


TSIG_KEY = TsigKey(from_text("k."), "hmac-sha256", bytes(32))


@pytest.mark.parametrize("over_tcp", [False, True])
@pytest.mark.parametrize("fast", [False, True])
async def test_a_signed_request_gets_a_signed_answer(network: InternetNetwork, over_tcp: bool, fast: bool) -> None:
    seen: list[bytes | None] = []

    async def handler(request: Request) -> Answer:
        seen.append(request.key.name if request.key else None)
        return reply(request, 0)

    server = DnsServer(network, [("127.0.0.1", 0)], keyring={TSIG_KEY.name: TSIG_KEY})
    if fast:
        server.register_query(lambda octets, source, tcp: empty_reply(octets, 0))
    else:
        server.register(handler, dns.opcode.QUERY)
    query = dns.message.make_query("example.", "SOA", payload=1232)
    right = dns.tsig.Key("k.", bytes(32), "hmac-sha256")
    query.use_tsig(right)
    async with serving(server) as address:
        octets = await exchange(NETWORK, query.to_wire(), *address, over_tcp=over_tcp)
        answer = dns.message.from_wire(octets, keyring=right, request_mac=query.mac)
        assert answer.had_tsig
        assert answer.rcode() == dns.rcode.NOERROR
        if not fast:
            assert seen == [b"\1k\0"]

        for key, error in (
            (dns.tsig.Key("k.", b"wrong" * 6, "hmac-sha256"), dns.tsig.PeerBadSignature),
            (dns.tsig.Key("k.", bytes(32), "hmac-sha512"), dns.tsig.PeerBadKey),
        ):
            query = dns.message.make_query("example.", "SOA")
            query.use_tsig(key)
            with pytest.raises(error):
                dns.message.from_wire(
                    await exchange(NETWORK, query.to_wire(), *address, over_tcp=over_tcp),
                    keyring=key,
                    request_mac=query.mac,
                )
        query = dns.message.make_query("example.", "SOA")
        query.use_tsig(dns.tsig.Key("unknown.", bytes(32), "hmac-sha256"))
        octets = await exchange(NETWORK, query.to_wire(), *address, over_tcp=over_tcp)
        assert octets[3] & 15 == dns.rcode.NOTAUTH
        assert server.counters["signature failures"] == 3
        assert len(seen) in (0, 1)


async def test_a_request_signed_long_ago_is_refused_with_our_time() -> None:
    server = DnsServer(NETWORK, [("127.0.0.1", 0)], keyring={TSIG_KEY.name: TSIG_KEY})
    server.register_query(lambda octets, source, tcp: empty_reply(octets, 0))
    octets, _ = sign_message(asks(), TSIG_KEY, SystemClock().now() - 1000)
    async with serving(server) as address:
        answer = await exchange(NETWORK, octets, *address)
    signature = find_signature(answer)
    assert signature is not None
    assert (answer[3] & 15, signature.error, len(signature.other)) == (dns.rcode.NOTAUTH, 18, 6)
    assert signature.mac
