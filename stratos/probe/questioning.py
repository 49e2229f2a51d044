"""Ask one teacher within the probe's budget, score its answers, and keep the raw text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from stratos.config import Config
from stratos.core.context import Context
from stratos.probe.race import Answered, can_win
from stratos.tasks.base import Item, Message
from stratos.teachers.answer_limit import AnswerLimit, Asked, ask_whole
from stratos.teachers.asking import ask_questions, cost_usd
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.cached import kept_answers_of
from stratos.teachers.cost_estimate import expect_again, expect_longer
from stratos.teachers.prompting import Prompting, chat, prompting


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

    def first_limit(self, prompt: str) -> AnswerLimit:
        """Return the longest answer to a prompt, before any was seen."""
        return self.prompting.limit(prompt, self.config.probe.max_tokens)

    def ask(
        self, asked: Mapping[str, Sequence[Item]], tried: Mapping[str, Answered]
    ) -> dict[str, Answered]:
        """Ask items with several prompts together.

        Answers that were cut are asked for again with more room, unless their prompt cannot become
        the best by them.

        Args:
            asked: prompt to items.
            tried: what each of these prompts gave before, with its limit.
        """
        task, names = self.config.task, list(asked)
        chats = [[chat(task, item, name) for item in asked[name]] for name in names]
        limits = [tried[name].limit for name in names]
        longer = [
            Question(messages, limit.tokens)
            for own, limit in zip(chats, limits, strict=True)
            for messages in own
            if limit.is_raised
        ]
        self.foretell_longer(longer)

        def scored(found: Sequence[Asked]) -> list[Answered]:
            return [self._scored(asked[name], one) for name, one in zip(names, found, strict=True)]

        def matters(found: Sequence[Asked]) -> list[bool]:
            own = scored(found)
            so_far = [tried[name] + one for name, one in zip(names, own, strict=True)]
            best = max(so_far, key=Answered.merit)
            n_most = max(len(best.items), self.n_trial)
            return [
                can_win(one, best, n_most, n_open=new.n_cut_and_wrong)
                for one, new in zip(so_far, own, strict=True)
            ]

        groups = list(zip(chats, limits, strict=True))
        whole = ask_whole(self.teacher, groups, self.answers, matters, foretell=self.foretell_again)
        found = dict(zip(names, scored(whole), strict=True))
        for name, own in zip(names, chats, strict=True):
            self._keep_answers(name, own, found[name])
        self._log([tried[name] + found[name] for name in names])
        return found

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

    def _scored(self, items: Sequence[Item], one: Asked) -> Answered:
        pairs = list(zip(one.answers, items, strict=False))
        return Answered(
            tuple(item for _, item in pairs),
            tuple(one.answers),
            tuple(self.config.task.score(answer.text, item) for answer, item in pairs),
            one.limit.measured_by(one.answers),
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
            cut=True,
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

    def _keep_answers(self, prompt: str, chats: Sequence[list[Message]], found: Answered) -> None:
        parse = self.config.task.parse
        answered = zip(found.items, chats, found.answers, found.scores, strict=False)
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
        found = kept_answers_of(self.teacher, questions, self.context.cache_dir)
        if found is None:
            raise NotKeptError
        self.n_kept += len(found)
        return [replace(answer, cached=True) for answer in found]

    def foretell_longer(self, questions: Sequence[Question]) -> None:
        """Say nothing."""

    def foretell_again(self, questions: Sequence[Question]) -> None:
        """Say nothing."""
