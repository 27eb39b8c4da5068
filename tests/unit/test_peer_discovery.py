"""Discovery and the identity zone: what one publishes the other finds; so are the recorded zones of Go agents."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest

from mpcore.errors import ConfigError, ResolutionError
from mpcore.peer.dane import Tlsa
from mpcore.peer.discovery import (
    MAX_ADDRESSES,
    Contact,
    DiscoveryError,
    HttpsContact,
    Lookup,
    LookupAnswer,
    Outcome,
    discovery_plan,
    run_discovery,
)
from mpcore.peer.identity_zone import RECORDS, identity_zone_records
from mpcore.records import JWK_TYPE

AGENT = "agent.alpha.example."
NOW = 1_780_000_000.0
FIXTURES = Path(__file__).parents[1] / "fixtures"
KEYS = json.loads((FIXTURES / "keys.json").read_text())
KEY = {name: KEYS[AGENT][name] for name in ("kty", "crv", "x", "y")}


@dataclass(frozen=True)
class Found:
    rrset: dns.rrset.RRset | None
    security: str = "secure"
    expires: float = NOW + 300


@dataclass(frozen=True)
class Endpoint:
    address: str
    port: int = 5353


def jwk_text(key: Mapping[str, object] = KEY) -> str:

    text = json.dumps(key, separators=(",", ":")).encode()
    return '"' + base64.urlsafe_b64encode(text).rstrip(b"=").decode() + '"'


def world(text: str, **security: str) -> dict[tuple[str, int], Found]:
    """Lines of a master file as answers; *security* by mnemonic of the type."""
    rrsets: dict[tuple[str, int], list[str]] = {}
    for line in filter(str.strip, text.splitlines()):
        owner, rrtype, rdata = line.split(None, 2)
        rrsets.setdefault((owner, int(dns.rdatatype.from_text(rrtype))), []).append(rdata)
    return {
        key: Found(
            dns.rrset.from_text_list(key[0], 60, "IN", dns.rdatatype.to_text(key[1]), rdatas),
            security.get(dns.rdatatype.to_text(key[1]), "secure"),
        )
        for key, rdatas in rrsets.items()
    }


def resolve_in(answers: Mapping[tuple[str, int], Found], asked: list[Lookup] | None = None):  # type: ignore[no-untyped-def]
    def resolve(lookup: Lookup) -> LookupAnswer:
        if asked is not None:
            asked.append(lookup)
        return answers.get((lookup.owner, lookup.rdtype), Found(None))

    return resolve


def find(text: str, *, require_secure: bool = True, **security: str) -> Contact:
    return run_discovery(AGENT, resolve_in(world(text, **security)), require_secure=require_secure)


USUAL = f"""
_dns._tcp.{AGENT} URI 1 1 "dns://dns.{AGENT}:5353/"
dns.{AGENT} SVCB 1 dns.{AGENT} port=5353 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1
dns.{AGENT} JWK {jwk_text()}
"""


def test_the_usual_records() -> None:
    asked: list[Lookup] = []
    contact = run_discovery(AGENT, resolve_in(world(USUAL), asked))
    assert contact == Contact(("192.0.2.1", "192.0.2.2", "2001:db8::1"), 5353, KEY, NOW + 300)
    assert list(contact.jwk) == ["kty", "crv", "x", "y"]
    assert asked == [
        Lookup(f"_dns._tcp.{AGENT}", dns.rdatatype.URI),
        Lookup(f"dns.{AGENT}", dns.rdatatype.SVCB),
        Lookup(f"dns.{AGENT}", JWK_TYPE),
    ]


DIGEST = "aa" * 32
HTTPS = f"""{USUAL}
_mp-https._tcp.{AGENT} URI 1 1 "https://https.{AGENT}:8443/mp/1"
https.{AGENT} SVCB 1 https.{AGENT} alpn=http/1.1 port=8443 ipv4hint=192.0.2.7
_8443._tcp.https.{AGENT} TLSA 3 1 1 {DIGEST}
"""


def find_https(text: str, *, require_secure: bool = True, **security: str) -> Contact:
    answers = resolve_in(world(text, **security))
    return run_discovery(AGENT, answers, require_secure=require_secure, https=True)


def test_https_beside_the_usual_records() -> None:
    found = find_https(HTTPS)
    assert found.https == HttpsContact(
        ("192.0.2.7",), 8443, f"https.{AGENT}", "/mp/1", (Tlsa(1, bytes.fromhex(DIGEST)),)
    )
    assert (found.addresses[0], found.port, found.https_problem) == ("192.0.2.1", 5353, None)
    nothing = find_https(USUAL)
    assert (nothing.https, nothing.https_problem) == (None, None)
    assert find(HTTPS).https is None  # nobody has asked


def test_what_deployed_agents_publish_is_not_our_https() -> None:
    text = USUAL + (
        f'_https._tcp.{AGENT} URI 1 1 "https://api.{AGENT}:8443/api/v1"\n'
        f"api.{AGENT} SVCB 1 api.{AGENT} port=8443 ipv4hint=192.0.2.7\n"
        f"_8443._tcp.api.{AGENT} TLSA 3 1 1 {DIGEST}\n"
    )
    asked: list[Lookup] = []
    found = run_discovery(AGENT, resolve_in(world(text), asked), https=True)
    assert (found.https, found.https_problem) == (None, None)
    assert not any(lookup.owner.startswith(("_https.", "api.", "_8443.")) for lookup in asked)


@pytest.mark.parametrize("security", ["insecure", "bogus", "indeterminate"])
@pytest.mark.parametrize("kind", ["URI", "SVCB", "TLSA"])
@pytest.mark.parametrize("require_secure", [False, True])
def test_https_needs_validated_answers_whatever_else_does(kind: str, security: str, require_secure: bool) -> None:
    answers = world(HTTPS)
    for (owner, rdtype), found in list(answers.items()):
        if "https" in owner and rdtype == dns.rdatatype.from_text(kind):
            answers[owner, rdtype] = replace(found, security=security)
    contact = run_discovery(AGENT, resolve_in(answers), require_secure=require_secure, https=True)
    assert contact.https is None
    assert contact.addresses[0] == "192.0.2.1"
    assert contact.https_problem is not None
    if kind != "SVCB":  # without its hints the addresses are looked for, and are not there
        assert f"is {security}, but must be validated" in contact.https_problem


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (f"https://https.{AGENT}:8443/mp/1", f"http://https.{AGENT}:8443/mp/1", "no usable endpoint"),
        (f"https://https.{AGENT}:8443/mp/1", "https://https.agent.bravo.example.:8443/mp/1", "no usable endpoint"),
        (f"https://https.{AGENT}:8443/mp/1", f"https://https.{AGENT}:0/mp/1", "no usable endpoint"),
        (f"https://https.{AGENT}:8443/mp/1", f"https://https.{AGENT}:8443/mp%0d%0a/1", "no usable endpoint"),
        (f"https://https.{AGENT}:8443/mp/1", f"https://https.{AGENT}:8443/mp?a=b", "no usable endpoint"),
        (f"https://https.{AGENT}:8443/mp/1", f"https://https.{AGENT}:99999/mp/1", "no usable endpoint"),
        ("TLSA 3 1 1", "TLSA 2 1 1", "no record of usage 3"),
        ("TLSA 3 1 1", "TLSA 3 0 1", "no record of usage 3"),
        (f"_8443._tcp.https.{AGENT}", f"_443._tcp.https.{AGENT}", "TLSA does not exist"),
        ("ipv4hint=192.0.2.7", "", "has no address hints"),
    ],
)
def test_https_that_cannot_be_used(old: str, new: str, problem: str) -> None:
    """The agent is found all the same."""
    assert old in HTTPS
    found = find_https(HTTPS.replace(old, new))
    assert found.https is None
    assert problem in (found.https_problem or "")
    assert found.addresses[0] == "192.0.2.1"


def test_the_usual_records_take_one_round_trip() -> None:
    plan = discovery_plan(AGENT)
    batch = next(plan)
    outcomes: dict[Lookup, Outcome] = {lookup: world(USUAL)[lookup.owner, lookup.rdtype] for lookup in batch}
    with pytest.raises(StopIteration) as stop:
        plan.send(outcomes)
    assert stop.value.value.port == 5353


@pytest.mark.parametrize("name", ["alpha", "bravo"])
def test_recorded_identity_zones_of_go_agents_are_found(name: str) -> None:
    identity = f"agent.{name}.example."
    recorded = json.loads((FIXTURES / "transfers.json").read_text())
    (transfer,) = (item for item in recorded if item["zone"] == identity)
    answers: dict[tuple[str, int], Found] = {}
    for octets in transfer["messages"]:
        for rrset in dns.message.from_wire(bytes.fromhex(octets), xfr=True, one_rr_per_rrset=False).answer:
            answers[rrset.name.to_text(), int(rrset.rdtype)] = Found(rrset)
    contact = run_discovery(identity, resolve_in(answers))
    assert contact.jwk == {member: KEYS[identity][member] for member in ("kty", "crv", "x", "y")}
    assert contact.port > 0
    assert all(address.startswith("127.") for address in contact.addresses)


def test_host_and_port_of_the_uri_are_followed() -> None:
    contact = find(
        f"""
        _dns._tcp.{AGENT} URI 1 1 "dns://agents.Example.net:8053/"
        agents.example.net. SVCB 1 . port=99 ipv4hint=192.0.2.9
        dns.{AGENT} SVCB 1 . ipv4hint=192.0.2.1
        dns.{AGENT} JWK {jwk_text()}
        """
    )
    assert (contact.addresses, contact.port) == (("192.0.2.9",), 8053)


@pytest.mark.parametrize(
    ("uri", "svcb", "port"),
    [
        (f"dns://dns.{AGENT}/", "port=99", 99),
        (f"dns://dns.{AGENT}/", "", 53),
        (f"dns://dns.{AGENT}:8053/", "port=99", 8053),
        (f"dns://DNS.{AGENT.rstrip('.').upper()}:8053", "port=99", 8053),
    ],
)
def test_port_of_uri_then_svcb_then_default(uri: str, svcb: str, port: int) -> None:
    contact = find(
        f"""
        _dns._tcp.{AGENT} URI 1 1 "{uri}"
        dns.{AGENT} SVCB 1 . {svcb} ipv4hint=192.0.2.1
        dns.{AGENT} JWK {jwk_text()}
        """
    )
    assert contact.port == port


def test_the_best_uri_that_parses_counts() -> None:
    contact = find(
        USUAL
        + f"""
        _dns._tcp.{AGENT} URI 0 1 "https://web.example/"
        _dns._tcp.{AGENT} URI 0 2 "dns://[::broken/"
        _dns._tcp.{AGENT} URI 0 3 "dns://dns.{AGENT}:0/"
        _dns._tcp.{AGENT} URI 2 9 "dns://dns.{AGENT}:7777/"
        """
    )
    assert contact.port == 5353


def test_addresses_are_looked_up_if_there_are_no_hints() -> None:
    contact = find(
        f"""
        _dns._tcp.{AGENT} URI 1 1 "dns://dns.{AGENT}:5353/"
        dns.{AGENT} A 192.0.2.7
        dns.{AGENT} AAAA 2001:db8::7
        dns.{AGENT} JWK {jwk_text()}
        """
    )
    assert contact.addresses == ("192.0.2.7", "2001:db8::7")


def test_an_alias_is_followed_and_a_loop_ends() -> None:
    alias = f"""
    _dns._tcp.{AGENT} URI 1 1 "dns://dns.{AGENT}:5353/"
    dns.{AGENT} SVCB 0 pool.example.net.
    dns.{AGENT} JWK {jwk_text()}
    """
    assert find(alias + "pool.example.net. SVCB 1 . ipv4hint=192.0.2.8").addresses == ("192.0.2.8",)
    with pytest.raises(DiscoveryError):
        find(alias + f"pool.example.net. SVCB 0 dns.{AGENT}")


def test_the_key_may_stand_at_the_host_of_the_uri() -> None:
    text = f"""
    _dns._tcp.{AGENT} URI 1 1 "dns://agents.example.net:5353/"
    agents.example.net. SVCB 1 . ipv4hint=192.0.2.9
    agents.example.net. JWK {jwk_text()}
    """
    assert find(text).jwk == KEY
    with pytest.raises(DiscoveryError, match=r"agents\.example\.net\. JWK does not exist"):
        find("\n".join(text.strip().splitlines()[:2]))


def test_the_first_usable_key_counts() -> None:
    private = dict(KEYS[AGENT])
    text = USUAL.replace(jwk_text(), jwk_text({"kty": "OKP", "crv": "X25519", "x": "AAAA"}))
    assert "d" in private
    assert find(text + f"dns.{AGENT} JWK {jwk_text(private)}").jwk == KEY, "members of a private key are left out"
    with pytest.raises(DiscoveryError, match="no usable EC P-256 key"):
        find(text)


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
        {"kty": []},
    ],
)
def test_broken_keys_are_not_used(key: dict[str, str]) -> None:
    with pytest.raises(DiscoveryError, match="no usable"):
        find(USUAL.replace(jwk_text(), jwk_text(key)))


@pytest.mark.parametrize("rrtype", ["URI", "SVCB", "JWK"])
@pytest.mark.parametrize("verdict", ["insecure", "bogus", "indeterminate"])
def test_every_answer_must_be_secure(rrtype: str, verdict: str) -> None:
    with pytest.raises(DiscoveryError, match=f"{rrtype} is {verdict}, but must be validated"):
        find(USUAL, **{rrtype: verdict})
    assert find(USUAL, require_secure=False, **{rrtype: verdict}).jwk == KEY


def test_insecure_addresses_are_not_used_either() -> None:
    text = f'_dns._tcp.{AGENT} URI 1 1 "dns://dns.{AGENT}/"\ndns.{AGENT} A 192.0.2.7\ndns.{AGENT} JWK {jwk_text()}'
    with pytest.raises(DiscoveryError):
        find(text, A="insecure")


@pytest.mark.parametrize("rrtype", ["URI", "SVCB", "JWK"])
def test_what_is_missing_is_said(rrtype: str) -> None:
    rest = "\n".join(line for line in USUAL.splitlines() if f" {rrtype} " not in line)
    with pytest.raises(DiscoveryError, match=f"{rrtype} (does not exist|has no address hints)"):
        find(rest)


def test_why_a_lookup_failed_is_said() -> None:
    def resolve(lookup: Lookup) -> LookupAnswer:
        raise ResolutionError("no answer from 192.0.2.53")

    with pytest.raises(DiscoveryError, match=r"_dns\._tcp\.agent\.alpha\.example\. URI: no answer from 192\.0\.2\.53"):
        run_discovery(AGENT, resolve)


def test_the_shortest_life_counts_and_addresses_are_bounded() -> None:
    answers = world(USUAL)
    many = ",".join(f"192.0.2.{number}" for number in range(1, 100))
    answers.update(world(f"dns.{AGENT} SVCB 1 . ipv4hint={many}"))
    answers[f"dns.{AGENT}", JWK_TYPE] = Found(answers[f"dns.{AGENT}", JWK_TYPE].rrset, expires=NOW + 7)
    contact = run_discovery(AGENT, resolve_in(answers))
    assert contact.expires == NOW + 7
    assert len(contact.addresses) == MAX_ADDRESSES


# ------------------------------------------------------------------------------------------------------- identity zone


def published(*endpoints: Endpoint, sig0: bytes | None = None) -> dns.zone.Zone:
    """The zone as dnspython reads it, which refuses zones without SOA or NS."""
    zone = dns.zone.Zone(AGENT, relativize=False)
    records = identity_zone_records(AGENT, endpoints, KEYS[AGENT], sig0, ["ns1.example.net.", "ns2.example.net."], 42)
    with zone.writer() as writer:
        for owner, rrset in records:
            name, _ = dns.name.from_wire(owner, 0)
            rdatas = [dns.rdata.from_wire("IN", rrset.rdtype, octets, 0, len(octets)) for octets in rrset.rdatas]
            writer.add(name, dns.rdataset.from_rdata_list(rrset.ttl, rdatas))
    zone.check_origin()
    return zone


def test_what_is_published_is_found() -> None:
    zone = published(Endpoint("192.0.2.1"), Endpoint("2001:db8::1"), Endpoint("192.0.2.2"))
    answers = {
        (name.to_text(), int(rdataset.rdtype)): Found(dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset)))
        for name, rdataset in zone.iterate_rdatasets()
    }
    contact = run_discovery(AGENT, resolve_in(answers))
    assert contact == Contact(("192.0.2.1", "192.0.2.2", "2001:db8::1"), 5353, KEY, NOW + 300)


def test_the_records_are_those_that_go_agents_need() -> None:
    zone = published(Endpoint("192.0.2.1"), Endpoint("2001:db8::1"), sig0=bytes.fromhex("0100030f") + bytes(32))
    text = zone.to_text(relativize=False, sorted=True)
    for line in (
        f"{AGENT} 86400 IN SOA ns1.example.net. hostmaster.{AGENT} 42 3600 1800 1209600 60",
        f"{AGENT} 86400 IN NS ns1.example.net.",
        f"{AGENT} 86400 IN NS ns2.example.net.",
        f'_dns._tcp.{AGENT} 7200 IN URI 1 1 "dns://dns.{AGENT}:5353/"',
        f"dns.{AGENT} 120 IN A 192.0.2.1",
        f"dns.{AGENT} 120 IN AAAA 2001:db8::1",
        f'dns.{AGENT} 120 IN SVCB 1 dns.{AGENT} port="5353" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"',
        f"dns.{AGENT} 3600 IN JWK {jwk_text()}",
    ):
        assert line in text
    assert f"dns.{AGENT} 3600 IN KEY 256 3 15 " in text
    assert text.count("\n") == 9
    assert KEYS[AGENT]["d"] not in text
    assert {owner for owner, *_ in RECORDS} == {"I", "_dns._tcp.I", "dns.I"}


@pytest.mark.parametrize(
    ("endpoints", "key", "nameservers", "message"),
    [
        ([], KEY, ["ns.example.net."], "no endpoint"),
        ([Endpoint("192.0.2.1"), Endpoint("192.0.2.2", 54)], KEY, ["ns.example.net."], "same port"),
        ([Endpoint("localhost")], KEY, ["ns.example.net."], "localhost"),
        ([Endpoint("192.0.2.1")], KEY, [], "no name server"),
        ([Endpoint("192.0.2.1")], KEY, [f"ns.{AGENT}"], "inside the identity zone"),
        ([Endpoint("192.0.2.1")], {"kty": "OKP"}, ["ns.example.net."], "P-256"),
    ],
)
def test_what_cannot_be_published(
    endpoints: list[Endpoint], key: dict[str, str], nameservers: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        identity_zone_records(AGENT, endpoints, key, None, nameservers, 1)
