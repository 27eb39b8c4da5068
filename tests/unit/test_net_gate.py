"""Response rates and what passes them: limits by network and meaning, cookies, BADCOOKIE."""

from __future__ import annotations

import socket

import anyio
import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from mpcore.net.cookies import ServerCookies
from mpcore.net.gate import ResponseGate
from mpcore.net.network import InternetNetwork
from mpcore.net.rrl import ResponseLimiter, Verdict, network_of
from mpcore.net.server import DnsServer, ServerLimits
from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_text

SECRET = bytes(range(16))
NOW = 1_700_000_000.0
ZONE = read_master_text(
    """
@   60 SOA ns1 host 1 2 3 4 5
@   60 NS ns1
ns1 60 A 192.0.2.1
www 60 A 192.0.2.2
cut 60 NS ns.elsewhere.test.
big 60 TXT """
    + " ".join(f'"{"x" * 200}{number}"' for number in range(5)),
    "example.",
)
RESPONDER = Responder({ZONE.origin: ZONE})
HOST = "192.0.2.77"


def ask(name: str, rdtype: str = "A", cookie: bytes | None = None, **options: object) -> bytes:
    extra = [] if cookie is None else [dns.edns.GenericOption(10, cookie)]
    return dns.message.make_query(name, rdtype, use_edns=0, options=extra, **options).to_wire()  # type: ignore[arg-type]


def answer(query: bytes) -> bytes:
    return RESPONDER.respond(query, over_tcp=False)


def verdicts(limiter: ResponseLimiter, count: int, name: str = "www.example.", host: str = HOST) -> list[Verdict]:
    response = answer(ask(name))
    return [limiter.judge(host, response, NOW) for _ in range(count)]


def test_a_burst_then_every_second_truncated() -> None:
    got = verdicts(ResponseLimiter(10), 26)
    assert got[:20] == [Verdict.SEND] * 20
    assert got[20:] == [Verdict.DROP, Verdict.SLIP] * 3
    assert Verdict.SLIP not in verdicts(ResponseLimiter(10, slip=0), 40)
    assert Verdict.DROP not in verdicts(ResponseLimiter(10, slip=1), 40)


def test_the_rate_is_held_over_time() -> None:
    limiter = ResponseLimiter(10)
    response = answer(ask("www.example."))
    sent = sum(limiter.judge(HOST, response, NOW + tick / 100) is Verdict.SEND for tick in range(1000))
    assert 110 <= sent <= 121  # 20 at once and 10 a second for 10 seconds
    assert limiter.judge(HOST, response, NOW - 1000) in (Verdict.SEND, Verdict.SLIP, Verdict.DROP)


def test_meanings_are_counted_apart_and_denials_of_a_zone_together() -> None:
    limiter = ResponseLimiter(1, burst=3, slip=0)
    assert verdicts(limiter, 4)[-1] is Verdict.DROP
    assert verdicts(limiter, 1, "ns1.example.") == [Verdict.SEND]
    assert verdicts(limiter, 1, "wWw.eXample.") == [Verdict.DROP]
    names = [verdicts(limiter, 1, f"random{number}.example.")[0] for number in range(6)]
    assert names == [Verdict.SEND] * 3 + [Verdict.DROP] * 3
    referrals = [verdicts(limiter, 1, f"random{number}.cut.example.")[0] for number in range(6)]
    assert referrals == [Verdict.SEND] * 3 + [Verdict.DROP] * 3
    refusals = [verdicts(limiter, 1, f"random{number}.test.")[0] for number in range(6)]
    assert refusals == [Verdict.SEND] * 3 + [Verdict.DROP] * 3


def test_networks_are_counted_apart() -> None:
    limiter = ResponseLimiter(1, burst=1, slip=0)
    assert verdicts(limiter, 1, host="192.0.2.1") == [Verdict.SEND]
    assert verdicts(limiter, 1, host="192.0.2.200") == [Verdict.DROP]
    assert verdicts(limiter, 1, host="192.0.3.1") == [Verdict.SEND]
    assert network_of("2001:db8::1") == network_of("2001:db8:0:ff::1") != network_of("2001:db8:0:100::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.9")
    assert network_of("127.0.0.5") == network_of("::1") == b""
    assert verdicts(limiter, 100, host="127.0.0.1") == [Verdict.SEND] * 100


def test_memory_is_bounded() -> None:
    limiter = ResponseLimiter(1, max_buckets=100)
    response = answer(ask("www.example."))
    for number in range(1000):
        limiter.judge(f"10.{number // 250}.{number % 250}.1", response, NOW)
    assert len(limiter) == 100


def gate(rate: float = 1.0, slip: int = 2) -> ResponseGate:
    return ResponseGate(ServerCookies([SECRET]), ResponseLimiter(rate, burst=1, slip=slip), 1232)


def passed(
    gate_: ResponseGate, query: bytes, *, over_tcp: bool = False, host: str = HOST
) -> dns.message.Message | None:
    response = RESPONDER.respond(query, over_tcp=over_tcp)
    octets = gate_.respond(query, host, response, NOW, over_tcp=over_tcp) if gate_.holds(query, host) else response
    return None if octets is None else dns.message.from_wire(octets)


