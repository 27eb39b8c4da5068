"""Every error of the library: one root, two halves.

:class:`LocalError` is ours: a wrong call, a wrong configuration, a full disk.  :class:`RemoteError` is the other
side's: an octet string, a message or a zone that does not follow the rules.  Decoders raise only subclasses of
:class:`RemoteError`; whatever a library underneath raises is converted at the door of the room that called it.
"""

from __future__ import annotations

__all__ = (
    "AuthorizationError",
    "BogusError",
    "ConfigError",
    "ConflictError",
    "DeliveryError",
    "ExchangeError",
    "FrameError",
    "LocalError",
    "MasterFileError",
    "MessageError",
    "MpError",
    "NotFoundError",
    "NotReadyError",
    "PolicyError",
    "QueueFullError",
    "RecordError",
    "RemoteError",
    "ReplayError",
    "ResolutionError",
    "SealError",
    "Sig0Error",
    "StoreError",
    "StoreFullError",
    "TransferError",
    "TsigError",
    "UnknownTypeError",
    "UpdateError",
    "ZoneError",
    "ZoneRefusedError",
)


class MpError(Exception):
    """Root of all errors of this library; never raised itself."""


class LocalError(MpError):
    """Something on our side is wrong."""


class RemoteError(MpError):
    """Something that came from outside is wrong."""


class ConfigError(LocalError):
    """A configuration file cannot be used.

    :param message: what is wrong, naming the value.
    :param file: path of the file, or ``None`` when the value did not come from a file.
    :param key: dotted path of the key, or ``None`` for the file as a whole.
    :param line: 1-based line number, or ``None``.
    """

    def __init__(
        self, message: str, *, file: str | None = None, key: str | None = None, line: int | None = None
    ) -> None:
        self.message, self.file, self.key, self.line = message, file, key, line
        where = ":".join(str(part) for part in (file, line) if part is not None)
        what = f"{key}: {message}" if key else message
        super().__init__(f"{where}: {what}" if where else what)


class StoreError(LocalError):
    """The database refused or failed an operation; nothing of the transaction was kept."""


class StoreFullError(StoreError):
    """The disk is full: writes are refused until there is room, reading goes on."""


class NotReadyError(LocalError):
    """The node cannot do this yet (zone not loaded, peer not known); asking again later may work."""


class NotFoundError(LocalError):
    """The thing named does not exist here."""


class ConflictError(LocalError):
    """The request contradicts the present state."""


class PolicyError(LocalError):
    """A change is refused by the zone's policy (HSYNCPARAM) or by the limits of the wire format."""


class RecordError(RemoteError):
    """A resource record or EDNS option does not parse."""


class FrameError(RemoteError):
    """A DNS message is not a well-formed NOTIFY(CHUNK), CHUNK query or answer.

    :param rcode: RCODE to answer it with (RFC 1035, section 4.1.1), or ``None``: do not answer.
    """

    def __init__(self, message: str, *, rcode: int | None = 1) -> None:
        self.message, self.rcode = message, rcode
        super().__init__(message)


class SealError(RemoteError):
    """A sealed payload does not verify, does not open, or is not in the one form that is accepted."""


class MessageError(RemoteError):
    """The JSON of a peer message does not fit its type."""


class AuthorizationError(RemoteError):
    """The sender may not send this."""


class ReplayError(RemoteError):
    """The message was seen before, or is too old to be new."""


class ZoneError(RemoteError):
    """A zone breaks a rule (no SOA, two HSYNCPARAM records, a record outside the zone, ...)."""


class MasterFileError(ZoneError):
    """A master file (RFC 1035, section 5) does not parse; names file and line."""

    def __init__(self, message: str, *, file: str, line: int) -> None:
        self.message, self.file, self.line = message, file, line
        super().__init__(f"{file}:{line}: {message}")


class TransferError(RemoteError):
    """A zone transfer failed or was refused."""


class TsigError(RemoteError):
    """A TSIG (RFC 8945) is missing, unknown or wrong.

    :param rcode: response code for the answer to such a request: NOTAUTH (9), or FORMERR (1) if it does not parse.
    :param error: value for the Error field of the answer's TSIG: BADSIG (16), BADKEY (17), BADTIME (18), BADTRUNC (22);
        0 if the answer has no TSIG.
    """

    def __init__(self, message: str, *, rcode: int = 9, error: int = 0) -> None:
        self.rcode, self.error = rcode, error
        super().__init__(message)


class ExchangeError(RemoteError):
    """No usable answer to a DNS query: time-out, connection refused, garbage."""


class DeliveryError(RemoteError):
    """A peer message was not acknowledged."""


class ResolutionError(RemoteError):
    """A name could not be resolved."""


class BogusError(ResolutionError):
    """An answer failed DNSSEC validation (RFC 4035, section 5)."""


class UnknownTypeError(MessageError):
    """The type of a peer message is not known; the sender is told that it is unsupported."""


class QueueFullError(LocalError):
    """The delivery queue has no room for another message; it empties when peers acknowledge what waits for them."""


class Sig0Error(RemoteError):
    """A transaction signature by public key (SIG(0), RFC 2931) is malformed, unknown or wrong.

    :param rcode: extended RCODE of the answer: FORMERR (1), BADSIG (16), BADKEY (17) or BADTIME (18).
    """

    def __init__(self, message: str, *, rcode: int = 1) -> None:
        self.rcode = rcode
        super().__init__(message)


class UpdateError(RemoteError):
    """A dynamic update (RFC 2136) is malformed, not permitted, or its prerequisites are not met.

    :param rcode: RCODE of the answer (RFC 2136, section 2.2): 1 to 10.
    """

    def __init__(self, message: str, *, rcode: int = 1) -> None:
        self.rcode = rcode
        super().__init__(message)


class ZoneRefusedError(RemoteError):
    """A version of a zone that came from a primary is not taken; the one in service stays."""
