"""The client: what counts as an answer, and what an error is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcore.errors import ExchangeError, TsigError
from mpcore.net.client import exchange, is_answer_to
from mpcore.net.clock import SystemClock
from mpcore.net.framing import MessageStream
from mpcore.net.messages import (
    empty_reply,
    make_query,
    question_end,
    read_soa,
    requested_payload,
    truncated_reply,
)
from mpcore.net.network import Address, InternetNetwork
from mpcore.net.server import Request, _parse
from mpcore.net.signed import signed_exchange
from mpcore.zone.owners import from_text
from mpcore.zone.tsig import TsigKey, error_response, sign_message, verify_message
from tests.unit.memory_network import MemoryNetwork

pytestmark = pytest.mark.anyio

NETWORK = InternetNetwork()
QUERY = make_query(0x1234, from_text("www.example."), 1)
KEY = TsigKey(from_text("k."), "hmac-sha256", bytes(32))


def spoiled(answer: bytes, position: int) -> bytes:
    return answer[:position] + bytes((answer[position] ^ 1,)) + answer[position + 1 :]


@asynccontextmanager
async def udp_server(answers: Callable[[bytes], list[bytes]]) -> AsyncIterator[Address]:
    socket = await NETWORK.bind_udp("127.0.0.1", 0)

    async def serve() -> None:
        while True:
            octets, source = await socket.receive()
            for answer in answers(octets):
                await socket.send(answer, source)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield socket.address
        tasks.cancel_scope.cancel()
    await socket.aclose()


async def test_forged_answers_are_ignored_and_the_right_one_is_taken() -> None:
    right = empty_reply(QUERY, 0)

    def answers(query: bytes) -> list[bytes]:
        forged = [b"", b"\xff" * 20, query, spoiled(right, 0), spoiled(right, 14), spoiled(right, len(right) - 3)]
        return [*forged, right]

    async with udp_server(answers) as address:
        stranger = await NETWORK.bind_udp("127.0.0.1", 0)
        assert await exchange(NETWORK, QUERY, *address, timeout=5) == right
        await stranger.aclose()


async def test_an_answer_from_elsewhere_is_ignored() -> None:
    network = MemoryNetwork()
    asked, stranger = await network.bind_udp("10.0.0.2", 53), await network.bind_udp("10.0.0.66", 53)

    async def answer_from_elsewhere() -> None:
        octets, source = await asked.receive()
        await stranger.send(empty_reply(octets, 0), source)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer_from_elsewhere)
        with pytest.raises(ExchangeError, match="no answer from"):
            await exchange(network, QUERY, "10.0.0.2", timeout=0.1)
    assert len(network.datagrams) == 2
    await asked.aclose()
    await stranger.aclose()


async def test_refusals_say_why() -> None:
    with pytest.raises(ExchangeError, match="Connection refused"):
        await exchange(NETWORK, QUERY, "127.0.0.1", 1, over_tcp=True)
    with pytest.raises(ExchangeError, match=r"not a numeric IP address|Cannot assign requested address"):
        await exchange(NETWORK, QUERY, "localhost", 1, over_tcp=True)
    with pytest.raises(ExchangeError):
        await exchange(NETWORK, QUERY, "127.0.0.1", 1, over_tcp=True, local_host="::1")
    with pytest.raises(ValueError, match="65535"):
        await exchange(NETWORK, bytes(65536), "127.0.0.1", 1)


@pytest.mark.parametrize("octets", [b"", b"\0", b"\0\5abc", b"\0\0", b"\0\5hello"])
async def test_a_server_that_closes_or_talks_nonsense_over_tcp_is_an_error(octets: bytes) -> None:
    listener = await NETWORK.listen_tcp("127.0.0.1", 0)

    async def serve() -> None:
        stream = await listener.accept()
        if octets:
            await stream.send(octets)
        await MessageStream(stream).receive()
        await stream.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with pytest.raises(ExchangeError):
            await exchange(NETWORK, QUERY, *listener.address, over_tcp=True, timeout=5)
    await listener.aclose()


async def test_a_signed_exchange_takes_only_signed_answers() -> None:
    clock = SystemClock()

    def right(octets: bytes) -> list[bytes]:
        verified = verify_message(octets, {KEY.name: KEY}, clock.now())
        assert verified is not None
        return [sign_message(empty_reply(verified.octets, 0), KEY, clock.now(), request_mac=verified.mac)[0]]

    async with udp_server(right) as address:
        answer = await signed_exchange(NETWORK, QUERY, *address, key=KEY, clock=clock)
        assert answer == empty_reply(QUERY, 0)

    def refused(octets: bytes) -> list[bytes]:
        return [error_response(octets, TsigError("no", error=17), {}, clock.now())]

    for answers, words in (
        (lambda octets: [empty_reply(octets, 0)], "without a TSIG"),
        (lambda octets: [spoiled(right(octets)[0], 3)], "does not verify"),
        (refused, "BADKEY"),
    ):
        async with udp_server(answers) as address:
            with pytest.raises(TsigError, match=words):
                await signed_exchange(NETWORK, QUERY, *address, key=KEY, clock=clock)


def test_an_answer_has_the_id_the_opcode_and_the_question_of_the_query() -> None:
    right = empty_reply(QUERY, 3)
    assert is_answer_to(right, QUERY)
    assert is_answer_to(right.replace(b"www", b"WwW"), QUERY)
    assert is_answer_to(empty_reply(QUERY, 1, question=False), QUERY)
    assert not is_answer_to(empty_reply(QUERY, 0, question=False), QUERY)
    assert not is_answer_to(QUERY, QUERY)
    assert not is_answer_to(right[:11], QUERY)
    assert not is_answer_to(right[:2] + b"\xa0" + right[3:], QUERY)


@given(octets=st.binary(max_size=300))
def test_no_octets_break_a_reader(octets: bytes) -> None:
    question_end(octets)
    requested_payload(octets.ljust(12, b"\0"))
    is_answer_to(octets, QUERY)
    is_answer_to(QUERY, octets)
    with suppress(ExchangeError):
        read_soa(octets)
    parsed = _parse(octets, ("192.0.2.1", 53), False)
    if isinstance(parsed, bytes):
        assert parsed[:2] == octets[:2]
        assert len(parsed) <= len(octets)  # no amplification
        assert dns.message.from_wire(parsed).rcode()
    elif isinstance(parsed, Request):
        reply = empty_reply(octets, 5)
        assert len(reply) <= len(octets)
        assert len(truncated_reply(reply)) == len(reply)


@given(
    position=st.integers(min_value=0, max_value=200), octet=st.integers(min_value=0, max_value=255), cut=st.booleans()
)
def test_no_mutation_of_an_soa_answer_breaks_the_reader(position: int, octet: int, cut: bool) -> None:
    message = dns.message.make_response(dns.message.make_query("example.", "SOA", payload=1232))
    message.answer.append(dns.rrset.from_text("example.", 1, "IN", "SOA", "ns.example. hm.example. 77 1 1 1 1"))
    octets = bytearray(message.to_wire())
    assert read_soa(bytes(octets)) == 77
    position %= len(octets)
    octets[position] = octet
    try:
        serial = read_soa(bytes(octets[:position] if cut else octets))
    except ExchangeError:
        pass
    else:
        assert serial is None or 0 <= serial < 1 << 32


@pytest.mark.parametrize("payload", [512, 1232, 4096])
def test_the_payload_a_client_takes_is_read_from_its_opt(payload: int) -> None:
    query = dns.message.make_query("example.", "A", payload=payload)
    assert requested_payload(query.to_wire()) == payload
    assert requested_payload(QUERY) == 512
