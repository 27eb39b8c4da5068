"""Every decoder under a few thousand damages; the campaign is ``python -m tests.fuzz``."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Callable

import pytest

from mpcore.errors import RecordError
from tests.fuzz import engine
from tests.fuzz.__main__ import main
from tests.fuzz.engine import Report, Target, execute, fuzz
from tests.fuzz.targets import TARGETS

EXECUTIONS = 4000
"""Of a target that costs least; a costly one makes as many fewer as it costs more, but :data:`LEAST`."""
LEAST = 400


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_decoder(target: Target) -> None:
    report = fuzz(target, max(EXECUTIONS // target.cost, LEAST), seed=1)
    assert not report.broken, str(report)
    assert report.accepted > 2, "no damage is mild enough to get past the first checks"


def _planted(octets: bytes) -> None:
    """Accepts what begins with a known octet; for one value it looks into a table that does not have it."""
    if not octets:
        raise RecordError("nothing")
    if octets[0] == 0x80:
        _ = {0: "a"}[octets[0]]


def _run(run: Callable[[bytes], None], executions: int = 20_000, **parameters: object) -> Report:
    return fuzz(Target("planted", run, lambda: [b"\x00\x01abc"], **parameters), executions, seed=1)  # type: ignore[arg-type]


def test_a_planted_fault_is_found_with_the_octets_that_do_it() -> None:
    report = _run(_planted)
    assert report.broken
    (failure,) = report.failures
    assert failure.what.startswith("KeyError in test_fuzz_targets.py:")
    assert failure.octets[0] == 0x80
    assert failure.octets.hex() in str(report)
    again = execute(Target("planted", _planted, list), failure.octets)
    assert [item.what for item in again.failures] == [failure.what]


def test_a_run_is_repeatable() -> None:
    first, second = _run(_planted), _run(_planted)
    assert (first.broken, first.accepted, first.failures) == (second.broken, second.accepted, second.failures)


def test_errors_that_are_not_allowed_are_found() -> None:
    assert _run(_planted, allowed=(RecordError, KeyError)).broken == 0
    (failure,) = _run(_planted, allowed=(KeyError,)).failures
    assert failure.what.startswith("RecordError in test_fuzz_targets.py:")
    assert failure.octets == b""


def test_a_seed_that_is_refused_is_found() -> None:
    def refuse(octets: bytes) -> None:
        raise RecordError("no")

    report = _run(refuse, 10)
    assert report.failures[0].what == "a seed is refused"


def test_slowness_and_hangs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HANG_BOUND", 0.2)
    monkeypatch.setattr(engine, "TIME_BOUND", 0.02)

    def slow(octets: bytes) -> None:
        limit = time.process_time() + (0.06 if octets[:1] == b"\x80" else 0.0)
        while time.process_time() < limit:
            pass

    report = _run(slow, 4000)
    assert report.broken
    assert report.failures[0].what.startswith("too slow")

    def hang(octets: bytes) -> None:
        while octets[:1] == b"\x80":
            try:
                len(octets)
            except Exception:
                raise AssertionError from None

    report = execute(Target("hang", hang, list), b"\x80")
    assert report.failures[0].what.startswith("no end within")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []

    def grow(octets: bytes) -> None:
        kept.append(bytes(20_000) + octets)

    report = _run(grow, 2000)
    assert [failure.what for failure in report.failures if failure.what.startswith("the process has grown")]
    kept.clear()

    def hoard(octets: bytes) -> None:
        if tracemalloc.is_tracing():
            bytes(engine.PEAK_BOUND)

    report = _run(hoard, 600)
    assert [failure.what for failure in report.failures if failure.what.startswith("too much memory")]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hsync3", "--executions", "50", "--seed", "3"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"(?m)^seed 3\nhsync3: 50 executions, [0-9]+/s, [0-9]+ accepted, 0 broken;", output)
    assert main(["hsync3", "--input", "00"]) == 0
    assert "hsync3: 1 executions" in capsys.readouterr().out
