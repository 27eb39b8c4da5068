"""Ask one DNS server one question, and show the answer: what stands behind the cockpit's ``query`` command.

Ordinary tools print the private types as ``TYPE65285 \\# ...`` and the EDNS options of peer messages as octets; here
they are read.  Nothing is validated, the answer is shown as the server gave it; :mod:`mpcore.net.resolver` does more.

Importing this module is cheap; the DNS library is loaded by the first lookup.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpcore.errors import ExchangeError, LocalError

if TYPE_CHECKING:
    import dns.edns
    import dns.message
    import dns.name
    import dns.rdata
    import dns.rrset

    from mpcore.net.clock import Clock
    from mpcore.net.network import Network
    from mpcore.zone.tsig import TsigKey

__all__ = ("LookupResult", "QueryError", "lookup", "parse_server", "parse_tsig_key", "reverse_name")

_TRANSFERS = ("AXFR", "IXFR")
_SERVER = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<bare>[0-9.]+|[^#@]+(?=[#@])))(?:[:#@](?P<port>[0-9]{1,5}))?")
_SECTIONS = ("answer", "authority", "additional")


class QueryError(LocalError, ValueError):
    """The question cannot be asked as it stands."""


def parse_server(text: str, default_port: int = 53) -> tuple[str, int]:
    """Address and port of a server: ``192.0.2.1``, ``192.0.2.1:5300``, ``2001:db8::1``, ``[2001:db8::1]:5300``.

    A leading ``@`` and, as with other tools, ``#`` or ``@`` before the port are understood too.

    :raises QueryError: not an address, or a port outside 1 to 65535.  Names are not looked up.
    """
    text = text.removeprefix("@")
    host, port = text, str(default_port)
    if not _is_address(text):
        match = _SERVER.fullmatch(text)
        if match is None:
            raise QueryError(f"{text!r} is not the address of a server, with or without a port")
        host, port = match["bracketed"] or match["bare"], match["port"] or port
    if not _is_address(host) or not 1 <= int(port) <= 65535:
        raise QueryError(f"{text!r} is not the address of a server, with or without a port")
    return str(ipaddress.ip_address(host)), int(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_tsig_key(text: str) -> TsigKey:
    """A TSIG key from ``[algorithm:]name:secret``, the algorithm being ``hmac-sha256`` unless given.

    :raises QueryError: it has another form; the message does not show the secret.
    """
    from mpcore.zone.tsig import TsigKey

    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise QueryError("a TSIG key is written [algorithm:]name:secret")
    algorithm = parts[0] if len(parts) == 3 else "hmac-sha256"
    try:
        return TsigKey.from_text(parts[-2], algorithm, parts[-1])
    except ValueError as error:
        raise QueryError(str(error)) from None


def reverse_name(address: str) -> str:
    """The name under which the names of *address* are found (RFC 1035 section 3.5, RFC 3596 section 2.5).

    :raises QueryError: not an address.
    """
    try:
        return ipaddress.ip_address(address).reverse_pointer + "."
    except ValueError as error:
        raise QueryError(str(error)) from None


async def lookup(
    name: str,
    rdtype: str | int = "A",
    *,
    server: str,
    port: int = 53,
    tcp: bool = False,
    dnssec: bool = False,
    recurse: bool = True,
    checking_disabled: bool = False,
    rdclass: str = "IN",
    timeout: float = 5.0,
    tsig: TsigKey | None = None,
    network: Network | None = None,
    clock: Clock | None = None,
) -> LookupResult:
    """Ask *server* for *name* and *rdtype*.

    A truncated answer over UDP is asked for again over TCP.

    :param name: taken as absolute, with or without the final dot.
    :param rdtype: mnemonic, private ones included, ``TYPE65285`` or a number.
    :param server: numeric address.
    :param port: 1 to 65535.
    :param dnssec: ask for signatures (DO).
    :param recurse: RD.
    :param checking_disabled: CD.
    :param timeout: seconds for each transport; above 0.
    :param tsig: sign the query; the answer must then be signed with the same key.
    :param network: the real one unless given.
    :raises QueryError: the name, type, class, address or port is none, or the type is a transfer.
    :raises ExchangeError: no answer, or one that does not parse.
    :raises TsigError: the answer's signature is missing or wrong, or the server refused ours.
    """
    import secrets

    import anyio
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rdataclass
    import dns.rdatatype

    import mpcore.records  # noqa: F401  (so that private types and options are read)
    from mpcore.net.client import exchange
    from mpcore.net.clock import SystemClock
    from mpcore.net.network import InternetNetwork
    from mpcore.zone.tsig import sign_message

    if not _is_address(server):
        raise QueryError(f"{server!r} is not a numeric address")
    if not 1 <= port <= 65535:
        raise QueryError(f"port {port} is not between 1 and 65535")
    if not timeout > 0:
        raise QueryError("the timeout must be above 0")
    try:
        kind = (
            dns.rdatatype.from_text(rdtype.upper()) if isinstance(rdtype, str) else dns.rdatatype.RdataType.make(rdtype)
        )
        owner = dns.name.from_text(name, dns.name.root)
        klass = dns.rdataclass.from_text(rdclass.upper())
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise QueryError(f"{name} {rdclass} {rdtype}: {error or type(error).__name__}") from error
    if dns.rdatatype.to_text(kind) in _TRANSFERS:
        raise QueryError(f"{dns.rdatatype.to_text(kind)} is a transfer, not a look-up")
    query = dns.message.make_query(owner, kind, klass, use_edns=0, want_dnssec=dnssec, payload=1232)
    query.id = secrets.randbits(16)
    query.flags = (dns.flags.RD if recurse else 0) | (dns.flags.CD if checking_disabled else 0)
    octets, host = query.to_wire(), str(ipaddress.ip_address(server))
    network, clock = network or InternetNetwork(), clock or SystemClock()
    mac = b""
    if tsig is not None:
        octets, mac = sign_message(octets, tsig, clock.now())
    started, asked_at = anyio.current_time(), clock.now()
    response = await exchange(network, octets, host, port, over_tcp=tcp, timeout=timeout)
    if response[2] & 0x02 and not tcp:
        tcp = True
        response = await exchange(network, octets, host, port, over_tcp=True, timeout=timeout)
    elapsed = anyio.current_time() - started
    return LookupResult(
        server=host,
        port=port,
        over_tcp=tcp,
        asked_at=asked_at,
        elapsed=elapsed,
        size=len(response),
        message=_parsed(response, tsig, mac, clock.now()),
        key=None if tsig is None else tsig.name_text,
    )


def _parsed(octets: bytes, tsig: TsigKey | None, request_mac: bytes, now: float) -> dns.message.Message:
    import dns.message

    from mpcore.errors import TsigError
    from mpcore.zone.tsig import verify_message

    if tsig is not None:
        verified = verify_message(octets, {tsig.name: tsig}, now, request_mac=request_mac)
        if verified is None:
            raise TsigError(f"the answer is not signed with TSIG key {tsig.name_text}")
        octets = verified.octets
    try:
        return dns.message.from_wire(octets, ignore_trailing=True)
    except Exception as error:  # whatever the library makes of octets from outside
        raise ExchangeError(f"the answer does not parse: {error}") from error


@dataclass(frozen=True, slots=True)
class LookupResult:
    """An answer, and how it was got.

    All texts are safe to print on a terminal: control characters are escaped.
    """

    server: str  #: numeric address
    port: int
    over_tcp: bool  #: asked over TCP, or asked again over TCP because the answer over UDP was truncated
    asked_at: float  #: Unix seconds
    elapsed: float  #: seconds
    size: int  #: octets of the answer
    message: dns.message.Message = field(repr=False)
    key: str | None = None  #: name of the TSIG key that signed query and answer

    @property
    def rcode(self) -> str:
        """Response code as text, ``NOERROR`` for example."""
        import dns.rcode

        return dns.rcode.to_text(self.message.rcode())

    @property
    def flags(self) -> list[str]:
        """Header flags that are set, in lower case."""
        import dns.flags

        return dns.flags.to_text(self.message.flags).lower().split()

    def to_short(self) -> str:
        """The data of the answer section alone, a record a line."""
        return "\n".join(_printable(rdata.to_text()) for rrset in self.message.answer for rdata in rrset)

    def to_text(self) -> str:
        """Everything, laid out like the output of ``dig``; long keys and signed proofs carry comments."""
        import dns.opcode
        import dns.rdataclass
        import dns.rdatatype

        message = self.message
        counts = [len(message.question), *(sum(map(len, section)) for _, section in self._sections())]
        counts[-1] += message.edns >= 0
        lines = [
            f";; ->>HEADER<<- opcode: {dns.opcode.to_text(message.opcode())}, status: {self.rcode}, id: {message.id}",
            f";; flags: {' '.join(self.flags)}; QUERY: {counts[0]}, ANSWER: {counts[1]}, "
            f"AUTHORITY: {counts[2]}, ADDITIONAL: {counts[3]}",
        ]
        if message.edns >= 0:
            flags = " do" if message.ednsflags & 0x8000 else ""
            lines += ["", ";; OPT PSEUDOSECTION:"]
            lines.append(f"; EDNS: version: {message.edns}, flags:{flags}; udp: {message.payload}")
            lines += [f"; {_option_text(option)}" for option in message.options]
        lines += ["", ";; QUESTION SECTION:"]
        lines += [
            f";{rrset.name}\t\t{dns.rdataclass.to_text(rrset.rdclass)}\t{dns.rdatatype.to_text(rrset.rdtype)}"
            for rrset in message.question
        ]
        for title, section in self._sections():
            if section:
                lines += ["", f";; {title.upper()} SECTION:"]
                lines += [line for rrset in section for line in _record_lines(rrset)]
        lines += [
            "",
            f";; Query time: {self.elapsed * 1000:.0f} msec",
            f";; SERVER: {self.server}#{self.port} ({'TCP' if self.over_tcp else 'UDP'})",
        ]
        if self.key is not None:
            lines.append(f";; TSIG: verified with key {_printable(self.key)}")
        lines.append(f";; MSG SIZE  rcvd: {self.size}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data: strings, numbers, lists and dictionaries.

        Records have ``name``, ``ttl``, ``class``, ``type`` and ``data``; those of private types also ``fields``.
        """
        import dns.opcode
        import dns.rdataclass
        import dns.rdatatype

        message = self.message
        result: dict[str, Any] = {
            "server": self.server,
            "port": self.port,
            "transport": "tcp" if self.over_tcp else "udp",
            "asked_at": round(self.asked_at, 3),
            "elapsed": round(self.elapsed, 6),
            "size": self.size,
            "tsig_key": self.key,
            "id": message.id,
            "opcode": dns.opcode.to_text(message.opcode()),
            "rcode": self.rcode,
            "flags": self.flags,
            "question": [
                {
                    "name": rrset.name.to_text(),
                    "class": dns.rdataclass.to_text(rrset.rdclass),
                    "type": dns.rdatatype.to_text(rrset.rdtype),
                }
                for rrset in message.question
            ],
        }
        for title, section in self._sections():
            result[title] = [_record_json(rrset, rdata) for rrset in section for rdata in rrset]
        if message.edns >= 0:
            result["edns"] = {
                "version": message.edns,
                "dnssec_ok": bool(message.ednsflags & 0x8000),
                "payload": message.payload,
                "options": [_option_json(option) for option in message.options],
            }
        return result

    def _sections(self) -> list[tuple[str, list[dns.rrset.RRset]]]:
        message = self.message
        return list(zip(_SECTIONS, (message.answer, message.authority, message.additional), strict=True))


