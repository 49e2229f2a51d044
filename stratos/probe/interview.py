"""One teacher under examination: prompts tried, the best one asked on every item, then choices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import fmean
from typing import Any

from stratos.config import Config
from stratos.context import Context
from stratos.errors import BudgetError, TeacherError
from stratos.intervals import wilson
from stratos.probe.complexity import concord
from stratos.probe.samples import draw, sample_questions
from stratos.probe.sequential import looks, undecided
from stratos.records import PromptTrial, SampledAnswers, TeacherProbe
from stratos.tasks.base import Item, Message, Score
from stratos.teachers.asking import cached_ask, cost_usd, unread
from stratos.teachers.base import TOO_LONG, Answer, HasWeights, Question, Streaming, Teacher
from stratos.teachers.certainty import entropy_nats
from stratos.teachers.expect import expect
from stratos.teachers.expert import Manner, chat, manner

CHOICE_TOKENS = 8
"""Longest answer to a multiple choice: a letter, and a few words around it."""


@dataclass
class Interview:
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
    rows: list[dict[str, Any]] = field(default_factory=list)
    usd: float = 0.0
    _n_done: int = 0
    _n_more: int = 0
    _share: float = 0.0

    @property
    def n_questions(self) -> int:
        """How many questions a full interview has."""
        n_answers = self.n_trial * len(self._prompts) + self.n_rest + self._n_more
        return n_answers + len(self._with_choices)

    @property
    def _longest(self) -> int:
        return self._manner.longest(self.config.probe.max_tokens)

    @property
    def n_trial(self) -> int:
        """On how many items each prompt is tried; none where there is only one prompt."""
        return min(self.config.probe.n_trial_items, len(self.items)) * (len(self._prompts) > 1)

    @property
    def n_rest(self) -> int:
        """How many items the best prompt has left after its trial."""
        return len(self.items) - self.n_trial

    @property
    def _tried(self) -> Sequence[Item]:
        return self.items[: self.n_trial]

    @property
    def _prompts(self) -> tuple[str, ...]:
        return self._manner.prompts

    @cached_property
    def _manner(self) -> Manner:
        return manner(self.teacher, self.config.task)

    @property
    def _with_choices(self) -> list[Item]:
        """Items with a multiple choice, which an expert was never taught."""
        if self._manner.is_expert:
            return []
        return [item for item in self.items if len(item.choices) == 4]

    def hold(self) -> TeacherProbe:
        """Ask everything and return what the teacher showed.

        Raises:
            BudgetError: the money does not even suffice for one answer.
            TeacherError: the teacher failed.
        """
        cpu_started = time.process_time()
        self._foretell()
        tried = {name: self._ask(name, self._tried) for name in self._prompts}
        prompt = max(tried, key=lambda name: tried[name].merit())
        taken = tried[prompt] + self._ask(prompt, self.items[self.n_trial :])
        if not taken.answers:
            raise BudgetError("not one answer fits into limits.probe_usd: raise it.")
        taken = self._ask_until_settled(taken, prompt)
        self._tell_of_unread(taken, prompt)
        picked = self._ask_choices()
        samples = self._draw_samples(prompt)
        agreement, entropy_bits = concord(self._side_by_side(tried)) or (None, None)
        examples = self._manner.example_answers(prompt)
        n = len(taken.answers)
        return TeacherProbe(
            teacher=self.teacher.name,
            card=self.teacher.card(),
            prompt=prompt,
            n_items=n,
            exact=wilson(sum(score.exact == 1 for score in taken.scores), n),
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
            usd=self.usd,
            n_cached=sum(answer.cached for answer in taken.answers),
            trials=tuple(self._trial(name, tried[name], picked) for name in tried if self.n_trial),
            has_weights=isinstance(self.teacher, HasWeights),
            agreement=agreement,
            entropy_bits=entropy_bits,
            entropy_nats=self._entropy_nats(taken, prompt),
            samples=samples,
        )

    def _tell_of_unread(self, taken: _Answered, prompt: str) -> None:
        """Warn of questions that are longer than the teacher's context.

        Raises:
            TeacherError: all are.
        """
        chats = [chat(self.config.task, item, prompt) for item in taken.items]
        asked = [Question(messages, self._longest) for messages in chats]
        told = unread(self.teacher, asked, taken.answers)
        if told is None:
            return
        if all(answer.finish == TOO_LONG for answer in taken.answers):
            raise TeacherError(
                f"{told} Shorten them, ask for shorter answers (probe.max_tokens), or choose a "
                "teacher with a longer context."
            )
        self.context.warn(told)

    def _draw_samples(self, prompt: str) -> SampledAnswers | None:
        """Draw several answers to a few items, unless complexity is declared."""
        if self.config.complexity.level != "measured":
            return None
        task, items, limit = self.config.task, self._sampled, self.config.limits.probe_usd
        questions = self._sample_questions(prompt)
        drawn = draw(self.teacher, task, items, questions, self.context, limit)
        self.usd += cost_usd(self.teacher.card(), [answer for *_, answer in drawn.asked])
        for item, asked, answer in drawn.asked:
            numbers = {"sample": asked.sample, "temperature": asked.temperature}
            parsed = task.parse(answer.text)
            self._keep("sample", item, asked.chat, answer, prompt=prompt, **numbers, parsed=parsed)
        return drawn.record

    @property
    def _sampled(self) -> Sequence[Item]:
        return self.items[: self.config.probe.n_sample_items]

    def _sample_questions(self, prompt: str) -> list[Question]:
        n_samples = self.config.probe.n_samples
        return sample_questions(self.config.task, self._sampled, prompt, n_samples, self._longest)

    def _entropy_nats(self, taken: _Answered, prompt: str) -> float | None:
        """Measure how certain the teacher is of its answers, where they may be learnt from."""
        least = min(self.thresholds, default=None)
        covered = fmean(score.exact == 1 for score in taken.scores)
        if not isinstance(self.teacher, HasWeights) or least is None or covered < least:
            return None
        n = self.config.probe.n_entropy_items
        pairs = zip(taken.items[:n], taken.answers, strict=False)
        read = [(item, one.text) for item, one in pairs if one.finish != TOO_LONG]
        chats = [chat(self.config.task, item, prompt) for item, _ in read]
        model, tokenizer = self.teacher.load()
        return entropy_nats(model, tokenizer, chats, [text for _, text in read])

    def _ask_until_settled(self, taken: _Answered, prompt: str) -> _Answered:
        """Ask more of the reserve, while the coverage may lie on either side of a threshold."""
        sizes = looks(len(self.items), len(self.items) + len(self.reserve))
        for size, next_size in pairwise(sizes):
            n_right = sum(score.exact == 1 for score in taken.scores)
            is_cut = len(taken.answers) < size
            if is_cut or not undecided(n_right, size, self.thresholds, len(sizes)):
                break
            more = self.reserve[size - len(self.items) : next_size - len(self.items)]
            self._n_more += len(more)
            taken += self._ask(prompt, more)
        return taken

    def _side_by_side(self, tried: dict[str, _Answered]) -> list[list[str | None]]:
        """Return of each item that prompts were tried on what each of them gave."""
        task = self.config.task
        read: dict[str, list[str | None]] = {}
        for one in tried.values():
            for item, answer, score in zip(one.items, one.answers, one.scores, strict=True):
                parsed = task.parse(answer.text) if score.parsed else None
                read.setdefault(item.id, []).append(parsed)
        return list(read.values())

    def _foretell(self) -> None:
        """Say what the whole interview will cost, as if the first prompt were the best."""
        task, n = self.config.task, self._longest
        chats = [chat(task, item, name) for name in self._prompts for item in self._tried]
        chats += [chat(task, item, self._prompts[0]) for item in self.items[self.n_trial :]]
        questions = [Question(asked, n) for asked in chats]
        questions += [
            Question(task.choice_messages(item), CHOICE_TOKENS) for item in self._with_choices
        ]
        if self.config.complexity.level == "measured" and isinstance(self.teacher, Streaming):
            questions += self._sample_questions(self._prompts[0])
        expect(self.teacher, questions, self.context, self.config.limits.probe_usd)

    def _ask(self, prompt: str, items: Sequence[Item]) -> _Answered:
        task = self.config.task
        chats = [chat(task, item, prompt) for item in items]
        answers = self._answers(chats, self._longest)
        asked = list(items[: len(answers)])
        scores = [task.score(one.text, item) for one, item in zip(answers, asked, strict=True)]
        for item, messages, answer, score in zip(asked, chats, answers, scores, strict=False):
            self._keep(
                "answer",
                item,
                messages,
                answer,
                prompt=prompt,
                gold=item.answer,
                parsed=task.parse(answer.text),
                exact=score.exact,
                f1=score.f1,
            )
        return _Answered(asked, answers, scores)

    def _ask_choices(self) -> dict[str, bool]:
        """Ask for one of four; return item id to whether the gold answer was chosen."""
        task, items = self.config.task, self._with_choices
        chats = [task.choice_messages(item) for item in items]
        right: dict[str, bool] = {}
        answers = self._answers(chats, CHOICE_TOKENS)
        for item, messages, answer in zip(items, chats, answers, strict=False):
            chosen = task.parse_choice(answer.text)
            right[item.id] = chosen is not None and item.choices[chosen] == item.answer
            gold = "ABCD"[item.choices.index(item.answer)]
            self._keep("choice", item, messages, answer, gold=gold, exact=float(right[item.id]))
        return right

    def _answers(self, chats: Sequence[list[Message]], max_tokens: int) -> list[Answer]:
        answers = cached_ask(
            self.teacher,
            chats,
            max_tokens,
            self.context,
            tick=lambda done, total: self._tell(done),
            limit_usd=self.config.limits.probe_usd,
            cut=True,
        )
        self._n_done += len(chats)
        self.usd += cost_usd(self.teacher.card(), answers)
        return answers

    def _tell(self, n_done: int) -> None:
        """Tell how far it is, which more questions do not set back."""
        self._share = max(self._share, (self._n_done + n_done) / self.n_questions)
        self.tick(self._share)

    def _keep(
        self, kind: str, item: Item, messages: list[Message], answer: Answer, **more: Any
    ) -> None:
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

    def _by_slice(self, taken: _Answered) -> dict[str, Any]:
        intervals = {}
        for name in self.config.task.slices:
            pairs = zip(taken.items, taken.scores, strict=True)
            right = [score.exact == 1 for item, score in pairs if item.slice == name]
            if right:
                intervals[name] = wilson(sum(right), len(right))
        return intervals

    def _trial(self, prompt: str, tried: _Answered, picked: dict[str, bool]) -> PromptTrial:
        exact, f1, parsable = tried.merit()
        chosen = [picked[item.id] for item in tried.items if item.id in picked]
        return PromptTrial(
            prompt=prompt,
            n_items=len(tried.items),
            exact=exact,
            choice=fmean(chosen) if chosen else 0.0,
            f1=f1,
            parsable=parsable,
        )


@dataclass(frozen=True)
class _Answered:
    """Items with their answers and scores."""

    items: list[Item]
    answers: list[Answer]
    scores: list[Score]

    def __add__(self, other: _Answered) -> _Answered:
        return _Answered(
            self.items + other.items, self.answers + other.answers, self.scores + other.scores
        )

    def merit(self) -> tuple[float, float, float]:
        """Return what prompts are compared by: exact match, then F1, then share parsable."""
        if not self.scores:
            return (0.0, 0.0, 0.0)
        return (
            fmean(score.exact for score in self.scores),
            fmean(score.f1 for score in self.scores),
            fmean(score.parsed for score in self.scores),
        )
