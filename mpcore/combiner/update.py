"""One UPDATE from an agent: what it changes, and the CONFIRM that says what became of every record.

========  ===========================================================  =================================================
verb      what happens to the author's own set of the type             reported
========  ===========================================================  =================================================
replace   it becomes the records given, save those refused; records    applied: the new records, or, if none is new, all
          given and all refused: nothing happens                       that are held now; removed: what was dropped
add       the records given join it                                    applied: every record given
delete    the records given leave it                                   removed: those that were in it
========  ===========================================================  =================================================

Where the combiner does not publish the type, the set is kept all the same and everything that would be applied or
removed is reported as ignored.  The status follows from the four lists: nothing refused or ignored SUCCESS; only
ignored IGNORED; something applied or removed beside that PARTIAL; else FAILED (guide, wire format, "Confirmations").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mpcore.combiner.contributions import Contribution, Contributions
from mpcore.combiner.policy import CombinerPolicy
from mpcore.errors import RemoteError
from mpcore.sde.confirm import make_confirm
from mpcore.sde.records import RDATA_TYPES, ContributedRecord, read_record
from mpcore.wire.messages import MAX_OPERATIONS, MAX_RECORDS, Confirm, Operation, Update
from mpcore.zone.roles import ZoneRoles

__all__ = ("MAX_AUTHOR_RECORDS", "UpdateResult", "handle_update", "refuse_update")

MAX_AUTHOR_RECORDS: Final = 500
"""Most records of one type that one author may contribute, however many ``add`` operations it sends."""

_VERBS: Final = frozenset({"add", "delete", "replace"})


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What an UPDATE comes to.

    :param confirm: the answer to the agent that delivered it; send it after *dropped* and *stored* are durable.
    :param contributions: the contributions afterwards.
    :param dropped: contributions to delete from the database, before *stored* are written.
    :param stored: contributions to write.
    :param published: mnemonics of the types whose set changed and that this combiner publishes: rebuild the zone.
    """

    confirm: Confirm
    contributions: Contributions
    dropped: tuple[Contribution, ...] = ()
    stored: tuple[Contribution, ...] = ()
    published: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Outcome:
    """The four lists of a CONFIRM, each text once."""

    applied: dict[str, None] = field(default_factory=dict)
    removed: dict[str, None] = field(default_factory=dict)
    ignored: dict[str, None] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)

    def confirm(self, policy: CombinerPolicy, update: Update, distribution_id: str, now: float) -> Confirm:
        parts = (("applied", self.applied), ("removed", self.removed), ("ignored", self.ignored))
        said = [f"{len(texts)} {word}" for word, texts in parts if texts]
        if self.rejected:
            said.append(f"{len(self.rejected)} rejected")
        return make_confirm(
            policy.identity,
            update.zone,
            distribution_id,
            now,
            nonce=update.nonce,
            message=", ".join(said) or "nothing to change",
            applied=self.applied,
            removed=self.removed,
            ignored=self.ignored,
            rejected=self.rejected,
        )


def refuse_update(policy: CombinerPolicy, update: Update, distribution_id: str, now: float, reason: str) -> Confirm:
    """The CONFIRM to an UPDATE that is refused as a whole: status FAILED, *reason* for every record in it.

    :param now: Unix seconds.
    """
    return make_confirm(
        policy.identity,
        update.zone,
        distribution_id,
        now,
        status="FAILED",
        nonce=update.nonce,
        message=reason,
        rejected={text: reason for operation in update.operations for text in operation.records},
    )


def handle_update(
    policy: CombinerPolicy,
    contributions: Contributions,
    sender: str,
    update: Update,
    distribution_id: str,
    roles: ZoneRoles | None,
    now: float,
) -> UpdateResult:
    """Work an UPDATE off.

    A ``publish`` instruction with ``at-apex`` replaces the author's KEY set by its ``key_rrs``, without it the set is
    withdrawn; ``at-ns`` asks for records in zones that a combiner does not have here and does nothing.

    :param contributions: what is kept for the zone of the update.
    :param sender: identity that delivered it (not the author).
    :param roles: of the zone as served now; ``None``: it is no multi-provider zone.
    :param now: Unix seconds.
    """
    refusal = _refusal(policy, sender, update, roles)
    if refusal is not None or roles is None:
        reason = refusal or f"{update.zone} is not a multi-provider zone"
        return UpdateResult(refuse_update(policy, update, distribution_id, now, reason), contributions)
    work = _Work(policy, contributions, update.originator_id, roles, now)
    for operation in update.operations:
        work.perform(operation)
    if update.publish is not None:
        keys = update.publish.key_rrs if "at-apex" in update.publish.locations else []
        work.perform(Operation(operation="replace", rrtype="KEY", records=keys[:MAX_RECORDS]))
    return UpdateResult(
        work.outcome.confirm(policy, update, distribution_id, now),
        work.contributions,
        tuple(work.dropped.values()),
        tuple(work.stored.values()),
        frozenset(work.published),
    )


