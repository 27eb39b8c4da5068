"""Zone commands of a combiner and its signer, on the virtual clock."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing

from mpcore.control.models import TsigKeyInfo, ZoneAction, ZoneActionRequest, ZoneActionResult
from mpcore.errors import ConflictError, NotFoundError, NotReadyError
from mpcore.names import ZoneName
from mpcore.sim.network import SimNetwork
from mpcore.zone.masterfile import read_master_file
from mpcore.zone.rrset import RRset
from mpcore.zone.serial import is_newer
from mpcore.zone.version import ZoneVersion, diff
from tests.node_world import CUSTOMER, World, may_block

pytestmark = pytest.mark.anyio

ORIGIN = ZoneName(CUSTOMER).owner


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def running(directory: Path, **changes: Any) -> AsyncIterator[World]:
    world = World(directory, SimNetwork(lambda passage: 0.005), providers=("alpha", "bravo"), epoch=1.8e9, **changes)
    async with world.open():
        nodes = [await world.start(role, "alpha") for role in ("combiner", "signer")]
        await world.until(lambda: all(ORIGIN in node.served for node in nodes), 60, "served")
        yield world


async def act(node: Any, action: ZoneAction, *, force: bool = False) -> ZoneActionResult:
    result: ZoneActionResult = await node.zone_action(CUSTOMER, ZoneActionRequest(action=action, force=force))
    assert result.action is action
    return result


def served(node: Any) -> ZoneVersion:
    version: ZoneVersion = node.served[ORIGIN]
    return version


def check_zone(path: Path) -> None:
    """Let BIND read it."""
    command = ["named-checkzone", "-i", "none", CUSTOMER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin"})
    assert done.returncode == 0, done.stdout


def changed(world: World, serial: int, address: bytes = bytes((192, 0, 2, 99))) -> ZoneVersion:
    """The owner's zone with one more record."""
    return world.customer(serial).update([(b"\x05extra" + ORIGIN, 1, RRset.make(1, 60, [address]))])


@pytest.mark.parametrize("role", ["combiner", "signer"])
async def test_bump_serves_the_same_under_a_newer_serial(tmp_path: Path, role: str) -> None:
    async with running(tmp_path) as world:
        node, signer = world.node(role, "alpha"), world.node("signer", "alpha")
        before, public = served(node), served(signer).serial
        for _ in range(2):
            result = await act(node, ZoneAction.BUMP)
            assert result.serial == served(node).serial
        after = served(node)
        assert is_newer(after.serial, before.serial)
        kinds = {(owner, rdtype) for owner, rdtype, _, _ in diff(before, after)}
        assert kinds == ({(ORIGIN, 6)} if role == "combiner" else {(ORIGIN, 6), (ORIGIN, 46)})
        await world.until(lambda: is_newer(served(signer).serial, public), 30, "the signer follows")
        # durable: a new start serves the very same again
        last = served(node)
        await world.stop(node)
        again = await world.start(role, "alpha")
        await world.until(lambda: ORIGIN in again.served, 60, "loaded again")
        assert served(again).serial == last.serial
        assert not diff(served(again), last)


@pytest.mark.parametrize("role", ["combiner", "signer"])
async def test_a_frozen_zone_holds_new_versions_back(tmp_path: Path, role: str) -> None:
    async with running(tmp_path) as world:
        node = world.node(role, "alpha")
        at = (await act(node, ZoneAction.FREEZE)).serial
        assert (await act(node, ZoneAction.FREEZE)).serial == at
        view = node.zone(CUSTOMER)
        assert (view.frozen, view.held_serial) == (True, None)
        assert any("frozen" in warning for warning in node.status().warnings)
        with pytest.raises(ConflictError):
            await act(node, ZoneAction.BUMP)
        world.publish_customer(changed(world, 50))
        for each in ("combiner", "signer"):
            await act(world.node(each, "alpha"), ZoneAction.REFRESH)
            await anyio.sleep(10)
        view = node.zone(CUSTOMER)
        assert view.serial == served(node).serial == at
        assert view.held_serial is not None
        assert is_newer(view.held_serial, view.serial)
        result = await act(node, ZoneAction.THAW)
        assert result.serial == view.held_serial
        assert served(node).get(b"\x05extra" + ORIGIN, 1) is not None
        signer = world.node("signer", "alpha")
        await world.until(lambda: served(signer).get(b"\x05extra" + ORIGIN, 1) is not None, 30, "it is public")
        view = node.zone(CUSTOMER)
        assert (view.frozen, view.held_serial) == (False, None)
        assert not any("frozen" in warning for warning in node.status().warnings)
        assert "not frozen" in (await act(node, ZoneAction.THAW)).message


