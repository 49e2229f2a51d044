"""Each answer of the model as a row: the history is the question."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import nan

import msgspec
from msgspec.structs import replace

from stratos.contrib.logs.messages.conversation import Conversation, as_question
from stratos.contrib.logs.messages.message_file import Seen, read_conversations
from stratos.contrib.logs.messages.workload import template_of, workload_of
from stratos.core.reasons import Reason
from stratos.tasks.base import Message
from stratos.tasks.near_duplicates import Alike
from stratos.tasks.rows import Unanswered
from stratos.tasks.table import Provenance, Row

SLICES = ("first turn", "second turn", "later turns")
"""Which answer of the model in its conversation a row is."""
_N_FOR_SYSTEM = 1000
"""Conversations of which most have to have a system prompt for it to be the task's."""
_MOST_PREFIXES = 50
"""Beginnings of a conversation that are compared with others."""
_encode = msgspec.json.Encoder().encode


@dataclass
class TurnReader:
    """Reads the turns of files, and remembers which of them belong together."""

    messages_key: str | None = None
    answer_key: str | None = None
    workload: str | None = None
    """Id of the only workload that is read; None reads all."""
    system: str | None = None
    """System prompt that is the task's own, and so left out of histories; None before it is
    known."""
    template: str = ""
    """What more than half of the system prompts are without dates and numbers; "" for nothing."""
    is_replaced: bool = False
    """Whether the task has an instruction of its own: prompts of the template are left out then."""
    n_dated: int = 0
    """Conversations with a prompt of the template that is not the task's."""
    seen: Seen = field(default_factory=Seen)
    alike: Alike = field(default_factory=Alike)
    n_conversations: int = 0
    n_other_system: int = 0
    """Conversations whose system prompt is neither the task's nor of its template."""

    def find_system(self, path: str) -> None:
        """Take the system prompt that more than half of the first conversations have, if one is.

        Raises:
            OSError: the file cannot be read.
        """
        counts: Counter[str] = Counter()
        found = self._conversations(path, Seen())
        read = (one for _, one in found if isinstance(one, Conversation))
        counts.update(one.system for one in islice(read, _N_FOR_SYSTEM))
        [(system, n)] = counts.most_common(1) or [("", 0)]
        self.system = system if n > counts.total() / 2 else ""
        templates: Counter[str] = Counter()
        for text, n_of in counts.items():
            templates[template_of(text)] += n_of
        [(template, n)] = templates.most_common(1) or [("", 0)]
        self.template = template if n > counts.total() / 2 else ""

    def rows(self, path: str) -> Iterator[tuple[str, Row | Unanswered | Reason]]:
        """Yield where each answer of the model stands with its row, or with what is wrong.

        Raises:
            OSError: the file cannot be read.
        """
        for line, found in self._conversations(path, self.seen):
            if not isinstance(found, Conversation):
                yield line, found
            elif found.answered:
                yield from self._turns(line, found)

    def _conversations(
        self, path: str, seen: Seen
    ) -> Iterator[tuple[str, Conversation | Unanswered | Reason]]:
        wanted = None if self.workload is None else self._is_wanted
        return read_conversations(path, seen, self.messages_key, self.answer_key, wanted)

    def _is_wanted(self, found: Conversation) -> bool:
        return workload_of(found).id == self.workload

    def _turns(self, line: str, found: Conversation) -> Iterator[tuple[str, Row]]:
        number = self.alike.add(
            found.asked, beginnings(found.messages), session_of(found.about.session)
        )
        self.n_conversations += 1
        is_own = found.system == self.system
        is_dated = bool(found.system) and not is_own and template_of(found.system) == self.template
        self.n_dated += is_dated
        self.n_other_system += bool(found.system) and not is_own and not is_dated
        is_left_out = is_own or (is_dated and self.is_replaced)
        start = int(found.messages[0]["role"] == "system" and is_left_out)
        time_s = nan if found.about.time_s is None else found.about.time_s
        about = found.about
        provenance = Provenance(number, time_s, about.model, workload_of(found).id)
        if len(found.answered) == 1:
            provenance = replace(
                provenance, input_tokens=about.input_tokens, output_tokens=about.output_tokens
            )
        asked = next(k for k, one in enumerate(found.messages) if one["role"] == "user")
        turns = [
            k for k, one in enumerate(found.messages) if one["role"] == "assistant" and k > asked
        ]
        for place in found.answered:
            turn = turns.index(place)
            where = line if len(found.answered) == 1 else f"{line}, turn {turn + 1}"
            yield (
                where,
                Row(
                    where,
                    as_question(found.messages[start:place]),
                    found.messages[place]["content"].strip(),
                    "",
                    SLICES[min(turn, len(SLICES) - 1)],
                    (),
                    provenance,
                ),
            )


def beginnings(messages: Sequence[Message]) -> tuple[int, ...]:
    """Return hashes of what a conversation begins with, up to each answer of the model."""
    digest = hashlib.blake2b(digest_size=8)
    found: list[int] = []
    for one in messages:
        if one["role"] == "system":
            continue
        digest.update(_encode((one["role"], one["content"].strip())))
        if one["role"] == "assistant":
            found.append(int.from_bytes(digest.digest(), "big"))
            if len(found) == _MOST_PREFIXES:
                break
    return tuple(found)


def session_of(id: str) -> int | None:
    """Return the hash of a session's id; None of an empty one."""
    if not id:
        return None
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")
