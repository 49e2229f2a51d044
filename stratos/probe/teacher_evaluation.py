"""Evaluate one teacher: find its best prompt, then ask as many items as needed.

Self-consistency is the agreement of several samples at temperature 1: a teacher that says something
else each time is guessing, whatever its likeliest answer is worth.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise
from math import log2
from statistics import fmean, stdev
from typing import Any

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.probe.questioning import (
    Answered,
    NotKeptError,
    Questioning,
    Rehearsal,
    confused,
    left_in,
    looks,
    repaired,
    sizes,
    surely_below,
    undecided,
    winner,
)
from stratos.probe.words import LabelsConfused
from stratos.records import (
    AnswerSpread,
    PromptRepair,
    PromptTrial,
    SampledAnswers,
    SliceAnswers,
    TeacherProbe,
)
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Item, Task
from stratos.teachers.asking import stream_ask, unread
from stratos.teachers.base import TOO_LONG, Answer, Question, SignalKind, Teacher
from stratos.teachers.call_budget import is_paid
from stratos.teachers.cost_estimate import expect
from stratos.teachers.local_model import entropy_nats
from stratos.teachers.prompting import AnswerLimit, chat

TEMPERATURE = 1.0
"""The teacher's own distribution; some providers take no other."""


NOT_LEARNT_FROM = "the teacher covers too little for a strategy of this run to learn from it"
"""Why no samples are drawn of most blind teachers: nothing hinges on them."""


@dataclass(frozen=True)
class Drawn:
    """The answers that were drawn, and how far they agree."""

    record: SampledAnswers
    answered: tuple[tuple[Item, Question, Answer], ...] = ()


def sample_questions(
    task: Task, items: Sequence[Item], prompt: str, n_samples: int, max_tokens: int
) -> list[Question]:
    """Return the questions of all samples, those of one item together.

    Args:
        task: writes the chats.
        items: each is asked `n_samples` times.
        prompt: of the task.
        n_samples: numbered from 1, as 0 is the likeliest answer.
        max_tokens: longest answer.
    """
    return [
        Question(chat(task, item, prompt), max_tokens, 1 + k, TEMPERATURE)
        for item in items
        for k in range(n_samples)
    ]


