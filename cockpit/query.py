"""The work behind ``query``: from the words on the line to results, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cockpit.commands.base import Emit, Values
from cockpit.output import ExitCode, Result, Styled, exit_code, narrate
from cockpit.session import Session
from mpcore.errors import ConfigError, RemoteError
from mpcore.query.layout import StyledLine, comment, line
from mpcore.query.words import Line, QueryError, Question, Server, parse_line, parse_server, parse_words

if TYPE_CHECKING:
    from mpcore.query.asking import Asker, Manner
    from mpcore.query.chain import Origin
    from mpcore.query.result import LookupResult, View
    from mpcore.query.transfer import TransferRecord, TransferSummary
    from mpcore.query.update import Update

__all__ = ("run_query",)

#: Settings that long options and ``+`` words share.
_SHARED = (
    "tcp",
    "tls",
    "dnssec",
    "short",
    "multi",
    "cd",
    "ad",
    "recurse",
    "nsid",
    "cookie",
    "ignore",
    "ttlunits",
    "bufsize",
    "timeout",
    "retry",
    "opcode",
    "trace",
    "validate",
)
_PORTS = {"udp": 53, "tcp": 53, "tls": 853}
_MAX_FILE = 1 << 20


async def run_query(session: Session, values: Values, emit: Emit) -> ExitCode:
    """Understand the line and do what it says; results go to *emit*."""
    settings: dict[str, Any] = {name: values[name] for name in _SHARED if name != "recurse"}
    settings |= {"recurse": not values["norec"]}
    words: Sequence[str] = values["words"] or ()
    settings |= parse_words(words)[2]
    opcode = settings["opcode"]
    if opcode == "QUERY":
        understood = parse_line(words, reverse=values["reverse"])
        _refuse(values, "an update or a NOTIFY", "file", "dry_run", "sig0_file", "serial")
        if settings["trace"] or settings["validate"]:
            return await _investigate(session, values, settings, understood, emit)
        return await _ask(session, values, settings, understood, emit)
    if settings["trace"] or settings["validate"] or values["reverse"]:
        raise QueryError(f"--opcode {opcode} goes with none of --trace, --validate and -x")
    rest, server, _ = parse_words(words)
    if not values["dry_run"]:
        session.check_writable()
    if opcode == "NOTIFY":
        _refuse(values, "an update", "file")
        return await _notify(session, values, settings, rest, server, emit)
    _refuse(values, "a NOTIFY", "serial")
    return await _update(session, values, settings, rest, server, emit)


def _refuse(values: Values, what: str, *names: str) -> None:
    for name in names:
        if values[name] not in (None, False):
            raise QueryError(f"--{name.replace('_', '-')} belongs to {what}")


# --- whom, and how ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Default:
    """Whom to ask when nobody is named."""

    host: str
    port: int


def _default_server(session: Session, values: Values) -> _Default | None:
    from mpcore.query.asking import system_servers

    fleet = session.fleet_if_any
    if fleet is not None and fleet.resolver is not None:
        return _Default(fleet.resolver.address, fleet.resolver.port)
    addresses = system_servers(Path(values["resolv_conf"]))
    version = _version(values)
    fitting = [each for each in addresses if version is None or (":" in each) == (version == 6)]
    return _Default(fitting[0], 53) if fitting else None


def _version(values: Values) -> int | None:
    if values["ipv4"] and values["ipv6"]:
        raise QueryError("-4 and -6: only one of them")
    return 4 if values["ipv4"] else 6 if values["ipv6"] else None


def _named_server(values: Values, named: Server | None) -> Server | None:
    if values["server"] is not None:
        if named is not None:
            raise QueryError(f"--server {values['server']}: a second server; one line asks one server")
        named = parse_server(values["server"])
    if named is not None and named.port is not None and values["port"] not in (None, named.port):
        raise QueryError(f"--port {values['port']}: the server has port {named.port} already")
    return named


async def _server(
    session: Session, values: Values, named: Server | None, transport: str, *, must_be_named: str = ""
) -> tuple[str, int]:
    """Numeric address and port of whom to ask."""
    from mpcore.query.asking import find_server

    named = _named_server(values, named)
    if named is None and must_be_named:
        raise QueryError(f"{must_be_named}: name the server, @ADDRESS")
    default = None if named is not None and named.is_address else _default_server(session, values)
    if named is None:
        if default is None:
            raise ConfigError("whom to ask? no context names a resolver, and the system has none: name one, @ADDRESS")
        return default.host, values["port"] or (default.port if transport != "tls" else _PORTS["tls"])
    via = None if default is None else (default.host, default.port)
    host = await find_server(named, via, version=_version(values))
    return host, named.port or values["port"] or _usual_port(session, host, transport)


def _usual_port(session: Session, host: str, transport: str) -> int:
    """The port of a server when nobody says; in a private world on this machine, that of its servers."""
    fleet = session.fleet_if_any
    if fleet is not None and fleet.root is not None and transport != "tls" and _is_loopback(host, fleet.root.address):
        return fleet.root.port
    return _PORTS[transport]


def _is_loopback(*hosts: str) -> bool:
    import ipaddress

    return all(ipaddress.ip_address(host).is_loopback for host in hosts)


def _manner(values: Values, settings: Mapping[str, Any], named: Server | None) -> Manner:
    """How to ask; blocks while it reads keys."""
    from mpcore.query.asking import Manner, TlsTrust
    from mpcore.query.keyfiles import load_sig0_key, load_tsig_key

    trust = TlsTrust(
        values["tls_hostname"],
        None if values["tls_ca"] is None else Path(values["tls_ca"]),
        () if values["tls_pin"] is None else (values["tls_pin"],),
    )
    by_scheme = None if named is None else named.transport
    transport = by_scheme or ("tls" if settings["tls"] else "tcp" if settings["tcp"] else "udp")
    if trust != TlsTrust():
        if by_scheme in ("udp", "tcp"):
            raise QueryError(f"@{by_scheme}://: --tls-hostname, --tls-ca and --tls-pin want TLS")
        transport = "tls"
    if values["tsig_key"] is not None and values["tsig_file"] is None:
        raise QueryError("--tsig-key wants --tsig-file")
    tsig = None if values["tsig_file"] is None else load_tsig_key(Path(values["tsig_file"]), values["tsig_key"])
    sig0 = None if values["sig0_file"] is None else load_sig0_key(Path(values["sig0_file"]))
    retry = settings["retry"] if "tries" not in settings else settings["tries"] - 1
    manner = Manner(
        transport=transport,
        dnssec=settings["dnssec"],
        recurse=settings["recurse"],
        checking_disabled=settings["cd"],
        authenticated=settings["ad"],
        edns=settings.get("edns", True),
        bufsize=settings["bufsize"],
        nsid=settings["nsid"],
        cookie=settings["cookie"],
        subnet=settings.get("subnet"),
        padding=settings.get("padding"),
        ignore_truncation=settings["ignore"],
        timeout=settings["timeout"],
        retry=retry,
        tsig=tsig,
        sig0=sig0,
        tls=trust,
    )
    manner.check()
    return manner


def _view(settings: Mapping[str, Any]) -> View:
    from mpcore.query.result import View

    everything = settings.get("all", True)
    return View(
        short=settings["short"],
        multi=settings["multi"],
        explain=settings.get("explain", True),
        crypto=settings.get("crypto", True),
        ttl_units=settings["ttlunits"],
        **{
            part: settings.get(part, everything)
            for part in ("comments", "stats", "question", "answer", "authority", "additional")
        },
    )


def _output(settings: Mapping[str, Any]) -> Any:
    return "json" if settings.get("json") else None


async def _blocking(function: Any, *arguments: Any) -> Any:
    import anyio.to_thread

    return await anyio.to_thread.run_sync(function, *arguments)


# --- look-ups and transfers ------------------------------------------------------------------------------------------


async def _ask(session: Session, values: Values, settings: dict[str, Any], asked: Line, emit: Emit) -> ExitCode:
    from mpcore.query.asking import Asker

    _refuse(values, "--trace", "root_hints")
    _refuse(values, "--validate", "anchor")
    manner: Manner = await _blocking(_manner, values, settings, _named_server(values, asked.server))
    host, port = await _server(session, values, asked.server, manner.transport)
    asker = Asker(host, port, manner)
    view = _view(settings)
    code = ExitCode.DONE
    for number, question in enumerate(asked.questions):
        try:
            if question.is_transfer:
                await _transfer(asker, question, view, settings, emit)
                continue
            result = await asker.ask(question)
        except RemoteError as error:
            if len(asked.questions) == 1:
                raise
            narrate(f"mpcockpit: {question}: {error}")
            code = max(code, exit_code(error))
            continue
        emit(_shown(result, view, settings, first=number == 0))
        if result.rcode not in ("NOERROR", "NXDOMAIN"):
            code = max(code, ExitCode.FAILED)
    return code


def _shown(result: LookupResult, view: View, settings: Mapping[str, Any], *, first: bool) -> Result:
    from mpcore.query.result import message_lines

    lines: list[StyledLine] = []
    if settings.get("query_shown") and result.query is not None:
        lines += [comment("QUERY SENT", "title"), *message_lines(result.query, view, result.asked_at), line()]
    lines += result.lines(view)
    if not first and not view.short:
        lines.insert(0, line())
    return Result(result.to_json(), [Styled(lines)] if lines else [], output=_output(settings))


async def _transfer(
    asker: Asker, question: Question, view: View, settings: Mapping[str, Any], emit: Emit
) -> TransferSummary:
    from mpcore.query.asking import Asker
    from mpcore.query.transfer import transfer

    if asker.manner.transport == "udp":
        asker = Asker(asker.host, asker.port, replace(asker.manner, transport="tcp"))
    widths = [24, 6, 2, 6]
    output = _output(settings)

    def tell(records: Sequence[TransferRecord]) -> None:
        # One emission for each message as text; for machines, an object for each record.
        lines = [_transfer_line(record, view, widths) for record in records]
        emit(Result([record.to_json() for record in records], [Styled(lines)], output=output, lines=True))

    summary = await transfer(asker, question, tell)
    lines = _summary_lines(summary) if view.stats and not view.short else []
    emit(Result({"transfer": summary.to_json()}, [Styled(lines)] if lines else [], output=output))
    return summary


def _transfer_line(record: TransferRecord, view: View, widths: list[int]) -> StyledLine:
    from mpcore.query.result import ttl_text

    if view.short:
        return line(record.data)
    ttl = ttl_text(record.ttl, view.ttl_units)
    cells = (record.owner, ttl, "IN", record.rdtype)
    for column, cell in enumerate(cells):
        widths[column] = max(widths[column], min(len(cell), 48))
    owner, number, name, rdtype = (f"{cell:<{width}} " for cell, width in zip(cells, widths, strict=True))
    sign = {"": (), "add": (("good", "+ "),), "delete": (("bad", "- "),)}[record.change]
    return (*sign, ("name", owner), ("", number), ("", name), ("type", rdtype), ("", record.data))


def _summary_lines(summary: TransferSummary) -> list[StyledLine]:
    whole = f"serial {summary.serial}"
    what = {
        "whole zone": f"{summary.zone} is complete: {whole}"
        + ("" if summary.since is None else f" (the whole zone, instead of changes since {summary.since})"),
        "changes": f"{summary.zone} changes are complete: from serial {summary.since} to {summary.serial}",
        "nothing new": f"{summary.zone} has nothing newer: {whole}",
    }[summary.kind]
    known = summary.authenticated_by
    tls = f", authenticated: {known}" if known else ", NOT AUTHENTICATED" if summary.transport == "tls" else ""
    lines = [
        line(),
        comment(f"TRANSFER {what}", "good"),
        comment(
            f"{summary.records} records, {summary.messages} messages, {summary.octets} octets, "
            f"{summary.seconds * 1000:.0f} msec"
        ),
        comment(f"SERVER: {summary.server}#{summary.port} ({summary.transport.upper()}{tls})"),
    ]
    if summary.tsig_key is not None:
        lines.append(comment(f"TSIG: verified with key {summary.tsig_key}", "good"))
    return lines


# --- walks and chains of trust ---------------------------------------------------------------------------------------


async def _investigate(session: Session, values: Values, settings: dict[str, Any], asked: Line, emit: Emit) -> ExitCode:
    from mpcore.query.chain import investigate

    trace, validate = settings["trace"], settings["validate"]
    option = "--trace" if trace else "--validate"
    if settings["tcp"] or settings["tls"] or values["tsig_file"] is not None:
        raise QueryError(f"{option} chooses its transports itself, and signs nothing: no +tcp, +tls or --tsig-file")
    origin: Origin = await _origin(session, values, asked.server, walk=trace)
    code = ExitCode.DONE
    view = _view(settings)
    for number, question in enumerate(asked.questions):
        found = await investigate(question, origin, validate=validate, timeout=settings["timeout"])
        what = {"dnssec": settings["dnssec"], "bogus_too": settings["cd"]}
        lines = found.lines(view, trace=trace, **what)
        if number and not view.short:
            lines.insert(0, line())
        emit(Result(found.to_json(**what), [Styled(lines)] if lines else [], output=_output(settings)))
        if found.answer is None:
            code = max(code, ExitCode.FAILED if found.reached else ExitCode.RETRY)
        elif found.verdict == "bogus":
            code = max(code, ExitCode.FAILED)
    return code


async def _origin(session: Session, values: Values, named: Server | None, *, walk: bool) -> Origin:
    """Where to begin: at the context's root or resolver, with its trust anchor, unless others are named."""
    from mpcore.query.chain import ROOT_HINTS, Origin, load_root_hints

    if not walk:
        _refuse(values, "--trace", "root_hints")
    named = _named_server(values, named)
    fleet = session.fleet_if_any
    home = None if fleet is None else fleet.root if walk else fleet.resolver
    if values["root_hints"] is not None:
        if named is not None:
            raise QueryError(f"@{named.host}: a walk begins there or at --root-hints, not at both")
        hints = await _blocking(load_root_hints, Path(values["root_hints"]))
        begin, port = hints, values["port"] or (53 if home is None else home.port)
    elif named is not None or not walk:
        host, port = await _server(session, values, named, "udp")
        begin = [host]
    elif home is not None:
        begin, port = [home.address], values["port"] or home.port
    else:
        begin, port = list(ROOT_HINTS), values["port"] or 53
    anchor = None if values["anchor"] is None else Path(values["anchor"])
    if anchor is None and fleet is not None:
        own = {each.address for each in (fleet.resolver, fleet.root) if each is not None}
        if own.issuperset(begin):
            anchor = fleet.trust_anchor_file
    return Origin(begin, port, walk, anchor)


