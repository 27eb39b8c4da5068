"""Our answers beside those of Knot, BIND and NSD: the same zones and many thousands of queries.

The four servers listen on loopback and are asked over TCP and UDP.  Every fact in which an answer of another server
differs from ours falls under one of the rules in :mod:`tests.peers.answer_rules`, or is a fault.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import anyio.abc
import dns.message
import pytest
from anyio.from_thread import start_blocking_portal

from mpcore.net.network import InternetNetwork
from mpcore.net.server import DnsServer
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_text
from tests.peers.answer_compare import Channel, Difference, differences, picture
from tests.peers.answer_corpus import Query, queries, zones
from tests.peers.answer_rules import RULES
from tests.peers.servers import Bind, Knot, Nsd, Zone

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(180),
]

QUERIES = 21_000
BATCH = 48
SEED = 20240101


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> list[Zone]:
    """The zones."""
    return zones(tmp_path_factory.mktemp("zones"))


@pytest.fixture(scope="module")
def channels(served: list[Zone]) -> Iterator[dict[str, Channel]]:
    """The four servers: ``ours`` and the programs."""
    versions = {owners.from_text(zone.name): read_master_text(zone.text or "", zone.name) for zone in served}
    responder = Responder(versions)
    server = DnsServer(InternetNetwork(), [("127.0.0.1", 0)])
    server.register_query(lambda octets, source, over_tcp: responder.respond(octets, over_tcp=over_tcp))

    async def serve(*, task_status: anyio.abc.TaskStatus[object]) -> None:
        async with anyio.create_task_group() as tasks:
            addresses = await tasks.start(server.serve)
            task_status.started((addresses, tasks.cancel_scope.cancel))

    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal("asyncio", {"use_uvloop": True}))
        _, (addresses, cancel) = portal.start_task(serve)
        stack.callback(portal.call, cancel)
        result = {"ours": Channel(*addresses[0])}
        for program in (Knot, Bind, Nsd):
            running = stack.enter_context(program(served, key=None))
            result[running.program] = Channel(running.address, running.port)
        for channel in result.values():
            stack.callback(channel.close)
        yield result


def _ask(channels: dict[str, Channel], count: int, served: list[Zone]) -> Iterator[Difference]:
    """All differences."""
    asked: Iterator[Query] = queries(count, served, SEED)
    while chunk := list(itertools.islice(asked, BATCH)):
        batch = [(query, query.to_octets(number + 1)) for number, query in enumerate(chunk)]
        for channel in channels.values():
            channel.send(batch)
        answers = {program: channel.receive(batch) for program, channel in channels.items()}
        ours = answers.pop("ours")
        for index, query in enumerate(chunk):
            mine = picture(ours[index])
            for program, theirs in answers.items():
                if theirs[index] != ours[index]:
                    yield from differences(query, program, mine, picture(theirs[index]))


def test_every_difference_falls_under_a_rule(channels: dict[str, Channel], served: list[Zone]) -> None:
    assert len(RULES) <= 25
    hits: Counter[str] = Counter()
    faults = []
    for difference in _ask(channels, QUERIES, served):
        rule = next((rule for rule in RULES if rule.covers(difference)), None)
        if rule is None:
            faults.append(str(difference))
        else:
            hits[rule.name] += 1
    assert not faults, f"{len(faults)} differences without a rule:\n" + "\n".join(faults[:50])
    unused = [rule.name for rule in RULES if not hits[rule.name]]
    assert not unused, f"rules that cover nothing: {unused}"


def test_a_fault_would_be_seen(channels: dict[str, Channel], served: list[Zone]) -> None:
    """The rules are no cloak: damage done to our answers is found in most of the queries that it touches."""
    damages = {
        "a record of the answer": lambda octets: _without_record(octets, 0),
        "a record of the authority section": lambda octets: _without_record(octets, 1),
        "AA": lambda octets: octets[:2] + bytes((octets[2] ^ 4,)) + octets[3:],
        "RCODE": lambda octets: octets[:3] + bytes((octets[3] ^ 3,)) + octets[4:],
    }
    touched: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    asked: Iterator[Query] = itertools.islice(queries(2000, served, SEED), 0, None, 2)
    while chunk := list(itertools.islice(asked, BATCH)):
        batch = [(query, query.to_octets(number + 1)) for number, query in enumerate(chunk)]
        for channel in channels.values():
            channel.send(batch)
        answers = {program: channel.receive(batch) for program, channel in channels.items()}
        for index, query in enumerate(chunk):
            for what, damage in damages.items():
                damaged = damage(answers["ours"][index])
                if damaged == answers["ours"][index]:
                    continue
                touched[what] += 1
                mine = picture(damaged)
                found = [
                    difference
                    for program in ("knotd", "named", "nsd")
                    for difference in differences(query, program, mine, picture(answers[program][index]))
                ]
                seen[what] += any(not any(rule.covers(difference) for rule in RULES) for difference in found)
    assert touched.keys() == damages.keys()
    for what, number in touched.items():
        assert number > 100
        assert seen[what] > 0.9 * number, f"{what}: {seen[what]} of {number} seen"


def _without_record(octets: bytes, section: int) -> bytes:
    """The message without the last record of its answer or authority section, the latter if nothing follows but OPT."""
    message = dns.message.from_wire(octets)
    held = message.sections[1 + section]
    if not held:
        return octets
    last = held[-1]
    if len(last) > 1:
        last.discard(last[-1])
    else:
        held.remove(last)
    return message.to_wire(max_size=65535)