def draw(
    teacher: Teacher,
    task: Task,
    items: Sequence[Item],
    questions: Sequence[Question],
    context: Context,
    limit_usd: float | None,
) -> Drawn:
    """Ask for the samples and compare them; where the money ends, the items up to there count.

    A teacher that cannot be asked so is no worse a teacher: the record says why not.

    Args:
        teacher: who is asked.
        task: reads the answers.
        items: as of `sample_questions`.
        questions: as `sample_questions` returns them; none are not asked.
        context: of the stage.
        limit_usd: a tighter cap than the budget.
    """
    n_samples = len(questions) // max(1, len(items))
    if n_samples < 2:
        return Drawn(none_drawn("probe.n_samples=0 or probe.n_sample_items=0 asks for none"))
    if not teacher.draws:
        return Drawn(none_drawn("the teacher gives one answer per question"))
    answers: list[Answer] = []
    reason = "the budget did not cover a single item"
    try:
        with closing(stream_ask(teacher, questions, context, limit_usd=limit_usd)) as asking:
            answers.extend(asking)
    except BudgetError as error:
        n_left = len(questions) - len(answers)
        context.ledger.cut(limit_usd)
        context.warn(f"Teacher {teacher.name} was asked {counted(n_left, 'sample')} less: {error}")
    except TeacherError as error:
        context.warn(f"How far samples of {teacher.name} agree is not known: {error}")
        reason = "the teacher failed to give samples"
    triples = tuple(
        (items[k // n_samples], question, answer)
        for k, (question, answer) in enumerate(zip(questions, answers, strict=False))
    )
    n_items = len(answers) // n_samples
    read = [_read(task, item, answer) for item, _, answer in triples]
    certainty = agreement_and_entropy(
        [read[i * n_samples : (i + 1) * n_samples] for i in range(n_items)]
    )
    if certainty is None:
        return Drawn(none_drawn(reason), triples)
    return Drawn(SampledAnswers(n_items, n_samples, TEMPERATURE, *certainty), triples)


def _read(task: Task, item: Item, answer: Answer) -> AnswerText | None:
    return task.parse(answer.text) if task.score(answer.text, item).parsed else None


def none_drawn(reason: str) -> SampledAnswers:
    """Return the record of samples that were not drawn, with the reason."""
    return SampledAnswers(0, 0, TEMPERATURE, reason=reason)


CHOICE_TOKENS = 8
"""Longest answer to a multiple choice: a letter, and a few words around it."""
_CHOICE_ITEMS = 32
"""Multiple choices that a blind teacher is asked."""
_BLIND = 0.1
"""Share of items up to which a teacher may be blind, which a multiple choice then tells."""


def agreement_and_entropy(answers: Sequence[Sequence[str | None]]) -> tuple[float, float] | None:
    """Return how far answers to the same question agree: share of equal pairs, entropy in bits.

    Both are means over the questions. An answer that could not be read is like no other.

    Args:
        answers: of each question, what several ways of asking it gave; None could not be read.

    Returns:
        None where no question has two answers.
    """
    several = [given for given in answers if len(given) > 1]
    if not several:
        return None
    equal = [fmean(a == b is not None for a, b in combinations(given, 2)) for given in several]
    return fmean(equal), fmean(_entropy_bits(given) for given in several)


def _entropy_bits(given: Sequence[str | None]) -> float:
    counts = Counter(
        ("unread", index) if answer is None else ("read", answer)
        for index, answer in enumerate(given)
    )
    return sum(n / len(given) * log2(len(given) / n) for n in counts.values())


@dataclass
class TeacherEvaluation:
    """Asks one teacher; `rows` collects every prompt with its raw answer."""

    teacher: Teacher
    items: Sequence[Item]
    config: Config
    context: Context
    tick: Callable[[float], None]
    """Told the share of questions that are answered."""
    reserve: Sequence[Item] = ()
    """ChatGroup too, as many as it takes, while it is open what strategies may learn from it."""
    thresholds: Sequence[float] = ()
    """Coverages at which that turns."""
    asks_by: type[Questioning] = Questioning
    """How it is asked: really, or in a rehearsal."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every raw answer, with its prompt."""
        return self._asking.rows

    @property
    def n_questions(self) -> int:
        """How many questions an interview has that nothing shortens, the reserve left out."""
        n_others = len(self._prompts) - 1
        return len(self.items) + n_others * self.n_trial + len(self._with_choices)

    @property
    def n_trial(self) -> int:
        """On how many items prompts are tried, and the coverage is looked at first."""
        return min(self.config.probe.n_trial_items, len(self.items))

    @cached_property
    def _asking(self) -> Questioning:
        return self.asks_by(self.teacher, self.config, self.context, self.tick, self.n_trial)

    @property
    def _prompts(self) -> tuple[str, ...]:
        return self._asking.prompting.prompts

    @property
    def _with_choices(self) -> list[Item]:
        """Items with a multiple choice, which an expert was never taught."""
        if self._asking.prompting.is_expert:
            return []
        return [item for item in self.items if len(item.choices) == 4][:_CHOICE_ITEMS]

    def hold(self) -> TeacherProbe:
        """Ask everything that decides something, and return what the teacher showed.

        Raises:
            BudgetError: the money does not even suffice for one answer.
            TeacherError: the teacher failed.
        """
        cpu_started = time.process_time()
        asking = self._asking
        asking.n_expected = self.n_questions
        self._foretell()
        tried = self._race()
        prompt = winner(tried, self._prompts)
        answered = self._ask_until_settled(tried[prompt], prompt)
        if not answered.answers:
            raise BudgetError("limits.probe_usd is too small for one answer: raise it.")
        self._tell_of_faults(answered, prompt)
        pairs = confused(self.config.task, answered)
        answered, prompt, repair = self._repair(answered, prompt)
        if pairs and self.config.task.takes_unlabelled:
            self.context.note(str(LabelsConfused(self.teacher.name, pairs, repair)))
        picked = self._ask_choices(answered)
        samples = self._draw_samples(answered, prompt)
        agreement, entropy_bits = agreement_and_entropy(self._side_by_side(tried)) or (None, None)
        examples = asking.prompting.example_answers(prompt)
        asking.done()
        trials = tried.items() if len(tried) > 1 else ()
        n = len(answered.answers)
        return TeacherProbe(
            teacher=self.teacher.name,
            card=self.teacher.card(),
            prompt=prompt,
            n_items=n,
            exact=wilson(answered.n_right, n),
            choice=wilson(sum(picked.values()), len(picked)),
            exact_by_slice=self._by_slice(answered),
            parsable=fmean(score.parsed for score in answered.scores),
            echoes=fmean(
                score.exact < 1 and self.config.task.parse(answer.text) in examples
                for answer, score in zip(answered.answers, answered.scores, strict=True)
            ),
            input_tokens=sum(answer.input_tokens for answer in answered.answers),
            output_tokens=sum(answer.output_tokens for answer in answered.answers),
            cached_input_tokens=sum(answer.cached_input_tokens for answer in answered.answers),
            seconds=sum(answer.seconds for answer in answered.answers),
            cpu_seconds=time.process_time() - cpu_started,
            usd=asking.usd,
            n_cached=sum(answer.cached for answer in answered.answers),
            trials=tuple(_trial(name, trial, picked) for name, trial in trials),
            has_weights=self.teacher.signal is SignalKind.WEIGHTS,
            agreement=agreement,
            entropy_bits=entropy_bits,
            entropy_nats=self._entropy_nats(answered, prompt),
            samples=samples,
            max_tokens=answered.limit.tokens,
            n_truncated=answered.n_truncated,
            spread=_spread(answered.answers),
            most_at_once=asking.most_at_once,
            at_once=asking.at_once,
            by_slice=self._answers_by_slice(answered),
            confused=pairs,
            repair=repair,
        )

    def _repair(self, answered: Answered, prompt: str) -> tuple[Answered, str, PromptRepair | None]:
        """Return the answers to go on with, their prompt, and what was tried to better it."""
        repair_made = repaired(self._asking, answered, prompt)
        if repair_made is None:
            return answered, prompt, None
        better, repair = repair_made
        if not repair.is_taken:
            return answered, prompt, repair
        self.config = self._asking.config
        return better, repair.prompt, repair

    def _race(self) -> dict[str, Answered]:
        """Try every prompt on a few items, and those on more that may still win."""
        asking = self._asking
        tried = {name: Answered(limit=asking.first_limit(name)) for name in self._prompts}
        racing = list(tried)
        for n_before, size in pairwise([0, *sizes(self.n_trial)]):
            results = asking.ask({name: self.items[n_before:size] for name in racing}, tried)
            for name, result in results.items():
                tried[name] += result
            if any(len(tried[name].items) < size for name in racing):
                break  # the money is at its end
            racing = left_in(tried, self.n_trial)
            if len(racing) < 2:
                break
        return tried

    def _ask_until_settled(self, answered: Answered, prompt: str) -> Answered:
        """Ask the best prompt until the coverage is settled.

        A teacher that surely has too little for every strategy is left at that. Any other answers
        all items, and more of the reserve while its coverage may lie on either side of a threshold.
        """
        everything = [*self.items, *self.reserve]
        sizes = looks(self.n_trial, len(self.items), len(everything))
        for size in sizes:
            if more := everything[len(answered.items) : size]:
                answered += self._asking.ask({prompt: more}, {prompt: answered})[prompt]
            n_right = answered.n_right
            if len(answered.items) < size or surely_below(
                n_right, size, self.thresholds, len(sizes)
            ):
                break
            is_open = undecided(n_right, size, self.thresholds, len(sizes))
            if size >= len(self.items) and not is_open:
                break
        return answered

    def _ask_choices(self, answered: Answered) -> dict[str, bool]:
        """Ask for one of four, which tells a blind teacher from one that is near.

        One that answers items exactly has shown more than that, and is not asked.

        Returns:
            Item id to whether the gold answer was chosen.
        """
        if answered.n_right > _BLIND * len(answered.answers):
            return {}
        task, items = self.config.task, self._with_choices
        chats = [task.choice_messages(item) for item in items]
        right: dict[str, bool] = {}
        answers = self._asking.answers(
            [Question(choice_chat, CHOICE_TOKENS) for choice_chat in chats]
        )
        for item, messages, answer in zip(items, chats, answers, strict=False):
            chosen = task.parse_choice(answer.text)
            right[item.id] = is_right = chosen is not None and item.choices[chosen] == item.answer
            gold = "ABCD"[item.choices.index(item.answer)]
            self._asking.keep("choice", item, messages, answer, gold=gold, exact=float(is_right))
        return right

    def _draw_samples(self, answered: Answered, prompt: str) -> SampledAnswers | None:
        """Draw several answers to a few items, if the teacher may be learnt from.

        Nothing is drawn where the complexity is declared.
        """
        if self.config.complexity.is_declared:
            return None
        if not self._may_be_learnt_from(answered):
            return none_drawn(NOT_LEARNT_FROM)
        task, items, limit = self.config.task, self._sampled, self.config.limits.probe_usd
        questions = self._sample_questions(prompt, answered.limit)
        drawn = draw(self.teacher, task, items, questions, self.context, limit)
        self._asking.paid([answer for *_, answer in drawn.answered])
        for item, question, answer in drawn.answered:
            numbers = {"sample": question.sample, "temperature": question.temperature}
            more = {"prompt": prompt, **numbers, "parsed": task.parse(answer.text)}
            self._asking.keep("sample", item, question.chat, answer, **more)
        return drawn.record

    @property
    def _sampled(self) -> Sequence[Item]:
        return self.items[: self.config.probe.n_sample_items]

    def _sample_questions(self, prompt: str, limit: AnswerLimit) -> list[Question]:
        n = self.config.probe.n_samples
        return sample_questions(self.config.task, self._sampled, prompt, n, limit.tokens)

    def _may_be_learnt_from(self, answered: Answered) -> bool:
        """Return whether the teacher covers enough for a strategy of this run."""
        least = min(self.thresholds, default=None)
        return least is not None and answered.n_right >= least * len(answered.answers)

    def _entropy_nats(self, answered: Answered, prompt: str) -> float | None:
        """Measure how certain the teacher is of its answers, where they may be learnt from."""
        has_weights = self.teacher.signal is SignalKind.WEIGHTS
        if not has_weights or not self._may_be_learnt_from(answered):
            return None
        n = self.config.probe.n_entropy_items
        pairs = zip(answered.items[:n], answered.answers, strict=False)
        read = [(item, answer.text) for item, answer in pairs if answer.finish != TOO_LONG]
        chats = [chat(self.config.task, item, prompt) for item, _ in read]
        model, tokenizer = self.teacher.load()
        return entropy_nats(model, tokenizer, chats, [text for _, text in read])

    def _foretell(self) -> None:
        """Say what the whole interview will cost, as if the first prompt were the best."""
        if is_paid(self.teacher.card()) and (n_kept := self._n_all_kept()):
            self.context.note(
                f"Teacher {self.teacher.name}: all {n_kept:,} answers of the probe are kept from "
                "before; nothing is paid."
            )
            return
        task, asking, first = self.config.task, self._asking, self._prompts[0]
        questions = [
            Question(chat(task, item, name), asking.first_limit(name).tokens)
            for name in self._prompts
            for item in (self.items if name == first else self.items[: self.n_trial])
        ]
        choices = [task.choice_messages(item) for item in self._with_choices]
        questions += [Question(messages, CHOICE_TOKENS) for messages in choices]
        is_measured = not self.config.complexity.is_declared
        if is_measured and self.thresholds and self.teacher.streams:
            questions += self._sample_questions(first, asking.first_limit(first))
        expect(self.teacher, questions, self.context, self.config.limits.probe_usd)

    def _n_all_kept(self) -> int:
        """Return how many answers the interview takes if each of them is kept already, else 0."""
        silent = Context(self.context.run_dir, self.context.cache_dir, self.context.ledger)
        twin = replace(self, context=silent, tick=lambda share: None, asks_by=Rehearsal)
        asking = twin._asking
        assert isinstance(asking, Rehearsal)
        with contextlib.suppress(NotKeptError):
            tried = twin._race()
            prompt = winner(tried, twin._prompts)
            answered = twin._ask_until_settled(tried[prompt], prompt)
            answered, prompt, _ = twin._repair(answered, prompt)
            twin._ask_choices(answered)
            is_measured = not self.config.complexity.is_declared
            if is_measured and self.teacher.streams and twin._may_be_learnt_from(answered):
                asking.answers(twin._sample_questions(prompt, answered.limit))
            return asking.n_kept
        return 0

    def _tell_of_faults(self, answered: Answered, prompt: str) -> None:
        """Warn of questions that are longer than the teacher's context, and of answers cut short.

        Raises:
            TeacherError: all questions are too long.
        """
        chats = [chat(self.config.task, item, prompt) for item in answered.items]
        questions = [Question(messages, answered.limit.tokens) for messages in chats]
        complaint = unread(self.teacher, questions, answered.answers)
        if complaint is not None and all(answer.finish == TOO_LONG for answer in answered.answers):
            raise TeacherError(
                f"{complaint} Shorten them, ask for shorter answers (probe.max_tokens), or choose "
                "a "
                "teacher with a longer context."
            )
        for text in (complaint, answered.limit.complaint(self.teacher.name, answered.answers)):
            if text:
                self.context.warn(str(text))

    def _side_by_side(self, tried: dict[str, Answered]) -> list[list[str | None]]:
        """Return of each item that prompts were tried on what each of them gave."""
        task = self.config.task
        read: dict[str, list[str | None]] = {}
        for answered in tried.values():
            for item, answer, score in zip(
                answered.items, answered.answers, answered.scores, strict=True
            ):
                parsed = task.parse(answer.text) if score.parsed else None
                read.setdefault(item.id, []).append(parsed)
        return list(read.values())

    def _by_slice(self, answered: Answered) -> dict[str, Any]:
        intervals = {}
        for name in self.config.task.slices:
            pairs = zip(answered.items, answered.scores, strict=True)
            right = [score.exact == 1 for item, score in pairs if item.slice == name]
            if right:
                intervals[name] = wilson(sum(right), len(right))
        return intervals

    def _answers_by_slice(self, answered: Answered) -> dict[str, SliceAnswers]:
        by_slice: dict[str, list[Answer]] = {}
        for item, answer in zip(answered.items, answered.answers, strict=True):
            by_slice.setdefault(item.slice, []).append(answer)
        return {
            name: SliceAnswers(
                len(answers),
                sum(answer.input_tokens for answer in answers),
                sum(answer.output_tokens for answer in answers),
                _spread(answers),
                sum(answer.cached_input_tokens for answer in answers),
            )
            for name, answers in sorted(by_slice.items())
        }


def _spread(answers: Sequence[Answer]) -> AnswerSpread | None:
    if len(answers) < 2:
        return None
    return AnswerSpread(
        stdev(answer.input_tokens for answer in answers),
        stdev(answer.output_tokens for answer in answers),
        stdev(answer.seconds for answer in answers),
    )


def _trial(prompt: str, tried: Answered, picked: dict[str, bool]) -> PromptTrial:
    exact, f1, parsable = tried.merit()
    chosen = [picked[item.id] for item in tried.items if item.id in picked]
    return PromptTrial(
        prompt=prompt,
        n_items=len(tried.items),
        exact=exact,
        choice=fmean(chosen) if chosen else 0.0,
        f1=f1,
        parsable=parsable,
        max_tokens=tried.limit.tokens,
        n_truncated=tried.n_truncated,
    )
