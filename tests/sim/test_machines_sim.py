"""A thousand seeds of one hour: five members, everything that can go wrong, and two promises.

Safety: at most one leader in a term, and no member votes twice or backwards.  Liveness: when everything is whole again,
all agree on a leader within a beat and a round.
"""

from __future__ import annotations

from typing import Any

import pytest

from mpcore.actions import Action, Store
from mpcore.group.election import Election
from mpcore.sim.machines import MachineRun, Outcome, run_machines

BEAT, ROUND = 30.0, 10.0


def judge(outcomes: list[Outcome]) -> None:
    broken = [(outcome.seed, outcome.breaches) for outcome in outcomes if outcome.breaches]
    assert not broken
    healed = sorted(outcome.healed_in or 0.0 for outcome in outcomes)
    assert healed[int(0.99 * len(healed)) - 1] <= BEAT + ROUND
    assert max(outcome.matrix_in or 0.0 for outcome in outcomes) <= 2 * BEAT
    # The runs are no idle ones: things went wrong in all of them, and leaders were elected again and again.
    assert min(outcome.faults for outcome in outcomes) >= 20
    assert sum(outcome.terms for outcome in outcomes) > 5 * len(outcomes)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_a_thousand_hours(first: int) -> None:
    judge(run_machines(range(first, first + 50)))


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_other_sizes(count: int) -> None:
    judge(run_machines(range(12), count=count))


@pytest.mark.long
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("first", range(0, 20_000, 1000))
def test_twenty_thousand_hours(first: int) -> None:
    judge(run_machines(range(first, first + 1000)))


def test_the_same_seed_gives_the_same_run() -> None:
    one, two, other = (MachineRun(seed).run() for seed in (7, 7, 8))
    assert one == two
    assert one.digest
    assert one.digest != other.digest


# ------------------------------------------------------------------------------------------------------ planted faults


class Hasty(Election):
    """Does not wait for the last vote and the last confirmation."""

    def _advance(self, now: float) -> list[Action]:
        current = self._round
        if current is not None and self._phase == "voting" and len(current.votes) >= 3:
            for voter in self._group.voters:
                current.votes.setdefault(voter, 0)
        actions = super()._advance(now)
        if current is not None and self._phase == "confirming" and current.winner is not None:
            for voter in self._group.voters:
                current.confirms.setdefault(voter, current.winner)
            actions += super()._advance(now)
        return actions


class Careless(Election):
    """Does not store its term."""

    def timer(self, name: str, now: float) -> list[Action]:
        return [action for action in super().timer(name, now) if not isinstance(action, Store)]

    def received(self, *arguments: Any) -> list[Action]:
        return [action for action in super().received(*arguments) if not isinstance(action, Store)]

    def operational(self, now: float) -> list[Action]:
        return [action for action in super().operational(now) if not isinstance(action, Store)]


class Tired(Election):
    """Tries once."""

    def _on_retry(self, now: float) -> list[Action]:
        return []

    def _on_resend(self, now: float) -> list[Action]:
        return []


def caught(kind: type[Election], *words: str) -> bool:
    """Whether one of the first seeds breaks a promise in these words."""
    for seed in range(25):
        outcome = MachineRun(seed, kind=kind).run()
        if any(word in breach for breach in outcome.breaches for word in words):
            return True
    return False


def test_a_hasty_machine_is_caught() -> None:
    assert caught(Hasty, "two leaders")


def test_a_careless_machine_is_caught() -> None:
    assert caught(Careless, "twice", "after")


def test_a_tired_machine_is_caught() -> None:
    assert caught(Tired, "no leader")
