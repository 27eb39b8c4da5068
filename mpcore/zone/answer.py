"""Answers of an authoritative server, assembled from the octets of the zone.

The rules are those of RFC 1034, section 4.3.2, with RFC 2181 (CNAME, truncation), RFC 2308 (negative answers), RFC
4035, section 3.1 (DNSSEC), RFC 4592 (wildcards), RFC 5155 (NSEC3), RFC 6672 (DNAME), RFC 6891 (EDNS), RFC 8482 (ANY),
RFC 8914 (extended errors), RFC 9471 (glue) and RFC 9824 (compact denial).  Answers are minimal: no NS records beside an
answer, no addresses beside MX or SRV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import Final
from weakref import WeakKeyDictionary, ref

from mpcore.errors import RecordError, TsigError
from mpcore.zone import _message, owners, packed, tsig
from mpcore.zone.denial import HASH_LABEL, CompactDenial, Denial, DenialChains, OnlineSignatures, Piece, is_hash_owner
from mpcore.zone.version import ZoneVersion

__all__ = ("KEPT_OCTETS", "MAX_CHAIN", "Responder")

MAX_CHAIN: Final = 16
"""Most CNAME and DNAME steps that one answer follows."""

KEPT_OCTETS: Final = 8 << 20
"""About the most memory that a responder takes to remember answers, in octets."""

_KEPT_OVERHEAD: Final = 500  # octets of an entry beside key and records

_A: Final = 1
_NS: Final = 2
_CNAME: Final = 5
_SOA: Final = 6
_AAAA: Final = 28
_DNAME: Final = 39
_OPT: Final = 41
_DS: Final = 43
_RRSIG: Final = 46
_NSEC: Final = 47
_NSEC3: Final = 50
_NXNAME: Final = 128
_TSIG: Final = 250
_IXFR: Final = 251
_AXFR: Final = 252
_ANY: Final = 255

_FORMERR: Final = 1
_SERVFAIL: Final = 2
_NXDOMAIN: Final = 3
_NOTIMP: Final = 4
_REFUSED: Final = 5
_YXDOMAIN: Final = 6
_NOTAUTH: Final = 9
_BADVERS: Final = 16
_BADKEY: Final = 17

_DNSSEC_OK: Final = 0x8000
_COMPACT_OK: Final = 0x4000

_EDE_NOT_READY: Final = 14
_EDE_NOT_AUTHORITATIVE: Final = 20
_EDE_INVALID_QUERY_TYPE: Final = 30

_FIXED: Final = Struct("!HHIH")
_OPT_FIXED: Final = Struct("!xHHBBHH")  # root owner, type, payload size, extended RCODE, version, flags, length
_QUESTION: Final = Struct("!HH")
_BESIDE_CNAME: Final = frozenset({_CNAME, 24, 25, 30, _RRSIG, _NSEC})
"""Types that may stand beside a CNAME and are therefore looked for at the alias itself: RRSIG and NSEC, KEY, and the
obsolete SIG and NXT (RFC 4035, section 2.5)."""

_COMPRESSED: Final = frozenset({_NS, _CNAME, 12})  # RDATA is one name that may be compressed


class _Reply:
    """What goes into an answer, section by section."""

    __slots__ = ("additional", "answer", "authoritative", "authority", "compact", "optional", "proofs", "rcode")

    def __init__(self) -> None:
        self.rcode = 0
        self.authoritative = True
        self.compact = False  # denial is made for each answer (RFC 9824)
        self.answer: list[Piece] = []
        self.authority: list[Piece] = []
        self.additional: list[Piece] = []  # glue that must be there
        self.optional: list[Piece] = []  # addresses that may be left out
        self.proofs: set[tuple[bytes, int]] = set()  # owner and covered type of the proofs in the authority section


class _KeptAnswer:
    """An answer without what changes from query to query."""

    __slots__ = ("counts", "flags", "records", "size", "version")

    def __init__(self, version: ref[ZoneVersion], answer: bytes, end: int, extra: int) -> None:
        self.version = version
        self.flags = int.from_bytes(answer[2:4], "big") & 0x840F  # QR, AA, RCODE
        self.records = answer[end : len(answer) - extra]
        self.size = len(answer) - extra
        additionals = int.from_bytes(answer[10:12], "big") - (1 if extra else 0)
        self.counts = tuple([answer[4:10] + (additionals + opt).to_bytes(2, "big") for opt in (0, 1)])
        """Without and with an OPT record."""


class _Kept:
    """Answers given of late, by question and DO bit; at most about :data:`KEPT_OCTETS` of them.

    What is looked up again is kept, as far as there is room: when the younger half is full, the older half is dropped.
    An answer of another version than the present one is never used.
    """

    __slots__ = ("_octets", "_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, _KeptAnswer] = {}
        self._old: dict[bytes, _KeptAnswer] = {}
        self._octets = 0

    def find(self, key: bytes, version: ZoneVersion) -> _KeptAnswer | None:
        kept = self._young.get(key)
        if kept is None:
            kept = self._old.get(key)
            if kept is None:
                return None
            self._put(key, kept)
        return kept if kept.version() is version else None

    def keep(self, key: bytes, version: ZoneVersion, answer: bytes, end: int, extra: int) -> None:
        self._put(key, _KeptAnswer(ref(version), answer, end, extra))

    def _put(self, key: bytes, kept: _KeptAnswer) -> None:
        if key not in self._young:
            self._octets += len(key) + len(kept.records) + _KEPT_OVERHEAD
            if self._octets > KEPT_OCTETS // 2:
                self._old, self._young = self._young, {}
                self._octets = 0
        self._young[key] = kept


class Responder:
    """Answers queries from a set of zones.

    :param zones: apex -> version, the caller's own mapping, read anew for each query.  A value ``None`` stands for a
        zone that is configured but has no data: SERVFAIL.
    :param online: signs denial as it is answered, in all zones, instead of the zones' own NSEC or NSEC3 (compact denial
        of existence, RFC 9824); also answers from wildcards.  Other RRsets keep the signatures that they have.
    """

    def __init__(self, zones: Mapping[bytes, ZoneVersion | None], *, online: OnlineSignatures | None = None) -> None:
        self._zones = zones
        self._online = online
        self._denials = DenialChains()
        self._negatives: WeakKeyDictionary[ZoneVersion, tuple[list[Piece], list[Piece]]] = WeakKeyDictionary()
        self._kept = _Kept()

    def respond(self, query: bytes, *, over_tcp: bool, udp_limit: int = 1232) -> bytes:
        """The answer to a query.

        A TSIG must have been verified and taken off before; a query that still has one gets NOTAUTH with BADKEY.
        Transfers are not answered here: AXFR gets REFUSED; IXFR over UDP gets the SOA, which tells the client to come
        back over TCP (RFC 1995, section 2), and REFUSED over TCP.

        :param query: one message as received.
        :param over_tcp: whether the answer may take 65535 octets.
        :param udp_limit: most octets of an answer over UDP, whatever the client allows.
        :return: the answer; empty if there must be none (shorter than a header, or itself an answer).
        """
        size = len(query)
        if size < 12:
            return b""
        ident, flags, questions, answers, authorities, additionals = _message.HEADER.unpack_from(query)
        if flags & 0x8000:
            return b""
        echo = 0x8000 | flags & 0x7900  # opcode and RD; CD is cleared (RFC 4035, section 3.1.6)
        if flags & 0x7800:
            return _message.HEADER.pack(ident, echo | _NOTIMP, 0, 0, 0, 0)
        offset = 12
        try:
            while length := query[offset]:
                if length > 63:
                    break
                offset += length + 1
        except IndexError:
            length = 64
        end = offset + 5
        if questions != 1 or length or end > size or offset >= 12 + 255:
            return _message.HEADER.pack(ident, echo | _FORMERR, 0, 0, 0, 0)
        qtype, qclass = _QUESTION.unpack_from(query, offset + 1)
        qname = query[12 : offset + 1].lower()
        question = query[12:end]

        edns = False
        payload, version_number, edns_flags = 512, 0, 0
        if answers or authorities or additionals or end != size:
            try:
                found = _find_opt(query, end, answers + authorities, additionals)
            except RecordError:
                return _message.HEADER.pack(ident, echo | _FORMERR, 0, 0, 0, 0)
            except TsigError as error:
                return tsig.error_response(query, error, {}, 0.0)
            if found is not None:
                edns = True
                payload, version_number, edns_flags = found
        dnssec = edns_flags >= _DNSSEC_OK
        limit = 65535 if over_tcp else min(max(payload, 512), udp_limit)

        def fail(rcode: int, ede: int = -1) -> bytes:
            opt = _opt(rcode, dnssec, ede) if edns else b""
            return b"".join((_message.HEADER.pack(ident, echo | rcode & 15, 1, 0, 0, 1 if edns else 0), question, opt))

        if version_number:
            return fail(_BADVERS)
        if qclass != 1:
            return fail(_REFUSED)
        if qtype == _NXNAME:
            return fail(_FORMERR, _EDE_INVALID_QUERY_TYPE)
        if qtype in (0, _OPT):
            return fail(_FORMERR)
        if 128 < qtype < _ANY and (qtype != _IXFR or over_tcp):
            return fail(_REFUSED if qtype in (_AXFR, _IXFR) else _NOTIMP)

        zone = self._zone_for(qname, qtype)
        if zone is None:
            return fail(_NOTAUTH if qtype == _IXFR else _REFUSED, _EDE_NOT_AUTHORITATIVE)
        version = zone[0]
        if version is None:
            return fail(_SERVFAIL, _EDE_NOT_READY)
        opt = _OPT_NONE if not edns else _OPT_DO if dnssec else _OPT_PLAIN
        key = question.lower() + b"\x01" if dnssec else question.lower()
        kept = self._kept.find(key, version)
        if kept is not None and kept.size + len(opt) <= limit:
            head = (ident << 16 | echo | kept.flags).to_bytes(4, "big")
            return b"".join((head, kept.counts[edns], question, kept.records, opt))
        keep = key if qtype not in (_ANY, _IXFR) and self._online is None else None
        if qtype == _IXFR:
            if qname != version.origin:
                return fail(_NOTAUTH)  # RFC 5936, section 2.2.1
            qtype = _SOA

        search = _Search(
            version,
            qtype,
            self,
            dnssec=dnssec,
            compact=bool(edns_flags & _COMPACT_OK),
            over_tcp=over_tcp,
        )
        search.run(qname)
        if search.reply.compact and edns_flags & _COMPACT_OK:
            opt = _OPT_COMPACT
        answer, whole = _assemble(ident, echo, question, qname, search.reply, opt, limit)
        if whole and keep is not None:
            self._kept.keep(keep, version, answer, end, len(opt))
        return answer

    def prepare(self, version: ZoneVersion) -> None:
        """Get a version ready for answers, in a thread of its own perhaps: an NSEC3 chain seen for the first time is
        read as a whole, which takes seconds for a million names."""
        self.denial(version)
        self.negative(version, True)

    def denial(self, version: ZoneVersion) -> Denial | None:
        """How a version proves that something is not there; ``None`` if it does not."""
        if self._online is not None:
            return CompactDenial(version, self._online)
        return self._denials.find(version)

    def negative(self, version: ZoneVersion, dnssec: bool) -> list[Piece]:
        """The SOA of a negative answer, its TTL that of the answer (RFC 2308, section 3; RFC 9077)."""
        both = self._negatives.get(version)
        if both is None:
            plain = list(_negative(version, packed.find))
            both = self._negatives[version] = plain, plain + list(_negative(version, packed.signatures))
        return both[dnssec]

    def _zone_for(self, qname: bytes, qtype: int) -> tuple[ZoneVersion | None] | None:
        """The closest zone at or above a name; for DS the parent's (RFC 4035, section 3.1.4.1), if it is here."""
        zones = self._zones
        name = qname
        if qtype == _DS and name != owners.ROOT:
            name = name[name[0] + 1 :]
        while True:
            try:
                return (zones[name],)
            except KeyError:
                if not name[0]:
                    break
                name = name[name[0] + 1 :]
        if qtype == _DS and qname in zones:
            return (zones[qname],)
        return None


