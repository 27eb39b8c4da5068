"""Each rule of the election, one by one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mpcore.actions import Action, CancelTimer, SetTimer, Store
from mpcore.errors import ConflictError
from mpcore.group.actions import Broadcast, LeaderChanged, Leadership
from mpcore.group.ballot import Ballot
from mpcore.group.election import BACKOFF_MAX, EARLY, PHASE_TIMEOUT, RESEND, TERM_JUMP, Election
from mpcore.group.groups import ProviderGroup, group_hash
from mpcore.wire.messages import Rfi, decode_message

A, B, C, D = (f"agent.{name}.example." for name in ("alpha", "bravo", "charlie", "watch"))
NOW = 1_780_000_000.0
TTL = 3600.0
FIXTURES = Path(__file__).parents[1] / "fixtures"


def group_of(*members: str, voters: tuple[str, ...] = (), zones: tuple[str, ...] = ("zone.example.",)) -> ProviderGroup:
    names = tuple(sorted(members))
    return ProviderGroup(group_hash(names), names, voters or names, zones)


THREE = group_of(A, B, C)
PAIR = group_of(A, B)
WATCHED = group_of(A, B, C, D, voters=(A, B, C))


class Fixed:
    """Votes in the order given, jitter at its lower end."""

    def __init__(self, *votes: int) -> None:
        self.votes = list(votes)

    def getrandbits(self, k: int, /) -> int:
        return (self.votes.pop(0) if self.votes else 500) - 1

    def uniform(self, a: float, b: float, /) -> float:
        return a


def make(identity: str, group: ProviderGroup = THREE, *votes: int, term: int = 0, up: bool = False) -> Election:
    election = Election(identity, group, random=Fixed(*votes), term=term, leader_ttl=TTL)
    if up:
        election.operational(NOW)
    return election


def said(actions: list[Action], kind: str | None = None) -> list[tuple[Ballot, tuple[str, ...]]]:
    return [
        (action.ballot, action.recipients)
        for action in actions
        if isinstance(action, Broadcast) and kind in (None, action.ballot.kind)
    ]


def stored(actions: list[Action]) -> list[int]:
    return [action.value["term"] for action in actions if isinstance(action, Store) and action.value is not None]


def timers(actions: list[Action]) -> dict[str, float]:
    return {action.name: action.at for action in actions if isinstance(action, SetTimer)}


def changes(actions: list[Action]) -> list[Leadership | None]:
    return [action.leadership for action in actions if isinstance(action, LeaderChanged)]


def elect(election: Election, term: int, winner: str, now: float = NOW) -> list[Action]:
    """Let *winner* have the highest vote, unless it is the node itself, and everybody confirm it."""
    actions: list[Action] = []
    others = [voter for voter in election.group.voters if not election.view().votes.get(voter)]
    for voter in others:
        actions += election.received("VOTE", voter, term, 4_000_000_000 if voter == winner else 1, now)
    for voter in election.group.voters:
        actions += election.received("CONFIRM", voter, term, winner, now)
    return actions


# ------------------------------------------------------------------------------------------------------------ starting


def test_the_smallest_voter_calls_when_the_group_becomes_operational() -> None:
    actions = make(A, WATCHED, 77).operational(NOW)
    assert stored(actions) == [1]
    assert said(actions) == [(Ballot(WATCHED.hash, "CALL", 1, vote=77), (B, C, D))]
    assert timers(actions)["phase"] == NOW + PHASE_TIMEOUT
    assert isinstance(actions[next(i for i, a in enumerate(actions) if isinstance(a, Store)) + 1], SetTimer)


def test_the_term_is_stored_before_it_is_said() -> None:
    for actions in (make(A).operational(NOW), make(B).received("CALL", A, 4, 9, NOW)):
        kinds = [type(action) for action in actions]
        assert kinds.index(Store) < kinds.index(Broadcast)


def test_other_voters_wait_their_turn() -> None:
    for rank, identity in enumerate((B, C), start=1):
        election = make(identity)
        actions = election.operational(NOW)
        assert said(actions) == []
        assert timers(actions) == {"start": NOW + 20 * rank}
        assert election.view().reason == f"waiting for {A}, the smallest voter, to call the election"
        assert election.view().deadline == NOW + 20 * rank
        assert said(election.timer("start", NOW + 20 * rank), "CALL")


def test_a_repeated_edge_does_nothing() -> None:
    election = make(A, up=True)
    assert election.operational(NOW + 1) == []
    election.not_operational(NOW + 2)
    assert election.not_operational(NOW + 3) == []


def test_those_who_do_not_vote_start_nothing() -> None:
    election = make(D, WATCHED)
    assert said(election.operational(NOW)) == []
    assert election.received("CALL", A, 1, 5, NOW) == []
    assert election.view().reason == "this agent is no voter, and no member has told it of a leader yet"
    with pytest.raises(ConflictError):
        election.force(NOW)


def test_the_stored_term_is_continued() -> None:
    (ballot, _), *_ = said(make(A, term=41).operational(NOW))
    assert ballot.term == 42


# --------------------------------------------------------------------------------------------------------- the rounds


def test_an_election_of_two() -> None:
    first, second = make(A, PAIR, 5), make(B, PAIR, 9)
    ((call, _),) = said(first.operational(NOW))
    answer = second.received("CALL", A, call.term, call.value, NOW)
    assert [ballot.kind for ballot, _ in said(answer)] == ["VOTE", "CONFIRM"]
    actions: list[Action] = []
    for ballot, _ in said(answer):
        actions += first.received(ballot.kind, B, ballot.term, ballot.value, NOW + 1)
    assert changes(actions) == [Leadership(B, 1, NOW + 1 + TTL)]
    ((confirm, _),) = said(actions, "CONFIRM")
    actions = second.received("CONFIRM", A, confirm.term, confirm.value, NOW + 2)
    assert changes(actions) == [Leadership(B, 1, NOW + 2 + TTL)]
    assert second.may_lead(NOW + 2) is False, "its group is not operational yet"
    second.operational(NOW + 2)
    assert second.may_lead(NOW + 2)
    assert not second.may_lead(NOW + 2 + TTL - 10)
    assert not first.may_lead(NOW + 2)


def test_a_confirmation_that_overtakes_the_vote_is_kept_and_ends_the_round_at_once() -> None:
    election = make(A, PAIR, 5, up=True)
    assert election.received("CONFIRM", B, 1, B, NOW) == []
    assert changes(election.received("VOTE", B, 1, 9, NOW + 0.01)) == [Leadership(B, 1, NOW + 0.01 + TTL)]


def test_a_recorded_election_ends_as_recorded() -> None:
    """The messages of two Go agents, replayed to a machine in the place of one of them."""
    ballots = {}
    for message in json.loads((FIXTURES / "messages.json").read_text()):
        if message["kind"] == "request" and (message["subtype"] or "").startswith("ELECT-"):
            rfi = decode_message(message["payload"].encode())
            assert isinstance(rfi, Rfi)
            ballot = Ballot.from_rfi(rfi.rfi_type, rfi.records)
            assert ballot is not None
            ballots[rfi.originator_id, ballot.group, ballot.kind] = ballot
    call = ballots[A, PAIR.hash, "CALL"]
    vote, confirm = ballots[B, PAIR.hash, "VOTE"], ballots[B, PAIR.hash, "CONFIRM"]
    election = make(A, PAIR, call.vote or 0)
    ((ours, _),) = said(election.operational(NOW))
    assert ours == call
    ((confirmed, _),) = said(election.received("VOTE", B, vote.term, vote.value, NOW))
    assert confirmed == ballots[A, PAIR.hash, "CONFIRM"]
    assert changes(election.received("CONFIRM", B, confirm.term, confirm.value, NOW)) == [Leadership(A, 1, NOW + TTL)]


@pytest.mark.parametrize(
    ("votes", "winner"), [((5, 9, 9), B), ((0, 1, 0), B), ((7, 7, 7), A)], ids=["tie", "only one stands", "all equal"]
)
def test_the_highest_vote_wins_and_the_smallest_name_in_a_tie(votes: tuple[int, int, int], winner: str) -> None:
    election = make(A, THREE, votes[0] or 500, up=True)
    if not votes[0]:
        election = make(A, THREE, 3, up=True)
        election.received("CONFIRM", B, 1, A, NOW)
        election._abstaining = True
        election.force(NOW)
    term = election.term
    election.received("VOTE", B, term, votes[1], NOW)
    ((confirm, _),) = said(election.received("VOTE", C, term, votes[2], NOW))
    assert confirm.winner == winner


def test_if_nobody_stands_the_round_fails() -> None:
    election = make(B, PAIR, 500, up=True)
    election._abstaining = True
    election.received("CALL", A, 1, 0, NOW)
    actions = election.received("VOTE", A, 1, 0, NOW)
    assert election.view().phase == "backoff"
    assert "nobody stands" in (election.view().reason or "")
    assert "retry" in timers(actions)


def test_first_vote_and_first_confirmation_count() -> None:
    election = make(A, THREE, 5, up=True)
    election.received("VOTE", B, 1, 9, NOW)
    election.received("VOTE", B, 1, 1, NOW)
    election.received("CONFIRM", B, 1, B, NOW)
    election.received("CONFIRM", B, 1, C, NOW)
    election.received("VOTE", C, 1, 7, NOW)
    assert election.view().votes == {A: 5, B: 9, C: 7}
    assert election.view().confirms == {A: B, B: B}


def test_different_winners_end_the_round_without_a_leader() -> None:
    election = make(A, THREE, 5, up=True)
    for voter, vote in ((B, 9), (C, 7)):
        election.received("VOTE", voter, 1, vote, NOW)
    election.received("CONFIRM", B, 1, B, NOW)
    assert changes(election.received("CONFIRM", C, 1, C, NOW)) == []
    assert "the winners differ" in (election.view().reason or "")


@pytest.mark.parametrize("sender", [D, "agent.other.example.", A])
def test_messages_of_others_than_voters_are_dropped(sender: str) -> None:
    election = make(A, WATCHED, 5, up=True)
    for kind, value in (("CALL", 9), ("VOTE", 9), ("CONFIRM", B)):
        for term in (1, 7):
            assert election.received(kind, sender, term, value, NOW) == []  # type: ignore[arg-type]
    assert election.term == 1
    assert election.view().votes == {A: 5}


def test_a_winner_who_does_not_vote_is_dropped() -> None:
    election = make(A, WATCHED, 5, up=True)
    election.received("CONFIRM", B, 1, D, NOW)
    assert election.view().confirms == {}


# ------------------------------------------------------------------------------------------- early, repeated, lost


def test_votes_that_overtake_their_call_are_kept() -> None:
    election = make(C, THREE, 3, up=True)
    election.received("VOTE", B, 1, 9, NOW)
    election.received("CONFIRM", B, 1, B, NOW)
    actions = election.received("CALL", A, 1, 5, NOW + 5)
    assert [ballot.kind for ballot, _ in said(actions)] == ["VOTE", "CONFIRM"]
    assert election.view().confirms == {B: B, C: B}


def test_they_are_not_kept_for_ever() -> None:
    election = make(C, THREE, 3, up=True)
    election.received("VOTE", B, 1, 9, NOW)
    actions = election.received("CALL", A, 1, 5, NOW + EARLY + 1)
    assert [ballot.kind for ballot, _ in said(actions)] == ["VOTE"]


def test_memory_for_early_messages_is_bounded() -> None:
    election = make(C, THREE, 3, up=True)
    for term in range(1, 500):
        election.received("VOTE", B, term, 9, NOW)
    assert sum(len(kept) for kept in election._early.values()) <= 8


def test_a_term_whose_call_never_comes_is_surpassed() -> None:
    """A round that was started by one who may not vote reaches us as votes only."""
    election = make(C, THREE, 3, up=True)
    at = timers(election.received("VOTE", B, 6, 9, NOW))["escalate"]
    assert 1 <= at - NOW <= 2
    ((call, _),) = said(election.timer("escalate", at))
    assert (call.kind, call.term) == ("CALL", 7)


def test_the_call_may_still_come() -> None:
    election = make(C, THREE, 3, up=True)
    election.received("VOTE", B, 6, 9, NOW)
    actions = election.received("CALL", A, 6, 5, NOW + 0.5)
    assert CancelTimer("escalate") in actions
    assert election.timer("escalate", NOW + 2) == []


def test_what_others_may_lack_is_sent_again() -> None:
    election = make(A, THREE, 5, up=True)
    election.received("VOTE", B, 1, 9, NOW)
    actions = election.timer("resend", NOW + RESEND[0])
    assert said(actions) == [
        (Ballot(THREE.hash, "CALL", 1, vote=5), (C,)),
        (Ballot(THREE.hash, "VOTE", 1, vote=5), (B,)),
    ]
    assert timers(actions) == {"resend": NOW + RESEND[1]}
    election.received("CONFIRM", B, 1, B, NOW + 0.5)
    election.received("VOTE", C, 1, 2, NOW + 0.5)
    actions = election.timer("resend", NOW + 0.5 + RESEND[0])
    assert said(actions) == [
        (Ballot(THREE.hash, "VOTE", 1, vote=5), (C,)),
        (Ballot(THREE.hash, "CONFIRM", 1, winner=B), (B, C)),
    ]


def test_confirmations_are_repeated_after_the_end_but_not_for_ever() -> None:
    election = make(A, PAIR, 5, up=True)
    elect(election, 1, A)
    times = []
    at = NOW + RESEND[0]
    while True:
        actions = election.timer("resend", at)
        times.append(at)
        assert [ballot.kind for ballot, _ in said(actions)] == ["CONFIRM"]
        if "resend" not in timers(actions):
            break
        at = timers(actions)["resend"]
    assert times == [NOW + delay for delay in RESEND]
    assert election.timer("resend", at + 10) == []


def test_a_repeated_call_is_answered_with_our_vote_to_the_caller_only() -> None:
    election = make(C, THREE, 3, up=True)
    election.received("CALL", A, 1, 5, NOW)
    actions = election.received("CALL", A, 1, 5, NOW + 0.3)
    assert said(actions) == [(Ballot(THREE.hash, "VOTE", 1, vote=3), (A,))]


def test_a_call_that_arrives_again_after_the_end_is_ignored() -> None:
    election = make(B, PAIR, 3, up=True)
    election.received("CALL", A, 1, 5, NOW)
    election.received("CONFIRM", A, 1, A, NOW)
    assert election.leadership == Leadership(A, 1, NOW + TTL)
    assert election.received("CALL", A, 1, 5, NOW + 3) == []
    election.received("CALL", A, 2, 8, NOW + 5)
    election.received("CONFIRM", A, 2, A, NOW + 5)
    assert election.received("CALL", A, 1, 5, NOW + 6) == []
    assert election.term == 2


# --------------------------------------------------------------------------------------------- two rounds at a time


def test_two_calls_of_one_term_merge() -> None:
    one, two, three = make(A, THREE, 5, up=True), make(B, THREE, 9), make(C, THREE, 7)
    two.force(NOW)
    three.received("CALL", A, 1, 5, NOW)
    actions = one.received("CALL", B, 1, 9, NOW)
    assert said(actions) == [(Ballot(THREE.hash, "VOTE", 1, vote=5), (B, C))]
    assert one.view().votes == {A: 5, B: 9}
    two.received("CALL", A, 1, 5, NOW)
    assert two.view().votes == {A: 5, B: 9}
    actions = three.received("CALL", B, 1, 9, NOW)
    assert [ballot.kind for ballot, _ in said(actions)] == ["VOTE", "CONFIRM"]
    assert {election.term for election in (one, two, three)} == {1}


def test_a_higher_call_ends_our_round() -> None:
    election = make(A, THREE, 5, 6, up=True)
    actions = election.received("CALL", C, 3, 9, NOW + 1)
    assert stored(actions) == [3]
    assert election.view().votes == {A: 6, C: 9}


def test_a_lower_call_during_a_round_is_answered_with_ours() -> None:
    election = make(A, THREE, 5, term=39, up=True)
    actions = election.received("CALL", B, 1, 9, NOW)
    assert said(actions) == [(Ballot(THREE.hash, "CALL", 40, vote=5), (B,))]


def test_a_lower_call_is_answered_with_a_higher_one() -> None:
    """The caller has lost its term in a restart; nobody follows it back."""
    election = make(B, THREE, 5, term=40, up=True)
    actions = election.received("CALL", A, 1, 9, NOW)
    assert stored(actions) == [41]
    assert said(actions) == [(Ballot(THREE.hash, "CALL", 41, vote=5), (A, C))]


def test_no_second_vote_in_a_term_that_was_stored() -> None:
    election = make(B, THREE, 5, term=4)
    ((ballot, _),) = said(election.received("CALL", A, 4, 9, NOW))
    assert (ballot.kind, ballot.term) == ("CALL", 5)


@pytest.mark.parametrize(("kind", "value"), [("CALL", 9), ("VOTE", 9), ("CONFIRM", B)])
def test_one_voter_cannot_push_the_term_far(kind: str, value: int | str) -> None:
    election = make(A, THREE, term=5)
    far = 5 + TERM_JUMP + 1
    assert election.received(kind, B, far, value, NOW) == []  # type: ignore[arg-type]
    assert election.adopt(Leadership(B, far, NOW + 60), B, NOW) == []
    assert election.term == 5
    assert election.adopt(Leadership(B, far, NOW + 60), C, NOW) != []
    assert election.term == far
    assert election.received("CALL", B, 2**32, 9, NOW) == []


# ------------------------------------------------------------------------------------------------ failure and retry


def test_failed_rounds_are_repeated_ever_more_slowly() -> None:
    election = make(A, THREE, up=True)
    now, delays = NOW, []
    for _ in range(12):
        now = election._current().deadline
        actions = election.timer("phase", now)
        assert "no vote of agent.bravo.example., agent.charlie.example. within 5 s" in (election.view().reason or "")
        at = timers(actions)["retry"]
        assert election.view().deadline == at
        delays.append(at - now)
        assert said(election.timer("retry", at), "CALL")
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(delays) == BACKOFF_MAX
    assert election.term == 13


def test_a_timer_that_comes_early_is_set_again() -> None:
    election = make(A, THREE, up=True)
    assert timers(election.timer("phase", NOW + 1)) == {"phase": NOW + PHASE_TIMEOUT}
    assert timers(election.timer("resend", NOW + 0.1)) == {"resend": NOW + RESEND[0]}
    election.timer("phase", NOW + 5)
    assert timers(election.timer("retry", NOW + 5.1)) == {"retry": NOW + 5.5}
    assert election.timer("what", NOW) == []


def test_no_retry_while_the_group_is_not_operational() -> None:
    election = make(A, THREE, up=True)
    election.not_operational(NOW + 1)
    assert election.view().phase == "voting", "a running round goes on"
    actions = election.timer("phase", NOW + 5)
    assert "retry" not in timers(actions)
    assert election.view().phase == "idle"
    assert "no election before every member hears every other" in (election.view().reason or "")


def test_the_falling_edge_stops_retries() -> None:
    election = make(A, THREE, up=True)
    election.timer("phase", NOW + 5)
    assert CancelTimer("retry") in election.not_operational(NOW + 5.1)
    assert election.timer("retry", NOW + 60) == []


def test_joining_a_round_cancels_our_own_plans() -> None:
    election = make(A, THREE, up=True)
    election.timer("phase", NOW + 5)
    assert CancelTimer("retry") in election.received("CALL", B, 2, 9, NOW + 5.2)
    assert election.timer("retry", NOW + 60) == []
    waiting = make(B, THREE, up=True)
    assert CancelTimer("start") in waiting.received("CALL", A, 1, 9, NOW + 1)
    assert waiting.timer("start", NOW + 20) == []


# --------------------------------------------------------------------------------------------------- life of a leader


def test_the_falling_edge_drops_the_leader_and_the_rising_edge_elects_anew() -> None:
    election = make(A, PAIR, 5, up=True)
    elect(election, 1, A)
    assert changes(election.not_operational(NOW + 10)) == [None]
    assert election.view().reason == (
        "the group stopped being operational; no election before every member hears every other"
    )
    assert election.announced() is None
    ((call, _),) = said(election.operational(NOW + 20))
    assert call.term == 2


def test_reelection_is_ranked_and_keeps_the_old_leader_meanwhile() -> None:
    for identity, delay in ((A, 0), (B, 20), (C, 40)):
        election = make(identity, THREE, 5)
        election.received("CALL", A if identity != A else B, 1, 9, NOW)
        elect(election, 1, A if identity != A else B)
        leader = election.leadership
        assert leader is not None
        actions = election.operational(NOW)
        at = timers(actions)["reelect"]
        assert at == pytest.approx(NOW + 0.9 * TTL + delay)
        assert said(election.timer("reelect", at), "CALL")
        assert election.leadership == leader


def test_a_call_cancels_our_reelection() -> None:
    election = make(B, PAIR, 5, up=True)
    election.received("CALL", A, 1, 9, NOW)
    elect(election, 1, A)
    assert CancelTimer("reelect") in election.received("CALL", A, 2, 9, NOW + 3240)
    assert election.timer("reelect", NOW + 3260) == []


def test_an_expired_leader_is_none() -> None:
    election = make(B, PAIR, 5)
    election.received("CALL", A, 1, 9, NOW)
    elect(election, 1, A)
    assert timers(election.timer("expire", NOW + 1)) == {"expire": NOW + TTL}
    assert changes(election.timer("expire", NOW + TTL)) == [None]
    assert "the leadership of agent.alpha.example. has expired" in (election.view().reason or "")
    assert election.timer("expire", NOW + TTL) == []


def test_the_only_voter_leads_without_an_election_and_without_gossip() -> None:
    group = group_of(A, B, D, voters=(B,))
    for identity in group.members:
        election = make(identity, group)
        actions = election.operational(NOW)
        assert changes(actions) == [Leadership(B, 0, NOW + TTL)]
        assert stored(actions) == []
        assert said(actions) == []
        assert election.announced() is None
        assert election.may_lead(NOW) == (identity == B)
        assert changes(election.timer("reelect", NOW + 0.9 * TTL)) == [Leadership(B, 0, NOW + 1.9 * TTL)]
        assert election.adopt(Leadership(B, 9, NOW + 60), A if identity != A else B, NOW) == []
        assert election.term == 0


def test_stepping_down_votes_zero_until_another_leads() -> None:
    election = make(A, THREE, 5, up=True)
    elect(election, 1, A)
    actions = election.step_down(NOW + 10)
    assert changes(actions) == [None]
    assert said(actions) == [
        (Ballot(THREE.hash, "CALL", 2, vote=0), (B, C)),
        (Ballot(THREE.hash, "VOTE", 2, vote=0), (B, C)),
    ]
    assert not election.may_lead(NOW + 10)
    assert [ballot.kind for ballot, _ in said(election.timer("resend", NOW + 10.3))] == ["CALL", "VOTE"]
    election.timer("phase", NOW + 15)
    actions = election.timer("retry", NOW + 16)
    assert said(actions, "CALL")[0][0].vote == 0
    elect(election, 3, B, NOW + 17)
    assert election.leadership == Leadership(B, 3, NOW + 17 + TTL)
    assert said(election.force(NOW + 20), "CALL")[0][0].vote != 0


def test_only_a_leader_can_step_down() -> None:
    with pytest.raises(ConflictError, match="not the leader"):
        make(A, THREE, up=True).step_down(NOW)
    alone = group_of(A, B, voters=(A,))
    with pytest.raises(ConflictError, match="only voter"):
        make(A, alone, up=True).step_down(NOW)


def test_force_opens_a_round_whatever_the_phase() -> None:
    election = make(B, THREE)
    for term in (1, 2, 3):
        assert said(election.force(NOW))[0][0] == Ballot(THREE.hash, "CALL", term, vote=500)
    assert changes(make(A, group_of(A, B, voters=(A,))).force(NOW)) == [Leadership(A, 0, NOW + TTL)]


# ------------------------------------------------------------------------------------------------------------- gossip


def test_a_higher_leadership_is_adopted_and_capped_at_our_ttl() -> None:
    election = make(B, THREE)
    actions = election.adopt(Leadership(C, 7, NOW + 10 * TTL), A, NOW)
    assert stored(actions) == [7]
    assert changes(actions) == [Leadership(C, 7, NOW + TTL)]
    assert timers(actions)["reelect"] == pytest.approx(NOW + 0.9 * TTL + 20)
    assert election.announced() == Leadership(C, 7, NOW + TTL)


def test_those_who_do_not_vote_adopt_but_set_no_reelection() -> None:
    election = make(D, WATCHED, up=True)
    actions = election.adopt(Leadership(C, 7, NOW + 60), A, NOW)
    assert changes(actions) == [Leadership(C, 7, NOW + 60)]
    assert timers(actions) == {"expire": NOW + 60}


@pytest.mark.parametrize(
    ("told", "sender"),
    [
        (Leadership(D, 7, NOW + 60), A),
        (Leadership(C, 0, NOW + 60), A),
        (Leadership(C, 7, NOW + 60), "agent.other.example."),
        (Leadership(C, 7, NOW + 60), B),
    ],
    ids=["not a voter", "no term", "stranger", "ourselves"],
)
def test_leaderships_that_cannot_be(told: Leadership, sender: str) -> None:
    election = make(B, WATCHED)
    assert election.adopt(told, sender, NOW) == []
    assert election.leadership is None


def test_an_expired_leadership_teaches_the_term_only() -> None:
    election = make(A, THREE)
    assert stored(election.adopt(Leadership(C, 7, NOW - 1), B, NOW)) == [7]
    assert election.leadership is None
    assert said(election.operational(NOW))[0][0].term == 8


def test_the_first_leader_of_a_term_stays() -> None:
    election = make(A, PAIR, 5, up=True)
    elect(election, 1, A)
    assert election.adopt(Leadership(B, 1, NOW + 2 * TTL), B, NOW) == []
    assert election.leadership == Leadership(A, 1, NOW + TTL)


def test_an_adopted_leader_yields_to_a_later_one_of_its_term() -> None:
    """(4, old leader) may be a half-finished round of a deployed node; the finished one expires later."""
    election = make(A, THREE)
    election.adopt(Leadership(B, 4, NOW + 60), B, NOW)
    assert changes(election.adopt(Leadership(C, 4, NOW + 3000), C, NOW)) == [Leadership(C, 4, NOW + 3000)]
    assert election.adopt(Leadership(B, 4, NOW + 60), B, NOW) == []


def test_an_old_leader_under_a_new_term_is_not_believed() -> None:
    election = make(A, PAIR, 5, up=True)
    elect(election, 1, B)
    told = NOW + TTL + 2
    election.adopt(Leadership(B, 1, told), B, NOW + 5)
    assert stored(election.adopt(Leadership(B, 2, told), B, NOW + 3300)) == [2]
    assert election.leadership == Leadership(B, 1, NOW + TTL)
    assert election.adopt(Leadership(B, 2, told), B, NOW + 3301) == []
    assert election.leadership == Leadership(B, 1, NOW + TTL)
    actions = election.received("CALL", B, 2, 9, NOW + 3302)
    assert said(actions, "VOTE"), "its round can still be joined"


def test_the_same_leader_elected_anew_is_believed() -> None:
    election = make(C, THREE)
    election.adopt(Leadership(B, 1, NOW + 3000), B, NOW)
    assert changes(election.adopt(Leadership(B, 2, NOW + 3005), B, NOW + 5)) == [Leadership(B, 2, NOW + 3005)]


def test_after_a_failed_round_the_result_of_the_others_is_taken() -> None:
    election = make(A, THREE, 5, up=True)
    election.received("VOTE", B, 1, 9, NOW)
    election.received("VOTE", C, 1, 7, NOW)
    election.received("CONFIRM", B, 1, B, NOW)
    election.timer("phase", NOW + 5)
    assert election.view().phase == "backoff"
    assert election.adopt(Leadership(C, 1, NOW + TTL), C, NOW + 6) == [], "we have confirmed another"
    actions = election.adopt(Leadership(B, 1, NOW + TTL), B, NOW + 6)
    assert changes(actions) == [Leadership(B, 1, NOW + TTL)]
    assert CancelTimer("retry") in actions
    assert election.view().phase == "idle"


def test_no_result_of_a_round_that_we_have_not_confirmed() -> None:
    election = make(A, THREE, 5, up=True)
    assert election.adopt(Leadership(B, 1, NOW + TTL), B, NOW) == []
    election.timer("phase", NOW + 5)
    assert election.adopt(Leadership(B, 1, NOW + TTL), B, NOW + 6) == []


def test_a_leader_dropped_by_a_falling_edge_is_taken_back_from_those_who_kept_it() -> None:
    election = make(B, THREE, 5, up=True)
    election.received("CALL", A, 1, 9, NOW)
    elect(election, 1, A)
    election.not_operational(NOW + 1)
    told = Leadership(A, 1, NOW + TTL)
    assert election.adopt(told, C, NOW + 2) == [], "not while the group is not operational"
    election.operational(NOW + 3)
    assert changes(election.adopt(told, C, NOW + 4)) == [told]
    assert election.timer("start", NOW + 23) == []


def test_a_voter_that_stays_leaderless_gets_a_new_election() -> None:
    election = make(A, THREE, 5, up=True)
    elect(election, 1, B)
    nothing = Leadership("", 1, 0.0)
    for at in (10, 25, 40, 55, 69):
        assert election.adopt(nothing, C, NOW + at) == []
    assert said(election.adopt(nothing, C, NOW + 71), "CALL")


def test_neither_a_member_that_votes_not_nor_a_short_moment_does_that() -> None:
    election = make(A, WATCHED, 5, up=True)
    elect(election, 1, B)
    nothing = Leadership("", 1, 0.0)
    for at in range(0, 1000, 15):
        assert election.adopt(nothing, D, NOW + at) == []
    election.adopt(nothing, C, NOW)
    election.adopt(Leadership(B, 1, NOW + TTL), C, NOW + 50)
    assert election.adopt(nothing, C, NOW + 70) == []


def test_healing_slows_down_if_it_does_not_help() -> None:
    election = make(A, THREE, 5, up=True)
    elect(election, 1, B)
    rounds = 0
    for second in range(0, 3000, 15):
        now = NOW + second
        if said(election.adopt(Leadership("", election.term, 0.0), C, now), "CALL"):
            rounds += 1
            elect(election, election.term, B, now)
    assert rounds <= 6


# -------------------------------------------------------------------------------------------------- changes of the zone


def test_other_zones_change_nothing() -> None:
    election = make(A, THREE, up=True)
    assert election.group_changed(group_of(A, B, C, zones=("a.example.", "b.example.")), NOW) == []
    assert election.view().phase == "voting"
    with pytest.raises(ValueError, match="is not"):
        election.group_changed(PAIR, NOW)


def test_other_voters_begin_again() -> None:
    election = make(A, THREE, up=True)
    actions = election.group_changed(group_of(A, B, C, voters=(A, B)), NOW)
    assert said(actions, "CALL")[0][0].term == 2
    actions = election.group_changed(group_of(A, B, C, voters=(B, C)), NOW)
    assert said(actions) == []
    assert election.view().phase == "idle"
    assert election.received("CALL", B, 9, 9, NOW) == []


def test_a_leader_that_may_not_vote_any_more_is_dropped() -> None:
    election = make(A, THREE, 5, up=True)
    elect(election, 1, C)
    actions = election.group_changed(group_of(A, B, C, voters=(A, B)), NOW)
    assert None in changes(actions)
    assert said(actions, "CALL")
    kept = make(A, THREE, 5, up=True)
    elect(kept, 1, B)
    actions = kept.group_changed(group_of(A, B, C, voters=(A, B)), NOW)
    assert changes(actions) == []
    assert said(actions) == []
    assert "reelect" in timers(actions)


def test_from_one_voter_to_two_needs_an_election() -> None:
    election = make(A, group_of(A, B, voters=(A,)), up=True)
    actions = election.group_changed(PAIR, NOW)
    assert changes(actions) == [None]
    assert said(actions, "CALL")[0][0].term == 1


def test_the_view_says_what_is_missing() -> None:
    election = make(A, THREE, 5)
    assert election.view().reason == (
        "the group is not operational yet: no election before every member hears every other"
    )
    election.operational(NOW)
    assert election.view().reason == f"election of term 1 under way: waiting for the vote of {B}, {C}"
    election.received("VOTE", B, 1, 9, NOW)
    election.received("VOTE", C, 1, 7, NOW)
    view = election.view()
    assert view.reason == f"election of term 1 under way: waiting for the confirmation of {B}, {C}"
    assert (view.phase, view.term, view.deadline) == ("confirming", 1, NOW + PHASE_TIMEOUT)
    assert view.votes == {A: 5, B: 9, C: 7}
    elect(election, 1, B)
    view = election.view()
    assert (view.leader, view.leader_expires, view.reason) == (B, NOW + TTL, None)


def test_random_votes_are_never_zero_and_fit_32_bits() -> None:
    for seed in range(200):
        election = Election(A, THREE, random=random.Random(seed))
        election.operational(NOW)
        assert 1 <= election.view().votes[A] <= 0xFFFFFFFF
