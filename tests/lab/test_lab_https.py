"""Labs whose agents talk by HTTPS: election, an edit judged by delv, certificates judged by OpenSSL, a roll-over."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mpcore.control.models import Peer
from mpcore.wire.seal import PrivateKey, write_private_key
from tests.lab.laboratory import Lab, ask, cockpit, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def peers(lab: Lab, label: str) -> dict[str, Peer]:
    """The other agents, as the agent of a provider sees them."""
    found: list[Peer] = lab.agent(label)._call("peers")
    return {peer.identity.split(".")[1]: peer for peer in found if peer.kind == "agent"}


def ways(peer: Peer) -> dict[str, tuple[int, int]]:
    return {way.name: (way.sent, way.received) for way in peer.transports}


def tlsa_of(lab: Lab, label: str) -> list[str]:
    """The published records, from the secondary of the identity zones."""
    port = 5443
    answer = ask(lab.layout.secondary, lab.port, f"_{port}._tcp.https.agent.{label}.example.", "TLSA")
    return sorted(item.to_text() for rrset in answer.answer for item in rrset if rrset.rdtype == 52)


def openssl(lab: Lab, label: str, directory: Path, tlsa: str) -> str:
    """What OpenSSL says of the listener of an agent, with its own check of a TLSA record."""
    certificate, key = directory / "any.pem", directory / "any.key"
    if not certificate.exists():
        subject = ("-subj", "/CN=anybody", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        files = ("-keyout", str(key), "-out", str(certificate))
        subprocess.run(["openssl", "req", "-x509", *subject, *files], check=True, capture_output=True)
    address = lab.provider(label).agent.address
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"{address}:5443", "-cert", str(certificate), "-key", str(key)),
            *("-dane_tlsa_domain", f"https.agent.{label}.example", "-dane_tlsa_rrdata", tlsa),
        ],
        input="",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    found = re.search(r"Verification(?: error)?: (.*)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return found[1]


def edit(lab: Lab, label: str, name: str) -> None:
    """An edit of one provider, accepted by all, served by all, and validated by delv at each signer."""
    record = f"{lab.zone} 3600 IN NS {name}"
    done = lab.agent(label).change(lab.zone, "add", record)
    lab.assert_accepted_everywhere(label, done)
    lab.assert_served_everywhere(record)


def test_three_providers_by_https_only(tmp_path: Path) -> None:
    """Everything between agents goes by HTTPS; OpenSSL finds each certificate by the record that is published."""
    with Lab("--transport", "https-only") as lab:
        lab.wait_until_settled()
        edit(lab, "alpha", "ns.by-https.example.")
        labels = [provider.label for provider in lab.providers]
        for label in labels:
            for other, peer in peers(lab, label).items():
                # Before a peer's records are found nothing can be sent at all, so nothing ever went by DNS.
                shown = ways(peer)
                assert (label, other, shown["dns"], min(shown["https"]) > 2) == (label, other, (0, 0), True)
        for label in labels:
            (record,) = tlsa_of(lab, label)
            assert openssl(lab, label, tmp_path, record) == "OK"
        assert openssl(lab, "alpha", tmp_path, tlsa_of(lab, "bravo")[0]) != "OK"
        doctor = cockpit(lab, "peer", "doctor", "agent.bravo.example.")
        assert doctor.returncode == 0, doctor.stdout
        for words in ("HTTPS: _mp-https._tcp.agent.bravo.example. URI", "HTTPS: certificate of", "HTTPS: ping"):
            assert words in doctor.stdout
        lab.assert_clean_logs()


def test_a_roll_over_of_the_certificate(tmp_path: Path) -> None:
    with Lab("--transport", "https", "--providers", "2") as lab:
        lab.wait_until_settled()
        (before,) = tlsa_of(lab, "alpha")
        assert cockpit(lab, "agent", "certificate", "prepare").returncode == 0
        eventually(lambda: len(tlsa_of(lab, "alpha")) == 2, "both keys are published")
        both = tlsa_of(lab, "alpha")
        assert cockpit(lab, "agent", "certificate", "switch").returncode == 3
        assert openssl(lab, "alpha", tmp_path, before) == "OK"
        assert cockpit(lab, "peer", "reset", "agent.alpha.example.", context="bravo").returncode == 0
        eventually(lambda: peers(lab, "bravo")["alpha"].state == "OPERATIONAL", "bravo has found alpha again")
        assert cockpit(lab, "agent", "certificate", "switch", "--force").returncode == 0
        (after,) = set(both) - {before}
        eventually(lambda: tlsa_of(lab, "alpha") == [after], "the former key is withdrawn")
        assert openssl(lab, "alpha", tmp_path, after) == "OK"
        assert openssl(lab, "alpha", tmp_path, before) != "OK"
        (file,) = [path for path in lab.layout.files(lab.provider("alpha"), "agent").iterdir() if "https" in path.name]
        assert file.stat().st_mode & 0o777 == 0o600
        # What was under way at that moment may have gone by DNS; what comes now goes by HTTPS.
        sent = ways(peers(lab, "bravo")["alpha"])["https"][0]
        assert cockpit(lab, "peer", "ping", "agent.alpha.example.", context="bravo").returncode == 0
        eventually(lambda: ways(peers(lab, "bravo")["alpha"])["https"][0] > sent, "bravo sends by HTTPS")
        assert {way.name: way.failures for way in peers(lab, "bravo")["alpha"].transports}["https"] == 0
        edit(lab, "bravo", "ns.after-roll.example.")
        # After a restart the new key is the one in the file.
        lab.kill("alpha.agent")
        lab.start("alpha.agent")
        assert openssl(lab, "alpha", tmp_path, after) == "OK"


def test_the_last_has_dns_only(tmp_path: Path) -> None:
    """Whoever has no HTTPS is talked to by DNS; a certificate that has changed overnight is found again."""
    with Lab("--transport", "mixed") as lab:
        lab.wait_until_settled()
        edit(lab, "charlie", "ns.mixed.example.")
        assert min(ways(peers(lab, "alpha")["bravo"])["https"]) > 0
        assert ways(peers(lab, "alpha")["charlie"])["https"] == (0, 0)
        assert min(ways(peers(lab, "alpha")["charlie"])["dns"]) > 0
        assert peers(lab, "charlie")["alpha"].transports == ()
        assert "bravo.example" in cockpit(lab, "peer", "show", "agent.bravo.example.").stdout

        def shown(label: str) -> Any:
            return {way.name: way for way in peers(lab, "alpha")[label].transports}

        # Bravo comes back with another key at another port: found again by itself, and nothing is lost meanwhile.
        home = lab.layout.files(lab.provider("bravo"), "agent")
        lab.kill("bravo.agent")
        config = home / "config.yaml"
        text = config.read_text().replace("key_file: https.jwk", "key_file: other.jwk")
        config.write_text(text.replace("port: 5443", "port: 5444"))
        (home / "other.jwk").write_text(write_private_key(PrivateKey.generate()))
        (home / "other.jwk").chmod(0o600)
        done = lab.agent("alpha").change(lab.zone, "add", f"{lab.zone} 3600 IN NS ns.meanwhile.example.")
        lab.start("bravo.agent")
        lab.assert_accepted_everywhere("alpha", done)
        eventually(lambda: (shown("bravo")["https"].address or "").endswith("5444"), "the new port is known")
        before = shown("bravo")["https"].sent
        eventually(lambda: shown("bravo")["https"].sent > before, "messages go by HTTPS again")
