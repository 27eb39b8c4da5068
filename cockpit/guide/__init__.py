"""The operator's guide: Markdown pages, shipped with the program.

Read with ``mpcockpit guide [PAGE]`` or in the screens.
"""

from __future__ import annotations

from importlib.resources import files

from mpcore.errors import NotFoundError

__all__ = ("page", "page_names")

#: Pages in reading order; any further ones follow.
_ORDER = (
    "index",
    "quick-start",
    "cockpit",
    "commands",
    "query",
    "architecture",
    "configuration",
    "wire-format",
    "troubleshooting",
    "changes",
)


def page_names() -> tuple[str, ...]:
    """Names of the pages, in reading order."""
    present = {entry.name.removesuffix(".md") for entry in files(__name__).iterdir() if entry.name.endswith(".md")}
    return (*(name for name in _ORDER if name in present), *sorted(present.difference(_ORDER)))


def page(name: str) -> str:
    """Text of a page; :raises NotFoundError: there is none of that name."""
    if name not in page_names():
        raise NotFoundError(f"the guide has no page {name!r}; there are {', '.join(page_names())}")
    return files(__name__).joinpath(f"{name}.md").read_text("utf-8")
