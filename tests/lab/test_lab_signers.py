"""Labs of other shapes: a provider that does not sign, two providers, eight."""

from __future__ import annotations

import re
import subprocess

import pytest

from mpcore.control.models import RecordState, TransactionState, Wait
from tests.lab.laboratory import Control, Lab, ask, eventually, records

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def _whole_zone(lab: Lab, address: str) -> list[str]:
    """Lines of a zone by AXFR, transferred with kdig and the lab's key of the provider at *address*."""
    provider = next(provider for provider in lab.providers if provider.signer.address == address)
    text = (lab.directory / provider.label / "tsig.yaml").read_text()
    key = dict(re.findall(r"(name|algorithm|secret): (\S+)", text))
    done = subprocess.run(
        [
            "kdig",
            f"@{address}",
            "-p",
            str(lab.port),
            "-y",
            f"{key['algorithm']}:{key['name']}:{key['secret']}",
            # The signer lets its agent and its secondaries transfer.
            "-b",
            provider.agent.address,
            lab.zone,
            "AXFR",
            "+noall",
            "+answer",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]


def test_a_provider_that_does_not_sign() -> None:
    """Charlie serves what alpha signs, may submit name servers, and its own combiner's IGNORED is final."""
    with Lab("--signers", "alpha,bravo") as lab:
        lab.wait_until_settled()
        alpha, charlie = lab.provider("alpha"), lab.provider("charlie")
        assert lab.combiner("alpha").zones()[0].signers == ("alpha", "bravo")
        assert {key.foreign for key in lab.signer("alpha").keys(lab.zone)} == {False, True}
        assert [key for key in lab.signer("charlie").keys(lab.zone) if not key.foreign] == []

        record = f"{lab.zone} 3600 IN NS ns.signers.example."
        agent = lab.agent("charlie")
        added = agent.change(lab.zone, "add", record)
        lab.assert_accepted_everywhere("charlie", added)
        lab.assert_served_everywhere(record)
        done = agent.transaction(added.id)
        assert {each.recipient: each.status for each in done.confirmations} == {
            alpha.agent.identity: "accepted",
            lab.provider("bravo").agent.identity: "accepted",
            charlie.combiner.identity: "ignored",
        }
        held = lab.combiner("charlie").contributions(lab.zone).records
        assert [(item.applied, item.originator) for item in held if item.type == "NS"] == [
            (False, charlie.agent.identity)
        ]
        assert "ns.signers.example." not in records(charlie.combiner.address, lab.port, lab.zone, "NS")

        # The very zone that alpha signed, record by record, and no other.
        eventually(
            lambda: (
                ask(charlie.signer.address, lab.port, lab.zone, "SOA").answer
                == ask(alpha.signer.address, lab.port, lab.zone, "SOA").answer
            ),
            "charlie has alpha's serial",
        )
        assert sorted(_whole_zone(lab, charlie.signer.address)) == sorted(_whole_zone(lab, alpha.signer.address))

        # A signer of the zone that dies takes nothing with it, and its follower keeps serving.
        lab.kill("alpha.signer")
        assert "ns.signers.example." in records(charlie.signer.address, lab.port, lab.zone, "NS")
        removed = agent.change(lab.zone, "delete", record)
        lab.start("alpha.signer")
        lab.assert_accepted_everywhere("charlie", removed)
        lab.assert_served_everywhere(record, present=False)

        # A name server of alpha's reaches charlie as well.
        record = f"{lab.zone} 3600 IN NS ns.upstream.example."
        other = lab.agent("alpha")
        added = other.change(lab.zone, "add", record)
        lab.assert_accepted_everywhere("alpha", added)
        lab.assert_served_everywhere(record)
        lab.assert_clean_logs()


@pytest.mark.parametrize("count", [2, 8])
def test_any_number_of_providers(count: int) -> None:
    """Two and eight providers agree on a leader and carry a change to every signer."""
    with Lab("--providers", str(count)) as lab:
        assert len(lab.providers) == count
        lab.wait_until_settled(within=90)  # eight providers are 25 processes
        record = f"{lab.zone} 3600 IN NS ns.many.example."
        label = lab.providers[-1].label
        added = lab.agent(label).change(lab.zone, "add", record)
        done = lab.agent(label).wait(added, Wait.EVERYWHERE)
        assert done.state is TransactionState.ACCEPTED
        states = dict.fromkeys([provider.label for provider in lab.providers], RecordState.ACCEPTED)
        eventually(
            lambda: lab.states(record, Control(lab.providers[-1].agent).daemon.identity) == states,
            "ACCEPTED at every provider",
        )
        lab.assert_served_everywhere(record)
        lab.assert_clean_logs()