def _find_opt(query: bytes, end: int, before: int, additionals: int) -> tuple[int, int, int] | None:
    """Payload size, EDNS version and flags; ``None`` without OPT.

    :raises RecordError: the rest of the query does not parse, or has two OPT records or an OPT not owned by the root.
    :raises TsigError: a TSIG, for which there is no key here.
    """
    size = len(query)
    if not before and additionals == 1 and query[end : end + 3] == b"\x00\x00\x29" and end + 11 <= size:
        _, payload, _, number, flags, length = _OPT_FIXED.unpack_from(query, end)
        if end + 11 + length != size:
            raise RecordError("garbage behind the query")
        if length:
            _check_options(query, end + 11, size)
        return payload, number, flags
    found = None
    for record in _message.records(query):
        end = record.end
        if record.section != 3:
            if record.rdtype in (_OPT, _TSIG):
                raise RecordError("OPT or TSIG in a wrong section")
        elif record.rdtype == _OPT:
            if found is not None or query[record.start]:
                raise RecordError("a second OPT, or one with an owner")
            _check_options(query, record.rdata, record.end)
            found = record.rdclass, record.ttl >> 16 & 255, record.ttl & 0xFFFF
        elif record.rdtype == _TSIG:
            raise TsigError("no key is known here", rcode=_NOTAUTH, error=_BADKEY)
    if end != size:
        raise RecordError("garbage behind the query")
    return found


