"""Lint, types, import contracts and public names, as tests: what the README's test command runs is all there is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("mpcore", "daemons", "cockpit") for path in (ROOT / room).rglob("*.py"))

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("static")]


def run(*command: str) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", ".")


def test_formatting_is_ruffs() -> None:
    run("ruff", "format", "--check", ".")


def test_types_are_strict() -> None:
    run("mypy")


def test_arrows_of_the_architecture_hold() -> None:
    run("importlinter.cli")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_modules_list_their_names(path: Path) -> None:
    """A module that defines public classes or functions has a tuple ``__all__``; that it is sorted is for ruff."""
    public, listed = set(), None
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            public.add(node.name)
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            listed = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    assert not public or isinstance(listed, tuple), f"no __all__ beside {', '.join(sorted(public))}"
