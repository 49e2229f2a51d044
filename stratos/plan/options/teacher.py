"""The teacher of a plan: how many answers of which length it gives, and a hosted one as an option.

The evaluation's answers are as long as the probe saw them. So are those of alignment, unless a
declared complexity says otherwise. A question of alignment takes `strategy.n_samples` answers at
most: by expectation all of them where the probe's share says that the teacher is wrong, and
elsewhere as few as settle it. Injection asks for none, unless the teacher writes the reasoning
(`strategy.rationale`): that is a longer chat with a longer answer, and where the task cannot check
its steps, a second chat that reads it. What is refused is written again, in a chat that holds what
was written before: at least never, at most always, `strategy.refused_share` of them by expectation.
Answers that are kept from before are asked for no more; with a reasoning is kept what read it.
A strategy that learns from a priced teacher's distribution has it score the texts that were right,
as the student reads them, with one token out: once with a cache, else whenever they are learnt
from. An endpoint that scores no given text takes nothing for it, which is the low end.

A hosted teacher takes dollars per token, and hours by its rate limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stratos.config import Config, StudentConfig, TrainerConfig
from stratos.core.formats import counted
from stratos.distill.trainer import training_length
from stratos.estimate.cards import Workload
from stratos.ledger import Ledger
from stratos.plan.option import BYTES_PER_TOKEN, Option, Range
from stratos.plan.options.workload import assumed
from stratos.plan.words import RepeatsRows
from stratos.records import Assumption, ModelCard, Probe, TeacherProbe
from stratos.synthesize.strategy import Strategy, Writing
from stratos.synthesize.supervised import Augmentation
from stratos.tasks.base import Task
from stratos.teachers.base import Question, Teacher
from stratos.teachers.cache import n_kept
from stratos.teachers.cost_estimate import n_expected
from stratos.teachers.reply import MESSAGE_TOKENS

_SHARE_OF_LIMIT = 0.5
"""How much of the longest answer a reasoning takes, where nothing tells."""

Part = tuple[float, Workload]
"""A number of answers of one kind, and what one of them takes."""


@dataclass(frozen=True)
class Load:
    """So many answers, with what one of them takes on average."""

    n_answers: int
    work: Workload

    @staticmethod
    def of(parts: Sequence[Part]) -> Load:
        """Put numbers of answers of several kinds together."""
        n = round(sum(number for number, _ in parts))
        return Load(
            n,
            Workload(
                sum(number * work.prompt_tokens for number, work in parts) / max(1, n),
                sum(number * work.answer_tokens for number, work in parts) / max(1, n),
            ),
        )

    def plus(self, more: Load) -> Load:
        """Return both together."""
        return Load.of([(self.n_answers, self.work), (more.n_answers, more.work)])


@dataclass(frozen=True)
class TeacherLoad:
    """What one teacher is expected to be asked, and between which ends that may lie."""

    n_answers: int
    work: Workload
    least: Load
    most: Load
    why: str
    """What makes it a range; "" where the ends are the same."""
    evaluated: Load
    """Those of the answers that are asked for behind the training."""
    scored: Load
    """Texts that it scores besides, where its endpoint scores given text."""
    after_deploy: Load
    """Answers besides that rooms of contrib ask for once the student is served."""
    longest: float
    """Tokens of the longest kind, prompt and answer together: what memory has to hold."""
    dataset_gb: float
    """What the training reads of it."""
    most_tokens: Workload
    """Most that one call may take: the ceiling that is set aside for it."""
    assumptions: tuple[Assumption, ...] = ()


def teacher_load_of(
    config: Config,
    teacher: TeacherProbe,
    strategy: Strategy,
    n_cached: int = 0,
    n_after_deploy: int = 0,
) -> TeacherLoad:
    """Return what a teacher is asked under a strategy, evaluation included.

    Args:
        config: the run.
        teacher: what the probe saw.
        strategy: the configured one.
        n_cached: answers it would ask for that are there already.
        n_after_deploy: answers that are asked for once the student is served.
    """
    # The questions of alignment, each with as many answers as settle it; a log has its answers.
    n_taught = strategy.n_questions(config.task) if teacher.logged is None else 0
    n_least = strategy.fewest_samples(config)
    n_most = strategy.most_samples(config)
    covered, declared = teacher.exact.mean, config.complexity.path_tokens
    n_samples = covered * n_least + (1 - covered) * n_most
    probed = _of_probe(teacher)
    answer = Workload(probed.prompt_tokens, declared) if n_taught and declared else probed
    n_evaluated = n_expected(teacher, config.evaluate, config.limits, config.task)
    expected, least, most = (
        [(n_evaluated + (max(0.0, n_taught * n - n_cached) if n_taught else 0), answer)]
        for n in (n_samples, n_least, n_most)
    )
    reasons = []
    if n_least < n_most and n_taught:
        reasons.append(
            f"a question takes {n_least} to {n_most} answers "
            f"(strategy.{strategy.samples_key}), {n_samples:.1f} "
            f"where {covered:.0%} of questions are known to it"
        )
    scored, why_scored = _scored(
        config.task, config.trainer, config.students, teacher, strategy, n_taught * covered, answer
    )
    why = "; ".join(filter(None, (*reasons, why_scored)))
    n_read_by_training = n_taught * answer.context
    assumptions: list[Assumption] = []
    # The reasonings of injection, where the teacher writes them.
    sizes = strategy.writing(config.task) if config.task.can_reverse else None
    if sizes is not None:
        per_byte = _tokens_per_byte(config.task, teacher)
        written, assumptions = _written(sizes, declared if sizes.is_learnt else None, per_byte)
        n_asked = max(0, sizes.n_items - n_cached)
        for parts, refused in ((expected, sizes.refused_share), (least, 0.0), (most, 1.0)):
            parts += _writing(sizes, n_asked, refused, per_byte, written)
        why = _why(sizes)
        if sizes.is_learnt:
            n_read_by_training = sizes.n_items * (per_byte * sizes.request_bytes + written)
    load = Load.of(expected)
    longest_prompt = max((work.prompt_tokens for n, work in most if n), default=0.0)
    longest_answer = max(
        *teacher.max_tokens_by_prompt.values(),
        strategy.longest_answer_tokens or 0,
        0 if sizes is None else sizes.max_tokens,
    )
    return TeacherLoad(
        n_answers=load.n_answers,
        work=load.work,
        least=Load.of(least),
        most=Load.of(most),
        why=why,
        evaluated=Load.of([(n_evaluated, answer)]),
        scored=scored,
        after_deploy=Load.of([(n_after_deploy, probed)]),
        longest=max((work.context for n, work in most if n), default=0.0),
        dataset_gb=n_read_by_training * BYTES_PER_TOKEN / 1e9,
        most_tokens=Workload(BYTES_PER_TOKEN * longest_prompt + 2 * MESSAGE_TOKENS, longest_answer),
        assumptions=tuple(assumptions),
    )


def _written(
    sizes: Writing, declared: float | None, per_byte: float
) -> tuple[float, list[Assumption]]:
    """Return the tokens of a reasoning that the teacher writes, and what is assumed of it."""
    assumptions = []
    written = declared or _SHARE_OF_LIMIT * sizes.max_tokens
    if not declared and sizes.path_bytes:
        written = min(sizes.max_tokens, per_byte * sizes.path_bytes)
    elif not declared:
        assumptions.append(assumed("reasoning", written))
    if sizes.n_retries:
        assumptions.append(assumed("refused", sizes.refused_share))
    return written, assumptions


def _scored(
    task: Task,
    trainer: TrainerConfig,
    students: Sequence[StudentConfig],
    teacher: TeacherProbe,
    strategy: Strategy,
    n_texts: float,
    answer: Workload,
) -> tuple[Load, str]:
    """Return the texts that a priced teacher scores for a training, and why they are a range.

    Args:
        task: whose questions they answer.
        trainer: how the students learn from them.
        students: any of which the plan may choose.
        teacher: what the probe saw.
        strategy: the configured one.
        n_texts: right answers that are learnt.
        answer: prompt and answer of one, as the teacher was asked for it.
    """
    nothing = Load.of([])
    signal = strategy.signal
    if signal is None or n_texts < 1:
        return nothing, ""
    is_paid = bool(teacher.card.usd_per_million_input_tokens)
    if not is_paid or signal.cache_path is not None or signal.beyond_servers() is not None:
        return nothing, ""
    n_tokens = max(1.0, _student_tokens(task, teacher) + answer.answer_tokens)
    epochs = [training_length(trainer, student, n_texts, n_tokens).epochs for student in students]
    is_cached = signal.cache != "none"
    n_times = 1.0 if is_cached else max([1.0, *epochs])
    how_often = (
        "once (strategy.cache)"
        if is_cached
        else f"{n_times:.1f} times, as often as they are learnt from (strategy.cache=topk: once)"
    )
    texts = counted(round(n_texts), "right answer", spec=",")
    why = f"where its endpoint scores given text, it scores {texts} {how_often}"
    return Load.of([(n_texts * n_times, Workload(n_tokens, 1))]), why


def _student_tokens(task: Task, teacher: TeacherProbe) -> float:
    """Return the teacher's tokens of a question as the student is asked it."""
    items = task.items("validation", teacher.n_items)
    chats = [task.student_messages(item) for item in items]
    n_bytes = sum(len(message["content"].encode()) for chat in chats for message in chat)
    return _tokens_per_byte(task, teacher) * n_bytes / max(1, len(chats))


