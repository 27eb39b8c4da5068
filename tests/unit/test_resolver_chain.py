"""Validation through the resolver: keys that change, servers that disagree, octets that are changed on the way."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import dns.dnssec
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from mpcore.errors import BogusError, ConfigError, ResolutionError
from mpcore.net.network import InternetNetwork
from mpcore.net.resolver import Resolver, Security, ValidationError, load_trust_anchors
from mpcore.net.resolver_events import Observer
from mpcore.net.server import DnsServer, Request

anyio_test = pytest.mark.anyio

_BLOCK = f"127.{random.randrange(16, 250)}.{os.getpid() % 250}"
FIRST, SECOND = f"{_BLOCK}.11", f"{_BLOCK}.12"
ZONE = dns.name.from_text("example.")
START = 1_800_000_000.0


class ManualClock:
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class Signer:
    """A key that signs everything of the zone."""

    def __init__(self) -> None:
        self.private = ed25519.Ed25519PrivateKey.generate()
        self.key: DNSKEY = dns.dnssec.make_dnskey(self.private.public_key(), "ED25519", 257)

    def sign(self, rrset: dns.rrset.RRset, lifetime: int = 86400) -> dns.rrset.RRset:
        inception, expiration = int(START) - 3600, int(START) + lifetime
        rrsig = dns.dnssec.sign(rrset, self.private, ZONE, self.key, inception=inception, expiration=expiration)
        return dns.rrset.from_rdata(rrset.name, rrset.ttl, rrsig)


@dataclass
class Zone:
    """The zone example. on one server: its apex is the trust anchor, and everything is signed by *signers*."""

    signers: list[Signer]
    keys: list[DNSKEY]
    address: str = "192.0.2.1"
    lifetime: int = 86400
    alter: Callable[[bytes], bytes] = bytes
    keys_asked: int = field(default=0)

    async def __call__(self, request: Request) -> bytes:
        query = dns.message.from_wire(request.octets)
        question = query.question[0]
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        if question.rdtype == dns.rdatatype.DNSKEY:
            self.keys_asked += 1
            rrset = dns.rrset.from_rdata_list(ZONE, 300, self.keys)
        else:
            rrset = dns.rrset.from_text(question.name, 300, "IN", "A", self.address)
        response.answer = [rrset]
        for signer in self.signers:
            response.answer.append(signer.sign(rrset, self.lifetime))
        octets = response.to_wire(max_size=65535)
        return octets if question.rdtype == dns.rdatatype.DNSKEY else self.alter(octets)


@asynccontextmanager
async def resolving(
    anchors: list[Signer], *zones: Zone, seed: int = 1, observe: Observer | None = None
) -> AsyncIterator[tuple[Resolver, ManualClock]]:
    clock = ManualClock()
    async with anyio.create_task_group() as tasks:
        port = 0
        for address, zone in zip((FIRST, SECOND), zones, strict=False):
            server = DnsServer(InternetNetwork(), [(address, port)])
            server.register(zone, 0)
            port = (await tasks.start(server.serve))[0][1]
        yield (
            Resolver(
                InternetNetwork(),
                trust_anchors=[dns.rrset.from_rdata_list(ZONE, 0, [signer.key for signer in anchors])],
                root_hints=[FIRST, SECOND][: len(zones)],
                port=port,
                clock=clock,
                random=random.Random(seed),
                timeout=0.3,
                observe=observe,
            ),
            clock,
        )
        tasks.cancel_scope.cancel()


@anyio_test
async def test_a_zone_below_its_anchor_is_secure() -> None:
    signer = Signer()
    async with resolving([signer], Zone([signer], [signer.key])) as (resolver, _):
        answer = await resolver.resolve("www.example.", "A")
        assert answer.secure
        assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.A, dns.rdatatype.RRSIG]
        assert (await resolver.resolve("www.elsewhere.", "A")).security is Security.INDETERMINATE


@anyio_test
async def test_an_answer_is_not_remembered_longer_than_its_signature_lasts() -> None:
    signer = Signer()
    async with resolving([signer], Zone([signer], [signer.key], lifetime=20)) as (resolver, clock):
        answer = await resolver.resolve("www.example.", "A")
        assert answer.expires == START + 20
        assert answer.rrset is not None
        assert answer.rrset.ttl == 20
        clock.time += 21
        with pytest.raises(ValidationError) as caught:
            await resolver.resolve("www.example.", "A")
        assert caught.value.code == dns.edns.EDECode.SIGNATURE_EXPIRED


@anyio_test
async def test_a_key_that_another_provider_added_is_noticed() -> None:
    """RFC 8901, section 6: a DNSKEY RRset that is remembered must not make answers of the new signer bogus."""
    old, new = Signer(), Signer()
    zone = Zone([old], [old.key])
    async with resolving([old], zone) as (resolver, clock):
        assert (await resolver.resolve("www.example.", "A")).secure
        zone.keys, zone.signers = [old.key, new.key], [old, new]
        clock.time += 2
        await resolver.resolve("a.example.", "A")
        assert zone.keys_asked == 1, "nothing is wrong, so nothing is asked anew"

        class OnlyNew(Signer):
            """Signs the DNSKEY RRset with the old key, data with the new one."""

            def sign(self, rrset: dns.rrset.RRset, lifetime: int = 86400) -> dns.rrset.RRset:
                return (old if rrset.rdtype == dns.rdatatype.DNSKEY else new).sign(rrset, lifetime)

        zone.signers = [OnlyNew()]
        assert (await resolver.resolve("b.example.", "A")).secure
        assert zone.keys_asked == 2
        await resolver.resolve("c.example.", "A")
        assert zone.keys_asked == 2


@anyio_test
@pytest.mark.parametrize("seed", range(4))
async def test_one_provider_that_serves_rubbish_does_not_matter(seed: int) -> None:
    signer, stranger = Signer(), Signer()
    good, bad = Zone([signer], [signer.key]), Zone([stranger], [stranger.key], address="192.0.2.66")
    async with resolving([signer], bad, good, seed=seed) as (resolver, _):
        for index in range(4):
            answer = await resolver.resolve(f"n{index}.example.", "A")
            assert answer.secure
            assert answer.rrset is not None
            assert answer.rrset[0].address == "192.0.2.1"


@anyio_test
async def test_bogus_data_is_refused_and_asked_for_again_soon() -> None:
    signer, stranger = Signer(), Signer()
    zone = Zone([stranger], [signer.key])
    async with resolving([signer], zone) as (resolver, clock):
        with pytest.raises(BogusError):
            await resolver.resolve("www.example.", "A")
        unchecked = await resolver.resolve("www.example.", "A", check=False)
        assert unchecked.security is Security.BOGUS
        assert unchecked.rrset is not None
        assert unchecked.reason
        zone.signers = [signer]
        clock.time += 1.01
        assert (await resolver.resolve("www.example.", "A")).secure
        assert resolver.stats().bogus >= 1


@anyio_test
async def test_flush_forgets_bogus_data() -> None:
    signer, stranger = Signer(), Signer()
    zone = Zone([signer], [stranger.key])
    async with resolving([signer], zone) as (resolver, _):
        with pytest.raises(BogusError):
            await resolver.resolve("www.example.", "A")
        zone.keys = [signer.key]
        resolver.flush("example.")
        assert (await resolver.resolve("www.example.", "A")).secure


@anyio_test
async def test_octets_changed_on_the_way_never_make_secure_data() -> None:
    """Whatever is flipped, cut or doubled: an answer that is called secure says what was signed."""
    signer = Signer()
    chance = random.Random(20)

    def alter(octets: bytes) -> bytes:
        changed = bytearray(octets)
        start = 12 + len(b"\x03www\x07example\x00") + 4  # header and question are checked by the client
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(start, len(changed))
            match chance.randrange(3):
                case 0:
                    changed[at] ^= 1 << chance.randrange(8)
                case 1:
                    del changed[at : at + chance.randrange(1, 4)]
                case _:
                    changed[at:at] = changed[at : at + chance.randrange(1, 8)]
            if len(changed) <= start:
                break
        return bytes(changed)

    zone = Zone([signer], [signer.key], alter=alter)
    verdicts: set[str] = set()
    async with resolving([signer], zone) as (resolver, _):
        for _ in range(250):
            try:
                answer = await resolver.resolve("www.example.", "A")
                assert answer.secure
                assert answer.rrset is not None
                assert [rdata.to_text() for rdata in answer.rrset] == ["192.0.2.1"]
                verdicts.add("secure")
            except BogusError:
                verdicts.add("bogus")
            except ResolutionError:
                verdicts.add("unusable")
            resolver.flush("www.example.")
    assert verdicts == {"secure", "bogus", "unusable"}


def _expanded(signer: Signer, owner: dns.name.Name, rdtype: str, *rdata: str) -> list[dns.rrset.RRset]:
    """An RRset at *owner* with the signature of the same RRset at the wildcard beside it."""
    wildcard = dns.rrset.from_text(dns.name.Name((b"*", *owner.labels[1:])), 300, "IN", rdtype, *rdata)
    signature = signer.sign(wildcard)[0]
    return [dns.rrset.from_text(owner, 300, "IN", rdtype, *rdata), dns.rrset.from_rdata(owner, 300, signature)]


@anyio_test
async def test_a_wildcard_does_not_stand_in_for_a_name_that_may_exist() -> None:
    """RFC 4035, section 5.3.4: the expansion needs proof that the name itself does not exist."""
    signer = Signer()

    class WithoutProof(Zone):
        async def __call__(self, request: Request) -> bytes:
            query = dns.message.from_wire(request.octets)
            if query.question[0].rdtype != dns.rdatatype.A:
                return await super().__call__(request)
            response = dns.message.make_response(query)
            response.flags |= dns.flags.AA
            response.answer = _expanded(signer, query.question[0].name, "A", "192.0.2.9")
            return response.to_wire()

    async with resolving([signer], WithoutProof([signer], [signer.key])) as (resolver, _):
        with pytest.raises(ValidationError, match="wildcard") as caught:
            await resolver.resolve("www.example.", "A")
        assert caught.value.code == dns.edns.EDECode.NSEC_MISSING


@anyio_test
async def test_a_wildcard_ds_opens_no_zone() -> None:
    """Whoever controls a key that a DS at a wildcard names does not get every name beside the wildcard."""
    signer = Signer()
    intruder = ed25519.Ed25519PrivateKey.generate()
    child = dns.name.from_text("child.example.")
    key: DNSKEY = dns.dnssec.make_dnskey(intruder.public_key(), "ED25519", 257)
    ds = dns.dnssec.make_ds(child, key, "SHA256").to_text()

    class Intruded(Zone):
        async def __call__(self, request: Request) -> bytes:
            query = dns.message.from_wire(request.octets)
            question = query.question[0]
            if question.name == ZONE:
                return await super().__call__(request)
            response = dns.message.make_response(query)
            response.flags |= dns.flags.AA
            if question.rdtype == dns.rdatatype.DS:
                response.answer = _expanded(signer, child, "DS", ds)
            else:
                rrset = dns.rrset.from_text(question.name, 300, "IN", "A", "192.0.2.66")
                if question.rdtype == dns.rdatatype.DNSKEY:
                    rrset = dns.rrset.from_rdata(child, 300, key)
                since, until = int(START) - 60, int(START) + 60
                rrsig = dns.dnssec.sign(rrset, intruder, child, key, inception=since, expiration=until)
                response.answer = [rrset, dns.rrset.from_rdata(rrset.name, 300, rrsig)]
            return response.to_wire()

    async with resolving([signer], Intruded([signer], [signer.key])) as (resolver, _):
        with pytest.raises(ValidationError, match="made from a wildcard"):
            await resolver.resolve("www.child.example.", "A")


# --- trust anchors ---


def test_trust_anchors_are_read(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "anchors")
    digest = "ab" * 32
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"; the root\n. IN DS 20326 8 2 {digest}\n. 172800 IN DS 38696 8 2 {digest}\n"
            "example. 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=\n"
        )
    anchors = load_trust_anchors(path)
    assert {(str(rrset.name), rrset.rdtype, len(rrset)) for rrset in anchors} == {
        (".", dns.rdatatype.DS, 2),
        ("example.", dns.rdatatype.DNSKEY, 1),
    }


@pytest.mark.parametrize("text", ["", "; nothing\n", "example. IN A 192.0.2.1\n", ". IN DS rubbish\n", ". IN DS 1 8 2"])
def test_files_that_hold_no_trust_anchors(tmp_path: os.PathLike[str], text: str) -> None:
    path = os.path.join(tmp_path, "anchors")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(ConfigError) as caught:
        load_trust_anchors(path)
    assert caught.value.file == path


def test_a_missing_trust_anchor_file(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_trust_anchors(os.path.join(tmp_path, "missing"))
