"""A stand-in for an agent: it sends sealed messages by hand, and takes those that are sent to it, on plain sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mpcore.errors import SealError
from mpcore.wire import frame
from mpcore.wire.messages import (
    Acknowledgement,
    Confirm,
    Message,
    Operation,
    Ping,
    Update,
    decode_acknowledgement,
    decode_message,
    rfc3339,
)
from mpcore.wire.seal import PrivateKey, PublicKey, seal, unseal

__all__ = ("Recipient", "StandIn", "tcp_exchange")

_PATIENCE = 20.0


@dataclass(frozen=True)
class Recipient:
    """To whom messages are sent."""

    identity: str
    key: PublicKey
    address: str
    port: int


def tcp_exchange(address: str, port: int, octets: bytes, *, timeout: float = 5.0) -> bytes:
    """One DNS message over TCP and its answer; empty: the server closed the connection."""
    with socket.create_connection((address, port), timeout=timeout) as connection:
        connection.sendall(struct.pack("!H", len(octets)) + octets)
        return _read_message(connection)


def _read_message(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        length = stream.read(2)
        return stream.read(int.from_bytes(length)) if len(length) == 2 else b""


class StandIn:
    """An agent of flesh: what it has is a name, a key and an address.

    As a context manager it listens at its address, acknowledges every message and keeps it in :attr:`received`.

    :param port: of itself and of everybody it talks with.
    """

    def __init__(self, identity: str, key: PrivateKey, address: str, port: int, peer: Recipient) -> None:
        self.identity, self.key, self.address, self.port, self.peer = identity, key, address, port, peer
        self.received: list[tuple[str, Message]] = []
        self._arrived = threading.Condition()
        self._counter = int(time.time())

    # ---- sending

    def new_id(self) -> str:
        """A distribution id not used before."""
        self._counter += 1
        return f"{self._counter & 0xFFFFFFFF:08x}"

    def update(self, zone: str, operation: str, record: str) -> Update:
        """An UPDATE of one record."""
        return Update(
            originator_id=self.identity,
            your_identity=self.peer.identity,
            zone=zone,
            operations=[Operation(operation=operation, rrtype=record.split()[3], records=[record])],
            time=rfc3339(time.time()),
            nonce="0" * 32,
        )

    def send(
        self, message: Message, distribution_id: str, *, key: PrivateKey | None = None, clear: bool = False
    ) -> tuple[int, Acknowledgement | None]:
        """Send *message*; returns the rcode and the inline answer.

        :param key: sign with this one instead of our own.
        :param clear: do not seal.
        """
        data = message.to_json()
        if not clear:
            data = seal(data, key or self.key, self.peer.key, self.peer.identity, time.time())
        number = frame.FORMAT_CLEAR if clear else frame.FORMAT_SEALED
        octets = frame.encode_notify(4711, distribution_id, self.identity, data=data, format=number)
        response = frame.decode_response(tcp_exchange(self.peer.address, self.peer.port, octets), 4711)
        if response.data is None:
            return response.rcode, None
        return response.rcode, decode_acknowledgement(unseal(response.data, self.peer.key, self.key))

    def greet(self) -> None:
        """A ping: who has something for us learns that we are back."""
        ping = Ping(
            my_identity=self.identity, your_identity=self.peer.identity, nonce="1" * 16, time=rfc3339(time.time())
        )
        rcode, answer = self.send(ping, self.new_id())
        assert (rcode, answer.type if answer else "") == (0, "ping_confirm")

    # ---- receiving

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.address, self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        octets = _read_message(connection)
        if not octets:
            return
        notify = frame.decode_notify(octets)
        assert notify.data is not None
        try:
            message = decode_message(unseal(notify.data, self.peer.key, self.key))
        except SealError:
            return  # of another party that knows the one we stand in for
        answer = Acknowledgement(
            type="confirm", distribution_id=notify.distribution_id, status="ok", message="", timestamp=int(time.time())
        )
        sealed = seal(answer.to_json(), self.key, self.peer.key, self.peer.identity, time.time())
        reply = frame.encode_response(notify, 0, sealed)
        connection.sendall(struct.pack("!H", len(reply)) + reply)
        with self._arrived:
            self.received.append((notify.distribution_id, message))
            self._arrived.notify_all()

    def wait_for_confirm(self, distribution_id: str) -> Confirm:
        """The final confirmation of a message of ours."""

        def found() -> Confirm | None:
            for name, message in self.received:
                if name == distribution_id and isinstance(message, Confirm) and message.status != "PENDING":
                    return message
            return None

        with self._arrived:
            confirm = self._arrived.wait_for(found, timeout=_PATIENCE)
        assert confirm is not None, f"no CONFIRM of {distribution_id}; received: {self.received}"
        return confirm
