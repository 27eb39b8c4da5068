"""``query``: one question to one DNS server, private types understood."""

from __future__ import annotations

from typing import Any

from cockpit.commands.base import Command, Parameter, Values
from cockpit.output import ExitCode, Lines, Result
from cockpit.session import Session
from mpcore.errors import ConfigError

__all__ = ("COMMANDS",)

_PLUS: dict[str, tuple[str, bool]] = {
    "+tcp": ("tcp", True),
    "+vc": ("tcp", True),
    "+dnssec": ("dnssec", True),
    "+do": ("dnssec", True),
    "+short": ("short", True),
    "+cd": ("cd", True),
    "+norec": ("norec", True),
    "+norecurse": ("norec", True),
}


def _understand(session: Session, values: Values) -> dict[str, Any]:
    """The words of the question, in any order, as other tools take them."""
    from mpcore.query import QueryError, reverse_name

    asked = {key: values[key] for key in ("tcp", "dnssec", "short", "cd", "norec", "server", "port", "tsig", "timeout")}
    name: str | None = None
    rdtype: str | None = None
    for word in values["words"]:
        if word.startswith("@"):
            asked["server"] = word
        elif word.startswith("+"):
            if word not in _PLUS:
                raise QueryError(f"{word}: not known; there are {', '.join(sorted(_PLUS))}")
            key, value = _PLUS[word]
            asked[key] = value
        elif name is None:
            name = word
        elif rdtype is None:
            rdtype = word
        else:
            raise QueryError(f"{word}: one name and one type are enough")
    if name is None:
        raise QueryError("a name is missing: query [@SERVER] NAME [TYPE]")
    if values["reverse"]:
        name, rdtype = reverse_name(name), rdtype or "PTR"
    return asked | {"name": name, "rdtype": rdtype or "A"}


def _server(session: Session, asked: dict[str, Any]) -> tuple[str, int]:
    from mpcore.query import parse_server

    if asked["server"] is not None:
        return parse_server(asked["server"], int(asked["port"] or 53))
    try:
        resolver = session.fleet.resolver
    except ConfigError as error:
        raise ConfigError(f"whom to ask? name a server with @ADDRESS ({error})") from None
    if resolver is None:
        raise ConfigError("whom to ask? contexts.yaml names no resolver: name a server with @ADDRESS")
    return resolver.address, int(asked["port"] or resolver.port)


async def _query(session: Session, values: Values) -> Result:
    from mpcore.query import lookup, parse_tsig_key

    asked = _understand(session, values)
    server, port = _server(session, asked)
    tsig = None
    if asked["tsig"] is not None:
        import anyio

        try:
            text = await anyio.Path(asked["tsig"]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot be read: {error}", file=asked["tsig"]) from None
        tsig = parse_tsig_key(text.strip())
    answer = await lookup(
        asked["name"],
        asked["rdtype"],
        server=server,
        port=port,
        tcp=asked["tcp"],
        dnssec=asked["dnssec"],
        recurse=not asked["norec"],
        checking_disabled=asked["cd"],
        timeout=asked["timeout"],
        tsig=tsig,
    )
    text = answer.to_short() if asked["short"] else answer.to_text()
    code = ExitCode.DONE if answer.rcode in ("NOERROR", "NXDOMAIN") else ExitCode.FAILED
    return Result(answer.to_json(), [Lines(text.split("\n") if text else [])], code)


COMMANDS = (
    Command(
        ("query",),
        "Ask a DNS server one question; private types and options are shown in words",
        (
            Parameter(
                "words",
                "[@SERVER] NAME [TYPE] [+tcp] [+dnssec] [+short] [+cd] [+norec], in any order; type A unless given.",
                "words",
                positional=True,
                required=True,
                metavar="QUESTION",
            ),
            Parameter("server", "Address of the server, with :PORT if need be; the lab's resolver unless given."),
            Parameter("port", "Port of the server.", "number", short="-p", least=1, most=65535),
            Parameter("tcp", "Ask over TCP.", "flag", default=False),
            Parameter("dnssec", "Ask for signatures.", "flag", default=False),
            Parameter("short", "Only the data of the answer.", "flag", default=False),
            Parameter("cd", "Checking disabled: accept what does not validate.", "flag", default=False),
            Parameter("norec", "Do not ask for recursion.", "flag", default=False),
            Parameter("reverse", "The name is an address: ask for its names.", "flag", short="-x", default=False),
            Parameter("tsig", "File with a TSIG key, as [algorithm:]name:secret.", metavar="FILE"),
            Parameter("timeout", "Seconds for each transport.", "seconds", default=5.0, least=0.1, most=60),
        ),
        details="The exit code is 0 for an answer, also that a name does not exist; 1 for a server's error; 3 when "
        "there is none.",
        examples=("query customer.example. HSYNC3", "query @127.100.0.11 -p 5300 agent.alpha.example. JWK +norec"),
        run=_query,
    ),
)
