"""Knot and NSD as secondaries of a signer process, told by NOTIFY, and independent verdicts on what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dns.dnssec
import dns.message
import dns.name
import dns.query
import pytest

from tests.lab.laboratory import delv, eventually, records
from tests.peers.processes import DaemonProcess, multi_provider_records, server
from tests.peers.servers import KEY, Knot, NameServer, Nsd, Remote, Zone

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]

ZONE = "customer.example."
TEXT = "\n".join(
    [
        f"{ZONE} 3600 SOA ns.owner.example. hostmaster.{ZONE} 1 86400 3600 604800 60",
        f"{ZONE} 3600 NS ns.alpha.example.",
        f"www.{ZONE} 300 A 192.0.2.80",
        f'*.wild.{ZONE} 300 TXT "wildcard"',
        f'a.b.c.{ZONE} 300 TXT "empty non-terminals above"',
        f"sub.{ZONE} 300 NS ns.sub.{ZONE}",
        f"ns.sub.{ZONE} 300 A 192.0.2.53",
        f"alias.{ZONE} 300 CNAME www.{ZONE}",
        *multi_provider_records(ZONE, signers=("alpha",)),
        "",
    ]
)


def _transfer(signer: DaemonProcess, source: str, file: Path) -> None:
    """AXFR with kdig, into a master file; the signer wants the key and the address of one of its secondaries."""
    key = f"{KEY.algorithm}:{KEY.bare}:{KEY.secret}"
    command = ["kdig", f"@{signer.address}", "-p", str(signer.port), "-b", source, "-y", key]
    done = subprocess.run(
        [*command, ZONE, "AXFR", "+noall", "+answer"], capture_output=True, text=True, timeout=20, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(";")]
    assert lines[0] == lines[-1], "a transfer ends with the SOA that it began with"
    file.write_text("\n".join(lines[:-1]) + "\n")


def _judges(file: Path) -> None:
    """ldns and BIND find the zone completely and correctly signed."""
    for command in (["ldns-verify-zone", str(file)], ["dnssec-verify", "-o", ZONE, str(file)]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}\n{file.read_text()}"


def _anchors(address: str, port: int) -> str:
    """The key-signing keys served there, as trust anchors of delv."""
    query = dns.message.make_query(ZONE, "DNSKEY")
    answer = dns.query.tcp(query, address, port=port, timeout=2)
    name = dns.name.from_text(ZONE)
    lines = []
    for key in answer.answer[0]:
        if key.flags & 1:  # secure entry point
            tag, algorithm, digest, octets = dns.dnssec.make_ds(name, key, "SHA256").to_text().split()
            lines.append(f'{ZONE} static-ds {tag} {algorithm} {digest} "{octets}";\n')
    assert lines
    return "".join(lines)


@pytest.mark.parametrize("kind", [Knot, Nsd], ids=["knot", "nsd"])
def test_a_real_secondary(kind: type[NameServer], tmp_path: Path) -> None:
    """It learns of each version by NOTIFY, transfers with TSIG, and serves the signed zone with the private types."""
    signer = DaemonProcess("signer", [])
    with Knot([Zone(ZONE, text=TEXT, notify=(Remote(signer.address, signer.port, KEY),))]) as primary:
        secondary = kind([Zone(ZONE, primary=Remote(signer.address, signer.port, KEY))])
        zone = {
            "name": ZONE,
            "primaries": [server(primary.address, primary.port)],
            "secondaries": [server(secondary.address, secondary.port)],
        }
        signer.zones.append(zone)
        with signer, secondary:

            def served(name: str, rdtype: str) -> list[str]:
                return records(secondary.address, secondary.port, name, rdtype)

            def same() -> bool:
                serial = records(signer.address, signer.port, ZONE, "SOA")
                return bool(serial) and served(ZONE, "SOA") == serial

            eventually(same, "the secondary has the signer's version")
            for rdtype in ("TYPE65285", "TYPE65286", "DNSKEY", "CDS"):
                assert served(ZONE, rdtype) == records(signer.address, signer.port, ZONE, rdtype)
                assert served(ZONE, rdtype)
            anchors = _anchors(signer.address, signer.port)
            for name, rdtype, verdict in (
                (f"www.{ZONE}", "A", "; fully validated"),
                (f"x.wild.{ZONE}", "TXT", "; fully validated"),
                (f"alias.{ZONE}", "A", "; fully validated"),
                (f"b.c.{ZONE}", "A", "; negative response, fully validated"),
                (f"nothing.{ZONE}", "A", "; negative response, fully validated"),
                (f"sub.{ZONE}", "DS", "; negative response, fully validated"),
                (ZONE, "TYPE65286", "; fully validated"),
            ):
                for host, port in ((secondary.address, secondary.port), (signer.address, signer.port)):
                    said = delv(host, port, tmp_path, anchors, ZONE, name, rdtype)
                    assert verdict in said, (name, rdtype, host, said)

            # A change of the owner's goes through the signer to the secondary, told by NOTIFY all the way.
            primary.update(ZONE, f"add new.{ZONE} 300 A 192.0.2.81", f"delete www.{ZONE} A")
            eventually(lambda: served(f"new.{ZONE}", "A") == ["192.0.2.81"], "the change is at the secondary")
            assert served(f"www.{ZONE}", "A") == []
            said = delv(secondary.address, secondary.port, tmp_path, anchors, ZONE, f"www.{ZONE}", "A")
            assert "; negative response, fully validated" in said
            file = tmp_path / "signed.zone"
            _transfer(signer, secondary.address, file)
            _judges(file)

            # Without the key, or from elsewhere with it, nothing.
            bare = ["kdig", f"@{signer.address}", "-p", str(signer.port), ZONE, "AXFR"]
            key = ["-y", f"{KEY.algorithm}:{KEY.bare}:{KEY.secret}"]
            for arguments in (["-b", secondary.address], key):
                refused = subprocess.run([*bare, *arguments], capture_output=True, text=True, timeout=20)
                assert "REFUSED" in refused.stderr
                assert "RRSIG" not in refused.stdout


def test_keys_and_signatures_survive_a_restart(tmp_path: Path) -> None:
    """The signer comes back with its keys, with a serial that is not smaller, and the zone still verifies."""
    signer = DaemonProcess("signer", [])
    with Knot([Zone(ZONE, text=TEXT, notify=(Remote(signer.address, signer.port, KEY),))]) as primary:
        signer.zones.append(
            {
                "name": ZONE,
                "primaries": [server(primary.address, primary.port)],
                "secondaries": [server(signer.address, signer.port)],
            }
        )
        found = []
        with signer:
            for _ in range(2):
                eventually(lambda: records(signer.address, signer.port, ZONE, "SOA"), "the zone is signed")
                _transfer(signer, signer.address, tmp_path / "signed.zone")
                _judges(tmp_path / "signed.zone")
                serial = int(records(signer.address, signer.port, ZONE, "SOA")[0].split()[2])
                found.append((records(signer.address, signer.port, ZONE, "DNSKEY"), serial))
                signer.stop()
                signer.start()
        (first_keys, first_serial), (second_keys, second_serial) = found
        assert first_keys == second_keys
        assert second_serial >= first_serial
