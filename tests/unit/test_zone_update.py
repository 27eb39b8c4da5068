"""The rules of RFC 2136, one by one: sections, prerequisites, permissions, and what an update makes of a zone."""

from __future__ import annotations

import dns.update
import pytest

from mpcore.errors import RecordError, UpdateError
from mpcore.zone import owners
from mpcore.zone.masterfile import read_master_text
from mpcore.zone.rrset import parse_rdata, type_from_text
from mpcore.zone.update import (
    Requestor,
    Update,
    UpdatePolicy,
    UpdateRecord,
    UpdateRule,
    apply_records,
    apply_update,
    check_prerequisites,
    decode_update,
    encode_update,
    prescan,
)
from mpcore.zone.version import ZoneVersion, diff

ZONE = "example."
ORIGIN = owners.from_text(ZONE)
IN, NONE, ANY = 1, 254, 255
FORMERR, NXDOMAIN, REFUSED, YXDOMAIN, YXRRSET, NXRRSET, NOTAUTH, NOTZONE = 1, 3, 5, 6, 7, 8, 9, 10
VERSION = read_master_text("""$ORIGIN example.
@       300 IN SOA ns hostmaster 4294967295 3600 600 86400 300
@       300 IN NS ns1.example.net.
@       300 IN NS ns2.example.net.
@       300 IN MX 10 mail
www     300 IN A 192.0.2.1
www     300 IN A 192.0.2.2
alias   300 IN CNAME www
x.ent   300 IN A 192.0.2.3
dn      300 IN DNAME example.net.
wks     300 IN WKS 192.0.2.1 6 25
""")
TSIG = Requestor("tsig", owners.from_text("key."))


def record(text: str, rdclass: int = IN) -> UpdateRecord:
    """``name ttl type rdata``; an empty name is the apex, a type ``ANY`` is any."""
    name, ttl, rrtype, *rest = text.split(None, 3)
    owner = ORIGIN if name == "@" else owners.from_text(name, ORIGIN)
    number = 255 if rrtype == "ANY" else type_from_text(rrtype)
    return UpdateRecord(owner, number, rdclass, int(ttl), parse_rdata(number, rest[0], ORIGIN) if rest else b"")


def add(text: str) -> UpdateRecord:
    return record(text)


def delete(text: str) -> UpdateRecord:
    """Of a record ``name type rdata``, an RRset ``name type``, or all of a name: ``name ANY``."""
    name, *rest = text.split(None, 1)
    return record(f"{name} 0 {rest[0]}", NONE if len(text.split()) > 2 else ANY)


def after(*records: UpdateRecord, version: ZoneVersion = VERSION) -> ZoneVersion:
    prescan(ORIGIN, Update(ORIGIN, (), records))
    result = apply_records(version, records)
    assert {(owner, rdtype): new for owner, rdtype, _, new in diff(version, result.version)} == {
        (owner, rdtype): rrset for owner, rdtype, rrset in result.changes
    }
    return result.version


def texts(version: ZoneVersion, name: str, rrtype: str) -> list[str]:
    owner = ORIGIN if name == "@" else owners.from_text(name, ORIGIN)
    rrset = version.get(owner, type_from_text(rrtype))
    return (
        [] if rrset is None else [f"{line.split(None, 4)[1]} {line.split(None, 4)[4]}" for line in rrset.texts(owner)]
    )


# --- the message ----------------------------------------------------------------------------------------------------


