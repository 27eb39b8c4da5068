"""Damage to JSON that leaves it JSON: what a sender with a valid key can say, and an honest one never does.

Damage to octets rarely gets past the parser, and almost never changes more than one member.  Here members are left out,
renamed, exchanged, doubled and nested, values get other types, lengths and edges, and parts of other documents are put
in, so that what reads the document is reached every time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

__all__ = ("damage_json", "damage_json_or_octets")

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, -0.0),
    *("", " ", ".", "\0", "\ud800", "a" * 256, "é" * 80, "\n", "[]", "0", "-1", "NaN", "\u202e", "x" * 70_000),
    *([], {}, [[]], [None], {"": None}, [0] * 3000, ["a" * 300] * 20),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+14:00", "1969-12-31T23:59:60Z", "2026-02-30T00:00:00Z"),
    *("example.", "agent.alpha.example.", "customer.example.", "*.", "a..b.", "a" * 64 + ".", "x." * 128),
    *("customer.example.\t3600\tIN\tNS\tns.", "customer.example. 1 IN TYPE65285 \\# 1 00", "replace", "SUCCESS"),
)
_DEEP = 900


def damage_json(
    octets: bytes, source: random.Random, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()
) -> bytes:
    """A JSON document with one to four damages to its structure; what is no JSON document comes back as it is.

    :param others: documents to take parts from.
    :param tokens: not used; here so that it stands in for :func:`tests.fuzz.engine.damage`.
    """
    try:
        document = json.loads(octets)
    except (ValueError, RecursionError):
        return octets
    parts = _parts(document)
    for _ in range(source.randint(1, 4)):
        document = _damaged(document, source, parts, others)
    text = json.dumps(document, allow_nan=True, ensure_ascii=bool(source.getrandbits(1)), separators=(",", ":"))
    if source.getrandbits(5) == 0:  # a name twice: which of the two counts?
        at = text.find('":')
        if at > 0:
            name = text[text.rfind('"', 0, at) : at + 2]
            text = text[:-1] + f",{name}{json.dumps(source.choice(_VALUES))}" + text[-1:]
    if source.getrandbits(8) == 0:
        text = text[:-1] + ',"deep":' + "[" * _DEEP + "]" * _DEEP + text[-1:]
    return text.encode("utf-8", "surrogatepass")


def damage_json_or_octets(
    octets: bytes, source: random.Random, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()
) -> bytes:
    """Three times in four the structure is damaged, otherwise the octets."""
    from tests.fuzz.engine import damage

    return (damage_json if source.getrandbits(2) else damage)(octets, source, others, tokens)


def _parts(document: Any) -> list[tuple[Any, Any]]:
    """Every container in *document*, with each of its keys or indices."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found += [(item, key) for key in item]
            waiting += item.values()
        elif isinstance(item, list):
            found += [(item, index) for index in range(min(len(item), 64))]
            waiting += item[:64]
    return found


def _stands(container: Any, key: Any) -> bool:
    return key in container if isinstance(container, dict) else key < len(container)


def _damaged(document: Any, source: random.Random, parts: list[tuple[Any, Any]], others: Sequence[bytes]) -> Any:
    if not parts:
        return source.choice(_VALUES)
    container, key = source.choice(parts)
    if not _stands(container, key):
        return document  # an earlier damage has taken it away
    match source.randrange(8):
        case 0:
            del container[key]
        case 1:
            container[key] = source.choice(_VALUES)
        case 2:
            container[key] = _near(container[key], source)
        case 3 if isinstance(container, dict):
            container[source.choice((str(key).upper(), str(key) + " ", "", str(source.choice(parts)[1])))] = (
                container.pop(key)
            )
        case 4:
            other, place = source.choice(parts)
            if _stands(other, place):
                value = other[place]
                if not isinstance(value, dict | list):  # a container inside itself is no document
                    container[key] = value
        case 5 if others:
            _graft(container, key, source.choice(others), source)
        case 6:
            value = container[key]
            container[key] = source.choice(([value], {"a": value}, [value] * 3, str(value), [value] * 200))
        case _:
            container[key] = source.choice(_VALUES)
    return document


def _near(value: Any, source: random.Random) -> Any:
    """Almost the same, of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return source.choice((value + 1, value - 1, -value, value * 1000, 0.5))
        case str():
            at = source.randrange(len(value) + 1)
            return source.choice(
                (
                    value[:at],
                    value[at:],
                    value + value,
                    value[:at] + source.choice(("\0", " ", ".", "\t", "\\", '"', "\u0130", "\ud800", "0")) + value[at:],
                    value.swapcase(),
                    value.rstrip("."),
                )
            )
        case list():
            return source.choice((value + value, value[1:], value[::-1], value * 30))
        case dict():
            return dict(list(value.items())[1:])
        case _:
            return source.choice(_VALUES)


def _graft(container: Any, key: Any, other: bytes, source: random.Random) -> None:
    try:
        document = json.loads(other)
    except (ValueError, RecursionError):
        return
    found = _parts(document)
    if found:
        there, place = source.choice(found)
        container[key] = there[place]
