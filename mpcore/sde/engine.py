"""Synchronised data: what each provider contributes to a zone, told to everybody, confirmed by everybody.

Theory
------
The unit is the *set*: the records of one type that one author contributes to the apex of one zone.  Only the author
changes it, and every message about it is a ``replace`` with the complete set, so a message that is lost, late or
doubled does no harm: the newest says everything.  A change of our own set goes to our combiner (UPDATE) and to every
other provider (SYNC) under one distribution id.  The set of another author comes by SYNC, goes to our combiner by
UPDATE under an id of ours, and when the combiner has answered, the author gets the final CONFIRM under its own id, with
lists that say of every record in its message what became of it here.

Every distribution has a sequence number, and every record the number of the distribution in which it began to be
there, or to be gone.  A confirmation speaks about the records whose number is not above that of the distribution
confirmed: an answer to an old message cannot confirm a newer change.  A record is matched by its exact text.  A record
that no list names follows from what a ``replace`` means: after SUCCESS, or PARTIAL without ignored records, the set is
in place save what was rejected.

The life of a record, from the author's wish and from what the recipients that count said, is :data:`TRANSITIONS`.
Auditors do not count.  A removal that somebody refuses keeps waiting, with the reason: the record is gone from our set
all the same, and every later message says so.

Everything is stored with ``Store`` actions; all that one call returns belongs into one database write, together with
the queue entries that its durable ``Send`` actions make.  After :meth:`SynchronisedData.restore` the engine goes on
where it was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mpcore.actions import Action, Send, SetTimer
from mpcore.control.models import RecordState, SdeRecord, Transaction, TransactionState, Wait
from mpcore.errors import NotFoundError, NotReadyError, PolicyError, RecordError, RemoteError
from mpcore.machine import ANY, Transition
from mpcore.names import ZoneName
from mpcore.sde.actions import KeysPropagated, TransactionChanged, ZoneChanged
from mpcore.sde.confirm import make_confirm, read_status
from mpcore.sde.ledger import Ledger, SetKey
from mpcore.sde.model import (
    Answer,
    AnswerStatus,
    Change,
    Distribution,
    Entry,
    Inbound,
    Leg,
    Mark,
    ZoneMemory,
    confirmations,
    copy_answers,
)
from mpcore.sde.plan import Plan, make_plan, read_own_record
from mpcore.sde.records import RDATA_TYPES, ContributedRecord, read_any_record, read_record
from mpcore.wire.messages import MAX_OPERATIONS, MAX_RECORDS, Confirm, Operation, Rfi, Sync, Update, rfc3339
from mpcore.zone.roles import SYNCHRONISED_TYPES, ZoneRoles

__all__ = ("LIFETIME", "REMOVED_VISIBLE", "TRANSITIONS", "SynchronisedData")

TRANSITIONS: Final = (
    Transition(ANY, "added by us, or by its author", "", "pending", "send the set"),
    Transition("pending", "answer", "all final, all that may apply it accepted", "accepted", ""),
    Transition("pending", "answer", "all final, nobody may apply it", "ignored", ""),
    Transition("pending", "answer", "a recipient rejected it", "rejected", "keep the reason"),
    Transition("accepted", "answer", "a recipient rejected it", "rejected", "keep the reason"),
    Transition("rejected", "answer", "nobody rejects it any more", "pending", ""),
    Transition("ignored", "roles changed", "somebody may apply it", "pending", "send the set"),
    Transition("pending", "removed by us, or by its author", "", "pending-removal", "send the set"),
    Transition("accepted", "removed by us, or by its author", "", "pending-removal", "send the set"),
    Transition("ignored", "removed by us, or by its author", "", "pending-removal", "send the set"),
    Transition("rejected", "removed by us, or by its author", "", "pending-removal", "send the set"),
    Transition("pending-removal", "answer", "a recipient refused the removal", "pending-removal", "keep the reason"),
    Transition("pending-removal", "answer", "all final, none rejected", "removed", "forget it after an hour"),
)
"""The life of a record."""

LIFETIME: Final = 86400.0
"""Seconds for which messages and finished changes are remembered: as long as a queue keeps trying."""

REMOVED_VISIBLE: Final = 3600.0
"""Seconds for which a removed record is still listed."""

_TICK: Final = 60.0  # seconds between looks at what is overdue
_SLICE: Final = 50  # zones looked at in one go
_SLICE_PAUSE: Final = 0.05
_TIMER: Final = "tick"
_ASK_AFTER: Final = 300.0  # seconds without a final answer after which the set is sent again; doubles up to an hour
_ASK_LIMIT: Final = 3600.0
_ASK_TIMES: Final = 8
_FUTURE: Final = 3600.0  # how far ahead of our clock an author's Time may push the order of its messages
_TIME_STEP: Final = 2e-6  # messages carry microseconds
_DROPPED: Final = "the message was dropped from the queue by the operator"
_VERBS: Final = frozenset({"add", "delete", "replace"})
_MAX_INBOUNDS: Final = 5000
_MAX_CHANGES: Final = 2000

_Checked = tuple[str, str, dict[bytes, ContributedRecord], tuple[str, ...]]


@dataclass(slots=True)
class _Verdict:
    """What a CONFIRM says about the records of one distribution."""

    status: str
    message: str
    applied: frozenset[str]
    removed: frozenset[str]
    ignored: frozenset[str]
    rejected: dict[str, str]
    complete: bool  # the lists can be trusted to name everything that was rejected

    @classmethod
    def of(cls, confirm: Confirm, known: Iterable[str]) -> _Verdict:
        rejected = {item.record: item.reason for item in confirm.rejected_items}
        complete = (
            not confirm.truncated and confirm.rejected_count <= len(rejected) and rejected.keys() <= frozenset(known)
        )
        return cls(
            read_status(confirm.status),
            confirm.message,
            frozenset(confirm.applied_records),
            frozenset(confirm.removed_records),
            frozenset(confirm.ignored_records),
            rejected,
            complete,
        )

    def about(self, entry: Entry, distribution: Distribution) -> tuple[AnswerStatus, str | None] | None:
        """The answer about *entry*, ``None`` if there is none."""
        text = entry.record.text
        if entry.present is not (text in distribution.texts):
            return None
        if text in self.rejected:
            return "rejected", self.rejected[text] or "no reason given"
        if entry.present and text in self.applied:
            return "accepted", None
        if not entry.present and text in self.removed:
            return "removed", None
        if text in self.ignored or self.status == "IGNORED":
            return "ignored", None
        if self.status in ("FAILED", "REJECTED"):
            return "rejected", self.message or self.status.lower()
        if self.complete and (self.status == "SUCCESS" or not self.ignored):
            return ("accepted", None) if entry.present else ("removed", None)
        return None


class SynchronisedData:
    """The engine for all zones of one agent.

    :param identity: our identity.
    :param combiner: identity of our combiner.
    :param new_distribution_id: makes a fresh distribution id, 8 hex digits.
    :param new_nonce: makes a nonce, 32 hex digits.
    """

    def __init__(
        self,
        identity: str,
        combiner: str,
        *,
        new_distribution_id: Callable[[], str],
        new_nonce: Callable[[], str],
    ) -> None:
        self.identity, self.combiner = identity, combiner
        self._new_distribution_id, self._new_nonce = new_distribution_id, new_nonce
        self._roles: dict[str, ZoneRoles | None] = {}
        self._snapshots: dict[str, Mapping[str, Mapping[str, Sequence[str]]]] = {}
        self._ledger = Ledger()
        self._sends: list[Send] = []
        self._told: dict[Action, None] = {}
        self._armed = False
        self._round: deque[str] = deque()  # zones that the round of looks has still to come to

    # ================================================================================================ state and time

    def restore(self, stored: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take over what ``Store`` actions of a former run, or of this one, have kept; the roles stay as they are.

        :param stored: kind -> key -> value; other kinds are ignored.
        :raises StoreError: a value is damaged.
        """
        self._ledger = Ledger.restored(stored)
        self._sends, self._told, self._armed = [], {}, False
        self._round.clear()

    def timer(self, name: str, now: float) -> list[Action]:
        """The timer that :class:`~mpcore.actions.SetTimer` asked for: forget what is old, ask again what is overdue.

        With many zones the work is done in slices, so that it never holds up anything else.
        """
        self._armed = False
        if not self._round:
            self._start_round(now)
        for _ in range(min(_SLICE, len(self._round))):
            self._look_at(self._round.popleft(), now)
        return self._finish(now)

    def _start_round(self, now: float) -> None:
        ledger = self._ledger
        self._round.extend(ledger.zone_names())
        for inbound in list(ledger.inbounds.values()):
            if inbound.received_at <= now - LIFETIME:
                ledger.drop_inbound(inbound)
        for change in list(ledger.changes.values()):
            if not change.open and change.created_at <= now - LIFETIME:
                ledger.drop_change(change)
        for distribution in list(ledger.distributions.values()):
            if self._member(distribution.zone) is None:
                continue
            for recipient, leg in list(distribution.legs.items()):
                delay = min(_ASK_AFTER * 2**leg.asked, _ASK_LIMIT)
                if leg.status == "received" and leg.asked < _ASK_TIMES and leg.since <= now - delay:
                    leg.asked += 1
                    self._repeat(distribution, recipient, now)
            if distribution.time <= now - LIFETIME and not any(leg.awaited for leg in distribution.legs.values()):
                ledger.drop_distribution(distribution)

    def _look_at(self, zone: str, now: float) -> None:
        ledger = self._ledger
        for key, held in list(ledger.zone_sets(zone)):
            for entry in list(held.values()):
                if entry.state is RecordState.REMOVED and entry.updated_at <= now - REMOVED_VISIBLE:
                    ledger.drop(entry)
                    self._tell(ZoneChanged(zone))
            if self._member(zone) is None:
                continue
            again = [
                name
                for name in self._audience(key)
                if self._offer_again_at(key, name) <= now and not ledger.awaits(key, name)
            ]
            if again:
                self._distribute(key, again, now)

    def _offer_again_at(self, key: SetKey, recipient: str) -> float:
        """When a set is worth another try at *recipient*.

        Five minutes after it said that it ignores a record that, by the roles we see, it may apply: roles may have
        reached it later than us.  An hour after it rejected a record of ours: policies change.
        """
        may, own = self._may_apply(key[0], key[2], recipient), key[1] == self.identity
        at = math.inf
        for entry in self._ledger.set_of(key).values():
            answer = entry.answers.get(recipient)
            if answer is None or entry.state is RecordState.REMOVED:
                continue
            if answer.status == "ignored" and may and entry.present:
                at = min(at, answer.at + _ASK_AFTER)
            elif answer.status == "rejected" and own:
                at = min(at, answer.at + _ASK_LIMIT)
        return at

    # ========================================================================================================= roles

    def set_roles(self, zone: str, roles: ZoneRoles | None, now: float) -> list[Action]:
        """The roles of a zone, at its first load and whenever they change.

        Who is new gets our sets; the data of who left are withdrawn from our combiner; where a type becomes publishable
        that was not, and where something was rejected, the sets are sent again so that the answers are up to date.

        :param roles: ``None``: the zone is no multi-provider zone, or not loaded; everything is kept, nothing is sent.
        """
        changed = self._roles.get(zone) != roles
        self._roles[zone] = roles
        if self._member(zone) is None or roles is None:
            return self._finish(now)
        ledger = self._ledger
        memory = ledger.zones.setdefault(zone, ZoneMemory(zone))
        recipients = self._recipients(zone)
        appliers = {rrtype: roles.appliers(rrtype) for rrtype in SYNCHRONISED_TYPES}
        former, former_appliers = memory.recipients, memory.appliers
        gone = [recipient for recipient in former if recipient not in recipients]
        fresh = [recipient for recipient in recipients if recipient not in former]
        if (former, former_appliers) != (recipients, appliers):
            memory.recipients, memory.appliers = recipients, appliers
            ledger.touch(memory)
        self._forget_recipients(zone, recipients)
        for key, _ in list(ledger.zone_sets(zone)):
            if key[1] != self.identity and roles.provider_of(key[1]) is None:
                self._withdraw(key, now)
        for inbound in list(ledger.inbounds.values()):
            if inbound.zone == zone and inbound.sender in gone:
                ledger.drop_inbound(inbound)
        for key, _ in list(ledger.zone_sets(zone)):
            if not ledger.present(key):
                continue
            rrtype = key[2]
            own = key[1] == self.identity
            became = [name for name in appliers[rrtype] if former and name not in former_appliers.get(rrtype, ())]
            again = [self.combiner if name == self.identity else name for name in became]
            told = self._audience(key)
            wanted = [
                name
                for name in told
                if name in fresh
                or (name in again and self._said(key, name, "ignored"))
                or (own and changed and self._said(key, name, "rejected"))
            ]
            if changed and not own and self._said(key, self.combiner, "rejected"):
                self._remember_refusal(zone, key[1])
            if wanted and (own or self.combiner in wanted):
                self._distribute(key, wanted, now)
        for key, held in list(ledger.zone_sets(zone)):
            for entry in list(held.values()):
                self._evaluate(entry, now)
            self._resolve(key, now)
        self._settle_keys(zone)
        if changed:
            self._ask_again(zone, roles, now)
        snapshot = self._snapshots.pop(zone, None)
        if snapshot is not None:
            self._hydrate(zone, snapshot, now)
        self._tell(ZoneChanged(zone))
        return self._finish(now)

    def _member(self, zone: str) -> ZoneRoles | None:
        """The roles of a zone in which we take part."""
        roles = self._roles.get(zone)
        return roles if roles is not None and roles.provider_of(self.identity) is not None else None

    def _require(self, zone: str) -> ZoneRoles:
        if zone not in self._roles:
            raise NotFoundError(f"{zone} is not a zone of this agent")
        roles = self._roles[zone]
        if roles is None:
            raise NotReadyError(f"{zone} is not loaded, or has no HSYNC3 and HSYNCPARAM records")
        if roles.provider_of(self.identity) is None:
            raise PolicyError(f"{self.identity} is not listed in the HSYNC3 records of {zone}")
        return roles

    def _recipients(self, zone: str) -> tuple[str, ...]:
        roles = self._member(zone)
        if roles is None:
            return ()
        return (self.combiner, *(identity for identity in roles.identities() if identity != self.identity))

    def _audience(self, key: SetKey) -> tuple[str, ...]:
        """Who is told of a set: of our own everybody, but of our DNSKEYs not our combiner, whose zone our signer signs;
        of another author's our combiner."""
        zone, originator, rrtype = key
        if originator != self.identity:
            return (self.combiner,)
        recipients = self._recipients(zone)
        return recipients[1:] if rrtype == "DNSKEY" else recipients

    def _counts(self, zone: str, recipient: str) -> bool:
        """Whether acceptance waits for *recipient*: not for an auditor that does nothing else."""
        roles = self._roles.get(zone)
        if recipient == self.combiner or roles is None:
            return True
        return not roles.is_auditor(recipient) or roles.is_server(recipient) or roles.is_signer(recipient)

    def _may_apply(self, zone: str, rrtype: str, recipient: str) -> bool:
        roles = self._roles.get(zone)
        return roles is not None and roles.can_apply(rrtype, self.identity if recipient == self.combiner else recipient)

    def _said(self, key: SetKey, recipient: str, status: AnswerStatus) -> bool:
        """Whether *recipient* said so about a record of the set."""
        return any(
            (answer := entry.answers.get(recipient)) is not None and answer.status == status
            for entry in self._ledger.present(key)
        )

    def _forget_recipients(self, zone: str, recipients: Sequence[str]) -> None:
        """Nobody waits for who is no recipient any more."""
        ledger = self._ledger
        for _, held in ledger.zone_sets(zone):
            for entry in held.values():
                left = [recipient for recipient in entry.answers if recipient not in recipients]
                for recipient in left:
                    del entry.answers[recipient]
                if left:
                    ledger.touch(entry)
        for distribution in list(ledger.distributions.values()):
            if distribution.zone != zone:
                continue
            left = [recipient for recipient in distribution.legs if recipient not in recipients]
            for recipient in left:
                del distribution.legs[recipient]
            if left:
                ledger.touch(distribution)
                self._close(distribution)

    def _withdraw(self, key: SetKey, now: float) -> None:
        """The author has left: its records go, and our combiner is told so in its name."""
        leaving = self._ledger.present(key)
        if not leaving:
            return
        for entry in leaving:
            self._remove(entry, self._ledger.sequence + 1, now, reason="the author is no longer a provider of the zone")
        self._distribute(key, (self.combiner,), now)

    # =================================================================================================== our changes

    def plan(self, zone: str, operation: Literal["add", "delete"], record: str) -> Plan:
        """What a change of our own data would do.

        :param record: master-file text; relative names are completed with the zone.
        :raises PolicyError: it is not allowed; says why.
        :raises NotFoundError: not our zone, or the record to delete is not ours.
        :raises NotReadyError: the zone is not loaded.
        """
        roles = self._require(zone)
        checked = read_own_record(zone, record)
        key = (zone, self.identity, checked.rrtype)
        return make_plan(roles, self.identity, self._audience(key), self._ledger.set_of(key), operation, checked)

    def local_change(
        self, zone: str, operation: Literal["add", "delete"], record: str, now: float
    ) -> tuple[str, list[Action]]:
        """Make a change of our own data; what it needs is checked as in :meth:`plan`.

        A change that would have no effect sends nothing: its transaction shares the fate of the record.

        :return: id of the transaction, and the actions.
        :raises PolicyError, NotFoundError, NotReadyError: see :meth:`plan`.
        """
        plan = self.plan(zone, operation, record)
        wanted = plan.record
        key = (zone, self.identity, wanted.rrtype)
        held = self._ledger.set_of(key)
        if plan.effective:
            sequence = self._ledger.sequence + 1
            for entry in list(held.values()):
                same = entry.record.text == wanted.text
                leaves = same if operation == "delete" else not same
                if entry.record.key == wanted.key and leaves and (same or entry.present):
                    self._remove(entry, sequence, now)
            if operation == "add":
                self._add(key, wanted, sequence, now)
            self._distribute(key, self._audience(key), now)
        entry = next(
            entry
            for entry in sorted(self._ledger.set_of(key).values(), key=lambda entry: -entry.sequence)
            if entry.record.key == wanted.key and entry.record.ttl == wanted.ttl
        )
        change = Change(
            id=self._transaction_id(),
            zone=zone,
            operation=operation,
            text=entry.record.text,
            rrtype=wanted.rrtype,
            sequence=entry.sequence,
            created_at=now,
            reached={Wait.HERE: now},
            distribution_id=entry.distribution_id,
        )
        self._ledger.add_change(change)
        self._tell(TransactionChanged(change.id))
        self._bound_changes()
        return change.id, self._finish(now)

    def local_dnskeys(self, zone: str, records: Sequence[str], tags: Iterable[int], now: float) -> list[Action]:
        """Our DNSKEYs as our signer has them: a changed set goes to the other providers, not to our combiner.

        When every provider that counts has given its final answer, :class:`KeysPropagated` names the tags of the keys
        that came or went and those in *tags*; at once, if there is nobody to wait for or nothing left to say.

        :param records: texts of all our keys that belong into the RRset; empty: we have none.
        :param tags: key tags whose distribution the signer waits for.
        :raises PolicyError: we do not sign the zone but have keys, or a record is no DNSKEY of the zone.
        :raises NotReadyError, NotFoundError: see :meth:`plan`.
        """
        roles = self._require(zone)
        if records and (reason := roles.can_submit("DNSKEY", self.identity)) is not None:
            raise PolicyError(reason)
        key = (zone, self.identity, "DNSKEY")
        wanted: dict[bytes, ContributedRecord] = {}
        for text in records:
            record = read_own_record(zone, text)
            if record.rrtype != "DNSKEY":
                raise PolicyError(f"{text} is no DNSKEY")
            wanted[record.key] = record
        present = {entry.record.key: entry for entry in self._ledger.present(key)}
        sequence = self._ledger.sequence + 1
        moved: set[int] = set(tags)
        changed = False
        for octets, entry in present.items():
            if octets not in wanted or wanted[octets].ttl != entry.record.ttl:
                self._remove(entry, sequence, now)
                moved.add(entry.record.key_tag or 0)
                changed = True
        for octets, record in wanted.items():
            former = present.get(octets)
            if former is None or former.record.ttl != record.ttl:
                self._add(key, record, sequence, now)
                moved.add(record.key_tag or 0)
                changed = True
        if changed:
            self._distribute(key, self._audience(key), now)
        memory = self._ledger.zones.setdefault(zone, ZoneMemory(zone))
        waiting = tuple(sorted(moved.union(memory.tags) - {0}))
        if waiting != memory.tags:
            memory.tags = waiting
            self._ledger.touch(memory)
        self._settle_keys(zone)
        return self._finish(now)

    def _add(self, key: SetKey, record: ContributedRecord, sequence: int, now: float) -> Entry:
        zone, originator, _ = key
        entry = Entry(zone, originator, record, RecordState.PENDING, sequence, now)
        self._ledger.put(entry)
        self._tell(ZoneChanged(zone))
        return entry

    def _remove(self, entry: Entry, sequence: int, now: float, reason: str | None = None) -> None:
        entry.state, entry.sequence, entry.updated_at = RecordState.PENDING_REMOVAL, sequence, now
        entry.reason, entry.answers = reason, {}
        self._ledger.touch(entry)
        self._tell(ZoneChanged(entry.zone))

    def _bound_changes(self) -> None:
        changes = self._ledger.changes
        for change in list(changes.values()):
            if len(changes) <= _MAX_CHANGES:
                return
            if not change.open:
                self._ledger.drop_change(change)

    # ==================================================================================================== sending

    def _distribute(self, key: SetKey, recipients: Sequence[str], now: float) -> Distribution:
        """Send the complete set to *recipients*; what they still owed an answer to is superseded."""
        zone, originator, rrtype = key
        ledger = self._ledger
        entries = ledger.present(key)
        distribution = Distribution(
            id=self._fresh_id(),
            sequence=ledger.next_sequence(),
            zone=zone,
            originator=originator,
            rrtype=rrtype,
            texts=tuple(entry.record.text for entry in entries),
            time=self._stamp(key, now),
            legs={recipient: Leg(self._new_nonce(), "owed", now) for recipient in recipients},
        )
        for older in ledger.of_set(key):
            for recipient, leg in older.legs.items():
                if recipient in distribution.legs and leg.awaited:
                    leg.status = "superseded"
                    ledger.touch(older)
        for entry in ledger.set_of(key).values():
            changed = False
            for recipient in recipients:
                answer = entry.answers.get(recipient)
                new = answer is None and (entry.present or entry.state is RecordState.PENDING_REMOVAL)
                unsure = answer is not None and (
                    not answer.final or (answer.status == "ignored" and self._may_apply(zone, rrtype, recipient))
                )
                if new or unsure:
                    entry.answers[recipient] = Answer("owed", now)
                    entry.distribution_id = distribution.id
                    changed = True
            if changed:
                ledger.touch(entry)
        ledger.add_distribution(distribution)
        for recipient in recipients:
            self._send(distribution, recipient)
        if not recipients:
            self._close(distribution)
        for entry in list(ledger.set_of(key).values()):
            self._evaluate(entry, now)
        self._tell(ZoneChanged(zone))
        return distribution

    def _send(self, distribution: Distribution, recipient: str) -> None:
        operation = Operation(operation="replace", rrtype=distribution.rrtype, records=list(distribution.texts))
        kind = Update if recipient == self.combiner else Sync
        message = kind(
            originator_id=distribution.originator,
            your_identity=recipient,
            zone=distribution.zone,
            operations=[operation],
            time=rfc3339(distribution.time),
            nonce=distribution.legs[recipient].nonce,
        )
        self._sends.append(Send(recipient, message, distribution.id, durable=True))

    def _repeat(self, distribution: Distribution, recipient: str, now: float) -> None:
        """Send the set again under the same id, as a message that is new to the recipient."""
        leg = distribution.legs[recipient]
        leg.nonce, leg.status, leg.since = self._new_nonce(), "owed", now
        distribution.time = self._stamp((distribution.zone, distribution.originator, distribution.rrtype), now)
        self._ledger.touch(distribution)
        self._send(distribution, recipient)

    def _stamp(self, key: SetKey, now: float) -> float:
        """The ``Time`` of a message about a set of ours: never at or before an earlier one, whatever the clock does."""
        if key[1] != self.identity:
            return now
        mark = self._ledger.marks.get(key)
        return self._mark(key, now if mark is None else max(now, mark.time + _TIME_STEP))

    def _mark(self, key: SetKey, time: float) -> float:
        mark = self._ledger.marks.setdefault(key, Mark(*key, time))
        mark.time = time
        self._ledger.touch(mark)
        return time

    def _fresh_id(self) -> str:
        while (fresh := self._new_distribution_id()) in self._ledger.distributions:
            pass
        return fresh

    def _transaction_id(self) -> str:
        while (fresh := f"tx-{self._new_nonce()[-16:]}") in self._ledger.changes:
            pass
        return fresh

    def _close(self, distribution: Distribution) -> None:
        """Forget a distribution to which everybody has given the final answer."""
        if all(leg.status == "final" for leg in distribution.legs.values()):
            self._ledger.drop_distribution(distribution)

    # ======================================================================================================= answers

    def delivered(self, recipient: str, distribution_id: str, now: float, message_type: str = "") -> list[Action]:
        """*recipient* has acknowledged a durable message of ours inline: it has it.

        :param message_type: type word of the message; a ``confirm`` carries an id of the other side.
        """
        distribution = self._ledger.distributions.get(distribution_id)
        if message_type == "confirm" or distribution is None:
            return self._finish(now)
        self._received(distribution, recipient, now)
        return self._finish(now)

    def _received(self, distribution: Distribution, recipient: str, now: float) -> None:
        leg = distribution.legs.get(recipient)
        if leg is None or leg.status != "owed":
            return
        leg.status, leg.since = "received", now
        self._ledger.touch(distribution)
        for entry in self._ledger.set_of((distribution.zone, distribution.originator, distribution.rrtype)).values():
            answer = entry.answers.get(recipient)
            if answer is not None and answer.status == "owed" and entry.sequence <= distribution.sequence:
                entry.answers[recipient] = Answer("received", now)
                self._ledger.touch(entry)
        self._tell(ZoneChanged(distribution.zone))

    def expired(self, recipient: str, distribution_id: str, now: float, message_type: str = "") -> list[Action]:
        """A durable message of ours was given up after 24 hours: as long as it is the newest word to that recipient, it
        is sent again.

        :param message_type: see :meth:`delivered`.
        """
        distribution = self._ledger.distributions.get(distribution_id)
        ours = message_type != "confirm" and distribution is not None
        if ours and distribution is not None and self._member(distribution.zone) is not None:
            leg = distribution.legs.get(recipient)
            if leg is not None and leg.status == "owed":
                self._repeat(distribution, recipient, now)
        return self._finish(now)

    def dropped(self, recipient: str, distribution_id: str, now: float, message_type: str = "") -> list[Action]:
        """The operator has dropped a durable message of ours: what it said counts as refused by *recipient*.

        Our own sets are offered again after an hour, and with their next change.

        :param message_type: see :meth:`delivered`.
        """
        distribution = self._ledger.distributions.get(distribution_id)
        leg = distribution.legs.get(recipient) if distribution is not None else None
        if message_type == "confirm" or distribution is None or leg is None or leg.status != "owed":
            return self._finish(now)
        key = (distribution.zone, distribution.originator, distribution.rrtype)
        for entry in list(self._ledger.set_of(key).values()):
            answer = entry.answers.get(recipient)
            if answer is not None and answer.status == "owed" and entry.sequence <= distribution.sequence:
                entry.answers[recipient] = Answer("rejected", now, _DROPPED)
                self._ledger.touch(entry)
        leg.status, leg.since = "final", now
        self._ledger.touch(distribution)
        self._close(distribution)
        for entry in list(self._ledger.set_of(key).values()):
            self._evaluate(entry, now)
        self._tell(ZoneChanged(distribution.zone))
        if distribution.originator == self.identity:
            self._settle_keys(distribution.zone)
        else:
            self._resolve(key, now, answered=distribution.sequence)
        return self._finish(now)

    def drop_effects(self, recipient: str, distribution_id: str, message_type: str) -> list[str]:
        """What :meth:`dropped` would mean, one sentence each."""
        if message_type == "confirm":
            return [f"{recipient} gets no final answer about its data; it sends them again in some minutes"]
        distribution = self._ledger.distributions.get(distribution_id)
        leg = distribution.legs.get(recipient) if distribution is not None else None
        if distribution is None or leg is None:
            return [f"{recipient} does not get the {message_type}; nothing here waits for an answer to it"]
        whose = "our" if distribution.originator == self.identity else f"{distribution.originator}'s"
        what = f"{whose} {len(distribution.texts)} {distribution.rrtype} records of {distribution.zone}"
        if leg.status != "owed":
            return [f"nothing changes here: a newer message about {what} takes its place"]
        effects = [f"{recipient} does not learn of {what}: the records, or their removal, count as refused by it"]
        if distribution.originator == self.identity:
            effects.append("they are offered again with the next change of the set, or after an hour")
        else:
            effects.append(f"{distribution.originator} is told so; they are offered again when it sends them again")
        if distribution.rrtype == "DNSKEY" and distribution.originator == self.identity:
            effects.append("our signer is told that the keys were refused, and does not go on with its roll-over")
        return effects

    def confirm_received(self, sender: str, confirm: Confirm, now: float) -> list[Action]:
        """A CONFIRM of *sender* (authenticated) to a message of ours; one that we do not wait for is ignored."""
        distribution = self._ledger.distributions.get(confirm.distribution_id)
        if (
            distribution is None
            or sender not in distribution.legs
            or confirm.sender_id != sender
            or (confirm.zone and confirm.zone != distribution.zone)
        ):
            return self._finish(now)
        if read_status(confirm.status) == "PENDING":
            self._received(distribution, sender, now)
            return self._finish(now)
        key = (distribution.zone, distribution.originator, distribution.rrtype)
        held = self._ledger.set_of(key)
        verdict = _Verdict.of(confirm, (*held, *distribution.texts))
        for entry in list(held.values()):
            if entry.sequence > distribution.sequence:
                continue
            found = verdict.about(entry, distribution)
            former = entry.answers.get(sender)
            unlisted = entry.record.text not in verdict.rejected
            if found is None or (found[0] == "rejected" and unlisted and former is not None and former.final):
                continue
            entry.answers[sender] = Answer(found[0], now, found[1])
            self._ledger.touch(entry)
        for older in self._ledger.of_set(key):
            leg = older.legs.get(sender)
            if leg is not None and older.sequence <= distribution.sequence and leg.status != "final":
                leg.status, leg.since = "final", now
                self._ledger.touch(older)
                self._close(older)
        for entry in list(held.values()):
            self._evaluate(entry, now)
        self._tell(ZoneChanged(distribution.zone))
        if distribution.originator == self.identity:
            self._settle_keys(distribution.zone)
        else:
            self._resolve(key, now, answered=distribution.sequence)
        return self._finish(now)

    def _evaluate(self, entry: Entry, now: float) -> None:
        """The state of a record, from the answers."""
        zone, rrtype = entry.zone, entry.record.rrtype
        counted = {name: answer for name, answer in entry.answers.items() if self._counts(zone, name)}
        refused = next(((name, answer) for name, answer in counted.items() if answer.status == "rejected"), None)
        complete = all(answer.final for answer in counted.values())
        state, reason = entry.state, entry.reason
        if not entry.present:
            if state is RecordState.PENDING_REMOVAL:
                if refused is not None:
                    reason = f"{refused[0]} refused the removal: {refused[1].reason}"
                elif complete:
                    state = RecordState.REMOVED
        elif refused is not None:
            state, reason = RecordState.REJECTED, f"{refused[0]}: {refused[1].reason}"
        elif complete:
            idle = self._idle_appliers(entry, counted)
            if idle and state is not RecordState.ACCEPTED:
                state, reason = RecordState.PENDING, f"{', '.join(idle)} keeps it without publishing it"
            elif not idle:
                applied = not counted or any(answer.status == "accepted" for answer in counted.values())
                state, reason = RecordState.ACCEPTED if applied else RecordState.IGNORED, None
                if not applied:
                    reason = f"no provider publishes {rrtype} records of {entry.originator}"
        elif state is not RecordState.ACCEPTED:
            state, reason = RecordState.PENDING, None
        if (state, reason) != (entry.state, entry.reason):
            entry.state, entry.reason, entry.updated_at = state, reason, now
            self._ledger.touch(entry)
            self._tell(ZoneChanged(zone))

    def _idle_appliers(self, entry: Entry, counted: Mapping[str, Answer]) -> list[str]:
        """Who may apply a record and said that it ignores it."""
        return [
            name
            for name, answer in counted.items()
            if answer.status == "ignored" and self._may_apply(entry.zone, entry.record.rrtype, name)
        ]

    def _settle_keys(self, zone: str) -> None:
        """Tell the signer of the keys about which everybody has spoken."""
        memory = self._ledger.zones.get(zone)
        if memory is None or not memory.tags:
            return
        by_tag: dict[int, list[Entry]] = {}
        for entry in self._ledger.set_of((zone, self.identity, "DNSKEY")).values():
            by_tag.setdefault(entry.record.key_tag or 0, []).append(entry)
        done: list[int] = []
        refused: dict[str, list[int]] = {}
        for tag in memory.tags:
            counted = [
                (entry, {name: answer for name, answer in entry.answers.items() if self._counts(zone, name)})
                for entry in by_tag.get(tag, ())
            ]
            rejections = [
                f"{name}: {answer.reason}"
                for _, answers in counted
                for name, answer in answers.items()
                if answer.status == "rejected"
            ]
            if rejections:
                refused.setdefault(rejections[0], []).append(tag)
            elif all(
                all(answer.final for answer in answers.values())
                and not (entry.present and self._idle_appliers(entry, answers))
                for entry, answers in counted
            ):
                done.append(tag)
        for reason, tags in refused.items():
            self._tell(KeysPropagated(zone, tuple(tags), True, reason))
        if done:
            self._tell(KeysPropagated(zone, tuple(done)))
        settled = {*done, *(tag for tags in refused.values() for tag in tags)}
        if settled:
            memory.tags = tuple(tag for tag in memory.tags if tag not in settled)
            self._ledger.touch(memory)

    # ====================================================================================== data of other providers

    def sync_received(self, sender: str, sync: Sync, distribution_id: str, now: float) -> list[Action]:
        """A SYNC of *sender* (authenticated).

        What it says is stored and goes to our combiner; the author gets PENDING (not for DNSKEYs, where the deployed
        implementation takes it for the final word) and, when the combiner has answered, the final CONFIRM.  A message
        that breaks a rule is refused as a whole with REJECTED and reasons; if it was for the author's role, the author
        is asked for its data when the roles change.  One that changes nothing is confirmed from what is known; one that
        is older than the last one about the same set, by the ``Time`` in it, changes nothing.

        :raises NotFoundError: not our zone.
        :raises NotReadyError: the zone is not loaded; the sender should try again.
        """
        if self._roles.get(sync.zone) is None:
            if sync.zone not in self._roles:
                raise NotFoundError(f"{sync.zone} is not a zone of this agent")
            raise NotReadyError(f"{sync.zone} is not loaded yet")
        roles = self._require(sync.zone)
        checked, refusal, rejected = self._check(sender, sync, roles)
        if refusal is not None:
            texts = dict.fromkeys(text for operation in sync.operations for text in operation.records)
            reasons = {text: rejected.get(text, refusal) for text in texts}
            confirm = make_confirm(
                self.identity,
                sync.zone,
                distribution_id,
                now,
                status="REJECTED",
                nonce=sync.nonce,
                message=refusal,
                rejected=reasons,
            )
            self._sends.append(Send(sender, confirm, distribution_id, durable=True))
            return self._finish(now)
        self._take(sender, sync, distribution_id, checked, now)
        return self._finish(now)

    def _check(self, sender: str, sync: Sync, roles: ZoneRoles) -> tuple[list[_Checked], str | None, dict[str, str]]:
        """The operations with their records read; or why the message is refused, with reasons for single records."""
        checked: list[_Checked] = []
        rejected: dict[str, str] = {}
        if sync.originator_id != sender:
            return checked, f"the author {sync.originator_id} is not the sender {sender}", rejected
        if sender == self.identity or roles.provider_of(sender) is None:
            return checked, f"{sender} is not another provider of {sync.zone}", rejected
        if len(sync.operations) > MAX_OPERATIONS:
            return checked, f"more than {MAX_OPERATIONS} operations", rejected
        apex = ZoneName(sync.zone).owner
        sizes: dict[str, int] = {}
        for operation in sync.operations:
            rrtype = operation.rrtype
            if operation.operation not in _VERBS:
                return checked, f"unknown operation {operation.operation[:32]!r}", rejected
            if rrtype not in RDATA_TYPES:
                known = ", ".join(SYNCHRONISED_TYPES)
                return checked, f"type {rrtype[:32]} is not synchronised; only {known} are", rejected
            if len(operation.records) > MAX_RECORDS:
                return checked, f"more than {MAX_RECORDS} records in one operation", rejected
            if operation.records and operation.operation != "delete":
                reason = self._author_refusal(sender, rrtype, roles)
                if reason is not None:
                    self._remember_refusal(sync.zone, sender)
                    return checked, reason, rejected
            records: dict[bytes, ContributedRecord] = {}
            for text in operation.records:
                try:
                    record = read_record(text, rrtype, apex)
                    records.setdefault(record.key, record)
                except RecordError as error:
                    rejected[text] = str(error)
            if operation.operation == "add":
                held = len(self._ledger.present((sync.zone, sender, rrtype)))
                sizes[rrtype] = sizes.get(rrtype, held) + len(records)
                if sizes[rrtype] > MAX_RECORDS:
                    return checked, f"more than {MAX_RECORDS} records of one type", rejected
            checked.append((operation.operation, rrtype, records, tuple(operation.records)))
        if rejected:
            return checked, f"refused as a whole: {next(iter(rejected.values()))}", rejected
        return checked, None, rejected

    def _author_refusal(self, author: str, rrtype: str, roles: ZoneRoles) -> str | None:
        if not self._counts(roles.zone, author):
            return f"{author} is an auditor of {roles.zone} and contributes nothing"
        if rrtype in ("DNSKEY", "CDS") and not roles.is_signer(author):
            return f"{author} does not sign {roles.zone}"
        return None

    def _remember_refusal(self, zone: str, sender: str) -> None:
        memory = self._ledger.zones.setdefault(zone, ZoneMemory(zone))
        if sender not in memory.refused:
            memory.refused = (*memory.refused, sender)
            self._ledger.touch(memory)

    def _ask_again(self, zone: str, roles: ZoneRoles, now: float) -> None:
        """Ask those for their data whom we, or our combiner, refused under the former roles."""
        memory = self._ledger.zones[zone]
        for identity in memory.refused:
            if roles.provider_of(identity) is not None:
                rfi = Rfi(
                    originator_id=self.identity,
                    your_identity=identity,
                    zone=zone,
                    time=rfc3339(now),
                    rfi_type="SYNC",
                )
                self._sends.append(Send(identity, rfi, self._fresh_id(), durable=True))
        if memory.refused:
            memory.refused = ()
            self._ledger.touch(memory)

    def _take(self, sender: str, sync: Sync, distribution_id: str, checked: Sequence[_Checked], now: float) -> None:
        zone, ledger = sync.zone, self._ledger
        inbound = Inbound(
            sender,
            distribution_id,
            zone,
            sync.nonce,
            now,
            tuple((verb, rrtype, texts) for verb, rrtype, _, texts in checked),
        )
        sent = min(sync.sent_at or 0.0, now + _FUTURE)
        for rrtype in dict.fromkeys(rrtype for _, rrtype, _, _ in checked):
            key = (zone, sender, rrtype)
            mark = ledger.marks.get(key)
            operations = [item for item in checked if item[1] == rrtype]
            if not sent or mark is None or sent >= mark.time:
                if sent or mark is None:
                    self._mark(key, sent)
                removed = self._merge(key, operations, now)
                if removed:
                    inbound.removed[rrtype] = removed
            self._relay(key, inbound, now)
        former = ledger.inbounds.get((sender, distribution_id))
        if former is not None and not inbound.removed and former.operations == inbound.operations:
            inbound.removed = former.removed
        ledger.add_inbound(inbound)
        self._bound_inbounds()
        if not inbound.waits:
            self._confirm(inbound, now)
        elif not any(rrtype == "DNSKEY" for _, rrtype, _, _ in checked):
            confirm = make_confirm(
                self.identity,
                zone,
                distribution_id,
                now,
                status="PENDING",
                nonce=sync.nonce,
                message="stored; waiting for our combiner",
            )
            self._sends.append(Send(sender, confirm, distribution_id))

    def _merge(self, key: SetKey, operations: Sequence[_Checked], now: float) -> tuple[str, ...]:
        """Bring the author's set to what *operations* say; return the texts that left it."""
        ledger = self._ledger
        before = {entry.record.key: entry.record for entry in ledger.present(key)}
        after = dict(before)
        for verb, _, records, _ in operations:
            if verb == "replace":
                after = {octets: self._same(before, record) for octets, record in records.items()}
            elif verb == "add":
                after |= {octets: self._same(before, record) for octets, record in records.items()}
            else:
                after = {octets: record for octets, record in after.items() if octets not in records}
        sequence = ledger.sequence + 1
        gone = [record for octets, record in before.items() if after.get(octets) != record]
        for record in gone:
            self._remove(ledger.set_of(key)[record.text], sequence, now)
        for octets, record in after.items():
            if before.get(octets) != record:
                self._add(key, record, sequence, now)
        return tuple(record.text for record in gone)

    @staticmethod
    def _same(before: Mapping[bytes, ContributedRecord], record: ContributedRecord) -> ContributedRecord:
        """The record as we hold it, if only its spelling differs."""
        former = before.get(record.key)
        return former if former is not None and former.ttl == record.ttl else record

    def _relay(self, key: SetKey, inbound: Inbound, now: float) -> None:
        """See that our combiner has the set, and let *inbound* wait for its answer if need be."""
        entries = self._ledger.set_of(key).values()
        unsettled = [
            entry
            for entry in entries
            if entry.state is not RecordState.REMOVED
            and (
                (answer := entry.answers.get(self.combiner)) is None
                or not answer.final
                or (entry.present and answer.status == "rejected")
            )
        ]
        if not unsettled:
            return
        newest = next((item for item in reversed(self._ledger.of_set(key)) if self.combiner in item.legs), None)
        fresh = any(self.combiner not in entry.answers for entry in unsettled)
        if fresh or newest is None or not newest.legs[self.combiner].awaited:
            newest = self._distribute(key, (self.combiner,), now)
        inbound.waits[key[2]] = newest.sequence

    def _resolve(self, key: SetKey, now: float, answered: int | None = None) -> None:
        """Confirm the messages that waited for what our combiner says about a set.

        :param answered: sequence number of the distribution that it answered; ``None``: see whether all is answered.
        """
        zone, author, rrtype = key
        for inbound in self._ledger.of_author(zone, author):
            waits = inbound.waits.get(rrtype)
            if waits is None:
                continue
            if (answered is None and not self._ledger.awaits(key, self.combiner)) or (
                answered is not None and waits <= answered
            ):
                del inbound.waits[rrtype]
                self._ledger.touch(inbound)
                if not inbound.waits:
                    self._confirm(inbound, now)

    def _confirm(self, inbound: Inbound, now: float) -> None:
        """Give the final CONFIRM: what became of every record in the message, and of those it made leave."""
        applied: dict[str, None] = {}
        removed: dict[str, None] = {}
        ignored: dict[str, None] = {}
        rejected: dict[str, str] = {}
        for verb, rrtype, texts in inbound.operations:
            key = (inbound.zone, inbound.sender, rrtype)
            for text in texts if verb != "delete" else ():
                entry = self._find(key, text)
                answer = entry.answers.get(self.combiner) if entry is not None and entry.present else None
                if answer is not None and answer.status == "accepted":
                    applied[text] = None
                elif answer is not None and answer.status == "rejected":
                    rejected[text] = answer.reason or "refused by our combiner"
                else:  # not published here, or no longer in the author's set
                    ignored[text] = None
            for text in inbound.removed.get(rrtype, ()):
                entry = self._ledger.set_of(key).get(text)
                answer = entry.answers.get(self.combiner) if entry is not None else None
                if entry is not None and entry.present:
                    continue
                if answer is not None and answer.status == "ignored":
                    ignored[text] = None
                elif answer is not None and answer.status == "rejected":
                    rejected[text] = answer.reason or "refused by our combiner"
                else:
                    removed[text] = None
        confirm = make_confirm(
            self.identity,
            inbound.zone,
            inbound.distribution_id,
            now,
            applied=applied,
            removed=removed,
            ignored=ignored,
            rejected=rejected,
        )
        inbound.confirmed = True
        self._ledger.touch(inbound)
        self._sends.append(Send(inbound.sender, confirm, inbound.distribution_id, durable=True))

    def _find(self, key: SetKey, text: str) -> Entry | None:
        """The entry that *text* spells, exactly or in other words."""
        held = self._ledger.set_of(key)
        found = held.get(text)
        if found is not None:
            return found
        try:
            record = read_record(text, key[2], ZoneName(key[0]).owner)
        except RecordError:
            return None
        return next(
            (
                entry
                for entry in held.values()
                if entry.record.key == record.key and entry.record.ttl == record.ttl and entry.present
            ),
            None,
        )

    def _bound_inbounds(self) -> None:
        inbounds = self._ledger.inbounds
        if len(inbounds) > _MAX_INBOUNDS:
            for inbound in [item for item in inbounds.values() if item.confirmed][: len(inbounds) - _MAX_INBOUNDS]:
                self._ledger.drop_inbound(inbound)

    # ================================================================================================ resynchronising

    def edits_received(
        self, zone: str, agent_records: Mapping[str, Mapping[str, Sequence[str]]], now: float
    ) -> list[Action]:
        """What our combiner keeps for a zone (the ``AgentRecords`` of its EDITS).

        Sets that we know at first hand are compared with it, and sent again where it has something else and no message
        is under way: a deleted record does not come back.  Sets that we know nothing of are taken over as they are.
        Our own DNSKEYs, which the combiner does not get, are left alone.

        :param agent_records: originator -> owner -> record texts.
        """
        if self._member(zone) is None:
            self._snapshots[zone] = agent_records
        else:
            self._hydrate(zone, agent_records, now)
        return self._finish(now)

    def _hydrate(self, zone: str, agent_records: Mapping[str, Mapping[str, Sequence[str]]], now: float) -> None:
        roles, apex = self._require(zone), ZoneName(zone).owner
        snapshot: dict[SetKey, dict[bytes, ContributedRecord]] = {}
        for originator, by_owner in agent_records.items():
            for text in (text for texts in by_owner.values() for text in texts):
                try:
                    record = read_any_record(text, apex)
                except RemoteError:
                    continue
                held = snapshot.setdefault((zone, originator, record.rrtype), {})
                held[record.key] = replace(record, text=text)
        known = {key for key, _ in self._ledger.zone_sets(zone)}
        for key in sorted(known | snapshot.keys()):
            originator, rrtype = key[1], key[2]
            if originator == self.combiner or (originator == self.identity and rrtype == "DNSKEY"):
                continue
            kept = snapshot.get(key, {})
            present = {
                entry.record.key: entry.record
                for entry in self._ledger.present(key)
                if (answer := entry.answers.get(self.combiner)) is None or answer.status != "rejected"
            }
            same = {octets: record.ttl for octets, record in kept.items()} == {
                octets: record.ttl for octets, record in present.items()
            }
            if same or self._ledger.awaits(key, self.combiner):
                continue
            if originator != self.identity and roles.provider_of(originator) is None:
                if kept:
                    self._distribute(key, (self.combiner,), now)
            elif key in self._ledger.marks:
                self._push(key, now)
            else:
                self._adopt(key, kept, now)

    def _push(self, key: SetKey, now: float) -> None:
        """Send our combiner a set in which it differs from us."""
        for entry in self._ledger.present(key):
            entry.answers[self.combiner] = Answer("owed", now)
            self._ledger.touch(entry)
        self._distribute(key, (self.combiner,), now)

    def _adopt(self, key: SetKey, kept: Mapping[bytes, ContributedRecord], now: float) -> None:
        """Take over a set that we know nothing of but what our combiner has."""
        zone, originator, rrtype = key
        applies = self._may_apply(zone, rrtype, self.combiner)
        for entry in self._ledger.present(key):
            if entry.record.key not in kept:
                self._ledger.drop(entry)
        present = {entry.record.key for entry in self._ledger.present(key)}
        for octets, record in kept.items():
            if octets in present:
                continue
            state = RecordState.ACCEPTED if applies else RecordState.IGNORED
            answer = Answer("accepted" if applies else "ignored", now)
            self._ledger.put(Entry(zone, originator, record, state, 0, now, answers={self.combiner: answer}))
        if originator == self.identity and kept:
            self._mark(key, 0.0)
        self._tell(ZoneChanged(zone))

    def rfi_sync(self, requester: str, zone: str, now: float) -> list[Action]:
        """*requester* asks for our data of a zone: it gets all five sets, empty ones too, each in a message of its own.

        :raises NotFoundError, NotReadyError, PolicyError: we have no part in the zone; *requester* has none.
        """
        roles = self._require(zone)
        if requester == self.identity or roles.provider_of(requester) is None:
            raise PolicyError(f"{requester} is not another provider of {zone}")
        for rrtype in SYNCHRONISED_TYPES:
            key = (zone, self.identity, rrtype)
            unsettled = self._ledger.awaits(key, requester) or any(
                (answer := entry.answers.get(requester)) is None or not answer.final or answer.status == "rejected"
                for entry in self._ledger.set_of(key).values()
                if entry.state is not RecordState.REMOVED
            )
            if unsettled:
                self._distribute(key, (requester,), now)
                continue
            entries = self._ledger.present(key)
            untracked = Distribution(
                id=self._fresh_id(),
                sequence=0,
                zone=zone,
                originator=self.identity,
                rrtype=rrtype,
                texts=tuple(entry.record.text for entry in entries),
                time=self._stamp(key, now),
                legs={requester: Leg(self._new_nonce(), "owed", now)},
            )
            self._send(untracked, requester)
        return self._finish(now)

    def push(self, zone: str, now: float) -> list[Action]:
        """Send everything again, by order of the operator: our sets to everybody, the others' to our combiner.

        Nobody's records change by it; who has lost something has it again.

        :raises NotFoundError, NotReadyError, PolicyError: we have no part in the zone.
        """
        roles = self._require(zone)
        actions: list[Action] = []
        for identity in roles.identities():
            if identity != self.identity:
                actions += self.rfi_sync(identity, zone, now)
        own = [(zone, self.identity, rrtype) for rrtype in SYNCHRONISED_TYPES if rrtype != "DNSKEY"]
        others = [
            key
            for key, _ in self._ledger.zone_sets(zone)
            if key[1] not in (self.identity, self.combiner) and roles.provider_of(key[1]) is not None
        ]
        for key in dict.fromkeys([*own, *others]):
            self._push(key, now)
        return [*actions, *self._finish(now)]

    # ========================================================================================================= views

    def entries(self, zone: str) -> list[SdeRecord]:
        """The records of a zone, ours and the others', in order of author, type and text."""
        return [
            SdeRecord(
                record=entry.record.text,
                type=entry.record.rrtype,
                originator=entry.originator,
                state=entry.state,
                distribution_id=entry.distribution_id,
                updated_at=entry.updated_at,
                reason=entry.reason,
                key_tag=entry.record.key_tag,
                confirmations=confirmations(entry.answers),
            )
            for _, held in self._ledger.zone_sets(zone)
            for _, entry in sorted(held.items())
        ]

    def transactions(self) -> list[Transaction]:
        """All transactions that are remembered, oldest first."""
        return [self._transaction(change) for change in self._ledger.changes.values()]

    def transaction(self, transaction_id: str) -> Transaction:
        """One transaction; :raises NotFoundError: it is not known, or forgotten."""
        change = self._ledger.changes.get(transaction_id)
        if change is None:
            raise NotFoundError(f"there is no transaction {transaction_id}")
        return self._transaction(change)

    def _transaction(self, change: Change) -> Transaction:
        return Transaction(
            id=change.id,
            zone=change.zone,
            operation=change.operation,
            record=change.text,
            state=change.state,
            reached=next(level for level in (Wait.EVERYWHERE, Wait.COMBINER, Wait.HERE) if level in change.reached),
            created_at=change.created_at,
            distribution_id=change.distribution_id,
            reached_at={level.value: at for level, at in change.reached.items()},
            confirmations=confirmations(change.answers),
            waiting_for=self._waiting_for(change) if change.open else None,
            reason=change.reason,
        )

    def _waiting_for(self, change: Change) -> str | None:
        """Who acts next, in words."""
        words = []
        for name, answer in change.answers.items():
            if not self._counts(change.zone, name):
                continue
            who = f"our combiner {name}" if name == self.combiner else name
            if answer.status == "owed":
                words.append(f"{who} has not acknowledged the message yet")
            elif answer.status == "received":
                theirs = "it" if name == self.combiner else "its combiner"
                words.append(f"{who} has the message, {theirs} has not answered yet")
            elif answer.status == "ignored" and self._may_apply(change.zone, change.rrtype, name):
                words.append(f"{who} keeps the record without publishing it, though its role lets it publish")
        return "; ".join(words) or None

    def _update_changes(self, now: float) -> None:
        """Bring the open changes up to the state of their records."""
        for change in self._ledger.moved_changes():
            before = change.to_value()
            key = (change.zone, self.identity, change.rrtype)
            entry = self._ledger.set_of(key).get(change.text)
            if entry is None or entry.sequence != change.sequence:
                change.state = TransactionState.SUPERSEDED
                change.reason = "a later change of the same record took its place"
            else:
                self._follow(change, entry, now)
            if not change.open:
                self._ledger.close_change(change)
            if change.to_value() != before:
                self._ledger.touch(change)
                self._tell(TransactionChanged(change.id))

    def _follow(self, change: Change, entry: Entry, now: float) -> None:
        change.answers = copy_answers(entry.answers)
        change.distribution_id = entry.distribution_id
        refused = entry.state is RecordState.REJECTED or (
            not entry.present
            and any(
                answer.status == "rejected" for name, answer in entry.answers.items() if self._counts(entry.zone, name)
            )
        )
        own = entry.answers.get(self.combiner)
        if own is not None and own.final and own.status != "rejected":
            change.reached.setdefault(Wait.COMBINER, now)
        if refused:
            change.state, change.reason = TransactionState.REJECTED, entry.reason
        elif entry.state in (RecordState.ACCEPTED, RecordState.IGNORED, RecordState.REMOVED):
            change.reached.setdefault(Wait.COMBINER, now)
            change.reached.setdefault(Wait.EVERYWHERE, now)
            change.state, change.reason = TransactionState.ACCEPTED, entry.reason

    # ======================================================================================================= finish

    def _tell(self, action: Action) -> None:
        self._told[action] = None

    def _finish(self, now: float) -> list[Action]:
        """All that one event led to: what to store, then what to send, then what to tell."""
        self._update_changes(now)
        sends, self._sends = self._sends, []
        told, self._told = self._told, {}
        actions: list[Action] = [*self._ledger.stores(), *sends, *told]
        ledger = self._ledger
        if not self._armed and (ledger.entries or ledger.inbounds or ledger.changes or ledger.distributions):
            self._armed = True
            actions.append(SetTimer(_TIMER, now + (_SLICE_PAUSE if self._round else _TICK)))
        return actions
