"""Transfers are read back by dnspython and by ourselves; the recorded transfers of the Go implementation are read."""

from __future__ import annotations

import json
from pathlib import Path

import dns.message
import dns.name
import dns.rdatatype
import dns.renderer
import dns.rrset
import dns.xfr
import dns.zone
import pytest

from mpcore.errors import TransferError
from mpcore.zone import owners
from mpcore.zone.rrset import RRset, parse_record
from mpcore.zone.transfer import InboundAxfr, axfr_messages, axfr_query
from mpcore.zone.version import ZoneVersion, diff

FIXTURES = Path(__file__).parent.parent / "fixtures"
ORIGIN = owners.from_text("example.")
TEXT = r"""
example. 3600 SOA ns1 host 7 3600 600 86400 300
example. 3600 NS ns1.example.
example. 3600 NS NS2.example.net.
example. 300 MX 10 mail.example.
example. 300 TYPE65280 \# 3 c00c00
ns1.example. 300 A 192.0.2.1
ns1.example. 300 AAAA 2001:db8::1
deep.er.example. 300 TXT "a b" "c"
deep.er.example. 300 NAPTR 1 2 "u" "x" "" target.example.
*.example. 300 A 192.0.2.2
"""


def zone(text: str = TEXT, origin: bytes = ORIGIN) -> ZoneVersion:
    records = [parse_record(line, origin) for line in text.strip().splitlines()]
    return ZoneVersion.build(origin, [(owner, RRset.make(t, ttl, [rdata])) for owner, t, ttl, rdata in records])


def receive(messages: list[bytes], query_id: int = 1, origin: bytes = ORIGIN) -> ZoneVersion:
    inbound = InboundAxfr(origin, query_id)
    for message in messages[:-1]:
        assert not inbound.feed(message)
    assert inbound.feed(messages[-1])
    return inbound.version


@pytest.mark.parametrize("size", [512, 600, 65535])
def test_what_we_send_dnspython_and_we_receive(size: int) -> None:
    version = zone()
    messages = list(axfr_messages(version, axfr_query(ORIGIN, 1), size))
    assert all(len(message) <= size for message in messages)
    assert diff(version, receive(messages)) == []

    judge = dns.zone.Zone("example.", relativize=False)
    with dns.xfr.Inbound(judge, dns.rdatatype.AXFR) as transfer:
        done = [
            transfer.process_message(dns.message.from_wire(message, xfr=True, multi=True, one_rr_per_rrset=True))
            for message in messages
        ]
    assert done[-1]
    theirs = sorted(
        (owner.to_wire().lower(), int(rdataset.rdtype), rdataset.ttl, sorted(rdata.to_wire() for rdata in rdataset))
        for owner, node in judge.items()
        for rdataset in node
    )
    ours = sorted((owner, rrset.rdtype, rrset.ttl, sorted(rrset.rdatas)) for owner, rrset in version.rrsets())
    assert ours == theirs


def test_the_recorded_transfers_are_read() -> None:
    for entry in json.loads((FIXTURES / "transfers.json").read_text()):
        messages = [bytes.fromhex(message) for message in entry["messages"]]
        origin = owners.from_text(entry["zone"])
        version = receive(messages, int.from_bytes(messages[0][:2], "big"), origin)
        listed = {parse_record(line)[:2] + parse_record(line)[3:] for line in entry["records"]}
        assert {(owner, rrset.rdtype, rdata) for owner, rrset in version.rrsets() for rdata in rrset.rdatas} == listed
        again = receive(list(axfr_messages(version, axfr_query(origin, 9))), 9, origin)
        assert diff(version, again) == []


