"""Configuration of a daemon: one YAML file into the settings of its role, with errors an operator can act on.

Every error names file, line and key, and all that can be found are reported together.  Duplicate and unknown keys are
refused.  Relative paths are relative to the file.  Files that hold secrets must be closed to others.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mpcore.control.client import check_socket_path
from mpcore.errors import ConfigError, MpError
from mpcore.node.settings import (
    AgentSettings,
    CombinerSettings,
    ConfiguredPeer,
    Endpoint,
    HttpsSettings,
    NodeSettings,
    Primary,
    Secondary,
    SignerSettings,
)

__all__ = ("ROLES", "ConfigErrors", "Loaded", "check_keys", "load", "private_directory")

#: The settings of each role.
ROLES: dict[str, type[NodeSettings]] = {"agent": AgentSettings, "combiner": CombinerSettings, "signer": SignerSettings}

_MAX_FILE = 4 * 1024 * 1024
_MAX_DEPTH = 32
_SECRET_FILES = frozenset(
    {"key_file", "tsig_keys_file", "ksk_file", "zsk_file", "key_passphrase_file", "private_key_file"}
)
_CREATED = frozenset({"state_dir", "control_socket"})

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_Location = tuple[str | int, ...]
_Settings = TypeVar("_Settings", bound=NodeSettings)


class ConfigErrors(ConfigError):
    """Everything that is wrong with a configuration file; its text has one line for each.

    :param errors: at least one, in the order of the file.
    """

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.message, file=first.file, key=first.key, line=first.line)
        self.errors = tuple(errors)
        self.args = ("\n".join(str(error) for error in errors),)


@dataclass(frozen=True)
class Loaded(Generic[_Settings]):
    """Settings, and where each value was written."""

    settings: _Settings
    file: Path
    lines: dict[_Location, int] = field(repr=False)

    def show(self) -> str:
        """The settings in force as ``key = value``, one a line, each with the line it came from or ``default``."""
        rows = []
        for location, value in _leaves(self.settings, ()):
            line = self.lines.get(location)
            origin = f"{self.file.name}:{line}" if line is not None else "default"
            rows.append((f"{_dotted(location)} = {_value(value)}", origin))
        width = min(max(len(text) for text, _ in rows), 70)
        return "".join(f"{text:<{width}}  # {origin}\n" for text, origin in rows)


def load(file: str | os.PathLike[str], settings: type[_Settings]) -> Loaded[_Settings]:
    """Read and check a configuration file.

    :param file: the YAML file.
    :param settings: the settings of the role: a value of :data:`ROLES`.
    :raises ConfigErrors: the file cannot be used; all errors found.
    """
    path = Path(file)
    document = _Document(path)
    document.read()
    validated: _Settings | None = None
    if document.value is not None:
        try:
            validated = settings.model_validate(document.value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["type"] == "too_short" and detail["input"]:
                    continue  # its entries are there, and their own errors are reported
                document.report(_validation_message(detail, settings), _own_location(detail["loc"], document))
    if validated is not None and not document.errors:
        validated = _absolute(validated, Path(os.path.abspath(path)).parent)
        for message, location in _further_checks(validated, document):
            document.report(message, location)
    if document.errors or validated is None:
        raise ConfigErrors(sorted(document.errors, key=lambda error: error.line or 0))
    return Loaded(validated, path, document.lines)


def check_keys(loaded: Loaded[Any]) -> None:
    """Read every key file that the settings name, as the node will; nothing of a key is quoted.

    :raises ConfigErrors: a file does not hold the kind of key it should.
    """
    errors = []
    for location, value in _leaves(loaded.settings, ()):
        check = _KEY_CHECKS.get(str(location[-1]))
        if check is None or not isinstance(value, Path):
            continue
        try:
            problem = check(value.read_text())
        except OSError as error:
            problem = _because(error)
        except ValueError:
            problem = "is not text"
        if problem:
            where = _dotted(location)
            line = loaded.lines.get(location)
            errors.append(ConfigError(f"{value} {problem}", file=str(loaded.file), key=where, line=line))
    if errors:
        raise ConfigErrors(errors)


def _private_jwk_problem(text: str) -> str | None:
    from mpcore.wire.seal import read_private_key  # jwcrypto, which plain settings do not need

    try:
        read_private_key(text)
    except MpError:
        return "does not hold a private JWK (EC, P-256)"
    return None


def _public_jwk_problem(text: str) -> str | None:
    from mpcore.wire.seal import read_public_keys

    try:
        read_public_keys(text)
    except MpError:
        return "does not hold a public JWK (EC, P-256), or a JWK Set of one or two"
    if _private_jwk_problem(text) is None:
        return "holds the private key, which nobody but its owner may have"
    return None


def _pem_problem(text: str) -> str | None:
    from mpcore.signer.keys import load_pem

    try:
        load_pem(text)
    except MpError as error:
        return f"cannot be used: {error}"
    return None


_KEY_CHECKS: dict[str, Callable[[str], str | None]] = {
    "key_file": _private_jwk_problem,
    "public_key_file": _public_jwk_problem,
    "ksk_file": _pem_problem,
    "zsk_file": _pem_problem,
}


def private_directory(path: Path) -> None:
    """Create a directory with mode 0700, or check that it is ours and closed to others; :raises ConfigError: not so."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"{path} cannot be created: {error.strerror}") from None
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()} who runs this daemon")
    if status.st_mode & 0o077:
        raise ConfigError(f"{path} has mode {stat.S_IMODE(status.st_mode):04o} and must have 0700: chmod 700 {path}")


