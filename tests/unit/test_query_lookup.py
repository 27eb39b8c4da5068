"""The look-up facade against a scripted server: what is asked, what comes back, and how it is shown."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import dns.edns
import dns.flags
import dns.message
import dns.rrset
import pytest

from mpcore.errors import ExchangeError, TsigError
from mpcore.net.network import InternetNetwork
from mpcore.net.server import DnsServer, Request
from mpcore.query.asking import lookup
from mpcore.query.keyfiles import parse_tsig_keys
from mpcore.query.result import LookupResult, View
from mpcore.query.words import QueryError
from mpcore.records import CHUNK, HSYNC3, HSYNCPARAM, ChunkEndpointOption, ChunkOption

anyio_test = pytest.mark.anyio
Answer = Callable[[dns.message.Message, Request], dns.message.Message | None]


@asynccontextmanager
async def served(answer: Answer, **arguments: object) -> AsyncIterator[tuple[int, list[dns.message.Message]]]:
    """A server that answers as *answer* says; its port and what it was asked."""
    asked: list[dns.message.Message] = []

    async def handle(request: Request) -> bytes | None:
        query = dns.message.from_wire(request.octets)
        asked.append(query)
        response = answer(query, request)
        return None if response is None else response.to_wire(max_size=65535)

    async with anyio.create_task_group() as tasks:
        server = DnsServer(InternetNetwork(), [("127.0.0.1", 0)], **arguments)  # type: ignore[arg-type]
        server.register(handle, 0)
        bound = await tasks.start(server.serve)
        yield bound[0][1], asked
        tasks.cancel_scope.cancel()


def answering(*records: tuple[str, str, str], options: tuple[dns.edns.Option, ...] = ()) -> Answer:
    def answer(query: dns.message.Message, request: Request) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        response.answer = [dns.rrset.from_text(owner, 300, "IN", rdtype, rdata) for owner, rdtype, rdata in records]
        if options:
            response.use_edns(0, 0, 1232, options=list(options))
        return response

    return answer


async def ask(answer: Answer, name: str, rdtype: str | int = "A", **arguments: object) -> LookupResult:
    async with served(answer) as (port, _):
        return await lookup(name, rdtype, server="127.0.0.1", port=port, **arguments)  # type: ignore[arg-type]


@anyio_test
async def test_question_and_answer() -> None:
    async with served(answering(("www.example.", "A", "192.0.2.1"))) as (port, asked):
        result = await lookup("www.example", server="127.0.0.1", port=port)
        await lookup("www.example", "a", server="127.0.0.1", port=port, dnssec=True, recurse=False, transport="tcp")
        await lookup("www.example", 28, server="127.0.0.1", port=port, checking_disabled=True, rdclass="ch")
    assert result.rcode == "NOERROR"
    assert result.flags == ["qr", "aa", "rd"]
    assert result.to_text(View(short=True)) == "192.0.2.1"
    assert result.transport == "udp"
    assert [str(query.question[0]) for query in asked] == [
        "www.example. IN A",
        "www.example. IN A",
        "www.example. CH AAAA",
    ]
    assert [query.flags for query in asked] == [dns.flags.RD, 0, dns.flags.RD | dns.flags.CD]
    assert [bool(query.ednsflags & dns.flags.DO) for query in asked] == [False, True, False]


@anyio_test
async def test_the_text_is_laid_out_like_digs() -> None:
    result = await ask(answering(("www.example.", "A", "192.0.2.1")), "www.example.")
    lines = result.to_text().splitlines()
    assert lines[0] == f";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: {result.message.id}"
    assert lines[1] == ";; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1"
    assert ";; OPT PSEUDOSECTION:" in lines
    assert ";www.example. IN A" in lines
    assert lines[lines.index(";; ANSWER SECTION:") + 1] == "www.example. 300 IN A 192.0.2.1"
    assert f";; SERVER: 127.0.0.1#{result.port} (UDP)" in lines
    assert lines[-1] == f";; MSG SIZE  rcvd: {result.size}"


@anyio_test
async def test_private_types_are_read() -> None:
    hsync3 = HSYNC3.make("p1", "agent.p1.example.")
    params = HSYNCPARAM.make(nsmgmt="agent", parentsync="owner", signers=["p1"])
    chunk = CHUNK.make(0, 2, b'{"chunk_count":2}')
    result = await ask(
        answering(
            ("example.", "TYPE65285", hsync3.to_generic().to_text()),
            ("example.", "TYPE65286", params.to_generic().to_text()),
            ("example.", "TYPE65288", chunk.to_generic().to_text()),
        ),
        "example.",
        "HSYNC3",
    )
    assert ";example. IN HSYNC3" in result.to_text()
    assert f"example. 300 IN HSYNC3     {hsync3.to_text()} ; provider p1 takes part\n" in result.to_text()
    records = result.to_json()["answer"]
    assert [record["type"] for record in records] == ["HSYNC3", "HSYNCPARAM", "CHUNK"]
    assert records[0]["fields"] == {"state": "ON", "label": "p1", "identity": "agent.p1.example.", "upstream": ""}
    assert records[1]["fields"]["signers"] == ["p1"]
    assert records[1]["fields"]["nsmgmt"] == "agent"
    assert records[2]["fields"]["json"] == {"chunk_count": 2}


@anyio_test
async def test_options_of_peer_messages_are_read() -> None:
    options = (
        ChunkOption(1, b'{"Status":"ok"}'),
        ChunkOption(2, b"sealed"),
        ChunkEndpointOption("192.0.2.10:8998"),
        dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "bad\x1b[31m"),
    )
    result = await ask(answering(options=options), "example.", "CHUNK")
    text = result.to_text()
    assert '; CHUNK format=JSON data=15 octets: {"Status":"ok"}' in text
    assert "; CHUNK format=JWT data=6 octets, sealed\n" in text
    assert "; CHUNK-ENDPOINT 192.0.2.10:8998" in text
    assert "\x1b" not in text
    assert "[31m" in text, "the server's text is shown, and does not colour our terminal"
    shown = result.to_json()["edns"]["options"]
    assert [option["code"] for option in shown] == [65004, 65004, 65005, 15]
    assert shown[0]["json"] == {"Status": "ok"}
    assert shown[1] == {"code": 65004, "text": "CHUNK format=JWT data=6 octets, sealed", "name": "CHUNK"} | {
        "format": "JWT",
        "octets": 6,
        "sealed": True,
    }
    assert shown[2]["endpoint"] == "192.0.2.10:8998"
    assert (shown[3]["error"], shown[3]["error_name"]) == (6, "DNSSEC Bogus")
    json.dumps(result.to_json())


@anyio_test
async def test_keys_carry_their_tag() -> None:
    """The key of RFC 4034, section 5.4, whose tag that section gives."""
    key = (
        "256 3 5 AQOeiiR0GOMYkDshWoSKz9XzfwJr1AYtsmx3TGkJaNXVbfi/2pHm822aJ5iI9BMzNXxeYCmZDRD99WYwYqUSdjMmmAphXdvx"
        "egXd/M5+X7OrzKBaMbCVdFLUUh6DhweJBjEVv5f2wwjM9XzcnOf+EPbtG9DMBmADjFDc2w/rljwvFw=="
    )
    result = await ask(answering(("dskey.example.com.", "DNSKEY", key)), "dskey.example.com.", "DNSKEY")
    assert " ; ZSK, RSASHA1, key tag 60485" in result.to_text()


@anyio_test
async def test_a_truncated_answer_is_asked_for_over_tcp() -> None:
    def answer(query: dns.message.Message, request: Request) -> dns.message.Message:
        response = answering(("www.example.", "A", "192.0.2.1"))(query, request)
        assert response is not None
        if not request.over_tcp:
            response.answer = []
            response.flags |= dns.flags.TC
        return response

    result = await ask(answer, "www.example.")
    assert result.transport == "tcp"
    assert result.truncated_over_udp
    assert result.to_text(View(short=True)) == "192.0.2.1"
    assert "(TCP after a truncated answer over UDP)" in result.to_text()


@anyio_test
async def test_tsig() -> None:
    key = parse_tsig_keys(f"hmac-sha512:ops.example:{base64.b64encode(bytes(64)).decode()}", "key")[0]
    async with served(answering(("www.example.", "A", "192.0.2.1")), keyring={key.name: key}) as (port, _):
        result = await lookup("www.example.", server="127.0.0.1", port=port, tsig=key)
        assert ";; TSIG: verified with key ops.example." in result.to_text()
        other = parse_tsig_keys(f"ops.example:{base64.b64encode(bytes(32)).decode()}", "key")[0]
        with pytest.raises(TsigError, match="BADKEY"):
            await lookup("www.example.", server="127.0.0.1", port=port, tsig=other)


@anyio_test
async def test_no_answer_and_garbage() -> None:
    async with served(lambda query, request: None) as (port, _):
        with pytest.raises(ExchangeError, match=r"from 127.0.0.1 port \d+ over UDP within 0.05 s, asked 2 times"):
            await lookup("www.example.", server="127.0.0.1", port=port, timeout=0.05, retry=1)

    def garbage(query: dns.message.Message, request: Request) -> dns.message.Message:
        response = dns.message.make_response(query)
        rdata = dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.A, b"123")
        response.answer = [dns.rrset.from_rdata("www.example.", 1, rdata)]
        return response

    async with served(garbage) as (port, _):
        with pytest.raises(ExchangeError, match="does not parse"):
            await lookup("www.example.", server="127.0.0.1", port=port)


@anyio_test
@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "a..b"},
        {"rdtype": "AXFR"},
        {"rdtype": "IXFR"},
        {"rdtype": "NOSUCHTYPE"},
        {"rdtype": 70000},
        {"rdclass": "XX"},
        {"server": "ns.example."},
        {"port": 0},
        {"timeout": 0.0},
    ],
)
async def test_questions_that_cannot_be_asked(arguments: dict[str, object]) -> None:
    with pytest.raises(QueryError):
        await lookup(**{"name": "www.example.", "server": "127.0.0.1", "port": 53, **arguments})  # type: ignore[arg-type]


def test_importing_the_facade_loads_neither_screens_nor_the_dns_library() -> None:
    code = "import sys, mpcore.query.words, mpcore.query.layout\n"
    code += "print(sorted({'textual', 'dns', 'anyio', 'pydantic'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"
