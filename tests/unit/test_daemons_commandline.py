"""The command line of the daemons."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import dns.dnssec
import dns.name
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from daemons import commandline, config, runtime
from daemons.commandline import main
from daemons.runtime import RunOptions
from mpcore.wire.seal import read_private_key, read_public_key

COMBINER = """\
identity: combiner.alpha.example.
provider: alpha
state_dir: state
control_socket: run/s
listen: [{address: 127.0.0.1, port: 5301}]
key_file: combiner.jwk
agents:
  - {identity: agent.alpha.example., address: 127.0.0.2, public_key_file: agent.jwk.pub}
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_made_here_pass_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("combiner", ["keygen", "jose", str(tmp_path / "combiner.jwk")]) == 0
    assert main("agent", ["keygen", "jose", str(tmp_path / "agent.jwk")]) == 0
    file = tmp_path / "combiner.yaml"
    file.write_text(COMBINER)
    capsys.readouterr()
    assert main("combiner", ["check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: usable: combiner combiner.alpha.example.\n"
    assert main("combiner", ["check", "--show", str(file)]) == 0
    assert "agents[0].port = 53" in capsys.readouterr().out


def test_jose_keys(tmp_path: Path) -> None:
    os.umask(0o022)
    file = tmp_path / "own.jwk"
    assert main("signer", ["keygen", "jose", str(file)]) == 0
    public = tmp_path / "own.jwk.pub"
    assert [mode(file), mode(public)] == [0o600, 0o644]
    assert read_private_key(file.read_text()).public() == read_public_key(public.read_text())
    assert "d" not in json.loads(public.read_text())


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = tmp_path / "own.jwk.pub"
    public.write_text("precious")
    assert main("agent", ["keygen", "jose", str(tmp_path / "own.jwk")]) == 1
    assert capsys.readouterr().err == f"mpagent: {public}: file exists\n"
    assert public.read_text() == "precious"
    assert not (tmp_path / "own.jwk").exists()


@pytest.mark.parametrize("algorithm", ["ECDSAP256SHA256", "ED25519", "RSASHA256"])
def test_zone_keys_and_their_ds(tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str) -> None:
    ksk, zsk = tmp_path / "ksk.pem", tmp_path / "zsk.pem"
    arguments = ["--ksk", str(ksk), "--zsk", str(zsk), "--algorithm", algorithm]
    assert main("agent", ["keygen", "zone", "Agent.alpha.example", *arguments]) == 0
    assert [mode(ksk), mode(zsk)] == [0o600, 0o600]
    assert ksk.read_text() != zsk.read_text()
    private = load_pem_private_key(ksk.read_bytes(), None)
    dnskey = dns.dnssec.make_dnskey(private.public_key(), algorithm, flags=257)  # type: ignore[arg-type]
    ds = dns.dnssec.make_ds(dns.name.from_text("agent.alpha.example."), dnskey, "SHA256")
    assert capsys.readouterr().out == f"agent.alpha.example.\t3600\tIN\tDS\t{ds.to_text()}\n"


def test_zone_keys_need_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--ksk", str(tmp_path / "k"), "--zsk", str(tmp_path / "z")]
    assert main("agent", ["keygen", "zone", "a..b", *arguments]) == 2
    assert "is not a domain name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_is_not_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "combiner.yaml"
    file.write_text(COMBINER)
    assert main("combiner", ["check", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.splitlines() == [
        f"{file}:6: key_file: {tmp_path}/combiner.jwk: no such file",
        f"{file}:8: agents[0].public_key_file: {tmp_path}/agent.jwk.pub: no such file",
    ]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2),
        (["check"], 2),
        (["run"], 2),
        (["run", "--log-level", "loud", "x"], 2),
        (["--ready-fd", "x", "file"], 2),
        (["--ready-fd", "98765", "file"], 2),
        (["keygen"], 2),
        (["keygen", "zone", "a.example.", "--ksk", "x"], 2),
        (["--help"], 0),
        (["run", "--help"], 0),
        (["check", "--help"], 0),
        (["keygen", "jose", "--help"], 0),
        (["--version"], 0),
    ],
)
def test_usage(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("agent", arguments) == status
    captured = capsys.readouterr()
    assert (captured.err if status else captured.out).startswith(("usage: mpagent", "mpagent "))


def test_only_an_agent_has_an_identity_zone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("signer", ["keygen", "zone", "a.example.", "--ksk", str(tmp_path / "k"), "--zsk", "z"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["c.yaml"], RunOptions()),
        (["run", "c.yaml"], RunOptions()),
        (["--ready-fd", "1", "c.yaml"], RunOptions(ready_fd=1)),
        (
            ["c.yaml", "--log-format", "json", "--log-level", "debug", "--die-with-parent"],
            RunOptions(log_format="json", log_level="debug", die_with_parent=True),
        ),
    ],
)
def test_running_is_the_default(arguments: list[str], options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []

    def run_daemon(*given: object) -> int:
        called.append(given)
        return 7

    monkeypatch.setattr(runtime, "run_daemon", run_daemon)
    assert main("agent", arguments) == 7
    assert called == [("agent", "c.yaml", options)]


@pytest.mark.parametrize("role", ["agent", "combiner", "signer"])
def test_the_console_scripts(role: str, tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"daemons.{role}", *arguments], capture_output=True, text=True, check=False
        )

    assert call("--help").stdout.startswith(f"usage: mp{role}")
    missing = call(str(tmp_path / "missing.yaml"))
    assert (missing.returncode, missing.stderr) == (2, f"{tmp_path}/missing.yaml: no such file\n")


def test_help_loads_no_daemon() -> None:
    program = (
        "import sys; from daemons.commandline import main; main('agent', ['check', '--help']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr.split()
    assert not {"starlette", "uvicorn", "jwcrypto", "mpcore.node.agent"} & set(loaded)
    assert commandline.__all__ == ("main",)
    assert set(config.ROLES) == {"agent", "combiner", "signer"}
