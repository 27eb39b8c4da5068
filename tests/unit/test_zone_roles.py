"""Roles from HSYNC3 and HSYNCPARAM: the truth tables, and what makes a zone unusable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpcore.errors import ZoneError
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.roles import SYNCHRONISED_TYPES, Provider, ZoneRoles
from mpcore.zone.transfer import InboundAxfr

HEAD = "@ 300 SOA ns1 host 7 3600 600 86400 300\n@ 300 NS ns1\n"
ALPHA, BRAVO, CHARLIE, AUDIT = "agent.alpha.", "agent.bravo.", "agent.charlie.", "audit."


def roles(*lines: str) -> ZoneRoles | None:
    return ZoneRoles.from_version(
        read_master_text(HEAD + "".join(f"@ 300 {line}\n" for line in lines), "cust.example.")
    )


def standard(param: str) -> ZoneRoles:
    found = roles(
        f"HSYNC3 ON alpha {ALPHA} .",
        f"HSYNC3 ON bravo. {BRAVO} alpha",
        f"HSYNC3 OFF charlie {CHARLIE} .",
        f"HSYNC3 ON aud {AUDIT} .",
        f"HSYNCPARAM {param}",
    )
    assert found is not None
    return found


SIGNED = 'nsmgmt="agent" parentsync="agent" servers="alpha,bravo" signers="alpha,charlie" auditors="aud"'
UNSIGNED = 'nsmgmt="agent" parentsync="owner" servers="alpha,bravo" auditors="aud"'


def test_who_is_who() -> None:
    found = standard(SIGNED)
    assert found.zone == "cust.example."
    assert set(found.providers) == {
        Provider("alpha", ALPHA, True, ""),
        Provider("bravo", BRAVO, True, "alpha"),
        Provider("charlie", CHARLIE, False, ""),
        Provider("aud", AUDIT, True, ""),
    }
    assert found.label_of(BRAVO) == "bravo"
    assert found.identity_of("bravo.") == BRAVO
    assert found.label_of("Agent.bravo.") is None
    assert (found.is_signer(ALPHA), found.is_signer(BRAVO), found.is_server(BRAVO)) == (True, False, True)
    assert found.is_auditor(AUDIT)
    assert found.signed
    assert found.other_signers(ALPHA) == (CHARLIE,)
    assert set(found.identities()) == {ALPHA, BRAVO, CHARLIE, AUDIT}
    assert CHARLIE not in found.identities(on_only=True)


def test_voters_serve_or_sign_and_stay_and_without_any_all_vote() -> None:
    assert set(standard(SIGNED).voters()) == {ALPHA, BRAVO}
    assert set(standard('auditors="aud"').voters()) == {ALPHA, BRAVO, AUDIT}


@pytest.mark.parametrize(
    ("param", "identity", "options"),
    [
        (SIGNED, ALPHA, ("multi-provider", "multi-signer")),
        (SIGNED, BRAVO, ("mp-disallow-edits", "multi-provider")),
        (SIGNED, AUDIT, ("mp-disallow-edits", "multi-provider")),
        (SIGNED, "else.", ("mp-not-listed-error", "multi-provider")),
        (UNSIGNED, ALPHA, ("multi-provider",)),
        (UNSIGNED, CHARLIE, ("mp-disallow-edits", "multi-provider")),
        ('signers="alpha"', ALPHA, ("multi-provider",)),
    ],
)
def test_derived_options(param: str, identity: str, options: tuple[str, ...]) -> None:
    assert standard(param).options(identity) == options


@pytest.mark.parametrize(
    ("param", "identity", "applied"),
    [
        (SIGNED, ALPHA, {"NS", "KEY", "DNSKEY", "CDS", "CSYNC"}),
        (SIGNED, BRAVO, set()),
        (SIGNED, AUDIT, set()),
        (UNSIGNED, BRAVO, {"NS"}),
        ('parentsync="agent" servers="alpha"', ALPHA, {"KEY"}),
        ('signers="alpha"', ALPHA, {"DNSKEY"}),
        (SIGNED, "else.", set()),
    ],
)
def test_what_a_combiner_publishes(param: str, identity: str, applied: set[str]) -> None:
    found = standard(param)
    assert {rrtype for rrtype in SYNCHRONISED_TYPES if found.can_apply(rrtype, identity)} == applied
    for rrtype in SYNCHRONISED_TYPES:
        assert (identity in found.appliers(rrtype)) == (rrtype in applied)


@pytest.mark.parametrize(
    ("param", "identity", "submitted"),
    [
        (SIGNED, ALPHA, {"NS", "KEY", "DNSKEY", "CDS", "CSYNC"}),
        (SIGNED, BRAVO, {"NS", "KEY"}),  # it may offer what it does not publish itself
        (SIGNED, AUDIT, set()),
        (SIGNED, "else.", set()),
        (UNSIGNED, ALPHA, {"NS"}),
        ('nsmgmt="owner" signers="alpha"', ALPHA, {"DNSKEY"}),
    ],
)
def test_what_a_provider_may_offer(param: str, identity: str, submitted: set[str]) -> None:
    found = standard(param)
    reasons = {rrtype: found.can_submit(rrtype, identity) for rrtype in SYNCHRONISED_TYPES}
    assert {rrtype for rrtype, reason in reasons.items() if reason is None} == submitted
    assert all(reason is None or "cust.example." in reason for reason in reasons.values())
    assert "not synchronised" in (found.can_submit("mx", identity) or "")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["HSYNC3 ON a a.x. .", "HSYNCPARAM signers=a", "HSYNCPARAM signers=b"], "2 HSYNCPARAM"),
        (["HSYNC3 ON a a.x. .", "HSYNC3 ON a. b.x. .", "HSYNCPARAM"], "label a twice"),
        (["HSYNC3 ON a a.x. .", "HSYNC3 ON A b.x. .", "HSYNCPARAM"], "differs only in case"),
        (["HSYNC3 ON a a.x. .", "HSYNC3 ON b a.x. .", "HSYNCPARAM"], "identity a.x. twice"),
        (["HSYNC3 ON a a.x. .", "HSYNC3 ON b A.x. .", "HSYNCPARAM"], "differs only in case"),
        (["HSYNC3 ON a a.x. b", "HSYNCPARAM"], "unknown upstream b"),
        (["HSYNC3 ON a a.x. .", "HSYNCPARAM signers=A"], "differ only in case"),
        (["TYPE65285 \\# 1 01", "HSYNCPARAM"], "truncated"),
        (["TYPE65285 \\# 8 020161016100012e", "HSYNCPARAM"], "state 2"),
        (["HSYNC3 ON a . .", "HSYNCPARAM"], "faulty name"),
    ],
)
def test_contradictions_are_named(lines: list[str], reason: str) -> None:
    with pytest.raises(ZoneError, match=reason):
        roles(*lines)


def test_a_zone_without_the_records_is_no_shared_zone() -> None:
    assert roles() is None
    assert roles(f"HSYNC3 ON a {ALPHA} .") is None
    assert roles("HSYNCPARAM signers=a") is None


def test_the_recorded_zones_have_the_recorded_roles() -> None:
    recorded = json.loads((Path(__file__).parent.parent / "fixtures" / "transfers.json").read_text())
    seen = {}
    for entry in recorded:
        inbound = InboundAxfr(owners.from_text(entry["zone"]), int(entry["messages"][0][:4], 16))
        for message in entry["messages"]:
            inbound.feed(bytes.fromhex(message))
        seen[entry["what"]] = ZoneRoles.from_version(inbound.version)
    audited = seen["customer zone with auditor"]
    assert audited is not None
    assert {provider.label for provider in audited.providers} == {"alpha", "bravo", "auditor"}
    assert audited.signers == audited.servers == ("alpha", "bravo")
    assert audited.auditors == ("auditor",)
    assert seen["identity zone of agent alpha"] is None
