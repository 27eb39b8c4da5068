"""A line of questions: what is understood, and that what is not is refused by its own word."""

from __future__ import annotations

import pytest

from mpcore.query.words import PLUS_WORDS, QueryError, Question, Server, parse_line, parse_server


@pytest.mark.parametrize(
    ("text", "host", "port", "transport"),
    [
        ("192.0.2.1", "192.0.2.1", None, None),
        ("@192.0.2.1:5300", "192.0.2.1", 5300, None),
        ("192.0.2.1#5300", "192.0.2.1", 5300, None),
        ("192.0.2.1@5300", "192.0.2.1", 5300, None),
        ("2001:DB8::1", "2001:db8::1", None, None),
        ("@[::1]:5353", "::1", 5353, None),
        ("2001:db8::1#5300", "2001:db8::1", 5300, None),
        ("ns.example.", "ns.example.", None, None),
        ("ns1.example:53", "ns1.example", 53, None),
        ("tls://192.0.2.1", "192.0.2.1", None, "tls"),
        ("tcp://[2001:db8::1]:53", "2001:db8::1", 53, "tcp"),
    ],
)
def test_servers(text: str, host: str, port: int | None, transport: str | None) -> None:
    assert parse_server(text) == Server(host, port, transport)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "192.0.2", "[192.0.2.1", "1.2.3.4:x", "ns..example", "a b",
     "[ns.example]", "h3://192.0.2.1", "2001:db8::g", "x" * 300],
)  # fmt: skip
def test_texts_that_are_no_servers(text: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_server(text)
    assert f"@{text}" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "questions"),
    [
        ("www.example", ["www.example A"]),
        ("mx example.", ["example. MX"]),
        ("example. a Aaaa other. TYPE65285", ["example. A", "example. AAAA", "other. HSYNC3"]),
        ("SOA a. b. NS", ["a. SOA", "b. NS"]),
        ("version.bind CH TXT", ["version.bind CH TXT"]),
        ("CLASS3 x. TYPE1234", ["x. CH TYPE1234"]),
        ("192.0.2.1 2001:db8::1 ANY", ["1.2.0.192.in-addr.arpa. PTR", f"1.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa. ANY"]),
        ("example. IXFR=4294967295", ["example. IXFR=4294967295"]),
        ("mx. A", ["mx. A"]),
    ],
)
def test_questions(line: str, questions: list[str]) -> None:
    assert [str(question) for question in parse_line(line.split()).questions] == questions


def test_options() -> None:
    found = parse_line(
        ["x.y", "+dnssec", "+nocookie", "+bufsize=4096", "+time=2.5", "+tries=1", "+noall", "+opcode=notify", "+SHORT"]
    )
    assert found.questions == (Question("x.y"),)
    assert found.settings == {
        "dnssec": True,
        "cookie": False,
        "bufsize": 4096,
        "timeout": 2.5,
        "tries": 1,
        "all": False,
        "opcode": "NOTIFY",
        "short": True,
    }
    assert all(each.help for each in PLUS_WORDS.values())


@pytest.mark.parametrize(
    ("line", "word", "hint"),
    [
        ("x. MXX", "MXX", "did you mean MX?"),
        ("x. HSYNC", "HSYNC", "did you mean HSYNC3?"),
        ("x. zzzzzz", "zzzzzz", "written zzzzzz."),
        ("x. TYPE65536", "TYPE65536", "TYPE65535"),
        ("x. CLASS65536", "CLASS65536", "CLASS65535"),
        ("x. CH HS", "HS", "second class"),
        ("x. IXFR", "IXFR", "serial"),
        ("x. IXFR=4294967296", "IXFR=4294967296", "serial"),
        ("a..b", "a..b", "not a name"),
        (f"{'a' * 64}.example", "a" * 64, "not a name"),
        ("x. @a @b", "@b", "second server"),
        ("x. +dnssc", "+dnssc", "did you mean +dnssec?"),
        ("x. +tcp=1", "+tcp=1", "no value"),
        ("x. +bufsize", "+bufsize", "wants a value"),
        ("x. +bufsize=511", "+bufsize=511", "between 512 and 65535"),
        ("x. +bufsize=1e3", "+bufsize=1e3", "not a number"),
        ("x. +time=nan", "+time=nan", "not between"),
        ("x. +nobufsize=5", "+nobufsize=5", "negated"),
        ("x. +cookie=abc", "+cookie=abc", "hexadecimal"),
        ("x. +subnet=300.0.0.0/8", "+subnet=300.0.0.0/8", "ADDRESS/LENGTH"),
        ("x. +opcode=STATUS", "+opcode=STATUS", "one of QUERY, NOTIFY, UPDATE"),
        ("+tcp", "query", "a name is missing"),
    ],
)
def test_each_error_names_its_word(line: str, word: str, hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_line(line.split())
    assert word in str(caught.value)
    assert hint in str(caught.value)


def test_reverse_wants_an_address() -> None:
    with pytest.raises(QueryError, match=r"-x www.example: not an address"):
        parse_line(["www.example"], reverse=True)
