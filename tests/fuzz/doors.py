"""What is behind a seal or an authentication: peers with valid keys and operators that send what they should not.

The structure of the JSON is damaged (:mod:`tests.fuzz.structure`), then it is sealed with valid keys by the simulator's
pass-through seal, so that every execution gets to the decoders, the checks of the door, and the state machines behind
it.  The control API gets whole requests.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from daemons.http import control_app
from daemons.http.operations import OPERATIONS
from mpcore.combiner import CombinerPolicy, Contributions, handle_update
from mpcore.errors import MpError, NotFoundError, PolicyError, RecordError
from mpcore.group.gossip import GossipTable
from mpcore.group.groups import ProviderGroup, provider_groups
from mpcore.net.network import InternetNetwork
from mpcore.net.server import Request
from mpcore.node.directory import Contact, Directory
from mpcore.node.inbound import Inbound, Incoming
from mpcore.node.ownkeys import OwnKeys
from mpcore.node.replay import SeenKey
from mpcore.node.runtime import Runtime
from mpcore.sim.sealing import PlainSealing
from mpcore.wire import frame
from mpcore.wire.messages import (
    Acknowledgement,
    Beat,
    Confirm,
    Edits,
    Sync,
    Update,
    decode_acknowledgement,
    decode_message,
)
from mpcore.wire.seal import PrivateKey
from tests.fuzz.engine import Target, damage
from tests.fuzz.structure import damage_json, damage_json_or_octets
from tests.node_messages import every_message
from tests.unit.sde_world import ZONE, World, agent, combiner, key, make_roles, ns

__all__ = ("DOORS",)

NOW = 1_790_000_000.0
US, PEER = agent("alpha"), agent("bravo")


class _Clock:
    def now(self) -> float:
        return NOW


class _Anybody:
    """The peer has a part in everything."""

    def allows(self, sender: str, zone: str) -> bool:
        return sender == PEER

    def unknown_key(self, sender: str, now: float) -> None:
        pass


class _Memoryless(Inbound):
    """Forgets what it has seen, and how much, so that an execution depends on its octets alone; but what it logs."""

    def forget(self) -> None:
        fresh = Inbound(
            self._identity,
            self._keys,
            self._directory,
            self._authorizer,
            self._handler,
            self._recall,
            self._runtime,
        )
        self._memory, self._senders, self._failures = fresh._memory, fresh._senders, fresh._failures
        self._history = fresh._history


def _finished(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


# ---------------------------------------------------------------------------------------------------------- the door


@cache
def _key(number: int) -> PrivateKey:
    keys = json.loads((Path(__file__).parents[1] / "fixtures" / "keys.json").read_text())
    return PrivateKey.from_jwk(keys[sorted(keys)[number]])


@cache
def _door() -> _Memoryless:
    async def handle(incoming: Incoming) -> Acknowledgement:
        return Acknowledgement(type="confirm", distribution_id=incoming.distribution_id, status="ok")

    async def recall(key: SeenKey) -> bytes | None:
        return None

    directory = Directory()
    directory.put(Contact(PEER, (("127.0.0.1", 53),), _key(1).public()))
    runtime = Runtime(network=InternetNetwork(), clock=_Clock(), random=random.Random(1), sealing=PlainSealing())
    return _Memoryless(US, OwnKeys(_key(0)), directory, _Anybody(), handle, recall, runtime)


def _through_the_door(payload: bytes) -> None:
    """A payload of our peer, sealed and framed: it is handled, or refused in a way that the peer can read."""
    door = _door()
    door.forget()
    sealed = PlainSealing().seal(payload, _key(1), _key(0).public(), US, NOW)
    try:
        octets = frame.encode_notify(7, "6a12f0d0", PEER, data=sealed)
    except PolicyError:
        raise RecordError("longer than a message") from None
    request = Request(octets, ("192.0.2.1", 1), True, 0, 4, b"", 65288, 1)
    answer = _finished(door.handle(request))
    assert answer is not None
    assert answer[:2] == octets[:2]
    response = frame.decode_response(answer, 7)
    if response.rcode:
        assert response.rcode in (1, 2, 5), response.rcode
        raise RecordError("refused")
    assert response.data is not None
    decode_acknowledgement(PlainSealing().unseal(response.data, _key(0).public(), _key(1)))


def _payloads() -> list[bytes]:
    return [message.to_json() for message in every_message(PEER, US, ZONE, NOW).values()]


# ------------------------------------------------------------------------------------------------------ behind it


_ROLES = make_roles("alpha bravo")


def _synchronised(payload: bytes) -> None:
    """A message handled by the roles: an agent's data are as its owner made them, and outlive a restart."""
    message = decode_message(payload)
    world = World(_ROLES)
    world.change("alpha", "add", ns("ns1.alpha.example."))
    engine, sender = world["alpha"], PEER
    match message:
        case Sync():
            actions = engine.sync_received(sender, message, "0000beef", world.now)
        case Confirm():
            actions = engine.confirm_received(sender, message, world.now)
        case Edits():
            actions = engine.edits_received(message.zone, message.agent_records or {}, world.now)
        case Update():
            policy = CombinerPolicy(combiner("bravo"), (agent("bravo"),))
            handle_update(policy, Contributions(ZONE), PEER, message, "0000beef", _ROLES, world.now)
            return
        case Beat():
            _gossip(message)
            return
        case _:
            return
    world.perform("alpha", actions)
    before = engine.entries(ZONE)
    world.restart("alpha")
    assert world["alpha"].entries(ZONE) == before
    own = [record.record for record in before if record.originator == US]
    assert own == [ns("ns1.alpha.example.")] or isinstance(message, Edits)
    for record in before:
        assert "\n" not in record.record
        json.dumps(record.record).encode()


