"""The query tool against BIND and Knot DNS, judged by dig, kdig and delv."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.peers.servers import KEY, Bind, Knot, NameServer, Zone
from tests.peers.test_resolver_hierarchy import _Hierarchy, hierarchy
from tests.unit.certificates import Certificate, make_certificate

__all__ = ("hierarchy",)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

_TEXT = """$ORIGIN example.
$TTL 300
@ IN SOA ns hostmaster 7 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.53
www IN A 192.0.2.1
www IN AAAA 2001:db8::1
@ IN MX 10 mail
txt IN TXT "with \\"quotes\\"" "and more"
alias IN CNAME www
p1 IN TYPE65285 \\# 24 01027031056167656e74027031076578616d706c6500012e
""" + "".join(f"h{number} IN A 192.0.2.{number % 250}\n" for number in range(2000))


def _run(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(home)}
    for name in ("MPCOCKPIT_STATE_DIR", "MPCOCKPIT_CONTEXT"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "cockpit.cli", "query", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def _key_file(home: Path) -> str:
    path = home / "key"
    path.write_text(f'key "{KEY.name}" {{ algorithm {KEY.algorithm}; secret "{KEY.secret}"; }};\n')
    path.chmod(0o600)
    return str(path)


def _records(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """Records of a transfer in any tool's layout, in one order."""
    return sorted(tuple(line.split(None, 4)) for line in lines if line and not line.startswith(";"))


@pytest.mark.parametrize("kind", [Bind, Knot])
def test_answers_are_digs(kind: type[NameServer], tmp_path: Path) -> None:
    with kind([Zone("example.", _TEXT)]) as server:
        for name, rdtype in (("www", "A"), ("www", "AAAA"), ("@", "MX"), ("txt", "TXT"), ("alias", "A"), ("no", "A")):
            owner = "example." if name == "@" else f"{name}.example."
            judge = subprocess.run(
                ["dig", "+noall", "+answer", "+norec", f"@{server.address}", "-p", str(server.port), owner, rdtype],
                capture_output=True, text=True, timeout=20, check=True,
            )  # fmt: skip
            ours = _run(f"@{server.address}:{server.port}", owner, rdtype, "+norec", "+noall", "+answer", home=tmp_path)
            assert ours.returncode == 0, ours.stderr
            assert _records(ours.stdout.splitlines()) == _records(judge.stdout.splitlines())
        private = _run(f"@{server.address}#{server.port}", "p1.example.", "HSYNC3", "+norec", "+short", home=tmp_path)
        assert private.stdout == "ON p1 agent.p1.example. .\n"
        refused = _run(f"@{server.address}#{server.port}", "other.", "SOA", "+norec", "--json", home=tmp_path)
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["rcode"] == "REFUSED"


