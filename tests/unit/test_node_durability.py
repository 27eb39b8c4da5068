"""Nothing is acknowledged before it is durable, nothing acknowledged is lost: slow, full and failing disks, crashes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio.testing

from mpcore.control.models import ChangeRequest, RecordState, Wait
from mpcore.errors import StoreError, StoreFullError
from mpcore.node.settings import Primary, Secondary, ZoneSettings
from mpcore.sde.confirm import make_confirm
from mpcore.sim.network import SimNetwork
from mpcore.wire.messages import Acknowledgement, Confirm, Sync
from tests.node_messages import every_message, name_server
from tests.node_world import CUSTOMER, Received, Stranger, World

ALPHA, BRAVO, COMBINER = "agent.alpha.example.", "agent.bravo.example.", "combiner.bravo.example."
THEIRS = name_server(CUSTOMER, "ns7.alpha.example.")
OURS = name_server(CUSTOMER, "ns9.bravo.example.")
EPOCH = 1.8e9


def is_commit(function: Any) -> bool:
    """Whether the database runs this to write."""
    return isinstance(function, partial) and function.func.__name__ == "_commit"


class Gate:
    """Runs the database in worker threads; commits wait while it is closed."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.open.set()
        self.waiting = 0

    async def __call__(self, function: Callable[[], Any]) -> Any:
        if is_commit(function):
            self.waiting += 1
            await self.open.wait()
            self.waiting -= 1
        return await anyio.to_thread.run_sync(function)


class Disk:
    """Runs the database; commits find no room while it is full."""

    def __init__(self) -> None:
        self.full = False

    async def __call__(self, function: Callable[[], Any]) -> Any:
        if self.full and is_commit(function):
            await anyio.lowlevel.checkpoint()
            _, group, path = function.args  # type: ignore[attr-defined]
            for write in group:
                write.error, write.done = StoreFullError(f"{path}: the disk is full"), True
            return None
        return await anyio.to_thread.run_sync(function)


class Author(Stranger):
    """An agent that confirms what it is told, as the deployed implementation does."""

    async def acknowledge(self, received: Received) -> Acknowledgement | None:
        message = received.message
        if isinstance(message, Sync):
            texts = [text for operation in message.operations for text in operation.records]
            for status in ("PENDING", "SUCCESS"):
                confirm = make_confirm(
                    self.identity,
                    message.zone,
                    received.distribution_id,
                    self.clock.now(),
                    status=status,
                    nonce=message.nonce if status == "PENDING" else "",
                    applied=texts if status == "SUCCESS" else (),
                )
                self.world.tasks.start_soon(self._confirm, confirm, received.distribution_id)
        return await super().acknowledge(received)

    async def _confirm(self, confirm: Confirm, distribution_id: str) -> None:
        node = self.world.running[BRAVO].node
        await self.world.until_sent(partial(self.send, confirm, node, distribution_id))

    def final(self, distribution_id: str) -> list[Confirm]:
        """The final confirmations of a message of ours."""
        return [
            item
            for item in self.of_type(Confirm)
            if item.distribution_id == distribution_id and item.status != "PENDING"
        ]


def settings(world: World) -> dict[str, dict[str, Any]]:
    """Bravo without a signer: its agent has the zone from its combiner."""
    bravo = world.providers["bravo"]
    owner, combiner = world.address("owner"), bravo.address("combiner")
    zone = partial(ZoneSettings, name=CUSTOMER)
    return {
        "combiner": {
            "zones": (
                zone(
                    primaries=(Primary(address=owner, port=world.port),),
                    secondaries=(Secondary(address=bravo.address("agent"), port=world.port),),
                ),
            )
        },
        "agent": {"zones": (zone(primaries=(Primary(address=combiner, port=world.port),)),)},
    }


async def start(world: World, **runtimes: dict[str, Any]) -> tuple[Author, Any, Any]:
    """Agent alpha, played; agent and combiner of bravo, at work."""
    alpha = Author(world, ALPHA, world.providers["alpha"].address("agent"))
    await alpha.serve()
    changes = settings(world)
    combiner = await world.start("combiner", "bravo", runtime=runtimes.get("combiner"), **changes["combiner"])
    agent = await world.start("agent", "bravo", runtime=runtimes.get("agent"), **changes["agent"])
    await world.until(lambda: ALPHA in agent._ready_peers, what="alpha answers")
    return alpha, agent, combiner


