"""The event log: nothing is lost unnoticed, and nothing grows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from mpcore.control.events import EventLog
from mpcore.control.models import Event, Peer

pytestmark = pytest.mark.anyio


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    with anyio.fail_after(5):
        return [await anext(events) for _ in range(count)]


def peer(identity: str, state: str) -> Peer:
    return Peer(identity=identity, kind="agent", state=state, since=1.0)


async def test_events_come_in_order_with_the_whole_resource() -> None:
    log = EventLog()
    events = log.subscribe()
    assert log.publish("peer", "a.example.", peer("a.example.", "KNOWN"), 10.0) == 1
    assert log.publish("log", "", {"severity": "info", "text": "hello"}, 11.0) == 2
    first, second = await take(events, 2)
    assert (first.id, first.time, first.kind, first.subject) == (1, 10.0, "peer", "a.example.")
    assert Peer.model_validate(first.data) == peer("a.example.", "KNOWN")
    assert (second.id, second.data) == (2, {"severity": "info", "text": "hello"})


async def test_models_inside_a_mapping_become_json() -> None:
    log = EventLog()
    events = log.subscribe()
    log.publish("keys", "example.", {"zone": "example.", "keys": [peer("a.example.", "KNOWN")]}, 1.0)
    (event,) = await take(events, 1)
    assert event.data["keys"][0]["identity"] == "a.example."


async def test_data_is_copied() -> None:
    log = EventLog()
    data = {"text": "before"}
    log.publish("log", "", data, 1.0)
    data["text"] = "after"
    assert (await take(log.subscribe(0), 1))[0].data == {"text": "before"}


async def test_subscription_without_a_position_begins_at_the_call() -> None:
    log = EventLog()
    log.publish("log", "", {"n": 1}, 1.0)
    events = log.subscribe()
    log.publish("log", "", {"n": 2}, 1.0)
    assert [event.data["n"] for event in await take(events, 1)] == [2]


async def test_a_waiting_reader_is_woken() -> None:
    log = EventLog()
    got: list[int] = []

    async def read() -> None:
        async for event in log.subscribe():
            got.append(event.id)
            if event.id == 3:
                return

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            log.publish("log", "", {}, 1.0)
            await anyio.wait_all_tasks_blocked()
    assert sorted(got) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


async def test_resume_gives_what_came_after() -> None:
    log = EventLog(start=1000)
    for number in range(5):
        log.publish("log", "", {"n": number}, 1.0)
    assert [event.id for event in await take(log.subscribe(1002), 3)] == [1003, 1004, 1005]
    assert log.last_id == 1005
    assert log.oldest_resumable == 1000


@pytest.mark.parametrize("after", [0, 999, 1006, 10**15])
async def test_a_position_of_another_run_is_a_gap(after: int) -> None:
    log = EventLog(start=1000)
    for number in range(5):
        log.publish("log", "", {"n": number}, 1.0)
    events = log.subscribe(after)
    (gap,) = await take(events, 1)
    assert (gap.kind, gap.id) == ("gap", 1005)
    log.publish("log", "", {"n": 9}, 2.0)
    assert (await take(events, 1))[0].id == 1006


async def test_a_slow_reader_gets_a_gap_and_goes_on_from_the_present() -> None:
    log = EventLog(capacity=4)
    events = log.subscribe()
    log.publish("log", "", {"n": 0}, 1.0)
    assert (await take(events, 1))[0].id == 1
    for number in range(1, 10):
        log.publish("log", "", {"n": number}, float(number))
    (gap,) = await take(events, 1)
    assert (gap.kind, gap.id, gap.data) == ("gap", 10, {})
    log.publish("log", "", {"n": 10}, 11.0)
    assert (await take(events, 1))[0].id == 11
    assert [event.kind for event in await take(log.subscribe(6), 1)] == ["gap"]
    assert [event.id for event in await take(log.subscribe(7), 4)] == [8, 9, 10, 11]


async def test_large_data_is_bounded_by_octets() -> None:
    log = EventLog(max_octets=1000)
    for _ in range(10):
        log.publish("log", "", {"text": "x" * 400}, 1.0)
    assert log.last_id - log.oldest_resumable == 2
    log.publish("log", "", {"text": "x" * 5000}, 1.0)
    (event,) = await take(log.subscribe(log.oldest_resumable), 1)
    assert len(event.data["text"]) == 5000


async def test_a_lagging_reader_is_spared_replaced_states_but_no_log_line() -> None:
    log = EventLog(coalesce_after=3)
    for number in range(20):
        log.publish("peer", "a.example.", {"n": number}, 1.0)
        log.publish("log", "", {"n": number}, 1.0)
    log.publish("peer-removed", "b.example.", {"identity": "b.example."}, 1.0)
    events: list[Event] = []
    reader = log.subscribe(0)
    while not events or events[-1].id < log.last_id:
        events += await take(reader, 1)
    assert [event.data["n"] for event in events if event.kind == "log"] == list(range(20))
    states = [event.data["n"] for event in events if event.kind == "peer"]
    assert states[-1] == 19
    assert len(states) < 20
    assert [event.id for event in events] == sorted(event.id for event in events)


async def test_a_reader_that_keeps_up_sees_every_state() -> None:
    log = EventLog(coalesce_after=3)
    events = log.subscribe()
    for number in range(20):
        log.publish("peer", "a.example.", {"n": number}, 1.0)
        assert (await take(events, 1))[0].data["n"] == number


async def test_readers_that_leave_are_forgotten() -> None:
    log = EventLog()

    async def read() -> None:
        async for _ in log.subscribe():
            pass

    for _ in range(50):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await checkpoint()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert not log._waiting


@pytest.mark.parametrize("kind", ["gap", "nonsense"])
async def test_unknown_kinds_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="not a kind"):
        EventLog().publish(kind, "", {}, 1.0)


@pytest.mark.parametrize("data", [{"x": object()}, {"x": float("nan")}])
async def test_data_must_be_json(data: dict[str, object]) -> None:
    log = EventLog()
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the JSON library's
        log.publish("log", "", data, 1.0)
    assert log.last_id == 0


@given(
    capacity=st.integers(1, 8),
    coalesce=st.integers(1, 8),
    steps=st.lists(st.one_of(st.none(), st.sampled_from("abc")), max_size=60),
)
def test_a_reader_ends_with_the_newest_state_or_knows_of_a_gap(
    capacity: int, coalesce: int, steps: list[str | None]
) -> None:
    """What a reader assembles equals the publisher's state, unless a gap told it to read the snapshot."""

    async def scenario() -> None:
        log = EventLog(capacity, coalesce_after=coalesce)
        truth: dict[str, int] = {}
        seen: dict[str, int] = {}
        position = 0
        events = log.subscribe(0)

        def apply(event: Event) -> None:
            nonlocal seen
            if event.kind == "gap":
                seen = dict(truth)
            else:
                seen[event.subject] = event.data["n"]

        for number, step in enumerate(steps):
            if step is not None:
                truth[step] = number
                log.publish("zone", step, {"n": number}, float(number))
            elif position < log.last_id:
                event = await anext(events)
                assert event.id > position
                position = event.id
                apply(event)
        while position < log.last_id:
            event = await anext(events)
            position = event.id
            apply(event)
        assert seen == truth
        assert len(log._ring) <= capacity

    anyio.run(scenario)
