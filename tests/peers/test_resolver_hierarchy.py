"""The resolver against a hierarchy served by Knot DNS and signed by ldns, judged by Unbound and by BIND's delv."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from mpcore.errors import BogusError
from mpcore.net.clock import SystemClock
from mpcore.net.network import InternetNetwork
from mpcore.net.resolver import Resolver, load_trust_anchors
from mpcore.net.resolver_service import RecursiveService
from mpcore.net.server import DnsServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.peer,
]

_HEAD = """$ORIGIN {zone}
$TTL {ttl}
@ IN SOA ns.{zone} hostmaster.{zone} 1 3600 600 86400 60
"""
_CHILD = "@ IN NS ns.{zone}\nns.{zone} IN A {children}\nwww IN A 192.0.2.1\n"

#: zone -> (server, how it is signed, records)
_ZONES: dict[str, tuple[str, str, str]] = {
    "secure.example.": (
        "children",
        "nsec",
        """*.wild IN TXT "expanded"
a.b.c IN A 192.0.2.2
alias IN CNAME www.hashed.example.
toinsecure IN CNAME www.unsigned.example.
tobogus IN CNAME www.badsig.example.
tonowhere IN CNAME nothing.secure.example.
aliases.wild2 IN A 192.0.2.3
*.wild2 IN CNAME www.secure.example.
tree IN DNAME hashed.example.
loop1 IN CNAME loop2
loop2 IN CNAME loop1
peer IN TYPE65285 \\# 24 01027031056167656e74027031076578616d706c6500012e
"""
        + "".join(f'big IN TXT "{index:04}{"x" * 200}"\n' for index in range(12)),
    ),
    # These three are on the server of their parent, which gives no referral to them.
    "deep.secure.example.": ("children", "nsec3", ""),
    "plain.secure.example.": ("children", "", ""),
    "far.away.secure.example.": ("children", "nsec", ""),
    "hashed.example.": ("children", "nsec3", '*.wild IN TXT "expanded"\na.b.c IN A 192.0.2.2\n'),
    "iterated.example.": ("children", "nsec3 -t 200", '*.wild IN TXT "expanded"\n'),
    "unsigned.example.": ("children", "", '*.wild IN TXT "expanded"\nalias IN CNAME www.secure.example.\n'),
    "badsig.example.": ("children", "nsec", "good IN A 192.0.2.4\n"),
    "expired.example.": ("children", "expired", ""),
    "wrongds.example.": ("children", "nsec", ""),
    "stripped.example.": ("children", "", ""),
    "exotic.example.": ("children", "", ""),
    "far.example.": ("children", "nsec", ""),
    "multi.example.": ("first", "nsec", ""),
    "open.optout.": ("children", "", ""),
    "closed.optout.": ("children", "nsec", ""),
}

#: name, type, what this resolver and Unbound must find
_QUESTIONS = [
    ("www.secure.example.", "A", "secure"),
    ("secure.example.", "SOA", "secure"),
    ("secure.example.", "DNSKEY", "secure"),
    ("secure.example.", "DS", "secure"),
    ("WWW.Secure.Example.", "A", "secure"),
    ("peer.secure.example.", "TYPE65285", "secure"),
    ("big.secure.example.", "TXT", "secure"),
    ("www.secure.example.", "AAAA", "secure"),
    ("nothing.secure.example.", "A", "secure"),
    ("deep.nothing.secure.example.", "A", "secure"),
    ("b.c.secure.example.", "A", "secure"),
    ("x.wild.secure.example.", "TXT", "secure"),
    ("x.y.wild.secure.example.", "TXT", "secure"),
    ("x.wild.secure.example.", "A", "secure"),
    ("*.wild.secure.example.", "TXT", "secure"),
    ("x.wild2.secure.example.", "A", "secure"),
    ("x.aliases.wild2.secure.example.", "A", "secure"),
    ("alias.secure.example.", "A", "secure"),
    ("alias.secure.example.", "CNAME", "secure"),
    ("toinsecure.secure.example.", "A", "insecure"),
    ("tobogus.secure.example.", "A", "bogus"),
    ("tonowhere.secure.example.", "A", "secure"),
    ("www.tree.secure.example.", "A", "secure"),
    ("nothing.tree.secure.example.", "A", "secure"),
    ("tree.secure.example.", "DNAME", "secure"),
    ("www.deep.secure.example.", "A", "secure"),
    ("nothing.deep.secure.example.", "A", "secure"),
    ("deep.secure.example.", "DS", "secure"),
    ("deep.secure.example.", "DNSKEY", "secure"),
    ("www.plain.secure.example.", "A", "insecure"),
    ("nothing.plain.secure.example.", "A", "insecure"),
    ("plain.secure.example.", "DS", "secure"),
    ("www.far.away.secure.example.", "A", "secure"),
    ("away.secure.example.", "A", "secure"),
    ("www.hashed.example.", "A", "secure"),
    ("www.hashed.example.", "AAAA", "secure"),
    ("nothing.hashed.example.", "A", "secure"),
    ("b.c.hashed.example.", "A", "secure"),
    ("x.wild.hashed.example.", "TXT", "secure"),
    ("x.wild.hashed.example.", "A", "secure"),
    ("www.iterated.example.", "A", "secure"),
    ("nothing.iterated.example.", "A", "insecure"),
    ("www.unsigned.example.", "A", "insecure"),
    ("nothing.unsigned.example.", "A", "insecure"),
    ("alias.unsigned.example.", "A", "insecure"),
    ("unsigned.example.", "DS", "secure"),
    ("www.badsig.example.", "A", "bogus"),
    ("good.badsig.example.", "A", "secure"),
    ("www.expired.example.", "A", "bogus"),
    ("www.wrongds.example.", "A", "bogus"),
    ("nothing.wrongds.example.", "A", "bogus"),
    ("www.stripped.example.", "A", "bogus"),
    ("nothing.stripped.example.", "A", "bogus"),
    ("www.exotic.example.", "A", "insecure"),
    ("www.far.example.", "A", "secure"),
    ("www.multi.example.", "A", "secure"),
    ("www.open.optout.", "A", "insecure"),
    ("open.optout.", "DS", "insecure"),
    ("nothing.optout.", "A", "insecure"),
    ("www.closed.optout.", "A", "secure"),
    ("nothing.", "A", "secure"),
    (".", "NS", "secure"),
    (".", "DNSKEY", "secure"),
]


@dataclass
class _Server:
    """One knotd, with zones of its own."""

    address: str
    zones: dict[str, Path]


class _Hierarchy:
    """Zone files, keys and servers in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        block = f"127.{random.randrange(16, 250)}.{os.getpid() % 250}"
        self.servers = {
            role: _Server(f"{block}.{index}", {})
            for index, role in enumerate(("root", "tld", "children", "first", "second"), start=1)
        }
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((self.servers["root"].address, 0))
            self.port: int = probe.getsockname()[1]
        self.anchor = directory / "anchor"
        self.processes: list[subprocess.Popen[bytes]] = []

    def address(self, role: str) -> str:
        return self.servers[role].address

    # --- zones ---

    def build(self) -> None:
        delegations = dict.fromkeys(("example.", "optout.", *_ZONES), "")
        for zone, (role, how, records) in sorted(_ZONES.items(), key=lambda item: -item[0].count(".")):
            parent = zone.split(".", 2)[2] if zone == "far.away.secure.example." else zone.split(".", 1)[1]
            text = self._zone(zone, records + self._child_servers(zone, role) + delegations.pop(zone))
            ds = self._publish(zone, text, role, how)
            if zone == "wrongds.example.":
                ds = re.sub(r"[0-9a-f]{8}\s*$", "00000000\n", ds)
            elif zone == "stripped.example.":
                ds = f"{zone} IN DS 1 13 2 {'ab' * 32}\n"
            elif zone == "exotic.example.":
                ds = f"{zone} IN DS 1 253 2 {'ab' * 32}\n"
            delegations[parent] += self._delegation(zone, role) + ds
        root = ""
        for zone, records in delegations.items():
            text = self._zone(zone, f"@ IN NS ns.{zone}\nns.{zone} IN A {self.address('tld')}\n" + records)
            ds = self._publish(zone, text, "tld", "opt-out" if zone == "optout." else "nsec")
            root += f"{zone} IN NS ns.{zone}\nns.{zone} IN A {self.address('tld')}\n{ds}"
        text = self._zone(".", f". IN NS ns.root.\nns.root. IN A {self.address('root')}\n" + root)
        self.anchor.write_text(self._publish(".", text, "root", "nsec"))
        self.anchors = load_trust_anchors(self.anchor)

    @staticmethod
    def _zone(zone: str, records: str) -> str:
        return (
            _HEAD.format(zone=zone if zone != "." else "root.", ttl=300).replace("$ORIGIN root.", "$ORIGIN .") + records
        )

    def _child_servers(self, zone: str, role: str) -> str:
        if zone == "far.example.":
            return "@ IN NS ns.secure.example.\nwww IN A 192.0.2.1\n"
        if role == "first":
            return (
                f"@ IN NS ns1.{zone}\n@ IN NS ns2.{zone}\nns1 IN A {self.address('first')}\n"
                f"ns2 IN A {self.address('second')}\nwww IN A 192.0.2.1\n"
            )
        return _CHILD.format(zone=zone, children=self.address("children"))

    def _delegation(self, zone: str, role: str) -> str:
        if zone == "far.example.":
            return f"{zone} IN NS ns.secure.example.\n"
        if role == "first":
            return (
                f"{zone} IN NS ns1.{zone}\n{zone} IN NS ns2.{zone}\nns1.{zone} IN A {self.address('first')}\n"
                f"ns2.{zone} IN A {self.address('second')}\n"
            )
        return f"{zone} IN NS ns.{zone}\nns.{zone} IN A {self.address('children')}\n"

    def _publish(self, zone: str, text: str, role: str, how: str) -> str:
        """Sign *zone* as *how* says and give it to its server; its DS records."""
        base = self.directory / (zone.rstrip(".") or "root")
        base.write_text(text)
        if not how:
            self.servers[role].zones[zone] = base
            return ""
        key, ds = self._key(zone)
        if zone == "multi.example.":
            other, other_ds = self._key(zone)
            base.write_text(text + Path(f"{key}.key").read_text() + Path(f"{other}.key").read_text())
            self.servers["second"].zones[zone] = self._sign(zone, base, other, how, "-second")
            ds += other_ds
        self.servers[role].zones[zone] = self._sign(zone, base, key, how, "-signed")
        if zone == "badsig.example.":
            signed = self.servers[role].zones[zone]
            signed.write_text(signed.read_text().replace("192.0.2.1\n", "192.0.2.99\n"))
        return ds

    def _key(self, zone: str) -> tuple[str, str]:
        made = subprocess.run(
            ["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone],
            cwd=self.directory,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        path = str(self.directory / made)
        ds = subprocess.run(
            ["ldns-key2ds", "-n", "-2", f"{path}.key"], check=True, capture_output=True, text=True
        ).stdout
        return path, ds

    def _sign(self, zone: str, base: Path, key: str, how: str, suffix: str) -> Path:
        signed = Path(f"{base}{suffix}")
        if how == "opt-out":  # ldns makes NSEC3 records even for delegations that opt-out would leave out
            base.write_text(base.read_text() + Path(f"{key}.key").read_text())
            command = ["dnssec-signzone", "-A", "-3", "abcd", "-H", "1", "-z", "-P", "-o", zone, "-f", str(signed)]
            subprocess.run([*command, str(base), key], cwd=self.directory, check=True, capture_output=True, text=True)
            return signed
        kind, *options = how.split()
        command = ["ldns-signzone", "-o", zone, "-f", str(signed)]
        if kind == "nsec3":
            command += ["-n", "-s", "abcd", *(["-t", "1"] if "-t" not in options else []), *options]
        if kind == "expired":
            command += ["-i", "20200101000000", "-e", "20200201000000"]
        subprocess.run([*command, str(base), key], check=True, capture_output=True, text=True)
        return signed

    # --- processes ---

    def start(self) -> None:
        for role, server in self.servers.items():
            home = self.directory / f"knot-{role}"
            home.mkdir()
            zones = "".join(
                f'  - domain: "{zone}"\n    file: "{path}"\n    semantic-checks: off\n'
                for zone, path in server.zones.items()
            )
            (home / "knot.conf").write_text(
                f'server:\n    listen: "{server.address}@{self.port}"\n    rundir: "{home}"\n'
                "    background-workers: 1\n    udp-workers: 1\n    tcp-workers: 2\n"
                f'database:\n    storage: "{home}"\n'
                f"template:\n  - id: default\n    zonefile-load: whole\n    zonefile-sync: -1\n"
                "    journal-content: none\n"
                f"zone:\n{zones}"
            )
            self._run(["knotd", "-c", str(home / "knot.conf")], home / "log")
        for server in self.servers.values():
            for zone in server.zones:
                self._await(server.address, self.port, zone)

    def start_unbound(self) -> tuple[str, int]:
        """A validating Unbound that knows where each zone is, because it cannot iterate on a port of ours."""
        address = self.address("root").rsplit(".", 1)[0] + ".9"
        stubs = "".join(
            f'stub-zone:\n  name: "{zone}"\n  stub-addr: {server.address}@{self.port}\n'
            for server in self.servers.values()
            for zone in server.zones
            if server is not self.servers["second"]
        )
        config = self.directory / "unbound.conf"
        config.write_text(
            f'server:\n  interface: {address}@{self.port}\n  port: {self.port}\n  username: ""\n  chroot: ""\n'
            f'  directory: "{self.directory}"\n  pidfile: ""\n  use-syslog: no\n  do-daemonize: no\n'
            f'  do-not-query-localhost: no\n  trust-anchor-file: "{self.anchor}"\n  do-ip6: no\n  num-threads: 1\n'
            f'  access-control: 127.0.0.0/8 allow\n  module-config: "validator iterator"\n'
            f"  qname-minimisation: no\n  aggressive-nsec: no\n  outgoing-interface: {address}\n"
            f"remote-control:\n  control-enable: no\n{stubs}"
        )
        self._run(["unbound", "-d", "-c", str(config)], self.directory / "unbound.log")
        self._await(address, self.port, ".")
        return address, self.port

    def _run(self, command: list[str], log: Path) -> None:
        with log.open("wb") as output:
            self.processes.append(subprocess.Popen(command, stdout=output, stderr=output))

    @staticmethod
    def _await(address: str, port: int, zone: str) -> None:
        query = dns.message.make_query(zone, "SOA")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, dns.exception.DNSException):
                if dns.query.udp(query, address, port=port, timeout=0.1).rcode() == dns.rcode.NOERROR:
                    return
            time.sleep(0.02)
        raise AssertionError(f"{zone} is not served at {address}")

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(10)


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Hierarchy]:
    world = _Hierarchy(tmp_path_factory.mktemp("hierarchy"))
    world.build()
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module")
def unbound(hierarchy: _Hierarchy) -> tuple[str, int]:
    return hierarchy.start_unbound()


