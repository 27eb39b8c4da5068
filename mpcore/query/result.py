"""An answer: what came back and how it was got, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mpcore.query.explain import (
    RCODES,
    fields,
    meaning,
    members,
    option_json,
    option_text,
    rdata_text,
)
from mpcore.query.layout import StyledLine, aligned, comment, line, plain, printable
from mpcore.query.words import Transport

__all__ = ("LookupResult", "View", "message_json", "message_lines", "record_json", "record_lines", "ttl_text")

_SECTIONS: Final = ("answer", "authority", "additional")
_UPDATE_SECTIONS: Final = ("zone", "prerequisite", "update", "additional")
_OWNER_WIDTH: Final = 40
_DATA_WIDTH: Final = 60


@dataclass(frozen=True, slots=True)
class View:
    """What of an answer is shown as text, and how."""

    short: bool = False  #: only the data of the answer
    multi: bool = False  #: long records on several lines, their members explained
    explain: bool = True  #: what a record means, behind it
    crypto: bool = True  #: keys, digests and signatures
    ttl_units: bool = False  #: TTLs as ``1h``
    comments: bool = True  #: header, options, headings
    stats: bool = True  #: time, server, size
    question: bool = True
    answer: bool = True
    authority: bool = True
    additional: bool = True


@dataclass(frozen=True, slots=True)
class LookupResult:
    """An answer, and how it was got.

    All texts are safe to print on a terminal: control characters are escaped.
    """

    server: str  #: numeric address
    port: int
    transport: Transport  #: over which the answer came
    asked_at: float  #: Unix seconds
    elapsed: float  #: seconds
    size: int  #: octets of the answer
    message: dns.message.Message = field(repr=False)
    query: dns.message.Message | None = field(default=None, repr=False)
    key: str | None = None  #: name of the TSIG key that signed query and answer
    truncated_over_udp: bool = False  #: asked again over TCP for that reason
    authenticated_by: str = ""  #: over TLS: what the server is known by; empty: nothing
    pin: str | None = None  #: over TLS: SHA-256 of the server's public key in base64

    @property
    def rcode(self) -> str:
        """Response code as text, ``NOERROR`` for example."""
        return dns.rcode.to_text(self.message.rcode())

    @property
    def flags(self) -> list[str]:
        """Header flags that are set, in lower case."""
        return dns.flags.to_text(self.message.flags).lower().split()

    @property
    def transport_words(self) -> str:
        """How the answer came: ``UDP``; ``TLS, not authenticated``."""
        words = self.transport.upper()
        if self.transport == "tls":
            known = f"authenticated: {self.authenticated_by}" if self.authenticated_by else "NOT AUTHENTICATED"
            return f"{words}, {known}"
        return words + (" after a truncated answer over UDP" if self.truncated_over_udp else "")

    def lines(self, view: View = View()) -> list[StyledLine]:
        """Everything that *view* asks for, laid out like the output of ``dig``."""
        if view.short:
            shown = [rdata for rrset in self.message.answer for rdata in rrset]
            return [line(rdata_text(rdata, crypto=view.crypto)) for rdata in shown]
        lines = message_lines(self.message, view, self.asked_at, self._sent_cookie)
        if view.stats:
            if lines:
                lines.append(line())
            lines += self._stats()
        return lines

    def to_text(self, view: View = View()) -> str:
        """The same without styles."""
        return plain(self.lines(view))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data: strings, numbers, lists and dictionaries (guide, query, "JSON")."""
        return {
            "server": self.server,
            "port": self.port,
            "transport": self.transport,
            "authenticated_by": self.authenticated_by or None,
            "pin": self.pin,
            "truncated_over_udp": self.truncated_over_udp,
            "asked_at": round(self.asked_at, 3),
            "elapsed": round(self.elapsed, 6),
            "size": self.size,
            "tsig_key": self.key,
            **message_json(self.message, self.asked_at),
        }

    @property
    def _sent_cookie(self) -> bytes | None:
        options = () if self.query is None else self.query.options
        return next((option.client for option in options if isinstance(option, dns.edns.CookieOption)), None)

    def _stats(self) -> list[StyledLine]:
        lines = [
            comment(f"Query time: {self.elapsed * 1000:.0f} msec"),
            comment(
                f"SERVER: {self.server}#{self.port} ({self.transport_words})",
                "warning" if self.transport == "tls" and not self.authenticated_by else "comment",
            ),
        ]
        if self.pin is not None:
            lines.append(comment(f"TLS: key of the server {self.pin}"))
        if self.key is not None:
            lines.append(comment(f"TSIG: verified with key {printable(self.key)}", "good"))
        lines.append(comment(f"MSG SIZE  rcvd: {self.size}"))
        return lines


