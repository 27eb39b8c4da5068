"""Payloads that the receiver fetches in pieces: manifest and data chunks (guide, wire format, "Query mode").

The manifest (sequence 0) is JSON.  A small payload lies in it; a larger one is cut into data chunks 1 to N that are
fetched one by one.  The payload is what the NOTIFY would have carried in its option.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mpcore.errors import FrameError, MessageError, PolicyError
from mpcore.records import CHUNK, FORMAT_JSON
from mpcore.wire.messages import decode_json

__all__ = ("DEFAULT_CHUNK_SIZE", "MAX_CHUNKS", "Manifest", "decode_manifest", "join", "split")

DEFAULT_CHUNK_SIZE: Final = 60000
"""Octets of a data chunk if nothing else is configured."""

MAX_CHUNKS: Final = 1024
"""Most data chunks that are fetched for one payload."""

_INLINE_OVERHEAD: Final = 41


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the receiver learns from sequence 0.

    :ivar chunk_count: number of data chunks to fetch; 0: *payload* is everything.
    :ivar payload: the payload, if it lies in the manifest.
    """

    chunk_count: int
    payload: bytes | None = None


def split(
    payload: bytes,
    *,
    content: str,
    distribution_id: str,
    receiver: str,
    timestamp: int,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
) -> list[CHUNK]:
    """The manifest and the data chunks of *payload*, in the order of their sequence numbers.

    :param payload: clear JSON or a sealed payload.
    :param content: type of the message (``sync``).
    :param distribution_id: the id in the QNAME of the NOTIFY.
    :param receiver: identity of the receiver.
    :param timestamp: whole Unix seconds.
    :param chunk_size: octets of a data chunk, 1-60000.
    :raises PolicyError: it takes more than :data:`MAX_CHUNKS` chunks.
    """
    if not 1 <= chunk_size <= DEFAULT_CHUNK_SIZE:
        raise PolicyError(f"chunks of {chunk_size} octets; 1 to {DEFAULT_CHUNK_SIZE} are possible")
    metadata = {
        "content": content,
        "distribution_id": distribution_id,
        "receiver_id": receiver,
        "timestamp": timestamp,
    }
    inline = _json({"chunk_count": 0, "metadata": metadata, "payload": base64.b64encode(payload).decode()})
    if len(inline) + _INLINE_OVERHEAD <= chunk_size:
        return [CHUNK.make(0, 0, inline)]
    pieces = [payload[start : start + chunk_size] for start in range(0, len(payload), chunk_size)] or [b""]
    total = len(pieces)
    if total > MAX_CHUNKS:
        raise PolicyError(f"a payload of {len(payload)} octets takes {total} chunks; at most {MAX_CHUNKS} are sent")
    manifest = _json({"chunk_count": total, "chunk_size": chunk_size, "metadata": metadata})
    return [
        CHUNK.make(0, total, manifest),
        *(CHUNK.make(number, total, piece) for number, piece in enumerate(pieces, start=1)),
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode_manifest(chunk: CHUNK) -> Manifest:
    """What the record of sequence 0 says; an HMAC in it is ignored.

    :raises FrameError: it is no manifest, or announces more than :data:`MAX_CHUNKS` chunks.
    """
    if chunk.sequence != 0 or chunk.format != FORMAT_JSON:
        raise FrameError("not a manifest in JSON")
    try:
        members = decode_json(chunk.data)
    except MessageError as error:
        raise FrameError(f"manifest: {error}") from None
    count = members.get("chunk_count")
    if type(count) is not int or not 0 <= count <= MAX_CHUNKS:
        raise FrameError(f"manifest: not a usable number of chunks (at most {MAX_CHUNKS})")
    if count:
        if chunk.total != count:
            raise FrameError("manifest: the record counts other chunks than the manifest")
        return Manifest(count)
    text = members.get("payload")
    if not isinstance(text, str):
        raise FrameError("manifest: no chunks and no payload")
    try:
        return Manifest(0, base64.b64decode(text.encode("ascii"), validate=True))
    except (binascii.Error, UnicodeEncodeError):
        raise FrameError("manifest: the payload is not base64") from None


def join(manifest: Manifest, chunks: Sequence[CHUNK]) -> bytes:
    """The payload of *manifest*, from the data *chunks* 1 to its count in this order.

    :raises FrameError: a chunk is missing, or counts differently.
    """
    if manifest.payload is not None:
        return manifest.payload
    if len(chunks) != manifest.chunk_count:
        raise FrameError("the number of chunks is not the one of the manifest")
    for number, chunk in enumerate(chunks, start=1):
        if chunk.sequence != number or chunk.total != manifest.chunk_count:
            raise FrameError(f"chunk {number} is another one")
    return b"".join(chunk.data for chunk in chunks)
