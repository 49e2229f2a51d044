"""The pilot: every pair that the limits leave is trained shortly, before the plan is made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from stratos import records
from stratos.catalog import load_catalog
from stratos.config import LimitsConfig
from stratos.errors import StratosError
from stratos.estimate import calibration
from stratos.pilot.scaled import lengths, scaled
from stratos.plan.candidates import build_problem
from stratos.plan.kept import Kept
from stratos.plan.pilot import survivors
from stratos.plan.problem import Candidate, Problem
from stratos.plan.solution import solve
from stratos.records import Corpus, Pilot, PilotPoint, PilotRun, Plan, Probe, Student
from stratos.resume import Stage, fingerprint

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.context import Context
    from stratos.ledger import Ledger

T = TypeVar("T")

_TRAINING = Stage(
    name="pilot",
    record=Student,
    reads=(
        "task",
        "teacher",
        "student",
        "strategy",
        "trainer",
        "callbacks",
        "probe.n_items",
        "probe.max_items",
        "evaluate.n_items",
        "evaluate.max_new_tokens",
        "evaluate.batch_size",
        "seed",
    ),
    code=(
        "tasks",
        "teachers",
        "synthesize",
        "distill",
        "evaluate/generate.py",
        "evaluate/cache.py",
    ),
)
"""What one short training depends on: not the limits, nor the servers that there are."""


def pilot(config: Config, probe: Probe, context: Context) -> Pilot:
    """Train each student that is left shortly, at several lengths, and measure it.

    The stages themselves do it, `synthesize` and `distill`, in a folder of its own for each
    training, and what is finished there is not made again. Only validation items are asked. What
    a paid teacher takes is kept below what the cheapest plan leaves of the budget.

    Raises:
        CatalogError: a catalog is missing, empty or malformed.
    """
    started = time.perf_counter()
    context.tick(0, 1, "which pairs the limits leave")
    catalog = load_catalog(config.cloud, cache_dir=context.cache_dir)
    machine = calibration(context.cache_dir) if "local" in config.cloud.clouds else None
    kept = Kept(config, context.cache_dir)
    problem = build_problem(config, probe, catalog, calibration=machine, kept=kept)
    problem = replace(problem, spent_usd=context.ledger.spent_usd)
    left = survivors(problem)
    ladder = _Ladder(config, context, problem)
    ladder.total = sum(sum(lengths(config, one)) for one in left.candidates)
    runs, left_out = [], dict(left.left_out)
    with _leaving(context.ledger, left.least_usd):
        for candidate in left.candidates:
            try:
                runs.append(ladder.climb(candidate))
            except StratosError as error:
                left_out[f"{candidate.student} by {candidate.strategy}"] = str(error)
    points = [point for run in runs for point in run.points]
    return Pilot(
        task=config.task.name,
        runs=tuple(runs),
        left_out=left_out,
        seconds=time.perf_counter() - started,
        cpu_seconds=sum(point.cpu_seconds for point in points),
        usd=sum(run.usd for run in runs),
    )


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


@dataclass
class _Ladder:
    """Trains one pair after the other at growing lengths."""

    config: Config
    context: Context
    problem: Problem
    total: float = 0.0
    """Tokens of all trainings."""
    done: float = 0.0
    """Tokens of those that are finished."""

    def climb(self, candidate: Candidate) -> PilotRun:
        """Return the learning curve of a pair."""
        pair = f"{candidate.student}-{candidate.strategy}"
        folder = self.context.run_dir / "pilot" / pair
        free = LimitsConfig(serve_hours=self.problem.limits.serve_hours)
        plan = solve(replace(self.problem, candidates=(candidate,), limits=free, spent_usd=0.0))
        points, usd = [], 0.0
        for tokens in lengths(self.config, candidate):
            corpus, student = self._train(candidate, plan, tokens)
            points.append(
                PilotPoint(
                    train_tokens=student.train_tokens,
                    accuracy=student.validation_exact,
                    n_items=self.config.callbacks.n_validation_items,
                    n_corpus_items=corpus.n_items,
                    seconds=corpus.seconds + student.seconds,
                    cpu_seconds=corpus.cpu_seconds + student.cpu_seconds,
                )
            )
            usd += corpus.usd
            self.done += tokens
            self.context.log(
                {
                    f"pilot/{pair}/tokens": float(student.train_tokens),
                    f"pilot/{pair}/validation_exact": student.validation_exact,
                }
            )
        return PilotRun(
            candidate.student,
            candidate.strategy,
            candidate.teacher,
            tuple(points),
            str(folder),
            usd,
        )

    def _train(self, candidate: Candidate, plan: Plan, tokens: int) -> tuple[Corpus, Student]:
        """Make the corpus and train on it, or read what was made before."""
        config = scaled(self.config, candidate, tokens)
        pair = f"{candidate.student}-{candidate.strategy}"
        folder = self.context.run_dir / "pilot" / pair / str(tokens)
        mark = " ".join(
            (
                fingerprint(_TRAINING, self.config, {}, {}),
                pair,
                candidate.teacher,
                candidate.prompt,
                str(tokens),
            )
        )

        def say(trained: float, text: str) -> None:
            now = self.done + tokens * trained
            self.context.tick(now, self.total, f"{pair} on {tokens:,} tokens · {text}")

        inner = replace(
            self.context,
            run_dir=folder,
            tick=lambda done, total, text="": say(0.0, text),
            log=lambda *_, **__: None,
            fingerprint=mark,
        )
        corpus = _kept(folder / "synthesize.json", mark, Corpus)
        if corpus is None or _may_go_on(corpus, self.context.ledger):
            from stratos.synthesize import synthesize

            corpus = synthesize(config, plan, inner)
            records.save(folder / "synthesize.json", "synthesize", mark, corpus)
        mark = f"{mark} {corpus.sha256}"
        student = _kept(folder / "distill.json", mark, Student)
        if student is None:
            from stratos.distill import distill

            training = replace(
                inner,
                fingerprint=mark,
                tick=lambda done, total, text="": say(done / total, text),
            )
            student = distill(config, plan, corpus, training)
            records.save(folder / "distill.json", "distill", mark, student)
        return corpus, student


def _may_go_on(corpus: Corpus, ledger: Ledger) -> bool:
    """Return whether the money at which a corpus was cut is more by now."""
    cap = ledger.cap_usd()
    return corpus.cut_at_usd is not None and (cap is None or cap > corpus.cut_at_usd)


def _kept(path: Path, mark: str, record: type[T]) -> T | None:
    """Return a record that was made from the same inputs, None if there is none."""
    try:
        return records.load(path, mark, record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
