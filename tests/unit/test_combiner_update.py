"""UPDATE to CONFIRM: the lists, the status, the policy; also against what the deployed implementation answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpcore.combiner import CombinerPolicy, Contributions, handle_update, refuse_update
from mpcore.wire.messages import Confirm, Operation, Publish, Update, decode_message
from mpcore.zone.roles import Provider, ZoneRoles

ALPHA, BRAVO, AUDIT = "agent.alpha.example.", "agent.bravo.example.", "audit.example."
POLICY = CombinerPolicy("combiner.alpha.example.", (ALPHA,), ("alpha.example.",))
ROLES = ZoneRoles(
    zone="example.com.",
    providers=(
        Provider("alpha", ALPHA, True, ""),
        Provider("bravo", BRAVO, True, ""),
        Provider("audit", AUDIT, True, ""),
        Provider("delta", "agent.delta.example.", True, "alpha"),
    ),
    nsmgmt="agent",
    parentsync="agent",
    servers=("alpha", "bravo", "delta"),
    signers=("alpha", "bravo"),
    auditors=("audit",),
)
UNSIGNED = ZoneRoles("example.com.", ROLES.providers, "agent", "owner", servers=("alpha", "bravo"))
NON_SIGNER = ZoneRoles("example.com.", ROLES.providers, "agent", "agent", ("alpha", "bravo"), ("bravo",))
MESSAGES = json.loads((Path(__file__).parents[1] / "fixtures" / "messages.json").read_text())
KEY = "example.com.\t3600\tIN\tDNSKEY\t257 3 15 xwqzTHp/INVu1M4UPCEVE4gaMccD8HU9T1nMvvBfGdg="


def ns(name: str, ttl: int = 3600) -> str:
    return f"example.com.\t{ttl}\tIN\tNS\t{name}"


def update(*operations: tuple[str, str, list[str]], author: str = ALPHA, **more) -> Update:
    return Update(
        originator_id=author,
        your_identity=POLICY.identity,
        zone="example.com.",
        operations=[Operation(operation=verb, rrtype=rrtype, records=records) for verb, rrtype, records in operations],
        nonce="n" * 32,
        **more,
    )


class Combiner:
    """Contributions and the last confirmation."""

    def __init__(self, roles: ZoneRoles | None = ROLES, policy: CombinerPolicy = POLICY) -> None:
        self.roles, self.policy = roles, policy
        self.contributions = Contributions("example.com.")
        self.rows: dict[tuple, str] = {}

    def apply(
        self, *operations: tuple[str, str, list[str]], author: str = ALPHA, sender: str = ALPHA, **more
    ) -> Confirm:
        return self.take(update(*operations, author=author, **more), sender)

    def take(
        self, message: Update, sender: str = ALPHA, distribution_id: str = "6b04fc27", now: float = 1e9
    ) -> Confirm:
        result = handle_update(self.policy, self.contributions, sender, message, distribution_id, self.roles, now)
        self.published = result.published
        for item in result.dropped:
            self.rows.pop((item.originator, item.record.rdtype, item.record.rdata), None)
        for item in result.stored:
            self.rows[item.originator, item.record.rdtype, item.record.rdata] = item.record.text
        self.contributions = result.contributions
        assert self.rows == {
            (item.originator, item.record.rdtype, item.record.rdata): item.record.text for item in self.contributions
        }
        return result.confirm

    def texts(self, author: str = ALPHA) -> list[str]:
        return sorted(item.record.text for item in self.contributions if item.originator == author)


def lists(confirm: Confirm) -> tuple[str, list[str], list[str], list[str], list[str]]:
    assert confirm.applied_count == len(confirm.applied_records)
    assert confirm.removed_count == len(confirm.removed_records)
    assert confirm.ignored_count == len(confirm.ignored_records)
    assert confirm.rejected_count == len(confirm.rejected_items)
    assert all(item.reason for item in confirm.rejected_items)
    return (
        confirm.status,
        confirm.applied_records,
        confirm.removed_records,
        confirm.ignored_records,
        [item.record for item in confirm.rejected_items],
    )


A, B, C = ns("ns1.alpha.example."), ns("ns2.alpha.example."), ns("ns3.alpha.example.")


def test_replace_reports_what_is_new_or_else_everything_held() -> None:
    combiner = Combiner()
    confirm = combiner.apply(("replace", "NS", [A, B]))
    assert lists(confirm) == ("SUCCESS", [A, B], [], [], [])
    assert (confirm.sender_id, confirm.zone, confirm.distribution_id) == (POLICY.identity, "example.com.", "6b04fc27")
    assert (confirm.nonce, confirm.timestamp) == ("n" * 32, 10**9)
    assert combiner.published == {"NS"}
    assert lists(combiner.apply(("replace", "NS", [A, B, C]))) == ("SUCCESS", [C], [], [], [])
    assert lists(combiner.apply(("replace", "NS", [A, B]))) == ("SUCCESS", [A, B], [C], [], [])
    assert lists(combiner.apply(("replace", "NS", [A, B]))) == ("SUCCESS", [A, B], [], [], [])
    assert combiner.published == frozenset()
    assert lists(combiner.apply(("replace", "NS", []))) == ("SUCCESS", [], [A, B], [], [])
    assert lists(combiner.apply(("replace", "NS", []))) == ("SUCCESS", [], [], [], [])
    assert combiner.texts() == []


def test_add_reports_all_given_and_delete_what_was_there() -> None:
    combiner = Combiner()
    assert lists(combiner.apply(("add", "NS", [A]))) == ("SUCCESS", [A], [], [], [])
    assert lists(combiner.apply(("add", "NS", [A, B]))) == ("SUCCESS", [A, B], [], [], [])
    assert lists(combiner.apply(("delete", "NS", [B, C]))) == ("SUCCESS", [], [B], [], [])
    assert lists(combiner.apply(("delete", "NS", [C]))) == ("SUCCESS", [], [], [], [])
    assert combiner.texts() == [A]


def test_operations_of_one_update_work_on_each_other() -> None:
    combiner = Combiner()
    combiner.apply(("add", "NS", [A]))
    assert lists(combiner.apply(("delete", "NS", [A]), ("add", "NS", [A, B]), ("delete", "NS", [B]))) == (
        "SUCCESS",
        [A, B],
        [A, B],
        [],
        [],
    )
    assert combiner.texts() == [A]


def test_another_ttl_takes_the_place_of_the_record() -> None:
    combiner = Combiner()
    combiner.apply(("replace", "NS", [A]))
    short = ns("ns1.alpha.example.", 60)
    assert lists(combiner.apply(("replace", "NS", [short]))) == ("SUCCESS", [short], [A], [], [])
    assert combiner.texts() == [short]


def test_records_are_echoed_as_they_were_spelled() -> None:
    combiner = Combiner()
    combiner.apply(("replace", "NS", [A]))
    spelled = "EXAMPLE.com. 3600   IN NS ns1.Alpha.example."
    assert lists(combiner.apply(("replace", "NS", [spelled]))) == ("SUCCESS", [spelled], [], [], [])
    assert len(combiner.contributions) == 1


def test_authors_do_not_touch_each_others_sets() -> None:
    combiner = Combiner()
    combiner.apply(("replace", "NS", [A]))
    theirs = ns("ns1.bravo.example.")
    combiner.apply(("replace", "NS", [theirs]), author=BRAVO)
    combiner.apply(("replace", "NS", []))
    assert combiner.texts(BRAVO) == [theirs]
    assert combiner.contributions.snapshot() == {BRAVO: {"example.com.": [theirs]}}
    assert combiner.contributions.originators() == (BRAVO,)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("example.com.\t3600\tIN\tA\t192.0.2.1", "has type A"),
        ("www.example.com.\t3600\tIN\tNS\tns1.alpha.example.", "not the apex"),
        ("example.com.\t604801\tIN\tNS\tns1.alpha.example.", "TTL"),
        ("example.com.\t4294967295\tIN\tNS\tns1.alpha.example.", "TTL"),
        ("example.com.\t3600\tCH\tNS\tns1.alpha.example.", ""),
        ("example.com.\t3600\tIN\tNS", ""),
        ("", ""),
        ("example.com.\t3600\tIN\tNS\tns1.alpha.example.\nexample.com.\t3600\tIN\tNS\tns2.alpha.example.", ""),
    ],
)
def test_bad_records_are_rejected_one_by_one(record: str, reason: str) -> None:
    combiner = Combiner()
    combiner.apply(("add", "NS", [C]))
    confirm = combiner.apply(("replace", "NS", [A, record]))
    assert lists(confirm) == ("PARTIAL", [A], [C], [], [record])
    assert reason in confirm.rejected_items[0].reason
    assert lists(combiner.apply(("replace", "NS", [record]))) == ("FAILED", [], [], [], [record])
    assert combiner.texts() == [A]


@pytest.mark.parametrize(
    ("verb", "rrtype"), [("insert", "NS"), ("REPLACE", "NS"), ("add", "TXT"), ("add", "ns"), ("add", "TYPE65999")]
)
def test_unknown_verbs_and_types_reject_the_operation(verb: str, rrtype: str) -> None:
    combiner = Combiner()
    assert lists(combiner.apply((verb, rrtype, [A]))) == ("FAILED", [], [], [], [A])
    assert lists(combiner.apply((verb, rrtype, [])))[0] == "FAILED"
    assert lists(combiner.apply((verb, rrtype, [A]), ("add", "NS", [B]))) == ("PARTIAL", [B], [], [], [A])


def test_unusable_keys_are_rejected() -> None:
    combiner = Combiner()
    for key in ("256 2 15 AAAA", "0 3 15 AAAA", "256 3 15 "):
        text = f"example.com.\t3600\tIN\tDNSKEY\t{key}"
        assert lists(combiner.apply(("add", "DNSKEY", [text]))) == ("FAILED", [], [], [], [text])


def test_dnskeys_only_from_signers_where_they_are_published() -> None:
    combiner = Combiner()
    assert lists(combiner.apply(("replace", "DNSKEY", [KEY]), author=BRAVO)) == ("SUCCESS", [KEY], [], [], [])
    assert lists(combiner.apply(("replace", "DNSKEY", [KEY]), author="agent.delta.example."))[0] == "FAILED"
    assert lists(combiner.apply(("replace", "DNSKEY", []), author="agent.delta.example."))[0] == "SUCCESS"
    keeps = Combiner(NON_SIGNER)
    assert lists(keeps.apply(("replace", "DNSKEY", [KEY]), author=ALPHA)) == ("IGNORED", [], [], [KEY], [])


def test_name_servers_in_protected_name_spaces() -> None:
    combiner = Combiner()
    evil, fine = ns("ns9.Alpha.example."), ns("ns9.notalpha.example.")
    assert lists(combiner.apply(("replace", "NS", [evil, fine]), author=BRAVO)) == ("PARTIAL", [fine], [], [], [evil])
    assert lists(combiner.apply(("replace", "NS", [evil]), author=ALPHA))[0] == "SUCCESS"


def test_what_is_not_published_is_kept_and_ignored() -> None:
    combiner = Combiner(NON_SIGNER)
    assert lists(combiner.apply(("replace", "NS", [A, B]))) == ("IGNORED", [], [], [A, B], [])
    assert combiner.published == frozenset()
    assert lists(combiner.apply(("replace", "NS", [A]))) == ("IGNORED", [], [], [A, B], [])
    assert lists(combiner.apply(("delete", "NS", [A]))) == ("IGNORED", [], [], [A], [])
    bad = ns("nope", 700000)
    assert lists(combiner.apply(("replace", "NS", [A, bad]))) == ("FAILED", [], [], [A], [bad])
    assert combiner.texts() == [A]
    cds = "example.com.\t60\tIN\tCDS\t1 13 2 " + "00" * 32
    assert lists(Combiner(UNSIGNED).apply(("add", "CDS", [cds]), ("add", "NS", [A]))) == (
        "PARTIAL",
        [A],
        [],
        [cds],
        [],
    )


def test_auditors_and_strangers_contribute_nothing_but_may_withdraw() -> None:
    combiner = Combiner()
    for author in (AUDIT, "agent.nobody.example.", POLICY.identity):
        assert lists(combiner.apply(("replace", "NS", [A]), author=author)) == ("FAILED", [], [], [], [A])
        assert lists(combiner.apply(("replace", "NS", []), author=author))[0] == "SUCCESS"


def test_updates_that_are_refused_as_a_whole() -> None:
    for combiner, message, sender in (
        (Combiner(None), update(("add", "NS", [A])), ALPHA),
        (Combiner(), update(("add", "NS", [A])), BRAVO),
        (Combiner(), update(("add", "NS", [A]), author=""), ALPHA),
        (Combiner(), update(("add", "NS", [A]), zone_class="provider"), ALPHA),
        (Combiner(policy=CombinerPolicy("c.example.", ("agent.other.example.",))), update(("add", "NS", [A])), "x."),
    ):
        confirm = combiner.take(message, sender)
        assert lists(confirm) == ("FAILED", [], [], [], [A])
        assert confirm.message
        assert combiner.texts() == []
    assert lists(Combiner().apply()) == ("FAILED", [], [], [], [])
    assert refuse_update(POLICY, update(), "1", 5.0, "not loaded").status == "FAILED"


def test_one_author_has_at_most_500_records_of_a_type() -> None:
    combiner = Combiner()
    combiner.apply(("add", "NS", [ns(f"n{n}.example.net.") for n in range(499)]))
    assert lists(combiner.apply(("add", "NS", [A, B]))) == ("FAILED", [], [], [], [A, B])
    assert lists(combiner.apply(("add", "NS", [A])))[0] == "SUCCESS"


def test_publish_instructions_replace_the_key() -> None:
    combiner = Combiner()
    key = "example.com.\t3600\tIN\tKEY\t512 3 15 q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
    confirm = combiner.apply(publish=Publish(key_rrs=[key], locations=["at-apex", "at-ns"]))
    assert lists(confirm) == ("SUCCESS", [key], [], [], [])
    assert lists(combiner.apply(publish=Publish(locations=[]))) == ("SUCCESS", [], [key], [], [])


def _recorded(kind: str, **wanted: str) -> list[dict]:
    return [m for m in MESSAGES if m["kind"] == "request" and m["type"] == kind and wanted.items() <= m.items()]


@pytest.mark.parametrize("provider", ["alpha", "bravo"])
def test_the_same_answers_as_the_deployed_implementation(provider: str) -> None:
    """Recorded UPDATEs, in order, give the recorded CONFIRMs."""
    identity = f"combiner.{provider}.example."
    agent = f"agent.{provider}.example."
    confirms = {
        m["qname"][:8]: decode_message(m["payload"].encode())
        for m in _recorded("confirm", sender=identity, receiver=agent)
    }
    combiner = Combiner(policy=CombinerPolicy(identity, (agent,)))
    compared = 0
    for m in _recorded("update", sender=agent, receiver=identity):
        message = decode_message(m["payload"].encode())
        assert isinstance(message, Update)
        if message.zone != "example.com.":
            continue
        ours = combiner.take(message, agent, m["qname"][:8], m["time"])
        theirs = confirms.get(m["qname"][:8])
        if isinstance(theirs, Confirm):
            assert ours.model_copy(update={"message": ""}) == theirs.model_copy(update={"message": ""})
            compared += 1
    assert compared
