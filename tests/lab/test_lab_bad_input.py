"""Bad input at the doors of running processes: files, zones, datagrams, connections, messages."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpcore.wire.seal import PrivateKey
from tests.lab.laboratory import PROJECT, Lab, ask, eventually, lab_command, records

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab"), pytest.mark.timeout(120)]

ROLES = ("agent", "combiner", "signer")


# --------------------------------------------------------------------------------------------------------------- files


def _start(role: str, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"daemons.{role}", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("change", "key", "text"),
    [
        (lambda text: text.replace("port: 5300", "port: 70000", 1), "listen[0].port", "65535"),
        (lambda text: text.replace("key_file", "key_fiel", 1), "key_fiel", "key_file"),
        (lambda text: f"{text}identity: second.example.\n", "identity", "line 1"),
        (lambda text: text.replace("port: 5300", "port: [5300", 1), "", "not YAML"),
        (lambda text: text.replace("address: 127", "address: no address 127", 1), "listen[0].address", "not an IP"),
    ],
    ids=["out of range", "misspelt", "twice", "no YAML", "no address"],
)
def test_a_malformed_configuration(
    lab: Lab, tmp_path: Path, role: str, change: Callable[[str], str], key: str, text: str
) -> None:
    """Exit status 2, and a line that begins with file, line and key."""
    original = lab.layout.files(lab.provider("alpha"), role) / "config.yaml"
    config = tmp_path / "config.yaml"
    damaged = change(original.read_text())
    assert damaged != original.read_text()
    config.write_text(damaged)
    done = _start(role, config)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    for line in lines:
        assert line.startswith(f"{config}:"), done.stderr
    numbered = dict(reversed(line.removeprefix(f"{config}:").split(": ", 1)) for line in lines)
    (said,) = [said for said in numbered if said.startswith(key)]
    assert text in said
    if key:
        assert key.rpartition(".")[2] in damaged.splitlines()[int(numbered[said]) - 1], done.stderr


@pytest.mark.parametrize(
    ("zone", "line"),
    [
        ("$ORIGIN bad.example.\n@ 60 IN SOA ns.example. host.example. 1 2 3 4 5\nwww 60 IN A 192.0.2.300\n", 3),
        ("$ORIGIN bad.example.\n@ 60 IN SOA ns.example. host.example. 1 2 3 4\n", 2),
        ('$ORIGIN bad.example.\n@ 60 IN SOA ns.example. host.example. 1 2 3 4 5\n@ 60 IN TXT "open\n', 3),
        ("$ORIGIN bad.example.\n@ 60 IN SOA ns.example. host.example. 1 2 3 4 5\nwww.other. 60 IN A 192.0.2.1\n", 3),
        ("$ORIGIN bad.example.\nwww 60 IN A 192.0.2.1\n", None),
    ],
    ids=["address", "SOA", "quotes", "outside", "no SOA"],
)
def test_a_malformed_zone_file(tmp_path: Path, zone: str, line: int | None) -> None:
    """The lab does not start, and says which line of the file is to blame."""
    file = tmp_path / "bad.zone"
    file.write_text(zone)
    done = lab_command("run", "--zone-file", str(file), "--state-dir", str(tmp_path / "lab"))
    assert done.returncode == 2, done.stdout
    (event,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert event["event"] == "failed"
    assert event["message"].startswith(f"{file}:{line}:" if line else f"{file}:"), event


def test_a_missing_zone_file(tmp_path: Path) -> None:
    """Named, with the exit status for it."""
    missing = lab_command("run", "--zone-file", str(tmp_path / "none"), "--state-dir", str(tmp_path / "lab"))
    assert missing.returncode == 2
    assert str(tmp_path / "none") in missing.stdout


# ------------------------------------------------------------------------------------------------------------- sockets


def _listeners(lab: Lab) -> list[tuple[str, str]]:
    """Name and address of everybody who listens."""
    world = [(f"world .{last}", lab.layout.address(last)) for last in (1, 2, 3, 4, 5)]
    return world + [(daemon.name, daemon.address) for provider in lab.providers for daemon in provider.daemons]


def _junk(seed: int) -> list[bytes]:
    """Datagrams that are nothing, almost something, or something cut off."""
    source = random.Random(seed)
    whole = (
        struct.pack("!6H", 7, 0x2400, 1, 0, 0, 0) + b"\x0812345678\x05agent\x05alpha\x07example\0" + b"\xff\x08\0\x01"
    )
    query = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x08customer\x07example\0\0\x06\0\x01"
    loop = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\x06\0\x01"
    found = [b"", b"\0", bytes(12), b"\xff" * 512, loop, whole, whole[:-3], query[:-2], query + b"tail"]
    found += [source.randbytes(source.randrange(1, 600)) for _ in range(30)]
    for base in (whole, query):
        for _ in range(30):
            damaged = bytearray(base)
            for _ in range(source.randrange(1, 5)):
                damaged[source.randrange(len(damaged))] = source.randrange(256)
            found.append(bytes(damaged))
    return found


def _pour(connection: socket.socket, octets: bytes) -> None:
    """Send, and read until the other side has had enough."""
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def test_garbage_at_every_port(lab: Lab) -> None:
    """Datagrams and connections full of junk: everybody keeps answering, nothing changes, no log has a traceback."""
    listeners = _listeners(lab)
    before = {name: ask(address, lab.port, lab.zone, "SOA").rcode() for name, address in listeners}
    held = {provider.label: lab.combiner(provider.label).contributions(lab.zone) for provider in lab.providers}
    for seed, (_, address) in enumerate(listeners):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for junk in _junk(seed):
                udp.sendto(junk, (address, lab.port))
        for junk in _junk(1000 + seed)[::4]:
            for octets in (junk, struct.pack("!H", len(junk)) + junk, struct.pack("!H", 65535) + junk):
                _pour(socket.create_connection((address, lab.port), timeout=5), octets)
    for name, address in listeners:
        assert ask(address, lab.port, lab.zone, "SOA").rcode() == before[name], name
    assert {provider.label: lab.combiner(provider.label).contributions(lab.zone) for provider in lab.providers} == held
    lab.assert_clean_logs()


def test_garbage_at_every_control_socket(lab: Lab) -> None:
    """The operator's sockets: junk is answered with an error or closed, and the service goes on."""
    for provider in lab.providers:
        for daemon in provider.daemons:
            for octets in (b"\0" * 100, b"GET\r\n\r\n", b"POST /v1/zones/x/changes HTTP/1.1\r\n\r\n{", b"x" * 70000):
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(5)
                connection.connect(daemon.control_socket)
                _pour(connection, octets)
    for provider in lab.providers:
        assert lab.agent(provider.label).status().ready
        assert lab.combiner(provider.label).status().ready
        assert lab.signer(provider.label).status().ready


