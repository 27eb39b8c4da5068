"""Every daemon is killed with SIGKILL while a change is under way, and started again: nothing is lost.

Where a moment matters it is held open by a neighbour that does not run, so that the message that comes next waits.
Changes are made at alpha; bravo is the remote provider; charlie is never touched.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial

import anyio
import pytest

from mpcore.control.client import ControlUnreachable
from mpcore.control.models import RecordState, Transaction, Wait
from tests.lab.laboratory import Lab, ask, eventually, records

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab"), pytest.mark.timeout(180)]

DAEMONS = tuple(f"{label}.{role}" for label in ("alpha", "bravo") for role in ("agent", "combiner", "signer"))
_numbers = itertools.count(1)


def _record(lab: Lab) -> str:
    return f"{lab.zone} 3600 IN NS ns{next(_numbers)}.kills.example."


def _serials(lab: Lab) -> dict[str, int]:
    """Serials served, by address: they never go back, whatever was killed."""
    found = {}
    for provider in lab.providers:
        for daemon in (provider.combiner, provider.signer):
            answer = ask(daemon.address, lab.port, lab.zone, "SOA")
            found[daemon.name] = answer.answer[0][0].serial
    return found


def _assert_serials_went_on(lab: Lab, before: dict[str, int]) -> None:
    after = eventually(lambda: _serials(lab), "all serve the zone")
    assert {name: after[name] >= before[name] for name in before} == dict.fromkeys(before, True), (before, after)


def _finish(lab: Lab, transaction: Transaction, serials: dict[str, int]) -> None:
    """What is asked of every change, whatever happened on the way."""
    lab.assert_accepted_everywhere("alpha", transaction)
    lab.assert_served_everywhere(transaction.record, present=transaction.operation == "add")
    _assert_serials_went_on(lab, serials)


def _both_ways(lab: Lab, through: Callable[[str, str], Transaction]) -> None:
    """The same for an addition and for the removal of what was added."""
    record = _record(lab)
    for operation in ("add", "delete"):
        serials = _serials(lab)
        _finish(lab, through(operation, record), serials)


@pytest.mark.parametrize("daemon", DAEMONS[1:])
def test_a_daemon_that_was_away_catches_up(lab: Lab, daemon: str) -> None:
    """Killed before it heard of the change: what was meant for it waits, and is done when it is back."""

    def change(operation: str, record: str) -> Transaction:
        lab.kill(daemon)
        transaction = lab.agent("alpha").change(lab.zone, operation, record)
        lab.start(daemon)
        return transaction

    _both_ways(lab, change)


def test_a_dead_agent_acknowledges_nothing(lab: Lab) -> None:
    """A change that the agent never got is refused to the operator, and did not happen."""
    record = _record(lab)
    lab.kill("alpha.agent")
    with pytest.raises(ControlUnreachable):
        lab.agent("alpha").change(lab.zone, "add", record)
    lab.start("alpha.agent")
    lab.wait_until_settled()
    identity = lab.provider("alpha").agent.identity
    assert set(lab.states(record, identity).values()) == {None}


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8, 16, 32])
def test_an_agent_killed_while_it_takes_a_change(lab: Lab, milliseconds: int) -> None:
    """Acknowledged: it completes.  Not acknowledged: it completes or did not happen, the same at all providers."""
    record = _record(lab)
    alpha = lab.agent("alpha")
    serials = _serials(lab)
    killed = threading.Timer(milliseconds / 1000, lambda: lab.kill("alpha.agent"))
    killed.start()
    try:
        transaction: Transaction | None = alpha.change(lab.zone, "add", record)
    except ControlUnreachable:
        transaction = None
    killed.join()
    lab.start("alpha.agent")
    known = [item for item in alpha.transactions() if item.record.split() == record.split()]
    if transaction is not None:
        assert [item.id for item in known] == [transaction.id]
    if known:
        _finish(lab, known[0], serials)
        lab.assert_accepted_everywhere("alpha", alpha.change(lab.zone, "delete", record))
        return
    lab.wait_until_settled()
    assert set(lab.states(record, lab.provider("alpha").agent.identity).values()) == {None}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_killed_at_some_moment_of_a_change(lab: Lab, daemon: str) -> None:
    """However far the change has come when the daemon dies, it comes to its end."""
    record = _record(lab)
    for milliseconds, operation in zip((0, 5, 20, 60), itertools.cycle(("add", "delete"))):
        serials = _serials(lab)
        transaction = lab.agent("alpha").change(lab.zone, operation, record)
        anyio.run(anyio.sleep, milliseconds / 1000)  # not to wait for something: to hit different moments
        lab.kill(daemon)
        lab.start(daemon)
        _finish(lab, transaction, serials)


def test_an_agent_killed_after_its_answer(lab: Lab) -> None:
    """HERE is a promise: nobody else has heard of the change, only the agent's disk has it."""
    neighbours = ("alpha.combiner", "bravo.agent", "charlie.agent")

    def change(operation: str, record: str) -> Transaction:
        lab.kill(*neighbours)
        alpha = lab.agent("alpha")
        transaction = alpha.change(lab.zone, operation, record)
        assert transaction.reached is Wait.HERE
        lab.kill("alpha.agent")
        lab.start("alpha.agent")
        again = alpha.transaction(transaction.id)
        assert (again.record, again.operation, again.reached) == (record_of(again), operation, Wait.HERE)
        lab.start(*neighbours)
        return transaction

    def record_of(transaction: Transaction) -> str:
        return transaction.record

    _both_ways(lab, change)


