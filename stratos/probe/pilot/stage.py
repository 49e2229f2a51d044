"""The pilot stage: short trainings of every pair within the limits, before the plan.

Pairs are trained at growing lengths with the real stages, each in its own folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from stratos.catalog import load_catalog
from stratos.config import Config, LimitsConfig
from stratos.core.context import Context
from stratos.core.errors import OverspentError, StratosError
from stratos.estimate.fleet import calibration
from stratos.ledger import Ledger
from stratos.plan.accuracy.history import history_for, unbiased
from stratos.plan.options.candidates import build_problem, this_machine
from stratos.plan.options.teacher import CachedAnswers
from stratos.plan.problem import Candidate, Problem
from stratos.plan.solve.frontier import survivors
from stratos.plan.stage import solve
from stratos.probe.pilot import decision
from stratos.probe.pilot.decision import PARTS, Pace, lengths, scaled
from stratos.records import Corpus, Pilot, PilotPoint, PilotRun, Plan, Probe, Student
from stratos.run import resume
from stratos.run.resume import Stage
from stratos.run.stages import DISTILL, PILOT_TRAINING, SYNTHESIZE

T = TypeVar("T")

TIME_OVER = "the pilot ran out of time"
_WHOLE = 0.9
"""Part of its tokens from which a training counts as made."""


@dataclass
class Ladder:
    """Trains all pairs at the first length, then all at the next: who is cut off is cut alike."""

    config: Config
    context: Context
    problem: Problem
    pace: Pace | None = None
    """Of a pilot that nobody asked for: it keeps to its time."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Of such a pilot: name of a pair to its longest training, as a part of what it might be."""
    total: float = 0.0
    """What all trainings take, in seconds or tokens; see `_effort`."""
    done: float = 0.0
    """What those have taken that are finished."""

    def climb(self, pairs: Sequence[Candidate], left_out: dict[str, str]) -> list[PilotRun]:
        """Return the learning curve of each pair; say in `left_out` why there is none."""
        rungs = {pair.name: self._lengths(pair) for pair in pairs}
        self.total = sum(self._effort(pair, n) for pair in pairs for n in rungs[pair.name])
        free = LimitsConfig(serve_hours=self.problem.limits.serve_hours)
        plans: dict[str, Plan] = {}
        runs = {pair.name: _Curve(pair) for pair in pairs}
        for step in range(max(map(len, rungs.values()), default=0)):
            waiting = [pair for pair in pairs if step < len(rungs[pair.name])]
            for number, pair in enumerate(waiting):
                curve = runs[pair.name]
                if curve.trouble:
                    continue
                later = [
                    (candidate, rungs[candidate.name][step]) for candidate in waiting[number + 1 :]
                ]
                later += [
                    (candidate, n) for candidate in pairs for n in rungs[candidate.name][step + 1 :]
                ]
                later = [
                    (candidate, n) for candidate, n in later if not runs[candidate.name].trouble
                ]
                tokens = self._tokens(pair, rungs[pair.name][step], later)
                if tokens is None or tokens in curve.lengths:
                    curve.trouble = TIME_OVER
                    continue
                try:
                    if pair.name not in plans:
                        plans[pair.name] = solve(
                            replace(self.problem, candidates=(pair,), limits=free, spent_usd=0.0)
                        )
                    self._step(curve, plans[pair.name], tokens)
                except OverspentError:
                    raise
                except StratosError as error:
                    curve.trouble, curve.points = str(error), []
        for curve in runs.values():
            if not curve.points:
                left_out[f"{curve.pair.student} by {curve.pair.strategy}"] = curve.trouble
        return [self._run(curve) for curve in runs.values() if curve.points]

    def _lengths(self, pair: Candidate) -> tuple[int, ...]:
        if self.pace is None:
            return lengths(self.config.plan, pair, PARTS)
        part = self.parts.get(pair.name, 1.0)
        return decision.lengths_of(self.config.task, self.config.plan, pair, part)

    def _tokens(
        self, pair: Candidate, desired: int, later: Sequence[tuple[Candidate, int]]
    ) -> int | None:
        """Return the tokens of a training: fewer where the time is short, None where it is over.

        Args:
            pair: the pair.
            desired: tokens as planned.
            later: the trainings that wait behind this one.
        """
        if self.pace is None:
            return desired
        telling = min(desired, max(1, int(decision.TELLING_PART * pair.train_tokens)))
        may_wait = decision.is_of_model(self.config.students, pair)
        tokens = self.pace.tokens(pair, desired, telling, later, may_wait=may_wait)
        if tokens is not None:
            return tokens
        least = max(1, int(decision.LEAST_PART * pair.train_tokens))
        return self.pace.tokens(pair, desired, least, later, may_wait=may_wait)

    def _effort(self, pair: Candidate, tokens: int) -> float:
        """Return what a training counts in the progress: expected seconds, else tokens."""
        return tokens if self.pace is None else self.pace.estimate(pair, tokens)

    def _step(self, curve: _Curve, plan: Plan, tokens: int) -> None:
        """Train a pair at one length and add the point."""
        pair = curve.pair
        corpus, student = self._train(pair, plan, tokens)
        self.done += self._effort(pair, tokens)
        curve.lengths.add(tokens)
        if self.pace is not None:
            self.pace.trained(pair, min(tokens, student.train_tokens))
            if _is_cut(student, tokens):
                curve.trouble = TIME_OVER
        curve.usd += corpus.usd
        curve.points.append(
            PilotPoint(
                train_tokens=student.train_tokens,
                accuracy=unbiased(student),
                n_items=student.n_validation_items,
                n_corpus_items=corpus.n_items,
                seconds=corpus.seconds + student.seconds,
                cpu_seconds=corpus.cpu_seconds + student.cpu_seconds,
                train_seconds=student.seconds,
            )
        )
        name = f"{pair.student}-{pair.strategy}"
        self.context.log(
            {
                f"pilot/{name}/tokens": float(student.train_tokens),
                f"pilot/{name}/validation_exact": student.validation_exact,
            }
        )

    def _run(self, curve: _Curve) -> PilotRun:
        pair = curve.pair
        folder = self.context.run_dir / "pilot" / f"{pair.student}-{pair.strategy}"
        return PilotRun(
            pair.student,
            pair.strategy,
            pair.teacher,
            tuple(sorted(curve.points, key=lambda point: point.train_tokens)),
            str(folder),
            curve.usd,
        )

    def _train(self, candidate: Candidate, plan: Plan, tokens: int) -> tuple[Corpus, Student]:
        """Make the corpus and train on it, or read what was made before.

        A training that its time ended counts with the tokens that it made: its learning rate had
        not fallen, so that as many planned tokens reach as much at least. With more time it is
        made again.
        """
        config = scaled(self.config, candidate, tokens)
        if self.pace is not None:
            trainer = replace(config.trainer, max_time=self.pace.max_time)
            config = replace(config, trainer=trainer)
        pair = f"{candidate.student}-{candidate.strategy}"
        folder = self.context.run_dir / "pilot" / pair / str(tokens)
        mark = " ".join(
            (
                resume.fingerprint(PILOT_TRAINING, self.config, {}, {}),
                pair,
                candidate.teacher,
                candidate.prompt,
                str(tokens),
            )
        )

        def say(trained: float, text: str) -> None:
            if self.pace is not None:
                self.pace.clock()
            now = self.done + trained * self._effort(candidate, tokens)
            self.context.tick(now, self.total, f"{pair} on {tokens:,} tokens · {text}")

        inner = replace(
            self.context,
            run_dir=folder,
            tick=lambda done, total, text="": say(0.0, text),
            log=lambda *_, **__: None,
            fingerprint=mark,
        )
        corpus = _kept(SYNTHESIZE, folder, mark)
        if corpus is None or _may_go_on(corpus, self.context.ledger):
            from stratos.synthesize import synthesize

            corpus = synthesize(config, plan, inner)
            resume.keep(SYNTHESIZE, folder, mark, corpus)
        mark = f"{mark} {corpus.sha256}"
        in_time = mark if self.pace is None else f"{mark} in {self.pace.seconds:.0f} s"
        student = _kept(DISTILL, folder, mark) or _kept(DISTILL, folder, in_time)
        if student is None:
            from stratos.distill import distill

            training = replace(
                inner,
                fingerprint=mark,
                tick=lambda done, total, text="": say(done / total, text),
            )
            student = distill(config, plan, corpus, training)
            resume.keep(DISTILL, folder, in_time if _is_cut(student, tokens) else mark, student)
        return corpus, student


