"""The gossip table: who says what about whom, for every provider group.

Each member of a group keeps one *row*: its view of every other member.  Beats and their answers carry all rows that
the sender has, so that every member sees the whole N x N matrix.  A group is *operational* when every member says
``OPERATIONAL`` about every other member (guide, wire format, "Gossip").

A row is only as good as its bearer, since it is not signed by its member.  :data:`RULES` says what is taken from
whom.

How a node drives this
----------------------
One table per agent.  Call :meth:`GossipTable.set_groups` when the groups change and :meth:`GossipTable.set_own_states`
before every beat and whenever a peer's state changes; if it returns ``True``, beat all peers within 50 ms.  A beat to
a peer, and the answer to one, carry :meth:`GossipTable.message_for`; compose the answer before merging.  Incoming
gossip goes to :meth:`GossipTable.merge`; then pass each pair of ``leaderships`` to the group's election, and for each
hash in ``changed_groups``, and after a change of our own row, tell the election what
:meth:`GossipTable.operational` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mpcore.errors import MessageError
from mpcore.group.actions import Leadership
from mpcore.group.groups import ProviderGroup
from mpcore.wire.messages import (
    ZERO_TIME,
    GossipElection,
    GossipMessage,
    GossipRow,
    GroupName,
    parse_rfc3339,
    rfc3339,
)

__all__ = ("FUTURE", "OPERATIONAL", "RULES", "GossipTable", "Merge", "Row")

OPERATIONAL: Final = "OPERATIONAL"
"""The one state word that counts as hearing each other."""

FUTURE: Final = 300.0
"""A row that another member passes on may be at most this many seconds ahead of our clock."""

_CLOCK_SET_BACK: Final = 60.0
_SKEW: Final = 60.0
_DEFAULT_INTERVAL: Final = 30.0
_STALE_INTERVALS: Final = 4
_SILENT_INTERVALS: Final = 3
_MAX_ZONES: Final = 1  # a row is sent with every beat, and nobody needs more to know the group
_MAX_WORD: Final = 32

RULES: Final[tuple[tuple[str, str, str], ...]] = (
    ("any", "of a group that we and the sender are not both in", "ignored"),
    ("row", "of an identity that is no member", "ignored"),
    ("row", "ours", "ignored; if its time is later than ours, our next row gets a later time still"),
    ("row", "with an unreadable time", "ignored"),
    ("row", "from its own member", "taken if later than the stored one, or if the member's clock was set back"),
    ("row", "passed on", "taken if later than the stored one and at most 300 s ahead of our clock"),
    ("row", "from its own member, stored one passed on and 60 s or more ahead of our clock", "taken"),
    ("election", "without a leader, or with one that is no voter", "reported as: the sender knows no leader"),
    ("election", "of a voter", "reported to the election, which decides; the table keeps none"),
    ("name", "of a member, not empty", "kept and passed on if its time is the earliest"),
)
"""What is taken from incoming gossip: (part, condition, effect)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one member says about the others.

    :param reporter: the member.
    :param states: member -> state word.
    :param zones: zones that it shares with the group.
    :param timestamp: when it made the row, Unix seconds by its clock; 0: nothing heard yet.
    :param received_at: when we got it, by our clock; ``None``: nothing heard yet.
    :param beat_interval: seconds between its beats; ``None``: it does not say.
    :param direct: it came from the member itself.
    """

    reporter: str
    states: Mapping[str, str]
    zones: tuple[str, ...]
    timestamp: float
    received_at: float | None
    beat_interval: float | None
    direct: bool


@dataclass(frozen=True, slots=True)
class Merge:
    """What a :meth:`GossipTable.merge` has brought.

    :param changed_groups: hashes of the groups in which a row changed.
    :param leaderships: (hash, leadership) for each group that the sender told about; leader ``""``: it knows of none.
    :param skipped: what was not taken although it should be fine, in words; worth a line in the log.
    """

    changed_groups: frozenset[str]
    leaderships: tuple[tuple[str, Leadership], ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stored:
    row: Row
    wire: GossipRow  #: as received, passed on octet for octet
    pass_on: bool


class GossipTable:
    """The matrix of every group that we are a member of.

    :param identity: ours.
    :param beat_interval: seconds between our beats, told to the others.
    """

    def __init__(self, identity: str, beat_interval: float) -> None:
        self._identity = identity
        self._interval = beat_interval
        self._groups: dict[str, ProviderGroup] = {}
        self._rows: dict[str, dict[str, _Stored]] = {}
        self._names: dict[str, GroupName] = {}
        self._states: dict[str, str] | None = None
        self._own_time = 0.0

    @property
    def groups(self) -> Mapping[str, ProviderGroup]:
        """The groups that we are in, by hash."""
        return self._groups

    # ------------------------------------------------------------------------------------------------------- changes

    def set_groups(self, groups: Mapping[str, ProviderGroup], now: float) -> None:
        """Replace the groups; rows of groups that stay are kept, groups that we are not in are left out."""
        self._groups = {key: group for key, group in groups.items() if self._identity in group.members}
        self._rows = {key: self._rows.get(key, {}) for key in self._groups}
        self._names = {key: name for key, name in self._names.items() if key in self._groups}
        if self._states is not None:
            self._write_own(now)

    def set_own_states(self, states: Mapping[str, str], now: float) -> bool:
        """Write our row anew with the time *now*.

        :param states: peer -> state word; a member that is missing counts as ``NEEDED``.
        :return: whether a state in some group is another than before.
        """
        before = {key: self.own_states(key) for key in self._groups}
        self._states = dict(states)
        self._write_own(now)
        return before != {key: self.own_states(key) for key in self._groups}

    def own_states(self, group: str) -> Mapping[str, str]:
        """Our row of a group, as last written."""
        stored = self._rows.get(group, {}).get(self._identity)
        return stored.row.states if stored else {}

    def _write_own(self, now: float) -> None:
        # Microseconds survive the text form, so that the next row is later for every reader.
        self._own_time = max(now, self._own_time + 1e-5)
        text = rfc3339(self._own_time)
        for key, group in self._groups.items():
            states = {
                member: (self._states or {}).get(member, "NEEDED")
                for member in group.members
                if member != self._identity
            }
            wire = GossipRow(
                identity=self._identity,
                peer_states=states,
                zones=list(group.zones[:_MAX_ZONES]),
                timestamp=text,
                beat_interval=round(self._interval),
            )
            row = Row(self._identity, states, group.zones, self._own_time, now, self._interval, True)
            self._rows[key][self._identity] = _Stored(row, wire, True)

    def merge(self, sender: str, gossip: Iterable[GossipMessage], now: float) -> Merge:
        """Take what *sender*, whose signature was checked, says; see :data:`RULES`.

        Nothing in *gossip* makes this fail.
        """
        changed: set[str] = set()
        leaderships: dict[str, Leadership] = {}
        skipped: list[str] = []
        for message in gossip:
            group = self._groups.get(message.group_hash)
            if group is None or sender not in group.members or sender == self._identity:
                continue
            for key, wire in message.members.items():
                known = key in group.members and wire.identity in ("", key)
                if known and self._merge_row(group, sender, key, wire, now):
                    changed.add(group.hash)
            try:
                leaderships[group.hash] = self._told(group, message.election)
                self._merge_name(group, message.group_name, now)
            except MessageError as error:
                skipped.append(f"gossip of {sender}: {error}")
        return Merge(frozenset(changed), tuple(leaderships.items()), tuple(skipped))

    def _merge_row(self, group: ProviderGroup, sender: str, member: str, wire: GossipRow, now: float) -> bool:
        try:
            time = parse_rfc3339(wire.timestamp)
        except MessageError:
            return False
        direct = sender == member
        if member == self._identity:
            if self._own_time < time <= now + FUTURE:
                self._own_time = time
            return False
        if time <= 0 or (not direct and time > now + FUTURE):
            return False
        stored = self._rows[group.hash].get(member)
        if stored is not None:
            before = stored.row
            later = time > before.timestamp
            if direct and not later:
                later = self._set_back(before, time, now) if before.direct else before.timestamp > now + _SKEW
            if not later:
                return False
        states = {
            other: word[:_MAX_WORD]
            for other, word in wire.peer_states.items()
            if other in group.members and other != member
        }
        zones = tuple(zone for zone in wire.zones[:_MAX_ZONES] if zone in group.zones)
        row = Row(member, states, zones, time, now, float(wire.beat_interval) or None, direct)
        clean = GossipRow(
            identity=member,
            peer_states=states,
            zones=list(zones),
            timestamp=wire.timestamp,
            beat_interval=wire.beat_interval,
        )
        self._rows[group.hash][member] = _Stored(row, clean, time <= now + FUTURE)
        return True

    def _set_back(self, before: Row, time: float, now: float) -> bool:
        """Whether a row is older than the stored one because its member's clock was set back, not because it is late.

        A row that was overtaken on its way is older too.  But then the stored one is of our time and the member, which
        writes a new one for each beat, was heard a moment ago.
        """
        if time >= before.timestamp - _CLOCK_SET_BACK:
            return False
        interval = max(before.beat_interval or _DEFAULT_INTERVAL, self._interval)
        silent = now - (before.received_at or 0.0) > _SILENT_INTERVALS * interval
        return silent or before.timestamp > now + _CLOCK_SET_BACK

    def _told(self, group: ProviderGroup, election: GossipElection) -> Leadership:
        leader = election.leader if election.term > 0 and election.leader in group.voters else ""
        return Leadership(leader, election.term, parse_rfc3339(election.leader_expiry) if leader else 0.0)

    def _merge_name(self, group: ProviderGroup, name: GroupName, now: float) -> None:
        if not name.name or name.group_hash != group.hash or name.proposer not in group.members:
            return
        time = parse_rfc3339(name.proposed_at)
        known = self._names.get(group.hash)
        if 0 < time <= now + FUTURE and (known is None or time < parse_rfc3339(known.proposed_at)):
            self._names[group.hash] = name

    # ------------------------------------------------------------------------------------------------------- queries

    def message_for(self, peer: str, elections: Mapping[str, Leadership | None]) -> list[GossipMessage]:
        """What we tell *peer*: one element for each group that both of us are in; ``[]`` if there is none.

        :param elections: hash -> :meth:`Election.announced <mpcore.group.election.Election.announced>`.
        """
        messages = []
        for key, group in sorted(self._groups.items()):
            if peer not in group.members or peer == self._identity:
                continue
            leadership = elections.get(key)
            election = GossipElection()
            if leadership is not None and leadership.term > 0 and leadership.leader:
                election = GossipElection(
                    leader=leadership.leader, term=leadership.term, leader_expiry=rfc3339(leadership.expires)
                )
            messages.append(
                GossipMessage(
                    group_hash=key,
                    group_name=self._names.get(key, GroupName(proposed_at=ZERO_TIME)),
                    members={
                        member: stored.wire for member, stored in sorted(self._rows[key].items()) if stored.pass_on
                    },
                    election=election,
                )
            )
        return messages

    def operational(self, group: str) -> bool:
        """Whether every member says that it hears every other; ``False`` for a group that we do not know."""
        known = self._groups.get(group)
        if known is None:
            return False
        rows = self._rows[group]
        return all(
            reporter in rows
            and all(rows[reporter].row.states.get(other) == OPERATIONAL for other in known.members if other != reporter)
            for reporter in known.members
        )

    def rows(self, group: str) -> list[Row]:
        """One row for each member, in the order of the members; ``[]`` for a group that we do not know."""
        known = self._groups.get(group)
        if known is None:
            return []
        empty: Mapping[str, str] = {}
        rows = self._rows[group]
        return [
            rows[member].row if member in rows else Row(member, empty, (), 0.0, None, None, False)
            for member in known.members
        ]

    def explain(self, group: str, now: float) -> list[str]:
        """Why the group is not operational, and what is odd about its rows, one sentence each."""
        rows = {row.reporter: row for row in self.rows(group)}
        members = list(rows)
        sentences = [
            f"{_short(row.reporter)} has not reported yet: waiting for its first beat"
            for row in rows.values()
            if row.received_at is None
        ]
        for index, left in enumerate(members):
            for right in members[index + 1 :]:
                sentences += self._explain_pair(rows[left], rows[right])
        for row in rows.values():
            if row.received_at is None or row.reporter == self._identity:
                continue
            age = now - row.received_at
            limit = _STALE_INTERVALS * max(row.beat_interval or _DEFAULT_INTERVAL, self._interval)
            if age > limit:
                sentences.append(
                    f"the last report of {_short(row.reporter)} is {age:.0f} s old: what it says may be out of date"
                )
            skew = row.timestamp - row.received_at
            if row.direct and abs(skew) > _SKEW:
                side = "ahead of" if skew > 0 else "behind"
                sentences.append(f"the clock of {_short(row.reporter)} is {abs(skew):.0f} s {side} ours: both need NTP")
        return sentences

    def _explain_pair(self, left: Row, right: Row) -> list[str]:
        one, two = _short(left.reporter), _short(right.reporter)
        forward, backward = left.states.get(right.reporter), right.states.get(left.reporter)
        if left.received_at is None or right.received_at is None:
            return [
                f"{speaker} does not hear {other} ({word or 'no word'}): {_advice(speaker, other, word)}"
                for speaker, other, row, word in ((one, two, left, forward), (two, one, right, backward))
                if row.received_at is not None and word != OPERATIONAL
            ]
        if forward == backward == OPERATIONAL:
            return []
        if OPERATIONAL in (forward, backward):
            hears, deaf, word = (one, two, backward) if forward == OPERATIONAL else (two, one, forward)
            where = f"firewall, published address and port of {hears}, key of {deaf}"
            return [
                f"{hears} hears {deaf}, {deaf} does not hear {hears} ({word or 'no word'}): one-way, "
                f"look at the connections from {deaf} to {hears} ({where})"
            ]
        if forward == backward:
            return [f"{one} and {two} do not hear each other ({forward or 'no word'}): {_advice(one, two, forward)}"]
        sides = "; ".join(
            f"{speaker} says {word or 'nothing'} ({_advice(speaker, other, word)})"
            for speaker, other, word in ((one, two, forward), (two, one, backward))
        )
        return [f"{one} and {two} do not hear each other: {sides}"]


def _short(identity: str) -> str:
    return identity.removesuffix(".") or identity


_ADVICE: Final = {
    "NEEDED": "look at the records and the delegation of {other}'s identity zone",
    "KNOWN": "{other} has not accepted the greeting, look whether its copy of the zone lists {speaker}",
    "INTRODUCED": "no beat has been acknowledged yet",
    "DEGRADED": "beats are overdue, look at the network between them",
    "INTERRUPTED": "nothing for more than ten beats, look whether {other} runs",
    "LEGACY": "they share no zone in {speaker}'s view",
}


def _advice(speaker: str, other: str, word: str | None) -> str:
    return _ADVICE.get(word or "", "the state is unknown").format(speaker=speaker, other=other)
