"""The merged zone, where its records come from, and what the agent is told about the delegation."""

from __future__ import annotations

import random

import dns.dnssec
import dns.rdata

from mpcore.combiner import CombinerPolicy, Contribution, Contributions, rebuild, status_updates
from mpcore.names import ZoneName
from mpcore.sde.records import read_record
from mpcore.zone import owners
from mpcore.zone.roles import Provider, ZoneRoles
from mpcore.zone.rrset import RRset, parse_record, type_from_text
from mpcore.zone.version import ZoneVersion

ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."
POLICY = CombinerPolicy("combiner.alpha.example.", (ALPHA,))
PROVIDERS = (Provider("alpha", ALPHA, True, ""), Provider("bravo", BRAVO, True, ""))
ROLES = ZoneRoles("example.com.", PROVIDERS, "agent", "agent", ("alpha", "bravo"), ("alpha", "bravo"))
APEX = ZoneName("example.com.").owner
KSK = "example.com.\t3600\tIN\tDNSKEY\t257 3 15 xwqzTHp/INVu1M4UPCEVE4gaMccD8HU9T1nMvvBfGdg="
ZSK = "example.com.\t300\tIN\tDNSKEY\t256 3 15 /9Hduc7UGD5u9M0gONh2NA/dYFiHKv9o5btySudnpN4="


def zone(*lines: str) -> ZoneVersion:
    records: dict[tuple[bytes, int], tuple[int, list[bytes]]] = {}
    for line in ("example.com. 3600 IN SOA ns1.example.com. host.example.com. 7 1 2 3 4", *lines):
        owner, rdtype, ttl, rdata = parse_record(line)
        records.setdefault((owner, rdtype), (ttl, []))[1].append(rdata)
    return ZoneVersion.build(
        APEX, [(owner, RRset.make(rdtype, ttl, rdatas)) for (owner, rdtype), (ttl, rdatas) in records.items()]
    )


def give(*items: tuple[str, str, str]) -> Contributions:
    return Contributions(
        "example.com.",
        [
            Contribution(author, read_record(text, rrtype, APEX), 10.0 + n)
            for n, (author, rrtype, text) in enumerate(items)
        ],
    )


def apex(version: ZoneVersion, rrtype: str) -> tuple[int, set[str]]:
    rrset = version.get(version.origin, type_from_text(rrtype))
    return (0, set()) if rrset is None else (rrset.ttl, {text.split("\t")[4] for text in rrset.texts(version.origin)})


OWNER = zone(
    "example.com. 3600 IN NS ns1.alpha.example.",
    "example.com. 3600 IN NS ns1.bravo.example.",
    "example.com. 3600 IN DNSKEY 257 3 15 hc/vVHX8Z8pA+N9uCmwyfqELvC0r4sQS7cUiXVv+yrI=",
    "www.example.com. 60 IN A 192.0.2.1",
)


def ns(author: str, name: str, ttl: int = 300) -> tuple[str, str, str]:
    return author, "NS", f"example.com.\t{ttl}\tIN\tNS\t{name}"


def test_name_servers_join_the_owners_under_the_lowest_ttl() -> None:
    merged = rebuild(OWNER, give(ns(ALPHA, "ns2.alpha.example."), ns(BRAVO, "NS1.alpha.example.", 900)), ROLES, POLICY)
    assert apex(merged.version, "NS") == (300, {"ns1.alpha.example.", "ns1.bravo.example.", "ns2.alpha.example."})
    assert merged.origins == {(APEX, 2, parse_record(". 0 IN NS ns2.alpha.example.")[3]): ALPHA}
    assert merged.version.serial == 7
    assert merged.version.node(owners.from_text("www.example.com.")) == OWNER.node(owners.from_text("www.example.com."))


def test_keys_replace_the_owners() -> None:
    merged = rebuild(OWNER, give((BRAVO, "DNSKEY", KSK), (BRAVO, "DNSKEY", ZSK)), ROLES, POLICY)
    assert apex(merged.version, "DNSKEY") == (300, {KSK.split("\t")[4], ZSK.split("\t")[4]})
    assert set(merged.origins.values()) == {BRAVO}
    assert apex(rebuild(OWNER, give(), ROLES, POLICY).version, "DNSKEY") == apex(OWNER, "DNSKEY")


def test_without_contributions_the_owners_version_is_served() -> None:
    assert rebuild(OWNER, give(), ROLES, POLICY).version is OWNER
    assert rebuild(OWNER, give(ns(ALPHA, "ns2.alpha.example.")), None, POLICY).version is OWNER


