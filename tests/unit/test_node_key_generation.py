"""Keys that take long to make are made away from the event loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from mpcore.node import signer
from mpcore.zone.owners import from_text
from tests.node_world import CUSTOMER, World

pytestmark = pytest.mark.anyio


async def test_rsa_keys_are_made_in_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[bool, bool]] = []  #: KSK, and whether the event loop's thread made it
    loop, real = threading.get_ident(), signer.generate_signing_key

    def generate(zone: str, algorithm: int, ksk: bool, now: float, **options: Any) -> Any:
        made.append((ksk, threading.get_ident() == loop))
        return real(zone, algorithm, ksk, now, **options)

    monkeypatch.setattr(signer, "generate_signing_key", generate)
    origin = from_text(CUSTOMER)
    world = World(tmp_path, providers=("alpha", "bravo"))
    async with world.open():
        await world.start("combiner", "alpha")
        node = await world.start("signer", "alpha", algorithm="RSASHA256")
        await world.until(lambda: origin in node.served, 60, "signed")
        assert sorted(made) == [(False, False), (True, False)]
        assert {key.algorithm for key in node.keys(CUSTOMER)} == {8}
