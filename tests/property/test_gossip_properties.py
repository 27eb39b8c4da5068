"""Gossip converges whatever the order, and nothing that a sender writes makes a table fail or forge a row."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from mpcore.group.gossip import GossipTable
from mpcore.group.groups import ProviderGroup, group_hash
from mpcore.wire.messages import GossipElection, GossipMessage, GossipRow, GroupName, rfc3339

NAMES = tuple(f"agent.{letter}.example." for letter in "abcd")
GROUP = ProviderGroup(group_hash(NAMES), NAMES, NAMES[:3], ("zone.example.",))
NOW = 1_780_000_000.0
WORDS = st.sampled_from(["OPERATIONAL", "DEGRADED", "NEEDED", ""])


def table_of(identity: str) -> GossipTable:
    table = GossipTable(identity, 15)
    table.set_groups({GROUP.hash: GROUP}, NOW)
    return table


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=40),
    st.lists(st.tuples(st.sampled_from(NAMES), WORDS), max_size=12),
    st.randoms(use_true_random=False),
)
def test_tables_converge(exchanges: list[tuple[str, str]], changes: list[tuple[str, str]], random: object) -> None:
    """Rows travel over any path and in any order; once everybody has beaten everybody, all tables are the same."""
    tables = {name: table_of(name) for name in NAMES}
    now = NOW
    for index, (sender, receiver) in enumerate(exchanges):
        now += 0.25
        if index < len(changes):
            name, word = changes[index]
            tables[name].set_own_states(dict.fromkeys(NAMES, word), now)
        if sender != receiver:
            tables[receiver].merge(sender, tables[sender].message_for(receiver, {}), now)
    for name, table in tables.items():
        now += 0.25
        table.set_own_states({other: "OPERATIONAL" for other in NAMES if other != name}, now)
    for sender in NAMES:
        for receiver in NAMES:
            if sender != receiver:
                tables[receiver].merge(sender, tables[sender].message_for(receiver, {}), now + 1)
    views = {
        tuple((row.reporter, row.timestamp, tuple(sorted(row.states.items()))) for row in table.rows(GROUP.hash))
        for table in tables.values()
    }
    assert len(views) == 1
    assert all(table.operational(GROUP.hash) for table in tables.values())
    assert all(table.explain(GROUP.hash, now + 2) == [] for table in tables.values())


TEXTS = st.text(max_size=20)
TIMES = st.one_of(
    TEXTS, st.floats(-1e6, 1e6).map(lambda offset: rfc3339(NOW + offset)), st.just("0001-01-01T00:00:00Z")
)
IDENTITIES = st.one_of(st.sampled_from(NAMES), TEXTS)
ROWS = st.builds(
    GossipRow,
    identity=IDENTITIES,
    peer_states=st.dictionaries(IDENTITIES, st.one_of(WORDS, TEXTS), max_size=5),
    zones=st.lists(TEXTS, max_size=3),
    timestamp=TIMES,
    beat_interval=st.integers(0, 0xFFFFFFFF),
)
MESSAGES = st.builds(
    GossipMessage,
    group_hash=st.sampled_from([GROUP.hash, "0123456789abcdef"]),
    group_name=st.builds(GroupName, group_hash=st.just(GROUP.hash), name=TEXTS, proposer=IDENTITIES, proposed_at=TIMES),
    members=st.dictionaries(IDENTITIES, ROWS, max_size=5),
    election=st.builds(GossipElection, leader=IDENTITIES, term=st.integers(0, 0xFFFFFFFF), leader_expiry=TIMES),
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(IDENTITIES, st.lists(MESSAGES, max_size=4))
def test_no_sender_harms_a_table(sender: str, gossip: list[GossipMessage]) -> None:
    table = table_of(NAMES[0])
    own = dict.fromkeys(NAMES[1:], "OPERATIONAL")
    table.set_own_states(own, NOW)
    merge = table.merge(sender, gossip, NOW)
    assert table.own_states(GROUP.hash) == own
    assert [row.reporter for row in table.rows(GROUP.hash)] == list(NAMES)
    for row in table.rows(GROUP.hash):
        assert set(row.states) <= set(NAMES) - {row.reporter}
    for group, leadership in merge.leaderships:
        assert group == GROUP.hash
        assert leadership.leader in ("", *GROUP.voters)
    assert table.explain(GROUP.hash, NOW + 1) is not None
    table.set_own_states(own, NOW + 1)
    for message in table.message_for(NAMES[1], {}):
        message.check_times()
        assert message.members[NAMES[0]].time >= NOW + 1
        assert message.members[NAMES[0]].time <= NOW + 302
