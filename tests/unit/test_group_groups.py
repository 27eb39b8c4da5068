"""Provider groups and election messages, against recorded traffic and independently computed hashes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mpcore.group import election, groups
from mpcore.group.ballot import Ballot
from mpcore.group.groups import group_hash, provider_groups
from mpcore.machine import ANY, Transition, allowed, markdown, mermaid
from mpcore.peer import delivery, machine
from mpcore.wire.messages import Rfi, decode_message

ALPHA, BRAVO, CHARLIE = (f"agent.{name}.example." for name in ("alpha", "bravo", "charlie"))
FIXTURES = Path(__file__).parents[1] / "fixtures"


@dataclass(frozen=True)
class Roles:
    zone: str
    on: tuple[str, ...]
    voting: tuple[str, ...] = ()
    off: tuple[str, ...] = ()

    def identities(self, on_only: bool = False) -> tuple[str, ...]:
        return self.on if on_only else self.on + self.off

    def voters(self) -> tuple[str, ...]:
        return self.voting or self.on + self.off


@pytest.mark.parametrize(
    ("identities", "expected"),
    [
        ([ALPHA, BRAVO], "927d37e33fad5dee"),
        ([BRAVO, ALPHA, BRAVO], "927d37e33fad5dee"),
        ([ALPHA, BRAVO, CHARLIE, CHARLIE], "75f2cd57ea88912a"),
        (["agent.Alpha.example.", BRAVO], "e59960d95d505ee5"),
        (["a.", "bb."], "1c1a33172aeca9fa"),
        (["a", "bb"], "94e8ea330bb0f254"),
        (["ab", "b"], "a46df70dc3386b0c"),
    ],
)
def test_group_hash(identities: list[str], expected: str) -> None:
    assert group_hash(identities) == expected


def test_zones_with_the_same_members_form_one_group() -> None:
    found = provider_groups(
        [
            Roles("b.example.", (BRAVO, ALPHA), (ALPHA,)),
            Roles("a.example.", (ALPHA, BRAVO), (BRAVO,)),
            Roles("c.example.", (ALPHA, BRAVO, CHARLIE), (BRAVO, ALPHA)),
        ]
    )
    group = found["927d37e33fad5dee"]
    assert group.members == (ALPHA, BRAVO)
    assert group.voters == (ALPHA, BRAVO)
    assert group.zones == ("a.example.", "b.example.")
    assert (group.zone, group.name) == ("a.example.", "927d37e3")
    assert found["75f2cd57ea88912a"].voters == (ALPHA, BRAVO)
    assert len(found) == 2


def test_providers_that_are_off_do_not_count() -> None:
    assert provider_groups([Roles("a.example.", (ALPHA,), off=(BRAVO,))]) == {}
    (group,) = provider_groups([Roles("a.example.", (ALPHA, CHARLIE), (BRAVO, ALPHA), off=(BRAVO,))]).values()
    assert group.members == (ALPHA, CHARLIE)
    assert group.voters == (ALPHA,)


def test_without_any_voting_role_all_members_vote() -> None:
    (group,) = provider_groups([Roles("a.example.", (ALPHA, CHARLIE), (BRAVO,), off=(BRAVO,))]).values()
    assert group.voters == (ALPHA, CHARLIE)


def test_recorded_election_messages_read_and_write_the_same() -> None:
    recorded = json.loads((FIXTURES / "messages.json").read_text())
    seen = []
    for message in recorded:
        if message["kind"] != "request" or not (message["subtype"] or "").startswith("ELECT-"):
            continue
        rfi = decode_message(message["payload"].encode())
        assert isinstance(rfi, Rfi)
        ballot = Ballot.from_rfi(rfi.rfi_type, rfi.records)
        assert ballot is not None
        assert ballot.rfi_type == rfi.rfi_type
        assert ballot.records() == rfi.records
        assert ballot.value == (ballot.winner if ballot.kind == "CONFIRM" else ballot.vote)
        seen.append(ballot.kind)
    assert sorted(set(seen)) == ["CALL", "CONFIRM", "VOTE"]


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "4294967296", "9" * 400, "１"])
def test_numbers_that_are_none_read_as_zero(text: str) -> None:
    ballot = Ballot.from_rfi("ELECT-CALL", {"_group": ["g"], "_term": [text], "_vote": [text]})
    assert ballot == Ballot("g", "CALL", 0, vote=0)


@pytest.mark.parametrize(
    ("rfi_type", "records"),
    [
        ("SYNC", {"_group": ["g"]}),
        ("ELECT-CALL", {"_term": ["1"], "_vote": ["5"]}),
        ("ELECT-CALL", {"_group": []}),
        ("ELECT-OTHER", {"_group": ["g"]}),
        ("CALL", {"_group": ["g"]}),
    ],
)
def test_other_requests_are_no_ballots(rfi_type: str, records: dict[str, list[str]]) -> None:
    assert Ballot.from_rfi(rfi_type, records) is None


@pytest.mark.parametrize("table", [election.TRANSITIONS, machine.TRANSITIONS, delivery.TRANSITIONS])
def test_tables_make_diagrams(table: tuple[Transition, ...]) -> None:
    diagram = mermaid(table)
    assert diagram.startswith("stateDiagram-v2\n")
    assert diagram.count("-->") == sum(1 for row in table if row.source != row.target)
    assert len(markdown(table).splitlines()) == len(table) + 2
    assert len(set(table)) == len(table)
    assert all((row.source, row.event, row.target) in allowed(table) for row in table)
    sources = {row.source for row in table} - {ANY}
    targets = {row.target for row in table}
    assert sources <= targets | {"idle", "NEEDED", "queued"}, "a state that nothing leads to"


def test_group_rules_are_documented() -> None:
    assert all(what and how for what, how in groups.RULES)
