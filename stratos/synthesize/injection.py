"""Knowledge injection: answer first, then a question, then a verified reasoning path.

For a task that the teacher does not master (Stratos, arXiv 2510.15992: reverse synthetic data): the
knowledge comes from the task's own engine or its labelled set. The reasoning that leads to a known
answer is the engine's, or the teacher's, checked without that answer.

What costs time, writing the path and verifying it, is the same wherever it is done. A task that
writes `drafts(n, seed)`, which takes all the chances, and `made_of(draft)`, which takes none, has
its items made on a cluster; of another task they are drawn here and verified there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, ClassVar, Literal

from typing_extensions import override

from stratos.config import Config
from stratos.core.context import Context, Engine, Here, in_chunks
from stratos.core.reasons import Reason
from stratos.records import Plan
from stratos.synthesize.planned_teacher import (
    LEAST,
    Asking,
    none_right,
    size_of_first_look,
)
from stratos.synthesize.rationale import (
    Wording,
    Writer,
    request,
    requests,
    sizes_of,
    sizes_of_wording,
)
from stratos.synthesize.strategy import (
    NO_LIMITS,
    Family,
    Limits,
    NotWritten,
    Strategy,
    Tally,
    Writing,
    counted_as,
)
from stratos.tasks.base import Item, Task
from stratos.teachers.base import Question, Teacher
from stratos.teachers.prompting import AnswerLimit, limit_of

_CHUNK = 256
"""Items of one call on a cluster: about a tenth of a second of work."""


@dataclass(frozen=True, slots=True)
class Made:
    """An item, and what verifying it found, if that was done already."""

    item: Item
    verified: bool = False
    problem: Reason | None = None
    """What is wrong with a verified item."""

    def wrong(self, task: Task) -> Reason | None:
        """Return what is wrong with the item, or None."""
        return self.problem if self.verified else task.verify(self.item)


def make(task: Task, n: int, seed: int, engine: Engine) -> Iterator[Made]:
    """Yield the items of `task.reverse(n, seed)` in its order; verified, if an engine helps.

    Args:
        task: can reverse.
        n: most items.
        seed: of the draws.
        engine: where items with a path are made and verified.
    """
    if isinstance(engine, Here):
        return map(Made, task.reverse(n, seed))
    makes = task.has_drafts
    drafts: Iterator[Any] = task.drafts(n, seed) if makes else task.reverse(n, seed)
    chunks = engine.map(partial(_make, task, makes), in_chunks(drafts, _CHUNK))
    return (made for chunk in chunks for made in chunk)


def _make(task: Task, makes: bool, drafts: list[Any]) -> list[Made]:
    items = [task.made_of(draft) for draft in drafts] if makes else drafts
    return [Made(i, True, task.verify(i)) if i.rationale else Made(i) for i in items]


SURPLUS = "surplus of its difficulty"
_N_SAMPLE = 1000
_N_LEVELS = 4


def balanced(
    drawn: Iterator[Made], strength: float, n_items: int, task: Task, tally: Tally
) -> Iterator[Made]:
    """Yield what is drawn of each difficulty up to its share of the corpus, in its order.

    The task says how hard an item is (`Task.difficulty`). Levels are quarters of the first thousand
    items.

    Args:
        drawn: what may be admitted.
        strength: 0 leaves the shares as they are drawn, 1 makes them equal.
        n_items: of the whole corpus.
        task: tells the difficulty.
        tally: takes what is refused.
    """
    sample = list(islice(drawn, _N_SAMPLE))
    if not sample:
        return
    values = sorted(task.difficulty(made.item) for made in sample)
    # Equal values are one level, however many there are of them.
    edges = sorted({values[len(values) * k // _N_LEVELS] for k in range(1, _N_LEVELS)})
    natural = Counter(_level(value, edges) for value in values)
    allowed = {
        level: n_items * ((1 - strength) * n / len(values) + strength / len(natural))
        for level, n in natural.items()
    }
    n_taken: Counter[int] = Counter()
    for made in chain(sample, drawn):
        level = _level(task.difficulty(made.item), edges)
        if n_taken[level] >= allowed.get(level, n_items):
            tally.refused[SURPLUS] += 1
            continue
        n_taken[level] += 1
        yield made


def _level(value: float, edges: list[float]) -> int:
    return sum(value > edge for edge in edges)


_DRAWS_PER_ITEM = 4
"""Draws after which a task that mostly repeats itself is given up."""
_ITEMS_PER_ROUND = 256
_N_FOR_SIZES = 32
"""Items from which the plan learns how long requests are."""


@dataclass(frozen=True)
class Injection(Strategy):
    """Items made answer first by the task's reverse generator."""

    family: ClassVar[Family] = Family.INJECTION
    taught_by: ClassVar[tuple[str, ...]] = ("rationale", "wording")

    name: str = "injection"
    """Name shown in the plan."""
    n_items: int = 80_000
    """Verified items in the corpus."""
    rationale: Literal["engine", "teacher", "none"] = "engine"
    """Reasoning path: the task engine's (or the file's), the teacher's, or none (the bare
    answer)."""
    wording: Literal["task", "teacher"] = "task"
    """Words of the questions: the task's, or the teacher's where it finds the answer again in a
    question of its own without having seen it."""
    n_retries: int = 1
    """Retries of a rejected reasoning; the teacher is told what is wrong with it."""
    refused_share: float = 0.2
    """Share of the teacher's reasonings that the plan expects to be rejected each time: an
    assumption for the price of retries, without other effect."""
    max_tokens: int | None = None
    """Maximum tokens of the teacher's reasoning; None derives it from the reasoning in the data,
    else from the first reasonings."""
    near_duplicates: float = 0.8
    """Share of common word 3-grams from which a question is a near duplicate; 0 keeps
    duplicates."""
    balance: float = 0.0
    """Balancing of difficulties: 0 leaves them as drawn, 1 makes them equal."""

    def __post_init__(self) -> None:
        longest = 1 if self.max_tokens is None else self.max_tokens
        if min(self.n_items, longest) < 1 or self.n_retries < 0:
            raise ValueError("n_items and max_tokens must be at least 1, n_retries at least 0.")
        if self.words_questions and self.writes_reasoning:
            raise ValueError(
                "wording=teacher has the teacher word the questions, and rationale="
                f"{self.rationale} has it write the reasoning: take one of them."
            )
        if not all(0 <= x <= 1 for x in (self.near_duplicates, self.balance, self.refused_share)):
            raise ValueError("near_duplicates, balance and refused_share must lie between 0 and 1.")

    @property
    @override
    def near_duplicate_share(self) -> float:
        return self.near_duplicates

    @property
    @override
    def longest_answer_tokens(self) -> int | None:
        return self.max_tokens

    @property
    @override
    def writes_reasoning(self) -> bool:
        return self.rationale == "teacher"

    @property
    @override
    def words_questions(self) -> bool:
        return self.wording == "teacher"

    def learnt(self, task: Task, item: Item) -> str:
        """Return the answer of an item, with its reasoning unless that is left out."""
        is_bare = self.rationale == "none" or not (item.rationale or task.has_paths)
        return item.answer if is_bare else task.completion(item)

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
            drawn = balanced(drawn, self.balance, self.n_items, task, tally)
        items: Iterator[Item] = (made.item for made in drawn)
        if self.writes_reasoning:
            asking = Asking.planned(config, plan, context, tally)
            writer = Writer(asking, self._limit(task), self.n_retries)
            yield from self._written(items, writer, config.seed, tally)
            return
        items = (
            made.item
            for made in drawn
            if not (made.item.rationale or task.has_paths)
            or holds(made.item, made.wrong(task), tally)
        )
        if self.words_questions:
            asking = Asking.planned(config, plan, context, tally)
            items = Wording(asking, self._n_worded(task)).of(items)
        for item in items:
            yield item, self.learnt(task, item)

    @override
    def writing(self, task: Task) -> Writing | None:
        if self.words_questions:
            some = islice(_wordable(task, task.reverse(task.n_train + _N_FOR_SIZES)), _N_FOR_SIZES)
            return sizes_of_wording(task, list(some), self._n_worded(task))
        if not self.writes_reasoning:
            return None
        n_items = min(self.n_items, task.n_train) if task.has_rows else self.n_items
        seen = list(task.reverse(min(n_items, _N_FOR_SIZES)))
        return sizes_of(
            task,
            seen,
            n_items,
            self._limit(task).tokens,
            n_retries=self.n_retries,
            refused_share=self.refused_share,
        )

    def asks(
        self, config: Config, teacher: Teacher, prompt: str, max_tokens: Limits = NO_LIMITS
    ) -> Iterator[Question]:
        """Yield the first request for each item, in order; none if a teacher writes nothing."""
        if self.writes_reasoning:
            limit = self._limit(config.task)
            for item in islice(self._same(config.task, config.seed), self.n_items):
                yield Question(request(item), limit.tokens)
        if self.words_questions:
            items = islice(self._same(config.task, config.seed), self.n_items)
            for item in _wordable(config.task, items):
                yield from requests(config.task, [item])

    def _n_worded(self, task: Task) -> int:
        return min(self.n_items, task.n_worded)

    def _limit(self, task: Task) -> AnswerLimit:
        """Return the longest reasoning that the teacher may write, before any was seen."""
        if self.max_tokens is not None:
            source = f"strategy.max_tokens={self.max_tokens}"
            return AnswerLimit(self.max_tokens, source, is_fixed=True)
        seen = task.reverse(_N_FOR_SIZES)
        return limit_of([task.completion(item) for item in seen if item.rationale])

    def _same(self, task: Task, seed: int) -> Iterator[Item]:
        """Yield the items that will be drawn: the generator gives the same ones again."""
        return iter(task.reverse(_DRAWS_PER_ITEM * self.n_items, seed))

    def _written(
        self, items: Iterator[Item], writer: Writer, seed: int, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield items with the teacher's reasoning; those where it does not hold, the engine's."""
        task, by_teacher = writer.asking.task, True
        if writer.is_paid:
            writer.foretell(*_spaced(islice(self._same(task, seed), self.n_items)))
        n_first = size_of_first_look(self.n_items)
        while batch := list(islice(items, n_first or _ITEMS_PER_ROUND)):
            written = writer.write(batch) if by_teacher else batch
            if n_first and _all_wrong(written):
                by_teacher = False
                self._stop(batch[0], written[0], len(batch), writer)
            n_first = 0
            yield from self._settled(batch, written, task, tally)

    def _stop(self, item: Item, problem: Item | Reason, n: int, writer: Writer) -> None:
        """Have a teacher write no more of whose reasoning nothing held: items fall to their own.

        Raises:
            TeacherError: they bring no reasoning of their own.
        """
        asking, name = writer.asking, writer.asking.teacher.name
        if item.rationale:
            asking.context.warn(
                f"Teacher {name}: none of its first {n} reasonings held (the first: "
                f"{problem}), so it stops. The items' own paths are used, as with"
                " strategy.rationale=engine."
            )
            return
        problems = f"None of the first {n} reasonings of teacher {name} held. The first: {problem}."
        instead = "strategy.rationale=none for the bare answers, or teacher=<name> for another one"
        raise none_right(problems, n, self.n_items, asking.tally.usd, instead)

    def _settled(
        self, items: list[Item], written: list[Item | Reason] | list[Item], task: Task, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        for item, result in zip(items, written, strict=True):
            if isinstance(result, Item) and result is not item:
                yield result, task.completion(result)
            elif item.rationale:
                if holds(item, task.verify(item), tally):
                    yield item, task.completion(item)
            else:
                reason = counted_as(result) if isinstance(result, Reason) else "no path"
                tally.refused[reason] += 1


def _wordable(task: Task, items: Iterable[Item]) -> Iterator[Item]:
    return (item for item in items if task.wording(item) is not None)


def _all_wrong(written: Sequence[Item | Reason]) -> bool:
    """Return whether no reasoning holds, of those that were asked for and could be read."""
    read = [
        attempt for attempt in written if attempt not in (NotWritten.NO_MONEY, NotWritten.UNREAD)
    ]
    return len(read) >= LEAST and not any(isinstance(attempt, Item) for attempt in read)


def holds(item: Item, problem: Reason | None, tally: Tally) -> bool:
    """Return whether nothing is wrong with an item; count it if something is."""
    if problem is None:
        return True
    tally.refused["unverified"] += 1
    tally.first_problem = tally.first_problem or f"{item.question}: {problem}"
    return False


def _spaced(items: Iterator[Item]) -> tuple[list[Item], int]:
    """Return evenly spaced ones of items, and how many there are; holds few at once."""
    spaced: list[Item] = []
    step, n = 1, 0
    for n, item in enumerate(items, start=1):
        if (n - 1) % step == 0:
            spaced.append(item)
        if len(spaced) == 2 * _ITEMS_PER_ROUND:
            spaced, step = spaced[::2], 2 * step
    return spaced, n
