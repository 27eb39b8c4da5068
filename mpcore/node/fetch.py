"""Fetching a payload that its sender keeps ready instead of sending it (guide, wire format, "Query mode").

The NOTIFY may name where.  Only a peer whose key is known is asked, and only at an address that was found for it: a
NOTIFY proves nothing about its sender, and a stranger must not be able to point us at somebody.
"""

from __future__ import annotations

import anyio

from mpcore.actions import RandomSource
from mpcore.errors import ExchangeError, FrameError
from mpcore.net.client import exchange
from mpcore.net.network import Network
from mpcore.node.directory import Contact
from mpcore.records import CHUNK
from mpcore.wire import frame
from mpcore.wire.chunks import decode_manifest, join

__all__ = ("MAX_PAYLOAD", "Fetcher")

MAX_PAYLOAD = 1 << 20
"""Octets of the largest payload that is fetched."""


class Fetcher:
    """Fetches payloads for one node.

    :param identity: ours.
    :param timeout: seconds for one payload, all its pieces included; senders wait 5 seconds for their answer.
    :param concurrency: payloads being fetched at once, from all peers; more are refused.
    """

    def __init__(
        self,
        identity: str,
        network: Network,
        random: RandomSource,
        *,
        local_host: str | None = None,
        timeout: float = 4.5,
        concurrency: int = 16,
    ) -> None:
        self._identity, self._network, self._random = identity, network, random
        self._local_host, self._timeout, self._free = local_host, timeout, concurrency
        self._under_way: set[str] = set()

    async def fetch(self, notify: frame.Notify, contact: Contact) -> bytes:
        """The payload of *notify*, which came without one.

        :raises ExchangeError: the sender cannot be reached there, takes too long, or too much is under way.
        :raises FrameError: what it keeps is no payload in pieces.
        """
        host, port = self._where(notify, contact)
        if not self._free or contact.identity in self._under_way:
            raise ExchangeError("too many payloads are being fetched")
        self._free -= 1
        self._under_way.add(contact.identity)
        try:
            with anyio.fail_after(self._timeout):
                return await self._fetch(notify, host, port)
        except TimeoutError:
            raise ExchangeError(f"the payload could not be had within {self._timeout:g} s") from None
        finally:
            self._free += 1
            self._under_way.discard(contact.identity)

    @staticmethod
    def _where(notify: frame.Notify, contact: Contact) -> tuple[str, int]:
        """The endpoint that the message names, if the peer has that address; else where the peer is reached."""
        if notify.endpoint is None:
            return contact.addresses[0]
        host, _, port = notify.endpoint.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if host not in [address for address, _ in contact.addresses]:
            raise FrameError(f"{host} is no address of {contact.identity}")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
            raise FrameError(f"{notify.endpoint} is no endpoint")
        return host, int(port)

    async def _fetch(self, notify: frame.Notify, host: str, port: int) -> bytes:
        manifest = decode_manifest(await self._piece(notify, host, port, 0))
        chunks: list[CHUNK] = []
        size = 0
        for number in range(1, manifest.chunk_count + 1):
            chunk = await self._piece(notify, host, port, number)
            size += len(chunk.data)
            if size > MAX_PAYLOAD:
                raise FrameError(f"the payload has more than {MAX_PAYLOAD} octets")
            chunks.append(chunk)
        return join(manifest, chunks)

    async def _piece(self, notify: frame.Notify, host: str, port: int, sequence: int) -> CHUNK:
        name = frame.chunk_name(self._identity, notify.distribution_id, notify.sender, sequence)
        query_id = self._random.getrandbits(16)
        octets = frame.encode_chunk_query(query_id, name)
        answer = await exchange(
            self._network,
            octets,
            host,
            port,
            over_tcp=True,
            timeout=self._timeout,
            local_host=self._local_host,
        )
        found = frame.decode_chunk_answer(answer, query_id, name)
        if found.chunk is None:
            raise FrameError(f"there is no chunk {sequence} (rcode {found.rcode})")
        return found.chunk
