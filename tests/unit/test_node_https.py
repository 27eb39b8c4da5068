"""HTTPS between agents: the same door as DNS, certificates by TLSA, and which way is taken.  On real sockets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import dns.resolver
import pytest

from mpcore.control.models import CertificateAction, CertificateRequest, ChangeRequest
from mpcore.errors import ConflictError, ExchangeError, NotFoundError, NotReadyError
from mpcore.node.https import public_octets
from mpcore.node.transports import FIRST_REST, LONGEST_REST, TransportHealth, in_order
from mpcore.peer.dane import tlsa_text
from mpcore.wire import frame
from mpcore.wire.messages import Rfi, Sync
from mpcore.wire.seal import PrivateKey, seal
from mpcore.zone import owners
from mpcore.zone.rrset import RRset, parse_rdata
from mpcore.zone.version import ZoneVersion
from tests.node_messages import every_message
from tests.node_world import CUSTOMER, Stranger, World, may_block
from tests.unit.test_node_door import ALPHA, BRAVO, Door, spy

pytestmark = pytest.mark.anyio

STATUS = {0: 200, 1: 400, 2: 503, 4: 501, 5: 403}


@asynccontextmanager
async def open_doors(directory: Path) -> AsyncIterator[Door]:
    """Agent bravo with both doors; alpha, played by the test, has announced a certificate."""
    world = World(directory)
    async with world.open():
        alpha = Stranger(world, ALPHA, world.providers["alpha"].address("agent"))
        alpha.https_keys = [world.key(f"https.{ALPHA}")]
        await alpha.serve()
        agent, combiner, signer = await world.start_provider("bravo", https=world.https("bravo"))
        await world.until(lambda: agent.directory.get(ALPHA), what="alpha is found in DNS")
        handled: Counter[tuple[str, str, str]] = Counter()
        for node in (agent, combiner, signer):
            spy(node, handled)
        yield Door(world, alpha, agent, combiner, signer, handled)


def sealed(door: Door, payload: bytes, **changes: Any) -> bytes:
    recipient = changes.pop("recipient", door.agent.key.public())
    return seal(payload, changes.pop("signer", door.alpha.key), recipient, BRAVO, door.alpha.clock.now())


async def both(door: Door, data: bytes, sender: str = ALPHA, key: PrivateKey | None = None) -> tuple[int, int, bool]:
    """Send the same octets by DNS and by HTTPS, under ids of their own: RCODE, status, whether both answered alike."""
    first, second = door.alpha.new_id(), door.alpha.new_id()
    door.alpha.used |= {first, second}
    octets = await door.alpha.transmit(frame.encode_notify(1, first, sender, data=data), door.agent)
    by_dns = frame.decode_response(octets, 1)
    shown = key or door.alpha.https_keys[0]
    status, body = await door.alpha.post(data, door.agent, f"{second}.{sender}", shown)
    return by_dns.rcode, status, bool(by_dns.data) == bool(body)


async def test_the_doors_are_one(tmp_path: Path) -> None:
    """Each kind of message, and each kind of nonsense, has the same fate by either way."""
    async with open_doors(tmp_path) as door:
        now = door.alpha.clock.now()
        ping = every_message(ALPHA, BRAVO, CUSTOMER, now)["ping"].to_json()
        other = PrivateKey.generate()
        good = sealed(door, ping)
        tampered = bytearray(good)
        tampered[len(tampered) // 2] ^= 1
        cases = {
            "clear text": ping,
            "not sealed at all": b"!!!",
            "signed by another": sealed(door, ping, signer=other),
            "sealed for another": sealed(door, ping, recipient=other.public()),
            "tampered with": bytes(tampered),
            "no JSON": sealed(door, b"{"),
            "unknown type": sealed(door, b'{"MessageType":"teleport"}'),
            "no type": sealed(door, b'{"MyIdentity":"agent.alpha.example."}'),
        }
        cases |= {kind: sealed(door, item.to_json()) for kind, item in door.messages(ALPHA, door.agent).items()}
        cases |= {
            f"{kind} of another": sealed(door, item.to_json())
            for kind, item in every_message("agent.charlie.example.", BRAVO, CUSTOMER, now).items()
        }
        cases |= {
            f"{kind} about another zone": sealed(door, item.to_json())
            for kind, item in every_message(ALPHA, BRAVO, "other.example.", now).items()
        }
        cases |= {
            f"{kind} of yesterday": sealed(door, item.to_json())
            for kind, item in door.messages(ALPHA, door.agent, 90000.0).items()
        }
        fates = {}
        for name, data in cases.items():
            rcode, status, alike = await both(door, data)
            fates[name] = rcode
            assert (name, status, alike) == (name, STATUS[rcode], True)
        assert {fates["ping"], fates["sync"], fates["rfi"]} == {0}
        assert {fates["no JSON"], fates["tampered with"]} == {1, 5}
        by_type = Counter((kind, count) for (_, kind, _), count in door.handled.items() if count)
        assert by_type["ping", 1] >= 2


async def test_strangers_learn_nothing_by_https(tmp_path: Path) -> None:
    async with open_doors(tmp_path) as door:
        ping = door.messages(ALPHA, door.agent)["ping"].to_json()
        good, key, other = sealed(door, ping), door.alpha.https_keys[0], PrivateKey.generate()
        attempts = {
            "certificate of nobody": (good, ALPHA, other),
            "certificate of another": (good, BRAVO, key),
            "unknown sender": (good, "agent.nobody.example.", other),
            "signed by another": (sealed(door, ping, signer=other), ALPHA, key),
            "empty": (b"", ALPHA, key),
            "other spelling": (good, "Agent.alpha.example.", key),
        }
        for name, (data, sender, shown) in attempts.items():
            number = door.alpha.new_id()
            door.alpha.used.add(number)
            assert (name, await door.alpha.post(data, door.agent, f"{number}.{sender}", shown)) == (name, (403, b""))
        assert not door.own
        # A message for the right door, to the wrong path; names that are none.
        assert (await door.alpha.post(good, door.agent, "a/00000001." + ALPHA, key))[0] == 404
        for name in ("ping.", f"0000.{ALPHA}".removesuffix("."), "", "a..example.", "." * 20):
            assert (name, await door.alpha.post(good, door.agent, name, key)) == (name, (400, b""))


async def test_a_message_is_taken_once_whatever_the_way(tmp_path: Path) -> None:
    """What came by DNS and comes again by HTTPS is answered as it was the first time."""
    async with open_doors(tmp_path) as door:
        message = door.messages(ALPHA, door.agent)["sync"]
        assert isinstance(message, Sync)
        number = door.alpha.new_id()
        assert (await door.alpha.send(message, door.agent, number)).positive
        data = sealed(door, message.to_json())
        for _ in range(2):
            status, body = await door.alpha.post(data, door.agent, f"{number}.{ALPHA}", door.alpha.https_keys[0])
            assert (status, bool(body)) == (200, True)
        assert door.count("agent", "sync", number) == 1


async def test_what_dns_cannot_carry_whole(tmp_path: Path) -> None:
    """A message of some hundred thousand octets goes in one piece."""
    async with open_doors(tmp_path) as door:
        rfi = door.messages(ALPHA, door.agent)["rfi"]
        assert isinstance(rfi, Rfi)
        large = rfi.model_copy(update={"records": {f"n{index}.{CUSTOMER}": ["x" * 300] for index in range(900)}})
        data = sealed(door, large.to_json())
        assert 500_000 < len(data) < 1 << 20
        status, _ = await door.alpha.post(data, door.agent, f"{door.alpha.new_id()}.{ALPHA}", door.alpha.https_keys[0])
        assert status == 200


async def test_a_new_certificate_is_looked_up(tmp_path: Path) -> None:
    """One that is not published is refused; when it is, the refusal makes us look."""
    async with open_doors(tmp_path) as door:
        ping, fresh = door.messages(ALPHA, door.agent)["ping"].to_json(), PrivateKey.generate()

        async def status() -> int:
            name = f"{door.alpha.new_id()}.{ALPHA}"
            return (await door.alpha.post(sealed(door, ping), door.agent, name, fresh))[0]

        assert await status() == 403
        door.alpha.https_keys.append(fresh)
        door.alpha.publish()
        with anyio.fail_after(20):
            while await status() != 200:  # noqa: ASYNC110 -- asking is what makes it look
                await anyio.sleep(0.1)
        # Without any certificate in DNS there is no HTTPS, however good the certificate was.
        door.alpha.https_keys = []
        door.alpha.publish()
        await door.agent.reset_peer(ALPHA)
        await door.world.until(lambda: door.agent.directory.get(ALPHA), what="alpha is found again")
        assert await status() == 403


# ------------------------------------------------------------------------------------------------------- whole agents


def counts(agent: Any, peer: str) -> dict[str, tuple[int, int]]:
    """Messages to and from a peer, by the way they took."""
    return {item.name: (item.sent, item.received) for item in agent.peer_transports(peer)}


def mutual(world: World) -> bool:
    """Whether all agents know how to reach each other by HTTPS."""
    agents = world.agents()
    return all(
        (contact := one.directory.get(other.identity)) is not None and contact.https is not None
        for one in agents
        for other in agents
        if one is not other
    )


async def test_three_providers_by_https_alone(tmp_path: Path) -> None:
    """An election and an edit, with nothing between agents by DNS once they know each other's certificates."""
    labels = ("alpha", "bravo", "charlie")
    world = World(tmp_path, providers=labels)
    async with world.open():
        for label in labels:
            await world.start_provider(label, https=world.https(label, fall_back=False))
        await world.until(lambda: mutual(world) and world.agreed(), what="a leader")
        alpha, *others = world.agents()
        request = ChangeRequest(operation="add", record=f"{CUSTOMER} 300 IN NS ns2.alpha.example.")
        await alpha.change(CUSTOMER, request)
        await world.until(
            lambda: all(any("ns2.alpha" in item.record for item in agent.edits(CUSTOMER).records) for agent in others),
            what="the edit is everywhere",
        )
        for agent in world.agents():
            for other in world.agents():
                if agent is not other:
                    shown = counts(agent, other.identity)
                    assert (shown["dns"], min(shown["https"]) > 2) == ((0, 0), True), shown


