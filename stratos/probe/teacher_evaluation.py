"""Evaluate one teacher: find its best prompt, then ask as many items as needed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import BudgetError, TeacherError
from stratos.core.intervals import wilson
from stratos.probe.complexity import agreement_and_entropy
from stratos.probe.questioning import Questioning
from stratos.probe.race import Answered, left_in, sizes, winner
from stratos.probe.rehearsal import NotKeptError, Rehearsal
from stratos.probe.samples import NOT_LEARNT_FROM, draw, none_drawn, sample_questions
from stratos.probe.sequential import looks, surely_below, undecided
from stratos.records import AnswerSpread, PromptTrial, SampledAnswers, SliceAnswers, TeacherProbe
from stratos.tasks.base import Item
from stratos.teachers.answer_limit import AnswerLimit
from stratos.teachers.asking import unread
from stratos.teachers.base import TOO_LONG, Answer, Question, SignalKind, Teacher
from stratos.teachers.call_budget import is_paid
from stratos.teachers.cost_estimate import expect
from stratos.teachers.generate import entropy_nats
from stratos.teachers.prompting import chat

CHOICE_TOKENS = 8
"""Longest answer to a multiple choice: a letter, and a few words around it."""
_CHOICE_ITEMS = 32
"""Multiple choices that a blind teacher is asked."""
_BLIND = 0.1
"""Share of items up to which a teacher may be blind, which a multiple choice then tells."""


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
    """Asked too, as many as it takes, while it is open what strategies may learn from it."""
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
        taken = self._ask_until_settled(tried[prompt], prompt)
        if not taken.answers:
            raise BudgetError("limits.probe_usd is too small for one answer: raise it.")
        self._tell_of_faults(taken, prompt)
        picked = self._ask_choices(taken)
        samples = self._draw_samples(taken, prompt)
        agreement, entropy_bits = agreement_and_entropy(self._side_by_side(tried)) or (None, None)
        examples = asking.prompting.example_answers(prompt)
        asking.done()
        trials = tried.items() if len(tried) > 1 else ()
        n = len(taken.answers)
        return TeacherProbe(
            teacher=self.teacher.name,
            card=self.teacher.card(),
            prompt=prompt,
            n_items=n,
            exact=wilson(taken.n_right, n),
            choice=wilson(sum(picked.values()), len(picked)),
            exact_by_slice=self._by_slice(taken),
            parsable=fmean(score.parsed for score in taken.scores),
            echoes=fmean(
                score.exact < 1 and self.config.task.parse(answer.text) in examples
                for answer, score in zip(taken.answers, taken.scores, strict=True)
            ),
            input_tokens=sum(answer.input_tokens for answer in taken.answers),
            output_tokens=sum(answer.output_tokens for answer in taken.answers),
            seconds=sum(answer.seconds for answer in taken.answers),
            cpu_seconds=time.process_time() - cpu_started,
            usd=asking.usd,
            n_cached=sum(answer.cached for answer in taken.answers),
            trials=tuple(_trial(name, one, picked) for name, one in trials),
            has_weights=self.teacher.signal is SignalKind.WEIGHTS,
            agreement=agreement,
            entropy_bits=entropy_bits,
            entropy_nats=self._entropy_nats(taken, prompt),
            samples=samples,
            max_tokens=taken.limit.tokens,
            n_truncated=taken.n_truncated,
            spread=_spread(taken.answers),
            most_at_once=asking.most_at_once,
            at_once=asking.at_once,
            by_slice=self._answers_by_slice(taken),
        )

    def _race(self) -> dict[str, Answered]:
        """Try every prompt on a few items, and those on more that may still win."""
        asking = self._asking
        tried = {name: Answered(limit=asking.first_limit(name)) for name in self._prompts}
        racing = list(tried)
        for n_before, size in pairwise([0, *sizes(self.n_trial)]):
            found = asking.ask({name: self.items[n_before:size] for name in racing}, tried)
            for name, one in found.items():
                tried[name] += one
            if any(len(tried[name].items) < size for name in racing):
                break  # the money is at its end
            racing = left_in(tried, self.n_trial)
            if len(racing) < 2:
                break
        return tried

    def _ask_until_settled(self, taken: Answered, prompt: str) -> Answered:
        """Ask the best prompt until the coverage is settled.

        A teacher that surely has too little for every strategy is left at that. Any other answers
        all items, and more of the reserve while its coverage may lie on either side of a threshold.
        """
        everything = [*self.items, *self.reserve]
        sizes = looks(self.n_trial, len(self.items), len(everything))
        for size in sizes:
            if more := everything[len(taken.items) : size]:
                taken += self._asking.ask({prompt: more}, {prompt: taken})[prompt]
            n_right = taken.n_right
            if len(taken.items) < size or surely_below(n_right, size, self.thresholds, len(sizes)):
                break
            is_open = undecided(n_right, size, self.thresholds, len(sizes))
            if size >= len(self.items) and not is_open:
                break
        return taken

    def _ask_choices(self, taken: Answered) -> dict[str, bool]:
        """Ask for one of four, which tells a blind teacher from one that is near.

        One that answers items exactly has shown more than that, and is not asked.

        Returns:
            Item id to whether the gold answer was chosen.
        """
        if taken.n_right > _BLIND * len(taken.answers):
            return {}
        task, items = self.config.task, self._with_choices
        chats = [task.choice_messages(item) for item in items]
        right: dict[str, bool] = {}
        answers = self._asking.answers([Question(one, CHOICE_TOKENS) for one in chats])
        for item, messages, answer in zip(items, chats, answers, strict=False):
            chosen = task.parse_choice(answer.text)
            right[item.id] = is_right = chosen is not None and item.choices[chosen] == item.answer
            gold = "ABCD"[item.choices.index(item.answer)]
            self._asking.keep("choice", item, messages, answer, gold=gold, exact=float(is_right))
        return right

    def _draw_samples(self, taken: Answered, prompt: str) -> SampledAnswers | None:
        """Draw several answers to a few items, if the teacher may be learnt from.

        Nothing is drawn where the complexity is declared.
        """
        if self.config.complexity.is_declared:
            return None
        if not self._may_be_learnt_from(taken):
            return none_drawn(NOT_LEARNT_FROM)
        task, items, limit = self.config.task, self._sampled, self.config.limits.probe_usd
        questions = self._sample_questions(prompt, taken.limit)
        drawn = draw(self.teacher, task, items, questions, self.context, limit)
        self._asking.paid([answer for *_, answer in drawn.asked])
        for item, asked, answer in drawn.asked:
            numbers = {"sample": asked.sample, "temperature": asked.temperature}
            more = {"prompt": prompt, **numbers, "parsed": task.parse(answer.text)}
            self._asking.keep("sample", item, asked.chat, answer, **more)
        return drawn.record

    @property
    def _sampled(self) -> Sequence[Item]:
        return self.items[: self.config.probe.n_sample_items]

    def _sample_questions(self, prompt: str, limit: AnswerLimit) -> list[Question]:
        n = self.config.probe.n_samples
        return sample_questions(self.config.task, self._sampled, prompt, n, limit.tokens)

    def _may_be_learnt_from(self, taken: Answered) -> bool:
        """Return whether the teacher covers enough for a strategy of this run."""
        least = min(self.thresholds, default=None)
        return least is not None and taken.n_right >= least * len(taken.answers)

    def _entropy_nats(self, taken: Answered, prompt: str) -> float | None:
        """Measure how certain the teacher is of its answers, where they may be learnt from."""
        has_weights = self.teacher.signal is SignalKind.WEIGHTS
        if not has_weights or not self._may_be_learnt_from(taken):
            return None
        n = self.config.probe.n_entropy_items
        pairs = zip(taken.items[:n], taken.answers, strict=False)
        read = [(item, one.text) for item, one in pairs if one.finish != TOO_LONG]
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
            taken = twin._ask_until_settled(tried[prompt], prompt)
            twin._ask_choices(taken)
            if twin._draws_samples(taken):
                asking.answers(twin._sample_questions(prompt, taken.limit))
            return asking.n_kept
        return 0

    def _draws_samples(self, taken: Answered) -> bool:
        return (
            not self.config.complexity.is_declared
            and self.teacher.streams
            and self._may_be_learnt_from(taken)
        )

    def _tell_of_faults(self, taken: Answered, prompt: str) -> None:
        """Warn of questions that are longer than the teacher's context, and of answers cut short.

        Raises:
            TeacherError: all questions are too long.
        """
        chats = [chat(self.config.task, item, prompt) for item in taken.items]
        asked = [Question(messages, taken.limit.tokens) for messages in chats]
        told = unread(self.teacher, asked, taken.answers)
        if told is not None and all(answer.finish == TOO_LONG for answer in taken.answers):
            raise TeacherError(
                f"{told} Shorten them, ask for shorter answers (probe.max_tokens), or choose a "
                "teacher with a longer context."
            )
        for text in (told, taken.limit.complaint(self.teacher.name, taken.answers)):
            if text:
                self.context.warn(str(text))

    def _side_by_side(self, tried: dict[str, Answered]) -> list[list[str | None]]:
        """Return of each item that prompts were tried on what each of them gave."""
        task = self.config.task
        read: dict[str, list[str | None]] = {}
        for one in tried.values():
            for item, answer, score in zip(one.items, one.answers, one.scores, strict=True):
                parsed = task.parse(answer.text) if score.parsed else None
                read.setdefault(item.id, []).append(parsed)
        return list(read.values())

    def _by_slice(self, taken: Answered) -> dict[str, Any]:
        intervals = {}
        for name in self.config.task.slices:
            pairs = zip(taken.items, taken.scores, strict=True)
            right = [score.exact == 1 for item, score in pairs if item.slice == name]
            if right:
                intervals[name] = wilson(sum(right), len(right))
        return intervals

    def _answers_by_slice(self, taken: Answered) -> dict[str, SliceAnswers]:
        found: dict[str, list[Answer]] = {}
        for item, answer in zip(taken.items, taken.answers, strict=True):
            found.setdefault(item.slice, []).append(answer)
        return {
            name: SliceAnswers(
                len(answers),
                sum(answer.input_tokens for answer in answers),
                sum(answer.output_tokens for answer in answers),
                _spread(answers),
            )
            for name, answers in sorted(found.items())
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