def _writing(
    sizes: Writing, n_items: int, refused_share: float, per_byte: float, written: float
) -> list[Part]:
    """Return the chats of so many items: each try's request and, where it is read, its reading.

    Args:
        sizes: of the chats.
        n_items: items that the teacher is asked for.
        refused_share: share of each try that is written again, as long as it may be.
        per_byte: the teacher's tokens of a byte.
        written: tokens of a reasoning.
    """
    read = Workload(per_byte * sizes.reading_bytes + written, per_byte * sizes.conclusion_bytes)
    parts: list[Part] = []
    for n_before in range(1 + sizes.n_retries):
        again = n_before * (written + per_byte * sizes.feedback_bytes)
        n = n_items * refused_share**n_before
        parts.append((n, Workload(per_byte * sizes.request_bytes + again, written)))
        parts.append((n * sizes.read_share, read))
    return parts


def _why(sizes: Writing) -> str:
    """Say what makes the number of answers a range; "" where nothing does."""
    if not sizes.n_retries:
        return ""
    times = "once" if sizes.n_retries == 1 else f"{sizes.n_retries} times"
    return (
        f"{sizes.refused_share:.0%} of its reasonings are taken to be refused "
        f"(strategy.refused_share) and written again, {times} at most"
    )


def _of_probe(teacher: TeacherProbe) -> Workload:
    n = max(1, teacher.n_items)
    return Workload(teacher.input_tokens / n, teacher.output_tokens / n)


