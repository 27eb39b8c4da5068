"""The words of a question, in the order and spelling that people are used to from other tools.

A line asks one or more questions::

    [@SERVER] NAME [TYPE ...] [CLASS] [NAME [TYPE ...]] ... [+WORD ...]

A word is a server if it begins with ``@``, an option if it begins with ``+``, a type or class if there is one of that
name (``TYPE65285`` and ``CLASS3`` always are), and a name otherwise; a name that is spelled like a type is written with
its final dot.  Types belong to the name before them, those before the first name to every name without types of its
own.  An address instead of a name asks for the names of that address.

Nothing here loads the DNS library before a line is understood.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mpcore.errors import LocalError

__all__ = (
    "OPCODES",
    "PLUS_WORDS",
    "Line",
    "PlusWord",
    "QueryError",
    "Question",
    "Server",
    "parse_line",
    "parse_server",
    "parse_words",
    "reverse_name",
)

_MAX_QUESTIONS: Final = 100

OPCODES: Final = ("QUERY", "NOTIFY", "UPDATE")
"""What can be sent."""


class QueryError(LocalError, ValueError):
    """The question cannot be asked as it stands; the message names the word."""


# --- servers ---------------------------------------------------------------------------------------------------------

Transport = Literal["udp", "tcp", "tls"]

_SCHEMES: Final[Mapping[str, Transport | None]] = {
    "dns": None,
    "udp": "udp",
    "tcp": "tcp",
    "tls": "tls",
    "dot": "tls",
}
_SERVER = re.compile(
    r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?=[#@]|\Z)|[^#@:\[\]]+))"
    r"(?:[:#@](?P<port>[0-9]{1,5}))?"
)
_HOST = re.compile(
    r"(?=.{1,254}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z](?:[A-Za-z0-9-]{0,62})\.?"
)


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask."""

    host: str  #: numeric address or name
    port: int | None = None  #: 1 to 65535; ``None``: that of the transport
    transport: Transport | None = None  #: that its scheme names

    @property
    def is_address(self) -> bool:
        """Whether *host* is a numeric address, and not a name."""
        return _is_address(self.host)


def parse_server(text: str) -> Server:
    """A server as it is written: ``192.0.2.1``, ``[2001:db8::1]:5353``, ``ns.example.#5353``, ``tls://192.0.2.1``.

    A leading ``@`` is understood, and ``#`` or ``@`` before the port as well as ``:``.

    :raises QueryError: neither an address nor a name, a port outside 1 to 65535, or an unknown scheme.
    """
    given = text = text.removeprefix("@")
    transport: Transport | None = None
    if "://" in text:
        scheme, _, text = text.partition("://")
        if scheme.lower() not in _SCHEMES:
            raise QueryError(f"@{given}: {scheme}:// is not known; there are {', '.join(f'{s}://' for s in _SCHEMES)}")
        transport, text = _SCHEMES[scheme.lower()], text.rstrip("/")
    host, port = text, None
    if not _is_address(text):
        match = _SERVER.fullmatch(text)
        host = "" if match is None else match["bracketed"] or match["bare"]
        port = None if match is None or match["port"] is None else int(match["port"])
        bracketed = match is not None and match["bracketed"] is not None
        if not (_is_address(host) or (not bracketed and _HOST.fullmatch(host))):
            raise QueryError(f"@{given}: neither the address nor the name of a server, with or without a port")
    if port is not None and not 1 <= port <= 65535:
        raise QueryError(f"@{given}: port {port} is not between 1 and 65535")
    return Server(str(ipaddress.ip_address(host)) if _is_address(host) else host, port, transport)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def reverse_name(address: str) -> str:
    """The name under which the names of *address* are found (RFC 1035 section 3.5, RFC 3596 section 2.5).

    :raises QueryError: not an address.
    """
    try:
        return ipaddress.ip_address(address).reverse_pointer + "."
    except ValueError:
        raise QueryError(f"{address}: not an address, so it has no reverse name") from None


