"""What the cockpit's tests have: a provider that runs, golden files, and where snapshots are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_textual_snapshot import SVGImageExtension
from syrupy.location import PyTestLocation

sys.path.insert(0, str(Path(__file__).parent))

SNAPSHOTS = Path(__file__).parent.parent.parent / "snapshots"


def _pictures(cls: type[SVGImageExtension], *, test_location: PyTestLocation) -> str:
    return str(SNAPSHOTS / test_location.basename)


# Pictures of screens lie beside the recorded outputs, not beside the tests.
SVGImageExtension.dirname = classmethod(_pictures)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests has a say."""
    for name in [name for name in os.environ if name.startswith("MPCOCKPIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="session")
def provider() -> Iterator[Path]:
    """State directory of a provider that runs."""
    from fake_daemon import running_provider

    with running_provider() as directory:
        yield directory


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a file in ``snapshots/output``; ``UPDATE_GOLDEN=1`` writes the file instead."""

    def compare(name: str, text: str) -> None:
        path = SNAPSHOTS / "output" / name
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        assert text == path.read_text("utf-8")

    return compare
