"""``query``: questions to DNS servers, private types understood; transfers, updates, walks, chains of trust."""

from __future__ import annotations

from cockpit.commands.base import Command, Emit, Parameter, Values
from cockpit.output import ExitCode
from cockpit.session import Session

__all__ = ("COMMANDS",)


async def _query(session: Session, values: Values, emit: Emit) -> ExitCode:
    from cockpit.query import run_query

    return await run_query(session, values, emit)


_QUESTION = (
    Parameter(
        "words",
        "[@SERVER] NAME [TYPE] ... [+WORD] ..., in any order; several names and types ask several questions.",
        "words",
        positional=True,
        default=(),
        metavar="QUESTION",
    ),
    Parameter("server", "Address or name of the server, with :PORT if need be; the same as @SERVER."),
    Parameter("port", "Port of the server; with --trace, of all servers.", "number", short="-p", least=1, most=65535),
    Parameter("reverse", "An address is among the names: ask for its names.", "flag", short="-x", default=False),
    Parameter("ipv4", "Only by IPv4.", "flag", short="-4", default=False),
    Parameter("ipv6", "Only by IPv6.", "flag", short="-6", default=False),
    Parameter(
        "resolv_conf",
        "Where the system names its resolvers, asked when neither a server nor a context's resolver is named.",
        "file",
        default="/etc/resolv.conf",
        metavar="FILE",
    ),
)

_MESSAGE = (
    Parameter("dnssec", "Ask for signatures.", "flag", default=False),
    Parameter("cd", "Checking disabled: take what does not validate.", "flag", default=False),
    Parameter("ad", "Ask whether the answer is authenticated.", "flag", default=False),
    Parameter("norec", "Do not ask for recursion.", "flag", default=False),
    Parameter("bufsize", "Size of UDP answers that is offered, octets.", "number", default=1232, least=512, most=65535),
    Parameter("nsid", "Ask for the server's identifier.", "flag", default=False),
    Parameter("cookie", "Send a cookie.", "flag", default=False),
    Parameter("ignore", "Take a truncated answer as it is.", "flag", default=False),
    Parameter("timeout", "Seconds for each attempt.", "seconds", default=5.0, least=0.1, most=600),
    Parameter("retry", "Further attempts over UDP.", "number", default=2, least=0, most=20),
)

_TRANSPORT = (
    Parameter("tcp", "Ask over TCP.", "flag", default=False),
    Parameter("tls", "Ask over TLS; without the options below the server is not authenticated.", "flag", default=False),
    Parameter("tls_hostname", "Name that the server's certificate must have.", metavar="NAME"),
    Parameter("tls_ca", "Authorities that may have issued it, PEM; the system's unless given.", "file", metavar="FILE"),
    Parameter("tls_pin", "SHA-256 of the key that the server must have, base64.", metavar="PIN"),
    Parameter("tsig_file", "Sign with the TSIG key in this file, and verify the answer.", "file", metavar="FILE"),
    Parameter("tsig_key", "Which key of that file.", metavar="NAME"),
    Parameter("sig0_file", "Sign with the SIG(0) key in FILE.private and FILE.key.", "file", metavar="FILE"),
)

_SHOWN = (
    Parameter("short", "Only the data of the answer.", "flag", default=False),
    Parameter("multi", "Long records on several lines, their members explained.", "flag", default=False),
    Parameter("ttlunits", "TTLs as 1d2h3m4s.", "flag", default=False),
)

_OTHER = (
    Parameter("trace", "Walk down from the root, and show each server on the way.", "flag", default=False),
    Parameter("root_hints", "Addresses of root servers, master-file form.", "file", metavar="FILE"),
    Parameter("validate", "Show the chain of trust, link by link.", "flag", default=False),
    Parameter("anchor", "Trust anchors, DS or DNSKEY in master-file form.", "file", metavar="FILE"),
    Parameter("opcode", "What is sent.", choices=("QUERY", "NOTIFY", "UPDATE"), default="QUERY"),
    Parameter("serial", "With NOTIFY: the serial of the zone.", "number", least=0, most=4294967295),
    Parameter("file", "With UPDATE: statements from a file, - for standard input.", "file", metavar="FILE"),
    Parameter("dry_run", "With NOTIFY and UPDATE: show the message, send nothing.", "flag", default=False),
)

COMMANDS = (
    Command(
        ("query",),
        "Ask DNS servers; private types and options are shown in words",
        (*_QUESTION, *_MESSAGE, *_TRANSPORT, *_SHOWN, *_OTHER),
        details="Types are mnemonics or TYPEnnn, AXFR and IXFR=SERIAL transfer a zone. Without a server, the context's "
        "resolver is asked (in a lab, the lab's), else the system's. Words with + are those of dig; 'mpcockpit guide "
        "query' explains them all.\n\nThe exit code is 0 for an answer, also that a name does not exist; 1 for a "
        "server's error, a BOGUS answer, a transfer that is not complete or a signature that does not verify; 3 when "
        "no server answers.",
        changes="with --opcode UPDATE the zone at the server; with --opcode NOTIFY it makes a secondary look",
        examples=(
            "query customer.example. HSYNC3",
            "query @127.100.0.11 -p 5300 agent.alpha.example. JWK +norec +multi",
            "query www.customer.example. AAAA --trace --validate",
            "query @127.100.0.11:5300 customer.example. AXFR --tsig-file transfer.key",
            "query @127.100.0.3:5300 --opcode UPDATE customer.example. 'add www.customer.example. 300 A 192.0.2.1' "
            "--tsig-file owner.key",
            "query @127.100.0.11:5300 --opcode NOTIFY customer.example. --serial 2026112401",
        ),
        stream=_query,
        ends=True,
    ),
)
