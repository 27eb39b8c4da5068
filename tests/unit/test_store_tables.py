"""The tables of the roles."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mpcore.actions import Store
from mpcore.errors import StoreError
from mpcore.store import agent, combiner, seen, serials, signer, state

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Key:
    sender: str = "agent.bravo.example."
    receiver: str = "agent.alpha.example."
    distribution_id: str = "6a12f0d0"
    type: str = "sync"
    digest: bytes = b"\x01" * 32


async def test_documents(tmp_path: Path) -> None:
    db = await agent.open_agent_database(tmp_path / "agent.db")
    await db.write(
        lambda c: state.apply_stores(
            c,
            [
                Store("term", "927d37e33fad5dee", {"term": 3}),
                Store("term", "927d37e33fad5dee", {"term": 4}),
                Store("sde-entry", "a", {"text": "ü\t1"}),
                Store("sde-entry", "b", {}),
                Store("sde-entry", "b", None),
            ],
        )
    )
    assert await db.read(state.load_state) == {
        "term": {"927d37e33fad5dee": {"term": 4}},
        "sde-entry": {"a": {"text": "ü\t1"}},
    }
    assert await db.read(lambda c: state.load_state(c, "term", "none")) == {
        "term": {"927d37e33fad5dee": {"term": 4}},
        "none": {},
    }
    with pytest.raises(ValueError, match="JSON"):
        await db.write(lambda c: state.put_state(c, "x", "y", {"n": float("nan")}))
    await db.write(lambda c: c.execute("UPDATE state SET value = '[]'"))
    with pytest.raises(StoreError, match="damaged"):
        await db.read(state.load_state)
    await db.close()


async def test_messages_seen_keep_their_first_answer_until_purged(tmp_path: Path) -> None:
    db = await combiner.open_combiner_database(tmp_path / "combiner.db")
    await db.write(lambda c: seen.remember_answer(c, Key(), b"first", 1000.0))
    await db.write(lambda c: seen.remember_answer(c, Key(), b"second", 2000.0))
    await db.write(lambda c: seen.remember_answer(c, replace(Key(), type="confirm"), b"other", 90000.0))
    assert await db.read(lambda c: seen.stored_answer(c, Key())) == b"first"
    for other in (
        replace(Key(), sender="x."),
        replace(Key(), digest=b"\x02" * 32),
        replace(Key(), distribution_id="1"),
    ):
        assert await db.read(lambda c, other=other: seen.stored_answer(c, other)) is None
    assert [answer for _, answer, _ in await db.read(lambda c: seen.load_seen(c, 0))] == [b"first", b"other"]
    assert await db.write(lambda c: seen.purge_seen(c, 90000.0)) == 1
    assert await db.read(lambda c: seen.stored_answer(c, Key())) is None
    assert await db.read(lambda c: seen.stored_answer(c, replace(Key(), type="confirm"))) == b"other"
    await db.close()


async def test_contributions(tmp_path: Path) -> None:
    db = await combiner.open_combiner_database(tmp_path / "combiner.db")
    row = combiner.ContributionRow(
        "example.", "agent.alpha.example.", b"\x07example\0", 2, b"\x02ns\0", 300, "example.\t300\tIN\tNS\tns.", 10.0
    )
    other = replace(row, zone="example.net.", originator="agent.bravo.example.")
    await db.write(lambda c: combiner.put_contributions(c, [row, other, replace(row, ttl=60, received_at=11.0)]))
    assert await db.read(combiner.load_contributions) == [replace(row, ttl=60, received_at=11.0), other]
    assert await db.read(lambda c: combiner.load_contributions(c, "example.net.")) == [other]
    await db.write(lambda c: combiner.delete_contributions(c, [row, replace(row, rdata=b"\x03ns9\0")]))
    assert await db.read(combiner.load_contributions) == [other]
    with pytest.raises(StoreError):
        await db.write(lambda c: combiner.put_contributions(c, [replace(row, rrtype=70000)]))
    assert combiner.ContributionRow.of("example.", row.contribution()) == row
    with pytest.raises(StoreError):
        replace(row, rrtype=16).contribution()
    await db.close()


async def test_serials(tmp_path: Path) -> None:
    db = await signer.open_signer_database(tmp_path / "signer.db")

    def fill(connection: sqlite3.Connection) -> None:
        serials.put_serial(connection, "b.", 1, 1.0)
        serials.put_serial(connection, "a.", 4294967295, 1.0)
        serials.put_serial(connection, "b.", 2, 2.0)
        serials.put_serial(connection, "c.", 2, 2.0)
        serials.delete_serial(connection, "c.")

    await db.write(fill)
    assert await db.read(serials.load_serials) == {"a.": 4294967295, "b.": 2}
    with pytest.raises(StoreError):
        await db.write(lambda c: serials.put_serial(c, "a.", 4294967296, 1.0))
    await db.close()


async def test_signing_keys(tmp_path: Path) -> None:
    db = await signer.open_signer_database(tmp_path / "signer.db")
    value = {
        "zone": "example.",
        "key_tag": 40321,
        "algorithm": 13,
        "flags": 257,
        "state": "created",
        "changed_at": 5.0,
        "pem": "-----BEGIN PRIVATE KEY-----",
    }
    await db.write(lambda c: signer.put_key(c, "example./40321/13", value))
    await db.write(lambda c: signer.put_key(c, "example./40321/13", {**value, "state": "active"}))
    await db.write(lambda c: signer.put_key(c, "example.net./1/13", {**value, "zone": "example.net.", "key_tag": 1}))
    assert await db.read(lambda c: signer.load_keys(c, "example.")) == {
        "example./40321/13": {**value, "state": "active"}
    }
    assert list(await db.read(signer.load_keys)) == ["example./40321/13", "example.net./1/13"]
    await db.write(lambda c: signer.put_key(c, "example.net./1/13", None))
    assert list(await db.read(signer.load_keys)) == ["example./40321/13"]
    with pytest.raises(StoreError):
        await db.write(lambda c: signer.put_key(c, "x", {}))
    await db.close()


async def test_a_role_does_not_open_another_roles_database(tmp_path: Path) -> None:
    await (await agent.open_agent_database(tmp_path / "x.db")).close()
    with pytest.raises(StoreError, match="something else"):
        await signer.open_signer_database(tmp_path / "x.db")