# ---------------------------------------------------------------------------------------------------------------------
# YAML with lines


class _Document:
    """A YAML file as plain values, with the line of every key and entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.value: dict[str, Any] | None = None
        self.lines: dict[_Location, int] = {}  # of the key, or of the entry in a list
        self.booleans: list[_Location] = []
        self.errors: list[ConfigError] = []

    def report(self, message: str, location: _Location = (), *, line: int | None = None) -> None:
        if line is None:
            line = self.line_of(location)
        key = _dotted(location) or None
        self.errors.append(ConfigError(message, file=str(self.path), key=key, line=line))

    def line_of(self, location: _Location) -> int | None:
        """The line of a key, or of what it should have been in."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location)

    def read(self) -> None:
        try:
            with self.path.open("rb") as file:
                octets = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise ConfigErrors([ConfigError(_because(error), file=str(self.path))]) from None
        if len(octets) > _MAX_FILE:
            self.report(f"more than {_MAX_FILE} octets")
            return
        try:
            text = octets.decode()
        except UnicodeDecodeError as error:
            self.report("not UTF-8", line=octets[: error.start].count(b"\n") + 1)
            return
        loader = _Loader(text)
        try:
            while not isinstance(event := loader.get_event(), yaml.DocumentStartEvent | yaml.StreamEndEvent):
                pass
            if isinstance(event, yaml.StreamEndEvent):
                self.report("the file is empty")
                return
            event = loader.get_event()
            self.lines[()] = event.start_mark.line + 1
            value = self._read(loader, event, ())
            loader.get_event()
            if not isinstance(event := loader.get_event(), yaml.StreamEndEvent):
                self.report("a second document", line=event.start_mark.line + 1)
            elif not isinstance(value, dict):
                self.report("expected keys and values")
            else:
                self.value = value
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.report(f"not YAML: {error.problem or error.context}", line=mark.line + 1 if mark else None)
        except yaml.YAMLError as error:
            self.report(f"not YAML: {' '.join(str(error).split())}")
        finally:
            loader.dispose()

    def _read(self, loader: Any, event: Any, location: _Location) -> Any:
        """The value that begins with *event*.

        From events rather than nodes: the depth is checked before it costs stack, and aliases are seen.
        """
        line = event.start_mark.line + 1
        if len(location) > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=event.start_mark)
        if isinstance(event, yaml.MappingStartEvent):
            return self._read_mapping(loader, location)
        if isinstance(event, yaml.SequenceStartEvent):
            values: list[Any] = []
            while not isinstance(event := loader.get_event(), yaml.SequenceEndEvent):
                here = (*location, len(values))
                self.lines[here] = event.start_mark.line + 1
                values.append(self._read(loader, event, here))
            return values
        if not isinstance(event, yaml.ScalarEvent):
            self.report("aliases are not supported", location, line=line)
            return None
        tag = (
            event.tag if event.tag not in {None, "!"} else loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        )
        if tag in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:binary"}:
            return event.value
        try:
            value = loader.construct_object(yaml.ScalarNode(tag, event.value))
        except (yaml.constructor.ConstructorError, ValueError) as error:
            problem = error.problem if isinstance(error, yaml.constructor.ConstructorError) else str(error)
            self.report(problem or "unusable value", location, line=line)
            return None
        if isinstance(value, bool):
            self.booleans.append(location)
        return value

    def _read_mapping(self, loader: Any, location: _Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent) or event.value == "<<":
                problem = "a key is one word; merge keys and complex keys are not supported"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
            key = event.value
            here = (*location, key)
            if key in values:
                self.report(f"given twice, first on line {self.lines[here]}", here, line=line)
                self._read(loader, loader.get_event(), (*location, f"{key} (again)"))
                continue
            self.lines[here] = line
            values[key] = self._read(loader, loader.get_event(), here)
        return values