def _sections(message: dns.message.Message) -> list[tuple[str, list[dns.rrset.RRset]]]:
    names = _UPDATE_SECTIONS[1:] if message.opcode() == dns.opcode.UPDATE else _SECTIONS
    return list(zip(names, message.sections[1:], strict=True))


# --- text ------------------------------------------------------------------------------------------------------------


def message_lines(
    message: dns.message.Message,
    view: View,
    now: float,
    sent_cookie: bytes | None = None,
    heading: Sequence[StyledLine] | None = None,
) -> list[StyledLine]:
    """A message, laid out like the output of ``dig``.

    :param now: Unix seconds, for the validity of signatures.
    :param sent_cookie: the client cookie of the query.
    :param heading: instead of header and options.
    """
    blocks: list[list[StyledLine]] = []
    if view.comments:
        blocks.append(_header_lines(message) if heading is None else list(heading))
        if message.edns >= 0 and heading is None:
            blocks.append(_edns_lines(message, sent_cookie))
    if view.question and view.comments:
        titles = _UPDATE_SECTIONS if message.opcode() == dns.opcode.UPDATE else ("question",)
        rows = [
            [
                ("comment", f";{printable(rrset.name.to_text())}"),
                ("comment", dns.rdataclass.to_text(rrset.rdclass)),
                ("comment", dns.rdatatype.to_text(rrset.rdtype)),
            ]
            for rrset in message.question
        ]
        blocks.append([comment(f"{titles[0].upper()} SECTION:", "title"), *aligned(rows)])
    shown = (view.answer, view.authority, view.additional)
    for (title, section), wanted in zip(_sections(message), shown, strict=True):
        if section and wanted:
            heading = [comment(f"{title.upper()} SECTION:", "title")] if view.comments else []
            blocks.append(heading + record_lines(section, view, now))
    lines: list[StyledLine] = []
    for block in blocks:
        if lines and view.comments:
            lines.append(line())
        lines += block
    return lines


def _header_lines(message: dns.message.Message) -> list[StyledLine]:
    counts = [len(message.question), *(sum(map(_count, section)) for _, section in _sections(message))]
    counts[-1] += message.edns >= 0
    update = message.opcode() == dns.opcode.UPDATE
    titles = ("ZONE", "PREREQ", "UPDATE", "ADDITIONAL") if update else ("QUERY", "ANSWER", "AUTHORITY", "ADDITIONAL")
    numbers = ", ".join(f"{title}: {count}" for title, count in zip(titles, counts, strict=True))
    rcode = dns.rcode.to_text(message.rcode())
    style = {"NOERROR": "good", "NXDOMAIN": "warning"}.get(rcode, "bad")
    flags = "".join(f" {flag}" for flag in dns.flags.to_text(message.flags).lower().split())
    lines = [
        (
            ("comment", f";; ->>HEADER<<- opcode: {dns.opcode.to_text(message.opcode())}, status: "),
            (style, rcode),
            ("comment", f", id: {message.id}"),
        ),
        comment(f"flags:{flags}; {numbers}"),
    ]
    if rcode in RCODES and message.flags & dns.flags.QR:
        lines.append(comment(f"{rcode}: {RCODES[rcode]}", style))
    errors = [option for option in message.options if isinstance(option, dns.edns.EDEOption)]
    lines += [comment(option_text(option), "warning") for option in errors]
    if message.flags & dns.flags.TC:
        lines.append(comment("TRUNCATED: there is more than fits, ask over TCP", "warning"))
    return lines


def _count(rrset: dns.rrset.RRset) -> int:
    return len(rrset) or 1  # of an update: RRsets without data


def _edns_lines(message: dns.message.Message, sent_cookie: bytes | None) -> list[StyledLine]:
    names = [name for bit, name in ((0x8000, "do"), (0x4000, "co")) if message.ednsflags & bit]
    flags = "".join(f" {name}" for name in names)
    lines = [
        comment("OPT PSEUDOSECTION:", "title"),
        (("comment", f"; EDNS: version: {message.edns}, flags:{flags}; udp: {message.payload}"),),
    ]
    for option in message.options:
        text = option_text(option, sent_cookie)
        lines.append((("warning" if "BAD:" in text else "comment", f"; {text}"),))
    return lines


