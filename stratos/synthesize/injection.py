"""Knowledge injection: the answer first, a question built from it, and a path that is verified.

For a task that the teacher does not master (Stratos, arXiv 2510.15992: reverse synthetic data): the
knowledge comes from the task's own engine or its labelled set. The reasoning that leads to a known
answer is the engine's, or the teacher's, checked without that answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

from stratos.config import Config
from stratos.context import Context
from stratos.records import Plan
from stratos.synthesize.balance import Balance
from stratos.synthesize.making import make
from stratos.synthesize.rationale import Writer, reason_of, request, sizes_of
from stratos.synthesize.strategy import Tally, Writing, planned_teacher
from stratos.tasks.base import Item, Task
from stratos.teachers.base import Question, Teacher

_DRAWS_PER_ITEM = 4
"""Draws after which a task that mostly repeats itself is given up."""
_ITEMS_PER_ROUND = 256
_N_FOR_SIZES = 32
"""Items from which the plan learns how long requests are."""


@dataclass(frozen=True)
class Injection:
    """Items made answer first by the task's reverse generator."""

    name: str = "injection"
    """Name shown in the plan."""
    n_items: int = 80_000
    """Verified items of the corpus."""
    rationale: Literal["engine", "teacher", "auto", "none"] = "engine"
    """Reasoning path of the completions: the task engine's (or the file's), the teacher's, auto
    (whichever is valid more often on the first items), or none (the bare answer)."""
    n_retries: int = 1
    """How often a teacher may write a refused reasoning again, told what is wrong with it."""
    refused_share: float = 0.2
    """Share of the teacher's reasonings that the plan expects to be refused, each time: an
    assumption, which prices what is written again and changes nothing else."""
    n_trial_items: int = 32
    """For auto: items on which the two are compared."""
    max_tokens: int = 256
    """Longest reasoning of the teacher, in tokens."""
    near_duplicates: float = 0.8
    """Share of word triples in common from which a question is a near duplicate; 0 keeps them."""
    balance: float = 0.0
    """How far difficulties are evened out: 0 leaves them as they are drawn, 1 makes them equal."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.n_items, self.n_trial_items, self.max_tokens) < 1 or self.n_retries < 0:
            raise ValueError(
                "n_items, n_trial_items and max_tokens must be at least 1, n_retries at least 0."
            )
        if not all(0 <= x <= 1 for x in (self.near_duplicates, self.balance, self.refused_share)):
            raise ValueError("near_duplicates, balance and refused_share must lie between 0 and 1.")

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield items whose answer and reasoning the task's verifier accepts.

        Raises:
            TeacherError: the teacher is asked for reasoning, and is not configured, or fails.
        """
        task = config.task
        drawn = make(task, _DRAWS_PER_ITEM * self.n_items, config.seed, context.engine)
        if self.balance:
            drawn = Balance(self.balance, self.n_items, task, tally).admitted(
                drawn, lambda made: made.item
            )
        if self.rationale in ("teacher", "auto"):
            teacher = planned_teacher(config, plan, context)
            writer = Writer(task, teacher, context, tally, self.max_tokens, self.n_retries)
            items = (made.item for made in drawn)
            yield from self._written(items, writer, config.seed, tally)
            return
        for made in drawn:
            item = made.item
            has_path = bool(item.rationale) or _has_paths(task)
            if has_path and not _holds(item, made.wrong(task), tally):
                continue
            is_bare = self.rationale == "none" or not has_path
            yield item, item.answer if is_bare else task.completion(item)

    def writing(self, task: Task) -> Writing | None:
        """Return what the teacher will be asked to write; None where it is not asked."""
        if self.rationale not in ("teacher", "auto"):
            return None
        n_items = min(self.n_items, getattr(task, "n_train", self.n_items))
        seen = list(task.reverse(min(n_items, _N_FOR_SIZES)))
        return sizes_of(
            task,
            seen,
            n_items,
            self.max_tokens,
            n_retries=self.n_retries,
            refused_share=self.refused_share,
            n_trial=self.n_trial_items if self.rationale == "auto" else None,
        )

    def asks(self, config: Config, teacher: Teacher, prompt: str) -> Iterator[Question]:
        """Yield the first request for the reasoning of each item, in order; none if not asked.

        Args:
            config: the run.
            teacher: a configured one; any is asked the same.
            prompt: of the task; the requests have their own.
        """
        if self.rationale in ("teacher", "auto"):
            for item in islice(self._same(config.task, config.seed), self.n_items):
                yield Question(request(item), self.max_tokens)

    def _same(self, task: Task, seed: int) -> Iterator[Item]:
        """Yield the items that will be drawn: the generator gives the same ones again."""
        return iter(task.reverse(_DRAWS_PER_ITEM * self.n_items, seed))

    def _written(
        self, items: Iterator[Item], writer: Writer, seed: int, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield items with the teacher's reasoning; those where it does not hold, the engine's."""
        task, context = writer.task, writer.context
        by_teacher, is_bare = True, False
        if self.rationale == "auto":
            trial = list(islice(items, self.n_trial_items))
            writer.foretell(trial, len(trial))
            found = writer.write(trial)
            n_teacher = sum(isinstance(one, Item) for one in found)
            n_engine = sum(bool(item.rationale) and task.verify(item) is None for item in trial)
            by_teacher = n_teacher > n_engine
            is_bare = not n_teacher and not any(item.rationale for item in trial)
            # A set of rows that can be counted is the user's; others are made as they are drawn.
            engine = "file" if hasattr(task, "n_train") else "engine"
            context.warn(
                f"rationale=auto: of {len(trial)} items, the teacher's reasoning holds for "
                f"{n_teacher}, the {engine}'s for {n_engine}: "
                + (
                    "the bare answers are learnt, as with strategy.rationale=none."
                    if is_bare
                    else f"the {'teacher' if by_teacher else engine}'s is taken."
                )
            )
            if is_bare:
                for item in chain(trial, items):
                    yield item, item.answer
                return
            yield from self._settled(trial, found if by_teacher else trial, task, tally)
        if by_teacher and writer.is_paid:
            writer.foretell(*_spaced(islice(self._same(task, seed), self.n_items)))
        while batch := list(islice(items, _ITEMS_PER_ROUND)):
            yield from self._settled(
                batch, writer.write(batch) if by_teacher else batch, task, tally
            )

    def _settled(
        self, items: list[Item], written: list[Item | str] | list[Item], task: Task, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        for item, found in zip(items, written, strict=True):
            if isinstance(found, Item) and found is not item:
                yield found, task.completion(found)
            elif item.rationale:
                if _holds(item, task.verify(item), tally):
                    yield item, task.completion(item)
            else:
                tally.refused[reason_of(found) if isinstance(found, str) else "no path"] += 1


def _holds(item: Item, problem: str | None, tally: Tally) -> bool:
    """Return whether nothing is wrong with an item; count it if something is."""
    if problem is None:
        return True
    tally.refused["unverified"] += 1
    tally.first_problem = tally.first_problem or f"{item.question}: {problem}"
    return False


def _spaced(items: Iterator[Item]) -> tuple[list[Item], int]:
    """Return evenly spaced ones of items, and how many there are; holds few at once."""
    kept: list[Item] = []
    step, n = 1, 0
    for n, item in enumerate(items, start=1):
        if (n - 1) % step == 0:
            kept.append(item)
        if len(kept) == 2 * _ITEMS_PER_ROUND:
            kept, step = kept[::2], 2 * step
    return kept, n


def _has_paths(task: Task) -> bool:
    """Return whether a task's items bring a reasoning path, as they do unless it says otherwise."""
    return bool(getattr(task, "has_paths", True))
