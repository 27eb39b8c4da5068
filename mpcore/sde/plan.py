"""What a change ordered by the operator would do, and whether it is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mpcore.control.models import RecordState
from mpcore.errors import NotFoundError, PolicyError, RemoteError
from mpcore.names import ZoneName
from mpcore.sde.model import Entry
from mpcore.sde.records import MAX_OPERATION_OCTETS, ContributedRecord, read_any_record
from mpcore.wire.messages import MAX_RECORDS
from mpcore.zone import owners
from mpcore.zone.roles import ZoneRoles

__all__ = ("Plan", "make_plan", "read_own_record")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do.

    :param record: the record with its text brought into the form of the wire.
    :param effective: ``False``: nothing would change and nothing would be sent.
    :param recipients: identities that would be told, our combiner first.
    :param appliers: identities of the providers that publish the type; the others keep it and answer IGNORED.
    :param resulting: texts of the complete set of this type that we would then contribute.
    :param warnings: in words.
    """

    zone: str
    operation: Literal["add", "delete"]
    record: ContributedRecord
    effective: bool
    recipients: tuple[str, ...]
    appliers: tuple[str, ...]
    resulting: tuple[str, ...]
    warnings: tuple[str, ...]
    danger: Literal["mild", "moderate", "severe"]


def read_own_record(zone: str, text: str) -> ContributedRecord:
    """A record that the operator wrote; relative names are completed with the zone.

    :raises PolicyError: it may not be contributed; says why.
    """
    try:
        return read_any_record(text, ZoneName(zone).owner)
    except RemoteError as error:
        raise PolicyError(str(error)) from None


def make_plan(
    roles: ZoneRoles,
    identity: str,
    recipients: Sequence[str],
    held: Mapping[str, Entry],
    operation: Literal["add", "delete"],
    record: ContributedRecord,
) -> Plan:
    """Plan one change of our own data.

    :param identity: our identity.
    :param held: our entries of the record's type by text.
    :raises PolicyError: the zone's roles or the limits of a message do not allow it.
    :raises NotFoundError: the record to delete is not ours.
    """
    if record.rrtype == "DNSKEY":
        raise PolicyError("DNSKEY records come from the signer's keys; roll or remove the key at the signer")
    present = {entry.record.key: entry for entry in held.values() if entry.present}
    former = present.get(record.key)
    if operation == "add":
        reason = roles.can_submit(record.rrtype, identity)
        if reason is not None:
            raise PolicyError(reason)
        same = former is not None and former.record.ttl == record.ttl
        effective = not same or (former is not None and former.state is RecordState.REJECTED)
        resulting = {key: entry.record.text for key, entry in present.items()} | {
            record.key: former.record.text if same and former is not None else record.text
        }
    elif former is not None:
        record = former.record
        effective = True
        resulting = {key: entry.record.text for key, entry in present.items() if key != record.key}
    else:
        leaving = next((entry for entry in held.values() if entry.record.key == record.key), None)
        if leaving is None:
            raise NotFoundError(f"we do not contribute {record.text}")
        record = leaving.record
        effective = any(answer.status == "rejected" for answer in leaving.answers.values())
        resulting = {key: entry.record.text for key, entry in present.items()}
    texts = tuple(sorted(resulting.values()))
    if len(texts) > MAX_RECORDS:
        raise PolicyError(f"one message carries {MAX_RECORDS} records of a type; this would be {len(texts)}")
    if operation == "add" and sum(len(text.encode()) for text in texts) > MAX_OPERATION_OCTETS:
        raise PolicyError(f"one message carries {MAX_OPERATION_OCTETS} octets of records of a type; this would be more")
    appliers = roles.appliers(record.rrtype)
    warnings, danger = _warnings(roles, identity, operation, record, present, texts, appliers)
    return Plan(
        zone=roles.zone,
        operation=operation,
        record=record,
        effective=effective,
        recipients=tuple(recipients) if effective else (),
        appliers=appliers,
        resulting=texts,
        warnings=warnings,
        danger=danger,
    )


def _warnings(
    roles: ZoneRoles,
    identity: str,
    operation: Literal["add", "delete"],
    record: ContributedRecord,
    present: Mapping[bytes, Entry],
    texts: Sequence[str],
    appliers: Sequence[str],
) -> tuple[tuple[str, ...], Literal["mild", "moderate", "severe"]]:
    warnings = []
    danger: Literal["mild", "moderate", "severe"] = "mild" if operation == "add" else "moderate"
    if record.rrtype in ("CDS", "CSYNC"):
        danger = "severe"
        warnings.append(f"a {record.rrtype} record makes the parent change the delegation of {roles.zone}")
    if operation == "delete" and record.rrtype == "NS" and not texts:
        danger = "severe"
        warnings.append("this is the last name server that we contribute: afterwards the zone does not point to us")
    if not appliers:
        warnings.append(f"no provider publishes contributed {record.rrtype} records in {roles.zone}")
    elif identity not in appliers:
        warnings.append(f"our own combiner keeps {record.rrtype} records without publishing them")
    if operation == "add":
        former = present.get(record.key)
        if former is not None and former.record.ttl != record.ttl:
            warnings.append(f"this changes the TTL of the record from {former.record.ttl}")
        elif any(entry.record.ttl != record.ttl for entry in present.values()):
            warnings.append(
                "the records have different TTLs; all are served with the lowest one (RFC 2181, section 5.2)"
            )
        if record.rrtype == "NS" and owners.is_subdomain(record.key, ZoneName(roles.zone).owner):
            warnings.append("the name server is inside the zone: its addresses must be in the owner's zone")
    return tuple(warnings), danger
