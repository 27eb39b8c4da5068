"""The gossip table: what is taken from whom, and how a split view reads."""

from __future__ import annotations

import json

import pytest

from mpcore.group.actions import Leadership
from mpcore.group.gossip import FUTURE, GossipTable
from mpcore.group.groups import ProviderGroup, group_hash
from mpcore.wire.messages import Beat, GossipElection, GossipMessage, GossipRow, GroupName, decode_message, rfc3339

ALPHA, BRAVO, CHARLIE, AUDIT = (f"agent.{name}.example." for name in ("alpha", "bravo", "charlie", "watch"))
NOW = 1_780_000_000.0


def group_of(*members: str, voters: tuple[str, ...] = ()) -> ProviderGroup:
    names = tuple(sorted(members))
    return ProviderGroup(group_hash(names), names, voters or names, ("zone.example.",))


GROUP = group_of(ALPHA, BRAVO, CHARLIE, voters=(ALPHA, BRAVO))
HASH = GROUP.hash


def table_of(identity: str = ALPHA, group: ProviderGroup = GROUP) -> GossipTable:
    table = GossipTable(identity, 15)
    table.set_groups({group.hash: group}, NOW)
    return table


def row(
    member: str, at: float, *, word: str = "OPERATIONAL", interval: int = 15, group: ProviderGroup = GROUP
) -> GossipRow:
    states = {other: word for other in group.members if other != member}
    return GossipRow(
        identity=member, peer_states=states, zones=["zone.example."], timestamp=rfc3339(at), beat_interval=interval
    )


def gossip(*rows: GossipRow, group: str = HASH, election: GossipElection | None = None) -> list[GossipMessage]:
    return [
        GossipMessage(
            group_hash=group, members={row.identity: row for row in rows}, election=election or GossipElection()
        )
    ]


def state_of(table: GossipTable, member: str, other: str) -> str | None:
    return {row.reporter: row for row in table.rows(HASH)}[member].states.get(other)


DEPLOYED = """{"MessageType":"beat","MyIdentity":"agent.alpha.example.","YourIdentity":"agent.bravo.example.",
"MyBeatInterval":0,"Zones":["cust.example."],"Time":"2026-05-20T10:00:00.5Z","Gossip":[{"group_hash":"927d37e33fad5dee",
"group_name":{"group_hash":"","name":"","proposer":"","proposed_at":"0001-01-01T00:00:00Z"},
"members":{
"agent.alpha.example.":{"identity":"agent.alpha.example.","peer_states":{"agent.bravo.example.":"OPERATIONAL"},
"zones":["cust.example."],"timestamp":"2026-05-20T10:00:00.5Z"},
"agent.bravo.example.":{"identity":"agent.bravo.example.","peer_states":null,"zones":null,
"timestamp":"2026-05-20T09:59:58Z"}},
"election":{"leader":"agent.alpha.example.","term":3,"leader_expiry":"2026-05-20T10:40:00Z"}}]}"""


def test_gossip_of_the_deployed_implementation() -> None:
    """Two of its forms: a list that is null, a row without an interval."""
    group = group_of(ALPHA, BRAVO)
    table = table_of(BRAVO, group)
    beat = decode_message(DEPLOYED.encode())
    assert isinstance(beat, Beat)
    assert beat.gossip is not None
    at = 1779271201.0
    table.set_own_states({ALPHA: "OPERATIONAL"}, at)
    merge = table.merge(ALPHA, beat.gossip, at)
    assert merge.changed_groups == {group.hash}
    assert merge.leaderships == ((group.hash, Leadership(ALPHA, 3, 1779273600.0)),)
    assert table.operational(group.hash)
    assert table.rows(group.hash)[0].beat_interval is None


def test_own_row_is_written_at_every_call_and_reports_changes() -> None:
    table = table_of()
    assert table.set_own_states({BRAVO: "KNOWN"}, NOW)
    assert not table.set_own_states({BRAVO: "KNOWN"}, NOW + 15)
    assert table.set_own_states({BRAVO: "OPERATIONAL"}, NOW + 16)
    assert table.own_states(HASH) == {BRAVO: "OPERATIONAL", CHARLIE: "NEEDED"}
    (message,) = table.message_for(BRAVO, {})
    own = message.members[ALPHA]
    assert own.time == NOW + 16
    assert own.beat_interval == 15
    assert own.zones == ["zone.example."]


