"""Dynamic updates (RFC 2136) from statements like those of nsupdate.

A statement is a line::

    server ADDRESS [PORT]                     whom to send to
    zone NAME                                 which zone
    ttl SECONDS                               for records that are added without one
    [prereq] nxdomain NAME                    no record has this name
    [prereq] yxdomain NAME                    some record has this name
    [prereq] nxrrset NAME [IN] TYPE           there is no such RRset
    [prereq] yxrrset NAME [IN] TYPE [DATA]    there is such an RRset; with data: exactly these records
    [update] add NAME [TTL] [IN] TYPE DATA
    [update] delete NAME [[TTL] [IN] TYPE [DATA]]
    send                                      send what stands above; an empty line does the same

Names are absolute, with or without the final dot.  A record is checked here before anything is sent.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.update

import mpcore.records  # noqa: F401  (so that private types have a text form)
from mpcore.query.asking import name_of
from mpcore.query.words import QueryError, Server, parse_server

__all__ = ("Update", "parse_update")

_MAX_STATEMENTS: Final = 10_000
_NOT_HERE: Final = {
    "key": "name a file with --tsig-file: a secret does not belong among statements",
    "gsstsig": "GSS-TSIG is not done here",
    "oldgsstsig": "GSS-TSIG is not done here",
    "realm": "GSS-TSIG is not done here",
    "local": "the address to send from is chosen by the system",
    "show": "--dry-run shows what would be sent",
    "answer": "the answer is always shown",
    "debug": "+qr shows what is sent",
}


@dataclass(frozen=True, slots=True)
class Update:
    """One message to send.

    :param zone: absolute name.
    :param server: that a ``server`` statement names.
    :param statements: in normal form, for people.
    """

    zone: str
    message: dns.update.UpdateMessage
    server: Server | None
    statements: tuple[str, ...]


class _Builder:
    def __init__(self, zone: str | None) -> None:
        self.zone: dns.name.Name | None = None if zone is None else name_of(zone)
        self.server: Server | None = None
        self.ttl: int | None = None
        self.message: dns.update.UpdateMessage | None = None
        self.said: list[str] = []
        self.done: list[Update] = []

    def update(self) -> dns.update.UpdateMessage:
        if self.message is None:
            if self.zone is None:
                raise QueryError("no zone was named before it")
            self.message = dns.update.UpdateMessage(self.zone, id=secrets.randbits(16))
        return self.message

    def send(self) -> None:
        if self.message is not None and self.zone is not None and self.said:
            self.done.append(Update(self.zone.to_text(), self.message, self.server, tuple(self.said)))
        self.message, self.said = None, []


def parse_update(lines: Iterable[str], *, zone: str | None = None, where: str = "") -> list[Update]:
    """The messages that statements make.

    :param lines: statements; comments begin with ``;`` or ``#``.
    :param zone: until a ``zone`` statement names one.
    :param where: name of the file for errors, with which the number of the line is told; empty: arguments.
    :raises QueryError: a statement is wrong; the message tells where and which word.
    """
    builder = _Builder(zone)
    for number, line in enumerate(lines, 1):
        if number > _MAX_STATEMENTS:
            raise QueryError(f"more than {_MAX_STATEMENTS} statements")
        text = line.strip()
        if not text:
            builder.send()
            continue
        if text[0] in ";#":
            continue
        try:
            if _statement(builder, text):
                break
        except QueryError as error:
            place = f"{where}:{number}: " if where else ""
            raise QueryError(f"{place}{text!r}: {error}") from None
    builder.send()
    if not builder.done:
        raise QueryError(f"{where + ': ' if where else ''}no statement adds, deletes or requires anything")
    return builder.done


def _statement(builder: _Builder, text: str) -> bool:
    """Take one statement; whether it ends all."""
    word, rest = _next(text)
    verb = word.lower()
    if verb in ("prereq", "update"):
        word, rest = _next(rest)
        verb = word.lower()
        if verb not in (("add", "delete", "del") if text.lower().startswith("update") else _PREREQUISITES):
            raise QueryError(f"{word or '(nothing)'}: no such statement")
    if verb in _NOT_HERE:
        raise QueryError(f"{word}: {_NOT_HERE[verb]}")
    if verb == "server":
        words = rest.split()
        if len(words) not in (1, 2):
            raise QueryError("server wants an address, and may have a port")
        builder.server = parse_server("#".join(words))
    elif verb == "zone":
        if builder.said:
            raise QueryError("a zone in the middle of an update; 'send' ends one")
        builder.zone, builder.message = name_of(_one(rest, "zone")), None
    elif verb == "class":
        if rest.upper() != "IN":
            raise QueryError(f"{rest}: only class IN is updated")
    elif verb == "ttl":
        builder.ttl = _ttl(_one(rest, "ttl"))
    elif verb == "send":
        builder.send()
    elif verb in ("quit", "exit"):
        return True
    elif verb in _PREREQUISITES:
        _prerequisite(builder, verb, rest)
    elif verb == "add":
        _add(builder, rest)
    elif verb in ("delete", "del"):
        _delete(builder, rest)
    else:
        raise QueryError(
            f"{word}: no such statement; there are add, delete, {', '.join(_PREREQUISITES)}, zone, ttl, server, send"
        )
    return False


_PREREQUISITES: Final = ("nxdomain", "yxdomain", "nxrrset", "yxrrset")


def _one(text: str, what: str) -> str:
    if len(text.split()) != 1:
        raise QueryError(f"{what} wants one word")
    return text


def _ttl(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > 0x7FFFFFFF:
        raise QueryError(f"{text}: not a TTL in seconds, 0 to 2147483647")
    return int(text)


def _next(text: str) -> tuple[str, str]:
    words = text.split(None, 1)
    return (words[0] if words else ""), (words[1].strip() if len(words) > 1 else "")


def _name(builder: _Builder, text: str) -> dns.name.Name:
    if not text:
        raise QueryError("a name is missing")
    name = name_of(text)
    builder.update()
    assert builder.zone is not None
    if not name.is_subdomain(builder.zone):
        raise QueryError(f"{text}: not in the zone {builder.zone}")
    return name


def _type(text: str) -> tuple[dns.rdatatype.RdataType, str]:
    """A type, and what follows it; a class IN before it is passed over."""
    word, rest = _next(text)
    if word.upper() == "IN":
        word, rest = _next(rest)
    if not word:
        raise QueryError("a type is missing")
    try:
        rdtype = dns.rdatatype.from_text(word.upper())
    except (dns.exception.DNSException, ValueError):
        raise QueryError(f"{word}: not a type") from None
    if dns.rdatatype.is_metatype(rdtype) and rdtype != dns.rdatatype.ANY:
        raise QueryError(f"{word}: not a type of data")
    return rdtype, rest


def _rdata(rdtype: dns.rdatatype.RdataType, text: str) -> dns.rdata.Rdata:
    if rdtype == dns.rdatatype.ANY:
        raise QueryError("ANY: not a type of data")
    try:
        return dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, dns.name.root, False)
    except (dns.exception.DNSException, ValueError, UnicodeError) as error:
        name = dns.rdatatype.to_text(rdtype)
        raise QueryError(f"{text or '(nothing)'}: not the data of a record of type {name}: {error}") from None


def _prerequisite(builder: _Builder, verb: str, text: str) -> None:
    word, rest = _next(text)
    name = _name(builder, word)
    update = builder.update()
    if verb in ("nxdomain", "yxdomain"):
        if rest:
            raise QueryError(f"{rest}: {verb} wants a name alone")
        (update.absent if verb == "nxdomain" else update.present)(name)
        builder.said.append(f"{verb} {name}")
        return
    rdtype, data = _type(rest)
    shown = f"{verb} {name} {dns.rdatatype.to_text(rdtype)}"
    if verb == "nxrrset":
        if data:
            raise QueryError(f"{data}: nxrrset wants no data")
        update.absent(name, rdtype)
    elif data:
        rdata = _rdata(rdtype, data)
        update.present(name, rdata)
        shown += f" {rdata.to_text()}"
    else:
        update.present(name, rdtype)
    builder.said.append(shown)


def _add(builder: _Builder, text: str) -> None:
    word, rest = _next(text)
    name = _name(builder, word)
    word, behind = _next(rest)
    ttl = builder.ttl
    if word.isascii() and word.isdigit():
        ttl, rest = _ttl(word), behind
    if ttl is None:
        raise QueryError("a TTL is missing behind the name, and no 'ttl' statement gave one")
    rdtype, data = _type(rest)
    rdata = _rdata(rdtype, data)
    builder.update().add(name, ttl, rdata)
    builder.said.append(f"add {name} {ttl} {dns.rdatatype.to_text(rdtype)} {rdata.to_text()}")


def _delete(builder: _Builder, text: str) -> None:
    word, rest = _next(text)
    name = _name(builder, word)
    word, behind = _next(rest)
    if word.isascii() and word.isdigit():
        rest = behind  # the TTL of a record that goes says nothing
    update = builder.update()
    if not rest or rest.upper() in ("ANY", "IN ANY", "IN"):
        update.delete(name)
        builder.said.append(f"delete {name}")
        return
    rdtype, data = _type(rest)
    shown = f"delete {name} {dns.rdatatype.to_text(rdtype)}"
    if data:
        rdata = _rdata(rdtype, data)
        update.delete(name, rdata)
        shown += f" {rdata.to_text()}"
    else:
        update.delete(name, rdtype)
    builder.said.append(shown)
