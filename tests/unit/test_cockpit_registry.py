"""The registry of commands, and what is made from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cockpit.guide
from cockpit.cli import parse
from cockpit.commands import all_commands, find_command
from cockpit.commands.reference import reference
from cockpit.contexts import load_fleet
from cockpit.guide import page
from cockpit.output import ExitCode, duration, exit_code, printable, render, short_record
from cockpit.output import Table as OutputTable
from cockpit.script import read_script
from mpcore.control.client import ControlUnreachable
from mpcore.errors import ConfigError, NotFoundError, NotReadyError, PolicyError


def test_every_command_is_declared_once_and_whole() -> None:
    words = [command.words for command in all_commands()]
    assert len(words) == len(set(words))
    for command in all_commands():
        assert [command.run, command.stream, command.local].count(None) == 2, command.name
        assert command.summary
        assert not command.summary.endswith("."), command.name
        for parameter in command.parameters:
            assert parameter.help, (command.name, parameter.name)
            assert parameter.positional or not parameter.required


def test_every_example_is_understood() -> None:
    import shlex

    for command in all_commands():
        for example in command.examples:
            line = example.partition(" > ")[0]
            invocation = parse(shlex.split(line))
            assert invocation is not None, line
            assert invocation.command is command, line


def test_the_guide_lists_what_there_is() -> None:
    """``UPDATE_GOLDEN=1`` writes the page anew."""
    if os.environ.get("UPDATE_GOLDEN"):
        (Path(cockpit.guide.__file__).parent / "commands.md").write_text(reference(), "utf-8")
    assert page("commands") == reference()


def test_common_options_stand_anywhere_and_the_inner_one_wins() -> None:
    for line in (
        ["--context", "bravo", "peer", "list", "--json"],
        ["--json", "peer", "list", "--context", "bravo"],
        ["--context", "alpha", "peer", "list", "--context", "bravo", "--output", "json"],
    ):
        invocation = parse(line)
        assert invocation is not None
        assert (invocation.common["context"], invocation.common["output"]) == ("bravo", "json")
    assert find_command("lab", "kill").needs_arguments
    bare = parse(["lab", "--providers", "5"])
    assert bare is not None
    assert bare.command is find_command("lab")
    assert bare.values["providers"] == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError("no"), ExitCode.FAILED),
        (NotFoundError("no"), ExitCode.FAILED),
        (ConfigError("no"), ExitCode.USAGE),
        (NotReadyError("no"), ExitCode.RETRY),
        (ControlUnreachable("/x", "no"), ExitCode.RETRY),
        (TimeoutError(), ExitCode.RETRY),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ValueError(), ExitCode.FAILED),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_words_for_values() -> None:
    assert [duration(seconds) for seconds in (-1, 0, 59.9, 61, 3600, 90061)] == [
        "0s",
        "0s",
        "59s",
        "1m01s",
        "1h00m",
        "1d01h",
    ]
    assert printable("a\tb\x1b[2J\n") == "a b\\x1b[2J\\n"
    assert (
        short_record("e.\t60\tIN\tDNSKEY\t257 3 15 " + "A" * 43 + "=") == "e. 60 IN DNSKEY 257 3 15 AAAAAAAAAA...AAA="
    )
    assert render([OutputTable(("A", "B"), [["x\x07", "y"]])]) == "A      B\nx\\x07  y\n"


def test_scripts_are_read_with_their_line_numbers() -> None:
    steps = read_script("# one\n\n  peer list # two\n-zone addrr z 'a b'\n", "f")
    assert [(step.line, step.arguments, step.may_fail) for step in steps] == [
        (3, ["peer", "list"], False),
        (4, ["zone", "addrr", "z", "a b"], True),
    ]
    with pytest.raises(ConfigError, match="f:1"):
        read_script("-", "f")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("contexts: []\n", "contexts.yaml:1: contexts: "),
        ("contexts:\n  - name: a\n    agant: x\n", "contexts.yaml:3: contexts.0.agant: "),
        ("contexts:\n  - name: a\n  - name: a\n", "contexts.yaml:3: contexts.1.name: a second context called a"),
        ("zone: a.\nzone: b.\n", "contexts.yaml:2: zone: is given twice"),
        ("contexts: [\n", "is not YAML"),
        ("contexts: " + "[" * 5000 + "\n", "nested too deeply"),
        ("contexts: &a [*a]\n", "alias"),
        ("zone: \x0b\n", "is not YAML"),
        ("zone: 2026-13-45\n", "is no YAML"),
        ("", "contexts.yaml"),
    ],
)
def test_a_bad_file_of_contexts_is_told_by_line_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "contexts.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_fleet(tmp_path)
    assert complaint in str(raised.value)


def test_paths_of_sockets_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "contexts.yaml").write_text("contexts:\n  - name: a\n    agent: run/agent\n    signer: /s\n")
    context = load_fleet(tmp_path).context(None)
    assert (context.agent, context.signer, context.roles) == (tmp_path / "run/agent", Path("/s"), ("agent", "signer"))
    with pytest.raises(ConfigError, match="names no combiner"):
        context.socket("combiner")