def test_a_combiner_killed_between_its_two_answers(lab: Lab) -> None:
    """The inline answer promises the CONFIRM, which has nowhere to go yet; it comes after the combiner's restart."""
    record = _record(lab)
    agent = lab.stand_in("alpha", "combiner")

    def served(present: bool) -> bool:
        return (record.split()[-1] in records(agent.peer.address, lab.port, lab.zone, "NS")) is present

    lab.kill("alpha.agent")
    for operation in ("add", "delete"):
        distribution_id = agent.new_id()
        rcode, answer = agent.send(agent.update(lab.zone, operation, record), distribution_id)
        assert (rcode, answer.status if answer else None) == (0, "pending")
        lab.kill("alpha.combiner")
        lab.start("alpha.combiner")
        with agent:
            agent.greet()
            confirm = agent.wait_for_confirm(distribution_id)
        assert confirm.status == "SUCCESS"
        texts = confirm.applied_records if operation == "add" else confirm.removed_records
        assert [text.split() for text in texts] == [record.split()]
        eventually(partial(served, operation == "add"), f"the combiner serves the zone after {operation}")
    lab.start("alpha.agent")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_killed_before_the_last_confirmation(lab: Lab, daemon: str) -> None:
    """Bravo's combiner is dead, so one confirmation is outstanding; then another daemon dies as well."""

    def change(operation: str, record: str) -> Transaction:
        lab.kill("bravo.combiner")
        alpha = lab.agent("alpha")
        transaction = alpha.change(lab.zone, operation, record)
        identity = lab.provider("bravo").agent.identity

        def all_but_bravo() -> bool:
            states = {each.recipient: each.status for each in alpha.transaction(transaction.id).confirmations}
            return states.pop(identity, None) == "received" and not {"owed", "received"} & set(states.values())

        eventually(all_but_bravo, "only bravo's answer is outstanding")
        if daemon != "bravo.combiner":
            lab.kill(daemon)
            lab.start(daemon)
            assert alpha.transaction(transaction.id).reached is not Wait.EVERYWHERE
        lab.start("bravo.combiner")
        return transaction

    _both_ways(lab, change)


@pytest.mark.parametrize("provider", ["alpha", "bravo"])
def test_a_provider_that_dies_as_a_whole(lab: Lab, provider: str) -> None:
    """All three daemons at once, with the change on its way."""

    def change(operation: str, record: str) -> Transaction:
        transaction = lab.agent("alpha").change(lab.zone, operation, record)
        lab.kill(provider)
        lab.start(provider)
        return transaction

    _both_ways(lab, change)


def test_everybody_dies(lab: Lab) -> None:
    """Power failure at all providers: changes, keys, terms and serials are as before."""
    record = _record(lab)
    alpha = lab.agent("alpha")
    agreed = lab.agreed_leader()
    assert agreed is not None
    keys = records(lab.signers[0], lab.port, lab.zone, "DNSKEY")
    lab.assert_accepted_everywhere("alpha", alpha.change(lab.zone, "add", record))
    serials = _serials(lab)
    under_way = alpha.change(lab.zone, "delete", record)
    everybody = [provider.label for provider in lab.providers]
    lab.kill(*everybody)
    lab.start(*everybody)
    _finish(lab, under_way, serials)
    lab.wait_until_settled()
    again = lab.agreed_leader()
    assert again is not None
    assert again[1] >= agreed[1], "a term is never used again"
    assert [records(address, lab.port, lab.zone, "DNSKEY") for address in lab.signers] == [keys] * 3
    assert RecordState.ACCEPTED not in lab.states(record, lab.provider("alpha").agent.identity).values()