def cookie_of(message: dns.message.Message) -> bytes:
    (option,) = (option for option in message.options if option.otype == 10)
    return bytes(option.to_wire() or b"")


def test_a_client_cookie_gets_a_server_cookie_and_with_it_passes_any_rate() -> None:
    limited = gate()
    first = passed(limited, ask("www.example.", cookie=b"clientck"))
    assert first is not None
    assert first.answer
    cookie = cookie_of(first)
    assert len(cookie) == 24
    for _ in range(50):
        again = passed(limited, ask("www.example.", cookie=cookie))
        assert again is not None
        assert again.answer
        assert cookie_of(again) == cookie


def test_above_the_rate_a_client_cookie_gets_badcookie() -> None:
    limited = gate()
    passed(limited, ask("www.example.", cookie=b"clientck"))
    query = ask("www.example.", cookie=b"clientck")
    refused = passed(limited, query)
    assert refused is not None
    assert refused.rcode() == dns.rcode.BADCOOKIE
    assert not refused.answer
    assert refused.question[0].name.to_text() == "www.example."
    assert len(refused.to_wire()) <= len(query) + 16
    accepted = passed(limited, ask("www.example.", cookie=cookie_of(refused)))
    assert accepted is not None
    assert accepted.answer


def test_above_the_rate_without_a_cookie_nothing_or_a_truncated_answer() -> None:
    limited = gate()
    assert passed(limited, ask("www.example.")) is not None
    assert passed(limited, ask("www.example.")) is None
    slipped = passed(limited, ask("www.example."))
    assert slipped is not None
    assert slipped.flags & dns.flags.TC
    assert not slipped.answer
    assert slipped.edns == 0
    assert passed(limited, ask("www.example."), over_tcp=True) is not None


def test_a_malformed_cookie_is_a_format_error() -> None:
    refused = passed(gate(), ask("www.example.", cookie=b"short"))
    assert refused is not None
    assert refused.rcode() == dns.rcode.FORMERR


def test_the_cookie_counts_for_the_size() -> None:
    unlimited = ResponseGate(ServerCookies([SECRET]), None, 1232)
    size = len(answer(ask("big.example.", "TXT", payload=1232)))
    for payload, whole in ((size + 28, True), (size + 27, False)):
        message = passed(unlimited, ask("big.example.", "TXT", b"clientck", payload=payload))
        assert message is not None
        assert bool(message.answer) is whole
        assert bool(message.flags & dns.flags.TC) is not whole
        assert len(cookie_of(message)) == 24
        assert len(message.to_wire(max_size=65535)) <= payload


def test_other_options_stay() -> None:
    message = passed(gate(100), ask("other.test.", cookie=b"clientck"))
    assert message is not None
    assert {int(option.otype) for option in message.options} == {10, 15}
    assert message.rcode() == dns.rcode.REFUSED


def test_a_plain_query_of_loopback_is_not_looked_at() -> None:
    query = ask("www.example.")
    assert not gate().holds(query, "127.0.0.1")
    assert gate().holds(query, HOST)
    assert not ResponseGate(None, None, 1232).holds(ask("www.example.", cookie=b"clientck"), HOST)


@pytest.mark.anyio
async def test_a_server_with_cookies(anyio_backend: object) -> None:
    """Over UDP and TCP, with a question and without (RFC 7873, section 5.4)."""
    server = DnsServer(InternetNetwork(), [("127.0.0.1", 0)], cookies=ServerCookies([SECRET]), limits=ServerLimits())
    server.register_query(lambda octets, source, over_tcp: RESPONDER.respond(octets, over_tcp=over_tcp))
    async with anyio.create_task_group() as tasks:
        ((host, port),) = await tasks.start(server.serve)

        def exchange(query: dns.message.Message, *, over_tcp: bool) -> dns.message.Message:
            ask = dns.query.tcp if over_tcp else dns.query.udp
            return ask(query, host, port=port, timeout=10)

        for over_tcp in (False, True):
            option = dns.edns.GenericOption(10, b"clientck")
            query = dns.message.make_query("www.example.", "A", use_edns=0, options=[option])
            message = await anyio.to_thread.run_sync(lambda q=query, t=over_tcp: exchange(q, over_tcp=t))
            assert message.answer
            assert cookie_of(message)[:8] == b"clientck"
            assert len(cookie_of(message)) == 24
        bare = b"\x12\x34\0\0\0\0\0\0\0\0\0\1" + b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08clientck"

        def raw() -> bytes:
            with socket.socket(type=socket.SOCK_DGRAM) as udp:
                udp.settimeout(10)
                udp.sendto(bare, (host, port))
                return udp.recv(512)

        message = dns.message.from_wire(await anyio.to_thread.run_sync(raw))
        assert message.rcode() == dns.rcode.NOERROR
        assert not message.question
        assert len(cookie_of(message)) == 24
        tasks.cancel_scope.cancel()
