"""Damage to sound octets, and what must hold of a decoder that gets them.

A decoder accepts, or raises one of the errors that its target allows; it takes no longer than :data:`TIME_BOUND` of
processor time and no more than :data:`PEAK_BOUND` of memory, and however often it runs, the process grows by less than
:data:`GROWTH_BOUND`.  Whatever breaks this is a :class:`Failure`, with the octets that did it.

A run depends on its seed only: the same seed damages the same octets in the same way.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from mpcore.errors import RemoteError

__all__ = ("Failure", "HangError", "Report", "Target", "damage", "execute", "fuzz")

TIME_BOUND = 0.5
"""Seconds of processor time that one execution may take."""
HANG_BOUND = 5.0
"""Seconds of processor time after which an execution is interrupted."""
PEAK_BOUND = 16 << 20
"""Octets that one execution may allocate at a time, beside what it was given."""
GROWTH_BOUND = 10 << 20
"""Octets by which the process may grow over a run, once caches and lazy imports are behind it."""
MAX_INPUT = 65536
"""Octets that a decoder is given at most: nothing larger arrives in one DNS message."""

_SAMPLE = 512  # one execution in so many is traced for its memory
_POOL = 64  # damaged octets that were accepted, and are damaged further
_POOLED = 4096  # octets of the largest of them
_KEPT = 8  # failures of a run that are kept; all are counted
_EDGES = (0, 1, 2, 0x0C, 0x22, 0x2E, 0x3F, 0x40, 0x5C, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)
_LENGTHS = (0, 1, 12, 0x3F, 0xFF, 0x3FFF, 0x7FFF, 0x8000, 0xC00C, 0xFFFE, 0xFFFF)
_NUMBERS = (b"0", b"-1", b"1e999", b"65536", b"4294967296", b"18446744073709551616", b"9" * 400, b"1.5", b"0x1")


class HangError(BaseException):
    """An execution was interrupted; not an :exc:`Exception`, so that no decoder takes it for its own."""


@dataclass(frozen=True)
class Target:
    """A decoder and what it is given.

    :param name: what it is called on the command line.
    :param run: decodes the octets, and checks what must hold of the outcome with ``assert``.
    :param seeds: makes sound octets, which *run* accepts; called once a run.
    :param allowed: errors that may escape.
    :param tokens: words of its language, put into the octets now and then.
    :param cost: rough executions that another target makes while this one makes one; runs are shortened by it.
    :param mutate: damages octets; :func:`damage` unless given.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    allowed: tuple[type[Exception], ...] = (RemoteError,)
    tokens: tuple[bytes, ...] = ()
    cost: int = 1
    mutate: Callable[[bytes, random.Random, Sequence[bytes], Sequence[bytes]], bytes] | None = None


@dataclass(frozen=True)
class Failure:
    """Octets that broke the rule, and how."""

    octets: bytes
    what: str


@dataclass
class Report:
    """What came of a run."""

    name: str
    executions: int = 0
    accepted: int = 0  #: executions that ended without an error
    seconds: float = 0.0  #: of the clock on the wall
    slowest: float = 0.0  #: processor time of the slowest execution, seconds
    peak: int = 0  #: octets, of the executions that were traced
    growth: int = 0  #: octets of resident memory, over the last three quarters of the run
    broken: int = 0  #: executions that broke the rule
    failures: list[Failure] = field(default_factory=list)  #: the first of each kind

    def __str__(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.name}: {self.executions} executions, {rate:.0f}/s, {self.accepted} accepted, {self.broken} broken; "
            f"slowest {1000 * self.slowest:.1f} ms, peak {self.peak >> 10} KiB, growth {self.growth >> 10} KiB"
        ]
        for failure in self.failures:
            lines += [f"  {failure.what}", f"    {failure.octets.hex()}"]
        return "\n".join(lines)


# -------------------------------------------------------------------------------------------------------------- damage


def damage(
    octets: bytes, source: random.Random, others: Sequence[bytes] = (), tokens: Sequence[bytes] = _NUMBERS
) -> bytes:
    """The *octets* with one to four damages.

    :param others: sound octets to splice in.
    :param tokens: words to put in.
    """
    damaged = bytearray(octets)
    for _ in range(source.randint(1, 4)):
        source.choice(_DAMAGES)(damaged, source, others, tokens)
    return bytes(damaged[:MAX_INPUT])


_Octets = Sequence[bytes]


def _place(damaged: bytearray, source: random.Random) -> int:
    return source.randrange(len(damaged) + 1)


def _flip(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    if damaged:
        damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)