def _check_options(query: bytes, offset: int, end: int) -> None:
    while offset < end:
        if offset + 4 > end:
            raise RecordError("an EDNS option is truncated")
        offset += 4 + (query[offset + 2] << 8 | query[offset + 3])
    if offset != end:
        raise RecordError("an EDNS option is truncated")


def _opt(rcode: int, dnssec: bool, ede: int = -1) -> bytes:
    options = b"" if ede < 0 else b"\x00\x0f\x00\x02" + ede.to_bytes(2, "big")
    return _OPT_FIXED.pack(_OPT, 1232, rcode >> 4, 0, 0x8000 if dnssec else 0, len(options)) + options


_OPT_NONE: Final = b""
_OPT_PLAIN: Final = _opt(0, False)
_OPT_DO: Final = _opt(0, True)
_OPT_COMPACT: Final = _OPT_DO[:7] + b"\xc0" + _OPT_DO[8:]


# -- finding the answer --------------------------------------------------------------------------------------------


class _Search:
    """RFC 1034, section 4.3.2, from step 3 on, within one zone; the result is :attr:`reply`.

    :param responder: knows how the zone proves that something is not there; asked only if *dnssec*.
    :param compact: the client takes NXDOMAIN with compact denial (RFC 9824, section 5.1).
    """

    __slots__ = ("_asked", "_denial", "_responder", "compact", "dnssec", "over_tcp", "qtype", "reply", "version")

    def __init__(
        self,
        version: ZoneVersion,
        qtype: int,
        responder: Responder,
        *,
        dnssec: bool,
        compact: bool,
        over_tcp: bool,
    ) -> None:
        self.version, self.qtype = version, qtype
        self.dnssec, self.compact, self.over_tcp = dnssec, compact, over_tcp
        self.reply = _Reply()
        self._responder = responder
        self._asked = not dnssec
        self._denial: Denial | None = None

    @property
    def denial(self) -> Denial | None:
        """How the zone proves denial, if the client wants to know."""
        if not self._asked:
            self._asked = True
            self._denial = self._responder.denial(self.version)
            self.reply.compact = isinstance(self._denial, CompactDenial)
        return self._denial

    def run(self, name: bytes) -> None:
        """Answer for *name* and, as far as they lie in the zone, the names that aliases lead to."""
        seen = {name}
        target = self._step(name)
        while target is not None:
            if target in seen or len(seen) > MAX_CHAIN or not self.version.contains(target):
                return
            seen.add(target)
            target = self._step(target)

    def _step(self, name: bytes) -> bytes | None:
        """Answer for one name of the chain; the target if an alias leads on."""
        version = self.version
        origin = version.origin
        path = version.path(name)
        for ancestor, blob in path:
            if blob is None:
                continue
            held = packed.types(blob)
            if _NS in held and ancestor != origin and (self.qtype != _DS or ancestor != name):
                self._refer(ancestor, ancestor, blob)
                return None
            if _DNAME in held and ancestor != name:
                return self._redirect(name, ancestor, blob)
        blob = path[-1][1]
        hidden = blob is not None and _NSEC3 in held and is_hash_owner(held)
        if blob is not None and not hidden:
            return self._from_node(name, name, blob)
        exists, encloser, blob, has_wildcard = version.miss(name)
        if exists and not (hidden and not self._has_below(name)):
            self._deny(name, name, None)
            return None
        if encloser[0] == HASH_LABEL and self._is_hidden(encloser):
            # An owner of NSEC3 records is no closest encloser; it is one label below the apex.
            encloser = owners.parent(encloser)
            blob = version.packed_node(owners.wildcard_below(encloser))
            has_wildcard = version.exists(owners.wildcard_below(encloser))
        if has_wildcard:
            wildcard = owners.wildcard_below(encloser)
            if blob is not None:
                return self._from_node(name, wildcard, blob)
            self._deny(name, wildcard, None)
            return None
        self._negative()
        denial = self.denial
        if denial is not None:
            self._prove(denial.no_name(name, encloser))
        if not self.reply.compact or self.compact:
            self.reply.rcode = _NXDOMAIN
        return None

    def _is_hidden(self, name: bytes) -> bool:
        """Whether *name* is there only as the owner of NSEC3 records (RFC 5155, section 7.2.8)."""
        blob = self.version.packed_node(name)
        return blob is not None and is_hash_owner(packed.types(blob)) and not self._has_below(name)

    def _has_below(self, name: bytes) -> bool:
        """Whether there is a name below *name*."""
        return owners.is_subdomain(self.version.neighbours(name)[1], name)

    def _from_node(self, name: bytes, source: bytes, blob: bytes) -> bytes | None:
        """Answer from the records at *source*: *name* itself, or the wildcard from which it is synthesised."""
        qtype = self.qtype
        synthesised = source is not name
        if synthesised and _NS in packed.types(blob) and qtype != _DS:
            self._refer(name, source, blob)
            return None
        target = None
        if qtype == _ANY:
            found = self._any(name, blob, synthesised)
        else:
            found = self._add_answer(name, blob, qtype, synthesised)
            if not found and qtype not in _BESIDE_CNAME and self._add_answer(name, blob, _CNAME, synthesised):
                found = True
                span = packed.find(blob, _CNAME)
                assert span is not None
                target = blob[span[1] + 12 : span[2]].lower()
        if not found:
            self._deny(name, source, blob)
        elif synthesised and self.denial is not None:
            self._prove(self.denial.expanded(name, owners.parent(source)))
        return target

    def _add_answer(self, name: bytes, blob: bytes, rdtype: int, synthesised: bool) -> bool:
        denial = self.denial if synthesised else None
        if not isinstance(denial, CompactDenial):
            return _add(self.reply.answer, name, blob, rdtype, self.dnssec)
        rrset = packed.unpack_one(blob, rdtype)
        if rrset is not None:
            self.reply.answer += denial.signed(name, rrset)
        return rrset is not None

    def _any(self, name: bytes, blob: bytes, synthesised: bool) -> bool:
        """ANY (RFC 8482): over UDP one RRset, over TCP all."""
        held = [rdtype for rdtype in packed.types(blob) if rdtype not in (_RRSIG, _NSEC)]
        if self.dnssec and (self.over_tcp or not held) and packed.find(blob, _NSEC) is not None:
            held.append(_NSEC)
        for rdtype in held if self.over_tcp else held[:1]:
            self._add_answer(name, blob, rdtype, synthesised)
        return bool(held)

    def _redirect(self, name: bytes, owner: bytes, blob: bytes) -> bytes | None:
        """Redirect below a DNAME: the DNAME and the CNAME made from it (RFC 6672, section 3)."""
        reply = self.reply
        if not any(piece[0] == owner and piece[1][2:4] == b"\0\x27" for piece in reply.answer):
            _add(reply.answer, owner, blob, _DNAME, self.dnssec)
        found = packed.find(blob, _DNAME)
        assert found is not None
        _, start, end = found
        target = name[: -len(owner)] + blob[start + 12 : end]
        if len(target) > 255:
            reply.rcode = _YXDOMAIN
            return None
        ttl = int.from_bytes(blob[start + 6 : start + 10], "big")
        reply.answer.append((name, b"\xc0\x0c" + _FIXED.pack(_CNAME, 1, ttl, len(target)) + target, 1))
        return None if self.qtype == _CNAME else target.lower()

    def _refer(self, cut: bytes, source: bytes, blob: bytes) -> None:
        """Point to the servers of a delegated zone (RFC 4035, section 3.1.4; RFC 9471).

        :param source: *cut*, or the wildcard that it is synthesised from (RFC 4592, section 4.2, leaves that open).
        """
        reply = self.reply
        if not reply.answer:
            reply.authoritative = False
        _add(reply.authority, cut, blob, _NS, False)
        if self.dnssec:
            if packed.signatures(blob, _DS) is not None:  # in an unsigned zone a DS says nothing
                _add(reply.authority, cut, blob, _DS, True)
                if source != cut and self.denial is not None:
                    self._prove(self.denial.expanded(cut, owners.parent(source)))
            elif self.denial is not None:
                denial = self.denial
                self._prove(denial.insecure(cut, blob) if source == cut else denial.no_data(cut, source, blob))
        found = packed.find(blob, _NS)
        assert found is not None
        for first, stop in packed.records(blob, found[1], found[2]):
            target = blob[first + 10 : stop].lower()
            addresses = self.version.packed_node(target)
            if addresses is not None:
                section = reply.additional if owners.is_subdomain(target, cut) else reply.optional
                _add(section, target, addresses, _A, False)
                _add(section, target, addresses, _AAAA, False)

    def _deny(self, name: bytes, source: bytes, blob: bytes | None) -> None:
        """No data: SOA and proof."""
        self._negative()
        if self.denial is not None:
            self._prove(self.denial.no_data(name, source, blob))

    def _negative(self) -> None:
        self.reply.authority += self._responder.negative(self.version, self.dnssec)

    def _prove(self, pieces: Iterable[Piece]) -> None:
        """Add the records of a proof that are not there yet."""
        reply = self.reply
        for owner, octets, number in pieces:
            key = (owner, octets[2] << 8 | octets[3])
            if key not in reply.proofs:
                reply.proofs.add(key)
                reply.authority.append((owner, octets, number))


