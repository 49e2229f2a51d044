"""Ask one teacher within the probe's budget, score its answers, and keep the raw text.

Prompts are selected by racing: all are tried on a few items, and the worse ones are dropped. After
8, 16 … items a prompt that can no longer win is asked no more: the items that are left do not
make up for what it lacks, or its interval lies below that of the best, or it is in the worse half
(successive halving). Where no prompt has a right answer after 8 items, none is asked more.

A sequential test of coverage against thresholds: more items are asked until it is decided. Whoever
looks at an interval again and again, and stops as soon as it lies on one side, errs more often than
its confidence says. So each of at most `n` looks is at a confidence of 1 - 0.05/n, with which all
looks together err at most as often as one at 95% (Bonferroni).

The best prompt is repaired: it is shown how the labels differ that the teacher takes for each
other. The pairs are those that it confuses on one half of the validation items, and their examples
are training rows. Both prompts then answer the other half, which has named no pair and stands in no
prompt. The repaired prompt is taken where it answers more of these items, and McNemar's exact test
tells that from chance.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.intervals import wilson
from stratos.core.pairs import mcnemar_exact
from stratos.records import ConfusedLabels, PromptRepair
from stratos.synthesize.choice import straddles
from stratos.tasks.base import Item, Message, Score, Task
from stratos.teachers.asking import ask_questions, cost_usd
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.cache import kept_answers_of
from stratos.teachers.cost_estimate import expect_again, expect_longer
from stratos.teachers.prompting import (
    STUDENT,
    AnswerLimit,
    ChatGroup,
    Prompting,
    ask_whole,
    chat,
    is_truncated,
    n_truncated,
    prompting,
)

_N_SAMPLES = 4
"""Answers of a batch that are shown while the run works."""
_LEAST_WHOLE = 3
"""Whole answers to a prompt that tell whether it leads to answers at all."""
_FIRST = 8
"""Items of the first look. A model on this machine answers all prompts together, in hardly more
time than one of them."""


@dataclass(frozen=True)
class Answered:
    """Items with a teacher's answers under one prompt, and their scores."""

    items: tuple[Item, ...] = ()
    answers: tuple[Answer, ...] = ()
    scores: tuple[Score, ...] = ()
    limit: AnswerLimit = field(default_factory=lambda: AnswerLimit(0, ""))
    """Longest answer, as it was asked for last."""

    def __add__(self, later: Answered) -> Answered:
        """Put later answers, and the limit that they were asked with, behind these."""
        return Answered(
            self.items + later.items,
            self.answers + later.answers,
            self.scores + later.scores,
            later.limit,
        )

    @property
    def n_right(self) -> int:
        """How many answers are exactly right."""
        return sum(score.exact == 1 for score in self.scores)

    @property
    def n_truncated(self) -> int:
        """How many answers were cut at the longest length."""
        return n_truncated(self.answers)

    @property
    def n_cut_and_wrong(self) -> int:
        """How many answers might be right if they were longer."""
        pairs = zip(self.answers, self.scores, strict=True)
        return sum(is_truncated(answer) and score.exact < 1 for answer, score in pairs)

    @property
    def is_readable(self) -> bool:
        """Whether half of the answers that were not cut can be read, or next to none are there.

        Where most say something else, longer ones are no likelier to hold an answer.
        """
        pairs = zip(self.answers, self.scores, strict=True)
        whole = [score.parsed for answer, score in pairs if not is_truncated(answer)]
        return len(whole) < _LEAST_WHOLE or 2 * sum(whole) >= len(whole)

    def merit(self) -> tuple[float, float, float]:
        """Return what prompts are compared by: exact match, then F1, then share parsable."""
        if not self.scores:
            return (0.0, 0.0, 0.0)
        return (
            fmean(score.exact for score in self.scores),
            fmean(score.f1 for score in self.scores),
            fmean(score.parsed for score in self.scores),
        )


def sizes(n_trial: int) -> list[int]:
    """Return after how many items prompts are compared."""
    rounds = []
    size = min(_FIRST, n_trial)
    while size:
        rounds.append(size)
        size = min(2 * size, n_trial) if size < n_trial else 0
    return rounds


