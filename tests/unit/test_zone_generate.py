"""The directive ``$GENERATE``; the expected names were checked with named-compilezone, see tests/peers too."""

from __future__ import annotations

import pytest

from mpcore.errors import MasterFileError, RecordError
from mpcore.zone import generate, owners
from mpcore.zone.generate import Template, parse_range, unquoted
from mpcore.zone.masterfile import read_master_text, write_master_lines

HEAD = "@ 3600 SOA ns1 host 7 3600 600 86400 300\n"


def made(text: str) -> list[str]:
    zone = read_master_text(HEAD + text, "example.")
    return [line.replace("\t", " ").replace(".example.", "") for line in write_master_lines(zone)][1:]


@pytest.mark.parametrize(
    ("template", "counter", "expected"),
    [
        ("$", 7, "7"),
        ("a$b$", 7, "a7b7"),
        ("${0}", 7, "7"),
        ("${-8}", 7, "-1"),
        ("${-8}$", 7, "-1-1"),
        ("${3,4}", 7, "0010"),
        ("${-20,4,d}", 10, "-010"),
        ("${0,4,x}${0,0,X}", 171, "00abAB"),
        ("${0,3,o}", 8, "010"),
        ("${-5,3,x}", 1, "fffffffc"),
        ("${0,7,n}", 1, "1.0.0.0"),
        ("${0,8,n}", 1, "1.0.0.0."),
        ("${0,0,n}", 256, "0.0.1"),
        ("${0,3,N}", 254, "E.F"),
        ("${0,4,n}", 254, "e.f."),
        ("${-5,0,n}", 1, "c.f.f.f.f.f.f.f"),
        ("$$ \\$ \\065$", 1, "$ \\$ \\0651"),
    ],
)
def test_templates_are_filled(template: str, counter: int, expected: str) -> None:
    assert Template(template).fill(counter) == expected


@pytest.mark.parametrize(
    "template", ["${", "${}", "${x}", "${1,2", "${1,2,q}", "${1,2,d,3}", "${1,128}", "a\\", "${1 }"]
)
def test_faulty_templates_are_refused(template: str) -> None:
    with pytest.raises(RecordError, match="GENERATE"):
        Template(template)


def test_numbers_have_32_bits() -> None:
    assert Template("${-2147483648}").fill(0) == "-2147483648"
    for template, counter in (("${1}", 0x7FFFFFFF), ("${-2147483649}", 0)):
        with pytest.raises(RecordError, match="out of range"):
            Template(template).fill(counter)


def test_ranges() -> None:
    assert list(parse_range("0-0")) == [0]
    assert list(parse_range("1-10/4")) == [1, 5, 9]
    assert len(parse_range(f"1-{generate.MAX_GENERATED}")) == generate.MAX_GENERATED
    for text in ("5-1", "1-5/0", "-1-2", "1-", "1", "1-2x", "1-2/", "+1-2", "0-2147483648", "1-2/2147483648"):
        with pytest.raises(RecordError, match="not a range"):
            parse_range(text)
    with pytest.raises(RecordError, match="more than"):
        parse_range(f"0-{generate.MAX_GENERATED}")


def test_rdata_of_several_words_stands_in_quotes() -> None:
    assert unquoted(" word ") == "word"
    assert unquoted('"10 mail$"') == "10 mail$"
    assert unquoted(r'"\"a b\" c$ \$"') == r'"a b" c$ \$'
    for text in ("10 mail$", "", '"a" "b"'):
        with pytest.raises(RecordError, match="one word"):
            unquoted(text)


def test_records_are_made() -> None:
    assert made("$TTL 60\n$GENERATE 1-3/2 host$ A 192.0.2.$ ; why\n") == [
        "host1 60 IN A 192.0.2.1",
        "host3 60 IN A 192.0.2.3",
    ]
    assert made('$generate 1-1 m$ IN 77 mx "10 mail$"\n') == ["m1 77 IN MX 10 mail1"]
    assert made("$GENERATE 0-0 a$ 1h IN TXT (\n x$ )\n") == ['a0 3600 IN TXT "x0"']
    assert made('$GENERATE 1-1 t$ 5 TXT "\\"a; b\\" c$"\n') == ['t1 5 IN TXT "a; b" "c1"']
    assert made('$GENERATE 1-1 t$ 5 TYPE65400 "\\# 1 0$"\n') == ["t1 5 IN TYPE65400 \\# 1 01"]
    assert made("$GENERATE 1-2 @ 5 A 10.0.0.$\n") == ["example. 5 IN A 10.0.0.1", "example. 5 IN A 10.0.0.2"]


def test_owner_and_ttl_around_it() -> None:
    text = "p 60 A 192.0.2.1\n$GENERATE 1-1 x$ 99 A 192.0.2.2\n A 192.0.2.3\n"
    # The owner before it stays; the last TTL is that of the directive.
    assert made(text) == ["p 60 IN A 192.0.2.1", "p 60 IN A 192.0.2.3", "x1 99 IN A 192.0.2.2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$GENERATE 1-2 a$ A", "one word"),
        ("$GENERATE 1-2", "needs a range"),
        ("$GENERATE 1-2 a$ 60 IN", "before its type"),
        ("$GENERATE 2-1 a$ 60 A 192.0.2.$", "not a range"),
        ("$GENERATE 1-2 a$ 60 NOTYPE x", "not a record type"),
        ("$GENERATE 1-2 a$ 60 CH A 192.0.2.1", "class CH"),
        ("$GENERATE 255-256 a$ 60 A 192.0.2.$", "not an address"),
        ("$GENERATE 1-2 a$.other. 60 A 192.0.2.$", "not in example."),
        ("$GENERATE 0-1000000 a$ 60 A 192.0.2.1", "1000001 records, more than 1000000"),
        ('$GENERATE 1-2 a$ 60 MX "10 (a"', "not closed"),
    ],
)
def test_faults_name_file_and_line(text: str, reason: str) -> None:
    with pytest.raises(MasterFileError, match=reason) as caught:
        read_master_text(HEAD + "\n" + text + "\n", "example.", file="here")
    assert (caught.value.file, caught.value.line) == ("here", 3)


def test_all_directives_of_a_reading_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "MAX_GENERATED", 5)
    text = "$GENERATE 1-3 a$ 60 A 192.0.2.$\n"
    assert read_master_text(HEAD + text, "example.").get(owners.from_text("a3.example."), 1) is not None
    with pytest.raises(MasterFileError, match="make more than 5") as caught:
        read_master_text(HEAD + text * 2, "example.")
    assert caught.value.line == 3