def ttl_text(ttl: int, units: bool) -> str:
    """A TTL in seconds, or with units: ``1d2h``."""
    if not units:
        return str(ttl)
    text, rest = "", ttl
    for size, unit in ((604800, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if rest >= size:
            text += f"{rest // size}{unit}"
            rest %= size
    return text or "0s"


def record_lines(section: list[dns.rrset.RRset], view: View, now: float) -> list[StyledLine]:
    """Records below each other, their columns aligned; with comments, and in parentheses if they go over lines."""
    rows: list[list[tuple[str, str]]] = []
    followed: list[list[StyledLine]] = []
    for rrset in section:
        head = [
            ("name", printable(rrset.name.to_text())),
            ("", ttl_text(rrset.ttl, view.ttl_units)),
            ("", dns.rdataclass.to_text(rrset.rdclass)),
            ("type", dns.rdatatype.to_text(rrset.rdtype)),
        ]
        if not len(rrset):
            rows.append([*head, ("", "")])
            followed.append([])
        for rdata in rrset:
            pieces = members(rdata, now) if view.multi and view.crypto else None
            if pieces is None:
                words = meaning(rdata, now) if view.explain else ""
                rows.append([*head, ("", rdata_text(rdata, crypto=view.crypto))])
                followed.append([line(("comment", f" ; {printable(words)}"))] if words else [])
            else:
                rows.append([*head, ("", "(" if sum(1 for text, _ in pieces if text) > 1 else pieces[0][0])])
                followed.append(list(_member_lines(pieces, view.explain)))
    lines: list[StyledLine] = []
    for row, more in zip(aligned(rows, (_OWNER_WIDTH,)), followed, strict=True):
        if len(more) == 1 and more[0][0][1].startswith(" ;"):
            lines.append(row + more[0])
        else:
            lines += [row, *more]
    return lines


def _member_lines(pieces: list[tuple[str, str]], explain: bool) -> Iterator[StyledLine]:
    """The members of a record, a line each; what only explains stands behind the closing parenthesis."""
    parts = [(text, words) for text, words in pieces if text]
    if len(parts) > 1:
        width = min(max((len(text) for text, words in parts if words), default=0), _DATA_WIDTH)
        for number, (text, words) in enumerate(parts):
            closing = " )" if number == len(parts) - 1 else ""
            text = printable(text) + closing
            if words and explain:
                yield line(f"        {text:<{width + 2}} ", ("comment", f"; {printable(words)}"))
            else:
                yield line(f"        {text}")
    for text, words in pieces:
        if not text and explain:
            yield line("        ", ("comment", f"; {printable(words)}"))


# --- JSON ------------------------------------------------------------------------------------------------------------


def record_json(rrset: dns.rrset.RRset, rdata: dns.rdata.Rdata, now: float) -> dict[str, Any]:
    """A record as plain data; types that are explained have ``fields`` and ``meaning``."""
    record = {
        "name": rrset.name.to_text(),
        "ttl": rrset.ttl,
        "class": dns.rdataclass.to_text(rrset.rdclass),
        "type": dns.rdatatype.to_text(rrset.rdtype),
        "data": rdata_text(rdata),
    }
    found = fields(rdata, now)
    if found:
        record |= {"fields": found, "meaning": meaning(rdata, now)}
    return record


def message_json(message: dns.message.Message, now: float) -> dict[str, Any]:
    """A message as plain data."""
    rcode = dns.rcode.to_text(message.rcode())
    result: dict[str, Any] = {
        "id": message.id,
        "opcode": dns.opcode.to_text(message.opcode()),
        "rcode": rcode,
        "rcode_meaning": RCODES.get(rcode),
        "flags": dns.flags.to_text(message.flags).lower().split(),
        "question": [
            {
                "name": rrset.name.to_text(),
                "class": dns.rdataclass.to_text(rrset.rdclass),
                "type": dns.rdatatype.to_text(rrset.rdtype),
            }
            for rrset in message.question
        ],
    }
    for title, section in zip(_SECTIONS, message.sections[1:], strict=True):
        result[title] = [record_json(rrset, rdata, now) for rrset in section for rdata in rrset]
    if message.edns >= 0:
        result["edns"] = {
            "version": message.edns,
            "dnssec_ok": bool(message.ednsflags & 0x8000),
            "payload": message.payload,
            "options": [option_json(option) for option in message.options],
        }
    return result