# ---------------------------------------------------------------------------------------------------------------------
# Messages


def _dotted(location: _Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _value(value: object) -> str:
    if isinstance(value, Path | str):
        return str(value)
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "[]"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _given(value: object) -> str:
    return repr(value) if isinstance(value, str) else _value(value)


def _because(error: OSError) -> str:
    return {FileNotFoundError: "no such file", IsADirectoryError: "is a directory, not a file"}.get(
        type(error), error.strerror or str(error)
    )


def _own_location(location: _Location, document: _Document) -> _Location:
    """The location without parts that pydantic adds and the file does not have, except a missing last key."""
    own: _Location = ()
    for index, part in enumerate(location):
        if (*own, part) in document.lines or index == len(location) - 1:
            own = (*own, part)
    return own


def _validation_message(error: ErrorDetails, settings: type[BaseModel]) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    shown = _given(given)
    quote = " (write it in quotes)" if isinstance(given, bool | int | float) else ""
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _unknown_key(error["loc"], settings)
        case "string_type" | "path_type":
            return f"expected a text, not {shown}{quote}"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"expected a whole number, not {shown}"
        case "float_parsing" | "float_type":
            return f"expected a number, not {shown}"
        case "tuple_type" | "list_type":
            return f"expected a list, not {shown}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected keys and values, not {shown}"
        case "too_short":
            return "needs at least one entry"
        case "greater_than_equal":
            return f"must be at least {_value(context['ge'])}, not {shown}"
        case "less_than_equal":
            return f"must be at most {_value(context['le'])}, not {shown}"
        case "greater_than":
            return f"must be more than {_value(context['gt'])}, not {shown}"
        case "literal_error" if error["loc"] == ("role",):
            return f"the file is for role {given}, this program is role {settings.model_fields['role'].default}"
        case "literal_error":
            return f"expected {context['expected']}, not {shown}"
        case "value_error":
            return str(context["error"])
        case _:
            return f"{error['msg']}, not {shown}"


def _unknown_key(location: _Location, settings: type[BaseModel]) -> str:
    model: type[BaseModel] | None = settings
    for part in location[:-1]:
        if isinstance(part, str) and model is not None and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    key = str(location[-1])
    if model is not None:
        close = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "_", key.lower()), model.model_fields, n=1, cutoff=0.6)
        if close:
            return f"unknown key; did you mean {close[0]}?"
    if len(location) > 1 and key in settings.model_fields:
        return "unknown key here; it belongs at the top of the file"
    return "unknown key"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


# ---------------------------------------------------------------------------------------------------------------------
# What the types alone do not say


