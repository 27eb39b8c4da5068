"""Orders of the operator about the delivery queue: list, retry, drop, pause, resume, drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mpcore.control.models import Queue, QueueAction, QueueEntry, QueueRequest, QueueResult
from mpcore.errors import ConflictError, NotFoundError, PolicyError
from mpcore.peer.outbound_entry import OutboundEntry

if TYPE_CHECKING:
    from mpcore.node.base import Node

__all__ = ("QueueControl",)

_LOOK = 0.05  #: seconds between looks at a queue that is drained


class QueueControl:
    """The queue of *node*, for its control service."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def view(self) -> Queue:
        """Everything in the queue."""
        queue = self._node.queue
        messages = tuple(
            QueueEntry(
                recipient=item.recipient,
                type=item.type,
                zone=item.zone,
                distribution_id=item.distribution_id,
                enqueued_at=item.enqueued_at,
                attempts=item.attempts,
                next_attempt=item.next_attempt,
                last_error=item.last_error,
                id=item.key.lstrip("0"),
                state=item.state,
            )
            for item in queue.messages()
        )
        return Queue(messages=messages, paused=queue.paused, capacity=queue.capacity)

    async def act(self, request: QueueRequest) -> QueueResult:
        """Carry *request* out, or say what it would do.

        :raises NotFoundError: no such message or peer.
        :raises ConflictError: the message is under way.
        :raises PolicyError: the request does not name what it is about.
        """
        if request.action is QueueAction.DROP:
            return await self._drop(request)
        node, peer = self._node, request.peer
        if peer is not None:
            node.peer(peer)
        elif request.action is not QueueAction.RETRY:
            raise PolicyError(f"{request.action} needs the name of a peer")
        affected = tuple(item for item in self.view().messages if peer in (None, item.recipient))
        now, count = node.clock.now(), len(affected)
        effects: list[str] = []
        if request.action is QueueAction.RETRY:
            message = f"{count} messages are tried now, the first of each lane at once" if count else "nothing waits"
            stuck = {item.recipient for item in affected if item.state in ("paused", "resting")}
            effects += [
                f"{name} is paused or cannot be reached yet: its messages go on waiting" for name in sorted(stuck)
            ]
            act = node.queue.retry
        elif request.action is QueueAction.PAUSE:
            message = f"nothing queued is sent to {peer} until it is resumed; {count} messages wait"
            effects.append("messages that are a day old are given up all the same; beats and elections go on")
            act = node.queue.pause  # type: ignore[assignment]
        else:
            message = f"messages to {peer} are sent again; {count} are tried now"
            act = node.queue.resume  # type: ignore[assignment]
        if not request.dry_run:
            await node.perform("queue", act(peer, now))
            self._told(affected, message, peer or "")
        return QueueResult(
            action=request.action,
            done=not request.dry_run,
            message=message,
            affected=affected,
            effects=tuple(effects),
        )

    async def _drop(self, request: QueueRequest) -> QueueResult:
        node = self._node
        entry = self._find(request.id)
        affected = tuple(item for item in self.view().messages if item.id == entry.key.lstrip("0"))
        effects = node.drop_effects(entry)
        message = f"{entry.message.TYPE} {entry.distribution_id} to {entry.recipient} is given up"
        if affected[0].state == "under way":
            raise ConflictError(f"message {affected[0].id} is under way right now")
        if not request.dry_run:
            now = node.clock.now()
            actions = node.queue.drop(entry.key, now)
            await node.perform("queue", actions, also=node.dropped(entry, now))
            self._told(affected, message, entry.zone)
        return QueueResult(
            action=request.action,
            done=not request.dry_run,
            message=message,
            affected=affected,
            effects=tuple(effects),
        )

    def _find(self, name: str | None) -> OutboundEntry:
        """The message with this id, or the only one with this distribution id."""
        if name is None:
            raise PolicyError("drop needs the id of a message")
        queue = self._node.queue
        if name.isascii() and name.isdigit() and len(name) <= 12:
            entry = queue.entry(name.zfill(12))
            if entry is not None:
                return entry
        found = [item.key for item in queue.messages() if item.distribution_id == name.lower()]
        if len(found) > 1:
            raise ConflictError(f"{len(found)} messages have the distribution id {name}: name one by its own id")
        entry = queue.entry(found[0]) if found else None
        if entry is None:
            raise NotFoundError(f"no message {name} is in the queue")
        return entry

    def _told(self, affected: tuple[QueueEntry, ...], message: str, subject: str) -> None:
        self._node.log_event("info", f"operator: {message}", subject)
        for zone in {item.zone for item in affected if item.zone}:
            self._node.changed("edits", zone)

    async def drain(self, timeout: float) -> Queue:
        """Try everything now and wait until nothing is left.

        :param timeout: seconds.
        :raises ConflictError: messages wait for a peer that is paused.
        :raises TimeoutError: messages are left; says how many and for whom.
        """
        node = self._node
        await node.perform("queue", node.queue.retry(None, node.clock.now()))
        with anyio.move_on_after(timeout):
            while True:
                left = self.view().messages
                if not left:
                    return self.view()
                waiting = {item.recipient for item in left}
                paused = sorted(waiting & set(node.queue.paused))
                if paused and waiting <= set(paused):
                    raise ConflictError(f"{len(left)} messages wait for {', '.join(paused)}, which is paused")
                await anyio.sleep(_LOOK)
        left = self.view().messages
        names = ", ".join(sorted({item.recipient for item in left}))
        raise TimeoutError(f"{len(left)} messages are left after {timeout:g} s: {names} has not acknowledged them")
