"""Labs for tests: the one with three providers is started once for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.laboratory import Lab


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    """A lab of three providers that all sign, and that has come to agreement."""
    with Lab() as lab:
        lab.wait_until_settled()
        yield lab
        lab.assert_clean_logs()


@pytest.fixture
def lab(running_lab: Lab) -> Iterator[Lab]:
    """The same, settled before each test, with clean logs after it."""
    running_lab.start_missing()
    running_lab.wait_until_settled()
    yield running_lab
    running_lab.assert_clean_logs()
