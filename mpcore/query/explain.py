"""What records, options and response codes mean, in words and as named members."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import dns.dnssectypes
import dns.edns
import dns.rdata
import dns.rdatatype
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.DSYNC import DSYNC
from dns.rdtypes.ANY.RRSIG import RRSIG
from dns.rdtypes.ANY.SOA import SOA

from mpcore.errors import RecordError
from mpcore.query.layout import printable, words_of_time
from mpcore.records import (
    CHUNK,
    HSYNC3,
    HSYNCPARAM,
    JWK,
    ChunkEndpointOption,
    ChunkOption,
    DsyncScheme,
    dsync_to_text,
)

__all__ = (
    "RCODES",
    "algorithm_text",
    "digest_text",
    "ede_text",
    "fields",
    "flags_role",
    "meaning",
    "members",
    "option_json",
    "option_text",
    "rdata_text",
    "thumbprint",
    "time_text",
)

RCODES: Final[Mapping[str, str]] = {
    "FORMERR": "the server could not read the message",
    "SERVFAIL": "the server failed to get or to validate an answer",
    "NXDOMAIN": "the name does not exist",
    "NOTIMP": "the server does not know this kind of message",
    "REFUSED": "the server does not do this for us: not its zone, or not permitted",
    "YXDOMAIN": "a name exists that should not",
    "YXRRSET": "an RRset exists that should not",
    "NXRRSET": "an RRset that should exist does not, or is another",
    "NOTAUTH": "the server is not authoritative for the zone, or does not accept the key",
    "NOTZONE": "a name is not in the zone",
    "BADVERS": "the server does not know this version of EDNS",
    "BADKEY": "the server does not know the key",
    "BADTIME": "the clocks of the two sides differ too much",
    "BADTRUNC": "the signature is too short",
    "BADCOOKIE": "the server wants a cookie of its own",
    "BADSIG": "the signature does not verify at the server",
}
"""What a response code other than NOERROR means."""

_DIGESTS: Final = {1: "SHA-1", 2: "SHA-256", 3: "GOST", 4: "SHA-384", 5: "GOST-2012", 6: "SM3"}
_MANAGED: Final = {"owner": "by the zone's owner", "agent": "by the agents"}


def ede_text(code: int) -> str:
    """The name of an extended DNS error as it is registered (RFC 8914, section 4)."""
    try:
        name = dns.edns.EDECode(code).name
    except ValueError:
        name = ""
    if not name or name.isdigit():
        return "unknown error"
    words = name.replace("_", " ").title().replace("Other", "Other Error")
    for acronym in ("DNSSEC", "DNSKEY", "DS", "NSEC", "NXDOMAIN"):
        words = words.replace(acronym.title(), acronym)
    return words.replace(" To ", " to ").replace(" Before ", " before ").replace("Rrsigs", "RRSIGs")


def algorithm_text(number: int) -> str:
    """The mnemonic of a DNSSEC algorithm, or its number."""
    try:
        return dns.dnssectypes.Algorithm(number).name
    except ValueError:
        return f"algorithm {number}"


def digest_text(number: int) -> str:
    """The name of the digest of a DS record, or its number."""
    return _DIGESTS.get(number, f"digest {number}")


def flags_role(flags: int) -> str:
    """What a key with these flags is for: ``KSK``, ``ZSK``, with ``revoked`` (RFC 5011), or ``no zone key``."""
    if not flags & 0x0100:
        return "no zone key"
    return ("KSK" if flags & 1 else "ZSK") + (", revoked" if flags & 0x80 else "")


def time_text(seconds: float) -> str:
    """A time of day with its date, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The thumbprint of a key, SHA-256 in base64url (RFC 7638); empty: it lacks a member of its type, or has another
    type."""
    required = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
    names = required.get(str(jwk.get("kty")), ())
    if not names or not all(isinstance(jwk.get(name), str) for name in names):
        return ""
    text = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    try:
        digest = hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        return ""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# --- records ---------------------------------------------------------------------------------------------------------


def rdata_text(rdata: dns.rdata.Rdata, *, crypto: bool = True) -> str:
    """The data of a record in text form, safe to print.

    :param crypto: ``False``: keys, digests and signatures are omitted.
    """
    text = dsync_to_text(rdata) if isinstance(rdata, DSYNC) else rdata.to_text()
    if not crypto:
        text = _without_crypto(rdata, text)
    return printable(text)


def _without_crypto(rdata: dns.rdata.Rdata, text: str) -> str:
    words = text.split()
    if isinstance(rdata, DNSKEY):
        return " ".join([*words[:3], f"[key tag {rdata.key_id()}]"])
    if isinstance(rdata, DS):
        return " ".join([*words[:3], "[omitted]"])
    if isinstance(rdata, RRSIG):
        return " ".join([*words[:8], "[omitted]"])
    if isinstance(rdata, JWK):
        return '"[omitted]"'
    if isinstance(rdata, CHUNK):
        return " ".join([*words[:4], "[omitted]"])
    return text


def meaning(rdata: dns.rdata.Rdata, now: float) -> str:
    """What a record means, in half a line; empty if its text says it all.

    :param now: Unix seconds, for the validity of signatures.
    """
    if isinstance(rdata, DNSKEY):
        return f"{flags_role(int(rdata.flags))}, {algorithm_text(int(rdata.algorithm))}, key tag {rdata.key_id()}"
    if isinstance(rdata, DS):
        digest = digest_text(int(rdata.digest_type))
        return f"{digest} of key {rdata.key_tag}, {algorithm_text(int(rdata.algorithm))}"
    if isinstance(rdata, RRSIG):
        return _validity(rdata, now)
    if isinstance(rdata, DSYNC):
        return _dsync_words(rdata)
    if isinstance(rdata, HSYNC3):
        state = "takes part" if rdata.is_on else "does not take part"
        upstream = rdata.upstream_text.rstrip(".")
        return f"provider {_bare(rdata.label_text)} {state}" + (f", fed by {upstream}" if upstream else "")
    if isinstance(rdata, HSYNCPARAM):
        return (
            f"NS kept {_MANAGED.get(rdata.nsmgmt, rdata.nsmgmt)}, signed by {', '.join(rdata.signers) or 'nobody'}, "
            f"parent told {_MANAGED.get(rdata.parentsync, rdata.parentsync)}"
        )
    if isinstance(rdata, JWK):
        return _jwk_words(rdata)
    if isinstance(rdata, CHUNK):
        return _chunk_words(rdata)
    return ""


def _bare(label: str) -> str:
    return label.rstrip(".") or "."


def _seconds_after(time: int, now: float) -> int:
    difference = (time - int(now)) & 0xFFFFFFFF
    return difference - 0x1_0000_0000 if difference & 0x8000_0000 else difference


def _validity(rdata: RRSIG, now: float) -> str:
    left, since = _seconds_after(rdata.expiration, now), _seconds_after(rdata.inception, now)
    by = f"by key {rdata.key_tag}"
    if left < 0:
        return f"{by}, EXPIRED {words_of_time(-left)} ago"
    if since > 0:
        return f"{by}, NOT VALID for another {words_of_time(since)}"
    return f"{by}, valid for {words_of_time(left)} more"


def _dsync_words(rdata: DSYNC) -> str:
    what = dns.rdatatype.to_text(rdata.rrtype)
    where = f"{rdata.target} port {rdata.port}"
    try:
        scheme = DsyncScheme(int(rdata.scheme))
    except ValueError:
        return f"scheme {int(rdata.scheme)} for {what} at {where}"
    verb = {"NOTIFY": "send a NOTIFY for changed", "UPDATE": "send an UPDATE of", "SCANNER": "it scans for changed"}
    return f"{verb.get(scheme.name, f'{scheme.name} for')} {what} {'' if scheme.name == 'SCANNER' else 'to '}{where}"


def _jwk_words(rdata: JWK) -> str:
    try:
        jwk = rdata.jwk()
    except RecordError as error:
        return printable(str(error))
    kind = " ".join(str(jwk[name]) for name in ("kty", "crv") if isinstance(jwk.get(name), str))
    return printable(f"{kind} key, thumbprint {thumbprint(jwk) or 'none'}")


def _chunk_words(rdata: CHUNK) -> str:
    size = f"{len(rdata.data)} octets"
    if rdata.sequence == 0:
        pieces = "payload inside" if rdata.total == 0 else f"{rdata.total} piece{'s' if rdata.total != 1 else ''}"
        return f"manifest, {pieces}, {size}"
    return f"piece {rdata.sequence} of {rdata.total}, {_seal_words(rdata.data)}, {size}"


def _seal_words(data: bytes) -> str:
    """Whether a payload is sealed, by its looks: base64 of something that is not JSON."""
    if data[:1] in (b"{", b"["):
        return "clear JSON"
    try:
        inside = base64.b64decode(bytes(data[: len(data) // 4 * 4][:64]), validate=True)
    except (binascii.Error, ValueError):
        return "not JSON"
    return "clear JSON in base64" if inside[:1] == b"{" else "sealed or part of something sealed"


def members(rdata: dns.rdata.Rdata, now: float) -> list[tuple[str, str]] | None:
    """A long record piece by piece: text, and what it is; the texts together are the record's.

    :return: ``None``: it is best shown on one line.
    """
    if isinstance(rdata, SOA):
        names = ("refresh", "retry", "expire", "minimum")
        rows = [(f"{rdata.mname} {rdata.rname}", ""), (str(rdata.serial), _serial_words(rdata.serial))]
        numbers = (rdata.refresh, rdata.retry, rdata.expire, rdata.minimum)
        return rows + [
            (str(number), f"{name} ({words_of_time(number)})") for name, number in zip(names, numbers, strict=True)
        ]
    if isinstance(rdata, DNSKEY):
        head = f"{int(rdata.flags)} {rdata.protocol} {int(rdata.algorithm)}"
        return [(head, meaning(rdata, now)), *((text, "") for text in _wrapped(base64.b64encode(rdata.key).decode()))]
    if isinstance(rdata, DS):
        head = f"{rdata.key_tag} {int(rdata.algorithm)} {int(rdata.digest_type)}"
        return [(head, meaning(rdata, now)), *((text, "") for text in _wrapped(rdata.digest.hex().upper()))]
    if isinstance(rdata, RRSIG):
        words = rdata.to_text().split()
        ttl = words_of_time(rdata.original_ttl)
        return [
            (f"{words[0]} {words[1]} {words[2]} {words[3]}", f"{algorithm_text(int(rdata.algorithm))}, TTL {ttl}"),
            (words[4], f"expires {time_text(rdata.expiration)}: {_validity(rdata, now).partition(', ')[2]}"),
            (words[5], f"begins {time_text(rdata.inception)}"),
            (f"{words[6]} {words[7]}", f"key {words[6]} of {printable(words[7])}"),
            *((text, "") for text in _wrapped(base64.b64encode(rdata.signature).decode())),
        ]
    if isinstance(rdata, HSYNC3):
        words = rdata.to_text().split()
        if len(words) != 4:
            return None
        names = ("takes part" if rdata.is_on else "does not take part", "provider", "its agent", "upstream provider")
        if words[3] == ".":
            names = (*names[:3], "no upstream provider")
        return list(zip(words, names, strict=True))
    if isinstance(rdata, HSYNCPARAM):
        return _param_members(rdata)
    if isinstance(rdata, DSYNC):
        words = dsync_to_text(rdata).split()
        names = ("type whose changes it wants to know", "how", "port", "where")
        return list(zip(words, names, strict=True)) if len(words) == 4 else None
    if isinstance(rdata, JWK):
        return [(rdata.to_text(), ""), *(("", text) for text in _jwk_lines(rdata))]
    if isinstance(rdata, CHUNK):
        return _chunk_members(rdata)
    return None


def _serial_words(serial: int) -> str:
    """A serial, and the time or date that it looks like."""
    text = str(serial)
    if len(text) == 10 and "19900101" <= text[:8] <= "20991231" and text[4:6] <= "12" and text[6:8] <= "31":
        return f"serial (change {int(text[8:])} of {text[:4]}-{text[4:6]}-{text[6:8]})"
    if 1_000_000_000 <= serial < 0x8000_0000:
        return f"serial (as a time, {time_text(serial)})"
    return "serial"


def _wrapped(text: str, width: int = 56) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)] or [""]


_PARAM_WORDS: Final = {
    "nsmgmt": "who keeps the NS RRset",
    "parentsync": "who tells the parent",
    "servers": "who serves the zone",
    "signers": "who signs it",
    "auditors": "who watches",
    "pubkey": "KEY records are published",
    "pubcds": "CDS and CDNSKEY are published",
    "suffix": "label below which identities are",
}


def _param_members(rdata: HSYNCPARAM) -> list[tuple[str, str]] | None:
    words = rdata.to_text().split()
    if not words or words[0] == "\\#":
        return None
    return [(word, _PARAM_WORDS.get(word.partition("=")[0], "")) for word in words]


def _jwk_lines(rdata: JWK) -> list[str]:
    try:
        jwk = rdata.jwk()
    except RecordError as error:
        return [printable(str(error))]
    lines = [f"{name} {value}" for name, value in jwk.items() if isinstance(value, str | int)]
    return [printable(text) for text in (*lines, f"thumbprint {thumbprint(jwk) or 'none'} (SHA-256, RFC 7638)")]


def _chunk_members(rdata: CHUNK) -> list[tuple[str, str]]:
    words = rdata.to_text().split(maxsplit=4)
    head = " ".join(words[:4])
    if words[0] == "\\#" or len(words) < 5:
        return [(" ".join(words), _chunk_words(rdata))]
    if rdata.sequence:
        return [(head, _chunk_words(rdata)), *((text, "") for text in _wrapped(words[4]))]
    rows = [(head, _chunk_words(rdata)), (words[4], "")]
    shown = _payload(rdata.format, rdata.data).get("json")
    if isinstance(shown, dict):
        for name, value in shown.items():
            text = json.dumps(value, ensure_ascii=True)
            rows.append(("", f"{name}: {text if len(text) <= 100 else f'{text[:96]} ...'}"))
    return [(printable(text), printable(words)) for text, words in rows]


def fields(rdata: dns.rdata.Rdata, now: float) -> dict[str, Any]:
    """The members of a record by name, for the types that are explained."""
    if isinstance(rdata, HSYNC3):
        return {
            "state": "ON" if rdata.is_on else "OFF",
            "label": rdata.label_text,
            "identity": rdata.identity_text,
            "upstream": rdata.upstream_text,
        }
    if isinstance(rdata, HSYNCPARAM):
        names = ("nsmgmt", "parentsync", "pubkey", "pubcds", "suffix")
        lists = {name: list(getattr(rdata, name)) for name in ("servers", "signers", "auditors")}
        return {name: getattr(rdata, name) for name in names} | lists
    if isinstance(rdata, CHUNK):
        return {
            "sequence": rdata.sequence,
            "total": rdata.total,
            "manifest": rdata.sequence == 0,
            "hmac": rdata.hmac.hex(),
            **_payload(rdata.format, rdata.data),
        }
    if isinstance(rdata, JWK):
        try:
            jwk = rdata.jwk()
        except RecordError as error:
            return {"error": str(error)}
        return {"jwk": _json_safe(jwk), "thumbprint": thumbprint(jwk)}
    if isinstance(rdata, DSYNC):
        words = dsync_to_text(rdata).split()
        return {"rrtype": words[0], "scheme": words[1], "port": rdata.port, "target": rdata.target.to_text()}
    if isinstance(rdata, DNSKEY):
        return {
            "role": flags_role(int(rdata.flags)),
            "algorithm": algorithm_text(int(rdata.algorithm)),
            "key_tag": rdata.key_id(),
        }
    if isinstance(rdata, DS):
        return {
            "key_tag": rdata.key_tag,
            "algorithm": algorithm_text(int(rdata.algorithm)),
            "digest_type": digest_text(int(rdata.digest_type)),
        }
    if isinstance(rdata, RRSIG):
        return {
            "type_covered": dns.rdatatype.to_text(rdata.type_covered),
            "key_tag": rdata.key_tag,
            "algorithm": algorithm_text(int(rdata.algorithm)),
            "signer": rdata.signer.to_text(),
            "inception": rdata.inception,
            "expiration": rdata.expiration,
            "valid": _seconds_after(rdata.expiration, now) >= 0 >= _seconds_after(rdata.inception, now),
        }
    return {}


def _json_safe(value: Any) -> Any:
    """*value* without numbers that JSON does not have."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value


