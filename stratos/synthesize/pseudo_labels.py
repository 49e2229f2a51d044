"""Pseudo-labels: train on labelled rows, and on rows that a teacher labels.

Nobody can tell whether such a label is right. Where gold labels correct a teacher's
(`stratos.models.kinds.learnt_rows`), each row has one answer: more rows tell more than more answers
(Sheng et al. 2008). Else each row is asked several times, and learnt only where the answers agree
(self-consistency, Wang et al., arXiv 2203.11171). Where they do not, the row is the more
informative the less they do (query by committee, Seung et al. 1992): it is asked again first, as
long as there is money. The rows whose label by hand is worth most go to `rows_to_label.jsonl` in
the run folder, for a person to label.

A few rows are asked first. How often their answers agree is said before the others are paid, and
the others are not asked where it is surely too seldom.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from typing_extensions import override

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.models.kinds.student_kinds import corrects_labels
from stratos.records import Plan
from stratos.synthesize.admission import held_out, without_leaks
from stratos.synthesize.planned_teacher import (
    Asking,
    Sampling,
    longest_answer,
    samplings,
    shown_first,
)
from stratos.synthesize.strategy import (
    MIN_COVERAGE,
    NO_LIMITS,
    Family,
    Limits,
    Strategy,
    Tally,
    Threshold,
)
from stratos.synthesize.supervised import Supervised
from stratos.tasks.base import Item, Task
from stratos.tasks.dedup.hashes import normalised
from stratos.teachers.base import Question, Teacher
from stratos.teachers.cost_estimate import expect
from stratos.teachers.prompting import prompting

if TYPE_CHECKING:
    from stratos.models.kinds.features import Matrix


_SHARPNESS = 8
"""Power of the cosine similarity that says how far a label settles another row."""
_MOST_COMPARED = 8_000
"""Doubtful rows that are compared with each other."""
_LEAST_GAIN = 0.1
"""Rows that a label is expected to put right below which it is not worth the work."""
_VOTE = 0.5
"""How much the teacher's label counts beside the student's answer: both err on the same rows."""


def suggested(vectors: Matrix, doubt: np.ndarray, n: int) -> list[tuple[int, float]]:
    """Return up to n rows, the most useful first, each with its expected gain.

    Args:
        vectors: of the rows, shape (rows, features).
        doubt: probability that the answer to each row is wrong, shape (rows,).
        n: how many are wanted.

    Returns:
        Number of a row, and how many of all rows its label is expected to put right: its own, and
        in part those around it.
    """
    from sklearn.preprocessing import normalize

    if not len(doubt):
        return []
    rows = np.argsort(-doubt, kind="stable")[:_MOST_COMPARED]
    remaining = doubt[rows].astype(np.float32)
    unit = normalize(vectors[rows])
    likeness = unit @ unit.T
    dense = likeness if isinstance(likeness, np.ndarray) else likeness.toarray()
    settles = np.maximum(dense, 0).astype(np.float32) ** _SHARPNESS
    picked: list[tuple[int, float]] = []
    for _ in range(min(n, len(rows))):
        gains = settles @ remaining
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        picked.append((int(rows[best]), float(gains[best])))
        remaining *= 1 - np.minimum(settles[best], 1)
        settles[best] = 0  # a row is suggested once
    return picked


def by_expected_gain(
    config: Config, rows: Sequence[tuple[Item, Item | None, float]], n: int
) -> list[tuple[int, float]] | None:
    """Return which rows a student of a kind would learn most from, with the expected gain of each.

    Args:
        config: the run.
        rows: each with the item that has the teacher's label, None without any, and the share of
            the teacher's answers that are this label.
        n: how many are wanted.

    Returns:
        None where no student of the run is of such a kind, or no row has a gold label.
    """
    from stratos.models.kinds.learnt_rows import (
        Correction,
        Rows,
        TeacherRows,
        blocks_of,
        students_of_kinds,
        validation_rows,
    )
    from stratos.synthesize.admission import labelled_rows

    students, task = students_of_kinds(config.students), config.task
    if not students or not task.has_labels or task.has_several_labels or not rows:
        return None
    gold = Rows.of([*labelled_rows(task), *validation_rows(config)])
    if not gold.texts:
        return None
    # A row without a label counts for nothing in the training, and is answered like the others.
    teacher = TeacherRows(
        tuple(item.question for item, _, _ in rows),
        tuple(gold.labels[0] if best is None else best.answer for _, best, _ in rows),
        tuple(0.0 if best is None else share for _, best, share in rows),
    )
    correction = Correction(gold.texts, gold.labels, teacher, blocks_of(students), config.seed)
    doubt = 1 - correction.probabilities(_VOTE).max(axis=1)
    ranked = suggested(correction.of_teacher, doubt, n)
    return [(index, gain) for index, gain in ranked if gain >= _LEAST_GAIN]


@dataclass
class Votes:
    """The answers to one question so far; answers that differ in spelling alone are one."""

    item: Item
    """Without an answer."""
    n_unread: int = 0
    """Answers that none could be read from."""
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, Item] = field(default_factory=dict)
    """The item with each answer as it was spelled first."""

    def add(self, item: Item | None) -> None:
        """Take in the item with an answer, or None where none could be read."""
        if item is None:
            self.n_unread += 1
            return
        key = normalised(item.answer)
        self._counts[key] += 1
        self._first.setdefault(key, item)

    @property
    def n(self) -> int:
        """How many answers there are, those that could not be read too."""
        return self.n_unread + self._counts.total()

    @property
    def best(self) -> Item | None:
        """The item with the most frequent answer, the first of equals; None without any."""
        if not self._counts:
            return None
        return self._first[max(self._counts, key=lambda key: self._counts[key])]

    @property
    def agreement(self) -> float:
        """Share of all answers that is the most frequent one."""
        return max(self._counts.values(), default=0) / max(1, self.n)

    @property
    def disagreement(self) -> float:
        """Entropy of the answers in bits; one that could not be read agrees with no other."""
        counts = [*self._counts.values(), *([1] * self.n_unread)]
        return -sum(k / self.n * log2(k / self.n) for k in counts) if self.n else 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Answer to how often it was given, the most frequent first."""
        return {self._first[key].answer: n for key, n in self._counts.most_common()}