def _resolver(world: _Hierarchy, **changes: object) -> Resolver:
    arguments = {
        "trust_anchors": world.anchors,
        "root_hints": [world.address("root")],
        "port": world.port,
        "clock": SystemClock(),
        "random": random.Random(4),
        "timeout": 2.0,
    }
    return Resolver(InternetNetwork(), **{**arguments, **changes})  # type: ignore[arg-type]


async def _verdict(resolver: Resolver, name: str, rdtype: str) -> tuple[str, int, set[str]]:
    try:
        answer = await resolver.resolve(name, rdtype)
    except BogusError:
        return "bogus", dns.rcode.SERVFAIL, set()
    data = {rdata.to_text() for rdata in answer.rrset} if answer.rrset is not None else set()
    return str(answer.security), answer.rcode, data


def _unbound_verdict(server: tuple[str, int], name: str, rdtype: str) -> tuple[str, int, set[str]]:
    query = dns.message.make_query(name, rdtype, want_dnssec=True)
    response, _ = dns.query.udp_with_fallback(query, server[0], port=server[1], timeout=5)
    if response.rcode() == dns.rcode.SERVFAIL:
        return "bogus", response.rcode(), set()
    data = {
        rdata.to_text()
        for rrset in response.answer
        if rrset.rdtype == dns.rdatatype.from_text(rdtype)
        for rdata in rrset
    }
    return "secure" if response.flags & dns.flags.AD else "insecure", response.rcode(), data