async def test_one_of_three_has_dns_only(tmp_path: Path) -> None:
    labels = ("alpha", "bravo", "charlie")
    world = World(tmp_path, providers=labels)
    async with world.open():
        for label in labels[:2]:
            await world.start_provider(label, https=world.https(label))
        await world.start_provider("charlie")
        await world.until(lambda: world.agreed(), what="a leader")
        alpha, bravo, charlie = world.agents()
        await world.until(lambda: min(counts(alpha, BRAVO)["https"]) > 0, what="alpha and bravo use HTTPS")
        assert counts(alpha, charlie.identity)["https"] == (0, 0)
        assert min(counts(alpha, charlie.identity)["dns"]) > 0
        assert charlie.peers()[0].transports == ()
        assert charlie.directory.get(ALPHA).https is None
        unavailable = {item.name: item.unavailable for item in alpha.peer_transports(charlie.identity)}
        assert unavailable == {"dns": None, "https": "it does not announce HTTPS"}
        del bravo


async def test_dns_takes_over_while_https_is_blocked(tmp_path: Path) -> None:
    world = World(tmp_path)
    blocked, under_way = False, 0
    async with world.open():
        alpha, _, _ = await world.start_provider("alpha", https=world.https("alpha"))
        post = alpha.https.links.post

        async def posting(*arguments: Any, **named: Any) -> Any:
            nonlocal under_way
            if blocked:
                raise ExchangeError("blocked by the test")
            under_way += 1
            try:
                return await post(*arguments, **named)
            finally:
                under_way -= 1

        alpha.https.links.post = posting
        await world.start_provider("bravo", https=world.https("bravo"))
        await world.until(lambda: mutual(world) and world.agreed(), what="a leader")
        await world.until(lambda: counts(alpha, BRAVO)["https"][0] > 0, what="HTTPS is used")
        # A beat that was under way when the way is blocked would still prove that the way is good.
        await world.until(lambda: not under_way, what="nothing is under way")
        blocked = True
        before = counts(alpha, BRAVO)["dns"][0]
        assert (await alpha.ping(BRAVO, 5)).ok
        first, second = alpha.peer_transports(BRAVO)
        assert first.name == "dns"
        assert first.sent > before
        assert (second.name, second.last_error) == ("https", "blocked by the test")
        assert second.rests_until is not None
        assert second.failures > 0
        # While it rests, DNS is asked first; afterwards it is tried again.
        failures = second.failures
        assert (await alpha.ping(BRAVO, 5)).ok
        assert alpha.peer_transports(BRAVO)[1].failures == failures
        blocked = False
        alpha.directory.traffic(BRAVO).over("https").rests_until = 0.0
        assert (await alpha.ping(BRAVO, 5)).ok
        assert alpha.peer_transports(BRAVO)[0].name == "https"
        assert alpha.peer_transports(BRAVO)[0].failures == 0


