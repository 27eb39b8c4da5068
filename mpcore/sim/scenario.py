"""Scenarios: what a simulated world consists of and what happens to it, in a file that a person can read and write.

::

    title: A provider is cut off while another changes its name server
    providers: [alpha, bravo, charlie]
    zones: [customer.example.]
    signers: [alpha, bravo]        # nobody: the zones are not signed
    beat: 15s
    delay: 10ms .. 100ms
    sealing: plain                 # or jose, as in production
    discovery: table               # or dns: a resolver, and servers for it
    https: [alpha, bravo]          # these agents have HTTPS; nobody unless given
    clocks: {bravo: 2s}            # ahead of the true time
    steps:
      - at: 10s
        add: {provider: alpha, record: customer.example. 3600 IN NS ns.alpha.example.}
      - at: 20s
        for: 2m
        partition: [[alpha], [bravo, charlie]]
      - at: 40s
        kill: bravo.agent
      - at: 1m
        start: bravo.agent
      - at: 4m
        expect: settled
    chaos: {from: 10s, until: 5m, events: 12}
    end: 20m                       # at the latest: the run ends when everything has settled

What can stand in a step, beside ``at`` and, for what has an end, ``for``:

============== ====================================================================================================
partition      lists of providers (and ``owner``) that do not reach each other
one-way        ``{from: alpha, to: bravo}``: nothing goes in this direction
flap           ``{between: [alpha, bravo], every: 5s}``: nothing goes, then everything, then nothing, ...
loss           part of everything between providers that is lost: ``20%``
repeat         part of all messages that arrive a second time, up to half a minute later
jitter         longest additional, random delay; messages overtake
slow           ``{who: bravo, by: 2s}``: a provider or daemon whose network is slow
pause          a daemon stands still
kill           a daemon dies at once; with ``for`` it is started again
start          a daemon is started with what is on its disk
power-cut      ``{who: alpha.agent, commit: 3, written: 40%}``: the power fails at the third commit from now, of which
               so much reaches the disk; with ``for`` the daemon is started again
disk           ``{who: alpha.agent, latency: 1s}``: how long commits take from now on
add, delete    ``{provider: alpha, record: ...}``: a change by the provider's operator; the record must be of its own
expect         ``settled``, ``leader``, ``operational``, ``no leader``: must hold now
============== ====================================================================================================

``chaos`` makes steps of all these kinds at random; which, the seed of the run says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import yaml

from mpcore.errors import ConfigError
from mpcore.names import ZoneName
from mpcore.sim.world import LABELS, ROLES, Plan
from mpcore.yamltext import check_yaml

__all__ = ("Chaos", "Scenario", "Step", "chaos_steps", "read_scenario", "scenario_from_text")

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_LASTING = ("partition", "one-way", "flap", "loss", "repeat", "jitter", "slow", "pause", "kill", "power-cut", "disk")
_AT_ONCE = ("start", "add", "delete", "expect")
_EXPECTATIONS = ("settled", "leader", "operational", "no leader")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens.

    :param at: seconds since the beginning.
    :param verb: see the table above.
    :param lasts: seconds, ``None``: without end, or it has none.
    :param details: by verb; durations in seconds, rates from 0 to 1.
    """

    at: float
    verb: str
    lasts: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chaos:
    """Steps at random.

    :param start: seconds; the first may come then.
    :param end: seconds; everything is whole again by then.
    :param events: how many.
    :param verbs: of these kinds.
    """

    start: float
    end: float
    events: int
    verbs: tuple[str, ...] = (
        "partition",
        "one-way",
        "flap",
        "loss",
        "repeat",
        "jitter",
        "slow",
        "pause",
        "kill",
        "power-cut",
        "disk",
        "add",
        "delete",
    )


