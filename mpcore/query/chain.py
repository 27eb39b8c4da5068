"""From the root to an answer: who refers to whom, and which signature vouches for what.

Both are what :class:`mpcore.net.resolver.Resolver` does for a question, told step by step: the verdict is the
resolver's own, nothing is validated a second time.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zonefile

from mpcore.errors import ConfigError, ResolutionError
from mpcore.net.clock import Clock, SystemClock
from mpcore.net.network import Address, InternetNetwork, Network
from mpcore.net.resolver import Answer, Resolver, Security, load_trust_anchors
from mpcore.net.resolver_events import Asked, Event
from mpcore.query.asking import name_of, type_of
from mpcore.query.explain import ede_text, rdata_text
from mpcore.query.layout import StyledLine, aligned, comment, line, plain, printable
from mpcore.query.links import Link, trust_links
from mpcore.query.result import View, message_json, message_lines
from mpcore.query.walk import Step, walk_steps
from mpcore.query.words import QueryError, Question

__all__ = ("ROOT_ANCHORS", "ROOT_HINTS", "Investigation", "Origin", "investigate", "load_root_hints")

ROOT_ANCHORS: Final = (
    ". 0 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". 0 IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
)
"""The keys of the Internet's root (RFC 9718)."""

ROOT_HINTS: Final = (
    "198.41.0.4",
    "170.247.170.2",
    "192.33.4.12",
    "199.7.91.13",
    "192.203.230.10",
    "192.5.5.241",
    "192.112.36.4",
    "198.97.190.53",
    "192.36.148.17",
    "192.58.128.30",
    "193.0.14.129",
    "199.7.83.42",
    "202.12.27.33",
)
"""The Internet's root servers, a to m."""

_PATIENCE: Final = 30.0  # seconds for one question
_DENIALS: Final = (dns.rdatatype.NSEC, dns.rdatatype.NSEC3)
_SIGNING: Final = (dns.rdatatype.RRSIG, *_DENIALS)


