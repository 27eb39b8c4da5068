"""The handler of updates over real sockets: who is heard, what is checked first, once and one at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import dns.message
import dns.rcode
import pytest

import mpcore.net.update
from mpcore.errors import ExchangeError, StoreError
from mpcore.net.acl import Acl
from mpcore.net.client import exchange
from mpcore.net.clock import SystemClock
from mpcore.net.messages import UPDATE
from mpcore.net.network import InternetNetwork
from mpcore.net.server import DnsServer, Request
from mpcore.net.update import ReplayMemory, UpdatableZone, UpdateLimits, UpdateServer
from mpcore.signer.keys import Algorithm, dnskey_rdata, generate_private_key, raw_signer
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.sig0 import Sig0Key, Sig0Keys, sign_sig0
from mpcore.zone.tsig import TsigKey, sign_message, verify_message
from mpcore.zone.update import Requestor, Update, UpdatePolicy, UpdateRecord, UpdateResult, UpdateRule, encode_update
from mpcore.zone.version import ZoneVersion

pytestmark = pytest.mark.anyio

NETWORK = InternetNetwork()
ORIGIN = owners.from_text("example.")
TSIG = TsigKey(owners.from_text("tsig.key."), "hmac-sha256", bytes(32))
IDLE = TsigKey(owners.from_text("idle.key."), "hmac-sha256", bytes(32))
PRIVATE = generate_private_key(Algorithm.ED25519)
SIG0 = Sig0Key(owners.from_text("host.example."), dnskey_rdata(PRIVATE, 0x0200))
TEXT = """$ORIGIN example.
@   300 IN SOA ns hostmaster 7 3600 600 86400 300
@   300 IN NS ns.example.net.
"""


class Primary:
    """One zone that takes updates, and the test's hands on it."""

    def __init__(self, limits: UpdateLimits = UpdateLimits(), sources: Acl | None = None) -> None:  # noqa: B008
        self.version: ZoneVersion | None = read_master_text(TEXT)
        self.commits: list[int] = []
        self.failing: Exception | None = None
        self.gate: anyio.Event | None = None
        self.committing = anyio.Event()
        self.clock = SystemClock()
        policy = UpdatePolicy(
            [
                UpdateRule.of("tsig", "tsig.key.", "zonesub"),
                UpdateRule.of("sig0", "host.example.", "selfsub", types=["A"]),
            ]
        )
        zone = UpdatableZone(lambda: self.version, self.commit, policy, Sig0Keys([SIG0]))
        if sources is not None:
            zone = UpdatableZone(lambda: self.version, self.commit, policy, Sig0Keys([SIG0]), sources)
        self.server = DnsServer(
            NETWORK, [("127.0.0.1", 0)], keyring={TSIG.name: TSIG, IDLE.name: IDLE}, clock=self.clock
        )
        self.received, self.four = 0, anyio.Event()
        handler = UpdateServer({ORIGIN: zone}, clock=self.clock, limits=limits)

        async def handle(request: Request) -> bytes | None:
            self.received += 1
            if self.received == 4:
                self.four.set()
            return await handler.handle(request)

        self.server.register(handle, UPDATE)

    async def commit(self, result: UpdateResult, requestor: Requestor) -> None:
        self.committing.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        self.version = result.version
        self.commits.append(result.version.serial)

    async def ask(self, octets: bytes, *, over_tcp: bool = False, timeout: float = 5) -> dns.message.Message:
        host, port = self.server.addresses[0]
        return dns.message.from_wire(
            await exchange(NETWORK, octets, host, port, over_tcp=over_tcp, timeout=timeout), ignore_trailing=False
        )

    async def rcode(self, octets: bytes) -> str:
        answer = await exchange(NETWORK, octets, *self.server.addresses[0])
        if answer[10:12] == b"\0\0":  # dnspython does not read all answers to what it would not write
            return dns.rcode.to_text(dns.rcode.Rcode(answer[3] & 15))
        return dns.rcode.to_text(dns.message.from_wire(answer).rcode())

    async def tsig(self, octets: bytes, key: TsigKey = TSIG) -> str:
        """RCODE of the answer to an update signed with TSIG, whose answer must be signed too."""
        signed, mac = sign_message(octets, key, self.clock.now())
        answer = await exchange(NETWORK, signed, *self.server.addresses[0])
        verified = verify_message(answer, {key.name: key}, self.clock.now(), request_mac=mac)
        assert verified is not None
        return dns.rcode.to_text(dns.message.from_wire(verified.octets).rcode())


@asynccontextmanager
async def serving(primary: Primary) -> AsyncIterator[Primary]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(primary.server.serve)
        yield primary
        tasks.cancel_scope.cancel()