async def test_refresh_asks_at_once_and_force_takes_what_there_is(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        combiner = world.node("combiner", "alpha")
        world.publish_customer(changed(world, 50))
        await act(combiner, ZoneAction.REFRESH)
        await anyio.sleep(0.5)
        before = served(combiner)
        assert before.get(b"\x05extra" + ORIGIN, 1) is not None
        # other content under the same serial: only force looks
        world.publish_customer(changed(world, 50, bytes((192, 0, 2, 100))))
        await act(combiner, ZoneAction.REFRESH)
        await anyio.sleep(0.5)
        assert served(combiner) is before
        await act(combiner, ZoneAction.REFRESH, force=True)
        await anyio.sleep(0.5)
        found = served(combiner).get(b"\x05extra" + ORIGIN, 1)
        assert found is not None
        assert found.rdatas == (bytes((192, 0, 2, 100)),)
        assert is_newer(served(combiner).serial, before.serial)


async def test_notify_tells_the_secondaries(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        combiner = world.node("combiner", "alpha")
        told = []
        real = combiner.notifier.notify
        combiner.notifier.notify = lambda version: told.append(version) or real(version)
        result = await act(combiner, ZoneAction.NOTIFY)
        assert told == [served(combiner)]
        assert result.message == "1 secondary is told"
        await world.until(lambda: not combiner.notifier.pending, 30, "acknowledged")


async def test_write_leaves_a_master_file_that_others_read(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        for role in ("combiner", "signer"):
            node = world.node(role, "alpha")
            for _ in range(2):
                result = await act(node, ZoneAction.WRITE)
            assert result.path is not None
            path = Path(result.path)
            assert path == node.settings.state_dir / "zones" / "customer.example.zone"
            with may_block():
                assert [entry.name for entry in path.parent.iterdir()] == [path.name]
                assert not diff(read_master_file(path), served(node))
                if shutil.which("named-checkzone", path="/usr/sbin:/usr/bin") is not None:
                    check_zone(path)


async def test_commands_that_cannot_be_done_say_why(tmp_path: Path) -> None:
    world = World(tmp_path, SimNetwork(lambda passage: 0.005), providers=("alpha", "bravo"), signers=("alpha",))
    async with world.open():
        for label in world.providers:
            for role in ("combiner", "signer"):
                await world.start(role, label)
        follower = world.node("signer", "bravo")
        await world.until(lambda: ORIGIN in follower.served and ORIGIN in world.node("signer", "alpha").served, 60)
        with pytest.raises(ConflictError, match="alpha"):
            await act(follower, ZoneAction.BUMP)
        with pytest.raises(NotFoundError):
            await follower.zone_action("elsewhere.", ZoneActionRequest(action=ZoneAction.BUMP))
        with pytest.raises(ConflictError, match="agent"):
            await act(world.make("agent", "alpha"), ZoneAction.BUMP)
        follower.withdraw(ORIGIN)
        for action in (ZoneAction.BUMP, ZoneAction.WRITE, ZoneAction.NOTIFY, ZoneAction.FREEZE):
            with pytest.raises(NotReadyError):
                await act(follower, action)


async def test_a_version_held_back_is_dropped_with_the_one_that_is_withdrawn(tmp_path: Path) -> None:
    """An unsigned version that was held back must not come out when the zone has turned to another's signatures."""
    async with running(tmp_path) as world:
        node = world.node("signer", "alpha")
        await act(node, ZoneAction.FREEZE)
        node.publish(served(node).with_serial(served(node).serial + 1))
        assert node.zone(CUSTOMER).held_serial is not None
        node.withdraw(ORIGIN)
        result = await act(node, ZoneAction.THAW)
        assert (result.serial, result.message) == (None, "thawed; nothing was held back")


async def test_tsig_keys_are_listed_without_their_secrets(tmp_path: Path) -> None:
    secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA=="
    text = "".join(
        f"- {{name: {name}, algorithm: {algorithm}, secret: {secret}}}\n"
        for name, algorithm in (("B.key.", "HMAC-SHA512"), ("a.key", "hmac-sha256"))
    )
    world = World(tmp_path, SimNetwork(lambda passage: 0.005), providers=("alpha",), epoch=1.8e9)
    async with world.open():
        node = await world.start("combiner", "alpha", tsig_keys_file=world.write("tsig.yaml", text))
        assert node.tsig_keys() == [
            TsigKeyInfo(name="a.key.", algorithm="hmac-sha256"),
            TsigKeyInfo(name="b.key.", algorithm="hmac-sha512"),
        ]
        assert secret not in repr(node.keyring)
