"""Decide whether an automatic pilot is worth its time, and scale the planned training down for it.

It decides where a limit on accuracy is set that nothing known is sure to meet, or where the
objective counts accuracy and nothing is known of any of several pairs. Then short trainings are
made that together take little: a stated part of the limits on dollars and hours, and a few minutes
of this machine. The most expensive ones are shortened first, to a quarter of their training: what
was trained more briefly says little, and beside one that was trained whole it looks worse than it
is. Where that is still too long, fewer pairs are measured; the cheapest one stays, and what starts
from a model, which reaches most on few rows.

A pilot keeps within its time limit. That counts its own work: on a busy machine it takes longer by
the wall clock, and measures the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil

from stratos.catalog.offers import local_offer
from stratos.config import Config, LimitsConfig, PlanConfig, StudentConfig
from stratos.core.errors import ConfigError
from stratos.core.formats import counted, listed
from stratos.core.machine import WorkClock, slowness_now
from stratos.core.values import find, named
from stratos.estimate.cards import TrainingJob, card_of_student
from stratos.estimate.fleet import Calibration
from stratos.estimate.hours import train
from stratos.plan.accuracy.history import history_for
from stratos.plan.accuracy.predict import predict
from stratos.plan.options.teacher import is_hosted
from stratos.plan.options.workload import n_labelled
from stratos.plan.problem import Candidate, Problem
from stratos.plan.solve.frontier import Survivors
from stratos.records import PilotRun, Probe
from stratos.tasks.base import Task
from stratos.teachers.cost_estimate import pace_of

_PARTS_OF_LONGEST = (0.5, 1.0)
"""Lengths of the trainings of a pair, as parts of the longest."""
LEAST_PART = 1 / 16
"""Shortest longest training, as a part of the planned one: beyond that little can be foretold."""
TELLING_PART = 1 / 4
"""Part of a training's planned tokens below which its accuracy says little about its end."""
_COST_OF_MODEL = 0.5
_ASKED = "plan.pilot=true makes it"
_CHARACTERS_A_TOKEN = 3.0
_BUSY = 1.5
"""Slowness of the machine from which on it is said."""
_START_S = 10.0
"""What a training takes before its first step and after its last: libraries, model, measuring."""
_BABBLE = 2.0
"""How much longer the answers of a student are that was trained shortly."""


@dataclass(frozen=True)
class Frugal:
    """A pilot that is made by itself: what for, how long, and what it may take."""

    question: str
    parts: Mapping[str, float]
    """Name of a pair to its longest training, as a part of the planned one or of
    `plan.pilot_tokens`."""
    seconds: float
    """What it is expected to take on this machine."""
    usd: float
    """The most that its teachers are expected to be paid."""
    limit_seconds: float
    """What it may take."""
    n_trainings: int
    estimate: Callable[[Candidate, int], float]
    """Seconds of a pair's training of so many tokens on this machine."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Pair to why it is not trained: its shortest training takes more than there is."""
    slowness: float = 1.0
    """How many times as long it takes by the clock, beside the other work of this machine."""

    @property
    def text(self) -> str:
        """Announce it."""
        paid = f" and up to ${self.usd:.2f} for teachers" if self.usd else ""
        without = f" Without {', '.join(self.left_out)}: too long." if self.left_out else ""
        beside = ""
        if self.slowness >= _BUSY:
            about = _minutes(self.slowness * self.seconds)
            beside = f" ({about} beside the other work of this machine)"
        return (
            f"pilot: {self.question}. {counted(self.n_trainings, 'short training')} will measure "
            f"it, in about {_minutes(self.seconds)}{beside}{paid}; plan.pilot=false leaves them "
            f"out.{without}"
        )


def wants_pilot(config: Config, probe: Probe) -> bool:
    """Return whether the plan may need a pilot, before any offer is read."""
    if config.plan.pilot != "auto":
        return bool(config.plan.pilot)
    history = history_for(config, config.run_dir)
    known = []
    for student in config.students:
        try:
            card = card_of_student(student, config.task)
        except ConfigError:
            continue
        for strategy in config.strategies:
            known += [
                predict(
                    card,
                    config.task.name,
                    strategy,
                    teacher,
                    task_version=config.task.version,
                    history=history,
                ).is_known
                for teacher in probe.teachers
            ]
    if all(known):
        return False
    return config.limits.accuracy is not None or (
        not any(known) and config.objective.counts_accuracy
    )


