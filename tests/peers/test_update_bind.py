"""Updates against BIND: the same messages to named and to ours, and BIND's nsupdate as a client of ours."""

from __future__ import annotations

import base64
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.to_thread
import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcore.net.acl import Acl
from mpcore.net.clock import SystemClock
from mpcore.net.messages import AXFR, QUERY, UPDATE
from mpcore.net.network import InternetNetwork
from mpcore.net.server import DnsServer
from mpcore.net.transfer import TransferServer
from mpcore.net.update import UpdatableZone, UpdateLimits, UpdateServer
from mpcore.signer.keys import raw_signer
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.rrset import canonical_rdata, parse_rdata, type_from_text, type_text
from mpcore.zone.sig0 import Sig0Key, Sig0Keys, find_sig0, sign_sig0, verify_sig0
from mpcore.zone.tsig import TsigKey, sign_message, verify_message
from mpcore.zone.update import Requestor, Update, UpdatePolicy, UpdateRecord, UpdateResult, UpdateRule, encode_update
from mpcore.zone.version import ZoneVersion
from tests.peers.servers import KEY, Bind, Zone, free_port, loopback_address

pytestmark = [pytest.mark.anyio, pytest.mark.peer]

ZONE = "customer.example."
ORIGIN = owners.from_text(ZONE)
OURS = TsigKey.from_text(KEY.name, KEY.algorithm, KEY.secret)
KEYRING = dns.tsigkeyring.from_text({KEY.name: (KEY.algorithm, KEY.secret)})
TEXT = """$ORIGIN customer.example.
@       300 IN SOA ns hostmaster 7 3600 600 86400 300
@       300 IN NS ns.provider.example.
@       300 IN NS ns.other.example.
ns      300 IN A 192.0.2.53
www     300 IN A 192.0.2.1
www     300 IN A 192.0.2.2
www     300 IN TXT "text"
alias   300 IN CNAME www
x.ent   300 IN A 192.0.2.3
*.wild  300 IN TXT "any"
sub     300 IN NS ns.provider.example.
ns.sub  300 IN A 192.0.2.4
dn      300 IN DNAME example.net.
"""
IN, NONE, ANY = 1, 254, 255


class Primary:
    """A zone of ours that takes updates, on a server of its own."""

    def __init__(self, policy: UpdatePolicy, keys: Sig0Keys = Sig0Keys()) -> None:  # noqa: B008
        self.zones = {ORIGIN: read_master_text(TEXT)}
        self.updates = 0
        self.requestors: list[Requestor] = []
        self.address = loopback_address()
        self.port = free_port(self.address)
        self.server = DnsServer(
            InternetNetwork(), [(self.address, self.port)], keyring={OURS.name: OURS}, clock=SystemClock()
        )
        responder = Responder(self.zones)
        self.server.register_query(lambda octets, source, over_tcp: responder.respond(octets, over_tcp=over_tcp))
        self.server.register(TransferServer(self.zones, Acl.of([("127.0.0.0/8", KEY.name)])).handle, QUERY, AXFR)
        zone = UpdatableZone(lambda: self.zones[ORIGIN], self.commit, policy, keys)
        limits = UpdateLimits(rate=10000, burst=10000)
        self.server.register(UpdateServer({ORIGIN: zone}, clock=SystemClock(), limits=limits).handle, UPDATE)

    async def commit(self, result: UpdateResult, requestor: Requestor) -> None:
        self.zones[ORIGIN] = result.version
        self.updates += 1
        self.requestors.append(requestor)


@pytest.fixture
def anyio_backend() -> object:
    """One is enough: what is judged here is the protocol."""
    return ("asyncio", {"use_uvloop": True})


@asynccontextmanager
async def serving(primary: Primary) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(primary.server.serve)
        yield
        tasks.cancel_scope.cancel()


# --- the same messages to both --------------------------------------------------------------------------------------