# ------------------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize("kind", ["clear", "wrong key", "for another", "unknown sender"])
def test_a_message_without_proof_changes_nothing(lab: Lab, kind: str) -> None:
    """REFUSED, without a word why, and the combiner's contributions and zone stay as they are."""
    record = f"{lab.zone} 3600 IN NS ns.forged.example."
    agent = lab.stand_in("alpha", "combiner")
    update = agent.update(lab.zone, "add", record)
    held = lab.combiner("alpha").contributions(lab.zone)
    serial = records(agent.peer.address, lab.port, lab.zone, "SOA")
    match kind:
        case "clear":
            answer = agent.send(update, agent.new_id(), clear=True)
        case "wrong key":
            answer = agent.send(update, agent.new_id(), key=PrivateKey.generate())
        case "for another":
            other = update.model_copy(update={"your_identity": lab.provider("bravo").combiner.identity})
            answer = agent.send(other, agent.new_id())
        case _:
            agent.identity = lab.provider("bravo").agent.identity
            answer = agent.send(update, agent.new_id())
    assert answer == (5, None)
    assert lab.combiner("alpha").contributions(lab.zone) == held
    assert records(agent.peer.address, lab.port, lab.zone, "SOA") == serial


def test_a_repeated_message_is_processed_once(lab: Lab) -> None:
    """The same octets again get the same answer, and change nothing a second time."""
    record = f"{lab.zone} 3600 IN NS ns.repeated.example."
    agent = lab.stand_in("alpha", "combiner")
    lab.kill("alpha.agent")
    with agent:
        add, name = agent.update(lab.zone, "add", record), agent.new_id()
        first = agent.send(add, name)
        agent.wait_for_confirm(name)
        serial = records(agent.peer.address, lab.port, lab.zone, "SOA")
        delete, removal = agent.update(lab.zone, "delete", record), agent.new_id()
        agent.send(delete, removal)
        agent.wait_for_confirm(removal)
        eventually(lambda: records(agent.peer.address, lab.port, lab.zone, "SOA") != serial, "the record is gone")
        assert agent.send(add, name) == first
        assert "ns.repeated.example." not in records(agent.peer.address, lab.port, lab.zone, "NS")
    lab.start("alpha.agent")