def left_in(tried: Mapping[str, Answered], n_trial: int) -> list[str]:
    """Return the prompts that are worth asking more items; one or none ends the race.

    Args:
        tried: prompt to its answers so far.
        n_trial: items on which a prompt is tried at most.
    """
    most = max(len(answered.items) for answered in tried.values())
    still = {name: answered for name, answered in tried.items() if len(answered.items) == most}
    best = max(still.values(), key=Answered.merit)
    if best.n_right == 0 and most >= _FIRST:
        return []
    able = [name for name, answered in still.items() if can_win(answered, best, n_trial)]
    better = sorted(able, key=lambda name: still[name].merit(), reverse=True)
    return [name for name in able if name in better[: max(2, -(-len(able) // 2))]]


def can_win(answered: Answered, best: Answered, n_trial: int, n_open: int = 0) -> bool:
    """Return whether a prompt may still turn out better than the best so far, or is it.

    Args:
        answered: its answers.
        best: those of the best prompt, to the same items.
        n_trial: items on which a prompt is tried at most.
        n_open: answers that may still become right, such as those that were cut.
    """
    if answered is best:
        return True
    n, n_right = len(answered.items), answered.n_right + n_open
    if n_right + (n_trial - n) <= best.n_right:
        return False
    own, leading = wilson(n_right, n), wilson(best.n_right, len(best.items))
    return own.high > leading.low


def winner(tried: Mapping[str, Answered], order: Sequence[str]) -> str:
    """Return the best prompt of those that were asked most; of equals the first."""
    most = max((len(answered.items) for answered in tried.values()), default=0)
    still = [name for name in order if name in tried and len(tried[name].items) == most]
    return max(still, key=lambda name: tried[name].merit())


ERROR = 0.05
"""Share of tests that may end on the wrong side of a threshold."""


def looks(n_first: int, n_items: int, n_most: int) -> list[int]:
    """Return after how many items the coverage is looked at.

    Args:
        n_first: items of the first look.
        n_items: of the second; their number is then doubled each time.
        n_most: of the last.
    """
    sizes = [n_first, *([n_items] if n_items > n_first else [])]
    while sizes[-1] < n_most:
        sizes.append(min(2 * sizes[-1], n_most))
    return sizes


def surely_below(k: int, n: int, thresholds: Iterable[float], n_looks: int = 1) -> bool:
    """Return whether `k` right answers of `n` are surely too few for every threshold.

    Args:
        k: right answers.
        n: answers.
        thresholds: shares; where there are none, nothing is too few.
        n_looks: how often it is looked at most.
    """
    least = min(thresholds, default=0.0)
    return wilson(k, n, 1 - ERROR / n_looks).high < least


def undecided(k: int, n: int, thresholds: Iterable[float], n_looks: int = 1) -> list[float]:
    """Return the thresholds that `k` right answers of `n` do not settle, at one of several looks.

    Args:
        k: right answers.
        n: answers.
        thresholds: shares on whose side the coverage is to be known.
        n_looks: how often it is looked at most.
    """
    interval = wilson(k, n, 1 - ERROR / n_looks)
    return [threshold for threshold in thresholds if straddles(interval, threshold)]


def listed(thresholds: Sequence[float]) -> str:
    """Return thresholds as words, such as "30% and 50%"."""
    return " and ".join(f"{threshold:.0%}" for threshold in thresholds)


@dataclass
class Questioning:
    """One teacher, what it is asked with, and what it cost; `rows` has every raw answer."""

    teacher: Teacher
    config: Config
    context: Context
    tick: Callable[[float], None]
    """Told the share of questions that are answered."""
    n_trial: int
    """Items on which each prompt is tried at most."""
    n_expected: int = 1
    """Questions in all, where nothing shortens the interview."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    usd: float = 0.0
    _own_seconds: float = 0.0
    _wall_seconds: float = 0.0
    _n_done: int = 0
    _share: float = 0.0

    @cached_property
    def prompting(self) -> Prompting:
        """How the teacher is asked about the task."""
        return prompting(self.teacher, self.config.task)

    def use(self, config: Config) -> None:
        """Ask about the task of another config from now on."""
        self.config = config
        self.__dict__.pop("prompting", None)

    def first_limit(self, prompt: str) -> AnswerLimit:
        """Return the longest answer to a prompt, before any was seen."""
        return self.prompting.limit(prompt, self.config.probe.max_tokens)

    def ask(
        self, items: Mapping[str, Sequence[Item]], tried: Mapping[str, Answered]
    ) -> dict[str, Answered]:
        """Ask items with several prompts together.

        Answers that were cut are asked for again with more room, unless their prompt cannot become
        the best by them.

        Args:
            items: prompt to items.
            tried: what each of these prompts gave before, with its limit.
        """
        task, names = self.config.task, list(items)
        chats = [[chat(task, item, name) for item in items[name]] for name in names]
        limits = [tried[name].limit for name in names]
        longer = [
            Question(messages, limit.tokens)
            for own, limit in zip(chats, limits, strict=True)
            for messages in own
            if limit.is_raised
        ]
        self.foretell_longer(longer)

        def scored(results: Sequence[ChatGroup]) -> list[Answered]:
            return [
                self._scored(items[name], result)
                for name, result in zip(names, results, strict=True)
            ]

        def matters(results: Sequence[ChatGroup]) -> list[bool]:
            own = scored(results)
            so_far = [tried[name] + new for name, new in zip(names, own, strict=True)]
            best = max(so_far, key=Answered.merit)
            n_most = max(len(best.items), self.n_trial)
            # Of the best prompt all count; and where nothing is right yet, any may become the best.
            return [
                (total.is_readable or total is best or not best.n_right)
                and can_win(total, best, n_most, n_open=new.n_cut_and_wrong)
                for total, new in zip(so_far, own, strict=True)
            ]

        groups = list(zip(chats, limits, strict=True))
        whole = ask_whole(self.teacher, groups, self.answers, matters, foretell=self.foretell_again)
        answered = dict(zip(names, scored(whole), strict=True))
        for name, own in zip(names, chats, strict=True):
            self._keep_answers(name, own, answered[name])
        self._log([tried[name] + answered[name] for name in names])
        return answered

    def _log(self, answered: Sequence[Answered]) -> None:
        """Track what the teacher's best prompt has shown so far."""
        best = max(answered, key=Answered.merit)
        if best.answers:
            teacher, n = self.teacher.name, len(best.answers)
            shown = {"exact": best.n_right / n, "items": float(n), "usd": self.usd}
            self.context.log({f"{teacher}/{name}": value for name, value in shown.items()})

    def foretell_longer(self, questions: Sequence[Question]) -> None:
        """Say what longer answers cost: what was foretold at first holds those of the first limit.

        Args:
            questions: whose longest answer was raised.
        """
        expect_longer(self.teacher, questions, self.context, self.config.limits.probe_usd)

    def foretell_again(self, questions: Sequence[Question]) -> None:
        """Say what it costs to ask again what was cut."""
        expect_again(self.teacher, questions, self.context, self.config.limits.probe_usd)

    def _scored(self, items: Sequence[Item], result: ChatGroup) -> Answered:
        pairs = list(zip(result.answers, items, strict=False))
        scores = tuple(self.config.task.score(answer.text, item) for answer, item in pairs)
        for (answer, item), score in zip(pairs[-_N_SAMPLES:], scores[-_N_SAMPLES:], strict=True):
            self.context.sample(
                self.teacher.name, item.question, item.answer, answer.text, score.exact == 1
            )
        return Answered(
            tuple(item for _, item in pairs),
            tuple(result.answers),
            scores,
            result.limit.measured_by(result.answers),
        )

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the answers to questions, fewer where the money ends."""
        started = time.perf_counter()
        answers = ask_questions(
            self.teacher,
            questions,
            self.context,
            tick=lambda done, total: self._tell(done),
            limit_usd=self.config.limits.probe_usd,
        )
        if any(not answer.cached for answer in answers):
            self._wall_seconds += time.perf_counter() - started
        self._own_seconds += sum(answer.seconds for answer in answers if not answer.cached)
        self._n_done += len(questions)
        self.paid(answers)
        return answers

    @property
    def most_at_once(self) -> int:
        """How many answers are asked for at once at most."""
        return self.teacher.most_at_once()

    @property
    def at_once(self) -> float | None:
        """How many answers were under way at once on average; None where none was asked for."""
        if not self.teacher.streams or not self._wall_seconds:
            return None
        return self._own_seconds / self._wall_seconds

    def paid(self, answers: Sequence[Answer]) -> None:
        """Count what answers cost."""
        self.usd += cost_usd(self.teacher.card(), answers)

    def _tell(self, n_done: int) -> None:
        """Tell how far it is, which more questions do not set back."""
        share = min(1.0, (self._n_done + n_done) / self.n_expected)
        self._share = max(self._share, share)
        self.tick(self._share)

    def done(self) -> None:
        """Tell that nothing more is asked."""
        self._share = 1.0
        self.tick(1.0)

    def _keep_answers(
        self, prompt: str, chats: Sequence[list[Message]], answered_: Answered
    ) -> None:
        parse = self.config.task.parse
        answered = zip(answered_.items, chats, answered_.answers, answered_.scores, strict=False)
        for item, messages, answer, score in answered:
            self.keep(
                "answer",
                item,
                messages,
                answer,
                prompt=prompt,
                gold=item.answer,
                parsed=parse(answer.text),
                exact=score.exact,
                f1=score.f1,
                finish=answer.finish,
            )

    def keep(
        self, kind: str, item: Item, messages: list[Message], answer: Answer, **more: Any
    ) -> None:
        """Add a raw answer to the rows."""
        self.rows.append(
            {
                "teacher": self.teacher.name,
                "kind": kind,
                "item": item.id,
                "slice": item.slice,
                "question": item.question,
                **more,
                "answer": answer.text,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "seconds": answer.seconds,
                "cached": answer.cached,
                "messages": messages,
            }
        )


class NotKeptError(Exception):
    """An answer would have to be asked for."""


@dataclass
class Rehearsal(Questioning):
    """Asks nobody and says nothing: it takes the answers that are kept."""

    n_kept: int = 0

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the kept answers to questions.

        Raises:
            NotKeptError: one is not kept.
        """
        answers = kept_answers_of(self.teacher, questions, self.context.cache_dir)
        if answers is None:
            raise NotKeptError
        self.n_kept += len(answers)
        return [replace(answer, cached=True) for answer in answers]

    def foretell_longer(self, questions: Sequence[Question]) -> None:
        """Say nothing."""

    def foretell_again(self, questions: Sequence[Question]) -> None:
        """Say nothing."""


_FEWEST_ITEMS = 16
"""Items answered below which nothing is tried: half of them could not tell a better prompt."""
_MOST_PAIRS = 12
"""Pairs of labels that a prompt tells apart."""
_MOST_CHANCE = 0.1
"""Two-sided p-value from which a repaired prompt is not taken: one-sided 5%."""


def confused(task: Task, answered: Answered) -> tuple[ConfusedLabels, ...]:
    """Return the pairs of labels that wrong answers confuse, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for item, answer, score in zip(answered.items, answered.answers, answered.scores, strict=True):
        parsed = None if score.exact >= 1 else task.labelled(item, answer.text)
        if parsed is not None and parsed.answer in task.all_labels:
            first, second = sorted((item.answer, parsed.answer))
            counts[first, second] += 1
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(ConfusedLabels(labels, n) for labels, n in ordered)


def repaired(
    asking: Questioning, answered: Answered, prompt: str
) -> tuple[Answered, PromptRepair] | None:
    """Try a prompt that tells confused labels apart; ask with it from now on if it is better.

    Args:
        asking: of the teacher; has the prompt as its task's where it is taken.
        answered: what its best prompt gave.
        prompt: this prompt.

    Returns:
        What the repaired prompt gave, and how the two compare; None where none was tried.
    """
    task = asking.config.task
    n = len(answered.items)
    if prompt == STUDENT or not task.takes_unlabelled or n < _FEWEST_ITEMS:
        return None
    named, rest = _part(answered, range(0, n, 2)), _part(answered, range(1, n, 2))
    pairs = tuple(pair.labels for pair in confused(task, named)[:_MOST_PAIRS])
    name = f"{prompt}, labels told apart for {asking.teacher.name}"
    twin = task.telling_apart(name, prompt, pairs) if pairs else None
    if twin is None:
        return None
    before = asking.config
    asking.use(replace(before, task=twin))
    start = Answered(limit=asking.first_limit(name))
    new = asking.ask({name: rest.items}, {name: start})[name]
    scores = list(zip(new.scores, rest.scores, strict=False))  # fewer where the money ends
    only_new = sum(a.exact >= 1 > b.exact for a, b in scores)
    only_old = sum(b.exact >= 1 > a.exact for a, b in scores)
    p_value = mcnemar_exact(only_new, only_old)
    is_taken = only_new > only_old and p_value <= _MOST_CHANCE
    if not is_taken:
        asking.use(before)
    return new, PromptRepair(
        prompt=name,
        base=prompt,
        pairs=pairs,
        n_items=len(scores),
        n_right_before=sum(b.exact >= 1 for _, b in scores),
        n_right=sum(a.exact >= 1 for a, _ in scores),
        only_repaired=only_new,
        only_base=only_old,
        p_value=p_value,
        is_taken=is_taken,
    )


def _part(answered: Answered, places: Sequence[int]) -> Answered:
    return Answered(
        tuple(answered.items[k] for k in places),
        tuple(answered.answers[k] for k in places),
        tuple(answered.scores[k] for k in places),
        answered.limit,
    )