def _printable(text: str) -> str:
    """*text* with control and other unprintable characters escaped: the other side does not drive our terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _record_lines(rrset: dns.rrset.RRset) -> list[str]:
    import dns.rdataclass
    import dns.rdatatype

    head = "\t".join(
        (
            rrset.name.to_text(),
            str(rrset.ttl),
            dns.rdataclass.to_text(rrset.rdclass),
            dns.rdatatype.to_text(rrset.rdtype),
        )
    )
    return [f"{head}\t{_printable(rdata.to_text())}{_comment(rdata)}" for rdata in rrset]


def _comment(rdata: dns.rdata.Rdata) -> str:
    """What people want to know of a key and cannot see."""
    import dns.rdatatype

    if rdata.rdtype in (dns.rdatatype.DNSKEY, dns.rdatatype.CDNSKEY):
        key: Any = rdata
        role = "KSK" if int(key.flags) & 1 else "ZSK"
        revoked = "; revoked" if int(key.flags) & 0x80 else ""
        return f" ; {role}; key tag {key.key_id()}{revoked}"
    return ""


def _record_json(rrset: dns.rrset.RRset, rdata: dns.rdata.Rdata) -> dict[str, Any]:
    import dns.rdataclass
    import dns.rdatatype

    record = {
        "name": rrset.name.to_text(),
        "ttl": rrset.ttl,
        "class": dns.rdataclass.to_text(rrset.rdclass),
        "type": dns.rdatatype.to_text(rrset.rdtype),
        "data": rdata.to_text(),
    }
    fields = _fields(rdata)
    if fields:
        record["fields"] = fields
    return record


def _fields(rdata: dns.rdata.Rdata) -> dict[str, Any]:
    """The fields of a private type by name."""
    from mpcore.errors import RemoteError
    from mpcore.records import CHUNK, HSYNC3, HSYNCPARAM, JWK

    if isinstance(rdata, HSYNC3):
        return {
            "state": "ON" if rdata.is_on else "OFF",
            "label": rdata.label_text,
            "identity": rdata.identity_text,
            "upstream": rdata.upstream_text,
        }
    if isinstance(rdata, HSYNCPARAM):
        return {
            "nsmgmt": rdata.nsmgmt,
            "parentsync": rdata.parentsync,
            "servers": list(rdata.servers),
            "signers": list(rdata.signers),
            "auditors": list(rdata.auditors),
            "pubkey": rdata.pubkey,
            "pubcds": rdata.pubcds,
            "suffix": rdata.suffix,
        }
    if isinstance(rdata, CHUNK):
        return {
            "sequence": rdata.sequence,
            "total": rdata.total,
            "hmac": rdata.hmac.hex(),
            **_payload(rdata.format, rdata.data),
        }
    if isinstance(rdata, JWK):
        try:
            return {"jwk": rdata.jwk()}
        except RemoteError as error:
            return {"error": str(error)}
    return {}


def _payload(number: int, data: bytes) -> dict[str, Any]:
    """A payload: its form, its size, and what it says if it is clear text."""
    import json

    shown: dict[str, Any] = {"format": {1: "JSON", 2: "JWT"}.get(number, number), "octets": len(data)}
    if number == 1:
        try:
            shown["json"] = json.loads(data)
        except (ValueError, RecursionError):
            shown["text"] = data.decode("ascii", "backslashreplace")
    return shown


def _option_text(option: dns.edns.Option) -> str:
    from mpcore.records import ChunkOption

    text = _printable(option.to_text())
    if isinstance(option, ChunkOption) and option.format == 1:
        text += ": " + _printable(option.data.decode("utf-8", "backslashreplace"))
    return text


def _option_json(option: dns.edns.Option) -> dict[str, Any]:
    import dns.edns

    from mpcore.records import ChunkEndpointOption, ChunkOption

    shown: dict[str, Any] = {"code": int(option.otype), "text": _printable(option.to_text())}
    if isinstance(option, ChunkOption):
        shown |= {"name": "CHUNK", **_payload(option.format, option.data)}
    elif isinstance(option, ChunkEndpointOption):
        shown |= {"name": "CHUNK-ENDPOINT", "endpoint": option.endpoint}
    elif isinstance(option, dns.edns.EDEOption):
        shown |= {"name": "EDE", "error": int(option.code), "reason": option.text or ""}
    return shown
