"""What every test has: both event loops, a watch for blocking calls, and repeatable examples."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


#: Programs that judge, and the Debian packages that have them; ``.ci/run`` installs these.
JUDGES = {
    "knotd": "knot",
    "kdig": "knot-dnsutils",
    "named": "bind9",
    "delv": "bind9-dnsutils",
    "nsupdate": "bind9-dnsutils",
    "dnssec-signzone": "bind9-utils",
    "dnssec-verify": "bind9-utils",
    "nsd": "nsd",
    "unbound": "unbound",
    "ldns-verify-zone": "ldnsutils",
    "openssl": "openssl",
    "curl": "curl",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without the real servers their tests are passed over, with a reason; in CI they fail."""
    if item.get_closest_marker("peer") is None and item.get_closest_marker("lab") is None:
        return
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
    missing = sorted({package for program, package in JUDGES.items() if shutil.which(program, path=path) is None})
    if missing:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"needs the Debian packages {', '.join(missing)}")


@pytest.fixture(
    params=[pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio"), pytest.param(("trio", {}), id="trio")]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Asynchronous tests run on asyncio with uvloop, as daemons do, and on trio, as the simulator does."""
    return request.param


@pytest.fixture(autouse=True)
def no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """A call of the library that blocks asyncio's event loop fails the test: file input, sleep, a blocking socket.

    Allowed are imports, and logging, which tests capture in memory.
    """
    if "anyio_backend" not in request.fixturenames or request.getfixturevalue("anyio_backend")[0] != "asyncio":
        yield
        return
    watch = BlockBuster(scanned_modules=["mpcore", "daemons"])
    for function in watch.functions.values():
        function.can_block_in("<frozen importlib._bootstrap>", "_find_and_load")
        function.can_block_in("logging/__init__.py", "handle")
    watch.activate()
    try:
        yield
    finally:
        watch.deactivate()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long tier runs only when asked for: ``-m long``."""
    if "long" in (config.option.markexpr or ""):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
