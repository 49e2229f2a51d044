"""Each answer of the model as a row: the history is the question.

Numbers, dates, ids and addresses in them do not count: a template that is filled in is one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from math import nan
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from stratos.contrib.logs.conversation import (
    Conversation,
    PassedOver,
    UnansweredRow,
    WrongRow,
    as_question,
)
from stratos.contrib.logs.row_formats import conversation_in, parts_of_row
from stratos.contrib.logs.words import FieldOfWrongType
from stratos.core import extras
from stratos.core.errors import StratosError
from stratos.core.foreign import beside, cause
from stratos.core.reasons import Because, Reason
from stratos.core.remote import local_path
from stratos.tasks.answers import object_of
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.dedup.near import Alike
from stratos.tasks.files import is_local, read_records
from stratos.tasks.metrics import MetricName
from stratos.tasks.rows import Unanswered
from stratos.tasks.table import Provenance, Row, Rows

_N_SAMPLE = 2000
_SHORT = 40
"""Characters of an answer that is short: a label, a number, a date."""
_FEW_OF_SHORT = 2
"""Words of a short answer that no other is equal to; those with more are texts."""
_SHARE = 0.9


def suited_metric(rows: Rows) -> MetricName:
    """Return exact for answers that are short or JSON objects, nine tenths of them; else f1."""
    return suited_to([row.answer for row in islice(rows, _N_SAMPLE)])


def suited_to(answers: list[str]) -> MetricName:
    """Return the same of answers."""
    counts = Counter(answers)
    n_short = sum(
        len(answer) <= _SHORT
        and "\n" not in answer
        and (n > 1 or len(answer.split()) <= _FEW_OF_SHORT)
        for answer, n in ((answer, counts[answer]) for answer in answers)
    )
    n_objects = sum(
        answer.endswith(("}", "```")) and object_of(answer) is not None for answer in answers
    )
    return "exact" if max(n_short, n_objects) >= _SHARE * len(answers) else "f1"


_HUB = "hf://datasets/"
OF_WRONG_TYPES = (
    AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What reading raises where a field has another type than its format has, or a wild value."""


@dataclass
class Seen:
    """What was met in a file beside its conversations; filled while it is read."""

    n_rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    """Name of a format to how many conversations have it."""
    passed: Counter[str] = field(default_factory=Counter)
    """Why to how many rows are left out though nothing is wrong with them."""
    n_other: int = 0
    """Conversations that are not wanted; nothing else of them is counted."""
    n_images: int = 0
    n_calls: int = 0
    n_secrets: int = 0

    def add(self, conversation: Conversation) -> None:
        """Count a conversation."""
        self.formats[conversation.about.format] += 1
        self.n_images += conversation.n_images
        self.n_calls += conversation.n_calls
        self.n_secrets += conversation.n_secrets


def read_conversations(
    path: str,
    seen: Seen,
    messages: str | None = None,
    answer: str | None = None,
    chosen: Callable[[Conversation], bool] | None = None,
) -> Iterator[tuple[str, Conversation | Unanswered | Reason]]:
    """Yield where each conversation stands with it, or with what is wrong.

    Args:
        path: of JSON lines, JSON, CSV, Parquet (a path, a URL of fsspec), a folder that `datasets`
            saved, or a data set of the hub.
        seen: counts what is read.
        messages: dotted name of the list of messages; None recognises the format of each row.
        answer: dotted name of the model's answer beside it.
        chosen: tells the conversations that are read; None reads all.

    Raises:
        OSError: it cannot be read.
    """
    for line, row in _rows(path):
        seen.n_rows += 1
        for part, inner in [("", row)] if isinstance(row, Reason) else _parts(row):
            if isinstance(inner, Reason):
                yield line, inner
                continue
            try:
                conversation = conversation_in(inner, messages, answer)
            except UnansweredRow as error:
                yield line + part, Unanswered(Because(str(error)))
            except WrongRow as error:
                yield line + part, Because(str(error))
            except PassedOver as kind:
                seen.passed[str(kind)] += 1
            except OF_WRONG_TYPES as error:
                yield line + part, FieldOfWrongType(cause(error))
            else:
                if chosen is not None and not chosen(conversation):
                    seen.n_other += 1
                    continue
                seen.add(conversation)
                yield line + part, conversation


def unreadable(path: str, error: OSError) -> StratosError:
    """Return the error of a file of conversations that cannot be read."""
    meant = beside(Path(local_path(path)).expanduser()) if is_local(path) else ""
    return StratosError(f"{path} cannot be read: {error.strerror or error}.{meant}")


def _parts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        yield from parts_of_row(row)
    except OF_WRONG_TYPES as error:
        yield "", FieldOfWrongType(cause(error))


def _rows(path: str) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    here = os.path.expanduser(local_path(path))
    if is_local(path) and os.path.isdir(here):
        yield from _saved(here)
    elif path.startswith(_HUB) and path.removeprefix(_HUB).count("/") == 1:
        yield from _of_hub(path.removeprefix(_HUB))
    else:
        yield from read_records(path)


