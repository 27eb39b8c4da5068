"""Our own keys for messages, and opening what peers seal: during a roll-over either side has two.

We sign with the current key only.  Messages to us open with the current, the next or the previous one; a peer may sign
with any key that it publishes, of which two are tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcore.errors import SealError
from mpcore.node.directory import Contact
from mpcore.node.runtime import Sealing
from mpcore.wire.seal import PrivateKey, PublicKey

__all__ = ("OwnKeys",)


class OwnKeys:
    """The keys of one node.

    :param current: signs.
    :param others: open as well.
    """

    def __init__(self, current: PrivateKey, others: Sequence[PrivateKey] = ()) -> None:
        self.set(current, others)

    def set(self, current: PrivateKey, others: Sequence[PrivateKey]) -> None:
        """From now on the keys are these."""
        self.current, self.others = current, tuple(others)

    def open(self, sealing: Sealing, data: bytes, contact: Contact) -> tuple[bytes, PublicKey]:
        """The payload that *contact* has sealed for us, and the key that it has signed with.

        :raises SealError: no key of it and no key of ours fit; says what the first pair said.
        """
        first: SealError | None = None
        for sender in contact.keys:
            for own in (self.current, *self.others):
                try:
                    return sealing.unseal(data, sender, own), sender
                except SealError as error:
                    first = first or error
        assert first is not None
        raise first