class Maker:
    """Makes updates, sensible and senseless; repeatable."""

    NAMES = ("", "www", "alias", "ent", "x.ent", "*.wild", "sub", "ns.sub", "ns", "dn", "new", "NEW.www", "other", "y")
    RDATA: ClassVar = {
        "A": ("192.0.2.1", "192.0.2.2", "192.0.2.3"),
        "AAAA": ("2001:db8::1",),
        "TXT": ('"text"', '"TEXT"', '"one" "two"'),
        "MX": ("10 mail.example.net.", "10 MAIL.example.net.", "20 mail.example.net."),
        "NS": ("ns.provider.example.", "ns.other.example.", "NS.provider.example."),
        "CNAME": ("www.customer.example.", "other.example.net."),
        "DNAME": ("example.net.", "example.org."),
        "SRV": ("1 2 53 ns.example.net.",),
        "TYPE65300": (r"\# 4 01027031", r"\# 0"),
    }

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.serial = 7

    def name(self) -> bytes:
        text = self._random.choice(self.NAMES)
        return owners.from_text(text, ORIGIN) if text else ORIGIN

    def data(self, rrtype: str | None = None) -> tuple[int, bytes]:
        if rrtype is None and self._random.random() < 0.08:
            serial = (self.serial + self._random.choice((-1, 0, 1, 5, (1 << 31) + 1, 1 << 30))) % (1 << 32)
            return 6, parse_rdata(6, f"ns.{ZONE} hostmaster.{ZONE} {serial} 3600 600 86400 300")
        rrtype = rrtype or self._random.choice(list(self.RDATA))
        number = type_from_text(rrtype)
        return number, parse_rdata(number, self._random.choice(self.RDATA[rrtype]))

    def add(self) -> UpdateRecord:
        rdtype, rdata = self.data()
        owner = self.name()
        # RFC 2136 does not speak of these; BIND passes over the first and refuses the second, and it refuses to leave
        # an NS record without the address that it needs: there is none here.
        if (rdtype in (2, 39) and owners.is_wildcard(owner)) or (rdtype == 39 and owner == ORIGIN):
            owner = owners.from_text("new", ORIGIN)
        return UpdateRecord(owner, rdtype, IN, self._random.choice((300, 300, 60, 0)), rdata)

    def change(self) -> UpdateRecord:
        kind = self._random.random()
        if kind < 0.55:
            return self.add()
        rdtype, rdata = self.data()
        if kind < 0.75:
            return UpdateRecord(self.name(), rdtype, NONE, 0, rdata)
        if kind < 0.93:
            return UpdateRecord(self.name(), rdtype, ANY, 0, b"")
        return UpdateRecord(self.name(), 255, ANY, 0, b"")

    def prerequisite(self) -> UpdateRecord:
        rdtype, rdata = self.data()
        kind = self._random.randrange(5)
        if kind < 2:
            rdtype = 255 if kind else rdtype
            return UpdateRecord(self.name(), rdtype, ANY, 0, b"")
        if kind < 4:
            rdtype = 255 if kind == 3 else rdtype
            return UpdateRecord(self.name(), rdtype, NONE, 0, b"")
        return UpdateRecord(self.name(), rdtype, IN, 0, rdata)

    def fault(self, record: UpdateRecord) -> UpdateRecord:
        """*record*, or another, with one thing wrong."""
        match self._random.randrange(5):
            case 0:
                return UpdateRecord(owners.from_text("www.elsewhere.example."), 1, ANY, 0, b"")
            case 1:
                return UpdateRecord(record.owner, record.rdtype, record.rdclass, 5, record.rdata)
            case 2:
                return UpdateRecord(record.owner, self._random.choice((252, 253, 254, 251)), IN, 0, b"")
            case 3:
                return UpdateRecord(record.owner, 1, ANY, 0, bytes(4))
            case _:
                return UpdateRecord(record.owner, 1, 3, 0, bytes(4))

    def update(self) -> Update:
        """An update with one kind of fault at most: in which order faults are found is not the same everywhere."""
        changes = [self.change() for _ in range(self._random.randint(1, 5))]
        needs: list[UpdateRecord] = []
        kind = self._random.random()
        if kind < 0.4:
            needs = [self.prerequisite() for _ in range(self._random.randint(1, 2))]
        elif kind < 0.46:
            needs = [self.fault(self.prerequisite())]
        elif kind < 0.54:
            changes.insert(self._random.randrange(len(changes) + 1), self.fault(self.change()))
        return Update(ORIGIN, tuple(needs), tuple(changes))


def tell(update: Update) -> str:
    return "\n".join(
        f"{where} {owners.to_text(record.owner)} {type_text(record.rdtype)} class {record.rdclass} ttl {record.ttl} "
        f"{record.rdata.hex()}"
        for where, records in (("need", update.prerequisites), ("do", update.records))
        for record in records
    )


