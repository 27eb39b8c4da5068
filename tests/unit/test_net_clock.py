from __future__ import annotations

import time

import anyio
import pytest
import trio
import trio.testing

from mpcore.net.clock import SystemClock

pytestmark = pytest.mark.anyio


async def test_reads_the_time_of_day() -> None:
    before = time.time()
    now = SystemClock().now()
    assert before <= now <= time.time()


async def test_starts_at_a_given_epoch() -> None:
    assert SystemClock(1_000_000.0).now() == pytest.approx(1_000_000.0)


async def test_follows_the_system_clock_forward_but_not_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    start = clock.now()
    monkeypatch.setattr(time, "time", lambda: start + 3600)
    assert start + 3600 <= clock.now() < start + 3700
    monkeypatch.setattr(time, "time", lambda: start - 3600)
    assert start + 3600 <= clock.now() < start + 3700


def test_follows_the_virtual_clock() -> None:
    async def main() -> float:
        clock = SystemClock(1_000_000.0)
        clock.now()
        await anyio.sleep(86400)
        return clock.now()

    virtual = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=virtual) == pytest.approx(1_086_400.0)
