"""Read a file of logged conversations once, and tell its workloads apart."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stratos.contrib.logs.messages.conversation import CHARACTERS_A_TOKEN, Conversation
from stratos.contrib.logs.messages.message_file import Seen, read_conversations
from stratos.contrib.logs.messages.workload import Workload, workload_of
from stratos.contrib.logs.personal import personal_data
from stratos.core.reasons import Reason
from stratos.tasks.near_duplicates import Alike
from stratos.tasks.objects import object_of
from stratos.tasks.rows import Problems, Unanswered
from stratos.tasks.words import Listing

_N_ANSWERS = 2000
"""Answers of a workload that are looked at for the metric."""
_CHARACTERS_KEPT = 32 * 2**20
"""Of all these answers together: there may be as many workloads as rows."""
_MOST_WORKLOADS = 50_000
"""Workloads that are told apart before all others are one."""
_TICK = 1000


@dataclass
class Facts:
    """What is known of one workload."""

    workload: Workload | None
    """None for all that belong to none."""
    n: int = 0
    """Conversations, or requests."""
    n_answers: int = 0
    n_multi_turn: int = 0
    n_tools: int = 0
    """Requests that offer tools."""
    n_calling: int = 0
    """Those of them whose last answer calls some."""
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    n_counted: int = 0
    """Conversations whose tokens the file says; those of the others are told by their length."""
    first_s: float = float("inf")
    last_s: float = float("-inf")
    n_timed: int = 0
    models: Counter[str] = field(default_factory=Counter)
    tokens_of: dict[str, list[float]] = field(default_factory=dict)
    """Of each model: tokens in, tokens out."""
    personal: Counter[str] = field(default_factory=Counter)
    """Kind of personal data to how many conversations have it."""
    n_json: int = 0
    """Answers that are JSON objects."""
    n_like_json: int = 0
    """Answers that begin as one, whether they are."""
    answers: list[str] = field(default_factory=list)
    """The first ones."""
    n_kept_characters: int = 0
    """Of these answers."""
    n_copies: int = 0
    """Conversations that say the same as another one, or nearly."""
    system: str = ""
    """System prompt of the first one."""

    def add(self, found: Conversation, keeps: bool = True) -> None:
        """Take a conversation in.

        Args:
            found: a conversation.
            keeps: whether its answers may be kept.
        """
        about = found.about
        self.n += 1
        self.system = self.system or found.system
        self.n_tools += about.offers_tools
        is_last_learnt = len(found.messages) - 1 in found.answered
        self.n_calling += about.offers_tools and found.n_calls > 0 and not is_last_learnt
        self.n_multi_turn += sum(one["role"] == "user" for one in found.messages) > 1
        texts = [found.messages[place]["content"] for place in found.answered]
        self.n_answers += len(texts)
        for text in texts:
            self._add_answer(text, keeps)
        tokens = self.tokens_of.setdefault(about.model, [0.0, 0.0])
        self.models[about.model] += 1
        asked, said = _tokens(found)
        self.n_counted += about.input_tokens is not None and about.output_tokens is not None
        self.input_tokens += asked
        self.output_tokens += said
        tokens[0] += asked
        tokens[1] += said
        if about.time_s is not None:
            self.n_timed += 1
            self.first_s, self.last_s = (
                min(self.first_s, about.time_s),
                max(self.last_s, about.time_s),
            )
        kinds = set().union(
            *(personal_data(one["content"]) for one in found.messages if one["role"] != "system")
        )
        self.personal.update(kinds)

    def _add_answer(self, text: str, keeps: bool) -> None:
        is_like = text.lstrip().startswith(("{", "```json", "```\n{"))
        self.n_like_json += is_like
        self.n_json += is_like and object_of(text) is not None
        if keeps and len(self.answers) < _N_ANSWERS:
            self.answers.append(text)
            self.n_kept_characters += len(text)

    def merge(self, other: Facts) -> None:
        """Take another workload in."""
        for name in ("n", "n_answers", "n_multi_turn", "n_tools", "n_calling",
                     "input_tokens", "output_tokens", "n_counted", "n_timed", "n_json",
                     "n_like_json", "n_copies"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_s, self.last_s = min(self.first_s, other.first_s), max(self.last_s, other.last_s)
        self.models.update(other.models)
        self.personal.update(other.personal)
        for model, (asked, said) in other.tokens_of.items():
            tokens = self.tokens_of.setdefault(model, [0.0, 0.0])
            tokens[0] += asked
            tokens[1] += said
        self.answers += other.answers[: _N_ANSWERS - len(self.answers)]


@dataclass(frozen=True)
class Survey:
    """What is in a file."""

    path: str
    seen: Seen
    workloads: list[Facts]
    """The largest first; the last may be of those that belong to none."""
    broken: Listing
    unanswered: Listing
    n_conversations: int


def survey(
    path: str,
    messages_key: str | None = None,
    answer_key: str | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> Survey:
    """Read a file once.

    Args:
        path: of the file.
        messages_key: field of the messages, where the format is not recognised.
        answer_key: field of the answer.
        tick: told now and then how many rows were read.

    Raises:
        OSError: it cannot be read.
    """
    seen, alike = Seen(), Alike()
    facts: dict[str, Facts] = {}
    places: dict[str, int] = {}
    of = array("I")
    broken, unanswered = Problems(), Problems()
    kept = 0
    for number, (line, found) in enumerate(
        read_conversations(path, seen, messages_key, answer_key), start=1
    ):
        if number % _TICK == 0:
            tick(number)
        if isinstance(found, Unanswered):
            unanswered.add(number, line, found.why)
        elif isinstance(found, Reason):
            broken.add(number, line, found)
        else:
            workload = workload_of(found)
            id = workload.id if workload.id in facts or len(facts) < _MOST_WORKLOADS else ""
            known = facts.setdefault(id, Facts(workload if id else None))
            kept -= known.n_kept_characters
            known.add(found, keeps=kept < _CHARACTERS_KEPT)
            kept += known.n_kept_characters
            alike.add(found.asked)
            of.append(places.setdefault(id, len(places)))
    _count_copies(facts, places, of, alike)
    return Survey(path, seen, _grouped(facts), broken.listing(), unanswered.listing(), len(of))


def _count_copies(
    facts: dict[str, Facts], places: dict[str, int], of: array[int], alike: Alike
) -> None:
    if not of:
        return
    pairs = np.stack([np.frombuffer(of, np.uint32).astype(np.int64), alike.groups()])
    counts = np.bincount(np.unique(pairs, axis=1)[0], minlength=len(places))
    for id, place in places.items():
        facts[id].n_copies = facts[id].n - int(counts[place])


def _grouped(facts: dict[str, Facts]) -> list[Facts]:
    """Return the workloads that are worth a line, the largest first, and the others as one."""
    n = sum(one.n for one in facts.values())
    least = max(20, n // 50)
    rest, kept = Facts(None), []
    for one in sorted(facts.values(), key=lambda one: -one.n):
        if one.workload is not None and one.n >= least:
            kept.append(one)
        else:
            rest.merge(one)
    if not kept and rest.n:
        return [rest]
    return [*kept, *([rest] if rest.n else [])]


def _tokens(found: Conversation) -> tuple[float, float]:
    """Return tokens in and out of a conversation: as logged, or by the length of its texts."""
    about = found.about
    if about.input_tokens is not None and about.output_tokens is not None:
        return about.input_tokens, about.output_tokens
    # Each answer was asked for with all that stands before it.
    lengths = np.cumsum([len(one["content"]) for one in found.messages])
    places = (*found.answered, *found.called)
    asked = sum(float(lengths[place - 1]) + about.tool_characters for place in places)
    said = sum(len(found.messages[place]["content"]) for place in places)
    return asked / CHARACTERS_A_TOKEN, said / CHARACTERS_A_TOKEN