async def test_every_verdict_is_unbounds(hierarchy: _Hierarchy, unbound: tuple[str, int]) -> None:
    """Security, response code and data of every question, from a cold cache and again from the warm one."""
    expected = await anyio.to_thread.run_sync(
        lambda: {(name, rdtype): _unbound_verdict(unbound, name, rdtype) for name, rdtype, _ in _QUESTIONS}
    )
    assert {key: verdict[0] for key, verdict in expected.items()} == {(n, t): s for n, t, s in _QUESTIONS}
    resolver = _resolver(hierarchy)
    for _ in range(2):
        found = {(name, rdtype): await _verdict(resolver, name, rdtype) for name, rdtype, _ in _QUESTIONS}
        assert found == expected


@contextlib.asynccontextmanager
async def _served(resolver: Resolver, address: str) -> AsyncIterator[int]:
    """The resolver as a server at *address*; the port."""
    server = DnsServer(InternetNetwork(), [(address, 0)])
    server.register(RecursiveService(resolver), 0)
    async with anyio.create_task_group() as tasks:
        bound = await tasks.start(server.serve)
        yield bound[0][1]
        tasks.cancel_scope.cancel()


async def _run(*command: str) -> str:
    result = await anyio.run_process(command, check=False)
    return (result.stdout + result.stderr).decode()