def sync(alpha: Stranger) -> Sync:
    message = every_message(ALPHA, BRAVO, CUSTOMER, alpha.clock.now())["sync"]
    assert isinstance(message, Sync)
    return message


def kept(combiner: Any) -> set[str]:
    return {item.record for item in combiner.contributions(CUSTOMER).records}


# ----------------------------------------------------------------------------------------------- slow and broken


@pytest.mark.anyio
async def test_no_positive_answer_while_the_disk_is_slow(tmp_path: Path) -> None:
    world = World(tmp_path, SimNetwork())
    async with world.open():
        gate = Gate()
        alpha, agent, _ = await start(world, agent={"executor": gate})
        gate.open = anyio.Event()
        answers: list[Any] = []

        async def send() -> None:
            answers.append(await alpha.send(sync(alpha), agent, "5eed0001"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            try:
                await world.until(lambda: gate.waiting, what="the commit waits")
                await anyio.sleep(0.1)  # it has every chance to do wrong
                assert not answers
                assert not [item for item in alpha.of_type(Confirm) if item.distribution_id == "5eed0001"]
                ping = every_message(ALPHA, BRAVO, CUSTOMER, alpha.clock.now())["ping"]
                assert (await alpha.send(ping, agent)).positive  # what needs no disk is answered
            finally:
                gate.open.set()
        assert answers[0].positive
        await world.until(lambda: alpha.final("5eed0001"), what="the final CONFIRM")


@pytest.mark.anyio
@pytest.mark.parametrize("role", ["agent", "combiner"])
async def test_a_database_that_fails_stops_the_node(tmp_path: Path, role: str) -> None:
    """No positive answer, nothing served any more, and the reason is raised to who runs the node."""
    world = World(tmp_path, SimNetwork())
    async with world.open():
        alpha, agent, combiner = await start(world)
        node = agent if role == "agent" else combiner
        running = world.running[node.identity]
        await node.database.write(lambda connection: connection.execute("ALTER TABLE seen RENAME TO gone"))
        party = alpha if role == "agent" else Stranger(world, BRAVO, alpha.address)
        kind = "sync" if role == "agent" else "update"
        message = every_message(party.identity, node.identity, CUSTOMER, alpha.clock.now())[kind]
        try:
            positive = (await party.send(message, node)).positive
        except Exception:
            positive = False
        assert not positive
        await running.ended.wait()
        assert isinstance(running.error, StoreError)
        with pytest.raises(OSError, match="refuses"):
            await alpha.network.connect_tcp(node.settings.listen[0].address, world.port)


# ----------------------------------------------------------------------------------------------- full


@pytest.mark.anyio
async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """Agent: what changes something gets SERVFAIL, the rest goes on; with room everything arrives by itself."""
    world = World(tmp_path, SimNetwork())
    async with world.open():
        disk = Disk()
        alpha, agent, combiner = await start(world, agent={"executor": disk})
        disk.full = True
        messages = every_message(ALPHA, BRAVO, CUSTOMER, alpha.clock.now())
        before = len(alpha.received)
        for number in range(5):
            sent = await alpha.send(messages["sync"], agent, f"5eed{number:04x}")
            assert (sent.rcode, sent.answer) == (2, None)
            for kind in ("ping", "beat"):
                assert (await alpha.send(messages[kind], agent)).positive
        with pytest.raises(StoreFullError):
            await agent.change(CUSTOMER, ChangeRequest(operation="add", record=OURS))
        assert agent.status().warnings
        assert not agent.edits(CUSTOMER).records  # nothing that is not stored is shown
        await anyio.sleep(2.5)
        assert not [item for item in alpha.received[before:] if item.message.TYPE in ("sync", "confirm")]
        assert not kept(combiner)
        disk.full = False
        sent = await world.until_sent(partial(alpha.send, messages["sync"], agent, "5eed0000"))
        assert sent.positive
        await world.until(lambda: alpha.final("5eed0000"), what="the final CONFIRM")
        transaction = await agent.change(CUSTOMER, ChangeRequest(operation="add", record=OURS))
        assert (await agent.wait(transaction.id, Wait.EVERYWHERE, 20)).state == "accepted"
        assert kept(combiner) == {THEIRS, OURS}
        assert not agent.status().warnings


@pytest.mark.anyio
async def test_a_combiner_on_a_full_disk(tmp_path: Path) -> None:
    """The update is refused, the zone that is served stays as it is, and the agent's queue brings it in later."""
    world = World(tmp_path, SimNetwork())
    async with world.open():
        disk = Disk()
        alpha, agent, combiner = await start(world, combiner={"executor": disk})
        disk.full = True
        serial = combiner.zone(CUSTOMER).serial
        assert (await alpha.send(sync(alpha), agent, "5eed0001")).positive
        await world.until(lambda: agent.queue.messages(CUSTOMER) and agent.queue.messages(CUSTOMER)[0].attempts > 1)
        assert not kept(combiner)
        assert combiner.zone(CUSTOMER).serial == serial
        assert not alpha.final("5eed0001")
        world.publish_customer(world.customer(7))
        combiner.secondaries[world.customer().origin].refresh_now()
        await world.until(lambda: combiner.zone(CUSTOMER).error, what="the new version cannot be kept")
        assert combiner.zone(CUSTOMER).serial == serial
        disk.full = False
        await world.until(lambda: alpha.final("5eed0001"), 60, "the final CONFIRM")
        await world.until(lambda: (combiner.zone(CUSTOMER).serial or 0) >= 7, 60, "the new version")
        assert kept(combiner) == {THEIRS}


@pytest.mark.anyio
async def test_deliveries_on_a_full_disk_are_not_repeated_without_pause(tmp_path: Path) -> None:
    """That a message was delivered cannot be noted: it is sent again, and answered as before, once a second."""
    world = World(tmp_path, SimNetwork())
    async with world.open():
        disk = Disk()
        alpha, agent, combiner = await start(world, agent={"executor": disk})
        gate = anyio.Event()
        answer = alpha.answer

        async def late(received: Received) -> Acknowledgement | None:
            if isinstance(received.message, Sync):
                await gate.wait()
            return await answer(received)

        alpha.answer = late
        transaction = await agent.change(CUSTOMER, ChangeRequest(operation="add", record=OURS))
        await world.until(lambda: kept(combiner) == {OURS} and alpha.of_type(Sync), what="it is told")
        disk.full = True
        gate.set()
        await anyio.sleep(3.5)
        assert 1 <= len(alpha.of_type(Sync)) <= 8
        disk.full = False
        assert (await agent.wait(transaction.id, Wait.EVERYWHERE, 60)).state == "accepted"


@pytest.mark.anyio
async def test_a_signer_on_a_full_disk_keeps_signing(tmp_path: Path) -> None:
    world = World(tmp_path, SimNetwork(), providers=("bravo",))
    async with world.open():
        disk = Disk()
        combiner = await world.start("combiner", "bravo")
        signer = await world.start("signer", "bravo", runtime={"executor": disk})
        agent = await world.start("agent", "bravo")
        await world.until(lambda: signer.status().ready and agent.status().ready)
        keys = [key.key_tag for key in signer.keys(CUSTOMER)]
        disk.full = True
        party = Stranger(world, BRAVO, f"{world.block}.99")
        keystate = every_message(BRAVO, signer.identity, CUSTOMER, party.clock.now())["keystate"]
        assert not (await party.send(keystate, signer)).positive
        assert [key.key_tag for key in signer.keys(CUSTOMER)] == keys
        await agent.change(CUSTOMER, ChangeRequest(operation="add", record=OURS))
        await world.until(lambda: kept(combiner) == {OURS})
        await anyio.sleep(1)
        assert "ns9.bravo.example." not in str(signer.zone_records(CUSTOMER, 1000))
        disk.full = False
        await world.until(
            lambda: "ns9.bravo.example." in str(signer.zone_records(CUSTOMER, 1000)), 60, "the change is signed"
        )
        assert [key.key_tag for key in signer.keys(CUSTOMER)] == keys


# ----------------------------------------------------------------------------------------------- crashes


class Recorder:
    """Copies the databases of all nodes after each commit of any, and notes what was acknowledged by then."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.acknowledged: set[str] = set()
        self.copies: list[tuple[Path, set[str]]] = []

    async def __call__(self, function: Callable[[], Any]) -> Any:
        await anyio.lowlevel.checkpoint()
        if not is_commit(function):
            return function()
        if self.copies:
            # Everything that was acknowledged until now must be in the copy after the commit before.
            self.copies[-1][1].update(self.acknowledged)
        result = function()
        copy = self.directory.parent / f"copy{len(self.copies):03}"
        shutil.copytree(self.directory, copy)
        self.copies.append((copy, set(self.acknowledged)))
        return result


def run_virtual(main: Callable[[], Any]) -> Any:
    return anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})


async def _story(recorder: Recorder) -> None:
    """Alpha tells bravo of a record, bravo's operator adds one; everybody confirms."""
    world = World(recorder.directory, SimNetwork(lambda passage: 0.001), epoch=EPOCH)
    async with world.open():
        runtime = {"executor": recorder}
        alpha, agent, _ = await start(world, agent=runtime, combiner=runtime)

        async def note_sync() -> None:
            assert (await alpha.send(sync(alpha), agent, "5eed0001")).positive
            recorder.acknowledged.add("sync")

        answer = alpha.answer

        async def noting(received: Received) -> Acknowledgement | None:
            if alpha.final("5eed0001"):
                recorder.acknowledged.add("final")
            return await answer(received)

        alpha.answer = noting
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note_sync)
            transaction = await agent.change(CUSTOMER, ChangeRequest(operation="add", record=OURS))
            recorder.acknowledged.add("change")
        assert (await agent.wait(transaction.id, Wait.EVERYWHERE, 60)).state == "accepted"
        recorder.acknowledged.add("accepted")
        await world.until(lambda: alpha.final("5eed0001"), what="the final CONFIRM")
        await anyio.sleep(5)
    recorder.copies[-1][1].update(recorder.acknowledged)


async def _aftermath(copy: Path, acknowledged: set[str]) -> None:
    """Start from *copy*; whoever had no answer asks again, as queues do; everything comes to its end."""
    world = World(copy, SimNetwork(lambda passage: 0.001), epoch=EPOCH + 100)
    async with world.open():
        alpha, agent, combiner = await start(world)
        if "sync" not in acknowledged:
            first = every_message(ALPHA, BRAVO, CUSTOMER, EPOCH + 1)["sync"]
            sent = await world.until_sent(partial(alpha.send, first, agent, "5eed0001"))
            assert sent.positive
        await world.until(lambda: THEIRS in kept(combiner), 60, "alpha's record at the combiner")
        if "final" not in acknowledged:
            await world.until(lambda: alpha.final("5eed0001"), 60, "the final CONFIRM to alpha")
            assert all(item.status == "SUCCESS" for item in alpha.final("5eed0001"))
            assert any(THEIRS in item.applied_records for item in alpha.final("5eed0001"))
        if "change" in acknowledged:

            def accepted() -> bool:
                return any(
                    item.record == OURS and item.state is RecordState.ACCEPTED for item in agent.edits(CUSTOMER).records
                )

            # A CONFIRM that was lost in the crash is asked for when the peer has had five minutes for it.
            await world.until(accepted, 400, "bravo's record accepted everywhere")
            assert OURS in kept(combiner)
        await world.until(lambda: not agent.queue.messages() and not combiner.queue.messages(), 60, "queues are empty")
        served = str(combiner.zone_records(CUSTOMER, 1000))
        assert "ns7.alpha.example." in served
        assert ("ns9.bravo.example." in served) >= ("change" in acknowledged)


def test_a_crash_at_every_commit_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "live")
    recorder.directory.mkdir()
    run_virtual(partial(_story, recorder))
    assert len(recorder.copies) > 10
    assert recorder.copies[-1][1] == {"sync", "change", "final", "accepted"}
    failed: list[str] = []
    for copy, acknowledged in recorder.copies:
        try:
            run_virtual(partial(_aftermath, copy, acknowledged))
        except BaseExceptionGroup as error:
            failed.append(f"{copy.name} {sorted(acknowledged)}: {error.exceptions}")
    assert not failed, "\n".join(failed)


async def _first_keys(recorder: Recorder, served: list[set[str]]) -> None:
    world = World(recorder.directory, SimNetwork(), providers=("bravo",), epoch=EPOCH)
    async with world.open():
        await world.start("combiner", "bravo")
        signer = await world.start("signer", "bravo", runtime={"executor": recorder})
        await world.until(lambda: signer.status().ready)
        served.append(_served_keys(signer))


def _served_keys(signer: Any) -> set[str]:
    return {item.record for item in signer.zone_records(CUSTOMER, 1000).records if item.type == "DNSKEY"}


def test_keys_are_stored_before_anybody_sees_them(tmp_path: Path) -> None:
    """A signer that crashes after it has served its first keys has the same keys again."""
    recorder = Recorder(tmp_path / "live")
    recorder.directory.mkdir()
    served: list[set[str]] = []
    run_virtual(partial(_first_keys, recorder, served))
    (before,) = served
    copy, _ = recorder.copies[-1]
    again: list[set[str]] = []
    run_virtual(partial(_first_keys, Recorder(copy), again))
    assert again == [before]
    assert len(before) == 2