def test_compressed_names_of_old_types_are_expanded_and_of_new_types_refused() -> None:
    soa = dns.rrset.from_text("example.", 60, "IN", "SOA", "ns1.example. host.example. 7 3600 600 86400 300")
    out = dns.renderer.Renderer(1, 0x8400)
    out.add_question(dns.name.from_text("example."), dns.rdatatype.AXFR)
    for rdtype, text in (
        ("SOA", "ns1.example. host.example. 7 3600 600 86400 300"),
        ("NS", "ns1.example."),
        ("MX", "5 mail.ns1.example."),
        ("RP", "a.ns1.example. b.ns1.example."),
        ("NAPTR", '1 2 "u" "x" "" mail.ns1.example.'),
    ):
        out.add_rrset(dns.renderer.ANSWER, dns.rrset.from_text("example.", 60, "IN", rdtype, text))
    out.add_rrset(dns.renderer.ANSWER, soa)
    out.write_header()
    message = out.get_wire()
    assert message.count(b"example") == 4  # dnspython compresses in SOA, NS and MX, not in RP and NAPTR
    version = receive([message])
    found = version.get(ORIGIN, 15)
    assert found is not None
    assert found.rdatas == (b"\x00\x05\x04mail\x03ns1\x07example\x00",)

    head = axfr_query(ORIGIN, 1)
    bare_soa = b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x01\x00\x16\x00\x00" + bytes(20)
    for rdtype, before in ((39, 0), (46, 18), (47, 0), (64, 2)):
        rdata = bytes(before) + b"\xc0\x0c"
        record = (
            b"\xc0\x0c" + rdtype.to_bytes(2, "big") + b"\x00\x01\x00\x00\x00\x01\x00" + bytes((len(rdata),)) + rdata
        )
        octets = head[:2] + b"\x84\x00\x00\x01\x00\x03" + head[8:] + bare_soa + record + bare_soa
        with pytest.raises(TransferError, match="pointer"):
            InboundAxfr(ORIGIN, 1).feed(octets)


def test_faulty_answers_are_refused() -> None:
    good = next(iter(axfr_messages(zone(), axfr_query(ORIGIN, 1))))
    cases = {
        "another id": b"\x00\x02" + good[2:],
        "not an answer": good[:2] + b"\x00" + good[3:],
        "REFUSED": good[:3] + b"\x05" + good[4:],
        "truncated message": good[:2] + b"\x86" + good[3:],
        "another question": good[:13] + b"f" + good[14:],
        "truncated": good[:-1],
        "without a header": good[:11],
    }
    for reason, octets in cases.items():
        with pytest.raises(TransferError, match=reason):
            InboundAxfr(ORIGIN, 1).feed(octets)
    finished = InboundAxfr(ORIGIN, 1)
    finished.feed(good)
    with pytest.raises(TransferError, match="after the end"):
        finished.feed(good)


def test_a_transfer_has_bounds() -> None:
    messages = list(axfr_messages(zone(), axfr_query(ORIGIN, 1), 512))
    with pytest.raises(TransferError, match="more records"):
        InboundAxfr(ORIGIN, 1, max_records=3).feed(messages[0])
    with pytest.raises(TransferError, match="larger"):
        InboundAxfr(ORIGIN, 1, max_octets=100).feed(messages[0])
    unfinished = InboundAxfr(ORIGIN, 1)
    with pytest.raises(TransferError, match="not complete"):
        _ = unfinished.version


def test_a_record_outside_the_zone_and_a_foreign_query_are_refused() -> None:
    good = next(iter(axfr_messages(zone(), axfr_query(ORIGIN, 1))))
    with pytest.raises(TransferError, match=r"not in|another question"):
        InboundAxfr(owners.from_text("xample."), 1).feed(good)
    with pytest.raises(TransferError, match="not for this zone"):
        list(axfr_messages(zone(), axfr_query(owners.from_text("other."), 1)))
    with pytest.raises(TransferError, match="parse"):
        list(axfr_messages(zone(), b"\x00" * 5))


def test_a_zone_of_many_names_needs_several_messages() -> None:
    base = zone()
    big = base.update(
        [(owners.from_text(f"h{i}.example."), 1, RRset.make(1, 60, [i.to_bytes(4, "big")])) for i in range(9000)]
    )
    messages = list(axfr_messages(big, axfr_query(ORIGIN, 1)))
    assert len(messages) > 1
    assert diff(big, receive(messages)) == []
