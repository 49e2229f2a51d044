"""The work of a candidate: length of its training, sizes and rates of its requests, assumptions.

The training length of a candidate, by the same rule as the training, and the size of its rows.

File tasks have so many rows to learn from, and a strategy takes so many of them, or makes so many;
of those that a teacher answers, the share that it answers right. What a row takes in the student's
tokens is counted on a sample: question, and what is learnt as its answer. The served student is
asked and answers the same.

Traffic of the served student: request sizes and rates.

The size of a request is that of the config's buckets; else that of the recorded runs; else that of
the task's rows, as the student is asked and taught them; else an assumed one.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean, mean
from typing import Any

from stratos.config import (
    ComplexityConfig,
    Config,
    EvaluateConfig,
    StudentConfig,
    TrafficConfig,
    TrainerConfig,
)
from stratos.core.formats import counted
from stratos.core.values import named
from stratos.distill.tokenizer import BYTES_PER_TOKEN, Count, by_bytes, counter
from stratos.distill.trainer import (
    BEGINNING_TOKENS,
    HEALING,
    Length,
    loses_layers,
    optimizer_of,
    training_length,
)
from stratos.estimate import constants as k
from stratos.estimate.cards import TrainingJob, Workload
from stratos.models.pretrained.depth import N_ROWS
from stratos.records import Assumption, CardRun, ModelCard, TeacherProbe
from stratos.synthesize.strategy import Strategy
from stratos.tasks.base import Item, Message, Task

_ASSUMPTIONS = Path(__file__).with_name("assumptions.csv")
"""What a plan may assume: what it is, why, and what would replace it."""

_N_SAMPLE = 512
"""Rows that are counted."""
_MOST_SORTED = 20_000
"""Training rows up to which the sample is of them; more would have to be sorted first, and the
validation rows are sorted already."""
_ENDING_TOKENS = 6
"""That a chat template puts behind what the user wrote, about."""
_LEAST_BEGINNING = 64
"""Characters that rows begin with alike, from which on they may be computed once."""
_OF_A_TRIAL = 0.5
"""Share of the rows that a trial without a layer answers: it ends once another is surely better."""
_SHARE_OF_LIMIT = 0.5
"""How much of the longest answer a reasoning takes that a teacher is to write."""


@dataclass(frozen=True)
class RowSizes:
    """Mean tokens of the rows that a student learns from, with what they were counted on."""

    row: float
    """Of a training row, no longer than the student's context."""
    prompt: float | None = None
    """Of a question as the student is asked it; None where no row tells."""
    answer: float | None = None
    """Of an answer that it learns to write; None where no row and no probe tells."""
    prompt_source: str = ""
    answer_source: str = ""
    shared: float = 0.0
    """That the prompts of all rows begin with, 0 of few."""
    long_answer: float | None = None
    """The 95th percentile of the answers, where they were counted one by one."""


@dataclass(frozen=True)
class Checks:
    """The answers of a student to validation items while it is trained."""

    n_answers: int
    """Of all validations."""
    work: Workload
    """Size of one."""