def open_question(problem: Problem, survivors: Survivors) -> str:
    """Return what an unknown accuracy leaves open, as the start of a sentence; "" for nothing."""
    known = [candidate for candidate in problem.candidates if candidate.is_known]
    unknown = [candidate for candidate in survivors.candidates if not candidate.is_known]
    if not unknown:
        return ""
    names = ", ".join(dict.fromkeys(candidate.student for candidate in unknown))
    least = problem.limits.accuracy
    if least is not None:
        if any(candidate.limit_accuracy >= least for candidate in known):
            return ""
        return f"limits.accuracy={least:g} is set, and the accuracy of {names} is not known"
    if known or len(survivors.candidates) < 2 or not problem.objective.counts_accuracy:
        return ""
    pairs = counted(len(survivors.candidates), "pair")
    return f"which of {pairs} of student and strategy is the most accurate is not known ({names})"


def afforded(
    config: Config,
    probe: Probe,
    problem: Problem,
    pairs: Sequence[Candidate],
    question: str,
    machine: Calibration,
    least_hours: float = 0.0,
) -> tuple[Frugal | None, str]:
    """Return the longest pilot that takes little, or None and why there is none.

    While it takes too much, the most expensive pair's trainings are halved, where what starts from
    a model counts for half. None goes below `TELLING_PART` of its training while a pair can be left
    out instead: the most expensive one, but never the cheapest nor what starts from a model. Where
    these alone take too much, all are halved further, and one that would be left with less than
    `LEAST_PART` of its training is left out.

    Args:
        config: the run.
        probe: what the teachers showed.
        problem: what the plan will choose from.
        pairs: those to be trained.
        question: what is open.
        machine: the measurement of this machine.
        least_hours: what the fastest plan takes behind it, which a deadline has to leave.
    """
    minutes, usd = _allowed(config.limits, config.plan, problem, least_hours)
    most = _Cost(60 * minutes, usd)
    estimate = partial(_seconds, config, probe, machine)
    costs = _Costs(config, problem, estimate)
    long_enough = [pair for pair in pairs if _is_long_enough(config.plan, pair, 1.0)]
    if not long_enough:
        return None, f"pilot: {question}. plan.pilot_tokens is too few to tell; {_ASKED}."
    parts, left_out = _all_telling(config.students, config.plan, long_enough, costs, most)
    if not parts:
        parts, left_out = _shortened(config.plan, long_enough, costs, most)
    chosen = [pair for pair in pairs if pair.name in parts]
    total = costs.all_of(chosen, parts)
    if total.within(most):
        n_trainings = sum(
            len(lengths_of(config.task, config.plan, pair, parts[pair.name])) for pair in chosen
        )
        frugal = Frugal(
            question, parts, total.seconds, total.usd, most.seconds, n_trainings, estimate, left_out
        )
        return frugal, ""
    for_teachers = f" and up to ${total.usd:.2f} for teachers" if total.usd else ""
    return None, (
        f"pilot: {question}. The shortest one would take about {_minutes(total.seconds)}"
        f"{for_teachers}, more than an automatic pilot may take ({minutes:g} min and ${usd:.2f}: "
        f"plan.pilot_minutes, plan.pilot_share); {_ASKED}."
    )


@dataclass(frozen=True)
class _Cost:
    """What trainings take."""

    seconds: float
    usd: float

    def within(self, most: _Cost) -> bool:
        return self.seconds <= most.seconds and self.usd <= most.usd


@dataclass(frozen=True)
class _Costs:
    """What the trainings of pairs take here."""

    config: Config
    problem: Problem
    estimate: Callable[[Candidate, int], float]

    def of(self, pair: Candidate, part: float) -> _Cost:
        """Return what a pair's trainings take whose longest is a part of the planned one."""
        tokens = lengths_of(self.config.task, self.config.plan, pair, part)
        return _Cost(
            sum(self.estimate(pair, n) for n in tokens),
            _usd(self.config.plan, self.problem, pair, part),
        )

    def all_of(self, pairs: Sequence[Candidate], parts: Mapping[str, float]) -> _Cost:
        """Return what the trainings of several pairs take."""
        each = [self.of(pair, parts[pair.name]) for pair in pairs]
        return _Cost(sum(cost.seconds for cost in each), sum(cost.usd for cost in each))

    def most_expensive(
        self, pairs: Sequence[Candidate], parts: Mapping[str, float], most: _Cost
    ) -> Candidate:
        """Return the pair that takes most of what is exceeded; one of a model counts for half."""
        is_slow = self.all_of(pairs, parts).seconds > most.seconds

        def cost(pair: Candidate) -> float:
            total = self.of(pair, parts[pair.name])
            haste = _COST_OF_MODEL if is_of_model(self.config.students, pair) else 1.0
            return (total.seconds if is_slow else total.usd) * haste

        return max(pairs, key=cost)