def test_what_dnspython_writes_is_what_is_read() -> None:
    message = dns.update.UpdateMessage("Example.", id=7)
    message.present("www")
    message.present("www", "A")
    message.present("www", "A", "192.0.2.1")
    message.absent("new")
    message.absent("www", "TXT")
    message.add("New", 60, "MX", "10 mail.test.")
    message.delete("www", "A", "192.0.2.1")
    message.delete("www", "AAAA")
    message.delete("alias")
    message.use_edns(0)
    update = decode_update(message.to_wire())
    assert update.origin == ORIGIN
    assert update.prerequisites == (
        record("www 0 ANY", ANY),
        record("www 0 A", ANY),
        record("www 0 A 192.0.2.1"),
        record("new 0 ANY", NONE),
        record("www 0 TXT", NONE),
    )
    assert update.records == (
        add("new 60 MX 10 mail.test."),
        delete("www A 192.0.2.1"),
        delete("www AAAA"),
        delete("alias ANY"),
    )
    # and what is written here dnspython reads, and writes again
    again = dns.message.from_wire(encode_update(update, 7))
    assert isinstance(again, dns.update.UpdateMessage)
    assert (again.id, len(again.prerequisite), len(again.update)) == (7, 5, 4)
    assert decode_update(again.to_wire()) == update


def test_messages_that_are_no_updates_are_format_errors() -> None:
    octets = encode_update(Update(ORIGIN, (), (add("www 60 A 192.0.2.9"),)), 1)
    end = 12 + len(ORIGIN)
    wrong = {
        "a header alone": octets[:11],
        "a query": octets[:2] + b"\0" + octets[3:],
        "a response": octets[:2] + bytes((octets[2] | 0x80,)) + octets[3:],
        "truncated": octets[:2] + bytes((octets[2] | 2,)) + octets[3:],
        "no zone": octets[:4] + b"\0\0" + octets[6:],
        "two zones": octets[:4] + b"\0\2" + octets[6:],
        "another type": octets[:end] + b"\0\1" + octets[end + 2 :],
        "cut off": octets[:-1],
        "trailing octets": octets + b"\0",
        "a record too few": octets[:8] + b"\0\2" + octets[10:],
        "RDATA that does not fit": octets[:-6] + b"\0\3" + octets[-4:-1],
        "an address without octets": octets[:-6] + b"\0\0",
    }
    for what, damaged in wrong.items():
        with pytest.raises(UpdateError) as caught:
            decode_update(damaged)
        assert caught.value.rcode == FORMERR, what
    with pytest.raises(UpdateError) as caught:
        decode_update(octets[: end + 2] + b"\0\3" + octets[end + 4 :])
    assert caught.value.rcode == NOTAUTH
    with pytest.raises(UpdateError, match="octets"):
        encode_update(Update(ORIGIN, (), (add("www 60 A 192.0.2.9"),) * 3000), 1)


# --- prerequisites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "rcode"),
    [
        ([record("www 0 ANY", ANY)], None),  # name in use (section 2.4.4)
        ([record("ent 0 ANY", ANY)], NXDOMAIN),  # an empty non-terminal is not in use
        ([record("new 0 ANY", ANY)], NXDOMAIN),
        ([record("www 0 ANY", NONE)], YXDOMAIN),  # name not in use (2.4.5)
        ([record("ent 0 ANY", NONE)], None),
        ([record("www 0 A", ANY)], None),  # RRset exists (2.4.1)
        ([record("www 0 TXT", ANY)], NXRRSET),
        ([record("www 0 A", NONE)], YXRRSET),  # RRset does not exist (2.4.3)
        ([record("www 0 TXT", NONE)], None),
        ([record("www 0 A 192.0.2.2"), record("www 0 A 192.0.2.1")], None),  # RRset exists, value dependent (2.4.2)
        ([record("www 0 A 192.0.2.1")], NXRRSET),
        ([record(f"www 0 A 192.0.2.{number}") for number in (1, 2, 3)], NXRRSET),
        ([record("@ 0 MX 10 MAIL.example.")], None),
        ([record("new 0 A 192.0.2.1")], NXRRSET),
        ([record("www 1 A", ANY)], FORMERR),
        ([record("www 0 A 192.0.2.1", ANY)], FORMERR),
        ([record("www 0 A 192.0.2.1", NONE)], FORMERR),
        ([record("www 0 A", 3)], FORMERR),
        ([record("www.elsewhere. 0 A", ANY)], NOTZONE),
        ([record("notexample. 0 ANY", NONE)], NOTZONE),
    ],
)
def test_prerequisites(needs: list[UpdateRecord], rcode: int | None) -> None:
    update = Update(ORIGIN, tuple(needs), ())
    if rcode is None:
        check_prerequisites(VERSION, update)
        return
    with pytest.raises(UpdateError) as caught:
        check_prerequisites(VERSION, update)
    assert caught.value.rcode == rcode


