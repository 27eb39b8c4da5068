"""One valid message of every type, for tests of what a node takes from whom."""

from __future__ import annotations

from mpcore.wire.messages import (
    Address,
    Audit,
    Beat,
    Config,
    Confirm,
    Edits,
    Hello,
    KeyState,
    Message,
    Operation,
    Ping,
    Relocate,
    Rfi,
    StatusUpdate,
    Sync,
    Update,
    rfc3339,
)

__all__ = ("every_message", "name_server")


def name_server(zone: str, target: str) -> str:
    """The text of an NS record at the apex, as it goes over the wire."""
    return f"{zone}\t3600\tIN\tNS\t{target}"


def every_message(sender: str, receiver: str, zone: str, now: float) -> dict[str, Message]:
    """Type -> message from *sender* to *receiver* about *zone*, made at *now*."""
    time, nonce = rfc3339(now), "0123456789abcdef0123456789abcdef"
    operations = [Operation(operation="replace", rrtype="NS", records=[name_server(zone, "ns7.alpha.example.")])]
    messages: list[Message] = [
        Hello(my_identity=sender, your_identity=receiver, zone=zone, time=time),
        Beat(my_identity=sender, your_identity=receiver, my_beat_interval=15, zones=[zone], time=time, gossip=[]),
        Ping(my_identity=sender, your_identity=receiver, nonce=nonce, time=time),
        Sync(originator_id=sender, your_identity=receiver, zone=zone, operations=operations, time=time, nonce=nonce),
        Update(originator_id=sender, your_identity=receiver, zone=zone, operations=operations, time=time, nonce=nonce),
        Rfi(originator_id=sender, your_identity=receiver, zone=zone, time=time, rfi_type="SYNC"),
        Confirm(sender_id=sender, zone=zone, distribution_id="0badcafe", status="SUCCESS", timestamp=int(now)),
        KeyState(my_identity=sender, your_identity=receiver, zone=zone, key_tag=4711, signal="propagated", time=time),
        Edits(my_identity=sender, your_identity=receiver, zone=zone, agent_records={}, time=time),
        Config(my_identity=sender, your_identity=receiver, zone=zone, subtype="upstream", time=time),
        Audit(my_identity=sender, your_identity=receiver, zone=zone, audit_data={}, time=time),
        StatusUpdate(my_identity=sender, your_identity=receiver, zone=zone, sub_type="parentsync-done", time=time),
        Relocate(
            sender_id=sender, new_address=Address(host="192.0.2.1", port=53, transport="tcp"), valid_until=int(now)
        ),
    ]
    return {message.TYPE: message for message in messages}
