"""Zones (AXFR, RFC 5936) and their changes (IXFR, RFC 1995), record by record as they come, over TCP or TLS (RFC 9103).

Nothing is kept but what it takes to know that the answer is whole: it begins and ends with the same SOA record, has
nothing behind it, and the changes of an IXFR lead from the serial that was asked about to the newest one.  With TSIG
(RFC 8945) records are handed on only when a signed message has covered them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Literal

import anyio
import dns.rcode

from mpcore.errors import ExchangeError, RecordError, TransferError
from mpcore.net.client import is_answer_to
from mpcore.query.asking import Asker, make_query
from mpcore.query.layout import printable
from mpcore.query.words import QueryError, Question, Transport
from mpcore.zone import _message, owners
from mpcore.zone.rrset import expand_rdata, rdata_text, type_text
from mpcore.zone.serial import is_newer
from mpcore.zone.tsig import TsigStreamVerifier, find_signature, sign_message

__all__ = ("TransferCheck", "TransferRecord", "TransferSummary", "transfer")

_SOA: Final = 6
_IDLE: Final = 30.0  # seconds between two messages, at least
_NAMES: Final = frozenset({2, 5, 12, 39})  # NS, CNAME, PTR, DNAME

Change = Literal["", "add", "delete"]


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """One record of a transfer."""

    owner: str
    ttl: int
    rdtype: str
    data: str
    change: Change = ""  #: of an IXFR: whether it comes or goes

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        record = {"name": self.owner, "ttl": self.ttl, "class": "IN", "type": self.rdtype, "data": self.data}
        return record | {"change": self.change} if self.change else record


@dataclass(frozen=True, slots=True)
class TransferSummary:
    """A transfer that is complete."""

    zone: str
    kind: Literal["whole zone", "changes", "nothing new"]
    serial: int
    since: int | None  #: the serial that was asked about
    records: int
    messages: int
    octets: int
    seconds: float
    server: str
    port: int
    transport: Transport
    authenticated_by: str
    tsig_key: str | None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"seconds": round(self.seconds, 6)}


@dataclass(slots=True)
class TransferCheck:
    """Whether the records that come make a whole transfer.

    ==========  ==================================  ==========================================================
    state       record                              what follows
    ==========  ==================================  ==========================================================
    empty       SOA                                 *first*
    first       IXFR: SOA of the version asked for  *removing*
    first       any other                           *zone*
    zone        the first SOA again                 *done*
    removing    SOA                                 *adding*
    adding      SOA of the version reached          *removing*, or *done* when that is the newest
    ==========  ==================================  ==========================================================

    Anything else that is an SOA, a record outside the zone, or one behind the end is an error.

    :param zone: apex, canonical wire octets.
    :param since: serial that an IXFR asked about; ``None`` for AXFR.
    """

    zone: bytes
    since: int | None = None
    state: Literal["empty", "first", "zone", "removing", "adding", "done"] = "empty"
    serial: int = 0  #: of the newest version, once the first record is there
    incremental: bool = False
    _soa: bytes = field(default=b"", repr=False)
    _reached: int = 0
    _next: int = 0

    def take(self, owner: bytes, rdtype: int, rdata: bytes) -> Change:
        """Take the next record; whether it comes or goes.

        :raises TransferError: it cannot stand there.
        """
        if self.state == "done":
            raise TransferError("a record follows the end of the transfer")
        apex = owner == self.zone
        if not apex and not owners.is_subdomain(owner, self.zone):
            raise TransferError(f"{printable(owners.to_text(owner))} is not in the zone")
        soa = rdtype == _SOA
        if soa and (not apex or len(rdata) < 22):
            raise TransferError("an SOA record that is not the zone's, or is malformed")
        if self.state == "empty":
            if not soa:
                raise TransferError("the first record is not SOA")
            self.state, self._soa, self.serial = "first", rdata, int.from_bytes(rdata[-20:-16], "big")
            return ""
        serial = int.from_bytes(rdata[-20:-16], "big") if soa else 0
        if self.state == "first":
            if soa and self.since is not None and serial == self.since != self.serial:
                self.state, self.incremental, self._reached = "removing", True, serial
                return "delete"
            self.state = "zone"
        if self.state == "zone":
            if soa:
                if rdata != self._soa:
                    raise TransferError(f"the zone ends with serial {serial} and began with {self.serial}")
                self.state = "done"
            return ""
        if not soa:
            return "delete" if self.state == "removing" else "add"
        if self.state == "removing":
            if not is_newer(serial, self._reached):
                raise TransferError(f"the changes from serial {self._reached} lead to {serial}, which is not newer")
            self.state, self._next = "adding", serial
            return "add"
        self._reached = self._next
        if rdata == self._soa and self._reached == self.serial:
            self.state = "done"
            return ""
        if serial != self._reached:
            raise TransferError(f"changes from serial {serial} follow, and serial {self._reached} has been reached")
        self.state = "removing"
        return "delete"

    def message_taken(self) -> None:
        """A message has ended: an IXFR answered by one SOA that is not newer is complete."""
        if self.state == "first" and self.since is not None and not is_newer(self.serial, self.since):
            self.state = "done"


async def transfer(
    asker: Asker, question: Question, on_records: Callable[[Sequence[TransferRecord]], None]
) -> TransferSummary:
    """Transfer a zone or its changes; returns when the transfer is complete.

    :param asker: over TCP, unless it asks over TLS.
    :param question: AXFR, or IXFR with a serial.
    :param on_records: called with the records of one message after the other.  What it was given is good only when
        this function returns.
    :raises QueryError: not a transfer.
    :raises ExchangeError: no connection, or it broke or fell silent; names server and transport.
    :raises TransferError: refused, or not whole.
    :raises TsigError: a signature is missing or wrong.
    """
    if not question.is_transfer:
        raise QueryError(f"{question.rdtype}: not a transfer")
    manner = asker.manner
    query = make_query(question, manner)
    zone = owners.from_text(query.question[0].name.to_text())
    octets, mac = query.to_wire(), b""
    if manner.tsig is not None:
        octets, mac = sign_message(octets, manner.tsig, asker.clock.now())
    verifier = None if manner.tsig is None else TsigStreamVerifier(manner.tsig, mac)
    check = TransferCheck(zone, question.serial)
    started = anyio.current_time()
    messages = size = count = 0
    held: list[TransferRecord] = []
    idle = max(_IDLE, manner.timeout)
    async with asker.connection() as stream:
        where = f"{asker.host} port {asker.port} over {stream.transport.upper()}"
        try:
            await stream.send(octets)
            while check.state != "done":
                try:
                    with anyio.fail_after(idle if messages else manner.timeout):
                        answer = await stream.receive()
                except TimeoutError:
                    after = f" after {messages} messages and {count} records" if messages else ""
                    raise ExchangeError(
                        f"{where}: nothing for {idle if messages else manner.timeout:g} s{after}"
                    ) from None
                except anyio.EndOfStream:
                    raise TransferError(
                        f"{where} closed the connection after {messages} messages and {count} records: incomplete"
                    ) from None
                messages, size = messages + 1, size + len(answer)
                if len(answer) < 12 or answer[:2] != octets[:2] or not answer[2] & 0x80:
                    raise TransferError(f"{where}: a message that answers something else")
                rcode, signed = answer[3] & 15, verifier is None or find_signature(answer) is not None
                if verifier is not None and (signed or not rcode):
                    answer = verifier.verify(answer, asker.clock.now())
                if rcode:
                    unsigned = "" if signed else ", unsigned"
                    raise TransferError(f"{where} answers {dns.rcode.to_text(dns.rcode.Rcode.make(rcode))}{unsigned}")
                if messages == 1 and not is_answer_to(answer, query.to_wire()):
                    raise TransferError(f"{where} answers another question")
                found = _records(answer, check)
                count += len(found)
                held += found
                if signed:
                    on_records(held)
                    held = []
                await anyio.lowlevel.checkpoint()
            if verifier is not None:
                verifier.finish()
        except RecordError as error:
            raise TransferError(f"{where}: a message does not parse: {error}") from error
        except TransferError as error:
            text = str(error)
            raise error if where in text else TransferError(f"{where}: {text}") from error
        transport = stream.transport
    if check.incremental:
        kind: Literal["whole zone", "changes", "nothing new"] = "changes"
    else:
        kind = "nothing new" if question.serial is not None and count == 1 else "whole zone"
    return TransferSummary(
        zone=owners.to_text(zone),
        kind=kind,
        serial=check.serial,
        since=question.serial,
        records=count,
        messages=messages,
        octets=size,
        seconds=anyio.current_time() - started,
        server=asker.host,
        port=asker.port,
        transport=transport,
        authenticated_by=manner.tls.in_words if transport == "tls" else "",
        tsig_key=None if manner.tsig is None else manner.tsig.name_text,
    )


def _records(octets: bytes, check: TransferCheck) -> list[TransferRecord]:
    found = []
    for record in _message.records(octets, sections=1):
        owner = owners.read_name(octets, record.start)[0]
        rdata = expand_rdata(record.rdtype, octets, record.rdata, record.end - record.rdata)
        change = check.take(owner.lower(), record.rdtype, rdata)
        found.append(
            TransferRecord(_name(owner), record.ttl, type_text(record.rdtype), _text(record.rdtype, rdata), change)
        )
    check.message_taken()
    return found


@lru_cache(4096)
def _name(wire: bytes) -> str:
    return printable(owners.to_text(wire))


def _text(rdtype: int, rdata: bytes) -> str:
    """Text form; the types of which a zone has most without the DNS library's objects in between."""
    if rdtype == 1 and len(rdata) == 4:
        return str(IPv4Address(rdata))
    if rdtype == 28 and len(rdata) == 16 and rdata[:12] != b"\0" * 10 + b"\xff\xff":
        return str(IPv6Address(rdata))
    if rdtype in _NAMES:
        return _name(rdata)
    return printable(rdata_text(rdtype, rdata))