def test_own_times_always_grow_even_if_the_clock_does_not() -> None:
    table = table_of()
    times = []
    for now in (NOW, NOW, NOW - 100, NOW - 50):
        table.set_own_states({}, now)
        times.append(table.message_for(BRAVO, {})[0].members[ALPHA].time)
    assert times == sorted(set(times))


def test_before_our_first_row_the_message_has_no_members() -> None:
    (message,) = table_of().message_for(BRAVO, {})
    assert message.members == {}
    assert json.loads(message.to_json())["election"] == {"leader_expiry": "0001-01-01T00:00:00Z"}
    assert json.loads(message.to_json())["group_name"]["proposed_at"] == "0001-01-01T00:00:00Z"


def test_a_message_is_for_the_groups_that_both_are_in() -> None:
    pair = group_of(ALPHA, CHARLIE)
    foreign = group_of(BRAVO, CHARLIE)
    table = GossipTable(ALPHA, 15)
    table.set_groups({group.hash: group for group in (GROUP, pair, foreign)}, NOW)
    assert {message.group_hash for message in table.message_for(CHARLIE, {})} == {HASH, pair.hash}
    assert {message.group_hash for message in table.message_for(BRAVO, {})} == {HASH}
    assert table.message_for("agent.other.example.", {}) == []
    assert table.message_for(ALPHA, {}) == []
    assert foreign.hash not in table.groups


def test_rows_are_passed_on_octet_for_octet() -> None:
    table = table_of()
    odd = "2026-05-28T22:26:40.123456789+02:00"
    received = row(CHARLIE, NOW).model_copy(update={"timestamp": odd})
    table.merge(CHARLIE, gossip(received), NOW + 1e7)
    assert table.message_for(BRAVO, {})[0].members[CHARLIE].timestamp == odd


def test_later_rows_replace_earlier_ones() -> None:
    table = table_of()
    assert table.merge(BRAVO, gossip(row(CHARLIE, NOW, word="KNOWN")), NOW).changed_groups == {HASH}
    assert not table.merge(BRAVO, gossip(row(CHARLIE, NOW)), NOW).changed_groups
    assert not table.merge(BRAVO, gossip(row(CHARLIE, NOW - 1)), NOW).changed_groups
    assert state_of(table, CHARLIE, ALPHA) == "KNOWN"
    assert table.merge(BRAVO, gossip(row(CHARLIE, NOW + 0.00001)), NOW).changed_groups == {HASH}
    assert state_of(table, CHARLIE, ALPHA) == "OPERATIONAL"


@pytest.mark.parametrize(
    ("sender", "messages"),
    [
        ("agent.other.example.", gossip(row(BRAVO, NOW))),
        (BRAVO, gossip(row(BRAVO, NOW), group="0123456789abcdef")),
        (BRAVO, gossip(row("agent.other.example.", NOW))),
        (BRAVO, gossip(row(BRAVO, NOW).model_copy(update={"timestamp": "yesterday"}))),
        (BRAVO, gossip(row(BRAVO, 0.0))),
        (BRAVO, gossip(row(CHARLIE, NOW + FUTURE + 1))),
        (BRAVO, [GossipMessage(group_hash=HASH, members={BRAVO: row(CHARLIE, NOW)})]),
        (ALPHA, gossip(row(ALPHA, NOW))),
    ],
    ids=["stranger", "group", "member", "time", "zero", "future", "disguised", "ourselves"],
)
def test_what_is_not_taken(sender: str, messages: list[GossipMessage]) -> None:
    table = table_of()
    assert not table.merge(sender, messages, NOW).changed_groups
    assert all(row.received_at is None for row in table.rows(HASH))


def test_nobody_writes_our_row() -> None:
    table = table_of()
    table.set_own_states({BRAVO: "OPERATIONAL"}, NOW)
    assert not table.merge(BRAVO, gossip(row(ALPHA, NOW + 10, word="KNOWN")), NOW + 11).changed_groups
    assert state_of(table, ALPHA, BRAVO) == "OPERATIONAL"


def test_our_next_row_is_later_than_any_copy_that_others_hold() -> None:
    """After our clock was set back, or was ahead before a restart, peers hold rows of ours from the future."""
    table = table_of()
    table.set_own_states({}, NOW)
    table.merge(BRAVO, gossip(row(ALPHA, NOW + 120)), NOW)
    table.set_own_states({}, NOW + 1)
    assert table.message_for(BRAVO, {})[0].members[ALPHA].time > NOW + 120


