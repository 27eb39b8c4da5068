"""What every YAML text is checked for before anything is made of it: nesting and aliases.

Building objects of deeply nested text costs stack, and a few aliases of aliases stand for more objects than memory has.
"""

from __future__ import annotations

import yaml

from mpcore.errors import ConfigError

__all__ = ("MAX_DEPTH", "check_yaml")

MAX_DEPTH = 20
"""Lists and mappings inside each other at most."""


def check_yaml(text: str, file: str, *, max_depth: int = MAX_DEPTH) -> None:
    """Refuse text that is not YAML, that nests deeper than *max_depth*, or that has an alias.

    :param file: name of the file, for the error.
    :param max_depth: at least 1.
    :raises ConfigError: with file and line.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = None if event.start_mark is None else event.start_mark.line + 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > max_depth:
                    raise ConfigError("is nested too deeply", file=file, line=line)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.AliasEvent):
                raise ConfigError("has an alias (*), which is not supported", file=file, line=line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be read"
        raise ConfigError(f"is not YAML: {problem}", file=file, line=mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {' '.join(str(error).split())}", file=file) from None
