"""Random damage to captured octets, for as long as wanted: ``python -m tests.fuzz.fuzz_wire SECONDS [SEED]``.

The rule: a decoder accepts, or raises a :exc:`~mpcore.errors.RemoteError`; what it accepts it encodes again, and
decodes to the same.  Damage to an inner layer is sealed again with valid keys.  Octets that broke the rule are printed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mpcore.errors import RemoteError
from mpcore.records import CHUNK, HSYNC3, HSYNCPARAM, JWK, ChunkEndpointOption, ChunkOption
from mpcore.wire.chunks import decode_manifest
from mpcore.wire.frame import decode_chunk_answer, decode_chunk_query, decode_notify, decode_response
from mpcore.wire.messages import decode_acknowledgement, decode_message
from mpcore.wire.seal import PrivateKey, looks_sealed, seal, unseal

__all__ = ("TARGETS", "damage", "main", "seeds")

FIXTURES = Path(__file__).parents[1] / "fixtures"
SENDER, RECEIVER = PrivateKey.generate(), PrivateKey.generate()


def damage(octets: bytes, source: random.Random) -> bytes:
    """Some octets changed, cut, doubled or put in."""
    damaged = bytearray(octets)
    for _ in range(source.randint(1, 4)):
        at, length = source.randrange(len(damaged) + 1), source.randint(1, 12)
        kind = source.randrange(4)
        if kind == 0:
            damaged[at : at + 1] = bytes((source.randrange(256),))
        elif kind == 1:
            del damaged[at : at + length]
        elif kind == 2:
            damaged[at:at] = damaged[at : at + length]
        else:
            damaged[at:at] = source.randbytes(length)
    return bytes(damaged)


def _frames(octets: bytes) -> None:
    ident = int.from_bytes(octets[:2])
    for decode in (
        decode_notify,
        decode_chunk_query,
        lambda data: decode_response(data, ident),
        lambda data: decode_chunk_answer(data, ident),
    ):
        try:
            decoded = decode(octets)  # type: ignore[operator]
        except RemoteError:
            continue
        if decoded.__class__.__name__ == "Response" and decoded.rcode > 15:
            continue
        again = decoded.to_octets()
        assert decode(again) == decoded  # type: ignore[operator]


def _sealed(octets: bytes) -> None:
    looks_sealed(octets)
    unseal(octets, SENDER.public(), RECEIVER)


def _messages(octets: bytes) -> None:
    opened = unseal(seal(octets or b"-", SENDER, RECEIVER.public(), "r.", 1.0), SENDER.public(), RECEIVER)
    for decode in (decode_message, decode_acknowledgement):
        try:
            model = decode(opened)  # type: ignore[operator]
        except RemoteError:
            continue
        assert decode(model.to_json()) == model  # type: ignore[operator]


def _records(octets: bytes) -> None:
    for cls in (HSYNC3, HSYNCPARAM, CHUNK, JWK):
        try:
            record = cls.from_octets(octets)  # type: ignore[attr-defined]
        except RemoteError:
            continue
        assert record.to_octets() == octets
        assert cls.parse(record.to_text()) == record  # type: ignore[attr-defined]
        if isinstance(record, CHUNK):
            try:
                decode_manifest(record)
            except RemoteError:
                continue
    for option in (ChunkOption, ChunkEndpointOption):
        try:
            option.from_octets(octets)
        except RemoteError:
            continue


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": _frames,
    "sealed": _sealed,
    "messages": _messages,
    "records": _records,
}
"""Name -> what a decoder of that layer must survive."""


def seeds() -> dict[str, list[bytes]]:
    """Sound octets for every target."""
    captured = json.loads((FIXTURES / "messages.json").read_text())
    fetched = json.loads((FIXTURES / "query-mode.json").read_text())
    return {
        "frames": [bytes.fromhex(item["dns_message"]) for item in (*captured, *fetched)],
        "sealed": [seal(b'{"MessageType":"ping"}', SENDER, RECEIVER.public(), "r.", 1.0)],
        "messages": [item["payload"].encode() for item in captured],
        "records": [
            HSYNC3.make("alpha", "agent.alpha.example.", "bravo").to_octets(),
            HSYNCPARAM.parse('nsmgmt=agent servers="a,b" pubkey suffix=prov key100="hi"').to_octets(),
            CHUNK.make(0, 2, b'{"chunk_count":2}').to_octets(),
            JWK.from_public_key_jwk(SENDER.public().to_jwk()).to_octets(),
            ChunkOption(2, b"data").to_octets(),
            b"[2001:db8::1]:53",
        ],
    }


def main(seconds: float, seed: int) -> int:
    """Damage octets for so many *seconds*; the number of broken rules."""
    source = random.Random(seed)
    sound = seeds()
    runs: Counter[str] = Counter()
    broken = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, target in TARGETS.items():
            octets = damage(source.choice(sound[name]), source)
            runs[name] += 1
            try:
                target(octets)
            except RemoteError:
                continue
            except Exception as error:
                broken += 1
                sys.stdout.write(f"{name}: {error!r}\n  {octets.hex()}\n")
    sys.stdout.write(f"seed {seed}: {dict(runs)}, {broken} broken\n")
    return broken


if __name__ == "__main__":
    sys.exit(bool(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns())))