class Connection:
    """A connection of a client that signs with TSIG."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), 5)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, octets: bytes) -> int:
        """Send a message; the RCODE of the answer, whose TSIG is verified."""
        signed, mac = sign_message(octets, OURS, time.time())
        self._socket.sendall(len(signed).to_bytes(2, "big") + signed)
        answer = self._stream.read(int.from_bytes(self._stream.read(2), "big"))
        assert answer[:2] == octets[:2]
        verified = verify_message(answer, {OURS.name: OURS}, time.time(), request_mac=mac)
        if verified is None:  # BIND does not sign what it says of a message that it could not read
            assert answer[3] & 15 == dns.rcode.FORMERR
            return dns.rcode.FORMERR
        return verified.octets[3] & 15


def transfer(address: str, port: int) -> set[str]:
    """All records of a zone, by dnspython."""
    zone = dns.zone.from_xfr(
        dns.query.xfr(address, ZONE, port=port, keyring=KEYRING, keyname=KEY.name, relativize=False),
        relativize=False,
        check_origin=False,
    )
    return {
        f"{name} {ttl} {type_text(rdata.rdtype)} {rdata.to_digestable().hex()}"
        for name, ttl, rdata in zone.iterate_rdatas()
    }


def held(version: ZoneVersion) -> set[str]:
    """The same without a transfer."""
    return {
        f"{owners.to_text(owner)} {rrset.ttl} {type_text(rrset.rdtype)} {canonical_rdata(rrset.rdtype, rdata).hex()}"
        for owner, rrset in version.rrsets()
        for rdata in rrset.rdatas
    }


@pytest.mark.parametrize("seed", range(1, 5))
async def test_the_same_updates_do_the_same_to_bind_and_to_ours(seed: int) -> None:
    ours = Primary(UpdatePolicy([UpdateRule.of("tsig", KEY.name, "zonesub", types=["ANY"])]))
    maker = Maker(seed)
    rcodes: set[str] = set()

    def compare(named: Bind) -> None:
        with Connection(named.address, named.port) as bind, Connection(ours.address, ours.port) as own:
            for number in range(110):
                update = maker.update()
                octets = encode_update(update, number)
                theirs, mine = (dns.rcode.to_text(dns.rcode.Rcode(end.send(octets))) for end in (bind, own))
                rcodes.add(mine)
                found = held(ours.zones[ORIGIN])
                expected = transfer(named.address, named.port) if "NOERROR" in (mine, theirs) else found
                maker.serial = ours.zones[ORIGIN].serial
                assert [mine, *(found - expected), *(expected - found)] == [theirs], f"{number}\n{tell(update)}"
        assert transfer(ours.address, ours.port) == transfer(named.address, named.port)

    with Bind([Zone(ZONE, TEXT)]) as named:
        async with serving(ours):
            await anyio.to_thread.run_sync(compare, named)
    assert ours.updates > 30
    assert rcodes >= {"NOERROR", "FORMERR", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTZONE"}


# --- BIND's client --------------------------------------------------------------------------------------------------

ALGORITHMS = (("ED25519", 15), ("ECDSAP256SHA256", 13), ("RSASHA256", 8))


@pytest.fixture(scope="module")
def keys() -> Iterator[dict[int, Path]]:
    """Key pairs of ``host.customer.example.`` as ``dnssec-keygen -T KEY`` makes them: algorithm -> file name."""
    with tempfile.TemporaryDirectory() as directory:
        made = {}
        for name, number in ALGORITHMS:
            command = ["dnssec-keygen", "-K", directory, "-T", "KEY", "-n", "HOST", "-a", name]
            command += ["-b", "2048"] if number == 8 else []
            done = subprocess.run(
                [*command, "host.customer.example."], check=True, capture_output=True, text=True, timeout=30
            )
            made[number] = Path(directory) / done.stdout.strip()
        yield made


def public(stem: Path) -> Sig0Key:
    return Sig0Key.from_text(stem.with_name(stem.name + ".key").read_text().strip())


def nsupdate(primary: Primary, credentials: list[str], *lines: str, tcp: bool = False) -> str:
    """What nsupdate says; empty if the update was done."""
    script = f"server {primary.address} {primary.port}\nzone {ZONE}\n" + "".join(f"{line}\n" for line in lines)
    command = ["nsupdate", *credentials, *(["-v"] if tcp else [])]
    done = subprocess.run(command, input=script + "send\n", capture_output=True, text=True, timeout=20)
    assert (done.returncode == 0) is not bool(done.stderr), done.stderr
    return done.stderr.strip()


@pytest.mark.parametrize("algorithm", [number for _, number in ALGORITHMS])
async def test_nsupdate_signs_with_a_public_key(keys: dict[int, Path], algorithm: int) -> None:
    key = public(keys[algorithm])
    policy = UpdatePolicy([UpdateRule.of("sig0", "host.customer.example.", "self", types=["A", "KEY"])])
    ours = Primary(policy, Sig0Keys([key]))
    credentials = ["-k", f"{keys[algorithm]}.private"]
    async with serving(ours):
        for tcp, address in ((False, "192.0.2.70"), (True, "192.0.2.71")):
            said = await anyio.to_thread.run_sync(
                lambda tcp=tcp, address=address: nsupdate(  # type: ignore[misc]
                    ours, credentials, f"update add host.customer.example. 60 A {address}", tcp=tcp
                )
            )
            assert said == ""
        refused = await anyio.to_thread.run_sync(
            lambda: nsupdate(ours, credentials, "update add www.customer.example. 60 A 192.0.2.9")
        )
        assert refused == "update failed: REFUSED"
        unmet = await anyio.to_thread.run_sync(
            lambda: nsupdate(
                ours, credentials, "prereq nxdomain host.customer.example.", "update delete host.customer.example. A"
            )
        )
        assert unmet == "update failed: YXDOMAIN"
    zone = ours.zones[ORIGIN]
    found = zone.get(owners.from_text("host", ORIGIN), 1)
    assert found is not None
    assert found.rdatas == (bytes((192, 0, 2, 70)), bytes((192, 0, 2, 71)))
    assert zone.serial == 9
    assert ours.requestors == [Requestor("sig0", key.name)] * 2


async def test_a_key_that_is_not_known_here_is_told_so(keys: dict[int, Path]) -> None:
    policy = UpdatePolicy([UpdateRule.of("sig0", "host.customer.example.", "self")])
    ours = Primary(policy, Sig0Keys([public(keys[15])]))
    async with serving(ours):
        said = await anyio.to_thread.run_sync(
            lambda: nsupdate(ours, ["-k", f"{keys[13]}.private"], "update add host.customer.example. 60 A 192.0.2.70")
        )
    assert said == "update failed: 17"  # BADKEY
    assert ours.updates == 0


async def test_nsupdate_signs_with_a_shared_key() -> None:
    ours = Primary(UpdatePolicy([UpdateRule.of("tsig", KEY.name, "zonesub")]))
    good = ["-y", f"{KEY.algorithm}:{KEY.bare}:{KEY.secret}"]
    bad = ["-y", f"{KEY.algorithm}:{KEY.bare}:{'A' * 43}="]
    async with serving(ours):
        lines = ("update delete www.customer.example. A", "update add new.customer.example. 60 TXT new")
        assert await anyio.to_thread.run_sync(lambda: nsupdate(ours, good, *lines)) == ""
        assert "BADSIG" in await anyio.to_thread.run_sync(lambda: nsupdate(ours, bad, "update delete ns"))
        assert await anyio.to_thread.run_sync(lambda: nsupdate(ours, [], "update delete ns")) == (
            "update failed: REFUSED"
        )
    zone = ours.zones[ORIGIN]
    assert zone.types(owners.from_text("www", ORIGIN)) == (16,)
    assert zone.types(owners.from_text("new", ORIGIN)) == (16,)
    assert zone.types(owners.from_text("ns", ORIGIN)) == (1,)
    assert ours.updates == 1


def test_what_is_signed_here_is_what_bind_signs(keys: dict[int, Path]) -> None:
    """Ed25519 and RSA signatures have no randomness: over one message at one time both must be the same octets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        for algorithm in (15, 8):
            script = f"server 127.0.0.1 {receiver.getsockname()[1]}\nzone {ZONE}\nupdate add x.{ZONE} 60 A 192.0.2.1\n"
            command = ["nsupdate", "-t", "1", "-u", "1", "-r", "0", "-k", f"{keys[algorithm]}.private"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
                assert client.stdin is not None
                client.stdin.write(script + "send\n")
                client.stdin.close()
                octets = receiver.recv(65535)
                client.kill()
            (signature,) = find_sig0(octets)
            key = public(keys[algorithm])
            middle = (signature.inception + signature.expiration) / 2
            message = verify_sig0(octets, signature, key)
            lifetime = (signature.expiration - signature.inception) // 2
            signed = sign_sig0(message, key, private(keys[algorithm]), middle, lifetime=lifetime)
            assert signed == octets


def private(stem: Path) -> Callable[[bytes], bytes]:
    """The private key in BIND's format, as a function that signs."""
    fields = dict(line.split(": ", 1) for line in stem.with_name(stem.name + ".private").read_text().splitlines())

    def number(name: str) -> int:
        return int.from_bytes(base64.b64decode(fields[name]), "big")

    if "PrivateKey" in fields:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(fields["PrivateKey"])).sign
    p, q, d = number("Prime1"), number("Prime2"), number("PrivateExponent")
    public_numbers = rsa.RSAPublicNumbers(number("PublicExponent"), number("Modulus"))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, number("Exponent1"), number("Exponent2"), number("Coefficient"), public_numbers
    )
    return raw_signer(numbers.private_key())