def _payload(number: int, data: bytes) -> dict[str, Any]:
    """A payload: its form, its size, and what it says if it is clear text."""
    shown: dict[str, Any] = {"format": {1: "JSON", 2: "JWT"}.get(number, number), "octets": len(data)}
    shown["sealed"] = number == 2 or "sealed" in _seal_words(data)
    if number == 1:
        try:
            shown["json"] = _json_safe(json.loads(data))
        except (ValueError, RecursionError):
            shown["text"] = data.decode("ascii", "backslashreplace")
    return shown


# --- options ---------------------------------------------------------------------------------------------------------


def option_text(option: dns.edns.Option, sent_cookie: bytes | None = None) -> str:
    """An EDNS option in words, safe to print.

    :param sent_cookie: the client cookie of the query; the answer must repeat it.
    """
    return printable(_option_words(option, sent_cookie))


def _option_words(option: dns.edns.Option, sent_cookie: bytes | None) -> str:
    if isinstance(option, dns.edns.EDEOption):
        text = f": {option.text}" if option.text else ""
        return f"EDE: {int(option.code)} ({ede_text(int(option.code))}){text}"
    if isinstance(option, dns.edns.CookieOption):
        verdict = ""
        if sent_cookie is not None:
            verdict = " (good)" if option.client == sent_cookie else " (BAD: not the cookie that was sent)"
        return f"COOKIE: {option.client.hex()}{option.server.hex()}{verdict}"
    if isinstance(option, dns.edns.NSIDOption):
        text = option.nsid.decode("ascii", "replace")
        readable = f' ("{text}")' if text.isprintable() and "\ufffd" not in text and text else ""
        return f"NSID: {option.nsid.hex() or '(empty)'}{readable}"
    if isinstance(option, ChunkOption):
        clear = option.format == 1
        text = option.to_text() if clear else f"{option.to_text()}, sealed"
        return text + (": " + option.data.decode("utf-8", "backslashreplace") if clear else "")
    code = int(option.otype)
    data = bytes(option.data) if isinstance(option, dns.edns.GenericOption) else b""
    if code == dns.edns.OptionType.PADDING:
        return f"PADDING: {len(data)} octets"
    if code == 11:
        seconds = int.from_bytes(data, "big") / 10 if len(data) == 2 else None
        return "TCP KEEPALIVE" + ("" if seconds is None else f": {seconds:g} s")
    if code == dns.edns.OptionType.EXPIRE and len(data) == 4:
        return f"EXPIRE: {int.from_bytes(data, 'big')} ({words_of_time(int.from_bytes(data, 'big'))})"
    if code in (14, 17, 19, 20):
        return f"OPT{code}: {data.hex()}"
    return option.to_text()


def option_json(option: dns.edns.Option) -> dict[str, Any]:
    """An EDNS option as plain data: ``code``, ``name`` where it has one, ``text`` and its members."""
    shown: dict[str, Any] = {"code": int(option.otype), "text": option_text(option)}
    if isinstance(option, ChunkOption):
        shown |= {"name": "CHUNK", **_payload(option.format, option.data)}
    elif isinstance(option, ChunkEndpointOption):
        shown |= {"name": "CHUNK-ENDPOINT", "endpoint": option.endpoint}
    elif isinstance(option, dns.edns.EDEOption):
        code = int(option.code)
        shown |= {"name": "EDE", "error": code, "error_name": ede_text(code), "reason": option.text or ""}
    elif isinstance(option, dns.edns.CookieOption):
        shown |= {"name": "COOKIE", "client": option.client.hex(), "server": option.server.hex()}
    elif isinstance(option, dns.edns.NSIDOption):
        shown |= {"name": "NSID", "nsid": option.nsid.hex()}
    elif int(option.otype) == dns.edns.OptionType.PADDING:
        shown |= {"name": "PADDING"}
    return shown