def _tokens_per_byte(task: Task, teacher: TeacherProbe) -> float:
    """Return the teacher's tokens of a byte of text, template included, as the probe saw them."""
    chats = [
        task.messages(item, teacher.prompt)
        if teacher.prompt in task.prompts
        else task.student_messages(item)
        for item in task.items("validation", teacher.n_items)
    ]
    n_bytes = sum(len(message["content"].encode()) for chat in chats for message in chat)
    seen = teacher.input_tokens * len(chats) / max(1, teacher.n_items)
    return seen / n_bytes if n_bytes and seen else 1 / BYTES_PER_TOKEN


NOTHING = Load.of([])


def is_hosted(card: ModelCard) -> bool:
    """Return whether a model has a price by the token, and so needs no server."""
    return (
        card.usd_per_million_input_tokens is not None
        or card.usd_per_million_output_tokens is not None
    )


@dataclass(frozen=True)
class _Prices:
    """Dollars of a million tokens in and out."""

    tokens_in: float
    tokens_out: float

    def of(self, load: Load) -> float:
        """Return the dollars of answers."""
        work = load.work
        usd = work.prompt_tokens * self.tokens_in + work.answer_tokens * self.tokens_out
        return load.n_answers * usd / 1e6


def hosted_options(
    teacher: TeacherProbe,
    load: Load,
    ends: tuple[Load, Load] | None = None,
    *,
    evaluated: Load = NOTHING,
    scored: Load = NOTHING,
    after_deploy: Load = NOTHING,
    most_tokens: Workload | None = None,
) -> tuple[Option, ...]:
    """Return how a hosted teacher may be asked: at once, and as a batch where that has a price.

    At once, its rate limits and the pace that the probe saw bound the hours, of which the slowest
    counts; as many answers are under way as its `concurrency` says, and longer ones than the
    probe's take as much longer. Both dollars and hours have a range, as the probe's answers differ
    in tokens and seconds; at its slow end no more are under way than while it was probed. A batch
    comes back within a window that the provider promises, however many answers; what is asked or
    scored behind it is at once.

    Args:
        teacher: what the probe saw.
        load: answers asked for.
        ends: the fewest and the most that may be asked for, where that is a range.
        evaluated: those of the load that are asked behind the training.
        scored: texts that it scores besides, where its endpoint can; it takes their hours for none.
        after_deploy: answers asked for, at once, when the student is served already: they take
            dollars, and none of the hours until then.
        most_tokens: most that one call may take, which is set aside for it.
    """
    card = teacher.card
    usd_out = card.usd_per_million_output_tokens or 0.0
    prices = _Prices(1e6 * teacher.usd_per_input_token, usd_out)
    most_call = Load(1, load.work) if most_tokens is None else Load(1, most_tokens)
    in_full = _Prices(card.usd_per_million_input_tokens or 0.0, usd_out)
    most_usd = in_full.of(most_call)
    answers = counted(load.n_answers, "answer")
    if ends is not None:
        answers += f" ({ends[0].n_answers} to {ends[1].n_answers})"
    if after_deploy.n_answers:
        answers += f", and {after_deploy.n_answers} once the student is served,"
    least, most = ends or (load, load)
    paid = load.plus(after_deploy)
    scored_usd = in_full.of(scored)
    at_once = Option(
        offer=None,
        spot=False,
        hours=_hours(teacher, load),
        usd=prices.of(load) + prices.of(after_deploy) + scored_usd,
        note=f"hosted, {answers} by the token",
        hours_range=_hours_range(teacher, least, most, ends is not None),
        last_call_usd=max(0.0, most_usd - prices.of(Load(1, load.work))),
        after_deploy_usd=prices.of(after_deploy),
    )

    def usd_range(prices: _Prices, more: float = 0.0) -> Range | None:
        """Return the dollars of both ends; what may be scored is paid for at the upper one."""
        low, high = least.plus(after_deploy), most.plus(after_deploy)
        factors = _factors(teacher, low), _factors(teacher, high)
        if factors[0] is None or factors[1] is None:
            if ends is None:
                return None
            return prices.of(low) + more, prices.of(high) + more + scored_usd
        low_usd, high_usd = prices.of(low) + more, prices.of(high) + more
        return low_usd * factors[0].usd[0], high_usd * factors[1].usd[1] + scored_usd

    at_once = replace(at_once, usd_range=usd_range(prices))
    if not paid.n_answers:
        at_once = replace(at_once, last_call_usd=0.0)
    batch_in = card.usd_per_million_batch_input_tokens
    batch_out = card.usd_per_million_batch_output_tokens
    if batch_in is None or batch_out is None or load.n_answers <= evaluated.n_answers:
        return (at_once,)
    batch_prices = _Prices(batch_in, batch_out)
    later = evaluated.plus(after_deploy)
    dearer = prices.of(later) - batch_prices.of(later)
    evaluation = _hours_range(teacher, evaluated, evaluated, ends is not None)
    as_batch = replace(
        at_once,
        hours=card.batch_hours + _hours(teacher, evaluated),
        usd=batch_prices.of(paid) + dearer + scored_usd,
        note=f"hosted, {answers} as a batch",
        # The provider promises the end of the window, and may be done at once.
        hours_range=evaluation and (evaluation[0], card.batch_hours + evaluation[1]),
        usd_range=usd_range(batch_prices, dearer),
        as_batch=True,
    )
    return at_once, as_batch


