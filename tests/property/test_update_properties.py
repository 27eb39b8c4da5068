"""Updates and signatures under arbitrary octets and arbitrary changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcore.errors import RemoteError, Sig0Error, UpdateError
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.rrset import parse_rdata, type_from_text
from mpcore.zone.serial import add, is_newer
from mpcore.zone.sig0 import Sig0Keys, find_sig0, strip_sig0
from mpcore.zone.update import (
    Requestor,
    Update,
    UpdatePolicy,
    UpdateRecord,
    UpdateRule,
    apply_records,
    apply_update,
    decode_update,
    encode_update,
    prescan,
)
from mpcore.zone.version import ZoneVersion, diff
from tests.fuzz.targets import TARGETS

ORIGIN = owners.from_text("example.")
VERSION = read_master_text("""$ORIGIN example.
@     300 IN SOA ns hostmaster 7 3600 600 86400 300
@     300 IN NS ns1.example.net.
@     300 IN NS ns2.example.net.
www   300 IN A 192.0.2.1
alias 300 IN CNAME www
x.ent 300 IN TXT "text"
dn    300 IN DNAME example.net.
""")
POLICY = UpdatePolicy([UpdateRule.of("tsig", "key.", "zonesub", types=["ANY"])])
REQUESTOR = Requestor("tsig", owners.from_text("key."))

_DATA = [
    (type_from_text(rrtype), parse_rdata(type_from_text(rrtype), text))
    for rrtype, text in (
        ("A", "192.0.2.1"),
        ("A", "192.0.2.2"),
        ("TXT", '"text"'),
        ("NS", "ns1.example.net."),
        ("NS", "ns2.example.net."),
        ("CNAME", "www.example."),
        ("DNAME", "example.org."),
        ("MX", "10 MAIL.example."),
        ("SOA", "ns.example. hostmaster.example. 9 1 1 1 1"),
        ("SOA", "ns.example. hostmaster.example. 6 1 1 1 1"),
        ("TYPE65300", r"\# 3 010203"),
    )
]
_owners = st.sampled_from(
    [ORIGIN, *(owners.from_text(name, ORIGIN) for name in ("www", "alias", "ent", "x.ent", "dn", "new", "a.b.new"))]
)


@st.composite
def _changes(draw: st.DrawFn) -> UpdateRecord:
    rdtype, rdata = draw(st.sampled_from(_DATA))
    owner = draw(_owners)
    match draw(st.integers(0, 3)):
        case 0:
            return UpdateRecord(owner, rdtype, 254, 0, rdata)
        case 1:
            return UpdateRecord(owner, draw(st.sampled_from([rdtype, 255])), 255, 0, b"")
        case _:
            return UpdateRecord(owner, rdtype, 1, draw(st.integers(0, 400)), rdata)


def check_zone(version: ZoneVersion) -> None:
    """What holds of every zone, however it came about; building it anew checks the rest."""
    assert len(version.soa.rdatas) == 1
    assert 2 in version.types(ORIGIN)
    again = ZoneVersion.build(ORIGIN, version.rrsets())
    assert not diff(version, again)
    assert again.record_count == version.record_count


@given(st.lists(st.lists(_changes(), max_size=6), max_size=6))
@settings(max_examples=150)
def test_a_zone_stays_a_zone(updates: list[list[UpdateRecord]]) -> None:
    version = VERSION
    for records in updates:
        before = list(version.rrsets())
        prescan(ORIGIN, Update(ORIGIN, (), tuple(records)))
        result = apply_records(version, records)
        assert list(version.rrsets()) == before  # the old version is as it was
        differing = diff(version, result.version)
        assert {(owner, rdtype): new for owner, rdtype, _, new in differing} == {
            (owner, rdtype): rrset for owner, rdtype, rrset in result.changes
        }
        if differing:
            assert is_newer(result.version.serial, version.serial)
            chosen = any(record.rdtype == 6 and record.rdclass == 1 for record in records)
            assert chosen or result.version.serial == add(version.serial, 1)
        else:
            assert result.version is version
        check_zone(result.version)
        version = result.version


@given(
    st.lists(_changes(), max_size=5).map(tuple),
    st.lists(_changes(), max_size=5).map(tuple),
    st.integers(0, 65535),
)
def test_what_is_written_is_read_again(
    needs: tuple[UpdateRecord, ...], changes: tuple[UpdateRecord, ...], message_id: int
) -> None:
    update = Update(ORIGIN, needs, changes)
    octets = encode_update(update, message_id)
    assert decode_update(octets) == update
    for end in range(len(octets)):
        with pytest.raises(UpdateError) as caught:
            decode_update(octets[:end])
        assert caught.value.rcode == 1


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    for name in ("update", "sig0", "sig0-signed", "sig0-key"):
        try:
            TARGETS[name].run(octets)
        except RemoteError:
            continue


@given(st.binary(max_size=200))
def test_a_signature_of_arbitrary_content_is_found_and_removed(content: bytes) -> None:
    base = encode_update(Update(ORIGIN, (), ()), 1)
    rdata = bytes(18) + owners.from_text("host.example.") + content
    octets = base[:10] + b"\0\1" + base[12:] + b"\0\0\x18\0\xff\0\0\0\0" + len(rdata).to_bytes(2, "big") + rdata
    if not content:
        with pytest.raises(Sig0Error) as caught:
            find_sig0(octets)
        assert caught.value.rcode == 1
        return
    (signature,) = find_sig0(octets)
    assert signature.signature == content
    assert strip_sig0(octets, signature) == base
    with pytest.raises(Sig0Error) as caught:
        Sig0Keys().choose([signature])
    assert caught.value.rcode == 17


@given(st.lists(_changes(), max_size=8).map(tuple), st.lists(_changes(), max_size=3).map(tuple))
def test_a_refused_update_has_an_rcode_of_the_rfc(
    changes: tuple[UpdateRecord, ...], needs: tuple[UpdateRecord, ...]
) -> None:
    rcode = 0
    try:
        apply_update(VERSION, Update(ORIGIN, needs, changes), POLICY, REQUESTOR)
    except UpdateError as error:
        rcode = error.rcode
    assert rcode in (0, 1, 3, 5, 6, 7, 8, 10)