def update(name: str = "a.host", number: int = 1, *, message_id: int = 1, count: int = 1) -> bytes:
    """Adds addresses to a name."""
    owner = owners.from_text(name, ORIGIN)
    records = tuple(
        UpdateRecord(owner, 1, 1, 60, bytes((192, 0, number + at >> 8, number + at & 255))) for at in range(count)
    )
    return encode_update(Update(ORIGIN, (), records), message_id)


def by_key(octets: bytes, now: float, *, key: Sig0Key = SIG0, sign: Callable[[bytes], bytes] = PRIVATE.sign) -> bytes:
    return sign_sig0(octets, key, sign, now)


def addresses(primary: Primary, name: str = "a.host") -> Sequence[bytes]:
    assert primary.version is not None
    rrset = primary.version.get(owners.from_text(name, ORIGIN), 1)
    return () if rrset is None else rrset.rdatas


# --- who is heard ---------------------------------------------------------------------------------------------------


async def test_both_kinds_of_signature_are_taken() -> None:
    async with serving(Primary()) as primary:
        assert await primary.tsig(update("www")) == "NOERROR"
        assert await primary.rcode(by_key(update(), primary.clock.now())) == "NOERROR"
        assert await primary.rcode(by_key(update("www", 2), primary.clock.now())) == "REFUSED"
        assert await primary.tsig(update("www", 2), IDLE) == "REFUSED"
        assert await primary.rcode(update()) == "REFUSED"
    assert primary.commits == [8, 9]
    assert addresses(primary) == (bytes((192, 0, 0, 1)),)


async def test_faults_of_the_zone_section() -> None:
    octets = update()
    end = 12 + len(ORIGIN)
    async with serving(Primary()) as primary:
        assert await primary.rcode(octets[:end] + b"\0\1" + octets[end + 2 :]) == "FORMERR"
        assert await primary.rcode(octets[:end] + b"\0\6\0\3" + octets[end + 4 :]) == "NOTAUTH"
        other = encode_update(Update(owners.from_text("elsewhere."), (), ()), 1)
        assert await primary.rcode(other) == "NOTAUTH"
        below = encode_update(Update(owners.from_text("www.example."), (), ()), 1)
        assert await primary.rcode(below) == "NOTAUTH"
        primary.version = None
        assert await primary.tsig(octets) == "SERVFAIL"


async def test_errors_of_sig0_are_told_with_their_own_rcodes() -> None:
    """RCODEs above 15 need an OPT record, also where the request had none (RFC 6891, section 6.1.3)."""
    stranger = generate_private_key(Algorithm.ED25519)
    unknown = Sig0Key(SIG0.name, dnskey_rdata(stranger, 0x0200))
    async with serving(Primary()) as primary:
        now = primary.clock.now()
        for octets, rcode in (
            (by_key(update(), now, key=unknown, sign=raw_signer(stranger)), 17),
            (by_key(update(), now, sign=raw_signer(stranger)), 16),
            (by_key(update(), now - 1000), 18),
            (by_key(update(), now + 1000), 18),
        ):
            answer = await primary.ask(octets)
            assert answer.rcode() == rcode
            assert answer.edns == 0
        assert await primary.tsig(by_key(update(), now)) == "FORMERR"  # both kinds
    assert primary.commits == []


async def test_a_source_that_is_not_permitted_is_refused_before_anything_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> bytes:
        raise AssertionError("a signature was verified")

    monkeypatch.setattr(mpcore.net.update, "verify_sig0", never)
    async with serving(Primary(sources=Acl.of([("192.0.2.0/24", None), ("127.0.0.0/8", "tsig.key.")]))) as primary:
        assert await primary.rcode(by_key(update(), primary.clock.now())) == "REFUSED"
        assert await primary.tsig(update()) == "NOERROR"
    async with serving(Primary(UpdateLimits(max_records=3))) as primary:
        assert await primary.rcode(by_key(update(count=4), primary.clock.now())) == "REFUSED"
        assert await primary.rcode(by_key(update(), primary.clock.now() - 1000)) == "BADTIME"
    assert not primary.server.counters["failed"]


async def test_verifications_and_updates_of_a_source_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    real = mpcore.net.update.verify_sig0
    monkeypatch.setattr(mpcore.net.update, "verify_sig0", lambda *args: verified.append(1) or real(*args))
    limits = UpdateLimits(verifications=1e-6, verification_burst=2, rate=1e-6, burst=5)
    async with serving(Primary(limits)) as primary:
        now = primary.clock.now()
        wrong = [by_key(update(number=number), now, sign=lambda data: bytes(64)) for number in range(3)]
        assert [await primary.rcode(octets) for octets in wrong[:2]] == ["BADVERS", "BADVERS"]  # 16 has two names
        with pytest.raises(ExchangeError):
            await primary.ask(wrong[2], timeout=0.2)
        assert await primary.tsig(update("www")) == "NOERROR"
        assert await primary.tsig(update("www", 2)) == "NOERROR"
        with pytest.raises(ExchangeError):
            await primary.ask(update(), timeout=0.2)
    assert len(verified) == 2