@dataclass(frozen=True)
class Scenario:
    """A world and what happens to it.

    :param end: seconds; when it must have settled.
    """

    title: str = ""
    plan: Plan = field(default_factory=Plan)
    steps: tuple[Step, ...] = ()
    chaos: Chaos | None = None
    end: float = 1200.0


# ------------------------------------------------------------------------------------------------------------ reading


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands here twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_scenario(path: Path) -> Scenario:
    """The scenario in a file; :raises ConfigError: it cannot be read or understood; file, key and line are named."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except ValueError:
        raise ConfigError("is not UTF-8", file=str(path)) from None
    return scenario_from_text(text, str(path))


def scenario_from_text(text: str, file: str = "scenario") -> Scenario:
    """The scenario in *text*; :raises ConfigError: see :func:`read_scenario`."""
    check_yaml(text, file)
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date that is none, a list as a key
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "is not YAML"
        raise ConfigError(str(problem), file=file, line=mark.line + 1 if mark else None) from None
    try:
        return _scenario(value)
    except ConfigError as error:
        raise ConfigError(error.message, file=file, key=error.key) from None


class _Members:
    """The members of a mapping, each to be taken once."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"must be a mapping, is {_kind(value)}", key=where or None)
        self._rest = dict(value)
        self.where = where

    def key(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def take(self, name: str, read: Callable[[Any, str], T], default: T | None = None) -> T:
        if name not in self._rest:
            if default is None:
                raise ConfigError("is missing", key=self.key(name))
            return default
        return read(self._rest.pop(name), self.key(name))

    def has(self, name: str) -> bool:
        return name in self._rest

    def done(self) -> None:
        for name in self._rest:
            raise ConfigError("is not known here", key=self.key(str(name)))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"must be a text, is {_kind(value)}", key=key)
    return value