def load_root_hints(path: Path) -> list[str]:
    """The addresses of root servers in a file of hints, master-file form; it blocks.

    :raises ConfigError: the file cannot be read, does not parse, or has no addresses.
    """
    file = str(path)
    try:
        text = path.read_text("utf-8")
        rrsets = dns.zonefile.read_rrsets(text, rdclass=None, default_ttl=0, origin=dns.name.root, relativize=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from None
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigError(f"does not parse as root hints: {error}", file=file) from None
    kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
    found = [str(rdata.address) for rrset in rrsets for rdata in rrset if rrset.rdtype in kinds]
    if not found:
        raise ConfigError("there is no address in it", file=file)
    return found


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an investigation begins.

    :param servers: addresses of root servers to walk from, or of recursive servers to ask.
    :param port: of the servers; when walking, of every server on the way.
    :param walk: whether *servers* are root servers.
    :param anchor_file: DS or DNSKEY records; ``None``: those of the Internet's root.
    """

    servers: Sequence[str] = ROOT_HINTS
    port: int = 53
    walk: bool = True
    anchor_file: Path | None = None

    def anchors(self) -> list[dns.rrset.RRset]:
        """The trust anchors; it blocks.  :raises ConfigError: the file cannot be used."""
        if self.anchor_file is not None:
            return load_trust_anchors(self.anchor_file)
        rdatas = [text.split(" ", 4)[4] for text in ROOT_ANCHORS]
        return [dns.rrset.from_text(dns.name.root, 0, "IN", "DS", *rdatas)]


@dataclass(frozen=True, slots=True)
class Investigation:
    """What was found out about a question, and how."""

    question: Question
    asked_at: float  #: Unix seconds
    elapsed: float  #: seconds
    validated: bool  #: whether there were trust anchors
    anchors: str  #: where they are from
    answer: Answer | None = field(repr=False)  #: ``None``: there is none, *problem* says why
    problem: str
    reached: bool  #: whether any server answered anything
    steps: tuple[Step, ...]
    links: tuple[Link, ...]

    @property
    def verdict(self) -> Security | None:
        """What validation says; ``None``: it did not take place."""
        return self.answer.security if self.validated and self.answer is not None else None

    def message(self, *, dnssec: bool = False, bogus_too: bool = False) -> dns.message.Message:
        """The answer as a validating resolver would give it: AD if it is secure, SERVFAIL if it is bogus.

        :param dnssec: signatures and proofs, too.
        :param bogus_too: data that did not validate, too (CD).
        """
        message = dns.message.make_query(name_of(self.question.name), type_of(self.question.rdtype), id=0)
        message.flags = dns.flags.Flag(dns.flags.QR | dns.flags.RA | dns.flags.RD)
        answer = self.answer
        if answer is None:
            message.set_rcode(dns.rcode.SERVFAIL)
            return message
        bogus = self.verdict is Security.BOGUS
        message.set_rcode(dns.rcode.SERVFAIL if bogus and not bogus_too else dns.rcode.Rcode(answer.rcode))
        if bogus:
            code = answer.error if answer.error is not None else dns.edns.EDECode.DNSSEC_BOGUS
            message.use_edns(0, 0, 1232, options=[dns.edns.EDEOption(code, answer.reason)])
        if self.verdict is Security.SECURE:
            message.flags |= dns.flags.AD
        if not bogus or bogus_too:
            message.answer = [rrset for rrset in answer.answer if dnssec or rrset.rdtype not in _SIGNING]
            message.authority = [rrset for rrset in answer.authority if dnssec or rrset.rdtype not in _SIGNING]
        return message

    # --- text ---

    def lines(
        self, view: View, *, trace: bool = False, dnssec: bool = False, bogus_too: bool = False
    ) -> list[StyledLine]:
        """The walk if *trace*, the chain of trust if it was looked at, and the answer."""
        lines: list[StyledLine] = []
        if trace:
            lines += [*self._trace_lines(), line()]
        if self.validated:
            lines += [*self._chain_lines(), line()]
        if self.answer is None:
            return [*lines, comment(f"NO ANSWER: {printable(self.problem)}", "bad")]
        message = self.message(dnssec=dnssec, bogus_too=bogus_too)
        if view.short:
            shown = [line(rdata_text(rdata, crypto=view.crypto)) for rrset in message.answer for rdata in rrset]
            return lines[:-1] + shown if not shown else lines + shown
        rcode = dns.rcode.to_text(message.rcode())
        style = {"NOERROR": "good", "NXDOMAIN": "warning"}.get(rcode, "bad")
        authenticated = ", authenticated (ad)" if message.flags & dns.flags.AD else ""
        heading = [comment(f"ANSWER: {rcode}{authenticated}", style)]
        lines += message_lines(message, replace(view, question=False), self.asked_at, heading=heading)
        if self.verdict is Security.BOGUS and not bogus_too:
            lines += [line(), comment("what did not validate is shown with +cd")]
        if view.stats:
            lines += [line(), comment(f"Query time: {self.elapsed * 1000:.0f} msec, {len(self.steps)} messages")]
        return lines

    def to_text(self, view: View, **what: bool) -> str:
        """The same without styles."""
        return plain(self.lines(view, **what))

    def _trace_lines(self) -> list[StyledLine]:
        rows = []
        asked = f"{self.question.name.rstrip('.')}. {self.question.rdtype}"
        for step in self.steps:
            style = {"answer": "good", "lame": "warning", "silent": "warning"}.get(step.outcome, "")
            subject = f"{step.name} {step.rdtype}"
            words = step.words if subject.lower() == asked.lower() else f"{step.words}  [{subject}]"
            rows.append(
                [
                    ("name", step.zone),
                    ("", f"{step.server}#{step.port}"),
                    ("", step.transport.upper()),
                    ("", f"{step.seconds * 1000:.0f} ms"),
                    (style, printable(words)),
                ]
            )
        return [comment(f"TRACE {printable(asked)}", "title"), *aligned(rows, (32, 40))]

    def _chain_lines(self) -> list[StyledLine]:
        rows: list[list[tuple[str, str]]] = []
        below: list[tuple[str, ...]] = []
        for link in self.links:
            style = "" if link.good else "bad"
            rows.append([("name", printable(link.name)), ("type", link.kind.upper()), (style, printable(link.words))])
            below.append(link.details)
        lines = [comment(f"CHAIN OF TRUST, from {printable(self.anchors)}", "title")]
        for row, details in zip(aligned(rows, (40,)), below, strict=True):
            lines.append(row)
            lines += [line("    ", ("comment", printable(text))) for text in details]
        return [*lines, *self._verdict_lines()]

    def _verdict_lines(self) -> list[StyledLine]:
        answer = self.answer
        if answer is None:
            return []
        words = {
            Security.SECURE: ("good", "a chain of signatures leads from the trust anchor to the answer"),
            Security.INSECURE: ("warning", printable(answer.reason)),
            Security.INDETERMINATE: ("warning", printable(answer.reason)),
            Security.BOGUS: ("bad", printable(answer.reason)),
        }
        style, text = words[answer.security]
        lines = [comment(f"{answer.security.upper()}: {text}", style)]
        if answer.error is not None:
            lines.append(comment(f"EDE: {int(answer.error)} ({ede_text(int(answer.error))})", style))
        return lines

    # --- JSON ---

    def to_json(self, *, dnssec: bool = False, bogus_too: bool = False) -> dict[str, Any]:
        """Everything as plain data (guide, query, "JSON")."""
        shown: dict[str, Any] = {
            "asked_at": round(self.asked_at, 3),
            "elapsed": round(self.elapsed, 6),
            "trace": [step.to_json() for step in self.steps],
            "problem": self.problem or None,
        }
        if self.validated:
            answer = self.answer
            shown |= {
                "verdict": None if answer is None else str(answer.security),
                "reason": None if answer is None else answer.reason or None,
                "error": None if answer is None or answer.error is None else int(answer.error),
                "error_name": None if answer is None or answer.error is None else ede_text(int(answer.error)),
                "anchors": self.anchors,
                "chain": [link.to_json() for link in self.links],
            }
        return shown | message_json(self.message(dnssec=dnssec, bogus_too=bogus_too), self.asked_at)


async def investigate(
    question: Question,
    origin: Origin,
    *,
    validate: bool,
    timeout: float = 5.0,
    network: Network | None = None,
    clock: Clock | None = None,
) -> Investigation:
    """Find an answer, and remember how; it blocks while it reads a file of trust anchors.

    :param validate: look at the chain of trust.
    :param timeout: longest wait for one answer, seconds.
    :raises QueryError: this question has no chain: a transfer, a meta-type, a class other than IN.
    :raises ConfigError: the trust anchors cannot be used.
    """
    if question.is_transfer or question.rdclass != "IN" or dns.rdatatype.is_metatype(type_of(question.rdtype)):
        raise QueryError(f"{question}: only data of class IN can be traced and validated")
    name = name_of(question.name)
    clock = clock or SystemClock()
    events: list[Event] = []
    servers: list[Address] = [(str(ipaddress.ip_address(host)), origin.port) for host in origin.servers]
    resolver = Resolver(
        network or InternetNetwork(),
        trust_anchors=origin.anchors() if validate else [],
        root_hints=[host for host, _ in servers] if origin.walk else (),
        forwarders=() if origin.walk else servers,
        port=origin.port,
        clock=clock,
        random=random.SystemRandom(),
        timeout=timeout,
        patience=max(_PATIENCE, 2 * timeout),
        observe=events.append,
    )
    started = clock.now()
    answer, problem = None, ""
    try:
        answer = await resolver.resolve(name, type_of(question.rdtype), check=False)
    except ResolutionError as error:
        problem = str(error)
    now = clock.now()
    return Investigation(
        question=question,
        asked_at=started,
        elapsed=now - started,
        validated=validate,
        anchors="the root's built-in trust anchors" if origin.anchor_file is None else str(origin.anchor_file),
        answer=answer,
        problem=problem,
        reached=any(isinstance(event, Asked) and event.message is not None for event in events),
        steps=tuple(walk_steps(events, origin.walk)),
        links=tuple(trust_links(events, now)) if validate else (),
    )