@dataclass
class Lengths:
    """The lengths of a run's trainings; what they rest on is counted once."""

    config: Config
    _by_row: dict[Any, RowSizes] = field(default_factory=dict)

    def of(self, teacher: TeacherProbe, strategy: Strategy, student: StudentConfig) -> Length:
        """Return how long a student will be trained by a strategy on what a teacher gives."""
        n_rows = expected_rows(self.config, teacher, strategy)
        sizes = self.sizes(teacher, strategy, student)
        length = training_length(self.config.trainer, student, n_rows, sizes.row)
        if loses_layers(self.config.trainer, student):
            tokens, epochs = math.ceil(length.tokens * (1 + HEALING)), length.epochs * (1 + HEALING)
            length = replace(length, tokens=tokens, epochs=epochs)
        if self.config.trainer.compile:
            return length
        per_step = max(1.0, length.batch_tokens / sizes.row)
        return replace(length, computed=1 - sizes.shared / sizes.row * (1 - 1 / per_step))

    def checks(self, teacher: TeacherProbe, strategy: Strategy, card: ModelCard) -> Checks:
        """Return the validations of a training, each of which has the student answer."""
        student = self.student(card)
        length, sizes = (
            self.of(teacher, strategy, student),
            self.sizes(teacher, strategy, student),
        )
        n_steps = math.ceil(length.tokens / length.batch_tokens)
        every = length.validate_every_steps(self.config.callbacks, n_steps)
        n_times = 1 + (n_steps // every if every else 0)
        most = self.config.evaluate.max_new_tokens
        answer = sizes.row - (sizes.prompt or 0.0) if sizes.answer is None else sizes.answer
        prompt = k.STUDENT_PROMPT_TOKENS if sizes.prompt is None else sizes.prompt
        n_items = len(
            self.config.task.items("validation", self.config.callbacks.n_validation_items)
        )
        n_answers = n_times * n_items
        if loses_layers(self.config.trainer, student):
            n_rows = len(self.config.task.items("validation", N_ROWS))
            n_trials = (1 + 2 * student.fit.depth) * (card.n_layers or 0)
            n_answers += round(_OF_A_TRIAL * n_trials * n_rows)
        return Checks(n_answers, Workload(prompt, min(most, max(1.0, answer))))

    def of_card(self, teacher: TeacherProbe, strategy: Strategy, card: ModelCard) -> Length:
        """Return the same of the student that has a card."""
        return self.of(teacher, strategy, self.student(card))

    def longest(self, teachers: Sequence[TeacherProbe], card: ModelCard) -> Length:
        """Return the longest training of a student by any strategy on what any teacher gives."""
        return max(
            (
                self.of_card(teacher, strategy, card)
                for teacher in teachers
                for strategy in self.config.strategies
            ),
            key=lambda length: length.tokens,
        )

    def student(self, card: ModelCard) -> StudentConfig:
        """Return the config of the student that has a card."""
        return named(self.config.students, card.name)

    def sizes(self, teacher: TeacherProbe, strategy: Strategy, student: StudentConfig) -> RowSizes:
        """Return the mean tokens of the rows that a student is taught by a strategy."""
        learnt = tuple(strategy.learnt(self.config.task, item) for item in self._items)
        written = self._written(teacher, strategy, learnt)
        key = (student.name, student.path, student.vocab_size, written, learnt)
        if key not in self._by_row:
            self._by_row[key] = self._counted(student, learnt, written)
        sizes = self._by_row[key]
        if written is None and self._brings_paths_later(strategy):
            return replace(sizes, answer=None, answer_source="", long_answer=None)
        return sizes

    def _counted(
        self, student: StudentConfig, learnt: Sequence[str], written: _Written | None
    ) -> RowSizes:
        # What nobody has written yet is as long as so much of other text.
        answers = [text if written is None else _like(text, written.n_bytes) for text in learnt]
        rows = list(zip(self._chats_of(student), answers, strict=True))
        if not rows:
            return RowSizes(k.STUDENT_PROMPT_TOKENS + k.ASSUMED_ANSWER_TOKENS)
        count = counter(student, self.config.task.vocabulary(), rows, self.config.cache_dir)
        tokens = [count(*row) for row in rows]
        unit = f"in tokens of {student.name}"
        if count is by_bytes:
            file = f"no tokenizer.json of {student.name} is here yet"
            unit = f"{BYTES_PER_TOKEN:g} bytes a token: {file}"
        n_rows = counted(len(rows), "training row" if self._is_of_train else "validation item")
        answered = [
            row.answer for row, item in zip(tokens, self._items, strict=True) if item.answer
        ]
        answer, source, long_answer = None, "", None
        if written is not None and written.teacher:
            answer = fmean(row.answer for row in tokens)
            source = f"mean of what {written.teacher} wrote in the probe, {unit}"
        elif written is None and answered:
            answer = fmean(answered)
            n_answers = counted(len(answered), "gold answer")
            source = f"mean of {n_answers} as the student learns them, {unit}"
            long_answer = sorted(answered)[math.ceil(0.95 * len(answered)) - 1]
        return RowSizes(
            row=fmean(min(row.total, student.context_length) for row in tokens),
            prompt=fmean(row.prompt for row in tokens),
            shared=_shared_tokens(count, [chat for chat, _ in rows]),
            answer=answer,
            prompt_source=f"mean of the questions of {n_rows} as the student is asked them, {unit}",
            answer_source=source,
            long_answer=long_answer,
        )

    def _written(
        self, teacher: TeacherProbe, strategy: Strategy, learnt: Sequence[str]
    ) -> _Written | None:
        """Return the size of an answer that is learnt, where it is not the task's own text."""
        task = self.config.task
        if strategy.learns_teacher:
            if declared := self.config.complexity.path_tokens:
                return _Written(round(BYTES_PER_TOKEN * declared))
            per_answer = teacher.output_tokens / max(1, teacher.n_items)
            shown = teacher.teacher if teacher.output_tokens else ""
            return _Written(round(BYTES_PER_TOKEN * per_answer), shown)
        has_paths = any(item.rationale for item in self._items)
        is_written = not has_paths and task.can_reverse
        sizes = strategy.writing(task) if is_written else None
        sizes = sizes if sizes is not None and sizes.is_learnt else None
        if self._is_bare(strategy, learnt) and sizes is None:
            return None  # no reasoning is learnt, whatever is declared of it
        if declared := self.config.complexity.path_tokens:
            return _Written(round(BYTES_PER_TOKEN * declared))
        if sizes is not None:
            return _Written(round(_SHARE_OF_LIMIT * BYTES_PER_TOKEN * sizes.max_tokens))
        return None

    def _is_bare(self, strategy: Strategy, learnt: Sequence[str]) -> bool:
        """Return whether answers alone are learnt, as far as the sample shows."""
        if not learnt or self._brings_paths_later(strategy):
            return False
        return all(text == item.answer for text, item in zip(learnt, self._items, strict=True))

    def _brings_paths_later(self, strategy: Strategy) -> bool:
        """Return whether items bring their reasoning only when the strategy has them made."""
        task = self.config.task
        is_made = strategy.makes_questions and not task.has_rows and task.has_paths
        return is_made and not any(item.rationale for item in self._items)

    def surely_read(self, student: StudentConfig) -> float:
        """Return the share of the tokens of training rows that a training computes at least.

        What rows begin with alike may be computed once for all of them: the turns of one
        conversation, an instruction (`distill.packed`). So these are the nodes of a trie.
        """
        task = self.config.task
        items = task.items("train", task.n_train) if task.has_rows else self._items
        instruction = task.system_prompt if student.path is not None else ""
        chats = ((task.student_messages(item), item.answer) for item in items)
        texts = sorted(
            "\n".join([instruction, *(message["content"] for message in chat), answer])
            for chat, answer in chats
        )
        begun = (_n_alike(*pair) for pair in pairwise(texts))
        twice = sum(n for n in begun if n >= _LEAST_BEGINNING)
        return 1 - twice / max(1, sum(map(len, texts)))

    @property
    def _is_of_train(self) -> bool:
        """Whether the sample is of training rows."""
        n_train = n_labelled(self.config.task)
        return n_train is not None and n_train <= _MOST_SORTED

    @cached_property
    def _items(self) -> Sequence[Item]:
        task = self.config.task
        if self._is_of_train:
            return task.items("train", min(task.n_train, _N_SAMPLE))
        return task.items("validation", _N_SAMPLE // 8)

    def _chats_of(self, student: StudentConfig) -> list[list[Message]]:
        """Return what a student is asked; one that starts from a model reads the instruction."""
        instruction = self.config.task.system_prompt
        if student.path is None or not instruction:
            return self._chats
        return [[{"role": "system", "content": instruction}, *chat] for chat in self._chats]

    @cached_property
    def _chats(self) -> list[list[Message]]:
        return [self.config.task.student_messages(item) for item in self._items]


def _n_alike(first: str, second: str) -> int:
    """Return how many characters two texts begin with alike."""
    lengths = range(1, min(len(first), len(second)) + 1)
    return bisect_left(lengths, True, key=lambda n: first[:n] != second[:n])


@dataclass(frozen=True)
class _Written:
    """An answer that is learnt and that no item has: its bytes, and what they are known from."""

    n_bytes: int
    teacher: str = ""
    """The teacher whose answers in the probe were so long; "" where the size is assumed."""


def _shared_tokens(count: Count, chats: Sequence[Sequence[Message]]) -> float:
    """Return the tokens that chats begin with alike; 0 where a training would not share them."""
    beginning: list[Message] = []
    for messages in zip(*chats, strict=False):
        roles, texts = ({message[key] for message in messages} for key in ("role", "content"))
        if len(roles) > 1:
            break
        beginning.append({"role": roles.pop(), "content": _common(texts)})
        if len(texts) > 1:
            break
    tokens = count(beginning, "").prompt - _ENDING_TOKENS if beginning and len(chats) > 1 else 0.0
    return tokens if tokens >= BEGINNING_TOKENS else 0.0


def _common(texts: Collection[str]) -> str:
    """Return what texts begin with alike."""
    low, high = min(texts), max(texts)  # what these begin with alike, all between them do
    return low[: _n_alike(low, high)]


def training_job(trainer: TrainerConfig, student: StudentConfig, length: Length) -> TrainingJob:
    """Return a student's training of some length."""
    return TrainingJob(
        length.tokens,
        length.batch_tokens,
        student.context_length,
        optimizer=optimizer_of(trainer, student.path is None),
        precision=trainer.precision,
        computed=length.computed,
    )


def expected_rows(config: Config, teacher: TeacherProbe, strategy: Strategy) -> float:
    """Return how many rows a strategy is expected to make of a task.

    Two digits of what teachers answer right, so that teachers that are about as good share a work.
    """
    task = config.task
    n_items, n_train = strategy.n_items, n_labelled(task)
    n_made = task.n_made if strategy.makes_questions else 0
    n = min(n_items, (n_train or n_items) + n_made)
    if strategy.adds_rows:
        added = float(f"{strategy.n_added(config, teacher.exact.mean):.2g}")
        return min(n_items, n + added)
    if not strategy.learns_teacher:
        return n
    return max(1.0, float(f"{n * teacher.exact.mean:.2g}"))


def n_labelled(task: Task) -> int | None:
    """Return how many training items the task has; None where it makes as many as are asked."""
    return task.n_train if task.has_rows else None


def _like(text: str, n_bytes: int) -> str:
    """Return a text of so many bytes that is cut like another."""
    text = text or "x "
    return (text * (n_bytes // max(1, len(text.encode())) + 1))[:n_bytes]


_NO_RUN = "no recorded run of the task says how long its answers are"


@dataclass(frozen=True)
class Requests:
    """Sizes of the requests to a student, and the numbers of them that no run has measured."""

    works: tuple[Workload, ...]
    assumptions: tuple[Assumption, ...]

    @property
    def name(self) -> str:
        """The sizes in a word, which tells apart what is planned for requests of other sizes."""
        return " ".join(f"{w.prompt_tokens:.6g}+{w.answer_tokens:.6g}" for w in self.works)


def requests_of(
    config: Config,
    card: ModelCard,
    cards: Sequence[ModelCard],
    strategy: Strategy,
    sizes: RowSizes,
    history: Sequence[CardRun] = (),
) -> Requests:
    """Return the sizes of requests to a student, and what is assumed of them.

    Args:
        config: the run.
        card: the student.
        cards: all students, whose runs speak where this one has none.
        strategy: how it is trained.
        sizes: of the rows that it learns from.
        history: past runs of this machine. They speak where the rows do not: of reasoning.
    """
    task = config.task.name
    kind = strategy.kind if strategy.teaches_as_recorded else ""
    if config.traffic.buckets:
        works = tuple(
            Workload(bucket.prompt_tokens, bucket.answer_tokens, task, kind)
            for bucket in config.traffic.buckets
        )
        return Requests(works, (assumed("p95", k.P95_OVER_MEAN),))
    recorded = _recorded(task, kind, card, cards)
    # Recorded answers were timed at this length of a question (`recorded_over_computed`).
    is_usual = sizes.prompt is None or (recorded is not None and not config.task.has_rows)
    prompt, why = (None, "") if is_usual else (sizes.prompt, sizes.prompt_source)
    tokens = k.STUDENT_PROMPT_TOKENS if prompt is None else prompt
    if prompt is None:
        why = "a student is asked without examples"
    assumptions = [assumed("p95", k.P95_OVER_MEAN), assumed("question", tokens, why=why)]
    answer = recorded
    if answer is None:
        answer, why = _answer(config.complexity, config.evaluate, card, strategy, sizes, history)
        if why:
            assumptions.append(assumed("answer", answer, why=why))
    return Requests((Workload(tokens, answer, task, kind),), tuple(assumptions))


@cache
def _assumptions() -> dict[str, dict[str, str]]:
    with _ASSUMPTIONS.open(newline="", encoding="utf-8") as file:
        return {row["Key"]: row for row in csv.DictReader(file)}


def assumed(key: str, value: float, /, **names: object) -> Assumption:
    """Return an assumption of `assumptions.csv`."""
    row = _assumptions()[key]
    name, unit, why, replaced_by = (
        row[column].format(**names) for column in ("Name", "Unit", "Why", "ReplacedBy")
    )
    return Assumption(name, value, unit, why, replaced_by)


def _recorded(task: str, kind: str, card: ModelCard, cards: Sequence[ModelCard]) -> float | None:
    """Return the tokens of an answer by the cards' runs, the student's own before others'."""
    for some in ([card], cards):
        seen = [
            run.tokens_per_answer
            for student in some
            for run in student.runs
            if run.task == task and run.strategy == kind
        ]
        if seen:
            return mean(seen)
    return None


def _answer(
    complexity: ComplexityConfig,
    evaluate: EvaluateConfig,
    card: ModelCard,
    strategy: Strategy,
    sizes: RowSizes,
    history: Sequence[CardRun],
) -> tuple[float, str]:
    """Return the tokens of an answer that no card has a run of, and what they rest on.

    "" where a run has measured them.
    """
    most = evaluate.max_new_tokens
    if sizes.answer is not None:
        tokens, why = min(sizes.answer, most), sizes.answer_source
        # A 95th percentile is taken for so much of the mean. Where the rows spread further, their
        # own is what requests take.
        long = min(sizes.long_answer or 0.0, most) / k.P95_OVER_MEAN
        if long > tokens:
            why = f"{why}: {tokens:.3g}; more, since 1 in 20 has {k.P95_OVER_MEAN * long:.3g}"
            tokens = long
        return tokens, why
    past = [
        run.tokens_per_answer
        for run in history
        if (run.student, run.strategy) == (card.name, strategy.name)
    ]
    if past:
        return mean(past), ""
    declared = complexity.path_tokens
    tokens = min(declared or k.ASSUMED_ANSWER_TOKENS, most)
    return tokens, "complexity.path_tokens" if declared else _NO_RUN


def rates_of(traffic: TrafficConfig, n_sizes: int) -> tuple[float, ...] | None:
    """Return requests per second of each size; None where they come one at a time."""
    rate = traffic.requests_per_s
    if rate is None:
        return None
    shares = [bucket.share for bucket in traffic.buckets] or [1.0] * n_sizes
    return tuple(rate * share / sum(shares) for share in shares)