async def test_a_server_that_is_another_gets_nothing(tmp_path: Path) -> None:
    """Whoever answers at the address of a peer with a key that is not published sees no message of ours."""
    world = World(tmp_path)
    async with world.open():
        await world.start_provider("alpha", https=world.https("alpha", fall_back=False))
        await world.start_provider("bravo", https=world.https("bravo", fall_back=False))
        await world.until(lambda: mutual(world) and world.agreed(), what="a leader")
        alpha, bravo = world.agents()
        bravo.https.set_key(PrivateKey.generate())
        await alpha.https.links.aclose()
        asked = bravo.https.server.counters["requests"]
        answer = await alpha.ping(BRAVO, 5)
        assert not answer.ok
        assert "the key of its certificate is not published" in str(answer.error)
        assert bravo.https.server.counters["requests"] == asked
        assert "by DNS" not in str(answer.error)


async def test_dns_first_if_preferred(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open():
        await world.start_provider("alpha", https=world.https("alpha", prefer="dns"))
        await world.start_provider("bravo", https=world.https("bravo", prefer="dns"))
        await world.until(lambda: mutual(world) and world.agreed(), what="a leader")
        alpha, bravo = world.agents()
        assert counts(alpha, BRAVO)["https"] == counts(bravo, ALPHA)["https"] == (0, 0)


async def test_a_certificate_that_is_not_validated_is_none(tmp_path: Path) -> None:
    """TLSA records outside of DNSSEC, or of other kinds, count for nothing; the peer is reached by DNS."""
    world = World(tmp_path)
    async with world.open():
        alpha = Stranger(world, ALPHA, world.providers["alpha"].address("agent"))
        alpha.https_keys = [world.key(f"https.{ALPHA}")]
        await alpha.serve()
        origin = owners.from_text(ALPHA)
        owner = owners.from_text(f"_{world.https_port}._tcp.https.{ALPHA}")
        good = alpha.zones[origin]
        bravo, _, _ = await world.start_provider("bravo", https=world.https("bravo"))
        await world.until(lambda: bravo.directory.get(ALPHA), what="alpha is found")
        assert bravo.directory.get(ALPHA).https is not None
        digest = tlsa_text(public_octets(alpha.https_keys[0]))[6:]

        async def found(version: ZoneVersion) -> str:
            alpha.zones[origin] = version
            await bravo.reset_peer(ALPHA)
            await world.until(lambda: bravo.directory.get(ALPHA), what="alpha is found again")
            assert bravo.directory.get(ALPHA).https is None
            return str(bravo.machines[ALPHA].contact.https_problem)

        # The signature does not belong to this record any more.
        forged = good.update([(owner, 52, RRset.make(52, 3600, [parse_rdata(52, f"3 1 1 {'00' * 32}")]))])
        assert "TLSA" in await found(forged)
        for text in (f"2 1 1 {digest}", f"3 0 1 {digest}", f"3 1 0 {digest}"):
            alpha.publish()
            signed = alpha.zones[origin]
            other = alpha.resigned([(owner, 52, RRset.make(52, 3600, [parse_rdata(52, text)]))])
            assert "usage 3 and selector 1" in await found(other), (text, signed)
        assert "TLSA" in await found(alpha.resigned([(owner, 52, None)]))


async def test_what_is_published_is_only_what_go_does_not_look_for(tmp_path: Path) -> None:
    """The records that make a deployed agent try HTTPS are not there; a judge finds ours, and they are of our key."""
    world = World(tmp_path)
    async with world.open():
        with_https, _, _ = await world.start_provider("alpha", https=world.https("alpha"))
        without, _, _ = await world.start_provider("bravo")
        names = {}
        for agent in (with_https, without):
            version = agent.identity_zone.version
            names[agent.identity] = {owners.to_text(owner) for owner, _ in version.rrsets()}
        for identity, found in names.items():
            assert f"_https._tcp.{identity}" not in found
            assert f"api.{identity}" not in found
            assert not any(name.endswith(f"._tcp.api.{identity}") for name in found)
        assert not any("https" in name for name in names[BRAVO])
        # The same by dnspython, which knows nothing of this code.
        server = dns.resolver.Resolver(configure=False)
        server.nameservers, server.port = [with_https.settings.listen[0].address], world.port

        def ask(owner: str, kind: str) -> list[str]:
            return [item.to_text() for item in server.resolve(owner, kind, raise_on_no_answer=False)]

        port = world.https_port
        (uri,) = await anyio.to_thread.run_sync(ask, f"_mp-https._tcp.{ALPHA}", "URI")
        assert uri == f'1 1 "https://https.{ALPHA}:{port}/mp/1"'
        (tlsa,) = await anyio.to_thread.run_sync(ask, f"_{port}._tcp.https.{ALPHA}", "TLSA")
        assert tlsa == tlsa_text(public_octets(world.key(f"https.{ALPHA}")))


async def test_rolling_the_certificate_over(tmp_path: Path) -> None:
    """Both keys are published before the next one is shown; peers go on by HTTPS, and files stay closed to others."""
    world = World(tmp_path)
    async with world.open():
        await world.start_provider("alpha", https=world.https("alpha", fall_back=False))
        await world.start_provider("bravo", https=world.https("bravo", fall_back=False))
        await world.until(lambda: mutual(world) and world.agreed(), what="a leader")
        alpha, bravo = world.agents()
        first = alpha.certificate()
        assert (first.step, [key.use for key in first.keys]) == ("steady", ["current"])

        def order(action: CertificateAction, **members: Any) -> CertificateRequest:
            return CertificateRequest(action=action, **members)

        with pytest.raises(ConflictError, match="step is steady"):
            await alpha.certificate_action(order(CertificateAction.SWITCH))
        prepared = await alpha.certificate_action(order(CertificateAction.PREPARE))
        assert [key.use for key in prepared.keys] == ["current", "next"]
        with pytest.raises(NotReadyError, match="safe in 7"):
            await alpha.certificate_action(order(CertificateAction.SWITCH))
        await bravo.reset_peer(ALPHA)
        await world.until(
            lambda: (found := bravo.directory.get(ALPHA)) and found.https and len(found.https.tlsa) == 2,
            what="bravo knows both",
        )
        switched = await alpha.certificate_action(order(CertificateAction.SWITCH, force=True))
        assert [key.tlsa for key in switched.keys] == [prepared.keys[1].tlsa]
        assert (await alpha.ping(BRAVO, 5)).ok
        assert (await bravo.ping(ALPHA, 5)).ok
        assert counts(alpha, BRAVO)["dns"] == counts(bravo, ALPHA)["dns"] == (0, 0)
        with may_block():
            assert [name for name in os.listdir(tmp_path) if name.startswith(f"{ALPHA}https.jwk")] == [
                f"{ALPHA}https.jwk"
            ]
            assert os.stat(tmp_path / f"{ALPHA}https.jwk").st_mode & 0o777 == 0o600
        with pytest.raises(NotFoundError, match="has no HTTPS"):
            world.node("combiner", "alpha").certificate()


def test_the_order_of_ways() -> None:
    health = TransportHealth()
    ways = ("https", "dns")
    assert in_order(ways, {}, 0.0) == ways  # type: ignore[arg-type]
    rests = []
    now = 0.0
    for _ in range(12):
        health.failed("it failed", now)
        rests.append(health.rests_until - now)
        assert in_order(ways, {"https": health}, now) == ("dns", "https")  # type: ignore[arg-type]
        now = health.rests_until
        assert in_order(ways, {"https": health}, now) == ways  # type: ignore[arg-type]
    assert rests[:4] == [2, 4, 8, 16]
    assert max(rests) == LONGEST_REST
    for _ in range(5):  # several at the same time are one reason to rest, and a refusal costs no time
        health.failed("refused", now, answered=True)
        assert health.rests_until == now + FIRST_REST
    health.acknowledged(now, 0.1)
    assert (health.failures, health.last_error, health.rests_until) == (0, None, 0.0)