async def test_delv_validates_through_the_service(hierarchy: _Hierarchy) -> None:
    """BIND's validator, with this resolver as its only source, comes to the verdicts of the signatures alone."""
    anchor = hierarchy.directory / "delv-anchor"
    key = hierarchy.anchors[0][0]
    numbers = f"{key.key_tag} {int(key.algorithm)} {int(key.digest_type)}"
    await anyio.Path(anchor).write_text(f'trust-anchors {{ . static-ds {numbers} "{key.digest.hex()}"; }};\n')
    address = hierarchy.address("children")
    async with _served(_resolver(hierarchy), address) as port:

        async def delv(name: str, rdtype: str) -> str:
            return await _run("delv", "-a", str(anchor), "+root=.", f"@{address}", "-p", str(port), name, rdtype)

        for name, rdtype in (
            ("www.secure.example.", "A"),
            ("big.secure.example.", "TXT"),
            ("x.wild.secure.example.", "TXT"),
            ("x.wild.hashed.example.", "TXT"),
            ("alias.secure.example.", "A"),
            ("www.tree.secure.example.", "A"),
            ("www.far.example.", "A"),
            ("www.multi.example.", "A"),
        ):
            assert "; fully validated" in await delv(name, rdtype), (name, rdtype)
        for name, rdtype in (
            ("nothing.secure.example.", "A"),
            ("www.secure.example.", "AAAA"),
            ("b.c.secure.example.", "A"),
            ("nothing.hashed.example.", "A"),
            ("x.wild.hashed.example.", "A"),
            ("unsigned.example.", "DS"),
        ):
            assert "; negative response, fully validated" in await delv(name, rdtype), (name, rdtype)
        assert "; unsigned answer" in await delv("www.unsigned.example.", "A")
        assert "; unsigned answer" in await delv("www.open.optout.", "A")
        for name in ("www.badsig.example.", "www.expired.example.", "www.wrongds.example.", "www.stripped.example."):
            assert "resolution failed" in await delv(name, "A"), name


