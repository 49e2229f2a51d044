"""Alignment: rejection sampling of the teacher's answers to training questions.

For a task that the teacher covers. Rejection sampling: an answer is kept only if the task's
verifier finds it exactly right, in the teacher's own words. A question that is harder is asked more
often, one that the student can answer already is not bought.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

from typing_extensions import override

from stratos.config import Config
from stratos.core.context import Context
from stratos.core.counted import counted
from stratos.core.errors import BudgetError
from stratos.core.item_progress import with_items
from stratos.records import Plan
from stratos.synthesize.admission import PretrainedStudent, pretrained
from stratos.synthesize.first_look import none_right, shown_first, size_of_first_look
from stratos.synthesize.leaks import without_leaks
from stratos.synthesize.planned_teacher import planned_teacher
from stratos.synthesize.samples import Attempt, Rule, choose, fewest, settled
from stratos.synthesize.strategy import MIN_COVERAGE, Family, Strategy, Tally, Threshold
from stratos.synthesize.words import NotLearnt
from stratos.tasks.base import Item, Task
from stratos.tasks.shown import shown
from stratos.teachers.answer_limit import AnswerLimit, ask_whole, is_truncated
from stratos.teachers.asking import cost_usd, going_down, stream_down
from stratos.teachers.base import TOO_LONG, Answer, Question, Teacher
from stratos.teachers.call_budget import is_paid
from stratos.teachers.cost_estimate import expect, expect_again
from stratos.teachers.prompting import chat, prompting

KNOWN = "known to the student"
_BARE_ANSWER = 12
"""Characters that an answer may be longer than the gold one before it counts as reasoning."""


@dataclass(frozen=True)
class Alignment(Strategy):
    """Items whose completion a teacher wrote and the task verified."""

    family: ClassVar[Family] = Family.ALIGNMENT

    name: str = "alignment"
    """Name shown in the plan."""
    min_coverage: float = MIN_COVERAGE
    """Minimum share of validation items that the teacher must answer exactly."""
    min_coverage_beside_injection: float = 0.7
    """The same if injection is also allowed, for the low end of the interval: a teacher with less
    coverage leaves only the easy items, which taught less than as many items made answer first."""
    n_items: int = 4096
    """Training questions for the teacher."""
    n_samples: int = 1
    """Maximum answers per question: the first with each prompt of the task, then samples. An easy
    question takes fewer."""
    best: Rule = "first"
    """Which correct answer to train on: first, shortest, majority (of all answers) or likeliest (to
    a pretrained student)."""
    temperature: float = 0.7
    """Sampling temperature, after each prompt was tried once."""
    skip_known: Literal["auto", "always", "never"] = "auto"
    """Skip questions that the student already answers correctly: auto does so if the teacher costs
    money and the student is pretrained."""
    max_tokens: int | None = None
    """Maximum tokens of a teacher's answer; None takes that of the probe."""

    def __post_init__(self) -> None:
        longest = 1 if self.max_tokens is None else self.max_tokens
        if min(self.n_items, self.n_samples, longest) < 1:
            raise ValueError("n_items, n_samples and max_tokens must be at least 1.")
        for name in ("min_coverage", "min_coverage_beside_injection"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1.")
        if self.temperature < 0:
            raise ValueError("temperature cannot be below 0.")

    def coverage(self, beside_right: bool) -> Threshold:
        """Return what a teacher must know of the task: more beside items that are all right."""
        beside = self.min_coverage_beside_injection
        if beside_right and beside > self.min_coverage:
            return Threshold(beside, "min_coverage_beside_injection", "low")
        return Threshold(self.min_coverage)

    @property
    @override
    def longest_answer_tokens(self) -> int | None:
        return self.max_tokens

    @override
    def most_samples(self) -> int:
        return self.n_samples

    @override
    def fewest_samples(self) -> int:
        return fewest(self.best, self.n_samples)

    @override
    def asks(
        self,
        config: Config,
        teacher: Teacher,
        prompt: str,
        max_tokens: Mapping[str, int] = MappingProxyType({}),
    ) -> Iterator[Question]:
        items = config.task.items("train", self.n_items, config.seed)
        for way in self._ways(config.task, prompt, teacher):
            limit = self._limit(config.task, teacher, way.prompt, max_tokens)
            yield from _questions(config.task, items, way, limit)

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield training items with the teacher's answers that are exactly right.

        Every question is asked once before any is asked a second time, so that where the money
        ends, it was spent on as many questions as it could be.

        Raises:
            TeacherError: the planned teacher is not among the configured ones, fails, or is right
                on none of the first questions.
        """
        teacher = planned_teacher(config, plan, context)
        student = pretrained(config, plan, context.cache_dir)
        if self.best == "likeliest" and student is None:
            context.warn("best=likeliest needs a pretrained student: best=first is used instead.")
        items = self._admitted(config, context, teacher, student, tally)
        ways = self._ways(config.task, plan.prompt, teacher)
        if len(ways) < self.n_samples:
            context.warn(
                f"Teacher {teacher.name} gives one answer per question: n_samples="
                f"{self.n_samples} asks {len(ways)} times, once with each prompt."
            )
        tries: list[list[Attempt]] = [[] for _ in items]
        pending = list(range(len(items)))
        limits = {
            way: self._limit(config.task, teacher, way.prompt, plan.max_tokens) for way in ways
        }
        self._foretell(teacher, items, ways[0], limits[ways[0]], config, context)
        for number, way in enumerate(ways):
            some = [items[i] for i in pending]
            asked = self._ask(teacher, some, way, limits[way], config, context, tally)
            for index, attempt in zip(pending, asked, strict=False):
                tries[index].append(attempt)
            has_money = len(asked) == len(pending)
            left = len(ways) - number - 1 if has_money else 0
            for index in pending:
                if tries[index] and settled(self.best, tries[index], left):
                    chosen = self._chosen(config.task, items[index], tries[index], student)
                    tries[index] = []
                    if isinstance(chosen, NotLearnt):
                        tally.refused[chosen] += 1
                    else:
                        yield chosen
                elif not has_money:
                    tally.refused["not asked: budget used up"] += 1
            if not has_money:
                return
            pending = [index for index in pending if tries[index]]

    def _admitted(
        self,
        config: Config,
        context: Context,
        teacher: Teacher,
        student: PretrainedStudent | None,
        tally: Tally,
    ) -> list[Item]:
        """Return the training questions that are worth asking the teacher."""
        # What may not be learnt need not be paid.
        items = config.task.items("train", self.n_items, config.seed)
        items = without_leaks(config, items, tally.refused)
        paid = is_paid(teacher.card())
        skips = self.skip_known == "always" or (self.skip_known == "auto" and paid)
        if student is None or not skips or not items:
            return items
        known = student.knows(items, config, context)
        tally.refused[KNOWN] += sum(known)
        return [item for item, is_known in zip(items, known, strict=True) if not is_known]

    def _ways(self, task: Task, prompt: str, teacher: Teacher) -> list[_Way]:
        """Return how a question is asked the first, the second … time; first with `prompt`."""
        prompts = sorted(prompting(teacher, task).prompts, key=lambda one: one != prompt)
        ways = [_Way(prompt, 0, None) for prompt in prompts[: self.n_samples]]
        n_drawn = self.n_samples - len(ways)
        if not teacher.draws:
            return ways  # it gives one answer to a question
        # Samples of one prompt are numbered from 1: 0 is the answer that was asked for above.
        return ways + [_Way(prompts[0], 1 + k, self.temperature) for k in range(n_drawn)]

    def _limit(
        self, task: Task, teacher: Teacher, prompt: str, probed: Mapping[str, int]
    ) -> AnswerLimit:
        """Return the longest answer to a prompt: the strategy's own, the probe's, or the data's."""
        if self.max_tokens is None and prompt in probed:
            return AnswerLimit(probed[prompt], "as in the probe")
        return prompting(teacher, task).limit(prompt, self.max_tokens, "strategy.max_tokens")

    def _foretell(
        self,
        teacher: Teacher,
        items: Sequence[Item],
        way: _Way,
        limit: AnswerLimit,
        config: Config,
        context: Context,
    ) -> None:
        """Say what asking every question once will cost; refuse it if the money does not suffice.

        What is drawn on top of that for harder questions ends where the money does.
        """
        if not is_paid(teacher.card()):
            return
        task = config.task
        probed = [
            Question(chat(task, item, way.prompt), limit.tokens)
            for item in task.items("validation", config.probe.n_items)
        ]
        told = expect(teacher, _questions(task, items, way, limit), context, like=probed)
        if len(_in_turn(teacher, config)) == 1:
            told.check(f"lower strategy.n_items from {self.n_items}")

    def _ask(
        self,
        teacher: Teacher,
        items: Sequence[Item],
        way: _Way,
        limit: AnswerLimit,
        config: Config,
        context: Context,
        tally: Tally,
    ) -> list[Attempt]:
        """Return an attempt at each item, or at as many as the money suffices for."""
        task = config.task

        def ask(questions: Sequence[Question]) -> list[Answer]:
            answers: list[Answer] = []
            # Those that are asked again for want of room were looked at before.
            n_first = (
                0 if self._has_looked(way, items, questions) else size_of_first_look(len(items))
            )
            try:
                for part in (questions[:n_first], questions[n_first:]):
                    with closing(self._stream(teacher, part, way, config, context)) as asking:
                        for who, answer in asking:
                            tally.teacher_tokens += answer.input_tokens + answer.output_tokens
                            tally.usd += cost_usd(who.card(), [answer])
                            answers.append(answer)
                    if n_first and len(answers) == n_first:
                        self._check_first(task, teacher, items, answers, tally.usd, context)
            except BudgetError as error:
                n_left = counted(len(questions) - len(answers), "question")
                context.ledger.cut()
                context.warn(f"Teacher {teacher.name} was asked {n_left} less: {error}")
            return answers

        chats = [chat(task, item, way.prompt) for item in items]
        [asked] = ask_whole(
            teacher,
            [(chats, limit)],
            ask,
            foretell=lambda more: expect_again(teacher, more, context),
        )
        tally.n_answers += len(asked.answers)
        tally.n_truncated += len(asked.truncated)
        if told := asked.limit.complaint(teacher.name, asked.answers):
            context.warn(str(told))
        return [_attempt(task, *pair) for pair in zip(items, asked.answers, strict=False)]

    def _stream(
        self,
        teacher: Teacher,
        questions: Sequence[Question],
        way: _Way,
        config: Config,
        context: Context,
    ) -> Generator[tuple[Teacher, Answer], None, None]:
        """Yield (who answered, answer) to questions, asked in one way."""
        tick = with_items(context.tick)
        return stream_down(
            _in_turn(teacher, config),
            [replace(q, sample=way.sample, temperature=way.temperature) for q in questions],
            context,
            tick=lambda done, total: tick(done, total, f"asking {teacher.name}"),
        )

    def _has_looked(self, way: _Way, items: Sequence[Item], questions: Sequence[Question]) -> bool:
        """Return whether these are not the first that the teacher is asked."""
        return way.sample > 0 or len(questions) != len(items)

    def _check_first(
        self,
        task: Task,
        teacher: Teacher,
        items: Sequence[Item],
        answers: Sequence[Answer],
        paid_usd: float,
        context: Context,
    ) -> None:
        """Go on only if a teacher is right now and then; what was cut may be right when whole.

        How often it is right is said before all others are paid.

        Raises:
            TeacherError: all its first answers are wrong.
        """
        attempts = [_attempt(task, *pair) for pair in zip(items, answers, strict=False)]
        if any(one.is_right or one.is_cut for one in attempts):
            n_right, what = sum(one.is_right for one in attempts), "are answered as in the file"
            n, of = len(attempts), len(items)
            context.note(shown_first(teacher.name, what, n_right, n, of, paid_usd))
            return
        first = items[0]
        said = (
            f"Teacher {teacher.name} answered none of the first {len(answers)} of "
            f"{len(items):,} training questions correctly. To "
            f'"{shown(first.question)}", where "{shown(first.answer)}" is right, it wrote '
            f'"{shown(answers[0].text)}".'
        )
        injects = "strategy=injection, " if task.can_reverse else ""
        instead = f"{injects}teacher=<name> for another one, or task.metric=… if that is right"
        raise none_right(said, len(answers), len(items), paid_usd, instead)

    def _chosen(
        self,
        task: Task,
        item: Item,
        attempts: Sequence[Attempt],
        student: PretrainedStudent | None,
    ) -> tuple[Item, str] | NotLearnt:
        def likelihood(texts: Sequence[str]) -> Sequence[float]:
            assert student is not None
            return student.likelihood(task.student_messages(item), texts)

        asked = likelihood if student is not None else None
        chosen = choose(self.best, attempts, asked)
        if isinstance(chosen, NotLearnt):
            return chosen
        return _in_its_words(task, item, chosen.text)


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of asking a question."""

    prompt: str
    sample: int
    temperature: float | None


def _questions(task: Task, items: Sequence[Item], way: _Way, limit: AnswerLimit) -> list[Question]:
    return [
        Question(chat(task, item, way.prompt), limit.tokens, way.sample, way.temperature)
        for item in items
    ]


def _in_turn(teacher: Teacher, config: Config) -> list[Teacher]:
    """Return the planned teacher, and those that go on where its money ends."""
    if config.limits.on_exhausted == "next":
        return going_down(teacher, config.teachers)
    return [teacher]


def _attempt(task: Task, item: Item, answer: Answer) -> Attempt:
    score = task.score(answer.text, item)
    return Attempt(
        text=answer.text,
        answer=task.parse(answer.text) if score.parsed else None,
        is_right=score.exact == 1,
        is_cut=is_truncated(answer),
        is_unread=answer.finish == TOO_LONG,
    )


def _in_its_words(task: Task, item: Item, text: str) -> tuple[Item, str]:
    """Return an item with the teacher's text; a bare answer is put into canonical spelling.

    The text begins as the teacher began it: without a leading space its first token would be
    another one, which the teacher never wrote and finds unlikely.
    """
    text = text.rstrip()
    if len(text.lstrip()) <= len(item.answer) + _BARE_ANSWER:
        canonical = replace(item, rationale="", choices=())
        answer = item.answer
        return canonical, answer if task.score(answer, item).exact == 1 else text.lstrip()
    return replace(item, rationale=text, choices=()), text
