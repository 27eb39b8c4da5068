"""Commands as a script meets them: what is on standard output, what on standard error, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import NOW, NS, ZONE

from cockpit import session as session_module
from cockpit.cli import main

Golden = Callable[[str, str], None]


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(provider: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command line against the provider, with time standing still."""
    monkeypatch.setattr(
        session_module.Session.__init__,
        "__kwdefaults__",
        {
            "read_only": False,
            "fleet": None,
            "clock": lambda: NOW,
        },
    )

    def run_it(*words: str, at: Path = provider) -> Ran:
        capsys.readouterr()
        code = main(["--state-dir", str(at), *words])
        captured = capsys.readouterr()
        return Ran(code, captured.out.replace(str(provider), "/state"), captured.err.replace(str(provider), "/state"))

    return run_it


pytestmark = pytest.mark.xdist_group("provider")

READS: list[Sequence[str]] = [
    ("peer", "list"),
    ("gossip", "group", "list"),
    ("gossip", "group", "state"),
    ("zone", "list"),
    ("zone", "mplist"),
    ("zone", "records"),
    ("zone", "edits", "list"),
    ("combiner", "zone", "edits", "list"),
    ("signer", "keys", "list"),
    ("status", "--context", "alpha"),
]


@pytest.mark.parametrize("words", READS, ids=lambda words: "-".join(words[:4]).replace("--", ""))
@pytest.mark.parametrize("form", ["text", "json"])
def test_output_is_as_recorded(run: Callable[..., Ran], golden: Golden, words: Sequence[str], form: str) -> None:
    ran = run(*words, "--output", form)
    assert ran.code == 0, ran.err
    name = "-".join(word for word in words if not word.startswith("--"))
    golden(f"{name}.{'txt' if form == 'text' else 'json'}", ran.out)


def test_json_goes_before_or_after_the_command(run: Callable[..., Ran]) -> None:
    assert (
        run("--json", "peer", "list").out
        == run("peer", "list", "--json").out
        == run("peer", "list", "--output", "json").out
    )


def test_status_of_the_fleet_tells_of_a_daemon_that_is_down(run: Callable[..., Ran]) -> None:
    ran = run("status", "--json")
    assert ran.code == 3
    assert [(each["context"], each["role"], each["reachable"]) for each in ran.data] == [
        ("alpha", "agent", True),
        ("alpha", "combiner", True),
        ("alpha", "signer", True),
        ("bravo", "agent", False),
    ]


def test_ping_ends_with_3_when_nobody_answers(run: Callable[..., Ran]) -> None:
    assert run("peer", "ping", "agent.bravo.example.").code == 0
    ran = run("peer", "ping", "agent.charlie.example.", "--json")
    assert (ran.code, ran.data["ok"]) == (3, False)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("peer", "lst"), 2, "No such command"),
        (("peer", "list", "--bogus"), 2, "No such option"),
        (("peer", "list", "--context", "zulu"), 2, "no context is called 'zulu'; there are alpha, bravo"),
        (("peer", "list", "--context", "bravo"), 3, "no daemon answers on /state/run/gone"),
        (("zone", "records", "other.example."), 1, "other.example. is not a zone of"),
        (("gossip", "group", "state", "ffff"), 1, "no group is called 'ffff'"),
        (("transaction", "show", "tx-none"), 1, "no transaction tx-none"),
        (("zone", "addrr", ZONE, "customer.example. 300 IN A 192.0.2.1"), 1, "refused: A records are not synchronised"),
        (("zone", "addrr", ZONE, "customer.example. 300 IN NS notready."), 3, "not loaded yet"),
        (("guide", "nosuch"), 1, "the guide has no page 'nosuch'"),
        (("run", "/nonexistent.mp"), 2, "cannot be read"),
        (("query",), 2, "a name is missing"),
        (("query", "example.", "A", "--resolv-conf", "/nonexistent"), 2, "whom to ask?"),
        (("query", "example.", "NOSUCHTYPE", "@127.0.0.1"), 2, "NOSUCHTYPE: not a type"),
        (("query", "example.", "@127.0.0.1", "@127.0.0.2"), 2, "@127.0.0.2: a second server"),
        (("query", "example.", "+dnssc", "@127.0.0.1"), 2, "+dnssc: no such option; did you mean +dnssec?"),
        (("query", "-x", "example.", "@127.0.0.1"), 2, "-x example.: not an address"),
        (("query", "example.", "--file", "f", "@127.0.0.1"), 2, "--file belongs to an update"),
        (("query", "example.", "--tsig-file", "/nonexistent", "@127.0.0.1"), 2, "/nonexistent"),
        (("query", "example.", "--tls-pin", "x", "@127.0.0.1"), 2, "'x' is not a SHA-256 in base64"),
        (
            ("query", "--opcode", "UPDATE", "example.", "add a 1 A 192.0.2.1", "@127.0.0.1"),
            2,
            "not in the zone example.",
        ),
        (("query", "--opcode", "UPDATE", "example.", "delete a.example."), 2, "name the server"),
        (("--read-only", "query", "--opcode", "UPDATE", "example.", "delete a.example."), 1, "only reads"),
        (("query", "example.", "@127.0.0.1:1", "+tcp"), 3, "127.0.0.1 port 1: Connection refused (over TCP)"),
        (("--read-only", "zone", "addrr", ZONE, NS), 1, "only reads"),
        (("--replay", "/nonexistent"), 2, "cannot be read"),
        ((), 2, "the screens need a terminal"),
    ],
)
def test_what_goes_wrong_is_said_and_coded(
    run: Callable[..., Ran], words: Sequence[str], code: int, complaint: str
) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (code, "")
    assert complaint in ran.err
    assert "Traceback" not in ran.err


