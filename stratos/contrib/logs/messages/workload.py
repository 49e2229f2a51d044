"""Which workload a conversation is of: by its system prompt, or by how its question begins.

Numbers, dates, ids and addresses in them do not count: a template that is filled in is one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from stratos.contrib.logs.messages.conversation import Conversation
from stratos.tasks.split import normalised

_WORDS_OF_SYSTEM = 12
_FEW_WORDS = 8
"""Words of a system prompt below which it says nothing of the work, such as "You are helpful."."""
_WORDS_OF_QUESTION = 4
_READ = 2000
"""Characters of a text that are looked at."""
_URL = re.compile(r"https?://.+", re.DOTALL)
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Workload:
    """Conversations with one system prompt, or one template."""

    id: str
    """A letter and eight digits, the same for the same prompts in any file."""
    beginning: str
    """The words that tell it, of a system prompt or of a question."""
    is_system: bool
    """Whether they are of a system prompt."""


def workload_of(conversation: Conversation) -> Workload:
    """Return the workload of a conversation."""
    if (of_system := _of_system(conversation.system[:_READ])) is not None:
        return of_system
    first = next(one["content"] for one in conversation.messages if one["role"] == "user")
    return _workload(_words(first)[:_WORDS_OF_QUESTION], False)


@lru_cache(maxsize=1024)
def _of_system(system: str) -> Workload | None:
    """Return the workload that a system prompt tells, which many conversations have; or None."""
    words = _words(system)
    return _workload(words, True) if len(words) >= _FEW_WORDS else None


def _workload(words: list[str], is_system: bool) -> Workload:
    beginning = " ".join(words)
    kind = "system" if is_system else "user"
    digest = hashlib.blake2b(f"{kind} {beginning}".encode("utf-8", "replace"), digest_size=4)
    # A letter in front, lest Hydra takes digits for a number.
    return Workload(f"w{digest.hexdigest()}", beginning, is_system)


def _words(text: str) -> list[str]:
    """Return the first words of a text, … for those that are filled in."""
    words = normalised(text[:_READ]).split()
    return [_without_particulars(word) for word in words[:_WORDS_OF_SYSTEM]]


def _without_particulars(word: str) -> str:
    # Word by word, as a text without spaces has one alone: the time grows with its length.
    if "@" in word[1:-1] or _DIGIT.search(word):
        return "…"
    return _URL.sub("…", word)


@lru_cache(maxsize=1024)
def template_of(text: str) -> str:
    """Return a text without its numbers, dates, ids and addresses."""
    return " ".join(map(_without_particulars, normalised(text).split()))
