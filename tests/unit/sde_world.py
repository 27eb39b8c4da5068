"""A few providers with their combiners, without network: messages wait in lanes until a test lets them through.

Agents run the engine; combiners run the combiner's functions.  What an agent stores goes through JSON, and
:meth:`World.restart` puts a new engine in its place that knows nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mpcore.actions import Action, Send, SetTimer, Store
from mpcore.combiner import CombinerPolicy, Contributions, handle_update
from mpcore.sde import KeysPropagated, SynchronisedData
from mpcore.wire.messages import Confirm, Message, Rfi, Sync, Update, decode_message
from mpcore.zone.roles import Provider, ZoneRoles

ZONE = "example.com."


def agent(label: str) -> str:
    return f"agent.{label}.example."


def combiner(label: str) -> str:
    return f"combiner.{label}.example."


def make_roles(
    servers: str, signers: str | None = None, auditors: str = "", nsmgmt: str = "agent", parentsync: str = "agent"
) -> ZoneRoles:
    """Roles of providers named by words; whoever is in a list is in HSYNC3."""
    lists = [tuple((words if words is not None else servers).split()) for words in (servers, signers, auditors)]
    labels = dict.fromkeys(label for words in lists for label in words)
    providers = tuple(Provider(label, agent(label), True, "") for label in labels)
    return ZoneRoles(ZONE, providers, nsmgmt, parentsync, *lists)  # type: ignore[arg-type]


def ns(name: str, ttl: int = 3600) -> str:
    return f"{ZONE}\t{ttl}\tIN\tNS\t{name}"


def key(number: int, flags: int = 256) -> str:
    return f"{ZONE}\t3600\tIN\tDNSKEY\t{flags} 3 15 {b64encode(number.to_bytes(32)).decode()}"


@dataclass
class Node:
    """An agent with what it has stored and what waits in its queue."""

    label: str
    engine: SynchronisedData
    stored: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    told: list[Action] = field(default_factory=list)
    timers: dict[str, float] = field(default_factory=dict)


class World:
    """Everybody, and the messages between them: one lane per sender and recipient, first in, first out."""

    def __init__(self, roles: ZoneRoles, labels: str = "alpha bravo") -> None:
        self.now = 1_790_000_000.0
        self.ids = 0x6A000000
        self.nonces = 0
        self.roles = roles
        self.lanes: dict[tuple[str, str], deque[tuple[str, Message, bool]]] = {}
        self.sent: list[tuple[str, str, str, Message]] = []
        self.nodes: dict[str, Node] = {}
        self.combiners: dict[str, Contributions] = {}
        self.policies: dict[str, CombinerPolicy] = {}
        for label in labels.split():
            self.nodes[agent(label)] = Node(label, self.engine(label))
            self.combiners[combiner(label)] = Contributions(ZONE)
            self.policies[combiner(label)] = CombinerPolicy(combiner(label), (agent(label),))
        self.set_roles(roles)

    def engine(self, label: str) -> SynchronisedData:
        return SynchronisedData(
            agent(label), combiner(label), new_distribution_id=self.new_id, new_nonce=self.new_nonce
        )

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:08x}"

    def new_nonce(self) -> str:
        self.nonces += 1
        return f"{self.nonces:032x}"

    def __getitem__(self, label: str) -> SynchronisedData:
        return self.nodes[agent(label)].engine

    # ------------------------------------------------------------------------------------------------------- acting

    def set_roles(self, roles: ZoneRoles | None, *labels: str) -> None:
        if roles is not None:
            self.roles = roles
        for node in self.nodes.values():
            if not labels or node.label in labels:
                self.perform(node.label, node.engine.set_roles(ZONE, roles, self.now))

    def perform(self, label: str, actions: list[Action]) -> list[Action]:
        node = self.nodes[agent(label)]
        order = [isinstance(action, Store) for action in actions]
        assert order == sorted(order, reverse=True), "stores come first"
        for action in actions:
            if isinstance(action, Store):
                kept = node.stored.setdefault(action.kind, {})
                if action.value is None:
                    kept.pop(action.key, None)
                else:
                    kept[action.key] = json.loads(json.dumps(action.value))
            elif isinstance(action, Send):
                self.put(agent(label), action.recipient, action.distribution_id, action.message, action.durable)
            elif isinstance(action, SetTimer):
                node.timers[action.name] = action.at
            else:
                node.told.append(action)
        return actions

    def put(self, sender: str, recipient: str, distribution_id: str, message: Message, durable: bool) -> None:
        decoded = decode_message(message.to_json())
        assert decoded == message
        self.sent.append((sender, recipient, distribution_id, message))
        self.lanes.setdefault((sender, recipient), deque()).append((distribution_id, decoded, durable))

    def change(self, label: str, operation: Any, record: str) -> str:
        transaction, actions = self[label].local_change(ZONE, operation, record, self.now)
        self.perform(label, actions)
        return transaction

    def keys(self, label: str, records: list[str], tags: tuple[int, ...] = ()) -> None:
        self.perform(label, self[label].local_dnskeys(ZONE, records, tags, self.now))

    def restart(self, label: str) -> None:
        """The process ends, another one starts from what is stored."""
        node = self.nodes[agent(label)]
        node.engine = self.engine(label)
        node.engine.restore(json.loads(json.dumps(node.stored)))
        node.timers.clear()
        self.perform(label, node.engine.set_roles(ZONE, self.roles, self.now))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes.values():
            for name in [name for name, at in node.timers.items() if at <= self.now]:
                del node.timers[name]
                self.perform(node.label, node.engine.timer(name, self.now))

    # --------------------------------------------------------------------------------------------------- delivering

    def waiting(self) -> list[tuple[str, str]]:
        return sorted(lane for lane, messages in self.lanes.items() if messages)

    def deliver(self, sender: str, recipient: str, *, twice: bool = False, lose_answer: bool = False) -> None:
        """Let the first message of a lane through."""
        distribution_id, message, durable = self.lanes[sender, recipient].popleft()
        for _ in range(2 if twice else 1):
            self.receive(sender, recipient, distribution_id, message)
        if sender in self.nodes and durable and not lose_answer:
            node = self.nodes[sender]
            self.perform(node.label, node.engine.delivered(recipient, distribution_id, self.now, message.TYPE))

    def receive(self, sender: str, recipient: str, distribution_id: str, message: Message) -> None:
        self.now += 0.001
        if recipient in self.combiners:
            assert isinstance(message, Update)
            result = handle_update(
                self.policies[recipient],
                self.combiners[recipient],
                sender,
                message,
                distribution_id,
                self.roles,
                self.now,
            )
            self.combiners[recipient] = result.contributions
            self.put(recipient, sender, distribution_id, result.confirm, True)
        elif recipient in self.nodes:
            node = self.nodes[recipient]
            if isinstance(message, Sync):
                actions = node.engine.sync_received(sender, message, distribution_id, self.now)
            elif isinstance(message, Confirm):
                actions = node.engine.confirm_received(sender, message, self.now)
            else:
                assert isinstance(message, Rfi)
                actions = node.engine.rfi_sync(sender, ZONE, self.now)
            self.perform(node.label, actions)

    def settle(self, rounds: int = 10000) -> None:
        """Deliver until nothing waits; messages to nobody are dropped."""
        for _ in range(rounds):
            lanes = self.waiting()
            if not lanes:
                return
            self.deliver(*lanes[0])
        raise AssertionError("the world does not come to rest")

    # ------------------------------------------------------------------------------------------------------ looking

    def states(self, label: str, author: str | None = None) -> dict[str, str]:
        return {
            record.record.split("\t", 3)[3]: record.state.value
            for record in self[label].entries(ZONE)
            if author is None or record.originator == agent(author)
        }

    def kept(self, label: str, author: str) -> list[str]:
        return sorted(item.record.text for item in self.combiners[combiner(label)] if item.originator == agent(author))

    def propagated(self, label: str) -> list[tuple[tuple[int, ...], bool]]:
        return [
            (action.tags, action.rejected)
            for action in self.nodes[agent(label)].told
            if isinstance(action, KeysPropagated)
        ]

    def between(self, sender: str, recipient: str) -> list[tuple[str, Message]]:
        return [(item[2], item[3]) for item in self.sent if item[:2] == (sender, recipient)]