def _negative(version: ZoneVersion, select: Callable[[bytes, int], tuple[int, int, int] | None]) -> Iterator[Piece]:
    """The SOA, or its signatures, with the TTL of negative answers."""
    blob = version.packed_node(version.origin)
    assert blob is not None
    span = select(blob, _SOA)
    if span is not None:
        ttl = version.minimum.to_bytes(4, "big")
        records = packed.records(blob, span[1], span[2])
        octets = [b"\xc0\x0c" + blob[first : first + 4] + ttl + blob[first + 8 : stop] for first, stop in records]
        yield version.origin, b"".join(octets), span[0]


def _add(section: list[Piece], owner: bytes, blob: bytes, rdtype: int, dnssec: bool) -> bool:
    """Add an RRset, and with *dnssec* its signatures, to a section; whether there is one."""
    found = packed.find(blob, rdtype)
    if found is None:
        return False
    number, start, end = found
    section.append((owner, blob[start:end], number))
    if dnssec and rdtype != _RRSIG:
        found = packed.signatures(blob, rdtype)
        if found is not None:
            number, start, end = found
            section.append((owner, blob[start:end], number))
    return True


# -- writing it ----------------------------------------------------------------------------------------------------


def _assemble(
    ident: int, echo: int, question: bytes, qname: bytes, reply: _Reply, opt: bytes, limit: int
) -> tuple[bytes, bool]:
    """The message, and whether it is the one for every limit that it fits in."""
    flags = echo | reply.rcode
    if reply.authoritative:
        flags |= 0x0400
    extra = 1 if opt else 0
    room = limit - len(opt)
    additional = reply.additional
    if reply.optional:
        additional = additional + reply.optional
    sections = (reply.answer, reply.authority, additional)
    body = _render(sections, question, qname, compress=False)
    whole = len(body) + 12 <= room
    if not whole:
        body = _render(sections, question, qname, compress=True)
        if len(body) + 12 > room and reply.optional:
            additional = reply.additional
            body = _render((reply.answer, reply.authority, additional), question, qname, compress=True)
        if len(body) + 12 > room:
            return _message.HEADER.pack(ident, flags | 0x0200, 1, 0, 0, extra) + question + opt, False
    counts = [sum([piece[2] for piece in section]) for section in (reply.answer, reply.authority, additional)]
    return _message.HEADER.pack(ident, flags, 1, counts[0], counts[1], counts[2] + extra) + body + opt, whole