def test_a_forged_row_from_the_future_does_not_last() -> None:
    table = table_of()
    table.merge(BRAVO, gossip(row(CHARLIE, NOW + FUTURE - 1, word="INTERRUPTED")), NOW)
    assert state_of(table, CHARLIE, ALPHA) == "INTERRUPTED"
    table.merge(CHARLIE, gossip(row(CHARLIE, NOW)), NOW)
    assert state_of(table, CHARLIE, ALPHA) == "OPERATIONAL"


def test_a_member_with_a_wrong_clock_is_heard_from_itself_only() -> None:
    table = table_of()
    ahead = NOW + 10_000
    assert table.merge(CHARLIE, gossip(row(CHARLIE, ahead)), NOW).changed_groups
    assert CHARLIE not in table.message_for(BRAVO, {})[0].members
    assert any("10000 s ahead of ours" in line for line in table.explain(HASH, NOW))
    assert not table.merge(CHARLIE, gossip(row(CHARLIE, ahead - 30)), NOW).changed_groups, "overtaken on the way"
    assert table.merge(CHARLIE, gossip(row(CHARLIE, NOW + 5)), NOW + 5).changed_groups, "its clock was set back"
    assert not any("clock" in line for line in table.explain(HASH, NOW + 5))


def test_a_row_that_was_overtaken_is_not_taken_for_a_clock_that_was_set_back() -> None:
    table = table_of()
    table.merge(CHARLIE, gossip(row(CHARLIE, NOW)), NOW)
    for late in (NOW - 30, NOW - 150, NOW - 10_000):
        assert not table.merge(CHARLIE, gossip(row(CHARLIE, late, word="DEGRADED")), NOW + 1).changed_groups
    assert state_of(table, CHARLIE, ALPHA) == "OPERATIONAL"
    # Nothing newer for more than three intervals: it does speak of the past.
    assert table.merge(CHARLIE, gossip(row(CHARLIE, NOW - 10_000)), NOW + 200).changed_groups


def test_null_and_foreign_states_are_left_out() -> None:
    table = table_of()
    received = row(BRAVO, NOW).model_copy(
        update={"peer_states": {ALPHA: "OPERATIONAL", "x.": "OPERATIONAL", BRAVO: "Y"}}
    )
    table.merge(BRAVO, gossip(received), NOW)
    assert table.message_for(CHARLIE, {})[0].members[BRAVO].peer_states == {ALPHA: "OPERATIONAL"}


def test_operational_needs_every_ordered_pair() -> None:
    table = table_of()
    assert not table.operational(HASH)
    table.set_own_states({BRAVO: "OPERATIONAL", CHARLIE: "OPERATIONAL"}, NOW)
    table.merge(BRAVO, gossip(row(BRAVO, NOW), row(CHARLIE, NOW)), NOW)
    assert table.operational(HASH)
    for member in (BRAVO, CHARLIE):
        table.merge(member, gossip(row(member, NOW + 1, word="DEGRADED")), NOW + 1)
        assert not table.operational(HASH)
        table.merge(member, gossip(row(member, NOW + 2)), NOW + 2)
        assert table.operational(HASH)
    table.set_own_states({BRAVO: "OPERATIONAL"}, NOW + 3)
    assert not table.operational(HASH)
    assert not table.operational("0123456789abcdef")


def test_leaderships_are_reported_not_stored() -> None:
    table = table_of()

    def told(leader: str, term: int) -> Leadership:
        election = GossipElection(leader=leader, term=term, leader_expiry=rfc3339(NOW + 60))
        ((group, leadership),) = table.merge(BRAVO, gossip(election=election), NOW).leaderships
        assert group == HASH
        return leadership

    assert told(BRAVO, 3) == Leadership(BRAVO, 3, NOW + 60)
    assert told(CHARLIE, 3) == Leadership("", 3, 0.0), "an auditor cannot lead"
    assert told("", 4) == Leadership("", 4, 0.0)
    assert told(BRAVO, 0).leader == ""
    assert table.message_for(CHARLIE, {})[0].election == GossipElection()


