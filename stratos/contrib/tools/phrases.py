"""What a tool does and what its arguments are called, in words."""

from __future__ import annotations

import re
from functools import lru_cache

from stratos.contrib.tools.signatures import Tool
from stratos.contrib.tools.spelling import LONGEST

_FIRST = re.compile(r"(?<=[a-z\d)])\.(?:\s|$)|\n")
_PREFACE = re.compile(
    r"(?:this|the) (?:function|tool|api|method|endpoint)\s+(?:is used to |allows you to |can )?",
    re.IGNORECASE,
)
_DETAIL = re.compile(
    r",| (?:based on|given|by|using|with|from|for|of an?|for an?|in an?|according to|including|that"
    r"|which|and|if|between|where|on an?|at an?|via|through) ",
    re.IGNORECASE,
)
"""Behind this a description goes into what is given."""
_DANGLING = re.compile(r"(?: (?:a|an|the|of|in|on|at|to|for|its|their))+$", re.IGNORECASE)
_SPACE = re.compile(r".*\.|^[A-Za-z]+_\d+_")
"""What stands before the name of a tool proper: its API."""
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_LEAST_WORDS = 2
"""Of a shorter phrase, and of a name, so that it says what is done."""
_MOST_WORDS = 6
"""Of a name that is said in place of the description."""
_ASKING = frozenset((
    "get", "find", "calculate", "compute", "retrieve", "determine", "fetch", "return", "provide",
    "check", "obtain", "estimate", "show", "display", "list", "give",
))  # fmt: skip
"""Verbs whose object can be asked for: to get the weather, or what the weather is."""


def phrases(tool: Tool) -> tuple[str, ...]:
    """Return what a tool does, as it follows "Please"."""
    return _phrases_of(tool.name, tool.description)


def nouns(tool: Tool) -> tuple[str, ...]:
    """Return what a tool gives, as it follows "Show me"; none where it does something else."""
    parts = (phrase.partition(" ") for phrase in phrases(tool))
    return tuple(dict.fromkeys(rest for verb, _, rest in parts if verb in _ASKING and rest))


def words_of(name: str) -> str:
    """Return the words of a name."""
    words = _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ").lower()
    return " ".join(words.split())


@lru_cache(maxsize=4096)
def _phrases_of(name: str, description: str) -> tuple[str, ...]:
    first = _FIRST.split(description, maxsplit=1)[0].strip().rstrip(".")
    words = words_of(_SPACE.sub("", name))
    by_name = words if _LEAST_WORDS <= len(words.split()) <= _MOST_WORDS else ""
    verb, _, rest = _PREFACE.sub("", first).partition(" ")
    whole = f"{_bare(verb)} {rest}".strip()
    short = _DANGLING.sub("", _DETAIL.split(whole, maxsplit=1)[0].strip())
    if len(short.split()) < _LEAST_WORDS:
        short = ""
    found = [one for one in (whole, short, by_name) if 0 < len(one) <= LONGEST // 4]
    return tuple(dict.fromkeys(found)) or (f"call {name}",)


def _bare(verb: str) -> str:
    """Return a verb as it follows "Please": that of "Returns the weather" is "return"."""
    if verb.isupper():
        return verb
    verb = verb.lower()
    if verb.endswith("ies"):
        return f"{verb[:-3]}y"
    if verb.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith(("ss", "us", "is")) else verb
