"""What is fuzzed: a table of every decoder that reads octets from outside, each with sound octets to damage.

A target checks more than that nothing unexpected escapes: what a decoder accepts, it encodes again and decodes to the
same, and where two parts of the library read the same thing, they agree.  Layers under a signature or a seal are also
damaged before they are signed or sealed, with valid keys, so that the damage reaches them.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import dns.dnssec
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.ANY.NSEC3 import NSEC3
from dns.rdtypes.ANY.RRSIG import RRSIG

from cockpit.recording import read_recording
from daemons.config import ROLES, load
from mpcore.control.client import ControlClient
from mpcore.errors import ConfigError, MpError, RecordError, RemoteError, TransferError, TsigError, ZoneError
from mpcore.net import cookies, messages, server
from mpcore.net.keyring import load_keyring
from mpcore.net.notify import parse_notify
from mpcore.net.resolver_denial import Denial, collect_denial
from mpcore.net.resolver_types import Budget, ResolverLimits, ValidationError
from mpcore.net.resolver_validation import KeySet, entry_keys, find_rrset, signatures_of, verify_rrset
from mpcore.peer.discovery import Lookup, run_discovery
from mpcore.query.asking import parse_answer
from mpcore.query.result import LookupResult, View
from mpcore.records import (
    CHUNK,
    HSYNC3,
    HSYNC3_TYPE,
    HSYNCPARAM,
    HSYNCPARAM_TYPE,
    JWK,
    ChunkEndpointOption,
    ChunkOption,
    dsync_from_text,
    dsync_to_text,
)
from mpcore.signer.keys import dnskey_rdata, dump_pem, raw_signer
from mpcore.wire.chunks import decode_manifest, join, split
from mpcore.wire.frame import (
    decode_chunk_answer,
    decode_chunk_query,
    decode_notify,
    decode_response,
    encode_error,
)
from mpcore.wire.messages import Beat, decode_acknowledgement, decode_message
from mpcore.wire.seal import (
    PrivateKey,
    PublicKey,
    looks_sealed,
    read_private_key,
    read_public_keys,
    unseal,
    write_private_key,
    write_public_key,
)
from mpcore.zone import owners
from mpcore.zone.answer import Responder
from mpcore.zone.journal import Delta, Journal, condense
from mpcore.zone.masterfile import read_master_text, write_master_text
from mpcore.zone.roles import ZoneRoles
from mpcore.zone.rrset import RRset, canonical_rdata, check_rdata, expand_rdata, parse_record, rdata_text, record_text
from mpcore.zone.sig0 import Sig0Key, Sig0Keys, check_time, find_sig0, fingerprint, sign_sig0, strip_sig0, verify_sig0
from mpcore.zone.transfer import InboundAxfr, InboundIxfr, axfr_messages, axfr_query, ixfr_messages, ixfr_query
from mpcore.zone.tsig import TsigKey, TsigStream, TsigStreamVerifier, error_response, sign_message, verify_message
from mpcore.zone.update import Requestor, UpdatePolicy, UpdateRule, apply_update, decode_update, encode_update
from mpcore.zone.version import ZoneVersion, diff
from tests import jose_by_hand as jose
from tests.fuzz.doors import DOORS
from tests.fuzz.engine import Target
from tests.fuzz.structure import damage_json
from tests.fuzz.wires import wire_targets

__all__ = ("TARGETS",)

FIXTURES = Path(__file__).parents[1] / "fixtures"
NOW = 1.8e9

VERSION = read_master_text("""$ORIGIN example.
@     300 IN SOA ns hostmaster 7 3600 600 86400 300
@     300 IN NS ns.example.net.
www   300 IN A 192.0.2.1
alias 300 IN CNAME www
*.w   300 IN TXT "text"
sub   300 IN NS ns.sub
ns.sub 300 IN A 192.0.2.2
dn    300 IN DNAME example.net.
""")
NEWER = read_master_text("""$ORIGIN example.
@     300 IN SOA ns hostmaster 9 3600 600 86400 300
@     300 IN NS ns.example.net.
www   300 IN A 192.0.2.1
www   300 IN A 192.0.2.9
new   300 IN MX 10 mail
*.w   60  IN TXT "text"
sub   300 IN NS ns.sub
ns.sub 300 IN A 192.0.2.2
""")
ORIGIN = VERSION.origin


@cache
def _fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@cache
def _directory() -> Path:
    """A directory that is removed at the end of the process."""
    memory = Path("/dev/shm")  # a file is written for every execution of some targets: not to a disk
    directory = tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(directory.cleanup)
    return Path(directory.name)


def _text(octets: bytes) -> str:
    """The octets as text; those that are not UTF-8 become lone surrogates, which JSON can bring too."""
    return octets.decode("utf-8", "surrogateescape")


def _framed(items: Sequence[bytes]) -> bytes:
    """Each with its length in two octets in front, as over TCP (RFC 1035, section 4.2.2)."""
    return b"".join([len(item).to_bytes(2, "big") + item for item in items])


def _unframed(octets: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(octets):
        end = at + 2 + int.from_bytes(octets[at : at + 2], "big")
        yield octets[at + 2 : end]
        at = end


# ------------------------------------------------------------------------------------------------------------- records


def _record(cls: Any) -> Callable[[bytes], None]:
    def run(octets: bytes) -> None:
        record = cls.from_octets(octets)
        assert record.to_octets() == octets
        assert cls.parse(record.to_text()) == record
        if isinstance(record, CHUNK):
            decode_manifest(record)
        elif isinstance(record, JWK):
            PublicKey.from_jwk(record.jwk())
        elif isinstance(record, HSYNC3):
            assert isinstance(f"{record.label_text}{record.upstream_text}{record.identity_text}", str)
        elif isinstance(record, HSYNCPARAM):
            assert record.nsmgmt in ("owner", "agent")
            assert all(isinstance(label, str) for label in (*record.servers, *record.signers, *record.auditors))

    return run


def _record_texts(octets: bytes) -> None:
    """The first octet says which."""
    cls = (HSYNC3, HSYNCPARAM, CHUNK, JWK)[octets[0] % 4 if octets else 0]
    record = cls.parse(_text(octets[1:]))
    assert cls.parse(record.to_text()) == record
    assert cls.from_octets(record.to_octets()) == record


def _dsync(octets: bytes) -> None:
    rdata = dsync_from_text(_text(octets))
    assert dsync_from_text(dsync_to_text(rdata)) == rdata


def _chunk_option(octets: bytes) -> None:
    option = ChunkOption.from_octets(octets)
    assert octets.startswith(option.to_octets())


def _endpoint_option(octets: bytes) -> None:
    option = ChunkEndpointOption.from_octets(octets)
    assert ChunkEndpointOption.from_octets(option.to_octets()) == option


def _records() -> dict[type, list[bytes]]:
    key = PrivateKey.from_jwk(_fixture("keys")["agent.alpha.example."]).public()
    return {
        HSYNC3: [
            HSYNC3.make("alpha", "agent.alpha.example.", "bravo").to_octets(),
            HSYNC3.make("b", "agent.bravo.example.", on=False).to_octets(),
        ],
        HSYNCPARAM: [
            HSYNCPARAM.parse('nsmgmt=agent servers="a,b" pubkey suffix=prov key100="hi"').to_octets(),
            HSYNCPARAM.parse('nsmgmt=owner parentsync=agent signers="a,b" auditors=c').to_octets(),
        ],
        CHUNK: [
            CHUNK.make(0, 2, b'{"chunk_count":2}').to_octets(),
            *(chunk.to_octets() for chunk in _chunks(b"payload", 1400)[:1]),
        ],
        JWK: [JWK.from_public_key_jwk(key.to_jwk()).to_octets()],
    }


def _chunks(payload: bytes, size: int) -> list[CHUNK]:
    return split(
        payload, content="sync", distribution_id="6b", receiver="r.example.", timestamp=int(NOW), chunk_size=size
    )


def _rdata(octets: bytes) -> None:
    """Type in two octets, then RDATA."""
    rdtype, rdata = int.from_bytes(octets[:2], "big"), octets[2:]
    with suppress(RemoteError):
        expand_rdata(rdtype, octets, 2, len(rdata))
    check_rdata(rdtype, rdata)
    canonical_rdata(rdtype, rdata)
    with suppress(RemoteError):
        rdata_text(rdtype, rdata)
    text = record_text(ORIGIN, rdtype, 300, rdata)
    assert "\n" not in text
    if rdtype not in (0, 41) and not 128 <= rdtype <= 255:
        owner, again, _, octets_again = parse_record(text)
        assert (owner, again, octets_again) == (ORIGIN, rdtype, rdata), text


def _parse_record(octets: bytes) -> None:
    owner, rdtype, ttl, rdata = parse_record(_text(octets), ORIGIN)
    check_rdata(rdtype, rdata)
    if rdtype != dns.rdatatype.RRSIG:
        assert parse_record(record_text(owner, rdtype, ttl, rdata)) == (owner, rdtype, ttl, rdata)


_RECORD_TEXTS = (
    r"www 300 IN A 192.0.2.1",
    r"@ IN SOA ns hostmaster 7 3600 600 86400 300",
    r"example. 300 IN AAAA 2001:db8::1",
    r'x TXT "a \"quoted\" text" second \003',
    r"@ 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
    r"@ CDS 12345 15 2 " + "AB" * 32,
    r"w SVCB 1 agent.example. alpn=dot port=853 ipv4hint=192.0.2.1 key65000=x",
    r"_dns URI 10 1 \"dns://agent.example:53\"".replace("\\", ""),
    r"a.b NSEC c.example. A MX RRSIG NSEC TYPE65285",
    r"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr A RRSIG",
    r"@ RRSIG SOA 15 1 300 20270115080000 20270101080000 1234 example. " + "QUJD" * 21 + "QUI=",
    r"@ TYPE65300 \# 3 010203",
    r"@ CAA 0 issue \"ca.example\"".replace("\\", ""),
    r"@ NAPTR 1 1 \"u\" \"x\" \"!a!b!\" .".replace("\\", ""),
    r"@ CSYNC 66 3 A NS AAAA",
    r"@ LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
    r"@ APL 1:192.168.32.0/21 !1:192.168.38.0/28",
)


def _rdata_seeds() -> list[bytes]:
    parsed = [parse_record(text, ORIGIN) for text in _RECORD_TEXTS]
    own = [(HSYNC3_TYPE, _records()[HSYNC3][0]), (HSYNCPARAM_TYPE, _records()[HSYNCPARAM][0])]
    return [rdtype.to_bytes(2, "big") + rdata for rdtype, rdata in (*((item[1], item[3]) for item in parsed), *own)]


# ---------------------------------------------------------------------------------------------------------------- wire


def _frame(decode: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    def run(octets: bytes) -> None:
        encode_error(octets.ljust(12, b"\0"), 1)
        decoded = decode(octets)
        if decoded.__class__.__name__ == "Response" and decoded.rcode > 15:
            return
        assert decode(decoded.to_octets()) == decoded

    return run


def _ident(octets: bytes) -> int:
    return int.from_bytes(octets[:2], "big")


def _frames(decode: Callable[[bytes], Any]) -> list[bytes]:
    """Those of the captured messages that *decode* takes."""
    taken = []
    for item in (*_fixture("messages"), *_fixture("query-mode")):
        octets = bytes.fromhex(item["dns_message"])
        with suppress(RemoteError):
            decode(octets)
            taken.append(octets)
    return taken


_FRAMES: dict[str, Callable[[bytes], Any]] = {
    "notify": decode_notify,
    "response": lambda octets: decode_response(octets, _ident(octets)),
    "chunk-query": decode_chunk_query,
    "chunk-answer": lambda octets: decode_chunk_answer(octets, _ident(octets)),
}


def _join(octets: bytes) -> None:
    manifest, *rest = [CHUNK.from_octets(item) for item in _unframed(octets)] or [CHUNK.from_octets(b"")]
    join(decode_manifest(manifest), rest)


def _join_seeds() -> list[bytes]:
    return [
        _framed([chunk.to_octets() for chunk in _chunks(payload, size)])
        for payload, size in ((b"payload", 1400), (b"payload" * 20, 50), (b"p" * 100, 99))
    ]


_SENDER, _RECEIVER = "agent.alpha.example.", "agent.bravo.example."


@cache
def _keys() -> tuple[PublicKey, PrivateKey]:
    keys = _fixture("keys")
    return PrivateKey.from_jwk(keys[_SENDER]).public(), PrivateKey.from_jwk(keys[_RECEIVER])


def _sealed(octets: bytes) -> None:
    looks_sealed(octets)
    unseal(octets, *_keys())


def _sealed_inside(octets: bytes) -> None:
    """A JWE, signed as it is."""
    _sealed(base64.b64encode(jose.sign(octets, _fixture("keys")[_SENDER])))


def _sealed_seeds() -> list[bytes]:
    taken = []
    for item in _fixture("messages"):
        if (item["kind"], item["sender"], item["receiver"]) == ("request", _SENDER, _RECEIVER):
            data = decode_notify(bytes.fromhex(item["dns_message"])).data
            if data is not None and looks_sealed(data):
                taken.append(data)
    return sorted(taken, key=len)[:6]


def _sealed_inside_seeds() -> list[bytes]:
    return [jose.unb64url(base64.b64decode(data).split(b".")[1]) for data in _sealed_seeds()]


def _key_file(octets: bytes) -> None:
    text = _text(octets)
    with suppress(RemoteError):
        read_private_key(text)
    for key in read_public_keys(text):
        assert PublicKey.from_jwk(key.to_jwk()) == key


def _key_file_seeds() -> list[bytes]:
    public, private = _keys()
    texts = [
        write_private_key(private, ["a comment"]),
        write_public_key(public),
        json.dumps({"keys": [public.to_jwk(), private.public().to_jwk()]}),
    ]
    return [text.encode() for text in texts]


def _message(octets: bytes) -> None:
    message = decode_message(octets)
    assert decode_message(message.to_json()) == message
    assert isinstance(message.sender + message.zone_name, str)
    with suppress(RemoteError):
        assert message.sent_at is None or message.sent_at >= 0.0 or message.sent_at < 0.0
    if isinstance(message, Beat):
        for gossip in message.gossip or ():
            with suppress(RemoteError):
                gossip.check_times()


def _acknowledgement(octets: bytes) -> None:
    acknowledgement = decode_acknowledgement(octets)
    assert decode_acknowledgement(acknowledgement.to_json()) == acknowledgement


def _payloads(kind: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        return [item["payload"].encode() for item in _fixture("messages") if item["kind"] == kind and item["payload"]]

    return seeds


_JSON = (
    *(b"null", b"{}", b"[]", b'""', b"true", b"NaN", b'"MessageType":', b'"Time":"0001-01-01T00:00:00Z"'),
    *(b"\\ud800", b"\\u0000", b"[" * 2000, b'{"a":' * 2000),
)


# ---------------------------------------------------------------------------------------------------------------- zone


def _owners(octets: bytes) -> None:
    with suppress(RemoteError):
        name, _ = owners.read_name(octets, 0)
        assert len(name) <= 255
        lowered = name.lower()
        assert owners.from_text(owners.to_text(lowered)) == lowered
        assert owners.owner_of_key(owners.canonical_key(lowered)) == lowered
    name = owners.from_text(_text(octets), ORIGIN)
    assert owners.from_text(owners.to_text(name)) == name


def _same(left: ZoneVersion, right: ZoneVersion) -> bool:
    return left.origin == right.origin and not diff(left, right)


def _transferred(octets: bytes) -> None:
    """The framed messages of a full transfer; id and zone are those of the first."""
    items = list(_unframed(octets)) or [b""]
    origin = owners.read_name(items[0], 12, compressed=False)[0].lower()
    inbound = InboundAxfr(origin, _ident(items[0]), max_records=100_000, max_octets=1 << 20)
    for item in items:
        inbound.feed(item)
    version = inbound.version
    again = InboundAxfr(origin, 1)
    for message in axfr_messages(version, axfr_query(origin, 1)):
        again.feed(message)
    assert _same(again.version, version)
    assert _same(read_master_text(write_master_text(version)), version)
    with suppress(ZoneError):
        ZoneRoles.from_version(version)


def _transfer_seeds() -> list[bytes]:
    return [_framed([bytes.fromhex(message) for message in item["messages"]]) for item in _fixture("transfers")] + [
        _framed(list(axfr_messages(NEWER, axfr_query(ORIGIN, 1), 512)))
    ]


def _incremental(octets: bytes) -> None:
    items = list(_unframed(octets)) or [b""]
    inbound = InboundIxfr(VERSION, _ident(items[0]), max_records=100_000, max_octets=1 << 20)
    for item in items:
        inbound.feed(item)
    version = inbound.version
    assert version.origin == ORIGIN
    assert sum(len(rrset.rdatas) for _, rrset in version.rrsets()) == version.record_count


def _incremental_seeds() -> list[bytes]:
    delta, query = Delta.between(VERSION, NEWER), ixfr_query(VERSION, 1)
    return [
        _framed(list(ixfr_messages([delta], query))),
        _framed(list(ixfr_messages([delta], query, 512))),
        _framed(list(axfr_messages(NEWER, query))),
        _framed(list(axfr_messages(VERSION, query, 512))),
    ]


def _transfer_request(octets: bytes) -> None:
    with suppress(TransferError):
        for message in ixfr_messages([Delta.between(VERSION, NEWER)], octets):
            assert len(message) <= 65535
    for message in axfr_messages(VERSION, octets, 512):
        assert len(message) <= 512


TSIG_KEY = TsigKey(owners.from_text("key."), "hmac-sha256", bytes(range(32)))
TSIG_KEYS = {TSIG_KEY.name: TSIG_KEY}


def _tsig(octets: bytes) -> None:
    try:
        verified = verify_message(octets, TSIG_KEYS, NOW)
    except TsigError as error:
        if len(octets) >= 12:
            error_response(octets, error, TSIG_KEYS, NOW)
        raise
    assert verified is None or len(verified.octets) < len(octets)


def _tsig_signed(octets: bytes) -> None:
    """A request whose damage is signed; if the signature is found, it is good."""
    if 12 <= len(octets) < 65000 and octets[10:12] != b"\xff\xff":
        verified = verify_message(sign_message(octets, TSIG_KEY, NOW)[0], TSIG_KEYS, NOW)
        assert verified is None or verified.octets == octets


def _tsig_stream(octets: bytes) -> None:
    stream = TsigStreamVerifier(TSIG_KEY, b"request")
    for item in _unframed(octets):
        stream.verify(item, NOW)
    stream.finish()


def _tsig_stream_seeds() -> list[bytes]:
    query = axfr_query(ORIGIN, 1)
    stream = TsigStream(TSIG_KEY, b"request")
    return [
        _framed(list(axfr_messages(VERSION, query, 512, sign=lambda octets: stream.sign(octets, NOW), reserve=300)))
    ]


def _requests() -> list[bytes]:
    return [axfr_query(ORIGIN, 1), ixfr_query(VERSION, 1), dns.message.make_query("www.example.", "A", id=5).to_wire()]


def _master(octets: bytes) -> None:
    """The zone is written and read again, and sent as a difference from another version."""
    version = read_master_text(_text(octets), ORIGIN)
    assert _same(read_master_text(write_master_text(version)), version)
    assert _same(read_master_text(write_master_text(version, False)), version)
    with suppress(ZoneError):
        ZoneRoles.from_version(version)


def _journal(octets: bytes) -> None:
    """The differences to a version and back again cancel out, and lead another server to the same version."""
    version = read_master_text(_text(octets), ORIGIN)
    there, back = Delta.between(VERSION, version), Delta.between(version, VERSION)
    circle = condense([there, back])
    assert not circle.record_count
    journal = Journal()
    journal.record(VERSION, version)
    assert isinstance(journal.octets, int)
    if version.serial != VERSION.serial:
        inbound = InboundIxfr(VERSION, 1)
        for message in ixfr_messages([there], ixfr_query(VERSION, 1)):
            inbound.feed(message)
        if inbound.incremental:
            assert _same(inbound.version, version)


def _master_seeds() -> list[bytes]:
    return [
        write_master_text(NEWER).encode(),
        b"$ORIGIN example.\n$TTL 1h\n@ SOA ns hostmaster (\n 8 ; serial\n 1h 10m 1d 5m )\n  NS ns.example.net.\n"
        b'www A 192.0.2.1\n  AAAA 2001:db8::1\nt\\046t TXT "a;b" c\n$ORIGIN sub\n@ NS ns\nns TYPE1 \\# 4 C0000202\n',
        write_master_text(_roles_zone(*_records()[HSYNC3], *_records()[HSYNCPARAM][:1])).encode(),
    ]


def _roles_zone(*rdatas: bytes) -> ZoneVersion:
    """All but the last are HSYNC3."""
    rrsets = [(ORIGIN, VERSION.soa)]
    if rdatas[:-1]:
        rrsets.append((ORIGIN, RRset.make(HSYNC3_TYPE, 300, rdatas[:-1])))
    rrsets.append((ORIGIN, RRset.make(HSYNCPARAM_TYPE, 300, rdatas[-1:])))
    return ZoneVersion.build(ORIGIN, rrsets)


def _roles(octets: bytes) -> None:
    rdatas = list(_unframed(octets))
    roles = ZoneRoles.from_version(_roles_zone(*rdatas)) if rdatas else None
    if roles is not None:
        for identity in (*roles.identities(), "agent.other.example."):
            for question in (roles.may_edit, roles.options, roles.other_signers, roles.label_of, roles.is_auditor):
                question(identity)
            for rrtype in ("NS", "DNSKEY", "CDS", "KEY"):
                assert roles.can_apply(rrtype, identity) == (identity in roles.appliers(rrtype))
                roles.can_submit(rrtype, identity)
        assert set(roles.voters()) <= set(roles.identities())


def _roles_seeds() -> list[bytes]:
    rows = [
        HSYNC3.make("alpha", "agent.alpha.example.").to_octets(),
        HSYNC3.make("bravo", "agent.bravo.example.", "alpha").to_octets(),
        HSYNC3.make("c", "auditor.example.", on=False).to_octets(),
    ]
    texts = ('nsmgmt=agent servers="alpha,bravo" signers=alpha auditors=c', 'nsmgmt=owner signers="alpha,bravo" pubkey')
    return [_framed([*rows, HSYNCPARAM.parse(text).to_octets()]) for text in texts]


@cache
def _responder() -> Responder:
    zones = {ORIGIN: VERSION}
    for item in _fixture("transfers")[3:5]:
        octets = [bytes.fromhex(message) for message in item["messages"]]
        origin = owners.from_text(item["zone"])
        inbound = InboundAxfr(origin, _ident(octets[0]))
        for message in octets:
            inbound.feed(message)
        zones[origin] = inbound.version
    return Responder(zones)


def _query(octets: bytes) -> None:
    for over_tcp in (False, True):
        answer = _responder().respond(octets, over_tcp=over_tcp)
        if answer:
            assert len(answer) <= (65535 if over_tcp else 1232)
            assert answer[:2] == octets[:2]
            dns.message.from_wire(answer)


def _query_seeds() -> list[bytes]:
    names = ("www", "alias", "a.w", "x.sub", "a.dn", "nothing", "@")
    queries = []
    for number, (origin, name) in enumerate(
        (origin, name) for origin in ("example.", "example.com.") for name in names
    ):
        qname = origin if name == "@" else f"{name}.{origin}"
        rdtype = ("A", "SOA", "DS", "ANY", "DNSKEY", "NS")[number % 6]
        query = dns.message.make_query(qname, rdtype, id=number, want_dnssec=bool(number % 2))
        queries.append(query.to_wire())
    return queries


# -------------------------------------------------------------------------------------------------------------- update


@cache
def _private() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


SIGNER = owners.from_text("host.example.")
SIG0_KEY = Sig0Key(SIGNER, dnskey_rdata(_private(), 0x0200))
SIG0_KEYS = Sig0Keys([SIG0_KEY])
REQUESTOR = Requestor("sig0", SIGNER)
POLICY = UpdatePolicy([UpdateRule(REQUESTOR, "zonesub", types=frozenset({255}))])


def _update(octets: bytes) -> None:
    update = decode_update(octets)
    result = apply_update(VERSION, update, POLICY, REQUESTOR)
    assert bool(result.changes) is (result.version is not VERSION)
    assert decode_update(encode_update(update, 1)) == update


def _sig0(octets: bytes) -> None:
    signatures = find_sig0(octets)
    for signature in signatures:
        assert len(strip_sig0(octets, signature)) == signature.start
        fingerprint(octets, signature)
    if signatures:
        signature, key = SIG0_KEYS.choose(signatures)
        check_time(signature, NOW)
        verify_sig0(octets, signature, key)


def _sig0_signed(octets: bytes) -> None:
    """An update whose damage is signed, so that it is read."""
    if len(octets) > 11 and octets[10:12] != b"\xff\xff":
        octets = sign_sig0(octets, SIG0_KEY, raw_signer(_private()), NOW)
    signature, key = SIG0_KEYS.choose(find_sig0(octets))
    _update(verify_sig0(octets, signature, key))


def _sig0_key(octets: bytes) -> None:
    key = Sig0Key(SIGNER, octets)
    assert 0 <= key.tag < 65536


def _updates() -> list[bytes]:
    message = dns.update.UpdateMessage("example.", id=7)
    message.present("www")
    message.present("www", "A", "192.0.2.1")
    message.absent("new")
    message.add("new", 60, "MX", "10 mail.example.")
    message.add("@", 60, "NS", "ns.new.example.")
    message.delete("www", "A", "192.0.2.1")
    message.delete("www", "AAAA")
    message.delete("alias")
    small = dns.update.UpdateMessage("example.", id=7)
    small.add("new", 60, "A", "192.0.2.7")
    return [message.to_wire(), small.to_wire()]


def _sig0_seeds() -> list[bytes]:
    return [sign_sig0(octets, SIG0_KEY, raw_signer(_private()), NOW) for octets in _updates()] + _updates()


def _sig0_key_seeds() -> list[bytes]:
    ecdsa = dnskey_rdata(ec.derive_private_key(7, ec.SECP256R1()), 0x0200)
    modulus = bytearray(hashlib.shake_256(b"modulus").digest(256))
    modulus[0] |= 0x80
    modulus[-1] |= 1
    return [SIG0_KEY.rdata, ecdsa, b"\x02\x00\x03\x08\x03\x01\x00\x01" + modulus]


# ----------------------------------------------------------------------------------------------------------------- net


def _net_messages(octets: bytes) -> None:
    messages.question_end(octets)
    for read in (messages.name_end, messages.skip_record):
        with suppress(RemoteError):
            read(octets, 12)
    assert messages.requested_payload(octets) >= 512
    if len(octets) >= 12:
        messages.counts(octets)
        messages.rcode_of(octets)
        assert len(messages.truncated_reply(messages.empty_reply(octets, 5))) <= max(12, len(octets))
    messages.read_soa(octets)


def _request(octets: bytes) -> None:
    """What a server makes of a message before anyone handles it."""
    request = server._parse(octets, ("192.0.2.1", 53), False)
    if isinstance(request, server.Request):
        assert server.reply(request, 5)[:2] == octets[:2]
        if request.opcode == messages.NOTIFY:
            parse_notify(request)
    elif request is not None:
        assert request[:2] == octets[:2]


def _lookup(octets: bytes) -> None:
    """An answer as people see it: nothing in it drives their terminal, and it is one JSON value."""
    result = LookupResult(
        server="192.0.2.1",
        port=53,
        transport="udp",
        asked_at=NOW,
        elapsed=0.01,
        size=len(octets),
        message=parse_answer(octets),
        key=None,
    )
    for view in (View(), View(multi=True), View(short=True), View(crypto=False, ttl_units=True)):
        assert result.to_text(view).replace("\n", "").isprintable()
    json.dumps(result.to_json(), allow_nan=False).encode()


@dataclass(frozen=True)
class _Found:
    """The answer to a lookup, as discovery sees it."""

    rrset: dns.rrset.RRset | None
    security: str = "secure"
    expires: float = NOW + 300


def _discovery(octets: bytes) -> None:
    """The records of a message are all there is in the world; they are validated."""
    section = _parsed(octets).answer

    def resolve(lookup: Lookup) -> _Found:
        return _Found(find_rrset(section, dns.name.from_text(lookup.owner), lookup.rdtype))

    contact = run_discovery(_SENDER, resolve)
    assert contact.addresses
    assert 0 < contact.port < 65536
    for key in (contact.jwk, *contact.other_jwks):
        PublicKey.from_jwk(key)


def _discovery_seeds() -> list[bytes]:
    item = _fixture("transfers")[0]
    zone = InboundAxfr(owners.from_text(item["zone"]), _ident(bytes.fromhex(item["messages"][0])))
    for message in item["messages"]:
        zone.feed(bytes.fromhex(message))
    message = dns.message.make_response(dns.message.make_query(item["zone"], "ANY", id=3))
    for owner, rrset in zone.version.rrsets():
        name = dns.name.from_wire(owner, 0)[0]
        if rrset.rdtype != dns.rdatatype.RRSIG:
            rdatas = [
                dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rrset.rdtype), rdata, 0, len(rdata))
                for rdata in rrset.rdatas
            ]
            message.answer.append(dns.rrset.from_rdata(name, rrset.ttl, *rdatas))
    return [message.to_wire()]


def _soa_answer() -> bytes:
    return _responder().respond(dns.message.make_query("example.", "SOA", id=5).to_wire(), over_tcp=False)


COOKIES = cookies.ServerCookies([bytes(range(16)), bytes(16)])


def _cookie(octets: bytes) -> None:
    if len(octets) >= 12:
        judged = COOKIES.judge(octets, "192.0.2.1", NOW)
        assert (len(judged.option) == 28) is (
            judged.standing in (cookies.CookieStanding.CLIENT, cookies.CookieStanding.VALID)
        )


def _cookie_seeds() -> list[bytes]:
    def asking(cookie: bytes) -> bytes:
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
        return dns.message.make_query("www.example.", "A", id=5, use_edns=0, options=[option]).to_wire()

    client = bytes(range(8))
    return [asking(client), asking(COOKIES.judge(asking(client), "192.0.2.1", NOW).option[4:])]


ZONE = dns.name.from_text("example.")
_NAMES = [dns.name.from_text(text) for text in ("b.example.", "c.b.example.", "*.example.", "example.", "z.y.example.")]


@cache
def _dnskey() -> DNSKEY:
    key = dns.dnssec.make_dnskey(_private().public_key(), "ED25519", 257)
    assert isinstance(key, DNSKEY)
    return key


def _parsed(octets: bytes) -> dns.message.Message:
    """As the resolver parses what it receives."""
    try:
        return dns.message.from_wire(octets)
    except Exception as error:
        raise RecordError(str(error)) from None


def _validation(octets: bytes) -> None:
    """A response is validated as it comes."""
    message = _parsed(octets)
    budget = Budget(ResolverLimits())
    section = [*message.answer, *message.authority]
    keys = KeySet(ZONE, [_dnskey()])
    _prove(collect_denial(section, keys, NOW, budget))
    for rrset in section[:8]:
        with suppress(ValidationError):
            verify_rrset(rrset, signatures_of(section, rrset), keys, NOW, budget)
        found = [rdata for rdata in rrset if isinstance(rdata, DNSKEY)]
        signatures = [rdata for other in section for rdata in other if isinstance(rdata, RRSIG)]
        anchors = [rdata for other in section for rdata in other if isinstance(rdata, DS)]
        entry_keys(ZONE, found, signatures, [*anchors, _dnskey()], budget)


def _denial(octets: bytes) -> None:
    """What the NSEC and NSEC3 records of a response prove, as if every signature had verified."""
    section = _parsed(octets).authority[:12]
    nsec = [(rrset.name, rdata) for rrset in section for rdata in rrset if isinstance(rdata, NSEC)]
    nsec3 = [(rrset.name, rdata) for rrset in section for rdata in rrset if isinstance(rdata, NSEC3)]
    _prove(Denial(ZONE, nsec, nsec3, Budget(ResolverLimits()), 300))


def _prove(denial: Denial) -> None:
    for name in _NAMES:
        denial.name_error(name)
        denial.no_data(name, dns.rdatatype.A)
        denial.no_closer_match(name, ZONE)
        denial.delegation(name)


def _responses() -> list[bytes]:
    def signed(*texts: tuple[str, str, str]) -> list[dns.rrset.RRset]:
        section = []
        for owner, rdtype, text in texts:
            rrset = dns.rrset.from_text(owner, 300, "IN", rdtype, text)
            rrsig = dns.dnssec.sign(
                rrset, _private(), ZONE, _dnskey(), inception=int(NOW - 3600), expiration=int(NOW + 3600)
            )
            section += [rrset, dns.rrset.from_rdata(rrset.name, 300, rrsig)]
        return section

    def response(answer: list[dns.rrset.RRset], authority: list[dns.rrset.RRset]) -> bytes:
        message = dns.message.make_response(dns.message.make_query("c.b.example.", "A", id=9, want_dnssec=True))
        message.answer, message.authority = answer, authority
        return message.to_wire()

    digest = "2t7b4g4vsa5smi47k61mv5bv1a22bojr"
    return [
        response(
            [], signed(("a.example.", "NSEC", "d.example. A RRSIG NSEC"), ("example.", "NSEC", "a.example. NS SOA"))
        ),
        response(
            [],
            signed(
                (f"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.{ZONE}", "NSEC3", f"1 0 1 aabb {digest} NS SOA DNSKEY"),
                (f"{digest}.{ZONE}", "NSEC3", "1 1 1 aabb 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom NS"),
            ),
        ),
        response(
            [
                *signed(("example.", "DNSKEY", _dnskey().to_text())),
                *signed(("example.", "DS", dns.dnssec.make_ds(ZONE, _dnskey(), "SHA256").to_text())),
            ],
            signed(("*.example.", "NSEC", "b.example. TXT"), ("b.example.", "NSEC", "example. NS DS")),
        ),
    ]


# ----------------------------------------------------------------------------------------------- files and the control


def _keyring(octets: bytes) -> None:
    path = _directory() / "keyring.yaml"
    path.touch(0o600)
    path.write_bytes(octets)
    load_keyring(path)


_KEYRING = b"""# keys
- name: xfr.alpha.example.
  algorithm: hmac-sha256
  secret: a1hrNWNHRnVZMmhsYkd4dklIZHZjbXhr
