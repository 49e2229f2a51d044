"""Alignment: rejection sampling of the teacher's answers to training questions.

For a task that the teacher covers. Rejection sampling: an answer is kept only if the task's
verifier finds it exactly right, in the teacher's own words. A question that is harder is asked more
often, one that the student can answer already is not bought.

Every rule for several samples asks an easy question less often than a hard one: a question is left
alone as soon as further answers could not change what is kept, or hardly.

A white-box student trains on the teacher's distribution, too. Logit distillation: the teacher's
answers and its distribution over them. On-policy distillation: the student samples, the teacher
scores every token. What a student learns from the teacher's text it has to do alone from its own
beginnings, with its own mistakes in them. Generalized knowledge distillation: arXiv 2306.13649.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from stratos.config import Amount, Config, Count, Share
from stratos.core.context import Context
from stratos.core.redact import shown
from stratos.core.values import OneOf
from stratos.distill.divergences import DIVERGENCES, wrong_parameters
from stratos.distill.signal_config import OnPolicyConfig, SignalConfig
from stratos.records import Plan
from stratos.synthesize import strategy
from stratos.synthesize.admission import PretrainedStudent, held_out, pretrained, without_leaks
from stratos.synthesize.planned_teacher import (
    Asking,
    Sampling,
    longest_answer,
    none_right,
    samplings,
    shown_first,
    size_of_first_look,
)
from stratos.synthesize.strategy import NotLearnt
from stratos.tasks.answers import AnswerText
from stratos.tasks.base import Item, Task
from stratos.teachers.asking import going_down
from stratos.teachers.base import TOO_LONG, Answer, Question, Teacher
from stratos.teachers.call_budget import is_paid
from stratos.teachers.cost_estimate import expect
from stratos.teachers.prompting import chat, is_truncated, prompting

Rule = Literal["first", "shortest", "majority", "likeliest"]

_ENOUGH_RIGHT = 2
"""Right answers after which the best of them is taken."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of the teacher to a question."""

    text: str
    answer: AnswerText | None
    """As the task read it; None if it could not."""
    is_right: bool
    is_cut: bool = False
    """True if it ended at the longest length."""
    is_unread: bool = False
    """True if the question passes the teacher's context."""


def settled(rule: Rule, attempts: Sequence[Attempt], n_left: int) -> bool:
    """Return whether a question needs no further answer.

    Args:
        rule: first is settled by one right answer, shortest and likeliest by two, majority when
            the rest of the answers could not change who leads.
        attempts: the answers so far.
        n_left: how many more may be asked for.
    """
    if n_left <= 0:
        return True
    n_right = sum(attempt.is_right for attempt in attempts)
    if rule == "first":
        return n_right > 0
    if rule == "majority":
        first, second = (*(n for _, n in _votes(attempts).most_common(2)), 0, 0)[:2]
        return first - second > n_left
    return n_right >= _ENOUGH_RIGHT


