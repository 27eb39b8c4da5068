"""The whole program, headless: a lab of processes agrees, takes changes, and serves them signed."""

from __future__ import annotations

import pytest

from mpcore.control.models import Wait
from tests.lab.laboratory import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab"), pytest.mark.timeout(120)]


def test_all_agree_on_a_leader(lab: Lab) -> None:
    """The matrix is OPERATIONAL at every agent and one leader is agreed by all, in the same term."""
    agreed = lab.agreed_leader()
    assert agreed is not None
    leader, term = agreed
    assert leader in {provider.agent.identity for provider in lab.providers}
    assert term >= 1


def test_a_name_server_comes_and_goes_everywhere(lab: Lab) -> None:
    """addrr at one provider is ACCEPTED at all and answered, signed, by every signer; delrr likewise."""
    record = f"{lab.zone} 3600 IN NS ns.whole.example."
    alpha = lab.agent("alpha")
    added = alpha.change(lab.zone, "add", record)
    lab.assert_accepted_everywhere("alpha", added)
    lab.assert_served_everywhere(record)
    removed = alpha.change(lab.zone, "delete", record)
    lab.assert_accepted_everywhere("alpha", removed)
    lab.assert_served_everywhere(record, present=False)


def test_waiting_for_dns_means_every_name_server(lab: Lab) -> None:
    """A change reported as visible in DNS is answered by every name server at that moment."""
    record = f"{lab.zone} 3600 IN NS ns.visible.example."
    bravo = lab.agent("bravo")
    for operation, present in (("add", True), ("delete", False)):
        transaction = bravo.change(lab.zone, operation, record)
        done = bravo.wait(transaction, Wait.DNS)
        assert done.reached is Wait.DNS
        lab.assert_served_everywhere(record, present=present)
