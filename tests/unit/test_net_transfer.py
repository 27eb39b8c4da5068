"""Transfers from primaries that misbehave, and who may transfer from us."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import anyio
import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.xfr
import dns.zone
import pytest

from mpcore.errors import ExchangeError, RemoteError, TransferError, TsigError
from mpcore.net.acl import Acl
from mpcore.net.client import exchange
from mpcore.net.clock import SystemClock
from mpcore.net.framing import MessageStream
from mpcore.net.messages import AXFR, IXFR, QUERY
from mpcore.net.network import Address, ByteStream, InternetNetwork
from mpcore.net.server import DnsServer
from mpcore.net.transfer import PrimaryConnection, TransferLimits, TransferServer, transfer_in
from mpcore.zone.owners import from_text
from mpcore.zone.rrset import RRset
from mpcore.zone.transfer import axfr_messages
from mpcore.zone.tsig import TSIG_RESERVE, TsigKey, TsigStream, verify_message
from mpcore.zone.version import ZoneVersion
from tests.unit.memory_network import MemoryNetwork

pytestmark = pytest.mark.anyio

ORIGIN = from_text("customer.example.")
KEY = TsigKey(from_text("transfer.key."), "hmac-sha256", b"0123456789abcdef0123456789abcdef")
KEYRING = {KEY.name: KEY}
FAST = TransferLimits(connect_timeout=0.5, answer_timeout=0.5, idle_timeout=0.1, timeout=0.5)


def version_of(serial: int, names: int = 3) -> ZoneVersion:
    timers = b"".join(number.to_bytes(4, "big") for number in (serial, 1000, 100, 5000, 60))
    rrsets = [(ORIGIN, RRset.make(6, 60, [from_text("ns.example.") + from_text("hm.example.") + timers]))]
    for number in range(names):
        label = f"host{number}".encode()
        rrsets.append((bytes((len(label),)) + label + ORIGIN, RRset.make(1, 60, [bytes((192, 0, 2, number % 250))])))
    return ZoneVersion.build(ORIGIN, rrsets)


def framed(octets: bytes) -> bytes:
    return struct.pack("!H", len(octets)) + octets


def first_message(query: bytes) -> bytes:
    return next(axfr_messages(version_of(5), query))


BEHAVIOURS: dict[str, Callable[[bytes], bytes]] = {
    "nothing at all": lambda query: b"",
    "garbage": lambda query: b"\xff" * 400,
    "no DNS message": lambda query: framed(b"hello"),
    "the query itself": framed,
    "another id": lambda query: framed(bytes((query[0] ^ 1,)) + first_message(query)[1:]),
    "a refusal": lambda query: framed(query[:2] + b"\x80\x05" + query[4:]),
    "no records": lambda query: framed(query[:2] + b"\x84\0" + query[4:]),
    "another zone": lambda query: framed(first_message(query).replace(b"customer", b"consumer")),
    "half a message": lambda query: framed(first_message(query))[:40],
    "half a transfer": lambda query: framed(next(axfr_messages(version_of(5, 99), query, 600))),
    "a broken record": lambda query: framed(first_message(query)[:-3]),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
async def test_a_primary_that_misbehaves_makes_a_clean_error(behaviour: str, key: TsigKey | None) -> None:
    network = MemoryNetwork()

    async def primary(raw: ByteStream) -> None:
        query = await MessageStream(raw).receive()
        verified = verify_message(query, KEYRING, SystemClock().now())
        octets = BEHAVIOURS[behaviour](query if verified is None else verified.octets)
        if octets:
            await raw.send(octets)
        await anyio.sleep_forever()

    async with accepting(network, primary):
        with pytest.raises((ExchangeError, TransferError, TsigError)):
            await transfer_in(
                network, ORIGIN, ("10.0.0.1", 53), key=key, clock=SystemClock(), random=Random(1), limits=FAST
            )


@asynccontextmanager
async def accepting(network: MemoryNetwork, converse: Callable[[ByteStream], Awaitable[None]]) -> AsyncIterator[None]:
    """A TCP server at 10.0.0.1, port 53."""
    listener = await network.listen_tcp("10.0.0.1", 53)

    async def conversation(stream: ByteStream) -> None:
        try:
            await converse(stream)
        except (anyio.EndOfStream, anyio.BrokenResourceError, ExchangeError):
            pass
        finally:
            await stream.aclose()

    async def accept() -> None:
        async with anyio.create_task_group() as conversations:
            while True:
                conversations.start_soon(conversation, await listener.accept())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
    await listener.aclose()


@asynccontextmanager
async def scripted(
    network: MemoryNetwork, answer: Callable[[bytes], list[bytes]], *, close: bool = False
) -> AsyncIterator[None]:
    """A primary that answers each query with the messages that *answer* makes."""

    async def converse(raw: ByteStream) -> None:
        stream = MessageStream(raw)
        while True:
            await stream.send(*answer(await stream.receive()))
            if close:
                break

    async with accepting(network, converse):
        yield


def soa_then_axfr(query: bytes) -> list[bytes]:
    if query[-3] == AXFR:
        return list(axfr_messages(version_of(5, 200), query, 600))
    soa = version_of(5).soa.rdatas[0]
    record = b"\xc0\x0c" + struct.pack("!HHIH", 6, 1, 60, len(soa)) + soa
    return [query[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + query[12:] + record]


@pytest.mark.parametrize("close", [False, True])
async def test_one_connection_serves_unless_the_primary_closes_it(close: bool) -> None:
    network = MemoryNetwork()
    async with scripted(network, soa_then_axfr, close=close):
        connection = PrimaryConnection(
            network, ORIGIN, ("10.0.0.1", 53), key=None, clock=SystemClock(), random=Random(1)
        )
        async with connection:
            assert await connection.soa_serial() == 5
            assert (await connection.transfer()).record_count == 201
        assert network.connections == (2 if close else 1)


@pytest.mark.parametrize("fault", ["none", "an altered record", "an unsigned end", "a missing message", "late"])
async def test_every_octet_of_a_signed_transfer_is_covered(fault: str) -> None:
    def answer(query: bytes) -> list[bytes]:
        now = SystemClock().now()
        verified = verify_message(query, KEYRING, now)
        assert verified is not None
        signer = TsigStream(KEY, verified.mac)
        plain = list(axfr_messages(version_of(5, 200), verified.octets, 1200, reserve=TSIG_RESERVE))
        signed = [signer.sign(message, now - (400 if fault == "late" else 0)) for message in plain]
        if fault == "an altered record":
            signed[2] = signed[2].replace(b"\xc0\0\2", b"\xc0\0\3", 1)
        elif fault == "an unsigned end":
            signed[-1] = plain[-1]
        elif fault == "a missing message":
            del signed[2]
        return signed

    network = MemoryNetwork()
    async with scripted(network, answer):

        async def transfer() -> ZoneVersion:
            where = ("10.0.0.1", 53)
            return await transfer_in(network, ORIGIN, where, key=KEY, clock=SystemClock(), random=Random(1))

        if fault == "none":
            assert (await transfer()).record_count == 201
        else:
            with pytest.raises(TsigError):
                await transfer()


async def test_a_whole_transfer_has_a_deadline() -> None:
    network = MemoryNetwork()

    async def slow(raw: ByteStream) -> None:
        stream = MessageStream(raw)
        query = await stream.receive()
        for message in axfr_messages(version_of(5, 2000), query, 600):
            await stream.send(message)
            await anyio.sleep(0.05)

    async with accepting(network, slow):
        with pytest.raises(ExchangeError, match="the transfer took more than"):
            await transfer_in(
                network, ORIGIN, ("10.0.0.1", 53), key=None, clock=SystemClock(), random=Random(1), limits=FAST
            )


# --- out -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(transfers: TransferServer, *, keyring: dict[bytes, TsigKey] = KEYRING) -> AsyncIterator[Address]:
    server = DnsServer(InternetNetwork(), [("127.0.0.1", 0)], keyring=keyring)
    server.register(transfers.handle, QUERY, AXFR)
    server.register(transfers.handle, QUERY, IXFR)
    async with anyio.create_task_group() as tasks:
        yield (await tasks.start(server.serve))[0]
        tasks.cancel_scope.cancel()


def axfr_with_dnspython(address: Address, key: dns.tsig.Key | None) -> dns.zone.Zone:
    zone = dns.zone.Zone("customer.example.", relativize=False)
    query, _ = dns.xfr.make_query(zone, keyring=key)
    dns.query.inbound_xfr(address[0], zone, query, port=address[1], timeout=5)
    return zone


DNSPYTHON_KEY = dns.tsig.Key("transfer.key.", KEY.secret, "hmac-sha256")


async def test_dnspython_takes_our_signed_transfer() -> None:
    version = version_of(5, 5000)
    transfers = TransferServer({ORIGIN: version}, Acl.of([("127.0.0.0/8", "transfer.key.")]))
    async with serving(transfers) as address:
        zone = await anyio.to_thread.run_sync(axfr_with_dnspython, address, DNSPYTHON_KEY)
        assert sum(len(rdataset) for _, rdataset in zone.iterate_rdatasets()) == version.record_count
        with pytest.raises(dns.xfr.TransferError, match="REFUSED"):
            await anyio.to_thread.run_sync(axfr_with_dnspython, address, None)
        wrong = dns.tsig.Key("transfer.key.", b"wrong" * 7, "hmac-sha256")
        with pytest.raises(dns.exception.DNSException):
            await anyio.to_thread.run_sync(axfr_with_dnspython, address, wrong)


async def rcode(address: Address, rdtype: str, name: str = "customer.example.", *, over_tcp: bool = True) -> str:
    query = dns.message.make_query(name, rdtype)
    answer = await exchange(InternetNetwork(), query.to_wire(), *address, over_tcp=over_tcp)
    return dns.rcode.to_text(dns.message.from_wire(answer, one_rr_per_rrset=True).rcode())


async def test_transfers_are_for_nobody_unless_permitted() -> None:
    zones = {ORIGIN: version_of(5)}
    async with serving(TransferServer(zones, Acl())) as address:
        assert await rcode(address, "AXFR") == "REFUSED"
    async with serving(TransferServer(zones, {})) as address:
        assert await rcode(address, "AXFR") == "REFUSED"
    async with serving(TransferServer({}, {ORIGIN: Acl.of([("127.0.0.1", None)])})) as address:
        assert await rcode(address, "AXFR") == "SERVFAIL"  # ours, and not loaded
        assert await rcode(address, "AXFR", "other.example.") == "NOTAUTH"
    async with serving(TransferServer(zones, Acl.of([("127.0.0.1", None)]))) as address:
        assert await rcode(address, "AXFR") == "NOERROR"
        assert await rcode(address, "AXFR", over_tcp=False) == "REFUSED"
    async with serving(TransferServer(zones, Acl.of([("127.0.0.1", None)]), max_concurrent=0)) as address:
        assert await rcode(address, "AXFR") == "REFUSED"


async def test_ixfr_is_answered_with_what_the_client_needs() -> None:
    async with serving(TransferServer({ORIGIN: version_of(5)}, Acl.of([("127.0.0.1", None)]))) as address:

        async def answers(serial: int, *, over_tcp: bool) -> int:
            query = dns.message.make_query("customer.example.", "IXFR")
            query.authority.append(dns.rrset.from_text("customer.example.", 0, "IN", "SOA", f". . {serial} 0 0 0 0"))
            octets = await exchange(InternetNetwork(), query.to_wire(), *address, over_tcp=over_tcp)
            return int.from_bytes(octets[6:8], "big")

        assert await answers(4, over_tcp=True) == 5  # SOA, three records, SOA
        assert await answers(5, over_tcp=True) == 1
        assert await answers(6, over_tcp=True) == 1
        assert await answers(4, over_tcp=False) == 1


async def test_a_transfer_is_of_one_version_whatever_happens_meanwhile() -> None:
    zones = {ORIGIN: version_of(5, 8000)}
    async with serving(TransferServer(zones, Acl.of([("127.0.0.1", None)]))) as address:
        stream = MessageStream(await InternetNetwork().connect_tcp(*address))
        await stream.send(dns.message.make_query("customer.example.", "AXFR").to_wire())
        first = await stream.receive()
        zones[ORIGIN] = version_of(6)
        count = int.from_bytes(first[6:8], "big")
        while count < 8002:
            count += int.from_bytes((last := await stream.receive())[6:8], "big")
        assert count == 8002
        assert last.endswith(version_of(5).soa.rdatas[0])
        await stream.aclose()


def test_errors_are_the_remote_side_s() -> None:
    assert issubclass(ExchangeError, RemoteError)