@dataclass(frozen=True)
class _Factors:
    """Between what parts of the expected amount a sum of answers lies, with 95%."""

    usd: Range
    hours: Range


def _factors(teacher: TeacherProbe, load: Load) -> _Factors | None:
    """Return how far dollars and hours of answers may be off, as those of the probe differ.

    Both the mean that the probe saw and the sum to come vary. What none of n answers showed may
    still be so in one of n: no range is narrower than that. None where the spread is not known.
    """
    card, spread, n = teacher.card, teacher.spread, teacher.n_items
    if not load.n_answers:
        return _Factors((1.0, 1.0), (1.0, 1.0))
    if spread is None or n < 2:
        return None
    usd_in = 1e6 * teacher.usd_per_input_token
    usd_out = card.usd_per_million_output_tokens or 0.0
    # Long prompts may have long answers: at worst both differ together.
    usd_sd = usd_in * spread.input_tokens + usd_out * spread.output_tokens
    usd_mean = (usd_in * teacher.input_tokens + usd_out * teacher.output_tokens) / n

    def within(sd: float, mean: float) -> Range:
        error = 2 * sd / mean * math.sqrt(1 / n + 1 / load.n_answers) if mean else 0.0
        error = max(error, 1 / n)
        return max(0.0, 1 - error), 1 + error

    return _Factors(within(usd_sd, usd_mean), within(spread.seconds, teacher.seconds / n))