# --- once -----------------------------------------------------------------------------------------------------------


async def test_a_repetition_gets_the_same_answer_and_changes_nothing() -> None:
    async with serving(Primary()) as primary:
        now = primary.clock.now()
        add = by_key(update(message_id=1), now)
        owner = owners.from_text("a.host", ORIGIN)
        remove = Update(ORIGIN, (UpdateRecord(owner, 255, 255, 0, b""),), (UpdateRecord(owner, 1, 255, 0, b""),))
        removal = by_key(encode_update(remove, 2), now)
        assert await primary.rcode(removal) == "NXDOMAIN"
        assert await primary.rcode(add) == "NOERROR"
        assert await primary.rcode(removal) == "NXDOMAIN"  # as before, though now the name is in use
        fresh = by_key(encode_update(remove, 3), now)
        assert await primary.rcode(fresh) == "NOERROR"
        assert await primary.rcode(add) == "NOERROR"  # the recording is played again: the name stays away
        assert addresses(primary) == ()
        signed, _ = sign_message(update("www"), TSIG, now)
        for _ in range(3):
            assert (await exchange(NETWORK, signed, *primary.server.addresses[0]))[3] & 15 == 0
    assert primary.commits == [8, 9, 10]


async def test_what_could_not_be_kept_may_be_sent_again() -> None:
    async with serving(Primary()) as primary:
        octets = by_key(update(), primary.clock.now())
        for primary.failing in (StoreError("no disk"), RuntimeError("a mistake")):
            assert await primary.rcode(octets) == "SERVFAIL"
        assert addresses(primary) == ()
        primary.failing = None
        assert await primary.rcode(octets) == "NOERROR"
    assert primary.commits == [8]
    assert primary.server.counters["failed"] == 1  # the mistake, not the disk


async def test_updates_of_a_zone_are_made_one_at_a_time_and_repetitions_meanwhile_wait_for_nothing() -> None:
    async with serving(Primary(UpdateLimits(max_waiting=2))) as primary, anyio.create_task_group() as tasks:
        primary.gate = anyio.Event()
        now = primary.clock.now()
        answers: list[str] = []

        async def send(octets: bytes) -> None:
            answers.append(await primary.rcode(octets))

        first = by_key(update(number=1), now)
        tasks.start_soon(send, first)
        await primary.committing.wait()
        with pytest.raises(ExchangeError):
            await primary.ask(first, timeout=0.2)  # the answer is on its way
        for number in (2, 3):
            tasks.start_soon(send, by_key(update(number=number), now))
        await primary.four.wait()
        assert await primary.rcode(by_key(update(number=4), now)) == "SERVFAIL"
        assert answers == []
        primary.gate.set()
    assert answers == ["NOERROR"] * 3
    assert primary.commits == [8, 9, 10]
    assert len(addresses(primary)) == 3


async def test_large_updates_are_worked_on_where_the_caller_says() -> None:
    ran = []

    async def run(function: Callable[[], object]) -> object:
        ran.append(1)
        return function()

    primary = Primary()
    zone = UpdatableZone(
        lambda: primary.version, primary.commit, UpdatePolicy([UpdateRule.of("tsig", "tsig.key.", "zonesub")])
    )
    handler = UpdateServer({ORIGIN: zone}, clock=primary.clock, run=run)  # type: ignore[arg-type]
    primary.server = DnsServer(NETWORK, [("127.0.0.1", 0)], keyring={TSIG.name: TSIG}, clock=primary.clock)
    primary.server.register(handler.handle, UPDATE)
    async with serving(primary):
        assert await primary.tsig(update(count=5)) == "NOERROR"
        assert await primary.tsig(update("b", count=100)) == "NOERROR"
    assert ran == [1]


def test_the_memory_of_messages_is_bounded_and_forgets_what_is_no_longer_valid() -> None:
    memory = ReplayMemory(3)
    one, two = Requestor("tsig", b"\1a\0"), Requestor("sig0", b"\1a\0")
    for number in range(3):
        assert memory.begin(one, bytes((number,)), now=100, until=200 + number)
        memory.answered(one, bytes((number,)), b"answer")
    assert not memory.begin(one, b"x", now=150, until=300)
    assert memory.begin(two, b"x", now=150, until=300)  # another's room
    assert memory.answer(one, b"\1") == b"answer"
    assert memory.answer(two, b"x") is None
    assert not memory.known(one, b"x")
    assert memory.begin(one, b"x", now=200.5, until=300)  # one has expired
    assert not memory.known(one, b"\0")
    assert memory.known(one, b"\1")
    memory.answered(one, b"x", None)
    assert not memory.known(one, b"x")
    assert len(memory) == 3
