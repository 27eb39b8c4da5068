"""Updates against a simple model, the merged zone against the set of contributions, and junk of every kind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.combiner import CombinerPolicy, Contribution, Contributions, handle_update, rebuild
from mpcore.names import ZoneName
from mpcore.sde.records import read_record
from mpcore.wire.messages import Operation, Update
from mpcore.zone.rrset import RRset, parse_record
from mpcore.zone.version import ZoneVersion
from tests.unit.sde_world import ZONE, agent, combiner, key, make_roles, ns

ALPHA, BRAVO = agent("alpha"), agent("bravo")
POLICY = CombinerPolicy(combiner("alpha"), (ALPHA,), ("protected.example.",))
APEX = ZoneName(ZONE).owner
SOA = "example.com. 3600 IN SOA ns1.example.com. host.example.com. 7 1 2 3 4"
OWNER = ZoneVersion.build(
    APEX,
    [(APEX, RRset.make(rdtype, ttl, [rdata])) for _, rdtype, ttl, rdata in map(parse_record, (SOA, ns("ns1.owner.")))],
)
GOOD = [ns(f"ns{n}.{who}.example.", ttl) for n in range(3) for who in ("alpha", "bravo") for ttl in (60, 3600)]
BAD = ["junk", ns("ns1.protected.example."), ns("ns1.alpha.example.", 999999), "www." + ns("ns1.alpha.example.")]

OPERATIONS = st.lists(
    st.builds(
        Operation,
        operation=st.sampled_from(("replace", "add", "delete")),
        rrtype=st.just("NS"),
        records=st.lists(st.sampled_from(GOOD + BAD), max_size=5, unique=True),
    ),
    min_size=1,
    max_size=4,
)
AUTHORS = st.sampled_from((ALPHA, BRAVO))
HISTORY = st.lists(st.tuples(AUTHORS, OPERATIONS, st.booleans()), min_size=1, max_size=6)


def name_of(text: str) -> str:
    return text.rsplit("\t", 1)[-1]


@settings(max_examples=200)
@given(HISTORY)
def test_sets_follow_a_simple_model_and_every_record_is_reported(history) -> None:
    contributions = Contributions(ZONE)
    rows: dict[tuple[str, bytes], str] = {}
    model: dict[str, dict[str, str]] = {ALPHA: {}, BRAVO: {}}
    for author, operations, signs in history:
        roles = make_roles("alpha bravo", "alpha bravo" if signs else "bravo")
        before = {originator: dict(held) for originator, held in model.items()}
        message = Update(originator_id=author, your_identity=POLICY.identity, zone=ZONE, operations=operations)
        result = handle_update(POLICY, contributions, ALPHA, message, "1", roles, 5.0)
        contributions = result.contributions
        for item in result.dropped:
            rows.pop((item.originator, item.record.rdata), None)
        for item in result.stored:
            rows[item.originator, item.record.rdata] = item.record.text
        assert rows == {(item.originator, item.record.rdata): item.record.text for item in contributions}
        held = model[author]
        refused = set()
        for operation in operations:
            bad = {
                text
                for text in operation.records
                if text in BAD and not ("protected" in text and (author == ALPHA or operation.operation == "delete"))
            }
            refused |= bad
            good = {name_of(text): text for text in operation.records if text not in bad}
            if operation.operation == "replace":
                if good or not operation.records:
                    held.clear()
                    held.update(good)
            elif operation.operation == "add":
                held.update(good)
            else:
                for name in good:
                    held.pop(name, None)
        for originator, expected in model.items():
            assert {item.record.text for item in contributions if item.originator == originator} == set(
                expected.values()
            )
        confirm = result.confirm
        assert {item.record for item in confirm.rejected_items} == refused
        given_texts = {text for operation in operations for text in operation.records}
        assert set(confirm.applied_records) | set(confirm.ignored_records) <= given_texts | set(before[author].values())
        if signs:
            assert confirm.ignored_records == []
            gone = {name_of(text) for text in set(before[author].values()) - set(held.values())}
            assert gone <= {name_of(text) for text in confirm.removed_records}
            assert set(held.values()) - set(before[author].values()) <= set(confirm.applied_records)
        else:
            assert confirm.applied_records == confirm.removed_records == []
        assert bool(result.published) <= signs
        others = [other for other in model if other != author]
        assert all(model[other] == before[other] for other in others)


@settings(max_examples=100)
@given(st.lists(st.tuples(AUTHORS, st.sampled_from([*GOOD, key(1), key(2)])), max_size=12), st.randoms())
def test_the_merged_zone_depends_on_the_set_alone(items, random) -> None:
    roles = make_roles("alpha bravo")
    latest = {(author, name_of(text)): text for author, text in items}
    unique = [
        Contribution(author, read_record(text, text.split("\t")[3], APEX), 1.0) for (author, _), text in latest.items()
    ]
    expected = rebuild(OWNER, Contributions(ZONE, unique), roles, POLICY)
    random.shuffle(unique)
    merged = rebuild(OWNER, Contributions(ZONE, unique), roles, POLICY)
    assert list(merged.version.rrsets()) == list(expected.version.rrsets())
    assert merged.origins == expected.origins
    served = {
        text.split("\t")[4]
        for rdtype in (2, 48)
        if (found := merged.version.get(APEX, rdtype))
        for text in found.texts(APEX)
    }
    assert served == {name_of(text) for text in latest.values()} | {"ns1.owner."}
    assert all(reason is None for _, reason in merged.verdicts)
    rebuilt_apex = merged.version.get(APEX, 2)
    assert rebuilt_apex is not None
    assert rebuilt_apex.ttl == min([3600, *(int(t.split("\t")[1]) for t in latest.values() if "\tNS\t" in t)])


JUNK = st.one_of(st.text(max_size=60), st.sampled_from(GOOD + BAD + [key(1)]))


@settings(max_examples=300)
@given(
    st.lists(
        st.builds(
            Operation,
            operation=st.one_of(st.sampled_from(("replace", "add", "delete")), st.text(max_size=9)),
            rrtype=st.one_of(st.sampled_from(("NS", "DNSKEY", "CDS", "KEY", "CSYNC")), st.text(max_size=9)),
            records=st.lists(JUNK, max_size=4),
        ),
        max_size=4,
    ),
    st.one_of(AUTHORS, st.text(max_size=20)),
)
def test_junk_is_answered_and_never_kept(operations, author) -> None:
    message = Update(originator_id=author, your_identity=POLICY.identity, zone=ZONE, operations=operations)
    result = handle_update(POLICY, Contributions(ZONE), ALPHA, message, "1", make_roles("alpha bravo"), 5.0)
    assert result.confirm.status in ("SUCCESS", "PARTIAL", "FAILED", "IGNORED")
    result.confirm.to_json()
    rebuild(OWNER, result.contributions, make_roles("alpha bravo"), POLICY)
    for item in result.contributions:
        assert parse_record(item.record.text) == (APEX, item.record.rdtype, item.record.ttl, item.record.rdata)