def _render(sections: tuple[list[Piece], ...], question: bytes, qname: bytes, *, compress: bool) -> bytes:
    """Question and sections.  Owners are always compressed, names in RDATA only if *compress*."""
    parts = [question]
    position = 12 + len(question)
    names: dict[bytes, int] = {}
    for section in sections:
        for owner, octets, number in section:
            if owner == qname and not compress:
                parts.append(octets)
                position += len(octets)
                continue
            if not names:
                offset = 0
                while qname[offset]:
                    names[qname[offset:]] = 12 + offset
                    offset += qname[offset] + 1
            name = _compressed(owner, position, names)
            again = name if len(name) <= 2 or position >= 0x4000 else (0xC000 | position).to_bytes(2, "big")
            if number == 1 and not compress:
                parts.append(name)
                parts.append(octets[2:])
                position += len(name) + len(octets) - 2
                continue
            start, end = 0, len(octets)
            while start < end:
                stop = start + 12 + (octets[start + 10] << 8 | octets[start + 11])
                position += len(name)
                parts.append(name)
                rdtype = octets[start + 2] << 8 | octets[start + 3]
                if compress and rdtype in _COMPRESSED:
                    rdata = _compressed(
                        octets[start + 12 : stop].lower(), position + 10, names, octets[start + 12 : stop]
                    )
                    record = octets[start + 2 : start + 10] + len(rdata).to_bytes(2, "big") + rdata
                else:
                    record = octets[start + 2 : stop]
                parts.append(record)
                position += len(record)
                start = stop
                name = again
    return b"".join(parts)


def _compressed(name: bytes, position: int, names: dict[bytes, int], spelled: bytes = b"") -> bytes:
    """A name as it is written at *position*, remembering where its parts stand.

    :param name: in lower case.
    :param spelled: the name as it shall be spelled, if not in lower case.
    """
    offset = 0
    while length := name[offset]:
        suffix = name[offset:]
        target = names.get(suffix)
        if target is not None:
            return (spelled or name)[:offset] + (0xC000 | target).to_bytes(2, "big")
        if position + offset < 0x4000:
            names[suffix] = position + offset
        offset += length + 1
    return spelled or name
