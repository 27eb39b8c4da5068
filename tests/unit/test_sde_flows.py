"""The synchronised data engine, flow by flow: who is told what, and what comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mpcore.actions import Send, SetTimer
from mpcore.control.models import TransactionState, Wait
from mpcore.errors import NotFoundError, NotReadyError, PolicyError, StoreError
from mpcore.machine import markdown
from mpcore.sde import KeysPropagated, SynchronisedData, TransactionChanged
from mpcore.sde.engine import TRANSITIONS
from mpcore.wire.messages import Confirm, Operation, RejectedItem, Rfi, Sync, Update, decode_message, rfc3339
from tests.unit.sde_world import ZONE, World, agent, combiner, key, make_roles, ns

ALPHA, BRAVO, CA, CB = agent("alpha"), agent("bravo"), combiner("alpha"), combiner("bravo")
BOTH = make_roles("alpha bravo")
A, B, C = ns("ns1.alpha.example."), ns("ns2.alpha.example."), ns("ns3.alpha.example.")
NS_A = "NS\tns1.alpha.example."


def sync(world: World, author: str, rrtype: str, records: list[str], *, verb: str = "replace", at: float | None = None):
    return Sync(
        originator_id=author,
        your_identity=ALPHA,
        zone=ZONE,
        operations=[Operation(operation=verb, rrtype=rrtype, records=records)],
        time=rfc3339(world.now if at is None else at),
        nonce="c" * 32,
    )


def confirms(world: World, sender: str, recipient: str) -> list[Confirm]:
    return [message for _, message in world.between(sender, recipient) if isinstance(message, Confirm)]


def final(world: World, sender: str = ALPHA, recipient: str = BRAVO) -> Confirm:
    return [confirm for confirm in confirms(world, sender, recipient) if confirm.status != "PENDING"][-1]


# ------------------------------------------------------------------------------------------------------- our changes


def test_an_added_record_goes_to_everybody_and_is_accepted_when_all_have_applied_it() -> None:
    world = World(BOTH)
    transaction = world.change("alpha", "add", "@ 3600 NS ns1.alpha.example.")
    (x, to_combiner), (x_too, to_bravo) = world.between(ALPHA, CA) + world.between(ALPHA, BRAVO)
    assert x == x_too
    assert isinstance(to_combiner, Update)
    assert isinstance(to_bravo, Sync)
    assert to_combiner.nonce != to_bravo.nonce
    for message, recipient in ((to_combiner, CA), (to_bravo, BRAVO)):
        assert json.loads(message.to_json())["operations"] == [{"operation": "replace", "rrtype": "NS", "records": [A]}]
        assert (message.originator_id, message.your_identity, message.zone) == (ALPHA, recipient, ZONE)
        assert message.sent_at == pytest.approx(world.now)
    view = world["alpha"].transaction(transaction)
    assert (view.state, view.reached, view.record) == (TransactionState.PENDING, Wait.HERE, A)
    assert f"our combiner {CA} has not acknowledged" in (view.waiting_for or "")
    assert f"{BRAVO} has not acknowledged" in (view.waiting_for or "")

    world.deliver(ALPHA, CA)
    world.deliver(CA, ALPHA)
    view = world["alpha"].transaction(transaction)
    assert (view.state, view.reached) == (TransactionState.PENDING, Wait.COMBINER)
    world.deliver(ALPHA, BRAVO)
    assert "its combiner has not answered" in (world["alpha"].transaction(transaction).waiting_for or "")
    (y, relayed), *_ = world.between(BRAVO, CB)
    assert y != x
    assert isinstance(relayed, Update)
    assert relayed.originator_id == ALPHA
    assert relayed.operations == to_bravo.operations
    pending = confirms(world, BRAVO, ALPHA)
    assert [(item.status, item.nonce, item.distribution_id) for item in pending] == [("PENDING", to_bravo.nonce, x)]
    world.settle()
    last = final(world, BRAVO, ALPHA)
    assert (last.status, last.distribution_id, last.nonce, last.applied_records) == ("SUCCESS", x, "", [A])
    view = world["alpha"].transaction(transaction)
    assert (view.state, view.reached, view.waiting_for) == (TransactionState.ACCEPTED, Wait.EVERYWHERE, None)
    assert [(item.recipient, item.status) for item in view.confirmations] == [(CA, "accepted"), (BRAVO, "accepted")]
    assert list(view.reached_at) == ["here", "combiner", "everywhere"]
    assert world.states("alpha") == {NS_A: "accepted"} == world.states("bravo")
    assert world.kept("alpha", "alpha") == [A] == world.kept("bravo", "alpha")
    assert TransactionChanged(transaction) in world.nodes[ALPHA].told


def test_the_last_record_is_removed_by_an_empty_replace_and_listed_for_an_hour() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    world.keys("alpha", [key(1)])
    world.settle()
    transaction = world.change("alpha", "delete", A)
    message = world.between(ALPHA, BRAVO)[-1][1]
    assert json.loads(message.to_json())["operations"] == [{"operation": "replace", "rrtype": "NS"}]
    assert world.states("alpha")[NS_A] == "pending-removal"
    world.settle()
    last = final(world, BRAVO, ALPHA)
    assert (last.status, last.removed_records, last.applied_records) == ("SUCCESS", [A], [])  # no filler
    assert world["alpha"].transaction(transaction).reached is Wait.EVERYWHERE
    for label in ("alpha", "bravo"):
        assert world.states(label)[NS_A] == "removed"
        assert world.kept(label, "alpha") in ([], [key(1)])
    world.tick(3500)
    assert world.states("alpha")[NS_A] == "removed"
    world.tick(200)
    assert NS_A not in world.states("alpha")
    assert NS_A not in world.states("bravo")


def test_adding_the_same_record_again_sends_nothing_and_is_done_at_once() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    early = world.change("alpha", "add", A)
    sent = len(world.sent)
    assert world["alpha"].transaction(early).state is TransactionState.PENDING
    world.settle()
    assert world["alpha"].transaction(early).state is TransactionState.ACCEPTED
    before = len(world.sent)
    late = world.change("alpha", "add", "example.com. 3600 IN NS NS1.ALPHA.example.")
    assert len(world.sent) == before >= sent
    assert world["alpha"].transaction(late).state is TransactionState.ACCEPTED
    assert not world["alpha"].plan(ZONE, "add", A).effective


def test_the_complete_set_is_sent_with_each_change() -> None:
    world = World(BOTH)
    for record in (B, A):
        world.change("alpha", "add", record)
    message = world.between(ALPHA, BRAVO)[-1][1]
    assert isinstance(message, Sync)
    assert sorted(message.operations[0].records) == [A, B]
    world.change("alpha", "delete", B)
    world.settle()
    assert world.states("bravo", "alpha") == {NS_A: "accepted", "NS\tns2.alpha.example.": "removed"}


def test_another_ttl_replaces_the_record() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    short = ns("ns1.alpha.example.", 60)
    plan = world["alpha"].plan(ZONE, "add", short)
    assert plan.resulting == (short,)
    assert any("TTL" in warning for warning in plan.warnings)
    transaction = world.change("alpha", "add", short)
    world.settle()
    assert world["alpha"].transaction(transaction).state is TransactionState.ACCEPTED
    assert world.kept("bravo", "alpha") == [short]
    world.change("alpha", "delete", A)  # the TTL does not matter for a deletion
    world.settle()
    assert world.kept("bravo", "alpha") == []


def test_a_later_change_supersedes_a_pending_one() -> None:
    world = World(BOTH)
    added = world.change("alpha", "add", A)
    deleted = world.change("alpha", "delete", A)
    assert world["alpha"].transaction(added).state is TransactionState.SUPERSEDED
    world.settle()
    assert world["alpha"].transaction(deleted).state is TransactionState.ACCEPTED
    assert world.kept("bravo", "alpha") == []


def test_an_old_confirmation_does_not_confirm_a_newer_change() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.deliver(ALPHA, BRAVO)
    world.deliver(BRAVO, ALPHA)  # PENDING
    world.deliver(BRAVO, CB)
    world.deliver(CB, BRAVO)
    world.change("alpha", "delete", A)
    again = world.change("alpha", "add", A)
    world.deliver(BRAVO, ALPHA)  # SUCCESS for the first
    answers = {item.recipient: item.status for item in world["alpha"].transaction(again).confirmations}
    assert answers[BRAVO] == "owed"
    world.settle()
    assert world["alpha"].transaction(again).state is TransactionState.ACCEPTED


def test_messages_that_were_superseded_before_they_left_are_not_missed() -> None:
    world = World(BOTH)
    first = world.change("alpha", "add", A)
    second = world.change("alpha", "add", B)
    for recipient in (CA, BRAVO):
        world.lanes[ALPHA, recipient].popleft()  # the queue drops what a later replace makes superfluous
    world.settle()
    for transaction in (first, second):
        assert world["alpha"].transaction(transaction).state is TransactionState.ACCEPTED
    world.change("alpha", "delete", A)
    gone = world.change("alpha", "delete", B)
    for recipient in (CA, BRAVO):
        world.lanes[ALPHA, recipient].popleft()
    world.settle()
    assert world["alpha"].transaction(gone).state is TransactionState.ACCEPTED
    assert set(world.states("alpha").values()) == {"removed"}


# ------------------------------------------------------------------------------------------------------------- plans


def test_plans_say_who_is_told_and_warn() -> None:
    world = World(make_roles("alpha bravo", "bravo", auditors="audit"))
    plan = world["alpha"].plan(ZONE, "add", "@ 300 NS ns1.example.com.")
    assert (plan.record.text, plan.effective, plan.danger) == (ns("ns1.example.com.", 300), True, "mild")
    assert plan.recipients == (CA, BRAVO, agent("audit"))
    assert plan.appliers == (BRAVO,)
    assert plan.resulting == (ns("ns1.example.com.", 300),)
    assert any("our own combiner keeps" in warning for warning in plan.warnings)
    assert any("inside the zone" in warning for warning in plan.warnings)
    world.change("alpha", "add", A)
    plan = world["alpha"].plan(ZONE, "delete", A)
    assert (plan.danger, plan.resulting) == ("severe", ())
    assert any("last name server" in warning for warning in plan.warnings)
    world.change("alpha", "add", B)
    assert world["alpha"].plan(ZONE, "delete", A).danger == "moderate"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("www 300 NS ns1.alpha.example.", "not the apex"),
        ("@ 300 TXT hello", "not synchronised"),
        ("@ 604801 NS ns1.alpha.example.", "TTL"),
        ("@ 300 NS", "NS"),
        ("@ 300 NS a.\n@ 300 NS b.", "one line"),
        (key(1), "signer"),
        ("@ 60 CDS 1 13 2 " + "00" * 32, "parentsync"),
    ],
)
def test_what_is_not_allowed_says_why(record: str, reason: str) -> None:
    world = World(make_roles("alpha bravo", parentsync="owner"))
    for attempt in (world["alpha"].plan, world["alpha"].local_change):
        arguments = (ZONE, "add", record) + ((world.now,) if attempt != world["alpha"].plan else ())
        with pytest.raises(PolicyError, match=reason):
            attempt(*arguments)
    assert world.sent == []


def test_the_owner_may_keep_the_name_servers_to_himself_but_ours_can_be_withdrawn() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    world.set_roles(make_roles("alpha bravo", nsmgmt="owner"))
    with pytest.raises(PolicyError, match="nsmgmt=owner"):
        world["alpha"].plan(ZONE, "add", B)
    world.change("alpha", "delete", A)
    world.settle()
    assert world.kept("bravo", "alpha") == []


def test_zones_that_are_unknown_or_not_loaded() -> None:
    world = World(BOTH)
    with pytest.raises(NotFoundError):
        world["alpha"].plan("example.net.", "add", A)
    with pytest.raises(NotFoundError, match="do not contribute"):
        world["alpha"].plan(ZONE, "delete", A)
    world.set_roles(None, "alpha")
    with pytest.raises(NotReadyError):
        world["alpha"].plan(ZONE, "add", A)
    with pytest.raises(NotReadyError):
        world["alpha"].sync_received(BRAVO, sync(world, BRAVO, "NS", [A]), "1", world.now)
    with pytest.raises(NotFoundError):
        world["alpha"].transaction("tx-0")
    world.set_roles(make_roles("bravo charlie"), "alpha")
    with pytest.raises(PolicyError, match="not listed"):
        world["alpha"].plan(ZONE, "add", A)


def test_a_set_fits_one_message() -> None:
    world = World(BOTH)
    long = ".".join(["x" * 60] * 3)
    octets = len(ns(f"n100.{long}."))
    for n in range(100, 100 + 24_000 // octets):
        world.change("alpha", "add", ns(f"n{n}.{long}."))
    with pytest.raises(PolicyError, match="octets"):
        world.change("alpha", "add", ns(f"n999.{long}."))


# ------------------------------------------------------------------------------------------ those who do not apply it


def test_who_does_not_sign_keeps_the_record_and_it_is_accepted_all_the_same() -> None:
    world = World(make_roles("alpha bravo", "alpha"))
    from_alpha = world.change("alpha", "add", A)
    from_bravo = world.change("bravo", "add", ns("ns1.bravo.example."))
    world.settle()
    for label, transaction in (("alpha", from_alpha), ("bravo", from_bravo)):
        assert world[label].transaction(transaction).state is TransactionState.ACCEPTED
        statuses = [item.status for item in world[label].transaction(transaction).confirmations]
        assert sorted(statuses) == ["accepted", "ignored"]
    assert world.states("bravo", "alpha") == {NS_A: "ignored"}
    assert (final(world, BRAVO, ALPHA).status, final(world, BRAVO, ALPHA).ignored_records) == ("IGNORED", [A])
    gone = world.change("alpha", "delete", A)
    world.settle()
    assert world["alpha"].transaction(gone).state is TransactionState.ACCEPTED


def test_auditors_are_told_and_not_waited_for() -> None:
    world = World(make_roles("alpha bravo", auditors="audit"))
    transaction = world.change("alpha", "add", A)
    assert world.between(ALPHA, agent("audit"))
    world.settle()
    view = world["alpha"].transaction(transaction)
    assert view.state is TransactionState.ACCEPTED
    assert {item.recipient: item.status for item in view.confirmations}[agent("audit")] == "received"


def test_a_provider_that_may_apply_but_ignores_is_waited_for() -> None:
    world = World(BOTH)
    transaction = world.change("alpha", "add", A)
    x = world.between(ALPHA, BRAVO)[0][0]
    world.lanes[ALPHA, BRAVO].clear()
    ignored = Confirm(sender_id=BRAVO, zone=ZONE, distribution_id=x, status="IGNORED", ignored_records=[A])
    world.perform("alpha", world["alpha"].confirm_received(BRAVO, ignored, world.now))
    world.settle()
    view = world["alpha"].transaction(transaction)
    assert view.state is TransactionState.PENDING
    assert f"{BRAVO} keeps the record without publishing it" in (view.waiting_for or "")


def test_partial_and_rejected_answers_are_matched_by_text() -> None:
    world = World(BOTH)
    a, b, c = (world.change("alpha", "add", record) for record in (A, B, C))
    x = world.between(ALPHA, BRAVO)[-1][0]
    world.lanes[ALPHA, BRAVO].clear()
    partial = Confirm(
        sender_id=BRAVO,
        zone=ZONE,
        distribution_id=x,
        status="PARTIAL",
        applied_records=[A],
        rejected_items=[RejectedItem(record=B, reason="protected")],
        rejected_count=1,
    )
    world.perform("alpha", world["alpha"].confirm_received(BRAVO, partial, world.now))
    world.settle()
    states = [world["alpha"].transaction(item).state for item in (a, b, c)]
    assert states == [TransactionState.ACCEPTED, TransactionState.REJECTED, TransactionState.ACCEPTED]
    assert world["alpha"].transaction(b).reason == f"{BRAVO}: protected"
    retry = world.change("alpha", "add", B)
    world.settle()
    assert world["alpha"].transaction(retry).state is TransactionState.ACCEPTED


def test_a_rejection_that_cannot_be_matched_confirms_nothing_else() -> None:
    world = World(BOTH)
    transaction = world.change("alpha", "add", A)
    x = world.between(ALPHA, BRAVO)[0][0]
    world.lanes[ALPHA, BRAVO].clear()
    odd = Confirm(
        sender_id=BRAVO,
        zone=ZONE,
        distribution_id=x,
        status="PARTIAL",
        rejected_items=[RejectedItem(record="example.com. 3600 IN NS ns1.alpha.example.", reason="no")],
        rejected_count=1,
    )
    world.perform("alpha", world["alpha"].confirm_received(BRAVO, odd, world.now))
    answers = {item.recipient: item.status for item in world["alpha"].transaction(transaction).confirmations}
    assert answers[BRAVO] == "owed"


def test_a_failure_without_lists_rejects_what_was_pending_only() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    transaction = world.change("alpha", "add", B)
    x = world.between(ALPHA, BRAVO)[-1][0]
    world.lanes[ALPHA, BRAVO].clear()
    failed = Confirm(sender_id=BRAVO, zone=ZONE, distribution_id=x, status="error", message="zone not known")
    world.perform("alpha", world["alpha"].confirm_received(BRAVO, failed, world.now))
    assert world.states("alpha") == {NS_A: "accepted", "NS\tns2.alpha.example.": "rejected"}
    assert world["alpha"].transaction(transaction).reason == f"{BRAVO}: zone not known"


def test_a_refused_removal_does_not_bring_the_record_back() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    transaction = world.change("alpha", "delete", A)
    x = world.between(ALPHA, BRAVO)[-1][0]
    world.lanes[ALPHA, BRAVO].clear()
    refused = Confirm(
        sender_id=BRAVO,
        zone=ZONE,
        distribution_id=x,
        status="FAILED",
        rejected_items=[RejectedItem(record=A, reason="frozen")],
        rejected_count=1,
    )
    world.perform("alpha", world["alpha"].confirm_received(BRAVO, refused, world.now))
    world.settle()
    assert world["alpha"].transaction(transaction).state is TransactionState.REJECTED
    assert world.states("alpha") == {NS_A: "pending-removal"}
    world.change("alpha", "add", B)
    message = world.between(ALPHA, BRAVO)[-1][1]
    assert isinstance(message, Sync)
    assert message.operations[0].records == [B]
    again = world.change("alpha", "delete", A)
    world.settle()
    assert world["alpha"].transaction(again).state is TransactionState.ACCEPTED


def test_filler_in_a_confirmation_does_no_harm() -> None:
    """The deployed implementation lists everything it has of us when its combiner lists nothing as applied."""
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    world.change("alpha", "delete", A)
    x = world.between(ALPHA, BRAVO)[-1][0]
    world.lanes[ALPHA, BRAVO].clear()
    filler = Confirm(
        sender_id=BRAVO, zone=ZONE, distribution_id=x, status="SUCCESS", removed_records=[A], applied_records=[key(1)]
    )
    world.perform("alpha", world["alpha"].confirm_received(BRAVO, filler, world.now))
    world.settle()
    assert world.states("alpha") == {NS_A: "removed"}


def test_confirmations_of_others_are_ignored() -> None:
    world = World(make_roles("alpha bravo charlie"), "alpha bravo")
    world.change("alpha", "add", A)
    x = world.between(ALPHA, BRAVO)[0][0]
    before = world["alpha"].entries(ZONE)
    for sender, confirm in (
        (agent("charlie"), Confirm(sender_id=BRAVO, zone=ZONE, distribution_id=x, status="SUCCESS")),
        (BRAVO, Confirm(sender_id=BRAVO, zone="example.net.", distribution_id=x, status="SUCCESS")),
        (BRAVO, Confirm(sender_id=BRAVO, zone=ZONE, distribution_id="ffffffff", status="SUCCESS")),
        (agent("delta"), Confirm(sender_id=agent("delta"), zone=ZONE, distribution_id=x, status="SUCCESS")),
    ):
        world.perform("alpha", world["alpha"].confirm_received(sender, confirm, world.now))
    assert world["alpha"].entries(ZONE) == before


def test_pending_after_the_final_answer_changes_nothing() -> None:
    world = World(make_roles("alpha bravo charlie"), "alpha bravo")
    world.change("alpha", "add", A)
    x = world.between(ALPHA, BRAVO)[0][0]
    for status in ("SUCCESS", "PENDING"):
        confirm = Confirm(sender_id=BRAVO, zone=ZONE, distribution_id=x, status=status)
        world.perform("alpha", world["alpha"].confirm_received(BRAVO, confirm, world.now))
    (record,) = world["alpha"].entries(ZONE)
    assert {item.recipient: item.status for item in record.confirmations}[BRAVO] == "accepted"


# --------------------------------------------------------------------------------------------- data of other providers


def take(world: World, message: Sync, distribution_id: str = "0000beef", sender: str = BRAVO) -> None:
    world.perform("alpha", world["alpha"].sync_received(sender, message, distribution_id, world.now))


def test_a_repeated_sync_is_confirmed_again() -> None:
    world = World(BOTH)
    message = sync(world, BRAVO, "NS", [A])
    take(world, message)
    world.settle()
    before = len(world.between(ALPHA, CA))
    take(world, message)
    assert len(world.between(ALPHA, CA)) == before
    again = final(world)
    assert (again.distribution_id, again.status, again.applied_records) == ("0000beef", "SUCCESS", [A])
    take(world, sync(world, BRAVO, "NS", [A]), "0000cafe")  # a resynchronisation has an id of its own
    assert (final(world).distribution_id, final(world).applied_records) == ("0000cafe", [A])
    take(world, sync(world, BRAVO, "NS", []), "0000dead")
    world.settle()
    for _ in range(2):
        assert final(world).removed_records == [A]
        take(world, sync(world, BRAVO, "NS", [], at=world.now - 0.5), "0000dead")


def test_a_sync_repeated_before_the_combiner_answered_is_confirmed_once_it_has() -> None:
    world = World(BOTH)
    for distribution_id in ("00000001", "00000002"):
        take(world, sync(world, BRAVO, "NS", [A]), distribution_id)
    assert len(world.between(ALPHA, CA)) == 1
    world.settle()
    finals = [item for item in confirms(world, ALPHA, BRAVO) if item.status != "PENDING"]
    assert [(item.distribution_id, item.status, item.applied_records) for item in finals] == [
        ("00000001", "SUCCESS", [A]),
        ("00000002", "SUCCESS", [A]),
    ]


def test_an_older_message_that_comes_late_changes_nothing_and_is_confirmed() -> None:
    world = World(BOTH)
    late = sync(world, BRAVO, "NS", [A, B])
    world.now += 1
    take(world, sync(world, BRAVO, "NS", [B]), "00000002")
    world.settle()
    world.restart("alpha")
    take(world, late, "00000001")
    world.settle()
    assert world.kept("alpha", "bravo") == [B]
    last = final(world)
    assert (last.distribution_id, last.status) == ("00000001", "PARTIAL")
    assert (last.applied_records, last.ignored_records) == ([B], [A])
    take(world, sync(world, BRAVO, "NS", [A], verb="add", at=world.now - 100), "00000003")
    world.settle()
    assert world.kept("alpha", "bravo") == [B]


def test_keys_get_no_pending_and_exactly_one_confirmation() -> None:
    world = World(BOTH)
    take(world, sync(world, BRAVO, "DNSKEY", [key(1), key(2)]))
    assert world.between(ALPHA, BRAVO) == []
    world.settle()
    (only,) = confirms(world, ALPHA, BRAVO)
    assert (only.status, only.applied_records) == ("SUCCESS", [key(1), key(2)])


def test_several_operations_are_confirmed_together_when_all_are_answered() -> None:
    world = World(make_roles("alpha bravo"))
    message = sync(world, BRAVO, "NS", [A])
    cds = f"{ZONE}\t60\tIN\tCDS\t1 13 2 {'00' * 32}"
    message = message.model_copy(
        update={
            "operations": [
                *message.operations,
                Operation(operation="add", rrtype="CDS", records=[cds]),
                Operation(operation="add", rrtype="NS", records=[B]),
                Operation(operation="delete", rrtype="NS", records=[A]),
            ]
        }
    )
    take(world, message)
    world.deliver(ALPHA, CA)
    world.deliver(CA, ALPHA)
    assert [item.status for item in confirms(world, ALPHA, BRAVO)] == ["PENDING"]
    world.settle()
    assert world.kept("alpha", "bravo") == sorted([B, cds])
    last = final(world)
    assert set(last.applied_records) == {B, cds}
    assert last.ignored_records == [A]


def test_what_breaks_a_rule_is_refused_as_a_whole_with_reasons() -> None:
    world = World(make_roles("alpha bravo", "alpha", auditors="audit"))
    txt = f'{ZONE}\t60\tIN\tTXT\t"x"'
    below = f"www.{ZONE}\t60\tIN\tNS\tns1.alpha.example."
    for sender, message, bad in (
        (BRAVO, sync(world, BRAVO, "NS", [A, txt]), txt),
        (BRAVO, sync(world, BRAVO, "NS", [A, below]), below),
        (BRAVO, sync(world, BRAVO, "NS", [A, "junk"]), "junk"),
        (BRAVO, sync(world, BRAVO, "TXT", [txt]), txt),
        (BRAVO, sync(world, BRAVO, "NS", [A], verb="insert"), A),
        (BRAVO, sync(world, BRAVO, "DNSKEY", [key(1)]), key(1)),
        (BRAVO, sync(world, ALPHA, "NS", [A]), A),
        (BRAVO, sync(world, agent("audit"), "NS", [A]), A),
        (agent("audit"), sync(world, agent("audit"), "NS", [A]), A),
        (agent("nobody"), sync(world, agent("nobody"), "NS", [A]), A),
    ):
        take(world, message, sender=sender)
        last = final(world, ALPHA, sender)
        reasons = {item.record: item.reason for item in last.rejected_items}
        assert (last.status, last.distribution_id) == ("REJECTED", "0000beef")
        assert set(reasons) == set(message.operations[0].records)
        assert reasons[bad]
    assert world.states("alpha") == {}
    assert world.between(ALPHA, CA) == []


def test_a_message_without_operations_is_confirmed() -> None:
    world = World(BOTH)
    take(world, Sync(originator_id=BRAVO, your_identity=ALPHA, zone=ZONE))
    assert final(world).status == "SUCCESS"


def test_who_was_refused_for_its_role_is_asked_again_when_roles_change() -> None:
    world = World(make_roles("alpha bravo", "alpha"))
    world.set_roles(BOTH, "bravo")  # bravo knows already that it signs
    world.keys("bravo", [key(7)], (2,))
    world.settle()
    assert [tags for tags, rejected in world.propagated("bravo") if not rejected] == [(2,)]
    assert [len(tags) for tags, rejected in world.propagated("bravo") if rejected] == [1]
    world.restart("alpha")
    world.set_roles(BOTH, "alpha")
    assert [message.rfi_type for _, message in world.between(ALPHA, BRAVO) if isinstance(message, Rfi)] == ["SYNC"]
    world.settle()
    assert world.kept("alpha", "bravo") == [key(7)]
    assert set(world.states("bravo").values()) == {"accepted"}


def test_refusals_of_our_combiner_reach_the_author() -> None:
    world = World(BOTH)
    world.policies[CA] = type(world.policies[CA])(CA, (ALPHA,), ("alpha.example.",))
    transaction = world.change("bravo", "add", A)
    world.change("bravo", "add", ns("ns1.bravo.example."))
    world.settle()
    view = world["bravo"].transaction(transaction)
    assert view.state is TransactionState.REJECTED
    assert "protected" in (view.reason or "")
    last = final(world)
    assert (last.status, last.applied_records) == ("PARTIAL", [ns("ns1.bravo.example.")])
    assert [item.record for item in last.rejected_items] == [A]


# -------------------------------------------------------------------------------------------------------------- keys


def test_our_keys_go_to_the_others_only_and_the_signer_is_told_when_all_have_them() -> None:
    world = World(make_roles("alpha bravo charlie", auditors="audit"), "alpha bravo charlie")
    world.keys("alpha", [key(1), key(2, 257)], (1, 2, 99))
    assert world.between(ALPHA, CA) == []
    assert world.propagated("alpha") == [((1, 2, 99), False)]  # no keys of ours: nobody to wait for
    world.deliver(ALPHA, BRAVO)
    world.deliver(ALPHA, agent("charlie"))
    while [lane for lane in world.waiting() if agent("charlie") not in lane]:
        world.deliver(*next(lane for lane in world.waiting() if agent("charlie") not in lane))
    tags = {record.key_tag for record in world["alpha"].entries(ZONE)}
    assert [told for told in world.propagated("alpha") if set(told[0]) & tags] == []
    world.settle()
    told = [tag for tags_, rejected in world.propagated("alpha") for tag in tags_ if not rejected]
    assert tags | {1, 2, 99} == set(told)
    assert len(told) == len(set(told))
    assert set(world.states("alpha").values()) == {"accepted"}
    assert world.kept("bravo", "alpha") == sorted([key(1), key(2, 257)])
    world.nodes[ALPHA].told.clear()
    world.keys("alpha", [key(2, 257)])
    assert world.propagated("alpha") == []
    world.settle()
    assert [rejected for _, rejected in world.propagated("alpha")] == [False]
    sent = len(world.sent)
    world.keys("alpha", [key(2, 257)], (5,))
    assert len(world.sent) == sent
    assert world.propagated("alpha")[-1] == ((5,), False)


def test_keys_of_the_only_signer_are_kept_by_the_others_and_count_as_propagated() -> None:
    world = World(make_roles("alpha bravo", "alpha"))
    world.keys("alpha", [key(1)])
    world.settle()
    assert set(world.states("alpha").values()) == {"ignored"}
    assert [rejected for _, rejected in world.propagated("alpha")] == [False]


def test_a_lone_provider_has_nobody_to_wait_for() -> None:
    world = World(make_roles("alpha"), "alpha")
    world.keys("alpha", [key(1)], (3,))
    assert len(world.propagated("alpha")) == 1
    assert world.sent == []
    world.keys("alpha", [])
    assert set(world.states("alpha").values()) == {"removed"}


def test_rejected_keys_are_told_at_once() -> None:
    world = World(make_roles("alpha bravo charlie"), "alpha bravo charlie")
    world.keys("alpha", [key(1)])
    x = world.between(ALPHA, BRAVO)[0][0]
    rejected = Confirm(
        sender_id=BRAVO,
        zone=ZONE,
        distribution_id=x,
        status="REJECTED",
        rejected_items=[RejectedItem(record=key(1), reason="not today")],
    )
    actions = world["alpha"].confirm_received(BRAVO, rejected, world.now)
    (told,) = [action for action in actions if isinstance(action, KeysPropagated)]
    assert told.rejected
    assert told.reason == f"{BRAVO}: not today"


def test_keys_that_do_not_belong_are_refused() -> None:
    world = World(make_roles("alpha bravo", "bravo"))
    with pytest.raises(PolicyError, match="does not sign"):
        world["alpha"].local_dnskeys(ZONE, [key(1)], (), world.now)
    world.perform("alpha", world["alpha"].local_dnskeys(ZONE, [], (), world.now))
    with pytest.raises(PolicyError):
        world["bravo"].local_dnskeys(ZONE, [A], (), world.now)
    with pytest.raises(PolicyError):
        world["bravo"].local_dnskeys(ZONE, ["junk"], (), world.now)
    assert world.sent == []


# ----------------------------------------------------------------------------------------------------- roles change


def test_a_provider_that_joins_later_gets_everything() -> None:
    world = World(make_roles("alpha bravo"), "alpha bravo charlie")
    transaction = world.change("alpha", "add", A)
    world.keys("alpha", [key(1)])
    world.settle()
    world.restart("alpha")
    world.set_roles(make_roles("alpha bravo charlie"))
    world.settle()
    assert world.kept("charlie", "alpha") == sorted([A, key(1)])
    (record,) = [item for item in world["alpha"].entries(ZONE) if item.type == "NS"]
    assert {item.recipient: item.status for item in record.confirmations}[agent("charlie")] == "accepted"
    assert world["alpha"].transaction(transaction).state is TransactionState.ACCEPTED


def test_data_of_a_provider_that_left_are_withdrawn_and_nobody_waits_for_it() -> None:
    world = World(make_roles("alpha bravo charlie"), "alpha bravo")
    world.change("bravo", "add", ns("ns1.bravo.example."))
    world.keys("bravo", [key(3)])
    transaction = world.change("alpha", "add", A)
    world.settle()
    assert world["alpha"].transaction(transaction).state is TransactionState.PENDING  # charlie is silent
    world.set_roles(make_roles("alpha bravo"))
    assert world["alpha"].transaction(transaction).state is TransactionState.ACCEPTED
    world.set_roles(make_roles("alpha charlie"), "alpha")
    withdrawn = [message for _, message in world.between(ALPHA, CA) if isinstance(message, Update)][-2:]
    assert {(message.originator_id, message.operations[0].rrtype) for message in withdrawn} == {
        (BRAVO, "NS"),
        (BRAVO, "DNSKEY"),
    }
    assert all(not message.operations[0].records for message in withdrawn)
    world.settle()
    assert world.kept("alpha", "bravo") == []
    assert set(world.states("alpha", "bravo").values()) == {"removed"}


def test_a_provider_that_begins_to_sign_publishes_what_it_kept() -> None:
    world = World(make_roles("alpha bravo", "alpha"))
    world.keys("alpha", [key(1)])
    world.change("alpha", "add", A)
    world.settle()
    assert set(world.states("bravo", "alpha").values()) == {"ignored"}
    world.set_roles(BOTH)
    world.settle()
    assert set(world.states("bravo", "alpha").values()) == {"accepted"}
    assert set(world.states("alpha").values()) == {"accepted"}


def test_sets_are_kept_while_the_zone_is_not_shared() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.settle()
    sent = len(world.sent)
    world.set_roles(None)
    world.set_roles(BOTH)
    world.tick(60)
    assert len(world.sent) == sent
    assert world.states("alpha") == {NS_A: "accepted"}


# --------------------------------------------------------------------------------------------------- resynchronising


def test_a_request_for_our_data_gets_all_five_sets_one_in_each_message() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.keys("alpha", [key(1)])
    world.settle()
    before = len(world.between(ALPHA, BRAVO))
    world.perform("alpha", world["alpha"].rfi_sync(BRAVO, ZONE, world.now))
    messages = world.between(ALPHA, BRAVO)[before:]
    assert len({distribution_id for distribution_id, _ in messages}) == 5
    sets = {}
    for _, message in messages:
        assert isinstance(message, Sync)
        (operation,) = message.operations
        assert operation.operation == "replace"
        sets[operation.rrtype] = operation.records
    assert sets == {"DNSKEY": [key(1)], "CDS": [], "CSYNC": [], "NS": [A], "KEY": []}
    world.settle()
    assert set(world.states("alpha").values()) == {"accepted"}
    with pytest.raises(PolicyError):
        world["alpha"].rfi_sync(agent("nobody"), ZONE, world.now)


def test_a_request_for_our_data_cures_a_lost_confirmation() -> None:
    world = World(BOTH)
    transaction = world.change("alpha", "add", A)
    world.deliver(ALPHA, BRAVO)
    world.lanes[BRAVO, ALPHA].clear()
    while world.lanes.get((BRAVO, CB)) or world.lanes.get((CB, BRAVO)):
        world.deliver(*next(lane for lane in world.waiting() if lane in ((BRAVO, CB), (CB, BRAVO))))
    world.lanes[BRAVO, ALPHA].clear()
    world.perform("alpha", world["alpha"].rfi_sync(BRAVO, ZONE, world.now))
    world.settle()
    assert world["alpha"].transaction(transaction).state is TransactionState.ACCEPTED


def test_what_is_not_answered_is_sent_again() -> None:
    world = World(BOTH)
    transaction = world.change("alpha", "add", A)
    world.deliver(ALPHA, CA)
    world.lanes[CA, ALPHA].clear()  # the deployed combiner sends its confirmation once
    world.settle()
    (x, first), *_ = world.between(ALPHA, CA)
    world.tick(301)
    y, second = world.between(ALPHA, CA)[-1]
    assert x == y
    assert isinstance(first, Update)
    assert isinstance(second, Update)
    assert first.nonce != second.nonce
    world.settle()
    assert world["alpha"].transaction(transaction).state is TransactionState.ACCEPTED


def test_what_expired_in_the_queue_is_sent_again_while_it_is_the_newest() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    old, _ = world.between(ALPHA, BRAVO)[0]
    world.change("alpha", "add", B)
    new, _ = world.between(ALPHA, BRAVO)[1]
    world.lanes[ALPHA, BRAVO].clear()
    for distribution_id, kind, more in ((old, "sync", 0), (new, "confirm", 0), (new, "sync", 1)):
        before = len(world.sent)
        world.perform("alpha", world["alpha"].expired(BRAVO, distribution_id, world.now, kind))
        assert len(world.sent) == before + more
    world.settle()
    assert set(world.states("alpha").values()) == {"accepted"}


def test_hydration_adopts_what_is_unknown() -> None:
    world = World(make_roles("alpha bravo", "alpha"))
    theirs = ns("ns1.bravo.example.")
    snapshot = {
        ALPHA: {ZONE: [A, key(9)]},
        BRAVO: {ZONE: [theirs, "junk"]},
        CA: {ZONE: [f"{ZONE}\t120\tIN\tCSYNC\t1 0 NS"]},
    }
    world.perform("alpha", world["alpha"].edits_received(ZONE, snapshot, world.now))
    assert world.states("alpha") == {NS_A: "accepted", "NS\tns1.bravo.example.": "accepted"}
    world.perform("bravo", world["bravo"].edits_received(ZONE, {ALPHA: {ZONE: [A]}}, world.now))
    assert world.states("bravo") == {NS_A: "ignored"}
    assert world.sent == []
    world.change("alpha", "add", B)
    message = world.between(ALPHA, BRAVO)[-1][1]
    assert isinstance(message, Sync)
    assert message.operations[0].records == [A, B]


def test_hydration_before_the_zone_is_loaded_waits_for_the_roles() -> None:
    world = World(BOTH)
    world.set_roles(None, "alpha")
    world.perform("alpha", world["alpha"].edits_received(ZONE, {BRAVO: {ZONE: [A]}}, world.now))
    assert world.states("alpha") == {}
    world.set_roles(BOTH, "alpha")
    assert world.states("alpha") == {NS_A: "accepted"}


def test_hydration_spares_what_is_pending_and_our_keys() -> None:
    world = World(BOTH)
    world.keys("alpha", [key(1)])
    world.change("alpha", "add", A)
    world.settle()
    world.change("alpha", "add", B)
    world.change("alpha", "delete", A)
    before, sent = world["alpha"].entries(ZONE), len(world.sent)
    world.perform("alpha", world["alpha"].edits_received(ZONE, {ALPHA: {ZONE: [A]}}, world.now))
    assert world["alpha"].entries(ZONE) == before
    assert len(world.sent) == sent


def test_a_deleted_record_does_not_come_back_by_hydration() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.change("bravo", "add", B)
    world.settle()
    stale = world.combiners[CA].snapshot()
    world.change("alpha", "delete", A)
    world.change("bravo", "delete", B)
    world.settle()
    for hours in (0, 3):  # with and without the entries in sight
        for _ in range(60 * hours):
            world.tick(60)
        world.restart("alpha")
        world.perform("alpha", world["alpha"].edits_received(ZONE, stale, world.now))
        world.settle()
        assert world.kept("alpha", "alpha") == world.kept("alpha", "bravo") == []
        assert set(world.states("alpha").values()) <= {"removed"}


def test_a_combiner_that_lost_its_data_gets_them_again() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.change("bravo", "add", B)
    world.settle()
    world.combiners[CA] = type(world.combiners[CA])(ZONE)
    world.perform("alpha", world["alpha"].edits_received(ZONE, {}, world.now))
    world.settle()
    assert (world.kept("alpha", "alpha"), world.kept("alpha", "bravo")) == ([A], [B])
    assert set(world.states("alpha").values()) == {"accepted"}


def test_snapshots_with_data_of_strangers_are_cleaned_up() -> None:
    world = World(BOTH)
    message = Update(
        originator_id=agent("gone"),
        your_identity=CA,
        zone=ZONE,
        operations=[Operation(operation="replace", rrtype="NS", records=[A])],
    )
    world.roles = make_roles("alpha bravo gone")
    world.receive(ALPHA, CA, "1", message)
    world.roles = BOTH
    snapshot = world.combiners[CA].snapshot()
    assert agent("gone") in snapshot
    world.perform("alpha", world["alpha"].edits_received(ZONE, snapshot, world.now))
    world.settle()
    assert world.kept("alpha", "gone") == []


# ---------------------------------------------------------------------------------------------------------- the rest


def test_times_of_our_messages_grow_even_if_the_clock_does_not() -> None:
    world = World(BOTH)
    start = world.now
    world.change("alpha", "add", A)
    world.now -= 3600
    world.change("alpha", "add", B)
    world.restart("alpha")
    world.change("alpha", "add", C)
    times = [message.sent_at for _, message in world.between(ALPHA, BRAVO) if isinstance(message, Sync)]
    assert times == sorted(set(times))
    assert times[0] == pytest.approx(start)
    world.settle()
    assert world.kept("bravo", "alpha") == [A, B, C]


def test_what_is_finished_is_forgotten_after_a_day() -> None:
    world = World(BOTH)
    world.change("alpha", "add", A)
    world.change("alpha", "delete", A)
    world.settle()
    for _ in range(25 * 60):
        world.tick(60)
    for label in ("alpha", "bravo"):
        kinds = {kind: len(rows) for kind, rows in world.nodes[agent(label)].stored.items() if rows}
        assert set(kinds) <= {"sde-set", "sde-zone"}, kinds
    assert world["alpha"].transactions() == []


def test_damaged_state_is_an_error_and_not_a_loss() -> None:
    engine = SynchronisedData(ALPHA, CA, new_distribution_id=lambda: "1", new_nonce=lambda: "2")
    with pytest.raises(StoreError, match="sde-entry"):
        engine.restore({"sde-entry": {"x": {"zone": ZONE}}})
    engine.restore({"term": {"x": {"term": 1}}})


def test_the_engine_understands_the_recorded_messages() -> None:
    """A recorded SYNC, relayed, is confirmed in the words of the recording; nothing about it is rejected."""
    messages = json.loads((Path(__file__).parents[1] / "fixtures" / "messages.json").read_text())
    world = World(BOTH)
    taken = 0
    for item in messages:
        if (item["kind"], item["type"], item["receiver"]) != ("request", "sync", BRAVO):
            continue
        message = decode_message(item["payload"].encode())
        assert isinstance(message, Sync)
        distribution_id = item["qname"][:8]
        world.perform("bravo", world["bravo"].sync_received(ALPHA, message, distribution_id, item["time"]))
        world.settle()
        last = final(world, BRAVO, ALPHA)
        assert (last.status, last.distribution_id) == ("SUCCESS", distribution_id)
        assert last.applied_records == [text for operation in message.operations for text in operation.records]
        taken += 1
    assert taken >= 3


def test_the_table_of_states_can_be_shown() -> None:
    assert "pending-removal" in markdown(TRANSITIONS)


def test_many_zones_are_looked_after_in_slices() -> None:
    world = World(BOTH)
    engine, zones = world["alpha"], [f"z{n}.example." for n in range(120)]
    for zone in zones:
        engine.set_roles(zone, replace(BOTH, zone=zone), world.now)
        for operation in ("add", "delete"):
            _, actions = engine.local_change(zone, operation, "@ 60 NS ns1.alpha.example.", world.now)
        for send in [action for action in actions if isinstance(action, Send)]:
            done = Confirm(sender_id=send.recipient, zone=zone, distribution_id=send.distribution_id, status="SUCCESS")
            engine.confirm_received(send.recipient, done, world.now)
        assert [record.state for record in engine.entries(zone)] == ["removed"]
    now, looks = world.now + 3601, 0
    while any(engine.entries(zone) for zone in zones):
        (again,) = [action for action in engine.timer("tick", now) if isinstance(action, SetTimer)]
        assert now < again.at <= now + 60
        now, looks = again.at, looks + 1
    assert looks > 1