def _hours_range(teacher: TeacherProbe, least: Load, most: Load, is_range: bool) -> Range | None:
    """Return the hours of the fewest and of the most answers, with what either may be off."""
    low, high = _factors(teacher, least), _factors(teacher, most)
    if low is None or high is None:
        return (_hours(teacher, least), _hours(teacher, most)) if is_range else None
    if teacher.at_once is None:
        return None
    slowest = _hours(teacher, most, min(teacher.most_at_once, max(1.0, teacher.at_once)))
    return _hours(teacher, least) * low.hours[0], slowest * high.hours[1]


def _hours(teacher: TeacherProbe, load: Load, at_once: float | None = None) -> float:
    """Return the hours of answers, as many under way at once as the teacher is asked for."""
    card, n_answers, work = teacher.card, load.n_answers, load.work
    minutes = 0.0
    if card.max_requests_per_minute:
        minutes = n_answers / card.max_requests_per_minute
    if card.max_tokens_per_minute:
        minutes = max(minutes, n_answers * work.context / card.max_tokens_per_minute)
    pace = teacher.seconds / max(1, teacher.n_items)
    if teacher.output_tokens:
        pace *= max(1.0, work.answer_tokens * teacher.n_items / teacher.output_tokens)
    # However many are under way, no answer is there before its own time.
    n_in_turn = max(min(1, n_answers), n_answers / (at_once or teacher.most_at_once))
    return max(minutes / 60, n_in_turn * pace / 3600)


# What a teacher could do about labelled rows: repeat them for money, or add to a few.

FEW = 1000
"""Labelled rows from which on more of them are not offered."""


def repeated_rows(teacher: TeacherProbe, load: TeacherLoad) -> RepeatsRows:
    """Return what asking a teacher for the answers of labelled rows would have cost.

    Args:
        teacher: what the probe saw.
        load: of the alignment that was left out because it could only repeat them.
    """
    n = load.n_answers - load.evaluated.n_answers
    return RepeatsRows(teacher.teacher, n, _usd_beside(teacher, load.least, load.evaluated))


