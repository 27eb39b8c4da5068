"""Manifests and data chunks."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from mpcore.errors import FrameError, PolicyError
from mpcore.records import CHUNK
from mpcore.wire.chunks import DEFAULT_CHUNK_SIZE, MAX_CHUNKS, Manifest, decode_manifest, join, split


def pieces(payload: bytes, **options: Any) -> list[CHUNK]:
    return split(
        payload, content="sync", distribution_id="6a12f0d0", receiver="agent.bravo.example.", timestamp=5, **options
    )


def test_small_payload_lies_in_the_manifest() -> None:
    (chunk,) = pieces(b"payload")
    assert (chunk.sequence, chunk.total, chunk.format, chunk.hmac) == (0, 0, 1, b"")
    assert json.loads(chunk.data) == {
        "chunk_count": 0,
        "metadata": {
            "content": "sync",
            "distribution_id": "6a12f0d0",
            "receiver_id": "agent.bravo.example.",
            "timestamp": 5,
        },
        "payload": base64.b64encode(b"payload").decode(),
    }
    assert decode_manifest(chunk) == Manifest(0, b"payload")
    assert join(decode_manifest(chunk), ()) == b"payload"


def test_published_head_of_a_manifest() -> None:
    """Four data chunks: format 1, no HMAC, sequence 0, total 4."""
    chunk = pieces(b"x" * 200_000)[0]
    assert chunk.to_octets()[:7].hex() == "01000000000004"


def test_large_payload_is_cut() -> None:
    payload = bytes(range(256)) * 1000
    manifest, *chunks = pieces(payload)
    assert [chunk.sequence for chunk in chunks] == [1, 2, 3, 4, 5]
    assert {chunk.total for chunk in (manifest, *chunks)} == {5}
    assert max(len(chunk.data) for chunk in chunks) == DEFAULT_CHUNK_SIZE
    assert json.loads(manifest.data)["chunk_size"] == DEFAULT_CHUNK_SIZE
    assert join(decode_manifest(manifest), chunks) == payload


def test_limit_of_the_inline_form() -> None:
    size = len(pieces(b"x" * 300)[0].data) + 41
    assert len(pieces(b"x" * 300, chunk_size=size)) == 1
    assert len(pieces(b"x" * 300, chunk_size=size - 1)) == 2
    assert len(pieces(b"", chunk_size=1)) == 2


@pytest.mark.parametrize(("size", "chunk_size"), [(MAX_CHUNKS + 1, 1), (1, 0), (1, 60001)])
def test_what_cannot_be_cut(size: int, chunk_size: int) -> None:
    with pytest.raises(PolicyError):
        pieces(b"x" * size, chunk_size=chunk_size)


@pytest.mark.parametrize(
    "chunk",
    [
        CHUNK.make(1, 0, b'{"chunk_count":0,"payload":""}'),
        CHUNK.make(0, 0, b'{"chunk_count":0,"payload":""}', format=2),
        CHUNK.make(0, 0, b"payload"),
        CHUNK.make(0, 0, b"[]"),
        CHUNK.make(0, 0, b"{}"),
        CHUNK.make(0, 0, b'{"chunk_count":0}'),
        CHUNK.make(0, 0, b'{"chunk_count":0,"payload":5}'),
        CHUNK.make(0, 0, b'{"chunk_count":0,"payload":"a"}'),
        CHUNK.make(0, 0, '{"chunk_count":0,"payload":"ä"}'.encode()),
        CHUNK.make(0, 1, b'{"chunk_count":true}'),
        CHUNK.make(0, 1, b'{"chunk_count":"1"}'),
        CHUNK.make(0, 1, b'{"chunk_count":-1}'),
        CHUNK.make(0, 1025, b'{"chunk_count":1025}'),
        CHUNK.make(0, 65535, b'{"chunk_count":65535}'),
        CHUNK.make(0, 3, b'{"chunk_count":2}'),
    ],
)
def test_manifest_refused(chunk: CHUNK) -> None:
    with pytest.raises(FrameError):
        decode_manifest(chunk)


def test_hmac_of_a_manifest_is_ignored() -> None:
    assert decode_manifest(CHUNK.make(0, 0, b'{"chunk_count":0,"payload":"QQ=="}', hmac=b"x" * 32)).payload == b"A"


@pytest.mark.parametrize("picked", [[0], [1, 0], [0, 0], [0, 1, 1], []])
def test_chunks_that_do_not_fit(picked: list[int]) -> None:
    chunks = [CHUNK.make(1, 2, b"a"), CHUNK.make(2, 2, b"b")]
    assert join(Manifest(2), chunks) == b"ab"
    with pytest.raises(FrameError):
        join(Manifest(2), [chunks[number] for number in picked])
    with pytest.raises(FrameError):
        join(Manifest(2), [CHUNK.make(1, 3, b"a"), chunks[1]])
