"""Whatever a peer writes into its messages: an answer or a refusal, no other exception, and a state that is kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.errors import MpError
from mpcore.wire.messages import Confirm, Operation, RejectedItem, Sync
from tests.unit.sde_world import ZONE, World, agent, combiner, key, make_roles, ns

ALPHA, BRAVO = agent("alpha"), agent("bravo")
RECORDS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            [ns("ns1.bravo.example."), ns("ns1.alpha.example."), key(1), "example.com. 5 IN NS ns1.bravo.example."]
        ),
    ),
    max_size=4,
)
WORD = st.one_of(st.text(max_size=8), st.sampled_from(["replace", "add", "delete", "NS", "DNSKEY", "KEY", "CDS"]))
SYNCS = st.builds(
    Sync,
    originator_id=st.sampled_from((BRAVO, ALPHA, "x.")),
    your_identity=st.just(ALPHA),
    zone=st.sampled_from((ZONE, "example.net.", "")),
    operations=st.lists(st.builds(Operation, operation=WORD, rrtype=WORD, records=RECORDS), max_size=3),
    time=st.sampled_from(
        ("", "0001-01-01T00:00:00Z", "2026-11-24T02:53:52.081561961Z", "9999-12-31T23:59:59Z", "soon")
    ),
)
CONFIRMS = st.builds(
    Confirm,
    sender_id=st.sampled_from((BRAVO, combiner("alpha"), "")),
    zone=st.sampled_from((ZONE, "", "x.")),
    distribution_id=st.sampled_from([f"{0x6A000000 + n:08x}" for n in range(1, 8)]),
    status=st.one_of(st.text(max_size=9), st.sampled_from(("SUCCESS", "PENDING", "PARTIAL", "IGNORED", "rejected"))),
    applied_records=RECORDS,
    removed_records=RECORDS,
    ignored_records=RECORDS,
    rejected_items=st.lists(
        st.builds(RejectedItem, record=st.text(max_size=9), reason=st.text(max_size=9)), max_size=2
    ),
    rejected_count=st.integers(0, 3),
    truncated=st.booleans(),
)
SNAPSHOTS = st.dictionaries(
    st.sampled_from((ALPHA, BRAVO, combiner("alpha"), "", "x.")),
    st.dictionaries(st.text(max_size=9), RECORDS, max_size=2),
)
SENDERS = st.sampled_from((BRAVO, combiner("alpha"), ALPHA, "x."))


@settings(max_examples=200)
@given(st.lists(st.one_of(st.tuples(SENDERS, SYNCS), st.tuples(SENDERS, CONFIRMS), SNAPSHOTS), max_size=8))
def test_junk_from_peers(messages) -> None:
    world = World(make_roles("alpha bravo"))
    world.change("alpha", "add", ns("ns1.alpha.example."))
    for item in messages:
        engine = world["alpha"]
        try:
            if isinstance(item, dict):
                actions = engine.edits_received(ZONE, item, world.now)
            elif isinstance(item[1], Sync):
                actions = engine.sync_received(item[0], item[1], "0000beef", world.now)
            else:
                actions = engine.confirm_received(item[0], item[1], world.now)
        except MpError:
            continue
        world.perform("alpha", actions)
        before = engine.entries(ZONE)
        world.restart("alpha")
        assert world["alpha"].entries(ZONE) == before
    own = [record for record in world["alpha"].entries(ZONE) if record.originator == ALPHA]
    assert [record.record for record in own] == [ns("ns1.alpha.example.")]