@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        (UpdateRecord(owners.from_text("www.elsewhere."), 1, IN, 60, bytes(4)), NOTZONE),
        (UpdateRecord(ORIGIN, 255, IN, 0, b""), FORMERR),
        (UpdateRecord(ORIGIN, 252, IN, 0, b""), FORMERR),
        (UpdateRecord(ORIGIN, 41, IN, 0, b""), FORMERR),
        (UpdateRecord(ORIGIN, 1, ANY, 1, b""), FORMERR),
        (UpdateRecord(ORIGIN, 1, ANY, 0, bytes(4)), FORMERR),
        (UpdateRecord(ORIGIN, 253, ANY, 0, b""), FORMERR),
        (UpdateRecord(ORIGIN, 1, NONE, 1, bytes(4)), FORMERR),
        (UpdateRecord(ORIGIN, 255, NONE, 0, b""), FORMERR),
        (UpdateRecord(ORIGIN, 1, 3, 0, bytes(4)), FORMERR),
    ],
)
def test_an_update_section_with_a_fault_changes_nothing(change: UpdateRecord, rcode: int) -> None:
    update = Update(ORIGIN, (), (add("www 60 A 192.0.2.9"), change))
    policy = UpdatePolicy([UpdateRule(TSIG, "zonesub", types=frozenset({255}))])
    with pytest.raises(UpdateError) as caught:
        apply_update(VERSION, update, policy, TSIG)
    assert caught.value.rcode == rcode


# --- what becomes of the zone ---------------------------------------------------------------------------------------


def test_adding_records() -> None:
    new = after(add("www 60 A 192.0.2.3"), add("new 60 TXT new"))
    assert texts(new, "www", "A") == ["60 192.0.2.1", "60 192.0.2.2", "60 192.0.2.3"]  # one TTL (RFC 2181, 5.2)
    assert texts(new, "new", "TXT") == ['60 "new"']
    assert new.serial == 0  # after 2**32 - 1


def test_what_changes_nothing_leaves_the_serial() -> None:
    assert after(add("www 300 A 192.0.2.1"), add("@ 300 MX 10 MAIL.EXAMPLE.")) is VERSION
    assert after(delete("new ANY"), delete("www TXT"), delete("www A 192.0.2.9")) is VERSION
    assert after(add("www 60 A 192.0.2.9"), delete("www A 192.0.2.9"), add("www 300 A 192.0.2.1")) is VERSION
    assert after() is VERSION


def test_a_duplicate_brings_its_ttl() -> None:
    new = after(add("www 60 A 192.0.2.1"))
    assert texts(new, "www", "A") == ["60 192.0.2.1", "60 192.0.2.2"]
    assert texts(after(add("@ 60 MX 10 MAIL.EXAMPLE.")), "@", "MX") == ["60 10 MAIL.EXAMPLE."]


def test_a_ttl_above_the_largest_counts_as_zero() -> None:
    assert texts(after(add("new 2147483648 A 192.0.2.1")), "new", "A") == ["0 192.0.2.1"]


def test_cname_and_other_data_do_not_meet() -> None:
    assert after(add("alias 60 A 192.0.2.1"), add("www 60 CNAME alias"), add("@ 60 CNAME www")) is VERSION
    assert texts(after(add("alias 60 CNAME new")), "alias", "CNAME") == ["60 new.example."]
    new = after(delete("www ANY"), add("www 60 CNAME alias"))
    assert texts(new, "www", "CNAME") == ["60 alias.example."]
    key = UpdateRecord(owners.from_text("alias", ORIGIN), 25, IN, 60, bytes((2, 0, 3, 15)) + bytes(32))
    assert after(key).types(key.owner) == (5, 25)  # KEY may stand beside it (RFC 3007, section 1.5)