@pytest.mark.parametrize("kind", [Bind, Knot])
def test_a_transfer_is_digs_and_needs_its_key(kind: type[NameServer], tmp_path: Path) -> None:
    with kind([Zone("example.", _TEXT)]) as server:
        secret = f"{KEY.algorithm}:{KEY.bare}:{KEY.secret}"
        judge = subprocess.run(
            ["dig", f"@{server.address}", "-p", str(server.port), "example.", "AXFR", "-y", secret, "+nocmd"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
        at = f"@{server.address}:{server.port}"
        ours = _run(at, "example.", "AXFR", "--tsig-file", _key_file(tmp_path), home=tmp_path)
        assert ours.returncode == 0, ours.stderr
        # dig does not know the private type.
        wanted = [line for line in _records(judge.splitlines()) if line[3] not in ("TYPE65285", "TSIG")]
        found = [line for line in _records(ours.stdout.splitlines()) if line[3] != "HSYNC3"]
        assert found == wanted
        assert "TRANSFER example. is complete: serial 7" in ours.stdout
        assert "TSIG: verified with key transfer.key." in ours.stdout
        rows = _run(at, "example.", "AXFR", "--tsig-file", _key_file(tmp_path), "--json", home=tmp_path).stdout
        last = json.loads(rows.splitlines()[-1])["transfer"]
        assert (last["records"], last["serial"], last["kind"]) == (len(rows.splitlines()) - 1, 7, "whole zone")
        assert _run(at, "example.", "AXFR", home=tmp_path).returncode == 1
        server.update("example.", "delete h7.example. A", "add new.example. 60 A 192.0.2.7")
        changes = _run(at, "example.", "IXFR=7", "--tsig-file", _key_file(tmp_path), home=tmp_path)
        assert changes.returncode == 0, changes.stderr
        moved = [line.split() for line in changes.stdout.splitlines() if line[:1] in ("+", "-")]
        assert [words[:2] for words in moved if words[4] == "A"] == [
            ["-", "h7.example."],
            ["+", "new.example."],
        ]


def test_updates_are_in_bind(tmp_path: Path) -> None:
    with Bind([Zone("example.", _TEXT)]) as server:
        at, key = f"@{server.address}:{server.port}", _key_file(tmp_path)
        update = ("--opcode", "UPDATE", "example.", "prereq nxdomain u.example.", "add u.example. 60 A 192.0.2.9")
        assert _run(at, *update, home=tmp_path).returncode == 1
        assert _run(at, *update, "--tsig-file", key, home=tmp_path).returncode == 0
        again = _run(at, *update, "--tsig-file", key, home=tmp_path)
        assert (again.returncode, "YXDOMAIN" in again.stdout) == (1, True)
        judge = ["dig", "+short", f"@{server.address}", "-p", str(server.port), "u.example.", "A"]
        assert subprocess.run(judge, capture_output=True, text=True, timeout=20, check=True).stdout == "192.0.2.9\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "ns.test", "127.0.0.1")


def test_tls_says_whether_the_server_is_known(tmp_path: Path, certificate: Certificate) -> None:
    with Bind([Zone("example.", _TEXT)], tls=certificate) as server:
        question = (f"@{server.address}:{server.tls_port}", "www.example.", "A", "+norec", "+tls")
        anybody = _run(*question, home=tmp_path)
        assert "TLS, NOT AUTHENTICATED" in anybody.stdout, anybody.stderr
        assert f"TLS: key of the server {certificate.pin}" in anybody.stdout
        trust = ("--tls-ca", str(certificate.certificate_file), "--tls-hostname", "ns.test")
        assert "authenticated: certificate for ns.test" in _run(*question, *trust, home=tmp_path).stdout
        assert "authenticated: pinned key" in _run(*question, "--tls-pin", certificate.pin, home=tmp_path).stdout
        wrong = _run(*question, *trust[:3], "other.test", home=tmp_path)
        assert (wrong.returncode, wrong.stdout) == (3, "")
        assert "TLS failed" in wrong.stderr
        zone = _run(question[0], "example.", "AXFR", "--tsig-file", _key_file(tmp_path), "+tls", home=tmp_path)
        assert "(TLS, NOT AUTHENTICATED)" in zone.stdout, zone.stderr


@pytest.mark.parametrize(
    ("name", "rdtype", "verdict"),
    [
        ("www.secure.example.", "A", "secure"),
        ("nothing.hashed.example.", "A", "secure"),
        ("x.wild.secure.example.", "TXT", "secure"),
        ("www.unsigned.example.", "A", "insecure"),
        ("www.badsig.example.", "A", "bogus"),
        ("www.expired.example.", "A", "bogus"),
        ("www.wrongds.example.", "A", "bogus"),
    ],
)
def test_verdicts_and_walks(hierarchy: _Hierarchy, tmp_path: Path, name: str, rdtype: str, verdict: str) -> None:
    place = (f"@{hierarchy.address('root')}:{hierarchy.port}", "--anchor", str(hierarchy.anchor))
    ran = _run(*place, name, rdtype, "--trace", "--validate", "--json", home=tmp_path)
    found = json.loads(ran.stdout)
    assert (found["verdict"], ran.returncode) == (verdict, 1 if verdict == "bogus" else 0)
    assert ("ad" in found["flags"]) == (verdict == "secure")
    assert next(step["child"] for step in found["trace"] if step["child"]) == "example."
    assert [link["good"] for link in found["chain"]].count(False) == (1 if verdict == "bogus" else 0)
    assert (found["error"] is not None) == (verdict == "bogus")
