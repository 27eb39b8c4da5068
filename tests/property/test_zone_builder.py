"""Records make the same zone in whatever order they come, and the tree made of them is as good as any."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcore.errors import ZoneError
from mpcore.zone import owners
from mpcore.zone.tree import Tree, TreeBuilder
from mpcore.zone.version import ZoneBuilder, ZoneVersion, diff

ORIGIN = owners.from_text("example.")
SOA = owners.from_text("ns.example.") + owners.from_text("hm.example.") + bytes(20)


def records_of(names: int) -> list[tuple[bytes, int, int, bytes]]:
    records = [(ORIGIN, 6, 300, SOA), (ORIGIN, 2, 300, owners.from_text("ns.example."))]
    for number in range(names):
        owner = owners.from_text(f"{'sub.' if number % 5 == 0 else ''}host{number}.example.")
        records += [(owner, 1, 60, bytes((192, 0, 2, last))) for last in range(1 + number % 3)]
        records.append((owner, 16, 60 + number % 2, b"\4text"))
    return records


def build(records: list[tuple[bytes, int, int, bytes]]) -> ZoneVersion:
    builder = ZoneBuilder(ORIGIN)
    for record in records:
        builder.add(*record)
    version = builder.finish()
    with pytest.raises(ZoneError):
        builder.finish()  # empty
    return version


@given(names=st.integers(0, 400), seed=st.integers(0, 1000), swaps=st.integers(0, 3000))
def test_the_order_of_records_does_not_matter(names: int, seed: int, swaps: int) -> None:
    records = sorted(records_of(names), key=lambda record: owners.relative_key(record[0], ORIGIN) or b"")
    expected = build(records)
    random = Random(seed)
    shuffled = [*records, *random.choices(records, k=min(swaps, len(records)))]  # duplicates count once
    for _ in range(swaps):
        one, other = random.randrange(len(shuffled)), random.randrange(len(shuffled))
        shuffled[one], shuffled[other] = shuffled[other], shuffled[one]
    version = build(shuffled)
    assert diff(expected, version) == []
    assert version.record_count == expected.record_count == len(records)
    assert list(version.owners()) == list(expected.owners())


@given(keys=st.sets(st.binary(min_size=1, max_size=3), max_size=500), probes=st.lists(st.binary(max_size=3)))
def test_a_tree_from_its_builder_is_a_tree(keys: set[bytes], probes: list[bytes]) -> None:
    builder = TreeBuilder()
    ordered = sorted(keys)
    for key in ordered:
        assert builder.append(key, key * 2)
        assert not builder.append(key, b"")
    for probe in (*probes, *ordered[::50]):
        assert builder.get(probe) == (probe * 2 if probe in keys else None)
    tree = builder.finish()
    assert list(tree.items()) == [(key, key * 2) for key in ordered]
    expected = Tree.build([(key, key * 2) for key in ordered])
    assert list(expected.difference(tree)) == []
    changes = [(probe, b"new") for probe in dict.fromkeys(probes)]
    assert list(tree.apply(changes).items()) == list(expected.apply(changes).items())


@given(
    first=st.dictionaries(st.binary(min_size=1, max_size=2), st.binary(max_size=1), max_size=600),
    changes=st.lists(st.dictionaries(st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=1)), max_size=4),
)
def test_the_difference_of_related_trees_is_what_changed(
    first: dict[bytes, bytes], changes: list[dict[bytes, bytes | None]]
) -> None:
    old = Tree.build(sorted(first.items()))
    new, content = old, dict(first)
    for change in changes:
        new = new.apply(change.items())
        for key, value in change.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
    expected = [
        (key, first.get(key), content.get(key))
        for key in sorted(first.keys() | content.keys())
        if first.get(key) != content.get(key)
    ]
    assert list(old.difference(new)) == expected
    assert [(key, after, before) for key, before, after in new.difference(old)] == expected
    assert old.is_near(new, 10_000)
    assert old.is_near(old, 0)