def test_single_records_are_replaced() -> None:
    assert texts(after(add("dn 300 DNAME example.org.")), "dn", "DNAME") == ["300 example.org."]
    wks = texts(after(add("wks 300 WKS 192.0.2.1 6 80")), "wks", "WKS")
    assert wks == ["300 192.0.2.1 6 80"]  # same address and protocol
    assert len(texts(after(add("wks 300 WKS 192.0.2.1 17 53")), "wks", "WKS")) == 2


def test_the_soa_moves_forward_only() -> None:
    def soa(serial: int, name: str = "@") -> UpdateRecord:
        return add(f"{name} 60 SOA ns hostmaster {serial} 1 1 1 1")

    for serial in (4294967295, 4294967294, 2147483647):  # equal, older, 2**31 away: not newer (RFC 1982)
        assert after(soa(serial)) is VERSION
    assert after(soa(5, "www")) is VERSION
    new = after(soa(5))
    assert (new.serial, new.soa.ttl) == (5, 60)
    assert after(soa(5), add("new 60 A 192.0.2.1")).serial == 5  # chosen by the update, not advanced again
    assert after(soa(4294967295), add("new 60 A 192.0.2.1")).serial == 0


def test_the_apex_keeps_soa_and_name_servers() -> None:
    new = after(delete("@ ANY"))
    assert new.types(ORIGIN) == (2, 6)
    assert after(delete("@ NS"), delete("@ SOA")) is VERSION
    soa = UpdateRecord(ORIGIN, 6, NONE, 0, VERSION.soa.rdatas[0])
    assert after(soa) is VERSION
    last = after(delete("@ NS ns1.example.net."), delete("@ NS ns2.example.net."))
    assert texts(last, "@", "NS") == ["300 ns2.example.net."]
    swapped = after(add("@ 300 NS ns3.example.net."), delete("@ NS NS1.example.net."), delete("@ NS ns2.example.net."))
    assert texts(swapped, "@", "NS") == ["300 ns3.example.net."]


def test_deleting_records() -> None:
    assert texts(after(delete("www A 192.0.2.1")), "www", "A") == ["300 192.0.2.2"]
    assert not after(delete("www A")).exists(owners.from_text("www", ORIGIN))
    assert not after(delete("x.ent ANY")).exists(owners.from_text("ent", ORIGIN))
    below = after(add("below 60 NS ns.below"), delete("below NS ns.below"))
    assert below is VERSION  # only the apex keeps its last one


def test_an_rrset_that_no_answer_could_carry_is_refused() -> None:
    text = "x" * 250
    records = [add(f'big 60 TXT "{text}{number:04}"') for number in range(300)]
    with pytest.raises(UpdateError, match="too large") as caught:
        apply_records(VERSION, records)
    assert caught.value.rcode == REFUSED


# --- who may --------------------------------------------------------------------------------------------------------


def permitted(rule: UpdateRule, requestor: Requestor, *changes: UpdateRecord) -> bool:
    update = Update(ORIGIN, (), changes)
    policy = UpdatePolicy([rule])
    try:
        policy.check(VERSION, update, requestor)
    except UpdateError:
        with pytest.raises(UpdateError) as caught:
            apply_update(VERSION, update, policy, requestor)
        return caught.value.rcode != REFUSED
    return apply_update(VERSION, update, policy, requestor).version.origin == ORIGIN


def test_without_a_rule_nothing_may_be_changed() -> None:
    update = Update(ORIGIN, (record("new 0 ANY", ANY),), (add("www 60 A 192.0.2.9"),))
    with pytest.raises(UpdateError) as caught:
        apply_update(VERSION, update, UpdatePolicy(), TSIG)
    assert caught.value.rcode == REFUSED  # not NXDOMAIN: a stranger learns nothing of the zone


