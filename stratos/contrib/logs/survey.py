"""Read a file of logged conversations once, and tell its workloads apart.

No model reads the text: personal data are known by their form (`stratos.core.personal_data`).
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stratos.contrib.logs.messages.conversation import CHARACTERS_A_TOKEN, Conversation
from stratos.contrib.logs.messages.turn_rows import Seen, Workload, read_conversations, workload_of
from stratos.core.personal_data import kinds_in
from stratos.core.reasons import Reason
from stratos.tasks.dedup.near import Alike
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

    def add(self, conversation: Conversation, keeps: bool = True) -> None:
        """Take a conversation in.

        Args:
            conversation: a conversation.
            keeps: whether its answers may be kept.
        """
        about = conversation.about
        self.n += 1
        self.system = self.system or conversation.system
        self.n_tools += about.offers_tools
        is_last_learnt = len(conversation.messages) - 1 in conversation.answered
        self.n_calling += about.offers_tools and conversation.n_calls > 0 and not is_last_learnt
        self.n_multi_turn += sum(message["role"] == "user" for message in conversation.messages) > 1
        texts = [conversation.messages[index]["content"] for index in conversation.answered]
        self.n_answers += len(texts)
        for text in texts:
            self._add_answer(text, keeps)
        tokens = self.tokens_of.setdefault(about.model, [0.0, 0.0])
        self.models[about.model] += 1
        n_input, n_output = _tokens(conversation)
        self.n_counted += about.input_tokens is not None and about.output_tokens is not None
        self.input_tokens += n_input
        self.output_tokens += n_output
        tokens[0] += n_input
        tokens[1] += n_output
        if about.time_s is not None:
            self.n_timed += 1
            self.first_s = min(self.first_s, about.time_s)
            self.last_s = max(self.last_s, about.time_s)
        kinds = set().union(
            *(
                kinds_in(message["content"])
                for message in conversation.messages
                if message["role"] != "system"
            )
        )
        self.personal.update(kinds)

    def _add_answer(self, text: str, keeps: bool) -> None:
        is_like = text.lstrip().startswith(("{", "```json", "```\n{"))
        self.n_like_json += is_like
        self.n_json += is_like and object_of(text) is not None
        if keeps and len(self.answers) < _N_ANSWERS:
            self.answers.append(text)
            self.n_kept_characters += len(text)

    def merge(self, facts: Facts) -> None:
        """Take another workload in."""
        for name in ("n", "n_answers", "n_multi_turn", "n_tools", "n_calling",
                     "input_tokens", "output_tokens", "n_counted", "n_timed", "n_json",
                     "n_like_json", "n_copies"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(facts, name))
        self.first_s, self.last_s = min(self.first_s, facts.first_s), max(self.last_s, facts.last_s)
        self.models.update(facts.models)
        self.personal.update(facts.personal)
        for model, (n_input, n_output) in facts.tokens_of.items():
            tokens = self.tokens_of.setdefault(model, [0.0, 0.0])
            tokens[0] += n_input
            tokens[1] += n_output
        self.answers += facts.answers[: _N_ANSWERS - len(self.answers)]


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
    n_characters = 0
    for number, (line, row) in enumerate(
        read_conversations(path, seen, messages_key, answer_key), start=1
    ):
        if number % _TICK == 0:
            tick(number)
        if isinstance(row, Unanswered):
            unanswered.add(number, line, row.why)
        elif isinstance(row, Reason):
            broken.add(number, line, row)
        else:
            workload = workload_of(row)
            id = workload.id if workload.id in facts or len(facts) < _MOST_WORKLOADS else ""
            known = facts.setdefault(id, Facts(workload if id else None))
            n_characters -= known.n_kept_characters
            known.add(row, keeps=n_characters < _CHARACTERS_KEPT)
            n_characters += known.n_kept_characters
            alike.add(row.user_text)
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
    for id, index in places.items():
        facts[id].n_copies = facts[id].n - int(counts[index])


def _grouped(facts: dict[str, Facts]) -> list[Facts]:
    """Return the workloads that are worth a line, the largest first, and the others as one."""
    n = sum(workload.n for workload in facts.values())
    least = max(20, n // 50)
    rest, large = Facts(None), []
    for workload in sorted(facts.values(), key=lambda workload: -workload.n):
        if workload.workload is not None and workload.n >= least:
            large.append(workload)
        else:
            rest.merge(workload)
    if not large and rest.n:
        return [rest]
    return [*large, *([rest] if rest.n else [])]


def _tokens(conversation: Conversation) -> tuple[float, float]:
    """Return tokens in and out of a conversation: as logged, or by the length of its texts."""
    about = conversation.about
    if about.input_tokens is not None and about.output_tokens is not None:
        return about.input_tokens, about.output_tokens
    # Each answer was asked for with all that stands before it.
    lengths = np.cumsum([len(message["content"]) for message in conversation.messages])
    places = (*conversation.answered, *conversation.called)
    n_input = sum(float(lengths[index - 1]) + about.tool_characters for index in places)
    n_output = sum(len(conversation.messages[index]["content"]) for index in places)
    return n_input / CHARACTERS_A_TOKEN, n_output / CHARACTERS_A_TOKEN