def more_rows(config: Config, teacher: TeacherProbe) -> list[str]:
    """Say what augmentation would add and cost; nothing where it is configured or cannot be."""
    task, strategy = config.task, Augmentation()
    is_configured = any(configured.writes_rows for configured in config.strategies)
    if is_configured or not task.has_rows or task.n_train >= FEW:
        return []
    if teacher.exact.low < strategy.min_coverage:
        return []
    load = teacher_load_of(config, teacher, strategy)
    usd = _usd_beside(teacher, Load(load.n_answers, load.work), load.evaluated)
    cost = "only time, because its weights are free" if usd is None else f"about ${usd:.2f}"
    return [
        f"The labelled rows are few. With strategy={strategy.kind} "
        f"{strategy.added(config, teacher.teacher, teacher.exact.mean)} That takes {cost}. Whether "
        "it helps is unknown until you try it, so it is never chosen automatically."
    ]


def _usd_beside(teacher: TeacherProbe, load: Load, evaluated: Load) -> float | None:
    """Return the dollars of answers beside those of the evaluation; None where none are paid."""
    if not is_hosted(teacher.card):
        return None
    whole, behind = (hosted_options(teacher, part)[0].usd for part in (load, evaluated))
    return whole - behind


# Answers of a paid teacher that are in the cache: a plan does not price them again.


@dataclass(frozen=True)
class CachedAnswers:
    """Counts the answers in a cache folder that a strategy would ask for; each pair once.

    Where nothing is paid for an answer, it is counted as asked for: its hours belong to what is
    compared with other servers. So are answers that nobody can foretell the question of (a
    reasoning that is written again), and those of the evaluation.
    """

    config: Config
    cache_dir: Path
    ledger: Ledger | None = None
    """Of the run: what a batch asks that an earlier process handed in is paid already."""
    _counts: dict[tuple[str, str], int] = field(default_factory=dict, init=False, repr=False)
    _after_deploy: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def n_answers(self, probed: TeacherProbe, strategy: Strategy) -> int:
        """Return how many of the answers are there.

        Args:
            probed: the teacher, as the probe saw it.
            strategy: says what it will ask with `asks`; for one that cannot, none are counted.
        """
        key = (probed.teacher, strategy.name)
        if key not in self._counts:
            self._counts[key] = self._count(probed, strategy)
        return self._counts[key]

    def n_after_deploy(self, probe: Probe, probed: TeacherProbe) -> int:
        """Return how many answers that rooms ask for after deploy are not there yet."""
        if probed.teacher not in self._after_deploy:
            teacher, questions = _after_deploy(self.config, probe, probed)
            n = 0 if teacher is None else n_kept(teacher, questions, self.cache_dir)
            self._after_deploy[probed.teacher] = len(questions) - n
        return self._after_deploy[probed.teacher]

    def _count(self, probed: TeacherProbe, strategy: Strategy) -> int:
        teacher = _teacher(self.config.teachers, probed)
        if teacher is None or not is_hosted(probed.card):
            return 0
        questions = strategy.asks(self.config, teacher, probed.prompt, probed.max_tokens_by_prompt)
        if questions is None:
            return 0
        n = n_kept(teacher, questions, self.cache_dir)
        if self.ledger is not None and teacher.takes_batches:
            n += self.ledger.batches.n_under_way(f"teacher {teacher.name}")
        return n


def n_after_deploy(config: Config, probe: Probe, probed: TeacherProbe) -> int:
    """Return how many answers rooms ask for once the student is served, there already or not."""
    return len(_after_deploy(config, probe, probed)[1])


def _after_deploy(
    config: Config, probe: Probe, probed: TeacherProbe
) -> tuple[Teacher | None, list[Question]]:
    teacher = _teacher(config.teachers, probed)
    if teacher is None or not is_hosted(probed.card):
        return teacher, []
    return teacher, [
        question
        for room in config.rooms.values()
        for question in room.questions_after_deploy(config, probe, probed, teacher)
    ]


def _teacher(teachers: Sequence[Teacher], probed: TeacherProbe) -> Teacher | None:
    return next((teacher for teacher in teachers if teacher.name == probed.teacher), None)