def test_roles_decide_what_is_published_and_why_not() -> None:
    given = give(ns(ALPHA, "ns2.alpha.example."), (BRAVO, "DNSKEY", KSK))
    signer_is_bravo = ZoneRoles("example.com.", PROVIDERS, "agent", "agent", ("alpha", "bravo"), ("bravo",))
    merged = rebuild(OWNER, given, signer_is_bravo, POLICY)
    assert merged.version is OWNER
    assert [reason is None for _, reason in merged.verdicts] == [False, False]
    owner_manages = ZoneRoles("example.com.", PROVIDERS, "owner", "owner", ("alpha", "bravo"), ("alpha", "bravo"))
    merged = rebuild(OWNER, given, owner_manages, POLICY)
    assert {item.record.rrtype: reason is None for item, reason in merged.verdicts} == {"NS": False, "DNSKEY": True}


def test_who_has_left_is_not_published() -> None:
    only_alpha = ZoneRoles("example.com.", PROVIDERS[:1], "agent", "agent", ("alpha",), ("alpha",))
    merged = rebuild(OWNER, give(ns(ALPHA, "ns2.alpha.example."), ns(BRAVO, "ns2.bravo.example.")), only_alpha, POLICY)
    assert "ns2.bravo.example." not in apex(merged.version, "NS")[1]
    assert "ns2.alpha.example." in apex(merged.version, "NS")[1]


def test_one_csync() -> None:
    older = (ALPHA, "CSYNC", "example.com.\t120\tIN\tCSYNC\t2026112408 0 A NS AAAA")
    newer = (BRAVO, "CSYNC", "example.com.\t120\tIN\tCSYNC\t2026112409 0 A NS AAAA")
    for given in (give(older, newer), give(newer, older)):
        merged = rebuild(OWNER, given, ROLES, POLICY)
        assert apex(merged.version, "CSYNC") == (120, {"2026112409 0 A NS AAAA"})
        assert {item.originator for item, reason in merged.verdicts if reason is None} == {BRAVO}


def test_the_result_does_not_depend_on_the_order_of_events() -> None:
    items = [ns(author, f"ns{n}.example.net.", 100 + n) for n in range(6) for author in (ALPHA, BRAVO)]
    items += [(BRAVO, "DNSKEY", KSK), (ALPHA, "DNSKEY", ZSK), (ALPHA, "DNSKEY", KSK)]
    expected = rebuild(OWNER, give(*items), ROLES, POLICY)
    for seed in range(20):
        shuffled = items[:]
        random.Random(seed).shuffle(shuffled)
        merged = rebuild(OWNER, give(*shuffled), ROLES, POLICY)
        assert list(merged.version.rrsets()) == list(expected.version.rrsets())
        assert merged.origins == expected.origins


def test_the_agent_is_told_of_name_servers_and_key_signing_keys() -> None:
    new = rebuild(OWNER, give(ns(ALPHA, "ns2.alpha.example."), (BRAVO, "DNSKEY", KSK)), ROLES, POLICY).version
    ns_changed, ksk_changed = status_updates(OWNER, new, POLICY, ALPHA, 1e9)
    assert (ns_changed.sub_type, ns_changed.sender, ns_changed.your_identity) == ("ns-changed", POLICY.identity, ALPHA)
    assert {text.split("\t")[4] for text in ns_changed.ns_records} == apex(new, "NS")[1]
    assert ksk_changed.sub_type == "ksk-changed"
    judge = dns.dnssec.make_ds("example.com.", dns.rdata.from_text("IN", "DNSKEY", KSK.split("\t")[4]), "SHA256")
    owner, ttl, _, _, text = ksk_changed.ds_records[0].split("\t")
    assert (owner, ttl, text) == ("example.com.", "3600", judge.to_text().upper())


def test_the_agent_is_not_told_of_other_changes() -> None:
    with_zsk = rebuild(OWNER, give((BRAVO, "DNSKEY", KSK)), ROLES, POLICY).version
    more = rebuild(OWNER, give((BRAVO, "DNSKEY", KSK), (BRAVO, "DNSKEY", ZSK)), ROLES, POLICY).version
    assert status_updates(with_zsk, more, POLICY, ALPHA, 1e9) == []
    assert status_updates(None, more, POLICY, ALPHA, 1e9) == []