@dataclass
class _Curve:
    """What is known of a pair so far."""

    pair: Candidate
    points: list[PilotPoint] = field(default_factory=list)
    lengths: set[int] = field(default_factory=set)
    """Tokens of the trainings so far."""
    usd: float = 0.0
    trouble: str = ""
    """Why it is trained no further."""


def _is_cut(student: Student, tokens: int) -> bool:
    """Return whether the time ended a training before it had made its tokens."""
    return student.train_tokens < _WHOLE * tokens


def _may_go_on(corpus: Corpus, ledger: Ledger) -> bool:
    """Return whether the money at which a corpus was cut is more by now."""
    cap = ledger.cap_usd()
    return corpus.cut_at_usd is not None and (cap is None or cap > corpus.cut_at_usd)


def _kept(stage: Stage[T], folder: Path, mark: str) -> T | None:
    """Return a record that was made from the same inputs, None if there is none."""
    stored = resume.find(stage, folder)
    return stored.record if stored is not None and stored.fingerprint == mark else None


def pilot(config: Config, probe: Probe, context: Context) -> Pilot | None:
    """Train each student that is left shortly, at several lengths, and measure it.

    The stages themselves do it, `synthesize` and `distill`, in a folder of its own for each
    training, and what is finished there is not made again. Only validation items are asked. What
    a paid teacher takes is kept below what the cheapest plan leaves of the budget.

    With `plan.pilot=auto` it is made where an unknown accuracy decides the choice and it takes
    little: then it is announced, trains the unknown pairs alone, and ends with its time.

    Returns:
        The learning curves; None where no pilot is made by itself.

    Raises:
        CatalogError: a catalog is missing, empty or malformed.
    """
    started = time.perf_counter()
    context.tick(0, 1, "which pairs the limits leave")
    is_auto = config.plan.pilot == "auto"
    catalog = load_catalog(config.cloud, cache_dir=context.cache_dir)
    machine = this_machine(config.cloud, config.students, config.trainer, context.cache_dir)
    memory = CachedAnswers(config, context.cache_dir, context.ledger)
    history = history_for(config, context.run_dir) if is_auto else ()
    problem = build_problem(config, probe, catalog, history, calibration=machine, cached=memory)
    problem = replace(
        problem, spent_usd=context.ledger.committed_usd, spent_hours=probe.seconds / 3600
    )
    alive = survivors(problem)
    pairs, why, pace = alive.candidates, "", None
    parts: Mapping[str, float] = {}
    left_out = dict(alive.left_out)
    if is_auto:
        why = decision.open_question(problem, alive)
        if not why:
            context.note("pilot: none is needed; no short training would change the plan.")
            return None
        pairs = tuple(pair for pair in pairs if not pair.is_known)
        here = machine or calibration(context.cache_dir)
        frugal, reason = decision.afforded(
            config, probe, problem, pairs, why, here, alive.least_hours
        )
        if frugal is None:
            context.note(reason)
            return None
        pace = Pace(frugal.limit_seconds, frugal.estimate)
        if config.limits.deadline_hours is not None:  # it counts whatever else the machine does
            pace.clock, pace.slowness_now = _wall_clock(), lambda: 1.0
        context.note(replace(frugal, slowness=pace.slowness_now()).text)
        parts = frugal.parts
        left_out.update(frugal.left_out)
        chosen = [pair for pair in pairs if pair.name in parts]
        pairs = decision.in_order(config.students, chosen, frugal.estimate)
    ladder = Ladder(config, context, problem, pace, parts)
    with _leaving(context.ledger, alive.least_usd):
        runs = ladder.climb(pairs, left_out)
    if is_auto and (warning := decision.cut_short_by_time(pairs, runs)):
        context.warn(warning)
    points = [point for run in runs for point in run.points]
    return Pilot(
        task=config.task.name,
        runs=tuple(runs),
        left_out=left_out,
        seconds=time.perf_counter() - started,
        cpu_seconds=sum(point.cpu_seconds for point in points),
        usd=sum(run.usd for run in runs),
        why=why,
    )


def _wall_clock() -> Callable[[], float]:
    started = time.monotonic()
    return lambda: time.monotonic() - started


@contextmanager
def _leaving(ledger: Ledger, usd: float) -> Iterator[None]:
    """Lower the ledger's budget so that `usd` are left of it."""
    budget = ledger.budget_usd
    if budget is not None:
        ledger.budget_usd = max(0.0, budget - usd)
    try:
        yield
    finally:
        ledger.budget_usd = budget
