"""Rolling a message key over with overlap, and peers that are reached elsewhere for a while."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mpcore.control.models import ChangeRequest, MessageKeyAction, MessageKeyRequest, Wait
from mpcore.errors import ConfigError, ConflictError, NotFoundError, NotReadyError, SealError
from mpcore.node.directory import Contact, Directory
from mpcore.node.keyroll import OVERLAP, KeyFiles, make_next
from mpcore.node.ownkeys import OwnKeys
from mpcore.node.relocation import LONGEST, Relocations
from mpcore.node.runtime import JoseSealing
from mpcore.records import JWK, JWK_TYPE
from mpcore.wire.messages import Relocate, decode_message
from mpcore.wire.seal import PrivateKey, read_public_keys, seal, write_private_key, write_public_key
from mpcore.zone import owners
from tests.node_world import CUSTOMER, Stranger, World

pytestmark = pytest.mark.anyio

ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."
NOW = 1_800_000_000.0


# --------------------------------------------------------------------------------------------------------------- files


def files(tmp_path: Path) -> KeyFiles:
    path = tmp_path / "agent.jwk"
    path.write_text(write_private_key(PrivateKey.generate()))
    return KeyFiles(path, None)


def test_a_roll_over_in_files(tmp_path: Path) -> None:
    kept = files(tmp_path)
    first = kept.load()
    assert (first.step, first.others) == ("steady", ())
    prepared = kept.prepare()
    assert prepared.step == "prepared"
    assert prepared.next is not None
    again = kept.prepare()
    assert again.next is not None
    assert again.next.public() == prepared.next.public()
    assert {path.stat().st_mode & 0o777 for path in (kept.next,)} == {0o600}
    switched = kept.switch()
    assert switched.step == "switched"
    assert switched.current.public() == prepared.next.public()
    assert switched.previous is not None
    assert switched.previous.public() == first.current.public()
    assert not kept.next.exists()
    assert kept.finish().step == "steady"
    assert kept.load().current.public() == prepared.next.public()
    kept.prepare()
    assert kept.cancel().step == "steady"


def test_a_switch_that_was_cut_short_at_any_point(tmp_path: Path) -> None:
    kept = files(tmp_path)
    prepared = kept.prepare()
    assert prepared.next is not None
    old, new = prepared.current.public(), prepared.next.public()
    kept._write(kept.previous, prepared.current)  # died after the first file
    found = kept.load()
    assert (found.step, found.current.public(), found.previous) == ("prepared", old, None)
    kept._write(kept.current, prepared.next)  # died after the second
    found = kept.load()
    assert (found.step, found.current.public(), found.next) == ("switched", new, None)
    assert found.previous is not None
    assert found.previous.public() == old
    kept.current.unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        kept.load()
    kept.current.write_text("{}")
    with pytest.raises(ConfigError, match="EC P-256"):
        kept.load()


def test_the_next_key_comes_after_the_current_one() -> None:
    """Records that deployed peers read first stay first, in canonical order."""

    def octets(key: PrivateKey) -> bytes:
        return JWK.from_public_key_jwk(key.public().to_jwk()).to_octets()

    after = 0
    for _ in range(20):
        key = PrivateKey.generate()
        after += octets(make_next(key)) > octets(key)
    assert after >= 18


def test_key_sets_in_files() -> None:
    one, two, three = (PrivateKey.generate() for _ in range(3))

    def text(*keys: dict[str, str]) -> str:
        return "# agent\n" + json.dumps({"keys": keys})

    publics = [key.public().to_jwk() for key in (one, two, three)]
    assert read_public_keys(write_public_key(one.public())) == (one.public(),)
    assert read_public_keys(text(publics[0], publics[1])) == (one.public(), two.public())
    assert read_public_keys(text(publics[0], publics[0])) == (one.public(),)
    for bad in (text(), text(*publics), text(one.to_jwk()), '{"keys": 1}', '{"keys": [1]}', "[]", ""):
        with pytest.raises(SealError):
            read_public_keys(bad)


def test_either_side_may_have_two_keys() -> None:
    mine, following, theirs, their_next, stranger = (PrivateKey.generate() for _ in range(5))
    own, sealing = OwnKeys(mine, [following]), JoseSealing()
    contact = Contact(BRAVO, (("192.0.2.1", 53),), theirs.public(), their_next.public())
    for sender in (theirs, their_next):
        for receiver in (mine, following):
            data = seal(b"{}", sender, receiver.public(), ALPHA, NOW)
            assert own.open(sealing, data, contact) == (b"{}", sender.public())
    for sender, receiver in ((stranger, mine), (theirs, stranger)):
        with pytest.raises(SealError):
            own.open(sealing, seal(b"{}", sender, receiver.public(), ALPHA, NOW), contact)
    directory = Directory()
    directory.put(contact)
    turned = directory.proven(contact, their_next.public())
    assert directory.get(BRAVO) == turned
    assert turned.keys == (their_next.public(), theirs.public())
    assert directory.proven(turned, their_next.public()) is turned


# --------------------------------------------------------------------------------------------------------- whole nodes


def step(action: MessageKeyAction, **members: Any) -> MessageKeyRequest:
    return MessageKeyRequest(action=action, **members)


async def test_a_key_rolls_over_while_everything_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open():
        for label in world.providers:
            await world.start_provider(label)
        await world.until(world.agreed, what="one leader")
        alpha, bravo = world.node("agent", "alpha"), world.node("agent", "bravo")
        old = alpha.key.public()
        assert alpha.message_keys().step == "steady"
        with pytest.raises(ConflictError, match="the step is steady"):
            await alpha.message_key_action(step(MessageKeyAction.SWITCH))
        prepared = await alpha.message_key_action(step(MessageKeyAction.PREPARE))
        assert [key.use for key in prepared.keys] == ["current", "next"]
        assert all("d" not in key.jwk for key in prepared.keys)
        published = alpha.served[owners.from_text(ALPHA)].get(owners.from_text(f"dns.{ALPHA}"), JWK_TYPE)
        assert len(published.rdatas) == 2
        new = alpha.stored_keys.next.public()

        with pytest.raises(NotReadyError, match="safe in"):
            await alpha.message_key_action(step(MessageKeyAction.SWITCH))
        alpha._rolled_at -= OVERLAP
        with pytest.raises(ConflictError, match="does not take messages signed with the next key"):
            await alpha.message_key_action(step(MessageKeyAction.SWITCH))
        await bravo.reset_peer(ALPHA)
        await world.until(
            lambda: (contact := bravo.directory.get(ALPHA)) and set(contact.keys) == {old, new}, what="both are known"
        )
        pair = {"keys": [key.jwk for key in prepared.keys]}
        (tmp_path / f"{ALPHA}pub.jwk").write_text(json.dumps(pair))
        switched = await alpha.message_key_action(step(MessageKeyAction.SWITCH))
        assert (switched.step, switched.keys[0].use) == ("switched", "current")
        assert alpha.key.public() == new
        await world.until(lambda: bravo.directory.get(ALPHA).key == new, what="bravo has seen the new key at work")
        record = f"{CUSTOMER} 300 IN NS ns9.alpha.example."
        made = await alpha.change(CUSTOMER, ChangeRequest(operation="add", record=record))
        assert (await alpha.wait(made.id, Wait.EVERYWHERE, 30)).state == "accepted"

        # After a restart the agent is where it was.
        await world.stop(alpha)
        alpha = await world.start("agent", "alpha")
        assert (alpha.message_keys().step, alpha.key.public()) == ("switched", new)
        assert alpha.message_keys().ready_at is not None
        with pytest.raises(NotReadyError):
            await alpha.message_key_action(step(MessageKeyAction.FINISH))
        done = await alpha.message_key_action(step(MessageKeyAction.FINISH, force=True))
        assert [key.thumbprint for key in done.keys] == [new.thumbprint]
        with pytest.raises(NotFoundError):
            world.node("combiner", "alpha").message_keys()


async def test_a_peer_is_looked_up_again_when_its_records_expire(tmp_path: Path) -> None:
    """By their TTL, 5 minutes at least; what has changed is used then."""
    world = World(tmp_path)
    async with world.open():
        bravo = Stranger(world, BRAVO, world.providers["bravo"].address("agent"))
        await bravo.serve()
        agent, *_ = await world.start_provider("alpha")
        await world.until(lambda: agent.directory.get(BRAVO), what="bravo is found")
        peer = agent.machines[BRAVO]
        due = peer._next["refresh"]
        assert 290 <= due - agent.clock.now() <= 300  # its SVCB has a TTL of 120 seconds
        old = agent.directory.get(BRAVO).key
        bravo.key = world.keys[BRAVO] = PrivateKey.generate()
        bravo.publish()
        agent.resolver.flush(BRAVO)  # what the passing of time does to the resolver's cache
        await agent.peer_event(peer, peer.timer("refresh", due))
        await world.until(lambda: agent.directory.get(BRAVO).key == bravo.key.public(), what="the new key")
        assert agent.directory.get(BRAVO).key != old


async def test_relocations(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open():
        bravo = Stranger(world, BRAVO, world.providers["bravo"].address("agent"))
        await bravo.serve()
        agent, *_ = await world.start_provider("alpha")
        await world.until(lambda: agent.directory.get(BRAVO), what="bravo is found")
        (found,) = agent.directory.get(BRAVO).addresses
        moved = relocate("127.9.9.9", 5353, bravo.clock.now() + 300)
        assert (await bravo.send(moved, agent)).positive
        assert agent.directory.get(BRAVO).addresses == (("127.9.9.9", 5353), found)
        for bad in (relocate("192.0.2.256", 53, NOW * 2), relocate("127.9.9.9", 53, 1)):
            answer = (await bravo.send(bad, agent)).answer
            assert answer is not None
            assert answer.status == "rejected"
        other = relocate("127.9.9.9", 5353, bravo.clock.now() + 300, sender="agent.charlie.example.")
        assert not (await bravo.send(other, agent)).positive
        await agent._relocation_ends("relocation", agent.clock.now())
        assert len(agent.directory.get(BRAVO).addresses) == 2
        await agent.reset_peer(BRAVO)
        await world.until(lambda: agent.directory.get(BRAVO), what="bravo is found again")
        assert agent.directory.get(BRAVO).addresses == (found,)


def relocate(host: str, port: int, until: float, *, sender: str = BRAVO, transport: str = "udp") -> Relocate:
    message = decode_message(
        json.dumps(
            {
                "type": "relocate",
                "sender_id": sender,
                "new_address": {"host": host, "port": port, "transport": transport},
                "reason": "maintenance",
                "valid_until": int(until),
            }
        ).encode()
    )
    assert isinstance(message, Relocate)
    return message


FOUND = (("192.0.2.1", 53),)


def test_how_long_a_relocation_holds() -> None:
    held = Relocations()
    assert held.take(BRAVO, relocate("198.51.100.7", 53, NOW + 60), FOUND, NOW) == NOW + 60
    assert held.addresses(BRAVO, FOUND, NOW + 59) == (("198.51.100.7", 53), *FOUND)
    assert held.addresses(BRAVO, FOUND, NOW + 60) == FOUND
    assert held.take(BRAVO, relocate("198.51.100.7", 53, NOW * 2), FOUND, NOW) == NOW + LONGEST
    changed = (("192.0.2.2", 53),)
    assert held.addresses(BRAVO, changed, NOW) == changed  # DNS says something new: it wins
    assert held.addresses(BRAVO, FOUND, NOW) == FOUND
    held.take(BRAVO, relocate("192.0.2.1", 53, NOW + 60), FOUND, NOW)
    assert held.addresses(BRAVO, FOUND, NOW) == FOUND
    held.forget(BRAVO)
    assert held.addresses("agent.other.example.", FOUND, NOW) == FOUND


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (relocate("ns.example.", 53, NOW + 60), "no IP address"),
        (relocate("8.8.4.4", 0, NOW + 60), "port 0"),
        (relocate("8.8.4.4", 53, NOW), "expired"),
        (relocate("8.8.4.4", 53, 0), "expired"),
        (relocate("8.8.4.4", 53, NOW + 60, transport="https"), "transport"),
        (relocate("224.0.0.1", 53, NOW + 60), "no address of a host"),
        (relocate("0.0.0.0", 53, NOW + 60), "no address of a host"),
        (relocate("::ffff:192.0.2.7", 53, NOW + 60), "no address of a host"),
        (relocate("127.0.0.1", 53, NOW + 60), "same kind of network"),
        (relocate("fe80::1", 53, NOW + 60), "same kind of network"),
        (relocate("10.1.2.3", 53, NOW + 60), "same kind of network"),
    ],
)
def test_relocations_that_are_refused(message: Relocate, why: str) -> None:
    public = (("8.8.8.8", 53),)
    outcome = Relocations().take(BRAVO, message, public, NOW)
    assert isinstance(outcome, str)
    assert why in outcome