def test_only_complete_leaderships_are_sent() -> None:
    table = table_of()
    (message,) = table.message_for(BRAVO, {HASH: Leadership(BRAVO, 7, NOW + 60)})
    assert json.loads(message.to_json())["election"] == {
        "leader": BRAVO,
        "term": 7,
        "leader_expiry": rfc3339(NOW + 60),
    }
    for nothing in (None, Leadership("", 7, 0.0), Leadership(BRAVO, 0, NOW + 60)):
        (message,) = table.message_for(BRAVO, {HASH: nothing})
        assert message.election == GossipElection()


def test_bad_times_elsewhere_are_skipped_and_said() -> None:
    table = table_of()
    election = GossipElection(leader=BRAVO, term=3, leader_expiry="soon")
    merge = table.merge(BRAVO, gossip(row(BRAVO, NOW), election=election), NOW)
    assert merge.changed_groups == {HASH}
    assert merge.leaderships == ()
    assert "soon" in merge.skipped[0]


def test_the_earliest_name_proposal_is_passed_on() -> None:
    table = table_of()

    def propose(name: str, proposer: str, at: float) -> str:
        proposal = GroupName(group_hash=HASH, name=name, proposer=proposer, proposed_at=rfc3339(at))
        table.merge(BRAVO, [GossipMessage(group_hash=HASH, group_name=proposal)], NOW)
        return table.message_for(BRAVO, {})[0].group_name.name

    assert propose("late", BRAVO, NOW - 10) == "late"
    assert propose("early", CHARLIE, NOW - 20) == "early"
    assert propose("later", CHARLIE, NOW - 5) == "early"
    assert propose("zero", CHARLIE, 0.0) == "early"
    assert propose("foreign", "x.", NOW - 100) == "early"


def test_groups_that_vanish_take_their_rows_with_them() -> None:
    table = table_of()
    table.set_own_states({BRAVO: "OPERATIONAL"}, NOW)
    table.merge(BRAVO, gossip(row(BRAVO, NOW)), NOW)
    table.set_groups({}, NOW)
    assert table.rows(HASH) == []
    table.set_groups({HASH: GROUP}, NOW + 1)
    assert [row.received_at for row in table.rows(HASH)] == [NOW + 1, None, None]


# --------------------------------------------------------------------------------------------------- in words


def test_a_working_group_needs_no_words() -> None:
    table = table_of()
    table.set_own_states({BRAVO: "OPERATIONAL", CHARLIE: "OPERATIONAL"}, NOW)
    table.merge(BRAVO, gossip(row(BRAVO, NOW), row(CHARLIE, NOW)), NOW)
    assert table.explain(HASH, NOW + 5) == []


def test_one_way_is_explained() -> None:
    pair = group_of(ALPHA, BRAVO)
    table = table_of(ALPHA, pair)
    table.set_own_states({BRAVO: "OPERATIONAL"}, NOW)
    table.merge(BRAVO, gossip(row(BRAVO, NOW, word="DEGRADED", group=pair), group=pair.hash), NOW)
    (line,) = table.explain(pair.hash, NOW)
    assert line.startswith(
        "agent.alpha.example hears agent.bravo.example, agent.bravo.example does not hear agent.alpha.example "
        "(DEGRADED): one-way, look at the connections from agent.bravo.example to agent.alpha.example"
    )


def test_silence_deafness_age_and_skew_are_explained() -> None:
    table = table_of()
    table.set_own_states({BRAVO: "NEEDED", CHARLIE: "DEGRADED"}, NOW)
    lines = table.explain(HASH, NOW)
    assert "agent.bravo.example has not reported yet: waiting for its first beat" in lines
    assert any("does not hear agent.bravo.example (NEEDED): look at the records" in line for line in lines)
    table.merge(BRAVO, gossip(row(BRAVO, NOW - 200, word="DEGRADED")), NOW)
    table.merge(CHARLIE, gossip(row(CHARLIE, NOW, word="DEGRADED")), NOW)
    lines = table.explain(HASH, NOW + 500)
    assert any("the last report of agent.charlie.example is 500 s old" in line for line in lines)
    assert any("the clock of agent.bravo.example is 200 s behind ours" in line for line in lines)
    assert any(
        "agent.alpha.example and agent.charlie.example do not hear each other (DEGRADED)" in line for line in lines
    )
    assert any(
        "agent.alpha.example says NEEDED" in line and "agent.bravo.example says DEGRADED" in line for line in lines
    )
    assert table.explain("0123456789abcdef", NOW) == []