# --- options ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlusWord:
    """An option in the spelling of dig.

    :param setting: what it sets.
    :param kind: ``flag``: on, and off with ``no`` before it; ``value``: wants ``=VALUE``; ``either``: may have one.
    :param least: smallest number, and *most* the largest; ``None``: any text.
    """

    setting: str
    kind: Literal["flag", "value", "either"] = "flag"
    help: str = ""
    least: float | None = None
    most: float | None = None
    whole: bool = True


_BUFSIZE = PlusWord("bufsize", "value", "size of UDP answers that is offered, octets", 512, 65535)
_TIMEOUT = PlusWord("timeout", "value", "seconds for each attempt", 0.1, 600, whole=False)
_RECURSE = PlusWord("recurse", help="recursion desired")
_VALIDATE = PlusWord("validate", help="show the chain of trust")
_MULTI = PlusWord("multi", help="long records on several lines, their members explained")
_DNSSEC = PlusWord("dnssec", help="ask for signatures")
_AD = PlusWord("ad", help="ask whether it is authenticated")
_CD = PlusWord("cd", help="checking disabled")
_TCP = PlusWord("tcp", help="ask over TCP")
_TLS = PlusWord("tls", help="ask over TLS")
_SUBNET = PlusWord("subnet", "value", "client subnet (RFC 7871), ADDRESS/LENGTH")
_TTLUNITS = PlusWord("ttlunits", help="TTLs as 1d2h3m4s")

PLUS_WORDS: Final[Mapping[str, PlusWord]] = {
    "ad": _AD,
    "adflag": _AD,
    "additional": PlusWord("additional", help="the additional section"),
    "all": PlusWord("all", help="every part of the output"),
    "answer": PlusWord("answer", help="the answer section"),
    "authority": PlusWord("authority", help="the authority section"),
    "bufsize": _BUFSIZE,
    "cd": _CD,
    "cdflag": _CD,
    "comments": PlusWord("comments", help="header, options and headings"),
    "cookie": PlusWord("cookie", "either", "send a cookie (RFC 7873), or this one in hexadecimal digits"),
    "crypto": PlusWord("crypto", help="keys, digests and signatures; without them [omitted]"),
    "dnssec": _DNSSEC,
    "do": _DNSSEC,
    "edns": PlusWord("edns", help="EDNS"),
    "ignore": PlusWord("ignore", help="take a truncated answer as it is"),
    "json": PlusWord("json", help="the same as --output json"),
    "multi": _MULTI,
    "multiline": _MULTI,
    "nsid": PlusWord("nsid", help="ask for the server's identifier (RFC 5001)"),
    "opcode": PlusWord("opcode", "value", "QUERY, NOTIFY or UPDATE"),
    "padding": PlusWord("padding", "either", "pad to a multiple of so many octets (RFC 7830), 128", 1, 512),
    "qr": PlusWord("query_shown", help="show the query, too"),
    "question": PlusWord("question", help="the question section"),
    "rd": _RECURSE,
    "rdflag": _RECURSE,
    "rec": _RECURSE,
    "recurse": _RECURSE,
    "retry": PlusWord("retry", "value", "further attempts over UDP", 0, 20),
    "rrcomments": PlusWord("explain", help="what a record means, behind it"),
    "short": PlusWord("short", help="only the data of the answer"),
    "sigchase": _VALIDATE,
    "stats": PlusWord("stats", help="time, server, size"),
    "subnet": _SUBNET,
    "tcp": _TCP,
    "time": _TIMEOUT,
    "timeout": _TIMEOUT,
    "tls": _TLS,
    "trace": PlusWord("trace", help="walk down from the root"),
    "tries": PlusWord("tries", "value", "attempts over UDP", 1, 21),
    "ttlunits": _TTLUNITS,
    "validate": _VALIDATE,
    "vc": _TCP,
}
"""Options by the word behind ``+``."""


