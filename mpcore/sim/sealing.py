"""Sealing in a simulation: pass-through or real, and in either case with the plaintext put on record."""

from __future__ import annotations

from collections.abc import Callable

from mpcore.errors import SealError
from mpcore.node.runtime import Sealing
from mpcore.wire.seal import PrivateKey, PublicKey

__all__ = ("PlainSealing", "RecordedSealing")

_MARK = b"simulated"


class PlainSealing:
    """Clear text with the names of both keys in front: as strict as JOSE about who and for whom, and free of cost."""

    def seal(
        self,
        plaintext: bytes,
        sender: PrivateKey,
        recipient: PublicKey,
        recipient_identity: str,
        now: float,
    ) -> bytes:
        """See :class:`mpcore.node.runtime.Sealing`."""
        return b" ".join((_MARK, _tag(sender.public()), _tag(recipient), plaintext))

    def unseal(self, data: bytes, sender: PublicKey, recipient: PrivateKey) -> bytes:
        """See :class:`mpcore.node.runtime.Sealing`.

        :raises SealError: another key sealed it, or it is for another one.
        """
        mark, _, rest = data.partition(b" ")
        author, _, rest = rest.partition(b" ")
        reader, _, plaintext = rest.partition(b" ")
        if mark != _MARK or author != _tag(sender):
            raise SealError("the signature does not verify")
        if reader != _tag(recipient.public()):
            raise SealError("it is encrypted for somebody else")
        return plaintext


def _tag(key: PublicKey) -> bytes:
    return key.to_jwk()["x"].encode("ascii")


class RecordedSealing:
    """Another sealing, of which every plaintext is reported as it leaves.

    :param on_sent: called with the identity of the recipient and the plaintext.
    """

    def __init__(self, inner: Sealing, on_sent: Callable[[str, bytes], None]) -> None:
        self._inner, self._on_sent = inner, on_sent

    def seal(
        self,
        plaintext: bytes,
        sender: PrivateKey,
        recipient: PublicKey,
        recipient_identity: str,
        now: float,
    ) -> bytes:
        """See :class:`mpcore.node.runtime.Sealing`."""
        self._on_sent(recipient_identity, plaintext)
        return self._inner.seal(plaintext, sender, recipient, recipient_identity, now)

    def unseal(self, data: bytes, sender: PublicKey, recipient: PrivateKey) -> bytes:
        """See :class:`mpcore.node.runtime.Sealing`."""
        return self._inner.unseal(data, sender, recipient)
