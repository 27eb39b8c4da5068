"""Knot and BIND as the owner's primary of a combiner process: they hold the private types, and tell of changes."""

from __future__ import annotations

import dns.message
import dns.query
import dns.rdatatype
import pytest

from mpcore.records import HSYNCPARAM
from tests.lab.laboratory import eventually, records
from tests.peers.processes import DaemonProcess, generic, multi_provider_records, server
from tests.peers.servers import KEY, Bind, Knot, NameServer, Remote, Zone

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]

ZONE = "customer.example."
#: The refresh timer is long: what arrives sooner came because of a NOTIFY.
TEXT = "\n".join(
    [
        f"{ZONE} 3600 SOA ns.owner.example. hostmaster.{ZONE} 1 86400 3600 604800 60",
        f"{ZONE} 3600 NS ns.owner.example.",
        f"www.{ZONE} 300 A 192.0.2.80",
        *multi_provider_records(ZONE),
        "",
    ]
)
CONTRIBUTED = "ns.alpha.example."


def _octets(address: str, port: int, rdtype: int) -> set[bytes]:
    """RDATA of an RRset at the apex, as octets."""
    query = dns.message.make_query(ZONE, dns.rdatatype.RdataType.make(rdtype))
    answer = dns.query.udp(query, address, port=port, timeout=2)
    return {rdata.to_wire() or b"" for rrset in answer.answer for rdata in rrset}


@pytest.mark.parametrize("kind", [Knot, Bind], ids=["knot", "bind"])
def test_a_zone_of_a_real_primary(kind: type[NameServer]) -> None:
    """Loaded with its private types, merged with contributions, followed by NOTIFY, kept when it becomes nonsense."""
    combiner = DaemonProcess("combiner", [])
    notified = Remote(combiner.address, combiner.port, KEY)
    with kind([Zone(ZONE, text=TEXT, notify=(notified,))]) as primary:
        combiner.zones.append({"name": ZONE, "primaries": [server(primary.address, primary.port)]})
        with combiner, combiner.agent as agent:
            control = combiner.control

            def served(name: str, rdtype: str) -> list[str]:
                return records(combiner.address, combiner.port, name, rdtype)

            eventually(lambda: served(ZONE, "SOA"), "the zone is loaded")
            for rdtype in (65285, 65286):
                own = _octets(primary.address, primary.port, rdtype)
                assert own
                assert _octets(combiner.address, combiner.port, rdtype) == own
            (zone,) = control.zones()
            assert (zone.state, zone.label, zone.signers) == ("ready", "alpha", ("alpha", "bravo"))

            # A contribution is merged with the owner's own name server.
            name = agent.new_id()
            rcode, answer = agent.send(agent.update(ZONE, "add", f"{ZONE} 3600 IN NS {CONTRIBUTED}"), name)
            assert (rcode, answer.status if answer else "") == (0, "pending")
            assert agent.wait_for_confirm(name).status == "SUCCESS"
            assert served(ZONE, "NS") == [CONTRIBUTED, "ns.owner.example."]

            # A change of the owner's is picked up; the contribution stays.
            primary.update(ZONE, f"add new.{ZONE} 300 A 192.0.2.81", f"add {ZONE} 3600 NS ns2.owner.example.")
            eventually(lambda: served(f"new.{ZONE}", "A") == ["192.0.2.81"], "the change came by NOTIFY")
            assert served(ZONE, "NS") == [CONTRIBUTED, "ns.owner.example.", "ns2.owner.example."]

            # Two HSYNCPARAM records say two things: the version in service stays, and somebody is told.
            second = HSYNCPARAM.make(nsmgmt="owner", parentsync="owner", servers=["bravo"], signers=["bravo"])
            nonsense = generic(ZONE, 65286, second.to_wire())
            before = served(ZONE, "SOA")
            assert control.status().warnings == ()
            primary.update(ZONE, f"add {nonsense}", f"add late.{ZONE} 300 A 192.0.2.82")
            (warning,) = eventually(lambda: control.status().warnings, "a warning")
            assert ZONE in warning
            assert "HSYNCPARAM" in warning
            assert "HSYNCPARAM" in (control.zones()[0].error or "")
            assert served(ZONE, "SOA") == before
            assert served(f"late.{ZONE}", "A") == []
            assert served(ZONE, "NS") == [CONTRIBUTED, "ns.owner.example.", "ns2.owner.example."]
            name = agent.new_id()
            agent.send(agent.update(ZONE, "add", f"{ZONE} 3600 IN NS ns2.alpha.example."), name)
            assert agent.wait_for_confirm(name).status == "SUCCESS", "the roles in force are those of the old version"

            # Mended: everything arrives.
            primary.update(ZONE, f"delete {nonsense.replace(' 3600 ', ' ')}")
            eventually(lambda: served(f"late.{ZONE}", "A") == ["192.0.2.82"], "the mended zone is served")
            assert control.status().warnings == ()
            assert served(ZONE, "NS") == sorted(
                [CONTRIBUTED, "ns2.alpha.example.", "ns.owner.example.", "ns2.owner.example."]
            )