def _plus(word: str) -> dict[str, Any]:
    """What one ``+word`` sets."""
    name, equals, value = word[1:].partition("=")
    name = name.lower()
    known = PLUS_WORDS.get(name)
    negated = known is None and name.startswith("no") and name[2:] in PLUS_WORDS
    if negated:
        known = PLUS_WORDS[name[2:]]
    if known is None:
        close = difflib.get_close_matches(name, [*PLUS_WORDS, *(f"no{each}" for each in PLUS_WORDS)], 1)
        hint = f"; did you mean +{close[0]}?" if close else "; 'mpcockpit guide query' lists them"
        raise QueryError(f"{word}: no such option{hint}")
    if known.kind == "flag" or (negated and known.kind == "either"):
        if equals:
            raise QueryError(f"{word}: +{name} takes no value")
        return {known.setting: not negated}
    if negated:
        raise QueryError(f"{word}: +{name[2:]}=VALUE cannot be negated")
    if not equals and known.kind == "either":
        return {known.setting: True}
    if not value:
        raise QueryError(f"{word}: +{name} wants a value, +{name}=VALUE")
    return {known.setting: _value(word, known, value)}


def _value(word: str, known: PlusWord, value: str) -> Any:
    if known.least is not None and known.most is not None:
        try:
            number: float = int(value) if known.whole else float(value)
        except ValueError:
            raise QueryError(f"{word}: {value} is not a number") from None
        if not known.least <= number <= known.most:
            raise QueryError(f"{word}: {value} is not between {known.least:g} and {known.most:g}")
        return number
    if known.setting == "opcode":
        if value.upper() not in OPCODES:
            raise QueryError(f"{word}: {value} is not one of {', '.join(OPCODES)}")
        return value.upper()
    if known.setting == "cookie":
        if not re.fullmatch(r"(?:[0-9A-Fa-f]{2}){8}|(?:[0-9A-Fa-f]{2}){16,40}", value):
            raise QueryError(f"{word}: a cookie has 16, or 32 to 80 hexadecimal digits")
        return value.lower()
    if known.setting == "subnet":
        try:
            return str(ipaddress.ip_network(value, strict=False))
        except ValueError:
            raise QueryError(f"{word}: {value} is not ADDRESS/LENGTH") from None
    return value