- {name: other., algorithm: HMAC-SHA512., secret: "a1hrNWNHRnVZMmhsYkd4dklIZHZjbXhra1hrNWNHRnVZMmhsYkd4dklIZHZjbXhr"}
"""
_YAML = (
    *rb"&a |*a|<<: |!!python/name:os.system |!!binary |!!set |? |- |---|[|{|2001-01-01|.inf|0o7|1_000|%YAML 9".split(
        b"|"
    ),
    *(b"\n", b"\t", b"|\n", b"\xef\xbb\xbf", b"[" * 2000, b"- " * 2000, b"{a: " * 2000),
)

_NODE = """\
identity: {role}.alpha.example.
provider: alpha
state_dir: state
control_socket: run/s
listen:
  - address: 127.0.0.1
    port: 5300
key_file: own.jwk
tsig_keys_file: tsig.yaml
zones:
  - name: Example.COM
    primaries:
      - address: 127.0.0.4
        tsig_key: owner.
    secondaries: [{{address: "::1"}}]
"""
_AGENT = """\
publish:
  - {address: 127.0.0.1, port: 5300}
combiner: {identity: combiner.alpha.example., address: 127.0.0.2, public_key_file: peer.pub}
signer: {identity: signer.alpha.example., address: 127.0.0.3, public_key_file: peer.pub}
identity_zone: {nameservers: [ns.alpha.example.], ksk_file: own.pem, zsk_file: own.pem}
resolver: {trust_anchor_file: anchor, root_hints: [127.0.0.9]}
"""
_AGENTS = "agents: [{identity: agent.alpha.example., address: 127.0.0.1, public_key_file: peer.pub}]\n"


def _config_seeds() -> list[bytes]:
    public, private = _keys()
    for name, text in (
        ("own.jwk", write_private_key(private)),
        ("peer.pub", write_public_key(public)),
        ("own.pem", dump_pem(_private())),
        ("tsig.yaml", "- {name: Owner, algorithm: hmac-sha256, secret: c2VjcmV0}\n"),
        ("anchor", ""),
    ):
        path = _directory() / name
        path.touch(0o600)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    further = {"agent": _AGENT}
    return [(_NODE.format(role=role) + further.get(role, _AGENTS)).encode() for role in ROLES]


def _config(octets: bytes) -> None:
    """The role is the first word of the identity, an agent by default."""
    role = next((role for role in ROLES if b"identity: " + role.encode() in octets[:40]), "agent")
    path = _directory() / "daemon.yaml"
    path.write_bytes(octets)
    assert isinstance(load(path, ROLES[role]).show(), str)


@cache
def _runner() -> asyncio.Runner:
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


class _Stream:
    """A connection to a daemon that says what it is told to."""

    def __init__(self, octets: bytes) -> None:
        self._pieces = [octets[:700], octets[700:]]

    async def __aenter__(self) -> _Stream:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    async def send(self, octets: bytes) -> None:
        pass

    async def receive(self) -> bytes:
        while self._pieces:
            if piece := self._pieces.pop(0):
                return piece
        raise anyio.EndOfStream


class _Client(ControlClient):
    def __init__(self, octets: bytes) -> None:
        super().__init__("/run/control.sock")
        self._octets = octets

    async def _connect(self) -> Any:
        return _Stream(self._octets)


def _control(octets: bytes) -> None:
    """The first octet says which call a daemon answers with the others."""

    async def call() -> None:
        client = _Client(octets[1:])
        match octets[0] % 4 if octets else 0:
            case 0:
                await client.snapshot()
            case 1:
                await client.peers()
            case 2:
                await client.zone_records("example.")
            case _:
                async with aclosing(client.events()) as events:
                    async for _ in events:
                        break

    _runner().run(call())


def _control_seeds() -> list[bytes]:
    def http(call: int, status: str, body: bytes, kind: str = "application/json") -> bytes:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return bytes((call,)) + head.encode() + body

    entries = [json.loads(line) for line in _lines()]
    snapshots = sorted((json.dumps(entry["snapshot"]).encode() for entry in entries if "snapshot" in entry), key=len)
    events = [json.dumps(entry["event"]).encode() for entry in entries if "event" in entry]
    peers = json.dumps(next(json.loads(text)["peers"] for text in reversed(snapshots) if json.loads(text)["peers"]))
    return [
        http(0, "200 OK", snapshots[0]),
        http(0, "200 OK", snapshots[len(snapshots) // 2]),
        http(1, "200 OK", peers.encode()),
        http(2, "200 OK", _zone_records()),
        *(http(3, "200 OK", b"id: 1\ndata: " + event + b"\n\n", "text/event-stream") for event in events[:4]),
    ]


def _zone_records() -> bytes:
    return json.dumps(json.loads((FIXTURES / "recorded" / "zone-records.json").read_text())).encode()


@cache
def _lines() -> list[bytes]:
    return [
        line
        for name in ("forming", "outage")
        for line in (FIXTURES / "recorded" / f"{name}.jsonl").read_bytes().split(b"\n")
        if line
    ]


def _recording(octets: bytes) -> None:
    for entry in read_recording(_text(octets).split("\n"), "recording"):
        assert len(list(read_recording([entry.to_line()], "again"))) == 1


def _recording_seeds() -> list[bytes]:
    lines = sorted(set(_lines()), key=len)
    return [b"\n".join(lines[:2]), *lines[:: max(1, len(lines) // 12)][:10]]


# --------------------------------------------------------------------------------------------------------------- table

_CONFIG = (ConfigError,)
_DNS = (
    b"\xc0\x0c",
    b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00",
    b"\x00\x06\x00\x01",
    b"\x00\xfa\x00\xff",
    b"\x07example\x00",
)
_TEXT = (
    *rb' IN | TYPE65285 | \# 0|\# 2 0102|\000|\|"|(|)|;|*|@|.|..| SOA | DNSKEY | TXT | RRSIG '.split(b"|"),
    *(b"\n", b"\xff", b"$ORIGIN ", b"$TTL ", b"$INCLUDE x", b"$GENERATE 1-9 "),
)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("hsync3", _record(HSYNC3), lambda: _records()[HSYNC3]),
        Target("hsyncparam", _record(HSYNCPARAM), lambda: _records()[HSYNCPARAM]),
        Target("chunk", _record(CHUNK), lambda: _records()[CHUNK], tokens=_JSON, cost=2),
        Target("jwk", _record(JWK), lambda: _records()[JWK], tokens=_JSON, cost=2),
        Target(
            "record-texts",
            _record_texts,
            lambda: [
                bytes((number,)) + cls.from_octets(octets).to_text().encode()  # type: ignore[attr-defined]
                for number, cls in enumerate((HSYNC3, HSYNCPARAM, CHUNK, JWK))
                for octets in _records()[cls]
            ],
            tokens=_TEXT,
            cost=2,
        ),
        Target("dsync", _dsync, lambda: [b"CDS NOTIFY 5300 agent.example.", b"ANY 2 53 ."], tokens=_TEXT),
        Target("chunk-option", _chunk_option, lambda: [ChunkOption(2, b"data", b"h" * 32).to_octets()]),
        Target("endpoint-option", _endpoint_option, lambda: [b"127.0.1.2:8054", b"[2001:db8::1]:53"]),
        *(
            Target(name, _frame(decode), lambda decode=decode: _frames(decode), tokens=_DNS)  # type: ignore[misc]
            for name, decode in _FRAMES.items()
        ),
        Target("chunks", _join, _join_seeds, tokens=_JSON, cost=2),
        Target("sealed", _sealed, _sealed_seeds, tokens=(b".", b"=", b"\r\n"), cost=4),
        Target("sealed-inside", _sealed_inside, _sealed_inside_seeds, tokens=(b".", b"=", b"eyJ"), cost=20),
        Target("key-file", _key_file, _key_file_seeds, tokens=(*_JSON, b'"d":', b"# ", b'"keys":[')),
        Target("message", _message, _payloads("request"), tokens=_JSON, cost=4),
        Target("message-structure", _message, _payloads("request"), tokens=_JSON, cost=4, mutate=damage_json),
        Target("acknowledgement", _acknowledgement, _payloads("response"), tokens=_JSON, cost=2),
        Target("acknowledgement-structure", _acknowledgement, _payloads("response"), cost=2, mutate=damage_json),
        *DOORS,
        Target(
            "owners", _owners, lambda: [b"www.example.", ORIGIN, b"\x03WwW" + ORIGIN, b"a\\.b.\\000c"], tokens=_TEXT
        ),
        Target("rdata", _rdata, _rdata_seeds, tokens=_DNS, cost=2),
        Target("record", _parse_record, lambda: [text.encode() for text in _RECORD_TEXTS], tokens=_TEXT, cost=2),
        Target("axfr", _transferred, _transfer_seeds, tokens=_DNS, cost=16),
        Target("ixfr", _incremental, _incremental_seeds, tokens=_DNS, cost=2),
        Target("transfer-request", _transfer_request, lambda: _requests()[:1], tokens=_DNS, cost=2),
        Target(
            "tsig",
            _tsig,
            lambda: [sign_message(octets, TSIG_KEY, NOW)[0] for octets in _requests()],
            tokens=_DNS,
            cost=2,
        ),
        Target("tsig-signed", _tsig_signed, _requests, tokens=_DNS, cost=2),
        Target("tsig-stream", _tsig_stream, _tsig_stream_seeds, tokens=_DNS, cost=2),
        Target("master-file", _master, _master_seeds, tokens=_TEXT, cost=10),
        Target("journal", _journal, _master_seeds, tokens=_TEXT, cost=10),
        Target("roles", _roles, _roles_seeds, cost=4),
        Target("query", _query, _query_seeds, allowed=(), tokens=_DNS, cost=4),
        Target("update", _update, _updates, tokens=_DNS, cost=2),
        Target("sig0", _sig0, _sig0_seeds, tokens=_DNS),
        Target("sig0-signed", _sig0_signed, _updates, tokens=_DNS, cost=4),
        Target("sig0-key", _sig0_key, _sig0_key_seeds),
        Target("net-messages", _net_messages, lambda: [_soa_answer(), _requests()[1]], tokens=_DNS),
        Target("request", _request, lambda: [*_requests(), *_updates(), *_cookie_seeds()], tokens=_DNS),
        Target(
            "lookup",
            _lookup,
            lambda: [*_responses(), *_discovery_seeds(), *_frames(decode_notify)[:9]],
            tokens=_DNS,
            cost=10,
        ),
        Target("discovery", _discovery, _discovery_seeds, tokens=_DNS, cost=8),
        Target("cookie", _cookie, _cookie_seeds, allowed=(), tokens=_DNS),
        Target("validation", _validation, _responses, tokens=_DNS, cost=10),
        Target("denial", _denial, _responses, tokens=_DNS, cost=10),
        Target("keyring", _keyring, lambda: [_KEYRING], allowed=_CONFIG, tokens=_YAML, cost=20),
        Target("config", _config, _config_seeds, allowed=_CONFIG, tokens=_YAML, cost=20),
        Target(
            "control",
            _control,
            _control_seeds,
            allowed=(MpError, TimeoutError),
            tokens=(*_JSON, b"\r\n", b"data: "),
            cost=10,
        ),
        Target("recording", _recording, _recording_seeds, allowed=_CONFIG, tokens=_JSON, cost=4),
        *wire_targets(_YAML, _DNS),
    )
}
"""Name -> target: every decoder of what comes from outside."""
