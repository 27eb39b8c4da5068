"""The message models against captured traffic, worked examples, and everything JSON can be misused for."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mpcore.errors import MessageError, UnknownTypeError
from mpcore.wire import messages as m
from mpcore.wire.times import ZERO_TIME, parse_rfc3339, rfc3339, rfc3339_seconds

FIXTURES = Path(__file__).parents[1] / "fixtures"
MESSAGES: list[dict[str, Any]] = json.loads((FIXTURES / "messages.json").read_text())

JUNK = {"tlsa"}
"""Members that the Go implementation sends and nobody reads."""

ALPHA, BRAVO = "agent.alpha.example.", "agent.bravo.example."
TIME = "2026-05-17T10:00:00.123456789Z"
NS = "customer.example.\t3600\tIN\tNS\tns1.alpha.example."


# ----------------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("captured", MESSAGES, ids=lambda item: f"{item['kind']}-{item['type']}-{item['qname']}")
def test_captured_message_reads_and_writes_the_same_json(captured: dict[str, Any]) -> None:
    original = json.loads(captured["payload"])
    model: m.Message | m.Acknowledgement
    if captured["kind"] == "request":
        model = m.decode_message(captured["payload"].encode())
        assert captured["type"] == type(model).TYPE
        assert model.sender == (original.get("OriginatorID") or captured["sender"])
        assert model.zone_name == (original.get("Zone") or original.get("zone") or "")
        assert model.sent_at == pytest.approx(captured["time"], abs=2)
    else:
        model = m.decode_acknowledgement(captured["payload"].encode())
        assert model.received
        assert model.type == captured["type"]
    known = {wire.name for _, wire in type(model)._wire} | {"MessageType", "type"}
    assert set(original) - known <= JUNK
    assert json.loads(model.to_json()) == {name: value for name, value in original.items() if name not in JUNK}


EXAMPLES: list[tuple[str, m.Message]] = [
    (
        f'{{"MessageType":"hello","MyIdentity":"{ALPHA}","YourIdentity":"{BRAVO}","Zone":"customer.example.","Time":"{TIME}"}}',
        m.Hello(my_identity=ALPHA, your_identity=BRAVO, zone="customer.example.", time=TIME),
    ),
    (
        f'{{"MessageType":"beat","MyIdentity":"{ALPHA}","YourIdentity":"{BRAVO}","MyBeatInterval":60,'
        f'"Zones":["customer.example."],"Time":"{TIME}","Gossip":[]}}',
        m.Beat(
            my_identity=ALPHA,
            your_identity=BRAVO,
            my_beat_interval=60,
            zones=["customer.example."],
            time=TIME,
            gossip=[],
        ),
    ),
    (
        f'{{"MessageType":"ping","MyIdentity":"{ALPHA}","YourIdentity":"{BRAVO}","Nonce":"5f1c0a9b77e2d364","Time":"{TIME}"}}',
        m.Ping(my_identity=ALPHA, your_identity=BRAVO, nonce="5f1c0a9b77e2d364", time=TIME),
    ),
    (
        f'{{"MessageType":"sync","OriginatorID":"{ALPHA}","YourIdentity":"{BRAVO}","Zone":"customer.example.","operations":'
        f'[{{"operation":"replace","rrtype":"NS","records":[{json.dumps(NS)}]}},{{"operation":"replace","rrtype":"CDS"}}],'
        f'"Time":"{TIME}","RfiType":"","nonce":"0b7c"}}',
        m.Sync(
            originator_id=ALPHA,
            your_identity=BRAVO,
            zone="customer.example.",
            operations=[
                m.Operation(operation="replace", rrtype="NS", records=[NS]),
                m.Operation(operation="replace", rrtype="CDS"),
            ],
            time=TIME,
            nonce="0b7c",
        ),
    ),
    (
        f'{{"MessageType":"update","OriginatorID":"{ALPHA}","YourIdentity":"c.","Zone":"","operations":[{{"operation":"add",'
        f'"rrtype":"KEY","records":["x"]}}],"Time":"{TIME}","RfiType":"","nonce":"2d","zone_class":"provider",'
        '"publish":{"key_rrs":["x"],"locations":["at-apex","at-ns"]}}',
        m.Update(
            originator_id=ALPHA,
            your_identity="c.",
            operations=[m.Operation(operation="add", rrtype="KEY", records=["x"])],
            time=TIME,
            nonce="2d",
            zone_class="provider",
            publish=m.Publish(key_rrs=["x"], locations=["at-apex", "at-ns"]),
        ),
    ),
    (
        f'{{"MessageType":"rfi","OriginatorID":"{ALPHA}","YourIdentity":"{BRAVO}","Zone":"z.","records":{{"_term":["8"],'
        f'"_group":["0123456789abcdef"],"_vote":["3141592653"]}},"Time":"{TIME}","RfiType":"ELECT-CALL"}}',
        m.Rfi(
            originator_id=ALPHA,
            your_identity=BRAVO,
            zone="z.",
            records={"_term": ["8"], "_group": ["0123456789abcdef"], "_vote": ["3141592653"]},
            time=TIME,
            rfi_type="ELECT-CALL",
        ),
    ),
    (
        f'{{"MessageType":"rfi","OriginatorID":"{ALPHA}","YourIdentity":"{BRAVO}","Zone":"z.","Time":"{TIME}",'
        '"RfiType":"CONFIG","rfi_subtype":"upstream"}',
        m.Rfi(
            originator_id=ALPHA, your_identity=BRAVO, zone="z.", time=TIME, rfi_type="CONFIG", rfi_subtype="upstream"
        ),
    ),
    (
        '{"type":"confirm","sender_id":"combiner.alpha.example.","zone":"z.","distribution_id":"6a12f0d0","nonce":"1c8d",'
        '"status":"PARTIAL","message":"1 applied, 1 refused","applied_count":1,"rejected_count":1,'
        '"applied_records":["a"],'
        '"rejected_items":[{"record":"b","reason":"target not allowed"}],"timestamp":1779012421}',
        m.Confirm(
            sender_id="combiner.alpha.example.",
            zone="z.",
            distribution_id="6a12f0d0",
            nonce="1c8d",
            status="PARTIAL",
            message="1 applied, 1 refused",
            applied_count=1,
            rejected_count=1,
            applied_records=["a"],
            rejected_items=[m.RejectedItem(record="b", reason="target not allowed")],
            timestamp=1779012421,
        ),
    ),
    (
        f'{{"MessageType":"keystate","MyIdentity":"s.","YourIdentity":"{ALPHA}","Zone":"z.","KeyTag":0,"Algorithm":0,"Signal":'
        '"inventory","Message":"","KeyInventory":[{"key_tag":40321,"algorithm":13,"flags":256,"state":"mpdist","keyrr":"k"},'
        f'{{"key_tag":1203,"algorithm":13,"flags":257,"state":"foreign","keyrr":""}}],"Time":"{TIME}"}}',
        m.KeyState(
            my_identity="s.",
            your_identity=ALPHA,
            zone="z.",
            signal="inventory",
            key_inventory=[
                m.KeyInventoryEntry(key_tag=40321, algorithm=13, flags=256, state="mpdist", keyrr="k"),
                m.KeyInventoryEntry(key_tag=1203, algorithm=13, flags=257, state="foreign"),
            ],
            time=TIME,
        ),
    ),
    (
        f'{{"MessageType":"keystate","MyIdentity":"{ALPHA}","YourIdentity":"s.","Zone":"z.","KeyTag":40321,"Algorithm":13,'
        f'"Signal":"propagated","Message":"3 of 3","KeyInventory":null,"Time":"{TIME}"}}',
        m.KeyState(
            my_identity=ALPHA,
            your_identity="s.",
            zone="z.",
            key_tag=40321,
            algorithm=13,
            signal="propagated",
            message="3 of 3",
            time=TIME,
        ),
    ),
    (
        f'{{"MessageType":"edits","MyIdentity":"c.","YourIdentity":"{ALPHA}","Zone":"z.","AgentRecords":{{"{BRAVO}":{{"z.":'
        f'["r"]}}}},"Message":"","Time":"{TIME}"}}',
        m.Edits(my_identity="c.", your_identity=ALPHA, zone="z.", agent_records={BRAVO: {"z.": ["r"]}}, time=TIME),
    ),
    (
        f'{{"MessageType":"config","MyIdentity":"{BRAVO}","YourIdentity":"{ALPHA}","Zone":"z.","Subtype":"upstream",'
        f'"ConfigData":{{"xfr_srcs":"192.0.2.10:53","xfr_auth":"k"}},"Message":"","Time":"{TIME}"}}',
        m.Config(
            my_identity=BRAVO,
            your_identity=ALPHA,
            zone="z.",
            subtype="upstream",
            config_data={"xfr_srcs": "192.0.2.10:53", "xfr_auth": "k"},
            time=TIME,
        ),
    ),
    (
        f'{{"MessageType":"audit","MyIdentity":"{BRAVO}","YourIdentity":"{ALPHA}","Zone":"z.","AuditData":{{"z.":{{"2":[{{"rr":'
        f'"r","confirmations":null,"n":1.5}}]}}}},"Message":"","Time":"{TIME}"}}',
        m.Audit(
            my_identity=BRAVO,
            your_identity=ALPHA,
            zone="z.",
            audit_data={"z.": {"2": [{"rr": "r", "confirmations": None, "n": 1.5}]}},
            time=TIME,
        ),
    ),
    (
        f'{{"MessageType":"status-update","MyIdentity":"{ALPHA}","YourIdentity":"{BRAVO}","Zone":"z.","SubType":'
        f'"parentsync-done","Result":"ok","Msg":"parent accepted","Time":"{TIME}"}}',
        m.StatusUpdate(
            my_identity=ALPHA,
            your_identity=BRAVO,
            zone="z.",
            sub_type="parentsync-done",
            result="ok",
            msg="parent accepted",
            time=TIME,
        ),
    ),
    (
        f'{{"type":"relocate","sender_id":"{ALPHA}","new_address":{{"host":"192.0.2.77","port":5353,"transport":"udp"}},'
        '"reason":"maintenance","valid_until":1779100000}',
        m.Relocate(
            sender_id=ALPHA,
            new_address=m.Address(host="192.0.2.77", port=5353, transport="udp"),
            reason="maintenance",
            valid_until=1779100000,
        ),
    ),
]


@pytest.mark.parametrize(("text", "message"), EXAMPLES, ids=[type(message).__name__ for _, message in EXAMPLES])
def test_worked_example(text: str, message: m.Message) -> None:
    assert json.loads(message.to_json()) == json.loads(text)
    assert m.decode_message(text.encode()) == message
    assert m.decode_message(message.to_json()) == message


def test_every_type_has_an_example() -> None:
    assert {type(message) for _, message in EXAMPLES} == set(m.MESSAGE_TYPES.values())
    assert all(word == cls.TYPE for word, cls in m.MESSAGE_TYPES.items())


def test_sender_zone_and_time_of_every_type() -> None:
    for _, message in EXAMPLES:
        assert message.sender.endswith(".")
        if not isinstance(message, (m.Ping, m.Update, m.Relocate)):
            assert message.zone_name in ("z.", "customer.example.")
        if not isinstance(message, (m.Confirm, m.Relocate)):
            assert message.sent_at == pytest.approx(datetime(2026, 5, 17, 10, tzinfo=UTC).timestamp() + 0.123456789)
    assert m.Beat().zone_name == ""
    assert m.Message().sender == m.Message().zone_name == ""
    assert m.Message().sent_at is None
    assert m.Hello().sent_at is None
    assert m.Hello(time="yesterday").sent_at is None
    assert m.Confirm(timestamp=5).sent_at == 5.0


GOSSIP = {
    "group_hash": "0123456789abcdef",
    "group_name": {"group_hash": "", "name": "", "proposer": "", "proposed_at": ZERO_TIME},
    "members": {
        ALPHA: {
            "identity": ALPHA,
            "peer_states": {BRAVO: "OPERATIONAL"},
            "zones": ["customer.example."],
            "timestamp": "2026-05-17T10:01:00.5Z",
            "beat_interval": 60,
        }
    },
    "election": {"leader": ALPHA, "term": 7, "leader_expiry": "2026-05-17T11:00:00Z"},
}


def beat(gossip: Any) -> bytes:
    return json.dumps({"MessageType": "beat", "MyIdentity": ALPHA, "Gossip": gossip}).encode()


def test_gossip() -> None:
    message = m.decode_message(beat([GOSSIP]))
    assert isinstance(message, m.Beat)
    assert message.gossip is not None
    (gossip,) = message.gossip
    assert json.loads(gossip.to_json()) == GOSSIP
    at = datetime(2026, 5, 17, 10, 1, tzinfo=UTC).timestamp()
    assert gossip.members[ALPHA].time == at + 0.5
    assert gossip.election.expires == at + 3540
    assert gossip.group_name.proposed_time == 0.0
    empty = json.loads(m.GossipMessage(group_hash="x").to_json())
    assert empty["election"] == {"leader_expiry": ZERO_TIME}
    assert empty["members"] == {}


def test_gossip_with_nulls() -> None:
    row = {"identity": BRAVO, "peer_states": None, "zones": None, "timestamp": ZERO_TIME, "beat_interval": None}
    message = m.decode_message(
        beat([{"group_hash": "x", "group_name": None, "members": {ALPHA: None, BRAVO: row}, "election": None}])
    )
    assert isinstance(message, m.Beat)
    assert message.gossip is not None
    assert list(message.gossip[0].members) == [BRAVO]
    assert message.gossip[0].members[BRAVO].peer_states == {}
    assert message.gossip[0].election.term == 0


@pytest.mark.parametrize(
    "change",
    [
        {"members": {ALPHA: {"timestamp": "now"}}},
        {"election": {"leader_expiry": ""}},
        {"group_name": {"proposed_at": "2026-02-30T00:00:00Z"}},
        {"election": {"term": 2**32}},
        {"election": {"term": -1}},
        {"members": []},
        {"members": {ALPHA: []}},
        {"group_hash": 5},
    ],
)
def test_bad_gossip(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        m.decode_message(beat([{**GOSSIP, **change}]))
    with pytest.raises(MessageError):
        m.decode_acknowledgement(json.dumps({"type": "confirm", "Gossip": [{**GOSSIP, **change}]}).encode())


# ---------------------------------------------------------------------------------------------- spelling, null


def test_member_names_without_regard_to_case_exact_spelling_first() -> None:
    for text in (
        b'{"messagetype":"ping","MYIDENTITY":"a.","youridentity":"b.","nonce":"n","TIME":"t"}',
        b'{"MessageType":"ping","MyIdentity":"a.","YourIdentity":"b.","Nonce":"n","nonce":"other","Time":"t"}',
        b'{"nonce":"other","MessageType":"ping","MyIdentity":"a.","YourIdentity":"b.","Nonce":"n","Time":"t"}',
        b'{"MessageType":"ping","MyIdentity":"a.","YourIdentity":"b.","Nonce":null,"nonce":"n","NONCE":"n","Time":"t"}',
    ):
        assert m.decode_message(text) == m.Ping(my_identity="a.", your_identity="b.", nonce="n", time="t")
    sync = m.decode_message(b'{"MessageType":"sync","Operations":[{"Operation":"add","RRTYPE":"NS","Records":["r"]}]}')
    assert isinstance(sync, m.Sync)
    assert sync.operations == [m.Operation(operation="add", rrtype="NS", records=["r"])]


def test_legacy_spellings() -> None:
    hello = m.decode_message(b'{"type":"hello","sender_id":"a.","zone":"z.","timestamp":5,"capabilities":["x"]}')
    assert hello == m.Hello(my_identity="a.", zone="z.")
    confirm = m.decode_message(b'{"MessageType":"confirm","MyIdentity":"a.","Zone":"z.","status":"SUCCESS"}')
    assert confirm == m.Confirm(sender_id="a.", zone="z.", status="SUCCESS")


@pytest.mark.parametrize(
    "text",
    [
        '{"MessageType":"ping","type":"beat"}',
        '{"MessageType":"ping","TYPE":"beat"}',
        '{"MessageType":"hello","Zone":"a.","zone":"b."}',
        '{"type":"confirm","Zone":"a.","zone":"b."}',
        '{"MessageType":"hello","MyIdentity":"a.","OriginatorID":"b."}',
        '{"MessageType":"hello","MyIdentity":"a.","sender_id":"b."}',
        '{"type":"confirm","MyIdentity":"a.","sender_id":"b."}',
        '{"MessageType":"sync","MyIdentity":"a.","OriginatorID":"b."}',
        '{"MessageType":"ping","NONCE":"a","nonce":"b"}',
        '{"MessageType":"ping","Nonce":"a","Nonce":"a"}',
        '{"MessageType":"ping","MessageType":"ping"}',
    ],
)
def test_contradictory_members(text: str) -> None:
    with pytest.raises(MessageError):
        m.decode_message(text.encode())


def test_twins_that_agree() -> None:
    message = m.decode_message(
        b'{"MessageType":"hello","type":"hello","Zone":"z.","zone":"z.","MyIdentity":"a.","sender_id":"a."}'
    )
    assert message == m.Hello(my_identity="a.", zone="z.")
    assert m.decode_message(b'{"MessageType":"","type":"hello","Zone":"","zone":"z."}') == m.Hello(zone="z.")


def test_null_is_absent() -> None:
    for word, cls in m.MESSAGE_TYPES.items():
        members = {wire.name: None for _, wire in cls._wire}
        assert m.decode_message(json.dumps({"MessageType": word, **members}).encode()) == cls()
        assert m.decode_message(json.dumps({"type": word}).encode()) == cls()
    assert m.decode_acknowledgement(b'{"type":"confirm","Gossip":null,"timestamp":null}').gossip is None
    edits = m.decode_message(b'{"MessageType":"edits","AgentRecords":{"a.":null,"b.":{"z.":["r"]}}}')
    assert isinstance(edits, m.Edits)
    assert edits.agent_records == {"b.": {"z.": ["r"]}}


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"null",
        b"[]",
        b'"ping"',
        b"{}",
        b"{",
        b'{"MessageType":5}',
        b'{"MessageType":""}',
        b'{"MessageType":["ping"]}',
        b'{"MessageType":"ping"}x',
        b'\xef\xbb\xbf{"MessageType":"ping"}',
        b'{"MessageType":"ping","Nonce":"\xff"}',
        b'{"MessageType":"ping","Nonce":"\\ud800"}',
        b'{"MessageType":"ping","\\udfff":1}',
        b'{"MessageType":"audit","AuditData":"\\ud800"}',
        b'{"MessageType":"ping","x":NaN}',
        b'{"MessageType":"ping","x":-Infinity}',
        b'{"MessageType":"ping","x":1e999}',
        b'{"MessageType":"ping","x":' + b"9" * 21 + b"}",
        b'{"MessageType":"ping","x":' + b"9" * 5000 + b"}",
        b'{"MessageType":"ping","x":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"MessageType":"ping","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"MessageType":"ping","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"MessageType":"audit","AuditData":[' + b"0," * 600_000 + b"0]}",
        b'{"MessageType":"ping","x":"' + b"x" * m.MAX_OCTETS + b'"}',
        b'{"MessageType":"ping","Nonce":5}',
        b'{"MessageType":"ping","Nonce":"' + b"x" * 257 + b'"}',
        b'{"MessageType":"beat","MyBeatInterval":"60"}',
        b'{"MessageType":"beat","MyBeatInterval":60.0}',
        b'{"MessageType":"beat","MyBeatInterval":true}',
        b'{"MessageType":"beat","MyBeatInterval":-1}',
        b'{"MessageType":"beat","Zones":"z."}',
        b'{"MessageType":"beat","Zones":{"z.":1}}',
        b'{"MessageType":"beat","Zones":[null]}',
        b'{"MessageType":"beat","Gossip":{}}',
        b'{"MessageType":"beat","Gossip":[null]}',
        b'{"MessageType":"keystate","KeyTag":65536}',
        b'{"MessageType":"keystate","Algorithm":256}',
        b'{"MessageType":"keystate","KeyInventory":[{"key_tag":"1"}]}',
        b'{"MessageType":"rfi","records":{"_term":"8"}}',
        b'{"MessageType":"sync","operations":[5]}',
        b'{"MessageType":"sync","publish":{"locations":"at-apex"}}',
        b'{"type":"confirm","truncated":1}',
        b'{"type":"confirm","timestamp":9223372036854775808}',
        b'{"type":"confirm","timestamp":1.5}',
        b'{"type":"relocate","new_address":{"port":70000}}',
        b'{"MessageType":"config","ConfigData":{"a":1}}',
        b'{"MessageType":"edits","AgentRecords":{"a.":["r"]}}',
    ],
    ids=lambda octets: octets[:60].decode("ascii", "backslashreplace"),
)
def test_refused(octets: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        m.decode_message(octets)
    assert not isinstance(caught.value, UnknownTypeError)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("word", ["PING", "status", "relocated", "x" * 1000])
def test_unknown_types(word: str) -> None:
    with pytest.raises(UnknownTypeError):
        m.decode_message(json.dumps({"MessageType": word}).encode())


def test_bounds_of_operations() -> None:
    def sync(operations: int, records: int) -> bytes:
        operation = {"operation": "add", "rrtype": "NS", "records": ["r"] * records}
        return json.dumps({"MessageType": "sync", "operations": [operation] * operations}).encode()

    assert isinstance(m.decode_message(sync(m.MAX_OPERATIONS, 1)), m.Sync)
    assert isinstance(m.decode_message(sync(1, m.MAX_RECORDS)), m.Sync)
    for operations, records in ((m.MAX_OPERATIONS + 1, 1), (1, m.MAX_RECORDS + 1)):
        with pytest.raises(MessageError):
            m.decode_message(sync(operations, records))
    with pytest.raises(ValidationError):
        m.Operation(operation="add", rrtype="NS", records=["r"] * (m.MAX_RECORDS + 1))


def test_models_are_immutable_and_strict_about_names() -> None:
    message = m.Ping(nonce="n")
    with pytest.raises(ValidationError):
        message.nonce = "m"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        m.Ping(nonse="n")  # type: ignore[call-arg]


# ----------------------------------------------------------------------------------------------- acknowledgements


@pytest.mark.parametrize(
    ("kind", "status", "received", "accepted"),
    [
        ("confirm", "ok", True, True),
        ("confirm", "SUCCESS", True, True),
        ("ping_confirm", "ok", True, True),
        ("confirm", "Pending", True, False),
        ("confirm", "partial", True, False),
        ("confirm", "rejected", True, False),
        ("confirm", "ignored", True, False),
        ("confirm", "failed", False, False),
        ("confirm", "error", False, False),
        ("confirm", "", False, False),
        ("confirm", "whatever", False, False),
        ("error", "ok", False, False),
    ],
)
def test_acknowledgement_status(kind: str, status: str, received: bool, accepted: bool) -> None:
    acknowledgement = m.Acknowledgement(type=kind, distribution_id="6a12", status=status)
    assert (acknowledgement.received, acknowledgement.accepted) == (received, accepted)
    assert m.decode_acknowledgement(acknowledgement.to_json()) == acknowledgement


@pytest.mark.parametrize("octets", [b"{}", b"[]", b'{"type":""}', b'{"type":"confirm","status":1}'])
def test_acknowledgement_refused(octets: bytes) -> None:
    with pytest.raises(MessageError):
        m.decode_acknowledgement(octets)


def test_acknowledgement_members() -> None:
    assert m.Acknowledgement(type="confirm", distribution_id="1", status="ok").to_json() == (
        b'{"type":"confirm","distribution_id":"1","status":"ok"}'
    )


# ----------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (ZERO_TIME, 0.0),
        ("0001-01-01T00:00:00.000Z", 0.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-05-17T10:00:00Z", 1779012000.0),
        ("2026-05-17t10:00:00.5z", 1779012000.5),
        ("2026-05-17T12:30:00+02:30", 1779012000.0),
        ("2026-05-17T09:00:00-01:00", 1779012000.0),
        ("2024-02-29T00:00:00.123456789Z", 1709164800.123456789),
        ("9999-12-31T23:59:59Z", 253402300799.0),
        ("1969-12-31T23:59:59.25Z", -0.75),
    ],
)
def test_parse_time(text: str, seconds: float) -> None:
    assert parse_rfc3339(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-05-17",
        "2026-05-17T10:00:00",
        "2026-05-17 10:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-05-17T24:00:00Z",
        "2026-05-17T10:60:00Z",
        "2026-05-17T10:00:60Z",
        "2026-05-17T10:00:00.Z",
        "0000-01-01T00:00:00Z",
        "2026-05-17T10:00:00+24:00",
        "2026-05-17T10:00:00Z\n",
        "\N{ARABIC-INDIC DIGIT TWO}026-05-17T10:00:00Z",
        "2026-05-17T10:00:00." + "0" * 31 + "Z",
    ],
)
def test_bad_time(text: str) -> None:
    with pytest.raises(MessageError):
        parse_rfc3339(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, ZERO_TIME),
        (1779012000.0, "2026-05-17T10:00:00Z"),
        (1779012000.5, "2026-05-17T10:00:00.5Z"),
        (1779012000.000001, "2026-05-17T10:00:00.000001Z"),
        (1779012000.9999999, "2026-05-17T10:00:01Z"),
        (-0.5, "1969-12-31T23:59:59.5Z"),
        (253402300799.99997, "9999-12-31T23:59:59.999969Z"),
    ],
)
def test_time_text(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text
    assert rfc3339_seconds(seconds) == text.partition(".")[0].removesuffix("Z") + "Z" or seconds > 1779012000.9


@pytest.mark.parametrize("seconds", [1e12, -1e12, math.inf, math.nan])
def test_time_out_of_range(seconds: float) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        rfc3339(seconds)
