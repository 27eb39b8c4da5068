"""What is remembered, how long, and how much of it."""

from __future__ import annotations

from mpcore.net.resolver_cache import BoundedMap, FailureMemory


def test_entries_end() -> None:
    cache: BoundedMap[str, int] = BoundedMap(10)
    cache.put("a", 1, expires=105.0, now=100.0)
    assert cache.get("a", 104.9) == 1
    assert cache.get("a", 105.0) is None
    assert len(cache) == 0
    cache.put("a", 1, expires=105.0, now=100.0)
    cache.put("a", 2, expires=100.0, now=100.0)
    assert cache.get("a", 100.0) is None, "TTL 0 replaces, and is not kept"


def test_the_least_recently_used_makes_room() -> None:
    cache: BoundedMap[int, int] = BoundedMap(3)
    for key in range(3):
        cache.put(key, key, 200.0, 100.0)
    assert cache.get(0, 100.0) == 0
    cache.put(3, 3, 200.0, 100.0)
    assert [cache.get(key, 100.0) for key in range(4)] == [0, None, 2, 3]
    assert cache.drop_where(lambda key: key > 1) == 2
    cache.drop(0)
    assert len(cache) == 0


def test_failures_are_remembered_longer_each_time_up_to_the_longest() -> None:
    memory: FailureMemory[str, str] = FailureMemory(10, 1.0)
    now, delays = 100.0, []
    for _ in range(6):
        until = memory.put("a", "down", now)
        delays.append(round(until - now, 6))
        assert memory.get("a", until - 0.01) == "down"
        now = until
        assert memory.get("a", now) is None
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    now += 11
    assert round(memory.put("a", "down", now) - now, 6) == 0.1, "long ago: starts anew"
    memory.drop("a")
    assert memory.get("a", now) is None
    memory.put("b", "down", now)
    assert memory.drop_where(lambda key: key == "b") == 1