def fewest(rule: Rule, n_most: int) -> int:
    """Return after how many answers, all the same and right, a question is settled."""
    if rule == "first":
        return 1
    return min(n_most, n_most // 2 + 1 if rule == "majority" else _ENOUGH_RIGHT)


def choose(
    rule: Rule,
    attempts: Sequence[Attempt],
    likelihood: Callable[[Sequence[str]], Sequence[float]] | None = None,
) -> Attempt | NotLearnt:
    """Return the answer that is learnt, or the reason why none is.

    Args:
        rule: first, shortest (fewest characters), majority (the right answer has to be the most
            frequent one, too; a lone lucky guess is none) or likeliest (to the student).
        attempts: at least one.
        likelihood: for likeliest: the student's log-likelihood of each text.
    """
    right = [attempt for attempt in attempts if attempt.is_right]
    if not right:
        if any(attempt.answer is not None for attempt in attempts):
            return NotLearnt.WRONG
        if all(attempt.is_unread for attempt in attempts):
            return NotLearnt.UNREAD
        is_cut = all(attempt.is_cut for attempt in attempts)
        return NotLearnt.CUT_OFF if is_cut else NotLearnt.UNPARSABLE
    if rule == "majority":
        votes = _votes(attempts)
        of_right = {attempt.answer for attempt in right}
        n_right = sum(votes[answer] for answer in of_right)
        most_wrong = max((n for answer, n in votes.items() if answer not in of_right), default=0)
        if n_right <= most_wrong:
            return NotLearnt.OUTVOTED
    if rule == "shortest":
        return min(right, key=lambda attempt: len(attempt.text))
    if rule == "likeliest" and likelihood is not None and len(right) > 1:
        scores = likelihood([attempt.text for attempt in right])
        return right[max(range(len(right)), key=lambda index: scores[index])]
    return right[0]


def _votes(attempts: Sequence[Attempt]) -> Counter[str | None]:
    return Counter(attempt.answer for attempt in attempts if attempt.answer is not None)


KNOWN = "known to the student"
_BARE_ANSWER = 12
"""Characters that an answer may be longer than the gold one before it counts as reasoning."""


@dataclass(frozen=True)
class Alignment(strategy.Strategy):
    """Items whose completion a teacher wrote and the task verified."""

    family: ClassVar[strategy.Family] = strategy.Family.ALIGNMENT

    name: str = "alignment"
    """Name shown in the plan."""
    min_coverage: float = strategy.MIN_COVERAGE
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

    def coverage(self, beside_right: bool) -> strategy.Threshold:
        """Return what a teacher must know of the task: more beside items that are all right."""
        beside = self.min_coverage_beside_injection
        if beside_right and beside > self.min_coverage:
            return strategy.Threshold(beside, "min_coverage_beside_injection", "low")
        return strategy.Threshold(self.min_coverage)

    @property
    @override
    def longest_answer_tokens(self) -> int | None:
        return self.max_tokens

    @override
    def most_samples(self, config: Config) -> int:
        return self.n_samples

    @override
    def fewest_samples(self, config: Config) -> int:
        return fewest(self.best, self.n_samples)

    @override
    def asks(
        self,
        config: Config,
        teacher: Teacher,
        prompt: str,
        max_tokens: strategy.Limits = strategy.NO_LIMITS,
    ) -> Iterator[Question]:
        task = config.task
        items = task.items("train", self.n_items, config.seed)
        for sampling in self._samplings(task, prompt, teacher, max_tokens):
            yield from sampling.questions(task, items)

    def draw(
        self, config: Config, plan: Plan, context: Context, tally: strategy.Tally
    ) -> Iterator[tuple[Item, str]]:
        """Yield training items with the teacher's answers that are exactly right.

        Every question is asked once before any is asked a second time, so that where the money
        ends, it was spent on as many questions as it could be.

        Raises:
            TeacherError: the planned teacher is not among the configured ones, fails, or is right
                on none of the first questions.
        """
        asking = Asking.planned(config, plan, context, tally)
        task, teacher = config.task, asking.teacher
        student = pretrained(config.task, config.students, config.evaluate, plan, context.cache_dir)
        if self.best == "likeliest" and student is None:
            context.warn("best=likeliest needs a pretrained student: best=first is used instead.")
        items = self._admitted(asking, student)
        turns = self._samplings(task, plan.prompt, teacher, plan.max_tokens)
        if len(turns) < self.n_samples:
            context.warn(
                f"Teacher {teacher.name} gives one answer per question: n_samples="
                f"{self.n_samples} asks {len(turns)} times, once with each prompt."
            )
        tries: list[list[Attempt]] = [[] for _ in items]
        pending = list(range(len(items)))
        self._foretell(asking, items, turns[0])
        for number, sampling in enumerate(turns, start=1):
            attempts = self._ask(asking, [items[i] for i in pending], sampling)
            for index, attempt in zip(pending, attempts, strict=False):
                tries[index].append(attempt)
            has_money = len(attempts) == len(pending)
            n_more = len(turns) - number if has_money else 0
            for index in pending:
                if tries[index] and settled(self.best, tries[index], n_more):
                    chosen = self._chosen(task, items[index], tries[index], student)
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

    def _admitted(self, asking: Asking, student: PretrainedStudent | None) -> list[Item]:
        """Return the training questions that are worth asking the teacher."""
        # What may not be learnt need not be paid.
        config, refused = asking.config, asking.tally.refused
        items = config.task.items("train", self.n_items, config.seed)
        items = without_leaks(held_out(config), items, refused)
        paid = is_paid(asking.teacher.card())
        skips = self.skip_known == "always" or (self.skip_known == "auto" and paid)
        if student is None or not skips or not items:
            return items
        tick = asking.context.tick
        known = student.knows(items, lambda done, n: tick(done, n, "asking the student first"))
        refused[KNOWN] += sum(known)
        return [item for item, is_known in zip(items, known, strict=True) if not is_known]

    def _samplings(
        self, task: Task, prompt: str, teacher: Teacher, probed: strategy.Limits
    ) -> list[Sampling]:
        """Return how a question is asked the first, the second … time; first with `prompt`."""
        return samplings(
            teacher,
            sorted(prompting(teacher, task).prompts, key=lambda name: name != prompt),
            n_most=self.n_samples,
            temperature=self.temperature,
            longest=lambda name: longest_answer(task, teacher, name, probed, self.max_tokens),
        )

    def _foretell(self, asking: Asking, items: Sequence[Item], sampling: Sampling) -> None:
        """Say what asking every question once will cost; refuse it if the money does not suffice.

        What is drawn on top of that for harder questions ends where the money does.
        """
        teacher, task, config = asking.teacher, asking.task, asking.config
        if not is_paid(teacher.card()):
            return
        validation = task.items("validation", config.probe.n_items)
        probed, questions = (sampling.questions(task, some) for some in (validation, items))
        estimate = expect(teacher, questions, asking.context, like=probed)
        if not _further(asking):
            estimate.check(f"lower strategy.n_items from {self.n_items}")

    def _ask(self, asking: Asking, items: Sequence[Item], sampling: Sampling) -> list[Attempt]:
        """Return an attempt at each item, or at as many as the money suffices for."""
        further = _further(asking)

        def pay(questions: Sequence[Question]) -> list[Answer]:
            # Those that are asked again for want of room were looked at before.
            is_first = sampling.sample == 0 and len(questions) == len(items)
            n_first = size_of_first_look(len(items)) if is_first else 0
            drawn = [
                replace(q, sample=sampling.sample, temperature=sampling.temperature)
                for q in questions
            ]
            n_later = len(drawn) - n_first
            answers = asking.pay(drawn[:n_first], further=further, n_later=n_later)
            if len(answers) < n_first:
                return answers
            if n_first:
                self._check_first(asking, items, answers)
            return answers + asking.pay(drawn[n_first:], further=further)

        task = asking.task
        chats = [chat(task, item, sampling.prompt) for item in items]
        whole = asking.ask_whole(chats, sampling.limit, pay)
        if complaint := whole.limit.complaint(asking.teacher.name, whole.answers):
            asking.context.warn(str(complaint))
        return [_attempt(task, *pair) for pair in zip(items, whole.answers, strict=False)]

    def _check_first(
        self, asking: Asking, items: Sequence[Item], answers: Sequence[Answer]
    ) -> None:
        """Go on only if a teacher is right now and then; what was cut may be right when whole.

        How often it is right is said before all others are paid.

        Raises:
            TeacherError: all its first answers are wrong.
        """
        task, name, paid_usd = asking.task, asking.teacher.name, asking.tally.usd
        attempts = [_attempt(task, *pair) for pair in zip(items, answers, strict=False)]
        n = len(attempts)
        if any(attempt.is_right or attempt.is_cut for attempt in attempts):
            n_right = sum(attempt.is_right for attempt in attempts)
            what = "are answered as in the file"
            asking.context.note(shown_first(name, what, n_right, n, len(items), paid_usd))
            return
        first = items[0]
        problem = (
            f"Teacher {name} answered none of the first {n} of "
            f"{len(items):,} training questions correctly. To "
            f'"{shown(first.question)}", where "{shown(first.answer)}" is right, it wrote '
            f'"{shown(answers[0].text)}".'
        )
        injects = "strategy=injection, " if task.can_reverse else ""
        instead = f"{injects}teacher=<name> for another one, or task.metric=… if that is right"
        raise none_right(problem, n, len(items), paid_usd, instead)

    def _chosen(
        self, task: Task, item: Item, tries: Sequence[Attempt], student: PretrainedStudent | None
    ) -> tuple[Item, str] | NotLearnt:
        likelihood = None
        if student is not None:
            likelihood = partial(student.likelihood, task.student_messages(item))
        chosen = choose(self.best, tries, likelihood)
        return chosen if isinstance(chosen, NotLearnt) else _in_its_words(task, item, chosen.text)


def _further(asking: Asking) -> list[Teacher]:
    """Return the teachers that go on where the planned one's money ends."""
    if asking.config.limits.on_exhausted == "next":
        return going_down(asking.teacher, asking.config.teachers)[1:]
    return []


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


DivergenceName = Annotated[str, OneOf(DIVERGENCES)]


@dataclass(frozen=True)
class WhiteBox(Alignment):
    """Alignment whose student also sees how likely the teacher finds every token.

    The corpus is that of `alignment`: answers of the teacher that the task verified.
    """

    taught_by: ClassVar[tuple[str, ...]] = ("objective", "temperature", "cross_entropy")

    min_coverage: float = 0.5
    """As of alignment; higher, for what the teacher finds likely beside its answer is learnt
    unverified."""
    min_entropy_nats: Amount = 0.05
    """Least entropy of the teacher's next token, in nats, over its own answers. A teacher that is
    more certain has little to show beyond its text, which `auto_white_box` then learns from."""
    objective: DivergenceName = "forward_kl"
    """How far the student is from the teacher: a divergence of docs/distillation.md."""
    beta: Share = 0.5
    """Of jsd: the teacher's share of the mixture; 0 is forward KL, 1 is reverse KL."""
    alpha: Share = 0.1
    """Of the skew divergences: how much of the first distribution is mixed into the second."""
    parameters: dict[str, float] = field(default_factory=dict)
    """Of a divergence with other parameters than beta and alpha: name to value."""
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Both sides' logits are divided by it."""
    cross_entropy: Share | None = None
    """Share of the cross-entropy on the text, the rest is the divergence. None takes none of it,
    and half for universal_logit: sorted probabilities do not say which token is meant."""
    hidden_match: Amount = 0.0
    """Weight of matching the teacher's hidden states, layer by layer, through projections that are
    learned beside the student and dropped after; 0 matches none."""
    only_shared: bool = False
    """Compare a teacher that has another tokenizer by the tokens of both vocabularies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if reason := wrong_parameters(self.objective, self.parameters):
            raise ValueError(str(reason))

    @property
    @override
    def least_entropy_nats(self) -> float:
        return self.min_entropy_nats

    @property
    @override
    def signal(self) -> SignalConfig:
        own = {setting.name for setting in fields(self)}
        names = [setting.name for setting in fields(SignalConfig) if setting.name in own]
        return SignalConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class AlignmentLogits(WhiteBox):
    """The teacher scores the verified answers token by token, while the student learns them."""

    name: str = "alignment_logits"
    """Name shown in the plan."""
    cache: Literal["none", "topk", "sampled"] = "none"
    """Cache the teacher's distribution on disk, for later epochs, students and runs."""
    top_k: Count = 64
    """For a cache: most likely tokens kept, or tokens sampled, for each position."""
    cache_gib: Amount = 20.0
    """Maximum size of a cache, in GiB."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """Type of its log-probabilities."""
    cache_path: str | None = None
    """Folder or URL of an existing cache; no teacher is asked then."""
    cache_url: str | None = None
    """Folder or URL for new caches; None takes the shared cache folder."""


@dataclass(frozen=True)
class AlignmentOnPolicy(WhiteBox):
    """A share of the gradient steps is on texts that the student itself wrote."""

    name: str = "alignment_on_policy"
    """Name shown in the plan."""
    objective: DivergenceName = "reverse_kl"
    """As for alignment_logits; reverse KL keeps a small student on what it can do."""
    lmbda: Share = 0.5
    """Share of the steps on the student's own texts: 0 is off-policy, 1 is fully on-policy."""
    buffer_steps: Count = 4
    """Steps whose texts are sampled in one batch: more is faster and less on-policy."""
    sampling_temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Temperature of the student's sampling."""
    max_new_tokens: Count | None = None
    """Maximum tokens of a student's text; None takes that of the longest training item."""

    @property
    def on_policy(self) -> OnPolicyConfig:
        """How the student learns from texts of its own: none of them has a cached signal."""
        return OnPolicyConfig(
            self.lmbda, self.buffer_steps, self.sampling_temperature, self.max_new_tokens
        )