def _all_telling(
    students: Sequence[StudentConfig],
    settings: PlanConfig,
    pairs: Sequence[Candidate],
    costs: _Costs,
    most: _Cost,
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the longest parts that fit, none below `TELLING_PART`, and the pairs without one.

    No parts where not even two pairs fit, or not the cheapest pair and what starts from a model.
    """
    telling, left_out = list(in_order(students, pairs, costs.estimate)), dict[str, str]()
    if any(not _is_long_enough(settings, pair, 1.0, TELLING_PART) for pair in telling):
        return {}, {}
    while True:
        parts = {pair.name: 1.0 for pair in telling}
        while not costs.all_of(telling, parts).within(most):
            longer = [
                pair
                for pair in telling
                if _is_long_enough(settings, pair, parts[pair.name] / 2, TELLING_PART)
            ]
            if not longer:
                break
            parts[costs.most_expensive(longer, parts, most).name] /= 2
        else:
            return parts, left_out
        dropped = telling.pop()
        if len(telling) < 2 or is_of_model(students, dropped):
            return {}, {}
        seconds = costs.of(dropped, parts[dropped.name]).seconds
        left_out[f"{dropped.student} by {dropped.strategy}"] = _too_long(seconds)


def _shortened(
    settings: PlanConfig, pairs: Sequence[Candidate], costs: _Costs, most: _Cost
) -> tuple[dict[str, float], dict[str, str]]:
    """Return parts down to `LEAST_PART`, and the pairs without one; one pair stays in any case."""
    parts, left_out = {pair.name: 1.0 for pair in pairs}, dict[str, str]()
    while True:
        chosen = [pair for pair in pairs if pair.name in parts]
        if costs.all_of(chosen, parts).within(most):
            return parts, left_out
        longest = costs.most_expensive(chosen, parts, most)
        if _is_long_enough(settings, longest, parts[longest.name] / 2):
            parts[longest.name] /= 2
            continue
        if len(chosen) == 1:
            return parts, left_out
        seconds = costs.of(longest, parts.pop(longest.name)).seconds
        left_out[f"{longest.student} by {longest.strategy}"] = _too_long(seconds)


def _too_long(seconds: float) -> str:
    return f"its shortest pilot takes about {_minutes(seconds)}; {_ASKED}"


def lengths_of(task: Task, settings: PlanConfig, pair: Candidate, part: float) -> tuple[int, ...]:
    """Return the tokens of a pair's trainings: one or two.

    One where it is the planned training itself, where the shorter one would be too short to tell,
    and where a file has so few rows that it would be no smaller copy of the planned training.

    Args:
        task: of the run.
        settings: how the plan is made.
        pair: the pair.
        part: its longest training, as a part of the planned one or of `plan.pilot_tokens`.
    """
    if part >= 1 and settings.pilot_tokens >= pair.train_tokens:
        return lengths(settings, pair, (1.0,))
    several = lengths(settings, pair, tuple(part * share for share in _PARTS_OF_LONGEST))
    part_of_planned = several[-1] / pair.train_tokens
    least = (TELLING_PART if part_of_planned >= TELLING_PART else LEAST_PART) * pair.train_tokens
    if (n_rows := n_labelled(task)) is not None:
        least = max(least, LEAST_ITEMS / n_rows * pair.train_tokens)
    return tuple(n for n in several if n >= least) or several[-1:]


def in_order(
    students: Sequence[StudentConfig],
    pairs: Sequence[Candidate],
    estimate: Callable[[Candidate, int], float],
) -> tuple[Candidate, ...]:
    """Return pairs in the order in which they are trained while the time lasts.

    The cheapest first, which is what a plan takes that knows no more; then what starts from a
    model, which reaches most on few rows; then the rest, the cheapest of each first.
    """
    first, *rest = sorted(pairs, key=lambda pair: estimate(pair, pair.train_tokens))
    return (first, *sorted(rest, key=lambda pair: not is_of_model(students, pair)))


def is_of_model(students: Sequence[StudentConfig], pair: Candidate) -> bool:
    """Return whether a pair's student starts from a model."""
    return any(student.name == pair.student and student.path is not None for student in students)


def _is_long_enough(
    settings: PlanConfig, pair: Candidate, part: float, least: float = LEAST_PART
) -> bool:
    return lengths(settings, pair, (part,))[0] >= int(least * pair.train_tokens)


def _allowed(
    limits: LimitsConfig, settings: PlanConfig, problem: Problem, least_hours: float
) -> tuple[float, float]:
    """Return the minutes and dollars that a pilot may take by itself."""
    share, minutes = settings.pilot_share, settings.pilot_minutes
    if limits.deadline_hours is not None:
        hours_left = limits.deadline_hours - problem.spent_hours - least_hours
        minutes = min(minutes, 60 * share * limits.deadline_hours, 60 * hours_left / PATIENCE)
        minutes = max(0.0, minutes)
    money = limits.probe_usd if limits.budget_usd is None else limits.budget_usd
    spent = 0.0 if limits.budget_usd is None else problem.spent_usd
    return minutes, share * max(0.0, money - spent)


def _seconds(
    config: Config, probe: Probe, machine: Calibration, pair: Candidate, tokens: int
) -> float:
    """Return what one short training takes here: its tokens, its answers, the teacher's."""
    student = named(config.students, pair.student)
    card = card_of_student(student, config.task)
    items = config.task.items("validation", config.callbacks.n_validation_items)
    characters = sum(len(config.task.completion(item)) for item in items)
    longest = len(items) * config.evaluate.max_new_tokens
    # Twice: at the end of the training, and of the weights that are kept.
    written = 2 * min(longest, _BABBLE * characters / _CHARACTERS_A_TOKEN)
    job = TrainingJob(
        int(tokens + written),
        config.trainer.batch_tokens,
        student.context_length,
        precision=config.trainer.precision,
    )
    hours = train(card, local_offer(), job, calibration=machine)
    seconds = _START_S + 3600 * hours.mean if hours is not None else float("inf")
    strategy = find(config.strategies, pair.strategy)
    if strategy is not None and strategy.learns_teacher:
        teacher = probe.of_teacher(pair.teacher)
        if not is_hosted(teacher.card):
            part = tokens / pair.train_tokens
            seconds += pace_of(teacher) * ceil(strategy.n_items * part)
    return seconds


def _usd(settings: PlanConfig, problem: Problem, pair: Candidate, part: float) -> float:
    """Return the dollars of a paid teacher for a pair's longest training; shorter ones share it."""
    hosted = [option.usd for option in problem.options[pair.work[0]] if option.offer is None]
    longest = lengths(settings, pair, (part,))[0]
    return longest / pair.train_tokens * min(hosted, default=0.0)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{ceil(seconds)} s"


def cut_short_by_time(pairs: Sequence[Candidate], runs: Sequence[PilotRun]) -> str:
    """Say which students a pilot left unmeasured, or trained too briefly to tell; "" for none.

    Beside one that trained to its end they look worse than they are, or are not chosen at all.

    Args:
        pairs: that were to be trained.
        runs: that were.
    """
    longest = {(run.student, run.strategy): run.points[-1].train_tokens for run in runs}
    brief, never = [], []
    for pair in pairs:
        tokens = longest.get((pair.student, pair.strategy))
        if tokens is None:
            never.append(pair.student)
        elif tokens < TELLING_PART * pair.train_tokens:
            brief.append(f"{pair.student} on {tokens:,} of {pair.train_tokens:,} planned tokens")
    if not brief and not never:
        return ""
    sentences = []
    if brief:
        sentences.append(f"It trained {listed(brief)}")
    if never:
        sentences.append(f"{'it' if sentences else 'It'} did not train {listed(never)}")
    student = (never or [pair.student for pair in pairs])[-1]
    if brief:
        student = brief[-1].partition(" ")[0]
    return (
        "The time of the pilot was too short to compare all students. "
        f"{', and '.join(sentences)}. They "
        "may be better than the plan assumes. Type plan.pilot_minutes=<more> to measure them, or "
        f"try one: student={student}"
    )


LEAST_ITEMS = 64
"""Items that a corpus has at least: fewer hardly fill a step."""
_WARMUP_PART = 0.05
"""Largest part of the steps that may be warm-up."""
_N_CHECKPOINTS = 4
"""Checkpoints of each training, so that a killed one loses little."""


PARTS = (0.25, 0.5, 1.0)
"""Lengths of the trainings of a pair, as parts of `plan.pilot_tokens`."""


def lengths(
    settings: PlanConfig, candidate: Candidate, parts: tuple[float, ...] = PARTS
) -> tuple[int, ...]:
    """Return how many tokens each training of a pair sees, never more than planned."""
    longest = min(settings.pilot_tokens, candidate.train_tokens)
    return tuple(sorted({max(1, round(part * longest)) for part in parts}))


def scaled(config: Config, candidate: Candidate, tokens: int) -> Config:
    """Return the config of one short training of a pair.

    Tokens and items shrink by the same factor, so that an item is seen as often as planned; the
    learning rate falls to zero at the end, as it will. A checkpoint on the way of a longer training
    would be another thing: its learning rate is still high.
    """
    part = tokens / candidate.train_tokens
    n_steps = max(1, tokens // config.trainer.batch_tokens)
    strategy = find(config.strategies, candidate.strategy)
    assert strategy is not None, "a candidate is of a configured strategy"
    n_rows = min(strategy.n_items, n_labelled(config.task) or strategy.n_items)
    n_items = max(LEAST_ITEMS, math.ceil(n_rows * part))
    return replace(
        config,
        students=tuple(student for student in config.students if student.name == candidate.student),
        strategies=(replace(strategy, n_items=min(strategy.n_items, n_items)),),
        trainer=replace(
            config.trainer,
            max_tokens=tokens,
            warmup_steps=min(config.trainer.warmup_steps, math.ceil(_WARMUP_PART * n_steps)),
        ),
        callbacks=replace(
            config.callbacks,
            checkpoint_every_steps=min(
                config.callbacks.checkpoint_every_steps, math.ceil(n_steps / _N_CHECKPOINTS)
            ),
            validate_every_steps=0,
            stop_at_exact=None,
            # Measured once, at its end, so that nothing is chosen and nothing need be held back.
            n_final_validation_items=config.callbacks.n_validation_items,
        ),
    )


PATIENCE = 1.5
"""How much longer than it may take a training under way is let go on."""


@dataclass
class Pace:
    """Time that is left for trainings, and how much slower than expected they have been."""

    seconds: float
    """What all of them may take."""
    estimate: Callable[[Candidate, int], float]
    """Seconds of a pair's training of so many tokens on this machine, if it is not busy."""
    clock: Callable[[], float] = field(default_factory=WorkClock)
    """Seconds so far: of own work, or of the wall clock where a deadline counts them."""
    expected: float = 0.0
    """Seconds that the trainings so far were expected to take."""
    slowness_now: Callable[[], float] = lambda: min(slowness_now(), 1 / WorkClock.LEAST_SHARE)
    """How many seconds of the wall clock pass now in one of `clock`."""

    @property
    def seconds_left(self) -> float:
        """Seconds that are left."""
        return self.seconds - self.clock()

    @property
    def slowness(self) -> float:
        """How much longer than expected the trainings so far took; 1 before the first."""
        return max(1.0, self.clock() / self.expected) if self.expected else 1.0

    def tokens(
        self,
        pair: Candidate,
        desired: int,
        least: int,
        later: Sequence[tuple[Candidate, int]] = (),
        *,
        may_wait: bool = False,
    ) -> int | None:
        """Return how many tokens a training may have, None where no useful number fits.

        Where its part is too short for any, it has that of those behind it: pairs come in the order
        in which they count.

        Args:
            pair: the pair.
            desired: tokens as planned; halved until its part of what is left is enough.
            least: fewer would tell nothing.
            later: trainings that share what is left; each has a part as large as it is expected to
                take.
            may_wait: the shortest may take as long as a training under way is let go on.
        """
        expected = self.estimate(pair, desired)
        part = expected / max(
            1e-9, expected + sum(self.estimate(candidate, tokens) for candidate, tokens in later)
        )
        shortest = None
        while desired >= least:
            seconds = self.slowness * self.estimate(pair, desired)
            if seconds <= part * self.seconds_left:
                return desired
            shortest = desired if seconds <= self.seconds_left + may_wait * self.patience else None
            desired //= 2
        return shortest

    @property
    def patience(self) -> float:
        """Seconds beyond the limit that a training under way is let go on."""
        return (PATIENCE - 1) * self.seconds

    def trained(self, pair: Candidate, tokens: int) -> None:
        """Count a training."""
        self.expected += self.estimate(pair, tokens)

    @property
    def max_time(self) -> str:
        """Longest time of a training that begins now, as `trainer.max_time` has it."""
        seconds = max(1, round(self.slowness_now() * (self.seconds_left + self.patience)))
        days, rest = divmod(seconds, 86_400)
        return f"{days:02}:{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
