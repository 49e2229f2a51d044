"""Names: which are valid, and what has one.

Names stand in tables, files and scripts, and catalogs and tasks come from anywhere: a line break in
an instance type was a command in a script.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from stratos.core.formats import shown, unseen
from stratos.core.reasons import Because, Reason

LONGEST_NAME = 200
"""Characters of a name; an instance type has 30, the name of a model on the hub at most 96."""

_NAMED = {
    "name", "model", "license", "providers", "regions", "slices", "labels", "project", "entity",
    "group",
}  # fmt: skip
"""Keys of the config whose values are names."""
_KEYED = {"candidates", "quotas"}
"""Keys whose own keys are names."""
_PATHS = {"path", "catalog", "records_from", "base_url"}
_FREE = {"extra_body", "verifier"}
"""Keys below which nothing is ours."""


def why_no_name(text: str) -> Reason | None:
    """Return why a text may not be a name, as the end of a sentence; None if it may."""
    if text.strip() and len(text) > LONGEST_NAME:
        return Because(f"a name has at most {LONGEST_NAME} characters, this one has {len(text):,}")
    return _why_no_path(text, "name")


def wrong_names(node: Any, key: str = "") -> Iterator[str]:
    """Yield a problem for every name and path of a config that may be none."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name in _FREE:
                continue
            inner = f"{key}.{name}" if key else str(name)
            if name in _KEYED and isinstance(value, Mapping):
                yield from (
                    f"{inner} has a key '{shown(name)}': {reason}."
                    for name in value
                    if (reason := why_no_name(str(name)))
                )
            yield from wrong_names(value, inner)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from wrong_names(item, key)
    elif isinstance(node, str):
        last = key.rpartition(".")[2]
        if last in _NAMED:
            reason = why_no_name(node)
            if last == "name" and ("/" in node or "\\" in node or node in (".", "..")):
                reason = reason or Because("a name cannot have a slash: folders are named after it")
        elif last in _PATHS or last.endswith(("_path", "_file", "_dir")):
            reason = _why_no_path(node, "URL" if last == "base_url" else "path")
        else:
            reason = None
        if reason is not None:
            yield f"{key}='{shown(node, 60)}': {reason}."


def _why_no_path(text: str, what: str) -> Reason | None:
    if not text.strip():
        return Because(f"a {what} cannot be empty")
    character = unseen(text)
    if not character:
        return None
    return Because(f"a {what} cannot have the character {character}, which is invisible")


class HasName(Protocol):
    """What is looked up."""

    @property
    def name(self) -> str:
        """By which it is known; no other of its kind has it."""
        ...


N = TypeVar("N", bound=HasName)


def find(ones: Iterable[N], name: str) -> N | None:
    """Return the one that has a name; None if there is none."""
    return {each.name: each for each in ones}.get(name)


def named(ones: Iterable[N], name: str) -> N:
    """Return the one that has a name, where it is known that there is one.

    Raises:
        KeyError: there is none.
    """
    return {each.name: each for each in ones}[name]
