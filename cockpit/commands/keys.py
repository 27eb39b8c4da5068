"""``signer keys`` and ``zone keys``: the DNSSEC keys of a zone, ours and the other providers'."""

from __future__ import annotations

from cockpit.commands.base import Command, Values
from cockpit.commands.common import OPTIONAL_ZONE, zone_value
from cockpit.output import Lines, Result, Table, short_record
from cockpit.session import Session

__all__ = ("COMMANDS", "algorithm_name", "key_role")

_ALGORITHMS = {5: "RSASHA1", 8: "RSASHA256", 10: "RSASHA512", 13: "ECDSAP256SHA256", 14: "ECDSAP384SHA384"} | {
    15: "ED25519",
    16: "ED448",
}


def algorithm_name(number: int) -> str:
    """Mnemonic of a DNSSEC algorithm (RFC 8624 and its registry), or its number."""
    return _ALGORITHMS.get(number, str(number))


def key_role(flags: int) -> str:
    """``KSK`` or ``ZSK`` by the SEP flag (RFC 4034, section 2.1.1)."""
    return "KSK" if flags & 1 else "ZSK"


async def _keys(session: Session, values: Values) -> Result:
    zone = await zone_value(session, values, "signer")
    keys = await session.client("signer").keys(zone)
    rows = [
        [
            str(key.key_tag),
            key_role(key.flags),
            algorithm_name(key.algorithm),
            key.state,
            "other provider" if key.foreign else "ours",
            short_record(key.record),
        ]
        for key in keys
    ]
    headings = ("TAG", "ROLE", "ALGORITHM", "STATE", "WHOSE", "RECORD")
    return Result(keys, [Lines([f"Keys of {zone}"]), Table(headings, rows, empty="(no keys)")])


_SUMMARY = "List the DNSSEC keys of a zone with role, state and whose they are"

COMMANDS = (
    Command(("zone", "keys", "list"), _SUMMARY, (OPTIONAL_ZONE,), run=_keys),
    Command(("signer", "keys", "list"), _SUMMARY, (OPTIONAL_ZONE,), examples=("signer keys list",), run=_keys),
)