def test_the_kind_of_key_counts() -> None:
    rule = UpdateRule.of("tsig", "key.", "zonesub")
    change = add("www 60 A 192.0.2.9")
    assert permitted(rule, TSIG, change)
    assert not permitted(rule, Requestor("sig0", TSIG.name), change)
    assert not permitted(rule, Requestor("tsig", owners.from_text("other.")), change)


@pytest.mark.parametrize(
    ("match", "name", "may", "may_not"),
    [
        ("zonesub", None, ["@", "www", "a.b"], []),
        ("self", None, ["host"], ["@", "a.host", "xhost"]),
        ("selfsub", None, ["host", "a.host", "a.b.host"], ["@", "xhost"]),
        ("name", "www.example.", ["www"], ["@", "a.www"]),
        ("subdomain", "www.example.", ["www", "a.www"], ["@", "xwww"]),
    ],
)
def test_rules_by_name(match: str, name: str | None, may: list[str], may_not: list[str]) -> None:
    rule = UpdateRule.of("sig0", "host.example.", match, name)  # type: ignore[arg-type]
    requestor = Requestor("sig0", owners.from_text("host.example."))
    for owner in may:
        assert permitted(rule, requestor, add(f"{owner} 60 TXT x")), owner
    for owner in may_not:
        assert not permitted(rule, requestor, add(f"{owner} 60 TXT x")), owner
    # one record that is not permitted refuses all
    if may_not:
        assert not permitted(rule, requestor, add(f"{may[0]} 60 TXT x"), delete(f"{may_not[0]} TXT"))


def test_rules_by_type() -> None:
    default = UpdateRule.of("tsig", "key.", "zonesub")
    assert permitted(default, TSIG, add("www 60 A 192.0.2.9"), delete("www AAAA"), delete("www A 192.0.2.1"))
    for change in ("@ NS", "below NS", "@ SOA", "www RRSIG", "www NSEC", "www NSEC3"):
        assert not permitted(default, TSIG, delete(change)), change
    every = UpdateRule.of("tsig", "key.", "zonesub", types=["any"])
    assert permitted(every, TSIG, delete("@ NS"), delete("www RRSIG"), add("www 60 A 192.0.2.9"))
    assert not permitted(every, TSIG, delete("www NSEC"))
    named = UpdateRule.of("tsig", "key.", "zonesub", types=["NS", "TXT"])
    assert permitted(named, TSIG, add("below 60 NS ns.example.net."), add("www 60 TXT x"))
    assert not permitted(named, TSIG, add("www 60 A 192.0.2.9"))


def test_removing_a_name_needs_permission_for_all_that_is_there() -> None:
    addresses = UpdateRule.of("tsig", "key.", "zonesub", types=["A"])
    assert permitted(addresses, TSIG, delete("www ANY"))
    assert not permitted(addresses, TSIG, delete("alias ANY"))
    assert not permitted(addresses, TSIG, delete("@ ANY"))  # MX; SOA and NS stay in any case
    mail = UpdateRule.of("tsig", "key.", "zonesub", types=["MX"])
    assert permitted(mail, TSIG, delete("@ ANY"))


def test_rules_that_make_no_sense_are_refused() -> None:
    for arguments in (("name", None), ("subdomain", None), ("self", "www.example."), ("zonesub", "www.example.")):
        with pytest.raises(RecordError):
            UpdateRule.of("tsig", "key.", *arguments)  # type: ignore[arg-type]
    with pytest.raises(RecordError):
        UpdateRule.of("tsig", "key.", "zonesub", types=["NONSENSE"])


def test_another_zone_is_not_this_one() -> None:
    update = Update(owners.from_text("www.example."), (), ())
    with pytest.raises(UpdateError) as caught:
        apply_update(VERSION, update, UpdatePolicy([UpdateRule.of("tsig", "key.", "zonesub")]), TSIG)
    assert caught.value.rcode == NOTAUTH