# --- NOTIFY and UPDATE -----------------------------------------------------------------------------------------------


async def _notify(
    session: Session, values: Values, settings: dict[str, Any], rest: list[str], server: Server | None, emit: Emit
) -> ExitCode:
    from mpcore.query.asking import Asker, notify_message

    if len(rest) not in (1, 2):
        raise QueryError(f"{' '.join(rest) or '(nothing)'}: a NOTIFY is for one zone: ZONE [TYPE]")
    zone, rdtype = rest[0], rest[1] if len(rest) == 2 else "SOA"
    if values["serial"] is not None and rdtype.upper() != "SOA":
        raise QueryError(f"--serial: a NOTIFY of {rdtype} has no serial")
    manner: Manner = await _blocking(_manner, values, settings, _named_server(values, server))
    message = notify_message(zone, rdtype, values["serial"], replace(manner, edns=settings.get("edns", False)))
    what = f"NOTIFY {zone} {rdtype.upper()}" + ("" if values["serial"] is None else f" serial {values['serial']}")
    if values["dry_run"]:
        return _not_sent(what, message, settings, emit)
    host, port = await _server(session, values, server, manner.transport, must_be_named=what)
    result = await Asker(host, port, manner).send(message)
    return _told(what, result, settings, emit)


async def _update(
    session: Session, values: Values, settings: dict[str, Any], rest: list[str], server: Server | None, emit: Emit
) -> ExitCode:
    from mpcore.query.asking import Asker
    from mpcore.query.update import parse_update

    zone, statements = (rest[0] if rest else None), rest[1:]
    if values["file"] is None:
        if not statements:
            raise QueryError(
                "an update wants ZONE and statements such as 'add www.example. 300 A 192.0.2.1', or --file"
            )
        updates = parse_update(statements, zone=zone)
    else:
        if statements:
            raise QueryError(f"{statements[0]!r}: statements are in --file, or on the line, not in both")
        text = await _blocking(_read, values["file"])
        updates = parse_update(text.splitlines(), zone=zone, where=values["file"])
    manner: Manner = await _blocking(_manner, values, settings, _named_server(values, server))
    if manner.transport == "udp":
        # What was lost on the way must not be done twice.
        manner = replace(manner, transport="tcp")
    for update in updates:
        what = f"UPDATE {update.zone}"
        if values["dry_run"]:
            _not_sent(what, update.message, settings, emit, update)
            continue
        host, port = await _server(session, values, server or update.server, manner.transport, must_be_named=what)
        code = _told(what, await Asker(host, port, manner).send(update.message), settings, emit, update)
        if code != ExitCode.DONE:
            return code
    return ExitCode.DONE


