"""Leader election of one provider group.

Theory
------
All voters of a group agree on one leader, unanimously, in three steps (guide, wire format, "Elections"):

1. CALL: one voter opens a round under a new *term* and says its vote, a random number.
2. VOTE: every other voter joins the round and tells everybody its own vote.
3. CONFIRM: a node that has all votes tells everybody the winner: the highest vote, in a tie the smallest identity.
   A vote of 0 can never win.  A node that has the same winner confirmed by all voters has a leader, for
   ``leader_ttl`` seconds.

Without losses a first election takes three one-way delays.  The messages are those of the deployed implementation,
which forgets its term in a restart, drops a VOTE that overtakes its CALL, retries without back-off and gossips
half-finished rounds.  The rules here keep the wire and close the gaps:

* The term is stored before it is used, and a node votes at most once in a term: never in one that it has stored.
* A CALL of a lower term is answered with a CALL of a higher one; a CALL of the term that we are voting in merges
  with ours.
* VOTE and CONFIRM that arrive before their CALL are kept for :data:`EARLY` seconds.
* VOTE, CONFIRM, and CALL to voters that have not answered are sent again at :data:`RESEND` seconds.
* The first vote and the first confirmation of a voter count; messages of others than voters are dropped.
* The smallest voter opens rounds; the others step in one after the other, :data:`RANK_STEP` seconds apart, and any
  message of a round calls them off.  Failed rounds are repeated after a delay that doubles up to
  :data:`BACKOFF_MAX` seconds, and only while the group is operational.
* Gossip tells the last *finalised* leadership.  It is adopted when its term is higher than ours, or when our own
  round of that term did not come to an end and does not contradict it.
* A group with one voter needs no election: that voter leads, and nobody gossips it.

The table :data:`TRANSITIONS` lists the moves between the four phases.

How a node drives this ---------------------- One :class:`Election` per group, created with the stored term, as soon
as the group is computed.  On gossip (in beats and in their answers), in this order: merge it into the table, pass
every leadership that the merge reports to :meth:`Election.adopt`, then look whether the matrix is complete and call
:meth:`Election.operational` or :meth:`Election.not_operational` (repeating one of them does nothing).  Election
messages go to :meth:`Election.received` at once, from a path that no data processing can block.  ``Store`` of kind
``term`` is committed before the actions behind it are performed.  What goes into gossip is
:meth:`Election.announced`.  :meth:`Election.may_lead` is asked immediately before each act of a leader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from mpcore.actions import Action, CancelTimer, RandomSource, SetTimer, Store
from mpcore.errors import ConflictError
from mpcore.group.actions import Broadcast, LeaderChanged, Leadership
from mpcore.group.ballot import MAX_TERM, Ballot, Kind
from mpcore.group.groups import ProviderGroup
from mpcore.machine import ANY, Transition, allowed

__all__ = (
    "BACKOFF_MAX",
    "EARLY",
    "PHASE_TIMEOUT",
    "RANK_STEP",
    "RESEND",
    "TERM_JUMP",
    "TRANSITIONS",
    "Election",
    "ElectionView",
    "Phase",
)

Phase = Literal["idle", "voting", "confirming", "backoff"]

PHASE_TIMEOUT: Final = 5.0
"""Seconds that a node waits for all votes, and then for all confirmations."""

EARLY: Final = 10.0
"""Seconds that a VOTE or CONFIRM of a term not yet called is kept."""

RESEND: Final = (0.3, 1.0, 2.0, 3.5)
"""Seconds after the first VOTE, and after the first CONFIRM, when it is sent again to those who may lack it."""

RANK_STEP: Final = 20.0
"""Seconds between the moments at which one voter after the other steps in; less if ``leader_ttl`` is short."""

BACKOFF_MAX: Final = 60.0
"""Longest delay before a failed round is repeated, seconds."""

TERM_JUMP: Final = 1000
"""A term that is further ahead of ours needs two witnesses, unless we have none to compare with."""

_REELECT: Final = 0.9
_CLOSE_EXPIRY: Final = 10.0
_REMEMBERED_ROUNDS: Final = 8
_MAX_EARLY_PER_VOTER: Final = 4

TRANSITIONS: Final = (
    Transition("idle", "called", "", "voting", "store the term; send CALL with our vote"),
    Transition("idle", "joined", "CALL of a voter, term above ours", "voting", "store the term; send VOTE"),
    Transition("voting", "joined", "CALL of a voter, term above ours", "voting", "leave our round; store; send VOTE"),
    Transition("confirming", "joined", "CALL of a voter, term above ours", "voting", "leave our round; store; VOTE"),
    Transition("backoff", "joined", "CALL of a voter, term above ours", "voting", "no retry; store; send VOTE"),
    Transition("backoff", "called", "retry timer, group operational", "voting", "store the term; send CALL"),
    Transition("voting", "called", "order of the operator", "voting", "leave our round; store; send CALL"),
    Transition("confirming", "called", "order of the operator", "voting", "leave our round; store; send CALL"),
    Transition("voting", "merged", "CALL of a voter, our term", "voting", "take its vote; send VOTE"),
    Transition("voting", "all votes", "", "confirming", "send CONFIRM with the winner"),
    Transition("voting", "all votes", "nobody can win", "backoff", "set the retry timer"),
    Transition("voting", "timeout", "votes are missing, group operational", "backoff", "set the retry timer"),
    Transition("voting", "timeout", "votes are missing, group not operational", "idle", ""),
    Transition("confirming", "all confirmations", "all name one winner", "idle", "leader for leader_ttl seconds"),
    Transition("confirming", "all confirmations", "winners differ, group operational", "backoff", "set retry timer"),
    Transition("voting", "all votes", "nobody can win, group not operational", "idle", ""),
    Transition("confirming", "timeout", "confirmations missing, group operational", "backoff", "set the retry timer"),
    Transition("confirming", "timeout", "confirmations missing, group not operational", "idle", ""),
    Transition("confirming", "all confirmations", "winners differ, group not operational", "idle", ""),
    Transition("backoff", "falling edge", "", "idle", "no retry before the group is operational again"),
    Transition(ANY, "adopted", "gossip of a finalised leadership", "idle", "cancel retry and round"),
    Transition(ANY, "voters changed", "", "idle", "leave the round; start again if operational"),
    Transition("idle", "sole voter", "the group has one voter", "idle", "that voter leads; the term stays"),
)
"""Moves between the phases ``idle``, ``voting``, ``confirming`` and ``backoff``."""

_ALLOWED: Final = allowed(TRANSITIONS)


@dataclass(frozen=True, slots=True)
class ElectionView:
    """What an operator sees of an election; the members are those of the control API."""

    phase: Phase
    term: int
    leader: str | None
    leader_expires: float | None
    votes: dict[str, int]
    confirms: dict[str, str]
    deadline: float | None
    reason: str | None


@dataclass(slots=True)
class _Round:
    """Our part in one round; kept for a while after its end, to tell repetitions from news."""

    term: int
    vote: int
    called: bool  #: we have sent CALL to all
    spread: bool  #: we have sent VOTE to all
    votes: dict[str, int]
    confirms: dict[str, str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)  #: caller -> vote in its CALL
    deadline: float = 0.0
    sent_at: float = 0.0
    resends: int = 0
    winner: str | None = None  #: what we confirmed


class Election:
    """The election of one group, seen by one node, voter or not.

    :param identity: ours.
    :param group: the group.
    :param term: the stored term, 0 if there is none.
    :param leader_ttl: seconds that a leadership lasts, at least 1.
    :param beat_interval: seconds between the beats of members whose interval is unknown.
    :param random: source of votes and jitter.
    """

    def __init__(
        self,
        identity: str,
        group: ProviderGroup,
        *,
        random: RandomSource,
        term: int = 0,
        leader_ttl: float = 3600.0,
        beat_interval: float = 30.0,
    ) -> None:
        self._identity, self._group, self._random = identity, group, random
        self._ttl, self._interval = leader_ttl, beat_interval
        self._voted = term  # no vote in this term or below
        self._seen = term  # highest term known to be in use; at least _voted
        self._phase: Phase = "idle"
        self._round: _Round | None = None
        self._past: dict[int, _Round] = {}
        self._operational = False
        self._leadership: Leadership | None = None
        self._own = False  # we took part in finalising _leadership
        self._finalised: dict[int, str] = {}  # term -> leader, of rounds that we finalised
        self._known: dict[str, Leadership] = {}  # leader -> the last leadership that we took
        self._early: dict[str, dict[tuple[Kind, int], tuple[int | str, float]]] = {}
        self._told: dict[str, Leadership] = {}  # member -> what it gossips, under the term that it first had
        self._leaderless: dict[str, float] = {}  # voter -> since when it says that it knows no leader
        self._healed = 0
        self._jumps: dict[str, int] = {}
        self._failures = 0
        self._retry_at: float | None = None
        self._start_at: float | None = None
        self._abstaining = False
        self._why = ""

    # ------------------------------------------------------------------------------------------------------ queries

    @property
    def group(self) -> ProviderGroup:
        """The group as last given."""
        return self._group

    @property
    def term(self) -> int:
        """The highest term known; it never goes back."""
        return self._seen

    @property
    def leadership(self) -> Leadership | None:
        """The valid leadership, whoever leads; expired ones are removed by the timer ``expire``."""
        return self._leadership

    def announced(self) -> Leadership | None:
        """The leadership to put into gossip: the last finalised one, never that of an only voter."""
        return self._leadership if len(self._group.voters) > 1 else None

    def may_lead(self, now: float, margin: float = 30.0) -> bool:
        """Whether we are the leader, the group is operational, and the leadership lasts *margin* more seconds."""
        held = self._leadership
        return held is not None and held.leader == self._identity and self._operational and held.expires > now + margin

    def view(self) -> ElectionView:
        """What an operator sees; ``reason`` says in a sentence why there is no leader."""
        current = self._round if self._phase in ("voting", "confirming") else None
        held = self._leadership
        deadline = current.deadline if current else self._retry_at if self._phase == "backoff" else self._start_at
        return ElectionView(
            phase=self._phase,
            term=self._seen,
            leader=held.leader if held else None,
            leader_expires=held.expires if held else None,
            votes=dict(current.votes) if current else {},
            confirms=dict(current.confirms) if current else {},
            deadline=deadline,
            reason=None if held else self._reason(),
        )

    # ------------------------------------------------------------------------------------------------------- events

    def group_changed(self, group: ProviderGroup, now: float) -> list[Action]:
        """The zones or the voters of the group are others now; its hash is the same.

        :raises ValueError: the hash is another: that is another group, with an election of its own.
        """
        if group.hash != self._group.hash:
            raise ValueError(f"group {group.hash} is not {self._group.hash}")
        before, self._group = self._group, group
        if group.voters == before.voters:
            return []
        actions = self._leave_round("voters changed", "the voters have changed")
        actions += [CancelTimer("start"), CancelTimer("reelect"), CancelTimer("escalate")]
        self._start_at = None
        for stranger in set(self._early) - set(group.voters):
            del self._early[stranger]
        if self._leadership and (
            self._leadership.leader not in group.voters or len(before.voters) == 1 or len(group.voters) == 1
        ):
            actions += self._lose_leader("the voters have changed, the leader is none of them any more", now)
        if self._operational:
            actions += self._begin(now)
        return actions

    def operational(self, now: float) -> list[Action]:
        """Every member says that it hears every other member."""
        if self._operational:
            return []
        self._operational = True
        self._failures = 0
        return self._begin(now)

    def not_operational(self, now: float) -> list[Action]:
        """Some member does not hear some other: no leader any more, a running round goes on, nothing is retried."""
        if not self._operational:
            return []
        self._operational = False
        actions: list[Action] = [CancelTimer("start"), CancelTimer("escalate"), CancelTimer("reelect")]
        self._start_at = None
        self._leaderless.clear()
        if self._phase == "backoff":
            self._enter("idle", "falling edge")
            self._retry_at = None
            actions.append(CancelTimer("retry"))
        if self._leadership:
            actions += self._lose_leader("the group stopped being operational", now)
        return actions

    def received(self, kind: Kind, sender: str, term: int, value: int | str, now: float) -> list[Action]:
        """An election message of *sender*, whose signature was checked.

        :param value: the vote of a CALL (0: none) or VOTE, the winner of a CONFIRM.
        """
        voters = self._group.voters
        if sender == self._identity or sender not in voters or self._identity not in voters:
            return []
        if term <= 0 or not self._plausible(sender, term):
            return []
        if kind == "CALL":
            return self._called(sender, term, int(value), now)
        if kind == "CONFIRM" and value not in voters:
            return []
        current = self._round
        if current is not None and current.term == term and self._phase in ("voting", "confirming"):
            self._count(current, kind, sender, value)
            return self._advance(now)
        if term > self._voted:
            return self._keep_early(kind, sender, term, value, now)
        return []

    def adopt(self, heard: Leadership, sender: str, now: float) -> list[Action]:
        """The leadership that the member *sender* gossips; leader ``""``: it knows of none."""
        group = self._group
        if sender == self._identity or sender not in group.members or len(group.voters) == 1:
            return []
        if not heard.leader:
            return self._hear_leaderless(heard, sender, now)
        if self._leaderless.pop(sender, None) is not None and self._leadership is not None:
            self._healed = 0
        if heard.leader not in group.voters or heard.term <= 0 or not self._plausible(sender, heard.term):
            return []
        term = self._first_term(heard, sender)
        if term < heard.term or heard.expires <= now:
            # An old leader under the term of a round that is under way, or an expired one: the term is in use.
            return self._see(heard.term)
        expires = now + min(heard.expires - now, self._ttl)
        offered = Leadership(heard.leader, heard.term, expires)
        if not self._acceptable(offered, now):
            return []
        held = self._leadership
        if held is not None and held.term == offered.term and held.leader == offered.leader:
            return self._extend(offered, now)
        return self._lead(offered, own=False, reason=f"{sender} gossips it", now=now)

    def timer(self, name: str, now: float) -> list[Action]:
        """A timer set by :class:`~mpcore.actions.SetTimer` has run out; late and repeated ones do no harm."""
        handler = {
            "phase": self._on_phase,
            "retry": self._on_retry,
            "start": self._on_start,
            "reelect": self._on_reelect,
            "expire": self._on_expire,
            "resend": self._on_resend,
            "escalate": self._on_escalate,
        }.get(name)
        return handler(now) if handler else []

    def force(self, now: float) -> list[Action]:
        """Open a round now, by order of the operator, also if the group is not operational.

        :raises ConflictError: we are no voter.
        """
        if self._identity not in self._group.voters:
            raise ConflictError("this agent is no voter of the group, it cannot call an election")
        if len(self._group.voters) == 1:
            return self._lead_alone(now)
        self._failures = 0
        return self._open(now)

    def step_down(self, now: float) -> list[Action]:
        """Give the leadership up and have another voter elected: our vote is 0, which cannot win.

        :raises ConflictError: we are not the leader, or the only voter.
        """
        if self._leadership is None or self._leadership.leader != self._identity:
            raise ConflictError("this agent is not the leader")
        if len(self._group.voters) == 1:
            raise ConflictError("the only voter of the group cannot step down")
        self._abstaining = True
        self._failures = 0
        return self._lose_leader("this agent has stepped down", now) + self._open(now)

    # ------------------------------------------------------------------------------------------------ opening a round

    @property
    def _rank(self) -> int:
        return self._group.voters.index(self._identity)

    def _step(self) -> float:
        return min(RANK_STEP, 0.1 * self._ttl / len(self._group.voters))

    def _begin(self, now: float) -> list[Action]:
        """The group is operational: see that there is, or will be, a leader."""
        voters = self._group.voters
        if len(voters) == 1:
            return self._lead_alone(now)
        if self._identity not in voters:
            return []
        if self._phase in ("voting", "confirming"):
            return []
        if self._leadership:
            return self._schedule_reelection(now)
        if self._rank == 0:
            return self._open(now)
        self._start_at = now + self._rank * RANK_STEP
        return [SetTimer("start", self._start_at)]

    def _lead_alone(self, now: float) -> list[Action]:
        leader = self._group.voters[0]
        self._enter("idle", "sole voter")
        held = Leadership(leader, 0, now + self._ttl)
        self._leadership, self._own = held, False
        return [
            SetTimer("reelect", now + _REELECT * self._ttl),
            SetTimer("expire", held.expires),
            LeaderChanged(self._group.hash, held, "the group has no other voter"),
        ]

    def _open(self, now: float) -> list[Action]:
        """Call a round under the next term."""
        term = self._seen + 1
        if term > MAX_TERM:
            self._why = "the terms are exhausted: the group needs another set of members"
            return []
        actions = self._drop_waiting()
        self._remember()
        actions += self._take_part(term, called=True, event="called", now=now)
        current = self._current()
        ballot = Ballot(self._group.hash, "CALL", term, vote=current.vote)
        actions.append(Broadcast(ballot, self._others()))
        if current.vote == 0:
            actions.append(self._ballot("VOTE", self._others()))
        return actions + self._absorb(now) + self._advance(now)

    def _take_part(self, term: int, *, called: bool, event: str, now: float) -> list[Action]:
        """Enter the round of *term*: our only vote in it."""
        vote = 0 if self._abstaining else 1 + self._random.getrandbits(32) % 0xFFFFFFFF
        self._round = _Round(
            term, vote, called, not called, {self._identity: vote}, deadline=now + PHASE_TIMEOUT, sent_at=now
        )
        self._voted = self._seen = term
        self._enter("voting", event)
        return [
            Store("term", self._group.hash, {"term": term}),
            SetTimer("phase", self._round.deadline),
            SetTimer("resend", now + RESEND[0]),
        ]

    def _drop_waiting(self) -> list[Action]:
        """A round is under way: whatever we were waiting for to open one is void."""
        self._start_at = self._retry_at = None
        return [CancelTimer("retry"), CancelTimer("start"), CancelTimer("escalate"), CancelTimer("reelect")]

    def _remember(self) -> None:
        if self._round is not None:
            self._past[self._round.term] = self._round
            while len(self._past) > _REMEMBERED_ROUNDS:
                del self._past[min(self._past)]
        self._round = None

    # ------------------------------------------------------------------------------------------------ a CALL arrives

    def _called(self, sender: str, term: int, vote: int, now: float) -> list[Action]:
        current = self._round
        running = current is not None and self._phase in ("voting", "confirming")
        if current is not None and current.term == term:
            if not running:
                return self._answer_low(sender, term, vote, current, now)
            repeated = current.calls.get(sender) == vote
            current.calls.setdefault(sender, vote)
            if vote:
                current.votes.setdefault(sender, vote)
            answer: list[Action] = [self._ballot("VOTE", (sender,) if repeated or current.spread else self._others())]
            current.spread = current.spread or not repeated
            if current.winner is not None and repeated:
                answer.append(self._ballot("CONFIRM", (sender,)))
            if self._phase == "voting":
                self._enter("voting", "merged")
            return answer + self._advance(now)
        if term <= self._voted or term < self._seen:
            if current is not None and running:
                past = self._past.get(term)
                if sender in current.votes or (past is not None and past.calls.get(sender) == vote):
                    return []
                return [Broadcast(Ballot(self._group.hash, "CALL", current.term, vote=current.vote), (sender,))]
            return self._answer_low(sender, term, vote, self._past.get(term), now)
        actions = self._drop_waiting()
        self._remember()
        actions += self._take_part(term, called=False, event="joined", now=now)
        joined = self._current()
        joined.calls[sender] = vote
        if vote:
            joined.votes[sender] = vote
        actions.append(self._ballot("VOTE", self._others()))
        return actions + self._absorb(now) + self._advance(now)

    def _answer_low(self, sender: str, term: int, vote: int, past: _Round | None, now: float) -> list[Action]:
        """A CALL of a term that is over: a repetition is ignored, a caller that lost its term is called higher."""
        if past is not None and (past.calls.get(sender) == vote or past.votes.get(sender) == vote):
            return []
        return self._open(now)

    # ------------------------------------------------------------------------------------------- VOTE and CONFIRM

    def _count(self, current: _Round, kind: Kind, sender: str, value: int | str) -> None:
        if kind == "VOTE":
            current.votes.setdefault(sender, int(value))
        else:
            current.confirms.setdefault(sender, str(value))

    def _keep_early(self, kind: Kind, sender: str, term: int, value: int | str, now: float) -> list[Action]:
        """Keep a message whose CALL has not come; if it does not come at all, open a round above its term."""
        kept = self._early.setdefault(sender, {})
        for key in [key for key, (_, at) in kept.items() if now - at > EARLY]:
            del kept[key]
        kept.setdefault((kind, term), (value, now))
        while len(kept) > 2 * _MAX_EARLY_PER_VOTER:
            del kept[min(kept, key=lambda key: key[1])]
        if len([key for key in kept if key[1] == term]) == 1 and self._operational:
            return [SetTimer("escalate", now + 1.0 + self._random.uniform(0.2, 1.0))]
        return []

    def _absorb(self, now: float) -> list[Action]:
        """Count the messages that came before the CALL."""
        current = self._current()
        for sender, kept in self._early.items():
            for (kind, term), (value, at) in list(kept.items()):
                if term == current.term and now - at <= EARLY:
                    self._count(current, kind, sender, value)
                if term <= current.term:
                    del kept[kind, term]
        return []

    def _advance(self, now: float) -> list[Action]:
        """Determine the winner, finalise or give up, as far as what has arrived allows."""
        actions: list[Action] = []
        current = self._current()
        voters = self._group.voters
        if self._phase == "voting":
            if any(voter not in current.votes for voter in voters):
                return actions
            best = max(current.votes[voter] for voter in voters)
            if best == 0:
                return self._fail("all votes", "nobody stands: every vote is 0", now)
            current.winner = next(voter for voter in voters if current.votes[voter] == best)
            current.confirms[self._identity] = current.winner
            current.deadline = now + PHASE_TIMEOUT
            current.sent_at, current.resends = now, 0
            self._enter("confirming", "all votes")
            actions += [
                self._ballot("CONFIRM", self._others()),
                SetTimer("phase", current.deadline),
                SetTimer("resend", now + RESEND[0]),
            ]
        if self._phase == "confirming" and all(voter in current.confirms for voter in voters):
            winners = {current.confirms[voter] for voter in voters}
            if len(winners) == 1 and current.winner is not None:
                offered = Leadership(current.winner, current.term, now + self._ttl)
                actions += self._lead(offered, own=True, reason=f"elected in term {current.term}", now=now)
            else:
                named = ", ".join(f"{voter} names {current.confirms[voter]}" for voter in voters)
                actions += self._fail("all confirmations", f"the winners differ: {named}", now)
        return actions

    def _fail(self, event: str, why: str, now: float) -> list[Action]:
        """The round has failed: try again later, if the group is operational."""
        current = self._current()
        self._why = f"the round of term {current.term} failed: {why}"
        actions: list[Action] = [CancelTimer("phase"), CancelTimer("resend")]
        if not self._operational:
            self._enter("idle", event)
            return actions
        self._enter("backoff", event)
        delay = min(BACKOFF_MAX, self._random.uniform(0.5, 1.5) * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._retry_at = now + delay
        return [*actions, SetTimer("retry", self._retry_at)]

    # ------------------------------------------------------------------------------------------------- leaderships

    def _lead(self, offered: Leadership, *, own: bool, reason: str, now: float) -> list[Action]:
        """Take *offered* as the valid leadership."""
        actions: list[Action] = []
        if offered.term > self._seen:
            actions += self._see(offered.term)
        actions += self._drop_waiting()
        if own:
            self._enter("idle", "all confirmations")
            self._finalised[offered.term] = offered.leader
            while len(self._finalised) > _REMEMBERED_ROUNDS:
                del self._finalised[min(self._finalised)]
            actions.append(CancelTimer("phase"))  # repetitions of VOTE and CONFIRM go on: others may lack them
        else:
            actions += self._leave_round("adopted", "")
        self._failures = 0
        self._abstaining = False
        self._leaderless.clear()
        self._leadership, self._own = offered, own
        self._known[offered.leader] = offered
        actions.append(SetTimer("expire", offered.expires))
        actions += self._schedule_reelection(now)
        actions.append(LeaderChanged(self._group.hash, offered, reason))
        return actions

    def _first_term(self, heard: Leadership, sender: str) -> int:
        """The term under which *sender* first told this leadership.

        A member of the deployed implementation gossips its old leader under the term of a round that is not
        finished; a leadership that was elected anew has another expiry.
        """
        before = self._told.get(sender)
        if before is not None and (before.leader, before.expires) == (heard.leader, heard.expires):
            return before.term
        term = heard.term
        known = self._known.get(heard.leader)
        if before is None and known is not None and heard.expires <= known.expires + _CLOSE_EXPIRY:
            term = min(term, known.term)
        self._told[sender] = Leadership(heard.leader, term, heard.expires)
        return term

    def _extend(self, offered: Leadership, now: float) -> list[Action]:
        """The same leadership with another expiry: each voter counts from its own finalisation."""
        held = self._leadership
        if held is None or self._own or offered.expires <= held.expires + 1.0:
            return []
        self._leadership = offered
        self._known[offered.leader] = offered
        return [SetTimer("expire", offered.expires), *self._schedule_reelection(now)]

    def _lose_leader(self, why: str, now: float) -> list[Action]:
        self._why = why
        self._leadership = None
        return [
            CancelTimer("expire"),
            CancelTimer("reelect"),
            LeaderChanged(self._group.hash, None, why),
        ]

    def _schedule_reelection(self, now: float) -> list[Action]:
        held = self._leadership
        if held is None or self._identity not in self._group.voters:
            return []
        early = max(now, held.expires - (1.0 - _REELECT) * self._ttl)
        return [SetTimer("reelect", early + self._rank * self._step())]

    def _acceptable(self, offered: Leadership, now: float) -> bool:
        """Whether gossip may set the leader: no round of ours contradicts it."""
        if offered.term < self._seen:
            return False
        if offered.term > self._seen:
            return True
        held = self._leadership
        if held is not None and held.term == offered.term:
            if held.leader == offered.leader:
                return True
            return not self._own and offered.expires > held.expires and self._confirmed(offered.term) is None
        if offered.term in self._finalised:
            # Dropped by a falling edge, which the sender has not seen: the same leader is taken back.
            return self._operational and self._finalised[offered.term] == offered.leader
        current = self._round
        if current is not None and current.term == offered.term and self._phase == "voting":
            return False
        confirmed = self._confirmed(offered.term)
        if confirmed is not None:
            return confirmed == offered.leader
        took_part = (current is not None and current.term == offered.term) or offered.term in self._past
        return not took_part and (self._operational or self._leadership is None)

    def _confirmed(self, term: int) -> str | None:
        current = self._round if self._round is not None and self._round.term == term else self._past.get(term)
        return current.winner if current is not None else None

    def _hear_leaderless(self, heard: Leadership, sender: str, now: float) -> list[Action]:
        """A voter knows of no leader though we have one: after two beats open a round, for it will not learn ours."""
        actions: list[Action] = []
        if heard.term > self._seen and self._plausible(sender, heard.term):
            actions += self._see(heard.term)
        voters = self._group.voters
        if sender not in voters or self._identity not in voters or not self._operational or self._leadership is None:
            self._leaderless.pop(sender, None)
            return actions
        since = self._leaderless.setdefault(sender, now)
        patience = (2 * self._interval + self._rank * self._step()) * 2.0 ** min(self._healed, 6)
        if self._phase == "idle" and now - since > patience:
            self._healed += 1
            self._leaderless.clear()
            actions += self._open(now)
        return actions

    def _see(self, term: int) -> list[Action]:
        """*term* is in use: rounds that we open are above it."""
        if term <= self._seen:
            return []
        self._seen = term
        return [Store("term", self._group.hash, {"term": term})]

    def _plausible(self, sender: str, term: int) -> bool:
        """Whether *term* may be believed: one member alone cannot push the term towards its end."""
        if term > MAX_TERM:
            return False
        if self._seen == 0 or term <= self._seen + TERM_JUMP or len(self._group.members) == 2:
            return True
        self._jumps[sender] = term
        return sum(1 for witnessed in self._jumps.values() if witnessed > self._seen + TERM_JUMP) >= 2

    # ------------------------------------------------------------------------------------------------------ timers

    def _on_phase(self, now: float) -> list[Action]:
        current = self._round
        if current is None or self._phase not in ("voting", "confirming"):
            return []
        if now < current.deadline:
            return [SetTimer("phase", current.deadline)]
        heard = current.votes if self._phase == "voting" else current.confirms
        what = "vote" if self._phase == "voting" else "confirmation"
        missing = ", ".join(voter for voter in self._group.voters if voter not in heard)
        return self._fail("timeout", f"no {what} of {missing} within {PHASE_TIMEOUT:.0f} s", now)

    def _on_retry(self, now: float) -> list[Action]:
        if self._phase != "backoff" or self._retry_at is None:
            return []
        if now < self._retry_at:
            return [SetTimer("retry", self._retry_at)]
        return self._open(now) if self._operational else []

    def _on_start(self, now: float) -> list[Action]:
        if self._start_at is None or not self._operational or self._leadership or self._phase != "idle":
            return []
        if now < self._start_at:
            return [SetTimer("start", self._start_at)]
        return self._open(now)

    def _on_reelect(self, now: float) -> list[Action]:
        held = self._leadership
        if held is None or not self._operational or self._phase != "idle":
            return []
        if len(self._group.voters) == 1:
            return self._lead_alone(now)
        if self._identity not in self._group.voters or held.expires - now > (1.0 - _REELECT) * self._ttl + 1e-3:
            return []
        return self._open(now)

    def _on_expire(self, now: float) -> list[Action]:
        held = self._leadership
        if held is None:
            return []
        if now < held.expires:
            return [SetTimer("expire", held.expires)]
        actions = self._lose_leader(f"the leadership of {held.leader} has expired, no election has succeeded", now)
        if self._operational and self._phase == "idle" and self._identity in self._group.voters:
            actions += self._begin(now)
        return actions

    def _on_resend(self, now: float) -> list[Action]:
        """Send again what others may lack."""
        current = self._round
        if current is None or current.resends >= len(RESEND) or self._phase == "backoff" or self._abandoned(current):
            return []
        due = current.sent_at + RESEND[current.resends]
        if now < due:
            return [SetTimer("resend", due)]
        actions: list[Action] = []
        others = [voter for voter in self._group.voters if voter != self._identity]
        if self._phase in ("voting", "confirming"):
            silent = tuple(v for v in others if v not in current.votes and v not in current.confirms)
            waiting = tuple(v for v in others if v not in current.confirms and v not in silent)
            if silent and current.called:
                actions.append(Broadcast(Ballot(self._group.hash, "CALL", current.term, vote=current.vote), silent))
                if current.vote == 0:
                    waiting = (*waiting, *silent)
            elif silent:
                waiting = (*waiting, *silent)
            if waiting:
                actions.append(self._ballot("VOTE", waiting))
        if current.winner is not None:
            actions.append(self._ballot("CONFIRM", tuple(others)))
        current.resends += 1
        if current.resends < len(RESEND):
            actions.append(SetTimer("resend", current.sent_at + RESEND[current.resends]))
        return actions

    def _abandoned(self, current: _Round) -> bool:
        return self._phase == "idle" and self._finalised.get(current.term) is None

    def _on_escalate(self, now: float) -> list[Action]:
        """Votes of a term came without its CALL: open a round above that term."""
        if not self._operational or self._phase in ("voting", "confirming"):
            return []
        newest = max(
            (term for kept in self._early.values() for (_, term), (_, at) in kept.items() if now - at <= EARLY),
            default=0,
        )
        held = self._leadership
        if newest <= self._voted or (held is not None and held.term >= newest):
            return []
        return [*self._see(newest), *self._open(now)]

    # ----------------------------------------------------------------------------------------------------- small parts

    def _enter(self, phase: Phase, event: str) -> None:
        if (self._phase, event, phase) not in _ALLOWED and (ANY, event, phase) not in _ALLOWED:
            raise AssertionError(f"no transition from {self._phase} by {event} to {phase}")
        self._phase = phase

    def _leave_round(self, event: str, why: str) -> list[Action]:
        """End whatever is under way without a result."""
        if why:
            self._why = why
        self._remember()
        self._enter("idle", event)
        self._retry_at = None
        return [CancelTimer("phase"), CancelTimer("resend"), CancelTimer("retry")]

    def _current(self) -> _Round:
        if self._round is None:
            raise AssertionError("no round")
        return self._round

    def _others(self) -> tuple[str, ...]:
        return tuple(member for member in self._group.members if member != self._identity)

    def _ballot(self, kind: Kind, recipients: tuple[str, ...]) -> Broadcast:
        current = self._current()
        if kind == "CONFIRM":
            return Broadcast(Ballot(self._group.hash, kind, current.term, winner=current.winner), recipients)
        return Broadcast(Ballot(self._group.hash, kind, current.term, vote=current.vote), recipients)

    def _reason(self) -> str:
        voters = self._group.voters
        current = self._round
        if self._phase == "voting" and current is not None:
            missing = ", ".join(voter for voter in voters if voter not in current.votes)
            return f"election of term {current.term} under way: waiting for the vote of {missing}"
        if self._phase == "confirming" and current is not None:
            missing = ", ".join(voter for voter in voters if voter not in current.confirms)
            return f"election of term {current.term} under way: waiting for the confirmation of {missing}"
        if self._phase == "backoff":
            return f"{self._why}; the next try is scheduled"
        if not self._operational:
            rest = "no election before every member hears every other"
            return f"{self._why}; {rest}" if self._why else f"the group is not operational yet: {rest}"
        if self._identity not in voters:
            return "this agent is no voter, and no member has told it of a leader yet"
        if self._start_at is not None:
            caller = f"waiting for {voters[0]}, the smallest voter, to call the election"
            return f"{self._why}; {caller}" if self._why else caller
        return self._why or "no election has been called yet"
