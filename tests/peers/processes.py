"""One daemon as a process, configured for a test: files, start, end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from daemons.lab.layout import Daemon
from mpcore.records import HSYNC3, HSYNCPARAM
from mpcore.wire.seal import PrivateKey, write_private_key, write_public_key
from tests.lab.laboratory import PROJECT, Control
from tests.peers.servers import KEY, Key, free_port, loopback_address
from tests.peers.standin import Recipient, StandIn

__all__ = ("AGENTS", "DaemonProcess", "generic", "multi_provider_records", "server")

#: Identities of the agents by label.
AGENTS = {label: f"agent.{label}.example." for label in ("alpha", "bravo")}


def server(address: str, port: int, key: Key | None = KEY) -> dict[str, Any]:
    """A primary or secondary in a configuration file."""
    return {"address": address, "port": port} | ({"tsig_key": key.name} if key is not None else {})


def generic(owner: str, rdtype: int, rdata: bytes, ttl: int = 3600) -> str:
    """A record in the form of RFC 3597, which every name server reads."""
    return f"{owner} {ttl} TYPE{rdtype} \\# {len(rdata)} {rdata.hex()}"


def multi_provider_records(zone: str, signers: tuple[str, ...] = ("alpha", "bravo")) -> list[str]:
    """HSYNC3 and HSYNCPARAM of a zone of two providers, in generic form."""
    lines = [generic(zone, 65285, HSYNC3.make(label, identity).to_wire()) for label, identity in AGENTS.items()]
    parameters = HSYNCPARAM.make(nsmgmt="agent", parentsync="owner", servers=list(AGENTS), signers=list(signers))
    return [*lines, generic(zone, 65286, parameters.to_wire())]


class DaemonProcess:
    """``mpcombiner`` or ``mpsigner`` of provider alpha; a context manager.

    :param role: ``combiner`` or ``signer``.
    :param zones: the member ``zones`` of its configuration.
    """

    def __init__(self, role: str, zones: list[dict[str, Any]], **more: Any) -> None:
        self.role = role
        self.identity = f"{role}.alpha.example."
        self.address = loopback_address()
        self.port = free_port(self.address)
        self.directory = Path(tempfile.mkdtemp(prefix=f"mp{role}-"))
        self.zones, self._more = zones, more
        key, agent_key = PrivateKey.generate(), PrivateKey.generate()
        agent_address = loopback_address()
        self._config: Mapping[str, Any] = {
            "identity": self.identity,
            "provider": "alpha",
            "state_dir": "state",
            "control_socket": "run/control",
            "listen": [{"address": self.address, "port": self.port}],
            "key_file": "key.jwk",
            "tsig_keys_file": "tsig.yaml",
            "agents": [
                {
                    "identity": AGENTS["alpha"],
                    "address": agent_address,
                    "port": self.port,
                    "public_key_file": "agent.pub.jwk",
                }
            ],
        }
        self._write("key.jwk", write_private_key(key))
        self._write("agent.pub.jwk", write_public_key(agent_key.public()))
        peer = Recipient(self.identity, key.public(), self.address, self.port)
        self.agent = StandIn(AGENTS["alpha"], agent_key, agent_address, self.port, peer)
        self._process: subprocess.Popen[bytes] | None = None

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.directory / "log").read_text()

    @property
    def control(self) -> Control:
        """Its control service."""
        socket = str(self.directory / "run" / "control")
        return Control(Daemon(self.role, self.role, self.identity, self.address, "", "", socket))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        keys = [{"name": KEY.name, "algorithm": KEY.algorithm, "secret": KEY.secret}]
        self._write("tsig.yaml", yaml.safe_dump(keys))
        self._write("config.yaml", yaml.safe_dump({**self._config, "zones": self.zones, **self._more}))
        config = str(self.directory / "config.yaml")
        reading, writing = os.pipe()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"daemons.{self.role}", "run", "--ready-fd", str(writing), config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )
        os.close(writing)
        with os.fdopen(reading) as ready:
            line = ready.readline()
        assert line == f"ready {self.identity}\n", self.log

    def kill(self) -> None:
        """End it at once (SIGKILL); its files stay, and :meth:`start` starts it again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it with SIGTERM; its log must tell of no surprise."""
        assert self._process is not None
        self._process.terminate()
        try:
            status = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        assert status == 0, self.log
        assert "Traceback" not in self.log, self.log
