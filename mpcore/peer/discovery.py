"""How an agent is found: which records are looked up, and what they mean together.

For the identity ``I`` (guide, wire format, "Discovery"; RFC 7553, RFC 9460):

=========================  =====  ==========================================================================
``_dns._tcp.I``            URI    scheme, host and port of the endpoint; the host is ``dns.I`` unless it says otherwise
host of the URI            SVCB   ``ipv4hint`` and ``ipv6hint``, all addresses in order; ``port`` if the URI has none
``dns.I``                  JWK    one or two public keys, EC P-256; also at the host of the URI if absent here
host of the URI            A      and AAAA, only if the SVCB record has no hints
=========================  =====  ==========================================================================

Where we have HTTPS ourselves, these too; whatever is wrong with them, the agent is still found by the others:

=========================  =====  ==========================================================================
``_mp-https._tcp.I``       URI    scheme https, host below ``I``, port (443), path: an agent of this implementation
host of that URI           SVCB   ``ipv4hint`` and ``ipv6hint``, or A and AAAA
``_<port>._tcp.<host>``    TLSA   usage 3, selector 1: the keys of its certificate; validated in any case
=========================  =====  ==========================================================================

The name is not ``_https._tcp``, which means another protocol to deployed agents: they would try it, in vain.

A key that an attacker can substitute protects nothing, so every answer must be validated (RFC 4035) unless
*require_secure* is switched off.

How a node drives this
----------------------
:func:`discovery_plan` is a generator.  It yields batches of :class:`Lookup`; look all of one batch up concurrently and
send the outcomes back, an answer or the exception of each; its return value is the :class:`Contact`.
:func:`run_discovery` does this for a synchronous resolver, and shows how.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
from dns.rdtypes.svcbbase import ParamKey

from mpcore.errors import MpError, RecordError, ResolutionError
from mpcore.peer.dane import Tlsa, usable
from mpcore.records import JWK, JWK_TYPE

__all__ = (
    "DEFAULT_PORT",
    "HTTPS_HOST",
    "HTTPS_SERVICE",
    "MAX_ADDRESSES",
    "MAX_KEYS",
    "Contact",
    "DiscoveryError",
    "HttpsContact",
    "Lookup",
    "LookupAnswer",
    "Outcome",
    "discovery_plan",
    "run_discovery",
)

DEFAULT_PORT: Final = 53
"""Port when neither URI nor SVCB names one."""

MAX_ADDRESSES: Final = 16
"""Addresses that are kept."""

MAX_KEYS: Final = 2
"""Keys that are tried: the current one, and the next one during a roll-over."""

HTTPS_SERVICE: Final = "_mp-https._tcp"
"""Where an agent announces HTTPS, before its identity."""

HTTPS_HOST: Final = "https"
"""The host that answers there, before the identity, unless the URI has another one."""

_T = TypeVar("_T")
_HTTPS_PORT: Final = 443
_PATH = re.compile(r"(/[A-Za-z0-9._~-]{1,63}){0,8}\Z")
_MAX_RECORDS: Final = 32
_MAX_ALIASES: Final = 4


class DiscoveryError(ResolutionError):
    """An agent cannot be found; the text says which record is missing, or what is wrong with it."""


class Lookup(NamedTuple):
    """One question.

    :ivar owner: absolute name with its trailing dot.
    :ivar rdtype: type number.
    """

    owner: str
    rdtype: int

    def __str__(self) -> str:
        return f"{self.owner} {dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.rdtype))}"


class LookupAnswer(Protocol):
    """The part of :class:`mpcore.net.resolver.Answer` that is used."""

    @property
    def rrset(self) -> dns.rrset.RRset | None: ...

    @property
    def security(self) -> str: ...

    @property
    def expires(self) -> float: ...


Outcome = LookupAnswer | Exception
"""What came of a lookup."""


@dataclass(frozen=True, slots=True)
class HttpsContact:
    """How an agent is reached by HTTPS.

    :param addresses: IP addresses, best first; never empty.
    :param host: name of the server, with its trailing dot.
    :param path: before the name of a message, without a trailing slash; perhaps empty.
    :param tlsa: the keys that its certificate may have, whether it is server or client; never empty.
    """

    addresses: tuple[str, ...]
    port: int
    host: str
    path: str
    tlsa: tuple[Tlsa, ...]


@dataclass(frozen=True, slots=True)
class Contact:
    """Where an agent is reached, and its key.

    :param addresses: IP addresses, best first; never empty.
    :param port: TCP port.
    :param jwk: public key, members ``kty``, ``crv``, ``x``, ``y`` in this order.
    :param expires: when to look it up again, Unix seconds.
    :param other_jwks: a second public key, if two are published: the agent is rolling its key over.
    :param https: how it is reached by HTTPS; ``None``: it is not, or we did not look.
    :param https_problem: why what it announces cannot be used.
    """

    addresses: tuple[str, ...]
    port: int
    jwk: Mapping[str, str]
    expires: float = float("inf")
    other_jwks: tuple[Mapping[str, str], ...] = ()
    https: HttpsContact | None = None
    https_problem: str | None = None


def discovery_plan(
    identity: str, *, require_secure: bool = True, https: bool = False
) -> Generator[tuple[Lookup, ...], Mapping[Lookup, Outcome], Contact]:
    """Look up the agent *identity*.

    :param identity: absolute name with its trailing dot.
    :param require_secure: refuse answers that are not validated.
    :param https: look for HTTPS as well.
    :return: a generator: yields batches of lookups, is sent their outcomes, returns the contact.
    :raises DiscoveryError: from the generator: the agent cannot be found.
    """
    reader = _Reader(require_secure)
    usual = f"dns.{identity}"
    uri, svcb, jwk = (
        Lookup(f"_dns._tcp.{identity}", dns.rdatatype.URI),
        Lookup(usual, dns.rdatatype.SVCB),
        Lookup(usual, JWK_TYPE),
    )
    reader.add((yield (uri, svcb, jwk)))
    host, port = _first(_uris(reader.records(uri)), f"{uri} names no usable endpoint")
    if host is None or _same(host, usual):
        host = usual
    at_host = Lookup(host, JWK_TYPE)
    wanted = [] if host == usual else [Lookup(host, dns.rdatatype.SVCB)]
    if host != usual and not reader.has(jwk):
        wanted.append(at_host)
    if wanted:
        reader.add((yield tuple(wanted)))

    owner = host
    for _ in range(_MAX_ALIASES):
        target = _alias(reader.optional(Lookup(owner, dns.rdatatype.SVCB)))
        if target is None or _same(target, owner):
            break
        owner = target
        reader.add((yield (Lookup(owner, dns.rdatatype.SVCB),)))
    addresses, service_port = _services(reader.optional(Lookup(owner, dns.rdatatype.SVCB)))
    if not addresses:
        pair = (Lookup(owner, dns.rdatatype.A), Lookup(owner, dns.rdatatype.AAAA))
        reader.add((yield pair))
        addresses = [rdata.address for lookup in pair for rdata in reader.optional(lookup)]
    if not addresses:
        raise DiscoveryError(reader.why(Lookup(host, dns.rdatatype.SVCB), "has no address hints"))

    place = jwk if reader.has(jwk) or host == usual else at_host
    keys = list(itertools.islice(_keys(reader.records(place)), MAX_KEYS))
    key = _first(keys, f"{place} holds no usable EC P-256 key")
    found, problem = (yield from _https(identity, reader)) if https else (None, None)
    return Contact(
        addresses=tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES],
        port=port or service_port or DEFAULT_PORT,
        jwk=key,
        expires=reader.expires,
        other_jwks=tuple(keys[1:]),
        https=found,
        https_problem=problem,
    )


def _https(
    identity: str, main: _Reader
) -> Generator[tuple[Lookup, ...], Mapping[Lookup, Outcome], tuple[HttpsContact | None, str | None]]:
    """How the agent is reached by HTTPS, and otherwise why not; neither: it announces nothing."""
    # A certificate is nothing but what DNS says about it: here everything is validated, always.
    reader = _Reader(require_secure=True)
    uri = Lookup(f"{HTTPS_SERVICE}.{identity}", dns.rdatatype.URI)
    reader.add((yield (uri,)))
    if not reader.exists(uri):
        return None, None
    try:
        host, port, path = _first(_https_uris(reader.records(uri), identity), f"{uri} names no usable endpoint")
        svcb, tlsa = Lookup(host, dns.rdatatype.SVCB), Lookup(f"_{port}._tcp.{host}", dns.rdatatype.TLSA)
        reader.add((yield (svcb, tlsa)))
        addresses, _ = _services(reader.optional(svcb))
        if not addresses:
            pair = (Lookup(host, dns.rdatatype.A), Lookup(host, dns.rdatatype.AAAA))
            reader.add((yield pair))
            addresses = [rdata.address for lookup in pair for rdata in reader.optional(lookup)]
        if not addresses:
            raise DiscoveryError(reader.why(svcb, "has no address hints"))
        keys = usable(reader.records(tlsa))
        if not keys:
            raise DiscoveryError(f"{tlsa} has no record of usage 3 and selector 1")
    except DiscoveryError as error:
        return None, str(error)
    main.expires = min(main.expires, reader.expires)
    return HttpsContact(tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES], port, host, path, keys), None


def run_discovery(
    identity: str, resolve: Callable[[Lookup], LookupAnswer], *, require_secure: bool = True, https: bool = False
) -> Contact:
    """Run :func:`discovery_plan` with a synchronous *resolve*, one lookup after the other.

    :raises DiscoveryError: the agent cannot be found.
    """
    plan = discovery_plan(identity, require_secure=require_secure, https=https)
    batch = next(plan)
    while True:
        outcomes: dict[Lookup, Outcome] = {}
        for lookup in batch:
            try:
                outcomes[lookup] = resolve(lookup)
            except MpError as error:
                outcomes[lookup] = error
        try:
            batch = plan.send(outcomes)
        except StopIteration as stop:
            contact: Contact = stop.value
            return contact


class _Reader:
    """The outcomes so far."""

    def __init__(self, require_secure: bool) -> None:
        self._require_secure = require_secure
        self._outcomes: dict[Lookup, Outcome | None] = {}
        self.expires = float("inf")

    def add(self, outcomes: Mapping[Lookup, Outcome]) -> None:
        self._outcomes.update(outcomes)

    def has(self, lookup: Lookup) -> bool:
        return bool(self._usable(lookup))

    def records(self, lookup: Lookup) -> list[Any]:
        """The records; :raises DiscoveryError: there are none that may be used."""
        records = self._usable(lookup)
        if not records:
            raise DiscoveryError(self.why(lookup, "does not exist"))
        self._use(lookup)
        return records

    def optional(self, lookup: Lookup) -> list[Any]:
        records = self._usable(lookup)
        if records:
            self._use(lookup)
        return records

    def exists(self, lookup: Lookup) -> bool:
        """Whether there is an answer with records, or no answer at all, rather than a proof that there is nothing."""
        outcome = self._outcomes.get(lookup)
        return isinstance(outcome, Exception) or (outcome is not None and outcome.rrset is not None)

    def why(self, lookup: Lookup, otherwise: str) -> str:
        """Why *lookup* is of no use."""
        outcome = self._outcomes.get(lookup)
        if isinstance(outcome, Exception):
            return f"{lookup}: {outcome}"
        if outcome is not None and outcome.rrset and not self._secure(outcome):
            return f"{lookup} is {str(outcome.security).lower()}, but must be validated"
        return f"{lookup} {otherwise}"

    def _usable(self, lookup: Lookup) -> list[Any]:
        outcome = self._outcomes.get(lookup)
        if outcome is None or isinstance(outcome, Exception) or not outcome.rrset or not self._secure(outcome):
            return []
        return list(outcome.rrset)[:_MAX_RECORDS]

    def _secure(self, answer: LookupAnswer) -> bool:
        return not self._require_secure or str(answer.security).lower() == "secure"

    def _use(self, lookup: Lookup) -> None:
        outcome = self._outcomes[lookup]
        if outcome is not None and not isinstance(outcome, Exception):
            self.expires = min(self.expires, outcome.expires)


def _first(found: Iterable[_T], otherwise: str) -> _T:
    for value in found:
        return value
    raise DiscoveryError(otherwise)


def _same(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()


def _uris(records: list[Any]) -> Iterable[tuple[str | None, int | None]]:
    """Host and port of each URI record that parses, best first (RFC 7553, section 4)."""
    for record in sorted(records, key=lambda record: (record.priority, -record.weight)):
        try:
            parts = urlsplit(record.target.decode("ascii"))
            host, port = parts.hostname, parts.port
        except (ValueError, UnicodeError):
            continue
        if not host or parts.scheme.lower() in ("http", "https") or port == 0:
            continue
        try:
            name = dns.name.from_text(host)
        except dns.exception.DNSException:
            continue
        yield name.to_text(), port


def _https_uris(records: list[Any], identity: str) -> Iterable[tuple[str, int, str]]:
    """Host, port and path of each URI record that can be used, best first."""
    for record in sorted(records, key=lambda record: (record.priority, -record.weight)):
        try:
            parts = urlsplit(record.target.decode("ascii"))
            host, port, path = parts.hostname or "", parts.port, parts.path.removesuffix("/")
            name = dns.name.from_text(host)
        except (ValueError, UnicodeError, dns.exception.DNSException):
            continue
        if parts.scheme.lower() != "https" or port == 0 or not _PATH.match(path) or parts.query or parts.fragment:
            continue
        # Only names of its own: what says whose certificate it is must come from its own zone.
        if not host or not name.is_subdomain(dns.name.from_text(identity)):
            continue
        yield name.to_text(), port or _HTTPS_PORT, path


def _alias(records: list[Any]) -> str | None:
    """Target of an SVCB record in AliasMode (RFC 9460, section 2.4.2)."""
    for record in records:
        if record.priority == 0 and record.target != dns.name.root:
            target: str = record.target.to_text()
            return target
    return None


def _services(records: list[Any]) -> tuple[list[str], int | None]:
    """Addresses of all SVCB records in ServiceMode, and the port of the first that has one (RFC 9460, section 7)."""
    addresses: list[str] = []
    port: int | None = None
    for record in sorted(records, key=lambda record: record.priority):
        if record.priority == 0:
            continue
        for key in (ParamKey.IPV4HINT, ParamKey.IPV6HINT):
            hint = record.params.get(key)
            addresses += list(hint.addresses) if hint is not None else []
        if port is None and record.params.get(ParamKey.PORT) is not None:
            port = record.params[ParamKey.PORT].port or None
    return addresses, port


def _keys(records: list[Any]) -> Iterable[dict[str, str]]:
    """The usable keys among JWK records."""
    for record in records:
        key = _key(record)
        if key is not None:
            yield key


def _key(record: object) -> dict[str, str] | None:
    """The public members of a usable EC P-256 key."""
    if not isinstance(record, JWK):
        return None
    try:
        return {str(name): str(value) for name, value in JWK.from_public_key_jwk(record.jwk()).jwk().items()}
    except (RecordError, ValueError):
        return None