def _change(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    at = _place(damaged, source)
    damaged[at : at + 1] = bytes((source.randrange(256) if source.getrandbits(1) else source.choice(_EDGES),))


def _step(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    """A counter, or the length of something short, off by one or two."""
    if damaged:
        at = source.randrange(len(damaged))
        damaged[at] = (damaged[at] + source.choice((-2, -1, 1, 2))) & 0xFF


def _length(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    """A field of two octets becomes an edge of its range, what is left behind it, or a little less or more."""
    if len(damaged) > 1:
        at = source.randrange(len(damaged) - 1)
        old = damaged[at] << 8 | damaged[at + 1]
        left = len(damaged) - at - 2
        new = source.choice((source.choice(_LENGTHS), left, left + 1, old + 1, old - 1, old + 256))
        damaged[at : at + 2] = (new & 0xFFFF).to_bytes(2, "big")


def _cut(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    at = _place(damaged, source)
    del damaged[at : at + source.randint(1, 12)]


def _truncate(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    del damaged[_place(damaged, source) :]


def _double(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    at = _place(damaged, source)
    damaged[at:at] = damaged[at : at + source.choice((1, 4, 12, 40))]


def _repeat(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    """A few octets many times: what nests gets deep, what is listed gets long."""
    if source.getrandbits(3) == 0:
        at = _place(damaged, source)
        damaged[at:at] = damaged[at : at + source.randint(1, 6)] * source.choice((16, 200, 3000))


def _noise(damaged: bytearray, source: random.Random, _others: _Octets, _tokens: _Octets) -> None:
    at = _place(damaged, source)
    damaged[at:at] = source.randbytes(source.randint(1, 12))


def _splice(damaged: bytearray, source: random.Random, others: _Octets, _tokens: _Octets) -> None:
    """A part of other sound octets, in or over what is there."""
    if others:
        other = source.choice(others)
        start = source.randrange(len(other) + 1)
        piece = other[start : start + source.randint(1, 64)]
        at = _place(damaged, source)
        damaged[at : at + (len(piece) if source.getrandbits(1) else 0)] = piece


def _token(damaged: bytearray, source: random.Random, _others: _Octets, tokens: _Octets) -> None:
    if tokens:
        token = source.choice(tokens)
        at = _place(damaged, source)
        damaged[at : at + (len(token) if source.getrandbits(1) else 0)] = token


_DAMAGES = (_flip, _change, _step, _length, _cut, _truncate, _double, _repeat, _noise, _splice, _token)


# ----------------------------------------------------------------------------------------------------------------- run


@contextmanager
def _interrupted() -> Iterator[None]:
    """Let the processor-time alarm raise :exc:`HangError`."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def _timed(target: Target, octets: bytes) -> tuple[str, float]:
    """What happened (``accepted``, ``refused`` or what broke the rule), and the processor time it took."""
    started = time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_BOUND)
    try:
        target.run(octets)
        outcome = "accepted"
    except target.allowed:
        outcome = "refused"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).partition("\n")[0][:200]
        outcome = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {text}"
    except HangError:
        outcome = f"no end within {HANG_BOUND:g} s"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    return outcome, time.process_time() - started


def _traced(target: Target, octets: bytes) -> tuple[str, int]:
    """What happened, and the most octets that were allocated for it at a time."""
    tracemalloc.start()
    try:
        outcome, _ = _timed(target, octets)
        return outcome, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def execute(target: Target, octets: bytes) -> Report:
    """Run one input, traced."""
    report = Report(target.name, executions=1)
    with _interrupted():
        outcome, report.slowest = _timed(target, octets)
        _, report.peak = _traced(target, octets)
    _judge(report, octets, outcome)
    return report


def _judge(report: Report, octets: bytes, outcome: str) -> None:
    if outcome in ("accepted", "refused"):
        report.accepted += outcome == "accepted"
        return
    report.broken += 1
    kind = outcome.partition(": ")[0]
    if len(report.failures) < _KEPT and all(failure.what.partition(": ")[0] != kind for failure in report.failures):
        report.failures.append(Failure(octets, outcome))


def fuzz(target: Target, executions: int, seed: int) -> Report:
    """Damage the target's seeds and run them; every seed undamaged first, which must be accepted.

    :param executions: at least 1.
    :param seed: any number.
    """
    source = random.Random(f"{target.name} {seed}")
    sound = list(target.seeds())
    tokens = (*_NUMBERS, *target.tokens)
    mutate = target.mutate or damage
    pool: list[bytes] = []
    report = Report(target.name)
    started = time.monotonic()
    with _interrupted():
        for octets in sound:
            outcome, _ = _timed(target, octets)
            _judge(report, octets, "a seed is refused" if outcome == "refused" else outcome)
        report.accepted = 0
        resident = 0
        for number in range(executions):
            if number == executions // 4:
                resident = _resident()
            octets = source.choice(pool if pool and source.getrandbits(2) == 0 else sound)
            octets = mutate(octets, source, sound, tokens)[:MAX_INPUT]
            outcome, spent = _timed(target, octets)
            if spent > TIME_BOUND:  # once more: it may have paid for something that is done once
                outcome, spent = _timed(target, octets)
                if spent > TIME_BOUND and outcome in ("accepted", "refused"):
                    outcome = f"too slow: {spent:.2f} s"
            report.slowest = max(report.slowest, spent)
            _judge(report, octets, outcome)
            if outcome == "accepted" and len(octets) <= _POOLED and source.getrandbits(3) == 0:
                if len(pool) < _POOL:
                    pool.append(octets)
                else:
                    pool[source.randrange(_POOL)] = octets
            if number % _SAMPLE == _SAMPLE - 1:
                _, peak = _traced(target, octets)
                report.peak = max(report.peak, peak)
                if peak > PEAK_BOUND:
                    _judge(report, octets, f"too much memory: {peak >> 10} KiB")
        report.executions = executions
        report.growth = _resident() - resident
        if report.growth > GROWTH_BOUND:
            _judge(report, b"", f"the process has grown: {report.growth >> 10} KiB")
    report.seconds = time.monotonic() - started
    return report