def _refusal(policy: CombinerPolicy, sender: str, update: Update, roles: ZoneRoles | None) -> str | None:
    if sender not in policy.agents:
        return f"{sender} is not an agent of this combiner"
    if not update.originator_id:
        return "the update names no author"
    if update.zone_class not in ("", "mp"):
        return f"this combiner has no zones of class {update.zone_class}"
    if roles is None:
        return f"{update.zone} is not a multi-provider zone: it has no HSYNC3 and HSYNCPARAM records"
    if policy.agent_in(roles) is None:
        return f"no agent of this combiner is listed in the HSYNC3 records of {update.zone}"
    if not update.operations and update.publish is None:
        return "the update has no operations"
    if len(update.operations) > MAX_OPERATIONS:
        return f"more than {MAX_OPERATIONS} operations"
    return None


class _Work:
    """The state while the operations of one update are worked off."""

    def __init__(
        self, policy: CombinerPolicy, contributions: Contributions, originator: str, roles: ZoneRoles, now: float
    ) -> None:
        self.policy, self.contributions, self.originator = policy, contributions, originator
        self.roles, self.now = roles, now
        self.outcome = _Outcome()
        self.dropped: dict[tuple[str, bytes], Contribution] = {}
        self.stored: dict[tuple[str, bytes], Contribution] = {}
        self.published: set[str] = set()

    def perform(self, operation: Operation) -> None:
        rrtype = operation.rrtype
        problem = None
        if operation.operation not in _VERBS:
            problem = f"unknown operation {operation.operation[:32]!r}"
        elif rrtype not in RDATA_TYPES:
            problem = f"type {rrtype[:32]} is not synchronised; only {', '.join(RDATA_TYPES)} are"
        elif len(operation.records) > MAX_RECORDS:
            problem = f"more than {MAX_RECORDS} records in one operation"
        elif operation.records and operation.operation != "delete":
            problem = self.policy.author_refusal(self.originator, rrtype, self.roles)
        if problem is not None:
            self._reject(operation, problem)
            return
        records = self._checked(operation)
        held = self.contributions.get(self.originator, rrtype)
        if operation.operation == "replace":
            if operation.records and not records:
                return
            self._replace(rrtype, held, records)
        elif operation.operation == "add":
            if len(held.keys() | records.keys()) > MAX_AUTHOR_RECORDS:
                self._reject(operation, f"more than {MAX_AUTHOR_RECORDS} records of one type")
                return
            kept = {**held, **self._kept(held, records)}
            gone = [item.record.text for key, item in held.items() if kept[key] is not item]  # another TTL
            self._store(rrtype, held, kept)
            self._report(rrtype, applied=[record.text for record in records.values()], removed=gone)
        else:
            gone = [record.text for key, record in records.items() if key in held]
            self._store(rrtype, held, {key: item for key, item in held.items() if key not in records})
            self._report(rrtype, removed=gone)

    def _reject(self, operation: Operation, reason: str) -> None:
        texts = operation.records or [f"{operation.operation[:32]} {operation.rrtype[:32]}".strip()]
        for text in texts:
            self.outcome.rejected[text] = reason

    def _checked(self, operation: Operation) -> dict[bytes, ContributedRecord]:
        """The records that pass, by canonical RDATA; the others are rejected."""
        checked: dict[bytes, ContributedRecord] = {}
        for text in operation.records:
            try:
                record = read_record(text, operation.rrtype, self.contributions.zone.owner)
            except RemoteError as error:
                self.outcome.rejected[text] = str(error)
                continue
            reason = None
            if operation.operation != "delete":
                reason = self.policy.record_refusal(self.originator, record)
            if reason is not None:
                self.outcome.rejected[text] = reason
                continue
            checked[record.key] = record
        return checked

    def _kept(
        self, held: Mapping[bytes, Contribution], records: Mapping[bytes, ContributedRecord]
    ) -> dict[bytes, Contribution]:
        """The records as contributions; one that is held with the same TTL stays as it is."""
        result = {}
        for key, record in records.items():
            former = held.get(key)
            same = former is not None and former.record.ttl == record.ttl
            result[key] = former if former is not None and same else Contribution(self.originator, record, self.now)
        return result

    def _replace(
        self, rrtype: str, held: Mapping[bytes, Contribution], records: Mapping[bytes, ContributedRecord]
    ) -> None:
        kept = self._kept(held, records)
        new = [record.text for key, record in records.items() if kept[key] is not held.get(key)]
        gone = [item.record.text for key, item in held.items() if kept.get(key) is not item]
        self._store(rrtype, held, kept)
        self._report(rrtype, applied=new or [record.text for record in records.values()], removed=gone)

    def _store(self, rrtype: str, held: Mapping[bytes, Contribution], new: Mapping[bytes, Contribution]) -> None:
        changed = False
        for key, item in held.items():
            if new.get(key) is not item:
                changed = True
                self.stored.pop((rrtype, key), None)
                self.dropped.setdefault((rrtype, key), item)
        for key, item in new.items():
            if held.get(key) is not item:
                changed = True
                self.stored[rrtype, key] = item
        if not changed:
            return
        self.contributions = self.contributions.with_set(self.originator, rrtype, new)
        if self.policy.publishes(rrtype, self.roles):
            self.published.add(rrtype)

    def _report(self, rrtype: str, applied: Iterable[str] = (), removed: Iterable[str] = ()) -> None:
        if self.policy.publishes(rrtype, self.roles):
            self.outcome.applied.update(dict.fromkeys(applied))
            self.outcome.removed.update(dict.fromkeys(removed))
        else:
            self.outcome.ignored.update(dict.fromkeys((*applied, *removed)))
