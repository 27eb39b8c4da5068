"""HSYNCPARAM (type 65286): the roles and rules of a zone, one record at the apex (guide, wire format, "HSYNCPARAM").

RDATA: pairs of key (16 bits), length (16 bits) and value, in strictly increasing order of keys, like the parameters of
SVCB (RFC 9460, section 2.2).  Text: ``nsmgmt="agent" servers="alpha,bravo" pubkey key100="hi"``, in any order.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import Final

import dns.immutable
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.wire

from mpcore.records._common import PrivateRdata, generic_text, octets_of, quoted

__all__ = ("HSYNCPARAM", "HSYNCPARAM_TYPE")

HSYNCPARAM_TYPE: Final = 65286
"""Type number, of the range for private use."""

_NSMGMT, _PARENTSYNC, _SERVERS, _SIGNERS, _PUBKEY, _PUBCDS, _SUFFIX, _AUDITORS = range(8)
_RESERVED = 65535

_NAMES: Final = {
    _NSMGMT: "nsmgmt",
    _PARENTSYNC: "parentsync",
    _SERVERS: "servers",
    _SIGNERS: "signers",
    _PUBKEY: "pubkey",
    _PUBCDS: "pubcds",
    _SUFFIX: "suffix",
    _AUDITORS: "auditors",
}
_KEYS: Final = {name: key for key, name in _NAMES.items()}
_WORDS: Final = {  # the two words and their octets; note that they differ
    _NSMGMT: {"owner": b"\x01", "agent": b"\x02"},
    _PARENTSYNC: {"owner": b"\x00", "agent": b"\x01"},
}
_LISTS: Final = frozenset((_SERVERS, _SIGNERS, _AUDITORS))
_FLAGS: Final = frozenset((_PUBKEY, _PUBCDS))
_SUFFIX_LABEL = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_LIST_TEXT = re.compile(rb"(?:[!#-+\--\[\]-~]+(?:,[!#-+\--\[\]-~]+)*)?\Z")
"""Lists that read back from text as the same octets: no blank, quote or backslash, no empty item."""
_KEY_NUMBER = re.compile(r"key(0|[1-9][0-9]{0,4})\Z", re.ASCII)


def _check(key: int, value: bytes) -> None:
    if not 0 <= key < _RESERVED:
        raise ValueError(f"key {key} is reserved")
    if len(value) > 65535:
        raise ValueError(f"value of key {key} is too long")
    if key in _WORDS and len(value) != 1:
        raise ValueError(f"{_NAMES[key]} is not one octet")
    if key in _FLAGS and value:
        raise ValueError(f"{_NAMES[key]} has a value")
    if key == _SUFFIX and not _SUFFIX_LABEL.match(value):
        raise ValueError("suffix is not a label of letters, digits and hyphens")


def _split(value: bytes) -> tuple[str, ...]:
    return tuple(item.decode("ascii", "backslashreplace") for item in value.split(b",")) if value else ()


@dns.immutable.immutable
class HSYNCPARAM(PrivateRdata):
    """The roles and rules of a zone.

    :ivar params: (key, value) pairs in increasing order of keys.
    """

    __slots__ = ["params"]

    TYPE = HSYNCPARAM_TYPE

    params: tuple[tuple[int, bytes], ...]

    def __init__(
        self,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        params: Iterable[tuple[int, bytes]],
    ) -> None:
        super().__init__(rdclass, rdtype)
        self.params = tuple((int(key), bytes(value)) for key, value in params)
        previous = -1
        for key, value in self.params:
            if key <= previous:
                raise ValueError("keys are not in strictly increasing order")
            _check(key, value)
            previous = key
        if sum(4 + len(value) for _, value in self.params) > 65535:
            raise ValueError("more octets than any RDATA has")

    @classmethod
    def make(
        cls,
        *,
        nsmgmt: str | None = None,
        parentsync: str | None = None,
        servers: Iterable[str] | None = None,
        signers: Iterable[str] | None = None,
        auditors: Iterable[str] | None = None,
        pubkey: bool = False,
        pubcds: bool = False,
        suffix: str | None = None,
        other: Iterable[tuple[int, bytes]] = (),
    ) -> HSYNCPARAM:
        """A new record; what is ``None`` (or ``False``) is left out.

        :param nsmgmt: who maintains the NS RRset, ``owner`` or ``agent``.
        :param parentsync: who talks to the parent, ``owner`` or ``agent``.
        :param servers: labels of the providers that serve the zone and contribute data.
        :param signers: labels of the providers that sign it.
        :param auditors: labels of those that only observe.
        :param pubkey: whether providers publish the SIG(0) KEY.
        :param pubcds: whether providers publish CDS and CDNSKEY.
        :param suffix: label below the apex for names of name servers.
        :param other: further (key, value) pairs.
        :raises ValueError: a word or label is not usable, or a key occurs twice.
        """
        pairs = list(other)
        for key, word in ((_NSMGMT, nsmgmt), (_PARENTSYNC, parentsync)):
            if word is not None:
                if word not in _WORDS[key]:
                    raise ValueError(f"{_NAMES[key]}: {word!r} is neither owner nor agent")
                pairs.append((key, _WORDS[key][word]))
        for key, labels in ((_SERVERS, servers), (_SIGNERS, signers), (_AUDITORS, auditors)):
            if labels is not None:
                bare = [label.removesuffix(".").encode("ascii") for label in labels]
                value = b",".join(bare)
                if not all(bare) or not _LIST_TEXT.match(value) or value.count(b",") != max(len(bare) - 1, 0):
                    raise ValueError(f"{_NAMES[key]}: not a list of labels")
                pairs.append((key, value))
        pairs.extend((key, b"") for key, wanted in ((_PUBKEY, pubkey), (_PUBCDS, pubcds)) if wanted)
        if suffix is not None:
            pairs.append((_SUFFIX, suffix.encode("ascii")))
        rdtype = dns.rdatatype.RdataType.make(HSYNCPARAM_TYPE)
        return cls(dns.rdataclass.IN, rdtype, sorted(pairs))

    def value(self, key: int) -> bytes | None:
        """The value of *key*, ``None`` if it is absent."""
        return next((value for number, value in self.params if number == key), None)

    def _managed_by(self, key: int) -> str:
        return "agent" if self.value(key) == _WORDS[key]["agent"] else "owner"

    @property
    def nsmgmt(self) -> str:
        """Who maintains the NS RRset: ``agent``, or ``owner`` (absent and unknown values included)."""
        return self._managed_by(_NSMGMT)

    @property
    def parentsync(self) -> str:
        """Who talks to the parent: ``agent``, or ``owner`` (absent and unknown values included)."""
        return self._managed_by(_PARENTSYNC)

    @property
    def servers(self) -> tuple[str, ...]:
        """Labels of the providers that serve the zone and contribute data, as listed."""
        return _split(self.value(_SERVERS) or b"")

    @property
    def signers(self) -> tuple[str, ...]:
        """Labels of the providers that sign, as listed; none = the zone is unsigned."""
        return _split(self.value(_SIGNERS) or b"")

    @property
    def auditors(self) -> tuple[str, ...]:
        """Labels of the observers, as listed."""
        return _split(self.value(_AUDITORS) or b"")

    @property
    def pubkey(self) -> bool:
        """Whether providers publish the SIG(0) KEY at the apex."""
        return self.value(_PUBKEY) is not None

    @property
    def pubcds(self) -> bool:
        """Whether providers publish CDS and CDNSKEY."""
        return self.value(_PUBCDS) is not None

    @property
    def suffix(self) -> str | None:
        """Label below the apex under which providers may put names of name servers."""
        value = self.value(_SUFFIX)
        return value.decode("ascii") if value is not None else None

    def to_octets(self) -> bytes:
        """The RDATA."""
        return b"".join(struct.pack("!HH", key, len(value)) + value for key, value in self.params)

    def to_styled_text(self, style: dns.rdata.RdataStyle) -> str:
        """Text form; the generic one if a value has no text form."""
        items = []
        for key, value in self.params:
            name = _NAMES.get(key, f"key{key}")
            if key in _WORDS:
                word = next((word for word, octets in _WORDS[key].items() if octets == value), None)
                if word is None:
                    return generic_text(self.to_octets())
                value = word.encode()
            elif key in _LISTS and not _LIST_TEXT.match(value):
                return generic_text(self.to_octets())
            items.append(f"{name}={quoted(value, always=True)}" if value else name)
        return " ".join(items) or r"\# 0"

    @classmethod
    def from_text(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        tok: dns.tokenizer.Tokenizer,
        origin: dns.name.Name | None = None,
        relativize: bool = True,
        relativize_to: dns.name.Name | None = None,
    ) -> HSYNCPARAM:
        """``name``, ``name=value`` and ``name="value"`` items in any order."""
        params: dict[int, bytes] = {}
        while not (token := tok.get()).is_eol_or_eof():
            if not token.is_identifier():
                raise ValueError("expecting a parameter")
            name, equals, rest = token.value.partition("=")
            value = octets_of(dns.tokenizer.Token(token.ttype, rest, token.has_escape))
            if equals and not rest:
                following = tok.get(want_leading=True)
                if following.is_quoted_string():
                    value = octets_of(following)
                else:
                    tok.unget(following)
            key, octets = _from_text(name, value)
            if key in params:
                raise ValueError(f"{name} occurs twice")
            params[key] = octets
        tok.unget(token)
        return cls(rdclass, rdtype, sorted(params.items()))

    @classmethod
    def from_wire_parser(
        cls,
        rdclass: dns.rdataclass.RdataClass,
        rdtype: dns.rdatatype.RdataType,
        parser: dns.wire.Parser,
        origin: dns.name.Name | None = None,
    ) -> HSYNCPARAM:
        """Pairs until the end of the RDATA."""
        params = []
        while parser.remaining():
            key, length = parser.get_struct("!HH")
            params.append((key, parser.get_bytes(length)))
        return cls(rdclass, rdtype, params)


def _from_text(name: str, value: bytes) -> tuple[int, bytes]:
    key = _KEYS.get(name)
    if key is None:
        match = _KEY_NUMBER.match(name)
        if match is None or int(match[1]) >= _RESERVED or int(match[1]) in _NAMES:
            raise ValueError(f"{name!r} is not a parameter")
        return int(match[1]), value
    if key in _WORDS:
        octets = _WORDS[key].get(value.decode("ascii", "replace").lower())
        if octets is None:
            raise ValueError(f"{name} is neither owner nor agent")
        return key, octets
    if key in _LISTS:
        items = [item.strip(b" \t") for item in value.split(b",")]
        value = b",".join(item for item in items if item)
        if not _LIST_TEXT.match(value):
            raise ValueError(f"{name} is not a list of labels")
    return key, value
