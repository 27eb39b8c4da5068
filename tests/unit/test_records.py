"""The private record types against published vectors, zones of the Go implementation, and dnspython."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import dns.edns
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest

import mpcore.records
from mpcore.errors import RecordError
from mpcore.records import (
    CHUNK,
    CHUNK_ENDPOINT_OPTION,
    CHUNK_OPTION,
    CHUNK_TYPE,
    HSYNC3,
    HSYNC3_TYPE,
    HSYNCPARAM,
    HSYNCPARAM_TYPE,
    JWK,
    JWK_TYPE,
    ChunkEndpointOption,
    ChunkOption,
    dsync_from_text,
    dsync_to_text,
    make_dsync,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"

HSYNC3_VECTORS = [
    (
        HSYNC3.make("alpha", "agent.alpha.example."),
        "0106616c7068612e056167656e7405616c706861076578616d706c6500012e",
        "ON alpha. agent.alpha.example. .",
    ),
    (
        HSYNC3.make("bravo", "agent.bravo.example.", "alpha"),
        "0106627261766f2e056167656e7405627261766f076578616d706c650006616c7068612e",
        "ON bravo. agent.bravo.example. alpha.",
    ),
    (
        HSYNC3.make("p1", "agent.p1.example.", dotted=False),
        "01027031056167656e74027031076578616d706c6500012e",
        "ON p1 agent.p1.example. .",
    ),
    (
        HSYNC3.make("p2", "agent.p2.example", "p1", on=False),
        "000370322e056167656e74027032076578616d706c65000370312e",
        "OFF p2. agent.p2.example. p1.",
    ),
]

HSYNCPARAM_VECTORS = [
    (
        'nsmgmt="agent" parentsync="agent" servers="alpha,bravo" signers="alpha" pubkey auditors="charlie"',
        "000000010200010001010002000b616c7068612c627261766f00030005616c7068610004000000070007636861726c6965",
    ),
    ('servers suffix="prov" key100="hi"', "000200000006000470726f76006400026869"),
    (
        'nsmgmt="agent" parentsync="agent" servers="p1,p2" signers="p1" pubkey suffix="prov" auditors="aud"',
        "000000010200010001010002000570312c7032000300027031000400000006000470726f7600070003617564",
    ),
    (
        'nsmgmt="agent" parentsync="agent" servers="alpha,bravo" signers="alpha" pubkey',
        "000000010200010001010002000b616c7068612c627261766f00030005616c70686100040000",
    ),
    ('nsmgmt="owner" parentsync="owner" pubcds', "0000000101000100010000050000"),
]

CHUNK_VECTORS = [
    ('1 2 JSON "" AQIDBA==', "01000000010002000401020304"),
    ('0 2 JSON "" "{\\"chunk_count\\":2}"', "0100000000000200117b226368756e6b5f636f756e74223a327d"),
    (
        '0 2 JSON 65e14c26140f92e19e88cf39b1531e244eb11d46f139fadc1e29b8c9085ce4d3 "{\\"chunk_count\\":2}"',
        "01002065e14c26140f92e19e88cf39b1531e244eb11d46f139fadc1e29b8c9085ce4d3"
        "0000000200117b226368756e6b5f636f756e74223a327d",
    ),
    ('7 9 JWT "" ""', "020000000700090000"),
    ('7 9 FORMAT200 "" ""', "c80000000700090000"),
]

JWK_VECTORS = [
    ('"eyJrdHkiOiJFQyJ9"', "001065794a7264486b694f694a4651794a39"),
    (
        '"eyJrdHkiOiJPS1AiLCJjcnYiOiJYMjU1MTkiLCJ4IjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOCJ9"',
        "006865794a7264486b694f694a50533141694c434a6a636e59694f694a594d6a55314d546b694c434a34496a6f69515546465130463355555a"
        "435a324e4a51314676544552424d453945654546535257684e56555a5357566848516d7468523368335a45686f4f434a39",
    ),
]


# -------------------------------------------------------------------------------------------------------- HSYNC3


@pytest.mark.parametrize(("record", "octets", "text"), HSYNC3_VECTORS)
def test_hsync3_vector(record: HSYNC3, octets: str, text: str) -> None:
    assert record.to_octets().hex() == octets
    assert record.to_text() == text
    assert HSYNC3.from_octets(bytes.fromhex(octets)) == record
    assert HSYNC3.parse(text) == record
    assert HSYNC3.parse(rf"\# {len(octets) // 2} {octets}") == record
    assert record.to_generic().to_wire().hex() == octets


def test_hsync3_reads_both_spellings_of_labels() -> None:
    dotted, bare = HSYNC3.make("p1", "a.example.", "p2"), HSYNC3.make("p1", "a.example.", "p2", dotted=False)
    assert dotted != bare
    for record in (dotted, bare):
        assert (record.label_text, record.upstream_text, record.identity_text) == ("p1", "p2", "a.example.")
        assert record.is_on
        assert record.complete
    assert HSYNC3.make("p1", "a.example.").upstream_text == ""


def test_hsync3_identity_is_never_completed_with_the_origin() -> None:
    zone = dns.zone.from_text(
        "@ 60 IN SOA a. b. 1 2 3 4 5\n@ NS a.\n@ HSYNC3 ON p1 agent.p1.example .", origin="cust.example."
    )
    (record,) = zone.get_rdataset("@", HSYNC3_TYPE)
    assert record.identity == dns.name.from_text("agent.p1.example.")
    assert "ON p1 agent.p1.example. ." in zone.to_text()


def test_hsync3_octets_are_kept_in_canonical_form() -> None:
    record = HSYNC3.make("P1", "Agent.P1.Example.")
    assert record.to_digestable() == record.to_octets()
    assert b"Agent" in record.to_octets()


@pytest.mark.parametrize("fields", [1, 2, 3])
def test_hsync3_truncated_is_read_flagged_and_kept(fields: int) -> None:
    whole = HSYNC3.make("p1", "a.example.").to_octets()
    octets = (whole[:1], whole[:5], whole[:-2])[fields - 1]
    record = HSYNC3.from_octets(octets)
    assert not record.complete
    assert record.to_octets() == octets
    assert record.to_text() == rf"\# {len(octets)} {octets.hex()}"
    assert HSYNC3.parse(record.to_text()) == record


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "01037031",  # label overruns
        "01027031056167656e74027031076578616d706c65",  # name without its root
        "01027031056167656e74027031076578616d706c6500012e00",  # an octet too many
        "01027031c00000012e",  # compressed name
        "01027031056167656e7400055c",  # upstream overruns
    ],
)
def test_hsync3_bad_octets(octets: str) -> None:
    with pytest.raises(RecordError):
        HSYNC3.from_octets(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ON",
        "on p1 a. .",
        "1 p1 a. .",
        "ON p1 a.",
        "ON p1 a. . .",
        "ON p1 @ .",
        'ON p1 "" .',
        "ON p1 a..b .",
        'ON "p1',
    ],
)
def test_hsync3_bad_text(text: str) -> None:
    with pytest.raises(RecordError):
        HSYNC3.parse(text)


def test_hsync3_unknown_state_prints_in_generic_form() -> None:
    record = HSYNC3.from_octets(b"\x07" + HSYNC3.make("p1", "a.example.").to_octets()[1:])
    assert record.state == 7
    assert not record.is_on
    assert HSYNC3.parse(record.to_text()) == record


@pytest.mark.parametrize("label", ["", ".", "x" * 255, "ä"])
def test_hsync3_make_refuses_labels(label: str) -> None:
    with pytest.raises(ValueError, match=r"label|long|ascii"):
        HSYNC3.make(label, "a.example.")


# ---------------------------------------------------------------------------------------------------- HSYNCPARAM


@pytest.mark.parametrize(("text", "octets"), HSYNCPARAM_VECTORS)
def test_hsyncparam_vector(text: str, octets: str) -> None:
    record = HSYNCPARAM.parse(text)
    assert record.to_octets().hex() == octets
    assert record.to_text() == text
    assert HSYNCPARAM.from_octets(bytes.fromhex(octets)) == record


def test_hsyncparam_meaning() -> None:
    record = HSYNCPARAM.make(
        nsmgmt="agent", servers=["p1", "p2."], signers=["p1"], auditors=[], suffix="prov", pubkey=True
    )
    assert record.to_text() == 'nsmgmt="agent" servers="p1,p2" signers="p1" pubkey suffix="prov" auditors'
    assert (record.nsmgmt, record.parentsync) == ("agent", "owner")
    assert (record.servers, record.signers, record.auditors) == (("p1", "p2"), ("p1",), ())
    assert (record.pubkey, record.pubcds, record.suffix) == (True, False, "prov")
    empty = HSYNCPARAM.make()
    assert (empty.nsmgmt, empty.parentsync, empty.servers, empty.suffix) == ("owner", "owner", (), None)
    assert empty.to_octets() == b""
    assert HSYNCPARAM.parse(empty.to_text()) == empty


def test_hsyncparam_text_in_any_order_and_case_of_words() -> None:
    assert HSYNCPARAM.parse("pubkey parentsync=Agent servers=p1,p2 nsmgmt=AGENT") == HSYNCPARAM.make(
        nsmgmt="agent", parentsync="agent", servers=["p1", "p2"], pubkey=True
    )
    assert HSYNCPARAM.parse('servers=" p1 ,, p2 "').servers == ("p1", "p2")
    assert HSYNCPARAM.parse('servers="" signers="p1"').signers == ("p1",)


def test_hsyncparam_key_values_with_any_octet_survive_text() -> None:
    value = bytes(range(256))
    record = HSYNCPARAM.make(other=[(8, value), (65534, b'"\\;')])
    assert HSYNCPARAM.parse(record.to_text()) == record


@pytest.mark.parametrize(
    "octets",
    [
        "0000000105",  # nsmgmt with a value that has no word
        "0002000470312c2c",  # an empty item
        "00020003703120",  # a blank
        "000200027022",  # a quote
    ],
)
def test_hsyncparam_values_without_text_form_print_in_generic_form(octets: str) -> None:
    record = HSYNCPARAM.from_octets(bytes.fromhex(octets))
    assert record.to_text().startswith(r"\# ")
    assert HSYNCPARAM.parse(record.to_text()).to_octets().hex() == octets
    assert record.nsmgmt == "owner"


@pytest.mark.parametrize(
    "octets",
    [
        "00030005616c70686100020005616c706861",  # out of order
        "0004000000040000",  # twice
        "ffff0000",  # reserved
        "0000000200",  # nsmgmt of two octets, cut
        "000000020000",
        "00010000",  # parentsync without a value
        "0004000100",  # flag with a value
        "00060000",  # empty suffix
        "000600012d",  # suffix of a hyphen
        "000600022e61",
        "0008",
        "000800ff00",
    ],
)
def test_hsyncparam_bad_octets(octets: str) -> None:
    with pytest.raises(RecordError):
        HSYNCPARAM.from_octets(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "text",
    [
        "nsmgmt",
        "nsmgmt=both",
        "nsmgmt=1",
        "pubkey=yes",
        "pubkey pubkey",
        "suffix",
        'suffix="-a"',
        "key",
        "key1=x",
        "key01=x",
        "key65535",
        "key65536",
        "keyx",
        "unknown=1",
        "=x",
        '"servers"=p1',
        'servers="a b"',
        'key9="\\300"',
        'key9="x',
        "KEY9=x",
    ],
)
def test_hsyncparam_bad_text(text: str) -> None:
    with pytest.raises(RecordError):
        HSYNCPARAM.parse(text)


@pytest.mark.parametrize("servers", [["a,b"], [""], ["a", ""], ["a b"], ["ä"]])
def test_hsyncparam_make_refuses_labels(servers: list[str]) -> None:
    with pytest.raises(ValueError, match=r"list of labels|ascii"):
        HSYNCPARAM.make(servers=servers)


# --------------------------------------------------------------------------------------------------- CHUNK and JWK


@pytest.mark.parametrize(("text", "octets"), CHUNK_VECTORS)
def test_chunk_vector(text: str, octets: str) -> None:
    record = CHUNK.parse(text)
    assert record.to_octets().hex() == octets
    assert record.to_text() == text
    assert CHUNK.from_octets(bytes.fromhex(octets)) == record


def test_chunk_manifest_without_quotes_is_understood() -> None:
    assert CHUNK.parse('0 2 JSON "" {"chunk_count":2}').data == b'{"chunk_count":2}'


def test_chunk_manifest_that_is_not_json_prints_in_generic_form() -> None:
    record = CHUNK.make(0, 1, b"eyJ")
    assert CHUNK.parse(record.to_text()) == record


@pytest.mark.parametrize(
    "octets", ["", "0100000000000000", "01000000010002000501020304", "01000000010002000301020304", "010001"]
)
def test_chunk_bad_octets(octets: str) -> None:
    with pytest.raises(RecordError):
        CHUNK.from_octets(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "text",
    ['1 2 JSON ""', '1 2 json "" AA==', '1 2 FORMAT "" AA==', '1 2 FORMAT256 "" AA==', '65536 2 JSON "" AA==',
     '1 2 JSON zz AA==', '1 2 JSON "" A', '0 2 JSON "" "x"', '0 2 JSON "" ""'],
)  # fmt: skip
def test_chunk_bad_text(text: str) -> None:
    with pytest.raises(RecordError):
        CHUNK.parse(text)


@pytest.mark.parametrize(("text", "octets"), JWK_VECTORS)
def test_jwk_vector(text: str, octets: str) -> None:
    record = JWK.parse(text)
    assert record.to_octets().hex() == octets
    assert record.to_text() == text
    assert JWK.parse(text.strip('"')) == record
    assert JWK.from_octets(bytes.fromhex(octets)) == record
    assert record.jwk()["kty"] in ("EC", "OKP")


def test_jwk_of_a_public_key() -> None:
    """x = octets 01..20, y = octets 21..40: the layout vector."""
    jwk = {
        "use": "enc",
        "y": "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-P0A",
        "x": "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
        "kty": "EC",
        "crv": "P-256",
    }
    record = JWK.from_public_key_jwk(jwk)
    assert record.text == (
        b"eyJrdHkiOiJFQyIsImNydiI6IlAtMjU2IiwieCI6IkFRSURCQVVHQndnSkNnc01EUTRQRUJFU0V4UVZGaGNZR1JvYkhCMGVIeUEiLCJ5Ijoi"
        b"SVNJakpDVW1KeWdwS2lzc0xTNHZNREV5TXpRMU5qYzRPVG83UEQwLVAwQSJ9"
    )
    assert record.to_octets()[:2].hex() == "00a8"
    assert record.jwk() == {name: jwk[name] for name in ("kty", "crv", "x", "y")}
    for broken in ({"kty": "OKP"}, {"crv": "P-384"}, {"x": jwk["x"][:-1]}, {"y": jwk["y"] + "="}, {"x": 5}):
        with pytest.raises(ValueError, match=r"P-256|base64url"):
            JWK.from_public_key_jwk({**jwk, **broken})


@pytest.mark.parametrize("octets", ["", "0001", "000061", "000361"])
def test_jwk_bad_octets(octets: str) -> None:
    with pytest.raises(RecordError):
        JWK.from_octets(bytes.fromhex(octets))


@pytest.mark.parametrize("text", ["", '"ab="', '"ab+c"', '"abcde"', "a b"])
def test_jwk_bad_text(text: str) -> None:
    with pytest.raises(RecordError):
        JWK.parse(text)


@pytest.mark.parametrize("text", [b"eyJ", b"W10", b"e30", b"=", b"W1tb", b"eyJrdHkiOjF9", b"_w", b"W" * 9000, b"abcde"])
def test_jwk_that_is_no_key(text: bytes) -> None:
    record = JWK(dns.rdataclass.IN, dns.rdatatype.RdataType.make(JWK_TYPE), text)
    assert JWK.parse(record.to_text()) == record
    with pytest.raises(RecordError):
        record.jwk()


# ---------------------------------------------------------------------------------------------- dnspython, zones


def test_registration_is_idempotent() -> None:
    assert dns.rdata.get_rdata_class(dns.rdataclass.IN, HSYNC3_TYPE) is HSYNC3
    importlib.reload(mpcore.records)
    importlib.reload(mpcore.records)
    assert dns.rdata.get_rdata_class(dns.rdataclass.IN, HSYNC3_TYPE) is HSYNC3


@pytest.mark.parametrize(
    ("number", "name"),
    [(HSYNC3_TYPE, "HSYNC3"), (HSYNCPARAM_TYPE, "HSYNCPARAM"), (CHUNK_TYPE, "CHUNK"), (JWK_TYPE, "JWK")],
)
def test_types_read_and_print_by_mnemonic(number: int, name: str) -> None:
    assert dns.rdatatype.from_text(name) == number
    assert dns.rdatatype.from_text(f"TYPE{number}") == number
    for rdtype in (number, dns.rdatatype.from_text(name), dns.rdatatype.RdataType.make(number)):
        assert dns.rdatatype.to_text(rdtype) == name


def test_zone_text_uses_mnemonics() -> None:
    zone = dns.zone.from_text(
        "@ 3600 IN SOA a. b. 1 2 3 4 5\n@ NS a.\n"
        "@ 3600 IN HSYNC3 ON p1 agent.p1.example. .\n"
        "@ 3600 IN TYPE65285 \\# 27 010370322e056167656e74027032076578616d706c65000370312e\n"
        '@ 3600 IN HSYNCPARAM servers="p1,p2" pubkey\n'
        '@ 3600 IN JWK "eyJrdHkiOiJFQyJ9"\n'
        "@ 3600 IN NSEC a.cust.example. NS SOA HSYNC3 HSYNCPARAM\n",
        origin="cust.example.",
    )
    text = zone.to_text()
    assert "TYPE65" not in text
    assert "IN HSYNC3 ON p1 agent.p1.example. ." in text
    assert "IN HSYNC3 ON p2. agent.p2.example. p1." in text
    again = dns.zone.from_text(text, origin="cust.example.")
    assert again == zone


def test_records_of_transferred_zones() -> None:
    """Every record of our types in the captured zone transfers reads, and encodes to the same octets."""
    seen: dict[int, int] = {}
    classes = {HSYNC3_TYPE: HSYNC3, HSYNCPARAM_TYPE: HSYNCPARAM, JWK_TYPE: JWK}
    for transfer in json.loads((FIXTURES / "transfers.json").read_text()):
        for octets in transfer["messages"]:
            message = dns.message.from_wire(bytes.fromhex(octets), one_rr_per_rrset=True)
            for rrset in message.answer:
                if rrset.rdtype not in classes:
                    continue
                seen[rrset.rdtype] = seen.get(rrset.rdtype, 0) + 1
                record = rrset[0]
                assert isinstance(record, classes[rrset.rdtype])
                assert record.to_octets() in bytes.fromhex(octets)
                assert dns.rdata.from_text("IN", rrset.rdtype, record.to_text()) == record
                if isinstance(record, HSYNC3):
                    assert record.label.endswith(b".")
                    assert record.label_text in ("alpha", "bravo", "auditor")
                if isinstance(record, JWK):
                    assert list(record.jwk()) == ["kty", "crv", "x", "y"]
                    assert JWK.from_public_key_jwk(record.jwk()) == record
    assert set(seen) == set(classes)
    assert seen[HSYNC3_TYPE] >= 9


def test_import_is_cheap() -> None:
    """The cockpit imports this package: it must not load the message models or the JOSE library."""
    code = "import sys, mpcore.records; sys.exit(any(m in sys.modules for m in ('pydantic', 'jwcrypto', 'anyio')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# --------------------------------------------------------------------------------------------------- DSYNC, options


@pytest.mark.parametrize(
    ("text", "octets", "printed"),
    [
        ("CDS NOTIFY 5354 notify.example.", "003b0114ea066e6f74696679076578616d706c6500", None),
        ("ANY UPDATE 53 updates.example.", "00ff02003507757064617465" + "73076578616d706c6500", None),
        ("ANY reporter 53 a.", "00ff8200350161" + "00", "ANY REPORT 53 a."),
        ("CSYNC 77 53 a.", "003e4d003501" + "6100", None),
        ("ANY 2 53 a.", "00ff02003501" + "6100", "ANY UPDATE 53 a."),
    ],
)
def test_dsync(text: str, octets: str, printed: str | None) -> None:
    record = dsync_from_text(text)
    assert record.to_wire().hex() == octets
    assert dsync_to_text(record) == (printed or text)
    assert make_dsync(record.rrtype, record.scheme, record.port, record.target) == record


@pytest.mark.parametrize(
    "text", ["", "ANY", "ANY TELEX 53 a.", "ANY UPDATE 65536 a.", "WHAT UPDATE 53 a.", "ANY 256 53 a."]
)
def test_dsync_bad_text(text: str) -> None:
    with pytest.raises(RecordError):
        dsync_from_text(text)


def test_options_in_a_dnspython_message() -> None:
    options = [ChunkOption(2, b"ZXlK" * 15000), ChunkEndpointOption("192.0.2.10:8998")]
    query = dns.message.make_query("6a12.agent.bravo.example.", CHUNK_TYPE, use_edns=0, options=options)
    read = dns.message.from_wire(query.to_wire(max_size=65535))
    assert list(read.options) == options
    first, second = read.options
    assert isinstance(first, ChunkOption)
    assert (first.format, first.hmac, len(first.data)) == (2, b"", 60000)
    assert isinstance(second, ChunkEndpointOption)
    assert second.endpoint == "192.0.2.10:8998"
    assert "data=60000 octets" in first.to_text()
    assert "192.0.2.10:8998" in second.to_text()
    buffer = io.BytesIO()
    assert first.to_wire(buffer) is None
    assert second.to_wire(buffer) is None
    assert buffer.getvalue() == first.to_octets() + second.to_octets()


def test_option_vectors() -> None:
    option = ChunkOption.from_octets(bytes.fromhex("01000000027b7d"))
    assert (option.format, option.hmac, option.data) == (1, b"", b"{}")
    assert option.to_octets().hex() == "01000000027b7d"
    assert ChunkOption.from_octets(bytes.fromhex("01000000027b7dffff")).data == b"{}"
    assert ChunkOption.from_octets(bytes.fromhex("010001aa00017b")).hmac == b"\xaa"
    assert ChunkEndpointOption("192.0.2.10:8998").to_octets().hex() == "3139322e302e322e31303a38393938"


@pytest.mark.parametrize(
    "octets", ["", "01000000", "0100000001", "01000500", "01004100" + "00" * 65, "0100000003" + "7b7d"]
)
def test_chunk_option_bad_octets(octets: str) -> None:
    with pytest.raises(RecordError):
        ChunkOption.from_octets(bytes.fromhex(octets))
    query = dns.message.make_query("a.", CHUNK_TYPE, use_edns=0)
    query.use_edns(options=[dns.edns.GenericOption(CHUNK_OPTION, bytes.fromhex(octets))])
    (read,) = dns.message.from_wire(query.to_wire()).options
    assert isinstance(read, dns.edns.GenericOption)


@pytest.mark.parametrize(
    "endpoint", ["192.0.2.1", "192.0.2.1:", ":53", "a b:53", "[::1:53", "[x]:53", "a:053", "a:123456"]
)
def test_endpoint_option_bad_text(endpoint: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        ChunkEndpointOption(endpoint)
    with pytest.raises(RecordError):
        ChunkEndpointOption.from_octets(endpoint.encode())
    query = dns.message.make_query("a.", CHUNK_TYPE, use_edns=0)
    query.use_edns(options=[dns.edns.GenericOption(CHUNK_ENDPOINT_OPTION, endpoint.encode())])
    (read,) = dns.message.from_wire(query.to_wire()).options
    assert isinstance(read, dns.edns.GenericOption)


@pytest.mark.parametrize("endpoint", ["", "[2001:db8::1]:53", "dns.agent.alpha.example.:5301"])
def test_endpoint_option_good_text(endpoint: str) -> None:
    assert ChunkEndpointOption.from_octets(endpoint.encode()).endpoint == endpoint


@pytest.mark.parametrize("arguments", [(256, b""), (1, b"x" * 65531), (1, b"", b"x" * 65)])
def test_chunk_option_out_of_range(arguments: tuple[int, bytes]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        ChunkOption(*arguments)