def _leaves(value: object, location: _Location) -> Iterator[tuple[_Location, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _leaves(getattr(value, name), (*location, name))
    elif isinstance(value, tuple) and value:
        for index, entry in enumerate(value):
            yield from _leaves(entry, (*location, index))
    else:
        yield location, value


def _absolute(value: Any, base: Path) -> Any:
    """The same settings with every path absolute."""
    if isinstance(value, Path):
        return Path(os.path.normpath(base / value.expanduser()))
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        changed = {name: new for name, old in fields.items() if (new := _absolute(old, base)) is not old}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, tuple):
        entries = tuple(_absolute(entry, base) for entry in value)
        return entries if any(new is not old for new, old in zip(entries, value, strict=True)) else value
    return value


def _models(value: object, location: _Location) -> Iterator[tuple[_Location, BaseModel]]:
    if isinstance(value, BaseModel):
        yield location, value
        for name in type(value).model_fields:
            yield from _models(getattr(value, name), (*location, name))
    elif isinstance(value, tuple):
        for index, entry in enumerate(value):
            yield from _models(entry, (*location, index))


def _further_checks(settings: NodeSettings, document: _Document) -> Iterator[tuple[str, _Location]]:
    leaves = dict(_leaves(settings, ()))
    for location in document.booleans:
        if location in leaves and not isinstance(leaves[location], bool):
            yield "expected a value, not a yes or no", location
    for location, value in leaves.items():
        if isinstance(value, Path):
            problem = _file_problem(value, str(location[-1]))
            if problem:
                yield problem, location
    try:
        check_socket_path(settings.control_socket)
    except ConfigError as error:
        yield error.message, ("control_socket",)
    for location, model in _models(settings, ()):
        if isinstance(model, Endpoint | ConfiguredPeer) and not _is_address(model.address):
            yield f"{model.address!r} is not an IP address", (*location, "address")
    yield from _tsig_checks(settings, document)
    yield from _repetitions(settings)
    if settings.min_refresh > settings.max_refresh:
        yield f"is longer than max_refresh ({settings.max_refresh:g})", ("min_refresh",)
    if isinstance(settings, AgentSettings):
        yield from _agent_checks(settings)
    if isinstance(settings, SignerSettings) and settings.signature_refresh >= settings.signature_lifetime:
        yield f"must be shorter than signature_lifetime ({settings.signature_lifetime:g})", ("signature_refresh",)


def _agent_checks(settings: AgentSettings) -> Iterator[tuple[str, _Location]]:
    for index, zone in enumerate(settings.zones):
        for key in sorted({"serial_policy", "journal_octets", "journal_changes"} & zone.model_fields_set):
            yield "belongs to combiner and signer: an agent publishes no zone", ("zones", index, key)
    ports = {endpoint.port for endpoint in settings.publish}
    if len(ports) > 1:
        yield f"all addresses must have one port, not {', '.join(map(str, sorted(ports)))}", ("publish",)
    if settings.https is not None:
        yield from _https_checks(settings, settings.https)
    for index, address in enumerate(settings.resolver.root_hints):
        if not _is_address(address):
            yield f"{address!r} is not an IP address", ("resolver", "root_hints", index)
    if not settings.resolver.root_hints and not settings.resolver.forwarders:
        yield "needs root_hints or forwarders", ("resolver",)


def _https_checks(settings: AgentSettings, https: HttpsSettings) -> Iterator[tuple[str, _Location]]:
    ports = {endpoint.port for endpoint in https.publish}
    if len(ports) > 1:
        yield f"all addresses must have one port, not {', '.join(map(str, sorted(ports)))}", ("https", "publish")
    taken = {(endpoint.address, endpoint.port) for endpoint in settings.listen}
    for index, endpoint in enumerate(https.listen):
        if (endpoint.address, endpoint.port) in taken:
            yield "DNS listens there already", ("https", "listen", index)
    if https.prefer == "dns" and not https.fall_back:
        yield "is needed where DNS is preferred: HTTPS would never be used", ("https", "fall_back")
    if https.key_file == settings.key_file:
        yield "is the key for messages; a certificate needs one of its own", ("https", "key_file")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _repetitions(settings: NodeSettings) -> Iterator[tuple[str, _Location]]:
    for name, key in (("zones", "name"), ("agents", "identity"), ("upstream_signers", "label")):
        seen: dict[str, int] = {}
        for index, entry in enumerate(getattr(settings, name, ())):
            text = str(getattr(entry, key)).lower()
            if text in seen:
                yield f"{text} is also {name}[{seen[text]}]", (name, index, key)
            seen.setdefault(text, index)
    peers: Iterable[tuple[_Location, BaseModel]] = _models(settings, ())
    for location, model in peers:
        if isinstance(model, ConfiguredPeer) and model.identity == settings.identity:
            yield "is our own identity", (*location, "identity")


def _tsig_checks(settings: NodeSettings, document: _Document) -> Iterator[tuple[str, _Location]]:
    wanted = [
        ((*location, "tsig_key"), model.tsig_key)
        for location, model in _models(settings, ())
        if isinstance(model, Primary | Secondary) and model.tsig_key is not None
    ]
    if settings.tsig_keys_file is None:
        for location, name in wanted:
            yield f"{name} cannot be looked up without tsig_keys_file", location
        return
    if document.errors or _file_problem(settings.tsig_keys_file, "tsig_keys_file"):
        return
    known = _tsig_names(settings.tsig_keys_file)
    if isinstance(known, str):
        yield known, ("tsig_keys_file",)
        return
    for location, name in wanted:
        if name.lower().rstrip(".") not in known:
            yield f"{name} is not in {settings.tsig_keys_file}", location


def _tsig_names(path: Path) -> set[str] | str:
    """The names of the keys in a file, or what is wrong with it (never quoting it)."""
    try:
        with path.open("rb") as file:
            entries = yaml.safe_load(file.read(_MAX_FILE))
    except OSError as error:
        return _because(error)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return f"{path} is not YAML"
    if not isinstance(entries, list):
        return f"{path}: expected a list of keys with name, algorithm and secret"
    names = set()
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("name", "secret")):
            return f"{path}: entry [{index}] needs name, algorithm and secret"
        names.add(str(entry["name"]).lower().rstrip("."))
    return names


def _file_problem(path: Path, key: str) -> str | None:
    if key in _CREATED:
        return None
    try:
        status = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        return f"{path}: {_because(error)}"
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    if key in _SECRET_FILES:
        if status.st_mode & 0o077:
            return f"{path} has mode {stat.S_IMODE(status.st_mode):04o} and holds a secret: chmod 600 {path}"
        if status.st_uid not in {os.geteuid(), 0}:
            return f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()} who runs this daemon"
    return None
