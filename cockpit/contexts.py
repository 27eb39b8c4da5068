"""Whom the cockpit talks to: the contexts of one state directory.

A *context* is one provider's daemons, a *fleet* all the contexts of a state directory.  ``contexts.yaml`` there names
their control sockets; the lab writes it, and an operator of real daemons writes it by hand::

    zone: customer.example.          # optional: the zone commands act on unless one is named
    resolver:                        # optional: whom `mpcockpit query` asks
      address: 127.100.0.4
      port: 5300
    root:                            # optional: where `mpcockpit query --trace` begins
      address: 127.100.0.1
      port: 5300
    trust_anchor_file: anchor.zone   # optional: what `mpcockpit query --validate` trusts
    contexts:
      - name: alpha
        agent: /run/mpdnssec/alpha.agent
        combiner: /run/mpdnssec/alpha.combiner
        signer: /run/mpdnssec/alpha.signer

Relative paths are relative to the file.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpcore.errors import ConfigError
from mpcore.yamltext import check_yaml

__all__ = ("ROLES", "Context", "Fleet", "ResolverAddress", "RoleName", "default_state_dir", "load_fleet")

RoleName = Literal["agent", "combiner", "signer"]

#: Roles of daemons, in the order in which they are listed.
ROLES: tuple[RoleName, ...] = ("agent", "combiner", "signer")

_FILE = "contexts.yaml"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ResolverAddress(_Model):
    """A recursive server, or a root server."""

    address: str
    port: int = Field(default=53, ge=1, le=65535)


class Context(_Model):
    """One provider's daemons: the paths of their control sockets, ``None`` for one it does not run."""

    name: str = Field(min_length=1)
    agent: Path | None = None
    combiner: Path | None = None
    signer: Path | None = None

    def socket(self, role: RoleName) -> Path:
        """The control socket of one daemon; :raises ConfigError: this context has none."""
        path: Path | None = getattr(self, role)
        if path is None:
            raise ConfigError(f"context {self.name} names no {role}", key=role)
        return path

    @property
    def roles(self) -> tuple[RoleName, ...]:
        """The daemons this context has."""
        return tuple(role for role in ROLES if getattr(self, role) is not None)


class Fleet(_Model):
    """Everything that ``contexts.yaml`` says."""

    zone: str | None = None
    resolver: ResolverAddress | None = None
    root: ResolverAddress | None = None
    trust_anchor_file: Path | None = None
    contexts: tuple[Context, ...] = Field(min_length=1)

    def context(self, name: str | None) -> Context:
        """The context called *name*, the first one for ``None``; :raises ConfigError: there is none."""
        if name is None:
            return self.contexts[0]
        for context in self.contexts:
            if context.name == name:
                return context
        known = ", ".join(context.name for context in self.contexts)
        raise ConfigError(f"no context is called {name!r}; there are {known}", key="--context")


def default_state_dir() -> Path:
    """Where the lab keeps its state when nobody says."""
    from platformdirs import user_state_dir

    return Path(user_state_dir("mpdnssec")) / "lab"


def load_fleet(state_dir: Path) -> Fleet:
    """Read the contexts of a state directory.

    :raises ConfigError: there are none, or the file cannot be used; names file, line and key.
    """
    path = state_dir / _FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no contexts in {state_dir}: start a lab with 'mpcockpit lab', or name the directory of a running one "
            "with --state-dir"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from None
    value, lines = _read_yaml(text, str(path))
    try:
        fleet = Fleet.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = tuple(str(part) for part in first["loc"])
        while where and where not in lines:
            where = where[:-1]
        raise ConfigError(
            first["msg"],
            file=str(path),
            key=".".join(str(part) for part in first["loc"]) or None,
            line=lines.get(where),
        ) from None
    names = [context.name for context in fleet.contexts]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(
                f"a second context called {name}",
                file=str(path),
                key=f"contexts.{number}.name",
                line=lines.get(("contexts", str(number), "name")),
            )
    update: dict[str, object] = {"contexts": tuple(_absolute(context, state_dir) for context in fleet.contexts)}
    if fleet.trust_anchor_file is not None:
        update["trust_anchor_file"] = state_dir / fleet.trust_anchor_file
    return fleet.model_copy(update=update)


def _absolute(context: Context, directory: Path) -> Context:
    update: dict[str, object] = {role: Path(os.path.join(directory, getattr(context, role))) for role in context.roles}
    return context.model_copy(update=update)


def _read_yaml(text: str, file: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The document and the line of each key; :raises ConfigError: not YAML, or a key twice."""
    check_yaml(text, file)
    lines: dict[tuple[str, ...], int] = {}
    loader = yaml.SafeLoader(text)

    def build(node: yaml.Node, path: tuple[str, ...]) -> Any:
        lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            found: dict[Hashable, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node, deep=True)
                where = (*path, str(key))
                if not isinstance(key, Hashable) or key in found:
                    raise ConfigError(
                        "is given twice", file=file, key=".".join(where), line=key_node.start_mark.line + 1
                    )
                found[key] = build(value_node, where)
                lines[where] = key_node.start_mark.line + 1
            return found
        if isinstance(node, yaml.SequenceNode):
            return [build(item, (*path, str(number))) for number, item in enumerate(node.value)]
        return loader.construct_object(node, deep=True)

    try:
        node = loader.get_single_node()
        return ({} if node is None else build(node, ())), lines
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: a date that is none, a number of 5000 digits
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"is no YAML: {problem}", file=file, line=None if mark is None else mark.line + 1) from None
    finally:
        loader.dispose()
