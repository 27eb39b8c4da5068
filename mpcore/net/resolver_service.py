"""The resolver as a server, for ``delv``, ``kdig`` or the daemons of a lab (RFC 4035, section 3.2)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from mpcore.errors import ResolutionError
from mpcore.net.resolver import Answer, Resolver, Security, ValidationError
from mpcore.net.server import Request, reply

__all__ = ("RecursiveService",)

_EDE = dns.edns.EDECode
_SIGNATURES = (dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.NSEC3)
_LOOPBACK = ("127.0.0.0/8", "::1/128")


class RecursiveService:
    """Answers queries with RD set from a :class:`~mpcore.net.resolver.Resolver`.

    DO asks for RRSIG, NSEC and NSEC3 records, CD for data that fails validation (otherwise SERVFAIL with an extended
    DNS error, RFC 8914); AD is set on secure answers if the client set AD or DO (RFC 6840, section 5.8).

    Register it with :class:`mpcore.net.server.DnsServer` for opcode QUERY.

    :param resolver: does the work.
    :param allow: networks whose addresses may ask; others are refused.  An open resolver is a weapon.
    :param udp_payload: octets of the largest answer over UDP, 512 to 4096.
    """

    def __init__(self, resolver: Resolver, *, allow: Sequence[str] = _LOOPBACK, udp_payload: int = 1232) -> None:
        self._resolver = resolver
        self._allow = [ipaddress.ip_network(network) for network in allow]
        self._payload = udp_payload

    async def __call__(self, request: Request) -> bytes:
        """Answer one request; never raises because of what the request or the answer holds."""
        try:
            query = dns.message.from_wire(request.octets)
        except Exception:  # whatever the library makes of octets from outside
            return reply(request, dns.rcode.FORMERR)
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            return reply(request, dns.rcode.NOTIMP if query.opcode() != dns.opcode.QUERY else dns.rcode.FORMERR)
        if query.edns > 0:
            response = self._response(query)
            response.set_rcode(dns.rcode.BADVERS)
        else:
            response = await self._answer(query, request.source[0])
        return self._to_wire(query, response, request)

    async def _answer(self, query: dns.message.Message, source: str) -> dns.message.Message:
        question = query.question[0]
        if not self._is_allowed(source):
            return self._refusal(query, dns.rcode.REFUSED, _EDE.PROHIBITED, "this resolver does not serve you")
        if not query.flags & dns.flags.RD:
            return self._refusal(query, dns.rcode.REFUSED, _EDE.NOT_AUTHORITATIVE, "only queries with RD are answered")
        if question.rdclass != dns.rdataclass.IN:
            return self._refusal(query, dns.rcode.REFUSED, _EDE.NOT_SUPPORTED, "only class IN is answered")
        try:
            answer = await self._resolver.resolve(question.name, question.rdtype, check=not query.flags & dns.flags.CD)
        except ValidationError as error:
            return self._refusal(query, dns.rcode.SERVFAIL, error.code, str(error))
        except ResolutionError as error:
            return self._refusal(query, dns.rcode.SERVFAIL, _EDE.NO_REACHABLE_AUTHORITY, str(error))
        return self._filled(query, answer)

    def _is_allowed(self, source: str) -> bool:
        try:
            address = ipaddress.ip_address(source.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._allow)

    def _response(self, query: dns.message.Message, *options: dns.edns.Option) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= query.flags & dns.flags.CD
        if query.edns >= 0:
            response.use_edns(0, query.ednsflags & dns.flags.DO, self._payload, options=list(options))
        return response

    def _refusal(self, query: dns.message.Message, rcode: int, code: _EDE, why: str) -> dns.message.Message:
        response = self._response(query, dns.edns.EDEOption(code, why[:200]))
        response.set_rcode(dns.rcode.Rcode(rcode))
        return response

    def _filled(self, query: dns.message.Message, answer: Answer) -> dns.message.Message:
        options = [] if answer.error is None else [dns.edns.EDEOption(answer.error, answer.reason[:200])]
        response = self._response(query, *options)
        response.set_rcode(dns.rcode.Rcode(answer.rcode))
        wants_signatures = bool(query.ednsflags & dns.flags.DO)
        if answer.security is Security.SECURE and (wants_signatures or query.flags & dns.flags.AD):
            response.flags |= dns.flags.AD
        asked = query.question[0].rdtype

        def wanted(rrset: dns.rrset.RRset) -> bool:
            return wants_signatures or rrset.rdtype not in _SIGNATURES or rrset.rdtype == asked

        response.answer = [rrset for rrset in answer.answer if wanted(rrset)]
        response.authority = [rrset for rrset in answer.authority if wanted(rrset)]
        return response

    def _to_wire(self, query: dns.message.Message, response: dns.message.Message, request: Request) -> bytes:
        if request.over_tcp:
            limit = 65535
        else:
            limit = max(512, min(query.payload if query.edns >= 0 else 512, self._payload))
        try:
            return response.to_wire(max_size=limit, prefer_truncation=True)
        except dns.exception.DNSException:  # does not fit even into a TCP message, or cannot be truncated
            return reply(request, dns.rcode.SERVFAIL)
