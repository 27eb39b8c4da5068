"""A secondary that serves what it has transferred to other secondaries: our transfers in a process that can be killed.

Its one argument is JSON: addresses and ports to listen at, of the primary and of secondaries, and the TSIG key.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread

from mpcore.net.acl import Acl
from mpcore.net.clock import SystemClock
from mpcore.net.messages import AXFR, IXFR, NOTIFY, QUERY, SOA
from mpcore.net.network import InternetNetwork
from mpcore.net.notify import Notifier, NotifyReceiver
from mpcore.net.remote import RemoteServer
from mpcore.net.secondary import SecondaryZone
from mpcore.net.server import DnsServer
from mpcore.net.transfer import TransferServer, settle
from mpcore.zone.answer import Responder
from mpcore.zone.journal import Journal
from mpcore.zone.owners import from_text
from mpcore.zone.tsig import TsigKey
from mpcore.zone.version import ZoneVersion

__all__ = ("start",)

ORIGIN = from_text("customer.example.")


def start(
    listen: tuple[str, int], primary: tuple[str, int], notify: list[tuple[str, int]], key: tuple[str, str, str]
) -> subprocess.Popen[bytes]:
    """Start one, and wait until it listens.

    :param key: name, algorithm and secret.
    """
    settings = json.dumps({"listen": listen, "primary": primary, "notify": notify, "key": key})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.peers.relay", settings],
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


async def main(settings: dict[str, list[object]]) -> None:
    """Run until killed."""
    network, clock, random = InternetNetwork(), SystemClock(), Random()
    key = TsigKey.from_text(*map(str, settings["key"]))
    host, port = str(settings["listen"][0]), int(str(settings["listen"][1]))
    zones: dict[bytes, ZoneVersion] = {}
    journal = Journal()
    targets = {ORIGIN: [RemoteServer(*target, key.name_text) for target in settings["notify"]]}  # type: ignore[misc]
    notifier = Notifier(network, targets, {key.name: key}, clock=clock, random=random, local_host=host)

    async def on_version(version: ZoneVersion) -> None:
        journal.record(zones.get(ORIGIN), version)
        await settle(journal, anyio.to_thread.run_sync)
        zones[ORIGIN] = version
        notifier.notify(version)

    primary = RemoteServer(*settings["primary"], key.name_text)  # type: ignore[arg-type]
    zone = SecondaryZone(
        network,
        ORIGIN,
        [primary],
        {key.name: key},
        clock=clock,
        on_version=on_version,
        min_refresh=1.0,
        max_refresh=1.0,
        local_host=host,
        run=anyio.to_thread.run_sync,
    )
    server = DnsServer(network, [(host, port)], keyring={key.name: key})
    transfers = TransferServer(zones, Acl.of([("127.0.0.0/8", key.name_text)]), journals={ORIGIN: journal})
    responder = Responder(zones)
    server.register_query(lambda octets, source, tcp: responder.respond(octets, over_tcp=tcp))
    server.register(transfers.handle, QUERY, AXFR)
    server.register(transfers.handle, QUERY, IXFR)
    server.register(NotifyReceiver({ORIGIN: zone}).handle, NOTIFY, SOA)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.serve)
        await tasks.start(notifier.run)
        tasks.start_soon(zone.run)
        sys.stdout.write("ready\n")
        sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]))