async def test_kdig_sees_flags_and_errors(hierarchy: _Hierarchy) -> None:
    """AD, truncation over UDP, TCP, SERVFAIL with a reason for bogus data, the data itself with CD."""
    address = hierarchy.address("children")
    async with _served(_resolver(hierarchy), address) as port:

        async def kdig(*arguments: str) -> str:
            return await _run("kdig", f"@{address}", "-p", str(port), *arguments)

        secure = await kdig("+dnssec", "www.secure.example.", "A")
        assert "status: NOERROR" in secure
        assert re.search(r"Flags: qr rd ra ad;", secure)
        assert "RRSIG" in secure
        plain = await kdig("+noadflag", "www.secure.example.", "A")
        assert "RRSIG" not in plain
        assert " ad" not in plain
        assert re.search(r"Flags: qr rd ra ad;", await kdig("+adflag", "www.secure.example.", "A"))
        assert " ad" not in await kdig("+dnssec", "www.unsigned.example.", "A")
        assert re.search(r"Flags: qr tc rd ra", await kdig("+dnssec", "+ignore", "big.secure.example.", "TXT"))
        assert (await kdig("+tcp", "big.secure.example.", "TXT")).count('"00') == 12
        bogus = await kdig("+dnssec", "www.badsig.example.", "A")
        assert "status: SERVFAIL" in bogus
        assert "EDE: 6 (DNSSEC Bogus)" in bogus
        assert "EDE: 7 (Signature Expired)" in await kdig("+dnssec", "www.expired.example.", "A")
        checking_disabled = await kdig("+dnssec", "+cdflag", "www.badsig.example.", "A")
        assert "192.0.2.99" in checking_disabled
        assert " ad" not in checking_disabled
        nothing = await kdig("+dnssec", "nothing.secure.example.", "A")
        assert "status: NXDOMAIN" in nothing
        assert "NSEC" in nothing
        assert "SOA" in nothing
        assert "status: REFUSED" in await kdig("+norec", "www.secure.example.", "A")
        assert "status: SERVFAIL" in await kdig("www.secure.example.", "ANY")
        assert "status: BADVERS" in await kdig("+edns=1", "www.secure.example.", "A")


async def test_forwarding_gives_the_same_verdicts(hierarchy: _Hierarchy) -> None:
    """A resolver that forwards to another one, and validates itself, comes to the same end as the one that iterates."""
    address = hierarchy.address("children")
    iterating = _resolver(hierarchy)
    async with _served(iterating, address) as port:
        forwarding = _resolver(hierarchy, root_hints=(), forwarders=[(address, port)])
        for name, rdtype, _ in _QUESTIONS:
            assert await _verdict(forwarding, name, rdtype) == await _verdict(iterating, name, rdtype), (name, rdtype)


async def test_a_multi_signer_zone_is_secure_with_either_signer(hierarchy: _Hierarchy) -> None:
    """RFC 8901, model 2: each server signs with keys of its own, and both DNSKEY RRsets list all keys."""
    for seed in range(6):
        resolver = _resolver(hierarchy, random=random.Random(seed))
        for rdtype in ("A", "AAAA", "TXT"):
            assert (await resolver.resolve("www.multi.example.", rdtype)).secure