def test_without_contexts_the_way_to_a_lab_is_named(run: Callable[..., Ran], tmp_path: Path) -> None:
    for words in ((), ("peer", "list")):
        ran = run(*words, at=tmp_path)
        assert ran.code == 2
        assert "mpcockpit lab" in ran.err


def test_a_change_is_planned_made_waited_for_and_withdrawn(run: Callable[..., Ran], golden: Golden) -> None:
    plan = run("zone", "addrr", ZONE, NS, "--dry-run")
    assert plan.code == 0
    golden("zone-addrr-dry-run.txt", plan.out)
    assert run("zone", "addrr", ZONE, NS, "--expect-no-changes", "--json").code == 4
    assert run("transaction", "list", "--json").data == []

    made = run("zone", "addrr", ZONE, *NS.split(), "--wait", "combiner", "--json")
    assert (made.code, made.data["reached"]) == (0, "combiner")
    assert run("zone", "addrr", ZONE, NS, "--expect-no-changes").code == 0

    late = run("transaction", "show", made.data["id"], "--wait", "everywhere", "--timeout", "1")
    golden("transaction-show.txt", late.out)
    assert late.code == 3
    assert "agent.bravo.example. has not acknowledged" in late.err

    gone = run("zone", "delrr", ZONE, NS, "--confirm", "other.example.")
    assert gone.code == 1
    assert "nothing was changed" in gone.err
    gone = run("zone", "delrr", ZONE, NS, "--wait", "here", "--json")
    assert (gone.code, gone.data["operation"]) == (0, "delete")
    assert "warning: this is the last name server" in gone.err


def test_a_rejected_change_ends_with_1(run: Callable[..., Ran]) -> None:
    ran = run("zone", "addrr", ZONE, "customer.example. 300 IN NS reject.example.", "--json")
    assert (ran.code, ran.data["state"]) == (1, "rejected")
    assert "protected namespace" in ran.err


def test_script_stops_at_the_first_failure_that_may_not_be(run: Callable[..., Ran], tmp_path: Path) -> None:
    script = tmp_path / "check.mp"
    script.write_text(
        "# comment\npeer list\n- peer ping agent.charlie.example.\nzone list --json\n\npeer nonsense\nzone mplist\n"
    )
    ran = run("run", str(script))
    assert ran.code == 2
    assert "check.mp:3: ended with exit code 3, going on" in ran.err
    assert "check.mp:6: ended with exit code 2" in ran.err
    assert "IDENTITY" in ran.out
    assert '"serial": 7' in ran.out
    assert "NSMGMT" not in ran.out


def test_script_with_an_open_quotation_runs_nothing(run: Callable[..., Ran], tmp_path: Path) -> None:
    script = tmp_path / "bad.mp"
    script.write_text("peer list\nzone addrr 'open\n")
    ran = run("run", str(script))
    assert (ran.code, ran.out) == (2, "")
    assert "bad.mp:2" in ran.err


def test_watch_tells_what_there_is_and_what_happens(run: Callable[..., Ran]) -> None:
    ran = run("--context", "alpha", "watch", "--snapshots", "--json", "--count", "3", "--duration", "20")
    entries = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert {entry["role"] for entry in entries} == {"agent", "combiner", "signer"}
    assert all("snapshot" in entry for entry in entries)
    assert run("watch", "--duration", "0", "--json").code == 0


def test_guide_pages_are_all_readable(run: Callable[..., Ran]) -> None:
    names = run("guide", "--list").out.split()
    assert {"index", "quick-start", "architecture", "wire-format", "commands", "configuration"} <= set(names)
    for name in names:
        ran = run("guide", name)
        assert ran.code == 0
        assert ran.out.startswith("# ")


@pytest.mark.parametrize("words", [("peer", "list"), ("zone", "addrr", "--help"), ("status",)])
def test_commands_do_not_load_the_screens(provider: Path, words: Sequence[str]) -> None:
    program = (
        "import sys; from cockpit.cli import main\n"
        f"try: main({['--state-dir', str(provider), *words]!r})\n"
        "except SystemExit: pass\n"
        "loaded = {'textual', 'rich', 'pydantic_settings', 'jwcrypto', 'starlette'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_its_extra_the_program_names_it() -> None:
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('click', 'textual'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name in ('click', 'textual') else real(name, *rest)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from cockpit.cli import main\n"
        "sys.exit(main(['peer', 'list']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install '.[cockpit]'" in done.stderr
    assert "Traceback" not in done.stderr