def _gossip(message: Beat) -> None:
    table = GossipTable(US, 15.0)
    group = _group()
    table.set_groups({group.hash: group}, NOW)
    own = {PEER: "OPERATIONAL"}
    table.set_own_states(own, NOW)
    table.merge(PEER, message.gossip or (), NOW)
    assert table.own_states(group.hash) == own
    for row in table.rows(group.hash):
        assert row.reporter in group.members


@cache
def _group() -> ProviderGroup:
    (group,) = provider_groups([_ROLES]).values()
    return group


def _role_payloads() -> list[bytes]:
    world = World(_ROLES)
    world.change("bravo", "add", ns("ns1.bravo.example."))
    world.keys("bravo", [key(1), key(2)], (1, 2))
    world.settle()
    table = GossipTable(PEER, 15.0)
    group = _group()
    table.set_groups({group.hash: group}, NOW)
    table.set_own_states({US: "OPERATIONAL"}, NOW)
    beat = Beat(my_identity=PEER, your_identity=US, zones=[ZONE], gossip=table.message_for(US, {}))
    edits = Edits(
        my_identity=combiner("alpha"),
        your_identity=US,
        zone=ZONE,
        agent_records={US: {ZONE: [ns("ns1.alpha.example.")]}, PEER: {ZONE: [ns("ns1.bravo.example.")]}},
    )
    sent = [message.to_json() for sender, _, _, message in world.sent if sender in (PEER, combiner("bravo"))]
    return [*sorted(set(sent), key=len), beat.to_json(), edits.to_json()]


# ----------------------------------------------------------------------------------------------------- control API


class _Service:
    """Every operation of the control API is refused, once what it is asked with was understood."""

    reached = False

    def __getattr__(self, name: str) -> Any:
        def refuse(*_arguments: object) -> Any:
            self.reached = True
            raise NotFoundError("nothing is here")

        return refuse


@cache
def _application() -> tuple[_Service, Any]:
    service = _Service()
    return service, control_app(service)  # type: ignore[arg-type]


def _control_request(octets: bytes) -> None:
    """``METHOD TARGET``, a line feed, header lines, an empty line, the body."""
    head, _, body = octets.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    if not re.fullmatch(rb"[!-~]+", target):
        raise RecordError("h11 takes no such target")
    try:
        parts = urlsplit(target.decode("latin-1"))
        path = parts.path
    except ValueError:
        raise RecordError("no target") from None
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines) if name]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.decode("latin-1"),
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": parts.query.encode("latin-1"),
        "headers": headers,
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 0),
        "client": None,
        "state": {},
    }
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    told: list[Any] = []

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message)

    service, application = _application()
    service.reached = False
    _finished(application(scope, receive, send))
    start = told[0]
    status, answer = start["status"], b"".join(message.get("body", b"") for message in told[1:])
    assert status < 500, answer
    if status >= 300:
        problem = json.loads(answer)
        assert set(problem) >= {"error", "message"}
    if not service.reached:
        raise RecordError("not understood")


def _requests() -> list[bytes]:
    requests = []
    for operation in OPERATIONS:
        target = operation.path
        for name, value in (("identity", PEER), ("zone", "1%2F2.example."), ("key", "abc"), ("id", "a/b")):
            target = target.replace(f"{{{name}}}", value)
        query = "&".join(f"{each.name}={each.default}" for each in operation.parameters if each.default is not None)
        body = b""
        if operation.order is not None:
            body = operation.order.model_validate(_ORDERS[operation.order.__name__]).model_dump_json().encode()
        lines = f"{operation.method} {target}{'?' + query if query else ''}\nContent-Type: application/json\n\n"
        requests.append(lines.encode() + body)
    return requests


_ORDERS: dict[str, Any] = {
    "ChangeRequest": {"operation": "add", "record": ns("ns1.alpha.example."), "dry_run": True},
    "ZoneActionRequest": {"action": "refresh"},
    "QueueRequest": {"action": "retry", "peer": PEER},
    "GroupActionRequest": {"action": "force"},
    "CertificateRequest": {"action": "prepare"},
    "MessageKeyRequest": {"action": "prepare"},
}


def _damaged_request(
    octets: bytes, source: random.Random, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()
) -> bytes:
    """Every second time only the body of a request is damaged, as JSON."""
    head, gap, body = octets.partition(b"\n\n")
    if body and source.getrandbits(1):
        bodies = [other.partition(b"\n\n")[2] for other in others]
        return head + gap + damage_json(body, source, [each for each in bodies if each])
    return damage(octets, source, others, tokens)


DOORS = (
    Target("door", _through_the_door, _payloads, cost=8, mutate=damage_json_or_octets),
    Target(
        "roles-behind-the-door",
        _synchronised,
        _role_payloads,
        allowed=(MpError,),
        cost=20,
        mutate=damage_json_or_octets,
    ),
    Target("control-request", _control_request, _requests, cost=6, mutate=_damaged_request),
)
"""Targets that damage what is inside a seal, and requests of operators."""
