"""A message that must arrive, as it waits in the queue and in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpcore.errors import MessageError
from mpcore.wire.messages import Message, decode_message

__all__ = ("OutboundEntry",)


@dataclass(frozen=True, slots=True)
class OutboundEntry:
    """One message in the queue.

    :param key: unique and growing; the key of its ``Store``.
    :param recipient: identity.
    :param message: what to say, the same in each attempt.
    :param distribution_id: 8 hexadecimal digits.
    :param enqueued_at: Unix seconds.
    :param tried: whether an attempt may have been made.
    """

    key: str
    recipient: str
    message: Message
    distribution_id: str
    enqueued_at: float
    tried: bool = False

    @property
    def zone(self) -> str:
        """The zone that it is about, ``""`` if none."""
        return self.message.zone_name

    def to_value(self) -> dict[str, Any]:
        """The entry as JSON-able value for a ``Store``."""
        return {
            "recipient": self.recipient,
            "distribution_id": self.distribution_id,
            "enqueued_at": self.enqueued_at,
            "message": self.message.to_json().decode(),
        }

    @classmethod
    def from_value(cls, key: str, value: Mapping[str, Any]) -> OutboundEntry:
        """The entry of a stored value; it counts as tried, for nobody knows.

        :raises MessageError: the value is damaged.
        """
        try:
            return cls(
                key=key,
                recipient=str(value["recipient"]),
                message=decode_message(str(value["message"]).encode()),
                distribution_id=str(value["distribution_id"]),
                enqueued_at=float(value["enqueued_at"]),
                tried=True,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MessageError(f"stored message {key} is damaged: {error!r}") from None