# --- lines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    name: str  #: taken as absolute, with or without the final dot
    rdtype: str = "A"  #: mnemonic or ``TYPEnnn``
    rdclass: str = "IN"
    serial: int | None = None  #: for IXFR: of the version that is known

    def __str__(self) -> str:
        rdtype = self.rdtype if self.serial is None else f"{self.rdtype}={self.serial}"
        return f"{self.name} {'' if self.rdclass == 'IN' else f'{self.rdclass} '}{rdtype}"

    @property
    def is_transfer(self) -> bool:
        """Whether it asks for a zone (AXFR) or its changes (IXFR)."""
        return self.rdtype in ("AXFR", "IXFR")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was understood."""

    questions: tuple[Question, ...]
    server: Server | None  #: the one with ``@``
    settings: Mapping[str, Any] = field(default_factory=dict)  #: what the ``+`` words set


def parse_line(words: Sequence[str], *, reverse: bool = False) -> Line:
    """Understand a line of questions.

    :param reverse: ``-x`` was given: one of the words at least is an address.
    :raises QueryError: it is not understood; the message names the word.
    """
    rest, server, settings = parse_words(words)
    return Line(_questions(rest, reverse), server, settings)


def parse_words(words: Iterable[str]) -> tuple[list[str], Server | None, dict[str, Any]]:
    """Take servers and options out of a line: what is left, the server, what the options set.

    :raises QueryError: an option is not understood, or there are two servers.
    """
    rest: list[str] = []
    server: Server | None = None
    settings: dict[str, Any] = {}
    for word in words:
        if word.startswith("@"):
            if server is not None:
                raise QueryError(f"{word}: a second server; one line asks one server")
            server = parse_server(word)
        elif word.startswith("+"):
            settings |= _plus(word)
        else:
            rest.append(word)
    return rest, server, settings


class _Name:
    """A name and what was said about it."""

    def __init__(self, name: str, default: str) -> None:
        self.name, self.default = name, default
        self.types: list[tuple[str, int | None]] = []
        self.rdclass: str | None = None


def _questions(words: Sequence[str], reverse: bool) -> tuple[Question, ...]:
    everyone = _Name("", "A")
    names: list[_Name] = []
    for word in words:
        here = names[-1] if names else everyone
        rdtype = _type(word)
        rdclass = None if rdtype is not None else _class(word)
        if rdtype is not None:
            here.types.append(rdtype)
        elif rdclass is not None:
            if here.rdclass is not None:
                raise QueryError(f"{word}: a second class for {here.name or 'all names'}")
            here.rdclass = rdclass
        elif _is_address(word):
            names.append(_Name(reverse_name(word), "PTR"))
        else:
            names.append(_Name(_checked_name(word, first=not names), "A"))
    if not names:
        raise QueryError("a name is missing: query [@SERVER] NAME [TYPE]")
    if reverse and not any(each.default == "PTR" for each in names):
        raise QueryError(f"-x {names[0].name}: not an address, so it has no reverse name")
    found = tuple(
        Question(each.name, rdtype, each.rdclass or everyone.rdclass or "IN", serial)
        for each in names
        for rdtype, serial in each.types or everyone.types or [(each.default, None)]
    )
    if len(found) > _MAX_QUESTIONS:
        raise QueryError(f"{len(found)} questions on a line; {_MAX_QUESTIONS} are enough")
    return found


def _type(word: str) -> tuple[str, int | None] | None:
    """The type that *word* names, and the serial of ``IXFR=serial``; ``None``: it names none."""
    upper = word.upper()
    if upper == "IXFR" or upper.startswith("IXFR="):
        digits = upper[5:]
        if not (digits.isascii() and digits.isdigit()) or int(digits[:11]) > 0xFFFFFFFF:
            raise QueryError(f"{word}: an IXFR wants the serial you have, IXFR=2026010100")
        return "IXFR", int(digits)
    if not re.fullmatch(r"[A-Z][A-Z0-9-]*", upper) or upper == "NONE":
        return None
    number = re.fullmatch(r"TYPE([0-9]{1,6})", upper)
    if number is not None and int(number[1]) > 65535:
        raise QueryError(f"{word}: types end at TYPE65535")
    import dns.rdatatype

    import mpcore.records  # noqa: F401  (so that the private types have names)

    try:
        return dns.rdatatype.to_text(dns.rdatatype.from_text(upper)), None
    except (dns.rdatatype.UnknownRdatatype, ValueError):
        return None


def _class(word: str) -> str | None:
    upper = word.upper()
    number = re.fullmatch(r"CLASS([0-9]{1,6})", upper)
    if number is not None and int(number[1]) > 65535:
        raise QueryError(f"{word}: classes end at CLASS65535")
    if number is None and upper not in ("IN", "CH", "HS", "INTERNET", "CHAOS", "HESIOD"):
        return None
    import dns.rdataclass

    return dns.rdataclass.to_text(dns.rdataclass.from_text(upper))


def _checked_name(word: str, *, first: bool) -> str:
    """A word as a name; a lone label behind another name is more likely a type with a typing error."""
    import dns.exception
    import dns.name
    import dns.rdatatype

    if not word:
        raise QueryError("'': an empty word is no name")
    if not first and "." not in word:
        known = [name for name in dns.rdatatype.RdataType.__members__ if name != "NONE"]
        known += ["HSYNC3", "HSYNCPARAM", "CHUNK", "JWK"]
        close = difflib.get_close_matches(word.upper(), known, 1, 0.7)
        hint = f"did you mean {close[0]}?" if close else f"a name of one label is written {word}."
        raise QueryError(f"{word}: not a type; {hint}")
    try:
        dns.name.from_text(word, dns.name.root)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise QueryError(f"{word}: not a name: {error or type(error).__name__}") from None
    return word