ROWS_TO_LABEL = "rows_to_label.jsonl"
"""Name of the list in the run folder."""
NO_MONEY, DISAGREE = "not asked: budget used up", "the teacher's answers disagree"
NO_LABEL = "no label of the task in the teacher's answer"
NOT_WORTH = "not asked: answers to the first rows disagree"
_AT_FIRST = 2
"""Answers to each row before those that disagree are asked again."""
_MOST_ANSWERS = 5
_MIN_COVERAGE = 0.7
_MOST_LISTED = 500
"""Rows that the list for a person has at most."""


@dataclass(frozen=True)
class PseudoLabels(Strategy):
    """The labelled rows of a file, and the rows without answers that a teacher agrees on."""

    family: ClassVar[Family] = Family.ROWS
    labels_rows: ClassVar[bool] = True
    samples_key: ClassVar[str] = "max_answers"

    name: str = "pseudo_labels"
    """Name shown in the plan."""
    min_coverage: float | None = None
    """Minimum share of validation items that the teacher must answer exactly (low end of the
    interval). None is 0.3 where gold labels correct the teacher's, else 0.7."""
    n_items: int = 100_000
    """Maximum rows to train on."""
    n_unlabelled: int = 4096
    """Maximum unlabelled rows for the teacher."""
    max_answers: int | None = None
    """Maximum answers per row; if the first two agree, there are no more. None is 1 where gold
    labels correct the teacher's, else 5."""
    min_agreement: float = 0.75
    """Minimum share of a row's answers that must agree on its label."""
    n_first: int = 32
    """Rows that are asked first; 0 asks all at once."""
    min_first_agreement: float = 0.25
    """Minimum share of these whose answers must agree (high end of the interval), or no other rows
    are asked."""
    temperature: float = 0.7
    """Temperature of the answers after the first one to each row."""
    reasoning: bool = True
    """Also train on the reasoning of labelled rows that have one."""
    max_tokens: int | None = None
    """Maximum tokens of a teacher's answer; None takes that of the probe."""

    def __post_init__(self) -> None:
        if min(self.n_items, self.n_unlabelled, self.max_tokens or 1) < 1:
            raise ValueError("n_items, n_unlabelled and max_tokens must be at least 1.")
        if self.n_first < 0 or not 0 <= self.min_first_agreement < 1:
            raise ValueError("n_first must be at least 0, min_first_agreement between 0 and 1.")
        if self.max_answers is not None and self.max_answers < 1:
            raise ValueError("max_answers must be at least 1.")
        if not (0 <= (self.min_coverage or 0.0) <= 1 and 0.5 < self.min_agreement <= 1):
            raise ValueError("min_coverage must lie between 0 and 1, min_agreement above 0.5.")
        if self.temperature <= 0:
            raise ValueError("temperature must be above 0: equal answers tell nothing.")

    def coverage(self, beside_right: bool) -> Threshold:
        """Return what a teacher must know of the task for its labels to be learnt unverified."""
        share = _MIN_COVERAGE if self.min_coverage is None else self.min_coverage
        return Threshold(share, of_interval="low")

    @override
    def coverage_corrected(self) -> Threshold:
        share = MIN_COVERAGE if self.min_coverage is None else self.min_coverage
        return Threshold(share, of_interval="low")

    @property
    @override
    def longest_answer_tokens(self) -> int | None:
        return self.max_tokens

    @override
    def n_questions(self, task: Task) -> int:
        return min(self.n_unlabelled, task.n_unlabelled)

    def n_added(self, config: Config, covered: float) -> float:
        """Return how many rows are expected to be learnt: those whose answers agree."""
        share = 1.0 if self.most_samples(config) == 1 else covered
        return share * self.n_questions(config.task)

    def fewest_samples(self, config: Config) -> int:
        """Return how many answers a row takes whose answers agree."""
        return min(_AT_FIRST, self.most_samples(config))

    @override
    def most_samples(self, config: Config) -> int:
        if self.max_answers is not None:
            return self.max_answers
        return 1 if corrects_labels(config.task, config.students) else _MOST_ANSWERS

    @override
    def added(self, config: Config, teacher: str, covered: float) -> str:
        task, least, most = config.task, self.fewest_samples(config), self.most_samples(config)
        n = self.n_questions(task)
        times = "once" if most == 1 else f"{most} times"
        if least < most:
            times = f"{least} to {most} times, those it disagrees with itself on first"
        return (
            f"{counted(n, 'row', spec=',')} without an answer: {teacher} answers each {times}, and "
            f"about {self.n_added(config, covered):,.0f} are expected to be learnt beside the "
            f"{counted(task.n_train, 'labelled row', spec=',')}. {ROWS_TO_LABEL} "
            "will list those worth labelling by hand."
        )

    def asks(
        self, config: Config, teacher: Teacher, prompt: str, max_tokens: Limits = NO_LIMITS
    ) -> Iterator[Question]:
        """Yield what a teacher is asked first, in order."""
        task = config.task
        first = self._samplings(config, prompt, teacher, max_tokens)[:_AT_FIRST]
        for item in task.unlabelled(self.n_unlabelled, config.seed):
            for sampling in first:
                yield from sampling.questions(task, [item])

    def learnt(self, task: Task, item: Item) -> str:
        """Return a row's reasoning and answer, or the bare answer."""
        return Supervised(reasoning=self.reasoning).learnt(task, item)

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield the labelled rows, then those that the teacher labels, with their answers.

        Raises:
            TeacherError: the planned teacher is not among the configured ones, or fails.
        """
        yield from Supervised(n_items=self.n_items, reasoning=self.reasoning).draw(
            config, plan, context, tally
        )
        task = config.task
        # What may not be learnt need not be paid.
        items = task.unlabelled(self.n_unlabelled, config.seed)
        clean = without_leaks(held_out(config), items, tally.refused)
        rows = [Votes(item) for item in clean]
        asking = Asking.planned(config, plan, context, tally)
        turns = self._samplings(config, plan.prompt, asking.teacher, plan.max_tokens)
        least = min(_AT_FIRST, len(turns))
        not_asked = self._ask(rows, asking, turns)
        for row in rows:
            if row.n < least:
                tally.refused[not_asked] += 1
            elif row.best is None:
                tally.refused[NO_LABEL] += 1
            elif not self._agrees(row):
                tally.refused[DISAGREE] += 1
            else:
                tally.sources[row.item.id] = f"labelled by {plan.teacher}"
                tally.agreement[row.item.id] = row.agreement
                yield row.best, row.best.answer
        self._list(rows, asking)

    def _agrees(self, row: Votes) -> bool:
        return row.agreement >= self.min_agreement

    def _ask(self, rows: Sequence[Votes], asking: Asking, turns: Sequence[Sampling]) -> str:
        """Ask each row once or twice, then again and again those whose answers agree least.

        Returns:
            Why rows are left that were not asked, if there are any.
        """
        task, tally = asking.task, asking.tally
        # Both answers to a row come together: where the money ends, rows are settled or untouched.
        both, later = turns[:_AT_FIRST], turns[_AT_FIRST:]
        n_first = self.n_first if 0 < self.n_first < len(rows) and len(both) > 1 else 0

        def questions(row: Votes, sampled: Sequence[Sampling]) -> list[Question]:
            return [q for sampling in sampled for q in sampling.questions(task, [row.item])]

        def ask(some: Sequence[Votes], sampled: Sequence[Sampling]) -> bool:
            """Ask about rows; return whether the money sufficed."""
            pairs = [(row, question) for row in some for question in questions(row, sampled)]
            answers = asking.ask([question for _, question in pairs])
            for (row, _), answer in zip(pairs, answers, strict=False):
                row.add(task.labelled(row.item, answer.text))
            return len(answers) == len(pairs)

        all_of_it = [question for row in rows for question in questions(row, both)]
        probed = turns[0].questions(task, task.items("validation", asking.config.probe.n_items))
        expect(asking.teacher, all_of_it, asking.context, like=probed)
        if n_first:
            paid = tally.usd
            if not ask(rows[:n_first], both):
                return NO_MONEY
            if not self._is_worth_it(rows[:n_first], len(rows), tally.usd - paid, asking):
                return NOT_WORTH
        if not ask(rows[n_first:], both):
            return NO_MONEY
        for sampling in later:
            pending = [row for row in rows if row.disagreement > 0]
            pending.sort(key=lambda row: -row.disagreement)
            if not ask(pending, [sampling]):
                return NO_MONEY
        return NO_MONEY

    def _is_worth_it(self, first: Sequence[Votes], n: int, paid_usd: float, asking: Asking) -> bool:
        """Say how often the answers to the first rows agree; return whether to ask the others."""
        n_agree = sum(row.best is not None and row.agreement >= 1 for row in first)
        what, name = f"are given {_AT_FIRST} answers that agree", asking.plan.teacher
        asking.context.note(shown_first(name, what, n_agree, len(first), n, paid_usd))
        if wilson(n_agree, len(first)).high >= self.min_first_agreement:
            return True
        asking.context.warn(
            f"The answers of {name} agree too seldom to be learnt: no other rows are "
            "asked. strategy.n_first=0 asks all of them, and teacher=<name> another one."
        )
        return False

    def _samplings(
        self, config: Config, prompt: str, teacher: Teacher, probed: Limits
    ) -> list[Sampling]:
        """Return how a row is asked the first, the second … time.

        A teacher that draws no answers is asked with the other prompts of the task.
        """
        task = config.task
        prompts = sorted(prompting(teacher, task).prompts, key=lambda name: name != prompt)
        return samplings(
            teacher,
            [prompt] if teacher.draws else prompts,
            n_most=self.most_samples(config),
            temperature=self.temperature,
            longest=lambda name: longest_answer(task, teacher, name, probed, self.max_tokens),
        )

    def _list(self, rows: Sequence[Votes], asking: Asking) -> None:
        """Write the rows that are worth a label by hand, the most useful first.

        For a student of a kind that is trained in seconds these are the rows whose label would
        mend most of its answers; for a language model those that the teacher disagrees with itself
        on.
        """
        context, tally = asking.context, asking.tally
        path = Path(context.run_dir) / ROWS_TO_LABEL
        voted = [(row.item, row.best, row.agreement) for row in rows]
        ranked = by_expected_gain(asking.config, voted, _MOST_LISTED)
        listed: list[tuple[Votes, float | None]]
        if ranked is None:
            listed = [(row, None) for row in rows if row.disagreement > 0]
            listed.sort(key=lambda pair: -pair[0].disagreement)
        else:
            listed = [(rows[index], gain) for index, gain in ranked]
        if not listed:
            path.unlink(missing_ok=True)
            return
        lines = [
            {
                **asking.task.as_row(row.item, ""),
                "teacher_answers": row.counts,
                "disagreement_bits": round(row.disagreement, 3) + 0.0,  # no -0.0
                "is_learnt": row.best is not None and self._agrees(row),
                **({} if gain is None else {"expected_gain": round(gain, 3)}),
            }
            for row, gain in listed[:_MOST_LISTED]
        ]
        path.write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8"
        )
        tally.rows_to_label, tally.n_rows_to_label = str(path), len(lines)
        context.note(
            f"{counted(len(lines), 'row is', 'rows are', spec=',')} worth labelling by hand, the "
            f"most informative first: {path}. Fill in their answers and add them to your file."
        )