def _read(file: str) -> str:
    if file == "-":
        return sys.stdin.read(_MAX_FILE)
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read(_MAX_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from None
    if len(text) > _MAX_FILE:
        raise ConfigError("is larger than 1 MiB", file=file)
    return text


def _not_sent(
    what: str, message: Any, settings: Mapping[str, Any], emit: Emit, update: Update | None = None
) -> ExitCode:
    from mpcore.query.result import message_json, message_lines

    lines = [comment(f"{what} is not sent (--dry-run)", "warning"), *message_lines(message, _view(settings), 0.0)]
    data = {"sent": False, **({} if update is None else {"zone": update.zone, "statements": list(update.statements)})}
    emit(Result(data | {"message": message_json(message, 0.0)}, [Styled(lines)], output=_output(settings)))
    return ExitCode.DONE


def _told(
    what: str, result: LookupResult, settings: Mapping[str, Any], emit: Emit, update: Update | None = None
) -> ExitCode:
    from mpcore.query.explain import RCODES
    from mpcore.query.result import message_lines

    good = result.rcode == "NOERROR"
    view = _view(settings)
    lines: list[StyledLine] = []
    if settings.get("query_shown") and result.query is not None:
        lines += [*message_lines(result.query, view, result.asked_at), line()]
    if update is not None:
        lines += [line(f"  {statement}") for statement in update.statements]
    words = "accepted" if good else RCODES.get(result.rcode, "not accepted")
    lines.append(comment(f"{what}: {result.rcode}, {words}", "good" if good else "bad"))
    lines += result.lines(replace(view, short=False, comments=False, question=False))
    data: dict[str, Any] = {"sent": True, "accepted": good, **result.to_json()}
    if update is not None:
        data |= {"zone": update.zone, "statements": list(update.statements)}
    emit(Result(data, [Styled(lines)], output=_output(settings)))
    return ExitCode.DONE if good else ExitCode.FAILED