def _number(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_000_000:
        raise ConfigError("must be a number from 0 to 1000000", key=key)
    return value


def _seconds(value: Any, key: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = _text(value, key).replace(" ", "")
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"{value!r} is no duration such as 20ms, 5s or 1m30s", key=key)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _signed_seconds(value: Any, key: str) -> float:
    if isinstance(value, str) and value.startswith("-"):
        return -_seconds(value[1:], key)
    return _seconds(value, key)


def _rate(value: Any, key: str) -> float:
    number: float | None = None
    if isinstance(value, str) and value.endswith("%"):
        try:
            number = float(value[:-1]) / 100
        except ValueError:
            number = None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    if number is None or not 0 <= number <= 1:
        raise ConfigError(f"{value!r} is no part such as 20%", key=key)
    return number


def _span(value: Any, key: str) -> tuple[float, float]:
    low, dots, high = _text(value, key).partition("..")
    if not dots:
        return _seconds(low, key), _seconds(low, key)
    span = _seconds(low.strip(), key), _seconds(high.strip(), key)
    if span[0] > span[1]:
        raise ConfigError("begins above its end", key=key)
    return span


def _texts(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"must be a list, is {_kind(value)}", key=key)
    return tuple(_text(item, f"{key}[{index}]") for index, item in enumerate(value))


def _scenario(value: Any) -> Scenario:
    top = _Members(value, "")
    nobody: tuple[str, ...] = ()
    providers = top.take("providers", _labels, Plan().providers)
    signers = top.take("signers", lambda item, key: _some(item, key, providers), nobody)
    zones = top.take("zones", _zones, Plan().zones)
    clocks = _Members(top.take("clocks", lambda item, key: item, {}), "clocks")
    skew = {
        who: clocks.take(who, _signed_seconds)
        for who in [*providers, *(f"{label}.{role}" for label in providers for role in ROLES)]
        if clocks.has(who)
    }
    clocks.done()
    plan = Plan(
        providers=providers,
        zones=zones,
        signers=signers,
        beat=top.take("beat", _seconds, 15.0),
        leader_ttl=top.take("leader-ttl", _seconds, 3600.0),
        delay=top.take("delay", _span, (0.01, 0.1)),
        jose=top.take("sealing", lambda item, key: _one(item, key, ("plain", "jose")), "plain") == "jose",
        dns=top.take("discovery", lambda item, key: _one(item, key, ("table", "dns")), "table") == "dns",
        https=top.take("https", lambda item, key: _some(item, key, providers), nobody),
        skew=skew,
    )
    title = top.take("title", _text, "")
    end = top.take("end", _seconds, 1200.0)
    items: Any = top.take("steps", lambda item, key: item, [])
    if not isinstance(items, list):
        raise ConfigError(f"must be a list, is {_kind(items)}", key="steps")
    steps = tuple(_step(item, f"steps[{index}]", plan) for index, item in enumerate(items))
    chaos = top.take("chaos", _chaos, Chaos(0, 0, 0))
    top.done()
    return Scenario(title, plan, tuple(sorted(steps, key=lambda step: step.at)), chaos if chaos.events else None, end)


def _labels(value: Any, key: str) -> tuple[str, ...]:
    labels = _texts(value, key)
    if not 2 <= len(labels) <= len(LABELS) or len(set(labels)) != len(labels):
        raise ConfigError(f"must name 2 to {len(LABELS)} different providers", key=key)
    for label in labels:
        if label not in LABELS:
            raise ConfigError(f"{label!r} is none of {', '.join(LABELS)}", key=key)
    return labels


def _zones(value: Any, key: str) -> tuple[str, ...]:
    zones = _texts(value, key)
    try:
        return tuple(ZoneName(zone) for zone in zones)
    except ValueError as error:
        raise ConfigError(str(error), key=key) from None


def _some(value: Any, key: str, allowed: Sequence[str]) -> tuple[str, ...]:
    names = _texts(value, key)
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{name!r} is none of {', '.join(allowed)}", key=key)
    return names


def _one(value: Any, key: str, allowed: Sequence[str]) -> str:
    return _some([value], key, allowed)[0]


def _chaos(value: Any, key: str) -> Chaos:
    members = _Members(value, key)
    default = Chaos(0, 0, 0).verbs
    found = Chaos(
        start=members.take("from", _seconds, 0.0),
        end=members.take("until", _seconds),
        events=members.take("events", _number),
        verbs=members.take("kinds", lambda item, where: _some(item, where, default), default),
    )
    members.done()
    if found.end <= found.start:
        raise ConfigError("ends before it begins", key=f"{key}.until")
    return found


def _step(value: Any, where: str, plan: Plan) -> Step:
    members = _Members(value, where)
    at = members.take("at", _seconds)
    lasts: float | None = members.take("for", _seconds) if members.has("for") else None
    verbs = [verb for verb in (*_LASTING, *_AT_ONCE) if members.has(verb)]
    if len(verbs) != 1:
        said = f"says {' and '.join(verbs)}" if verbs else "says nothing that is known"
        raise ConfigError(f"{said}; one of {', '.join((*_LASTING, *_AT_ONCE))} is expected", key=where)
    verb = verbs[0]
    if lasts is not None and verb in _AT_ONCE:
        raise ConfigError(f"{verb} takes no time", key=members.key("for"))
    details = members.take(verb, lambda item, key: _details(verb, item, key, plan))
    members.done()
    return Step(at, verb, lasts, details)


def _details(verb: str, value: Any, key: str, plan: Plan) -> Mapping[str, Any]:
    sites = (*plan.providers, "owner")
    daemons = tuple(f"{label}.{role}" for label in plan.providers for role in ROLES)
    match verb:
        case "partition":
            if not isinstance(value, list) or len(value) < 2:
                raise ConfigError("must be at least two lists of providers", key=key)
            return {"islands": tuple(frozenset(_some(island, key, sites)) for island in value)}
        case "loss" | "repeat":
            return {"rate": _rate(value, key)}
        case "jitter":
            return {"most": _seconds(value, key)}
        case "pause" | "kill" | "start":
            return {"who": _one(value, key, daemons)}
        case "expect":
            return {"what": _one(value, key, _EXPECTATIONS)}
    members = _Members(value, key)
    details: dict[str, Any] = {}
    match verb:
        case "one-way":
            details["source"] = members.take("from", lambda item, where: _one(item, where, sites))
            details["target"] = members.take("to", lambda item, where: _one(item, where, sites))
        case "flap":
            between = members.take("between", lambda item, where: _some(item, where, sites))
            if len(between) != 2:
                raise ConfigError("must be two providers", key=members.key("between"))
            details |= {"one": between[0], "two": between[1], "period": members.take("every", _seconds, 5.0)}
        case "slow":
            details["who"] = members.take("who", lambda item, where: _one(item, where, (*sites, *daemons)))
            details["by"] = members.take("by", _seconds)
        case "power-cut":
            details["who"] = members.take("who", lambda item, where: _one(item, where, daemons))
            details["commit"] = members.take("commit", _number, 1)
            details["written"] = members.take("written", _rate, 1.0)
        case "disk":
            details["who"] = members.take("who", lambda item, where: _one(item, where, daemons))
            details["latency"] = members.take("latency", _seconds)
        case _:
            details["provider"] = members.take("provider", lambda item, where: _one(item, where, plan.providers))
            details["record"] = members.take("record", _text)
    members.done()
    return details


# -------------------------------------------------------------------------------------------------------------- chaos


def chaos_steps(chaos: Chaos, plan: Plan, random: Random) -> list[Step]:
    """The steps of a chaos, in order of time."""
    return sorted(_random_steps(chaos, plan, random), key=lambda step: step.at)


def _random_steps(chaos: Chaos, plan: Plan, random: Random) -> Iterator[Step]:
    labels = list(plan.providers)
    daemons = [f"{label}.{role}" for label in labels for role in ROLES]
    length = chaos.end - chaos.start
    for _ in range(chaos.events):
        at = chaos.start + random.random() * length * 0.9
        most = chaos.end - at
        lasts = min(most, random.uniform(1.0, max(2.0, length / 4)))
        verb = random.choice(chaos.verbs)
        details: dict[str, Any] = {}
        match verb:
            case "partition":
                shuffled = [*labels, "owner"]
                random.shuffle(shuffled)
                cut = random.randint(1, len(shuffled) - 1)
                details["islands"] = (frozenset(shuffled[:cut]), frozenset(shuffled[cut:]))
            case "one-way":
                details["source"], details["target"] = random.sample(labels, 2)
            case "flap":
                one, two = random.sample(labels, 2)
                details |= {"one": one, "two": two, "period": random.uniform(0.5, 20)}
            case "loss":
                details["rate"] = random.uniform(0.02, 0.4)
            case "repeat":
                details["rate"] = random.uniform(0.05, 0.5)
            case "jitter":
                details["most"] = random.choice([0.5, 2.0, 6.0])
            case "slow":
                details |= {"who": random.choice([*labels, *daemons]), "by": random.uniform(0.2, 4.0)}
            case "pause":
                details["who"] = random.choice(daemons)
            case "kill":
                details["who"] = random.choice(daemons)
                lasts = min(lasts, 60.0)
            case "power-cut":
                details |= {
                    "who": random.choice(daemons),
                    "commit": random.randint(1, 12),
                    "written": random.choice([0.0, random.random(), 1.0]),
                }
            case "disk":
                details |= {"who": random.choice(daemons), "latency": random.choice([0.05, 0.5, 2.0])}
            case "add" | "delete":
                label = random.choice(labels)
                zone = random.choice(plan.zones)
                details |= {"provider": label, "record": f"{zone} 3600 IN NS ns{random.randint(1, 3)}.{label}.example."}
                yield Step(at, verb, None, details)
                continue
        yield Step(at, verb, lasts, details)