def is_saved(path: str) -> bool:
    """Return whether a path names a folder that the library `datasets` saved."""
    here = os.path.expanduser(local_path(path))
    return is_local(path) and any(
        os.path.isfile(os.path.join(here, name)) for name in ("state.json", "dataset_dict.json")
    )


def _saved(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not is_saved(folder):
        raise OSError("it is a folder, and no data set that datasets saved. Name a file in it")
    datasets = _library()
    try:
        saved = datasets.load_from_disk(folder)
    except Exception as error:  # what the library raises on a damaged folder is its own affair
        raise OSError(f"datasets cannot load it ({cause(error)})") from error
    parts = saved.values() if isinstance(saved, dict) else [saved]
    for number, row in enumerate(chain.from_iterable(parts), start=1):
        yield f"row {number}", row


def _of_hub(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name, _, revision = name.partition("@")
    datasets = _library()
    try:
        rows = datasets.load_dataset(name, split="train", streaming=True, revision=revision or None)
        for number, row in enumerate(rows, start=1):
            yield f"row {number}", row
    except Exception as error:  # as above, and of the network
        raise OSError(f"datasets cannot load {name} ({cause(error)})") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise OSError(
            f"it needs the package datasets. Type: {extras.install('datasets')}"
        ) from error
    datasets.disable_progress_bars()
    return datasets


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
    first = next(
        message["content"] for message in conversation.messages if message["role"] == "user"
    )
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
        rows = self._conversations(path, Seen())
        read = (conversation for _, conversation in rows if isinstance(conversation, Conversation))
        counts.update(conversation.system for conversation in islice(read, _N_FOR_SYSTEM))
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
        for line, row in self._conversations(path, self.seen):
            if not isinstance(row, Conversation):
                yield line, row
            elif row.answered:
                yield from self._turns(line, row)

    def _conversations(
        self, path: str, seen: Seen
    ) -> Iterator[tuple[str, Conversation | Unanswered | Reason]]:
        chosen = None if self.workload is None else self._is_wanted
        return read_conversations(path, seen, self.messages_key, self.answer_key, chosen)

    def _is_wanted(self, conversation: Conversation) -> bool:
        return workload_of(conversation).id == self.workload

    def _turns(self, line: str, conversation: Conversation) -> Iterator[tuple[str, Row]]:
        contents = (
            (message["role"], message["content"].strip()) for message in conversation.messages
        )
        coded = ((content[0], _encode(content)) for content in contents)
        answers = beginnings(coded, "assistant")
        number = self.alike.add(
            conversation.user_text, answers, session_of(conversation.about.session)
        )
        self.n_conversations += 1
        is_own = conversation.system == self.system
        is_dated = (
            bool(conversation.system)
            and not is_own
            and template_of(conversation.system) == self.template
        )
        self.n_dated += is_dated
        self.n_other_system += bool(conversation.system) and not is_own and not is_dated
        is_left_out = is_own or (is_dated and self.is_replaced)
        start = int(conversation.messages[0]["role"] == "system" and is_left_out)
        time_s = nan if conversation.about.time_s is None else conversation.about.time_s
        about = conversation.about
        provenance = Provenance(number, time_s, about.model, workload_of(conversation).id)
        if len(conversation.answered) == 1:
            provenance = replace(
                provenance, input_tokens=about.input_tokens, output_tokens=about.output_tokens
            )
        first = next(
            k for k, message in enumerate(conversation.messages) if message["role"] == "user"
        )
        turns = [
            k
            for k, message in enumerate(conversation.messages)
            if message["role"] == "assistant" and k > first
        ]
        for index in conversation.answered:
            turn = turns.index(index)
            where = line if len(conversation.answered) == 1 else f"{line}, turn {turn + 1}"
            yield (
                where,
                Row(
                    where,
                    as_question(conversation.messages[start:index]),
                    conversation.messages[index]["content"].strip(),
                    "",
                    SLICES[min(turn, len(SLICES) - 1)],
                    (),
                    provenance,
                ),
            )


def beginnings(messages: Iterable[tuple[str, bytes]], last: str) -> tuple[int, ...]:
    """Return hashes of what a conversation begins with, up to each message of a role.

    Args:
        messages: role and content of each.
        last: role of the message that a beginning ends with.
    """
    digest = hashlib.blake2b(digest_size=8)
    hashes: list[int] = []
    for role, content in messages:
        if role in ("system", "developer"):
            continue
        digest.update(content)
        if role == last:
            hashes.append(int.from_bytes(digest.digest(), "big"))
            if len(hashes) == _MOST_PREFIXES:
                break
    return tuple(hashes)


def session_of(id: str) -> int | None:
    """Return the hash of a session's id; None of an empty one."""
    if not id:
        return None
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")
