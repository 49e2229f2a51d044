"""From config, probe and catalog to the problem: which pairs there are, what each role costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from stratos.catalog import Catalog
from stratos.choice import Pupil, pick
from stratos.config import Config
from stratos.errors import ConfigError
from stratos.estimate import (
    Calibration,
    Fleet,
    Ranges,
    TrainingJob,
    Workload,
    card_of_student,
    device_of,
    generate_all,
    serving_all,
    train_all,
)
from stratos.estimate.fleet import Ints
from stratos.estimate.inference import inference_bytes
from stratos.estimate.training import training_bytes
from stratos.plan.accuracy import predict
from stratos.plan.asked import Load, asked_of
from stratos.plan.egress import Egress, list_prices
from stratos.plan.hosted import hosted_options, is_hosted
from stratos.plan.kept import Kept
from stratos.plan.market import Market, open_market
from stratos.plan.pareto import Slack
from stratos.plan.problem import Candidate, Option, Problem
from stratos.plan.shelves import Shelves
from stratos.plan.traffic import rates_of, workloads
from stratos.plan.works import Job, Service, job_options, service_options
from stratos.records import CardRun, ModelCard, Pilot, Probe, TeacherProbe
from stratos.words import counted

BYTES_PER_PARAM = 2.0
"""Bytes of a weight in the bundle: bf16."""

MIX_GAP = 0.01
"""`Problem.mix_gap` of a run: what egress may still change of a mix, where there are hundreds of
places to train at, is not worth a program for each."""


def build_problem(
    config: Config,
    probe: Probe,
    catalog: Catalog,
    history: Sequence[CardRun] = (),
    pilot: Pilot | None = None,
    calibration: Calibration | None = None,
    kept: Kept | None = None,
) -> Problem:
    """Return the problem that the plan is the solution of.

    Args:
        config: the run.
        probe: what the teachers showed.
        catalog: the offers that `config.cloud` allows.
        history: past runs that speak for a student's accuracy.
        pilot: short trainings that do.
        calibration: the measurement of this machine, for local offers.
        kept: what paid teachers answered before; None where that is not looked at.
    """
    heaviest = max(
        (
            asked_of(config, teacher, strategy).dataset_gb
            for teacher in probe.teachers
            for strategy in config.strategies
        ),
        default=0.0,
    )
    builder = _Builder(config, catalog, calibration, heaviest, kept)
    builder.left_out.update(probe.unreachable)
    students = list(_students(builder))
    candidates: list[Candidate] = []
    for strategy in config.strategies:
        for teacher in probe.teachers:
            pupils = builder.pupils(teacher, strategy, students)
            if not pupils:
                continue
            teacher_key = f"teacher {teacher.teacher} {strategy.name}"
            if not builder.teacher_work(teacher_key, teacher, strategy):
                continue
            for card in pupils:
                works = workloads(config, card, students, strategy.name)
                train_key = f"train {card.name}"
                serve_key = f"serve {card.name} {strategy.name}"
                if builder.train_work(train_key, card) and builder.serve_work(
                    serve_key, card, works
                ):
                    accuracy = predict(
                        card,
                        config.task.name,
                        strategy.name,
                        teacher,
                        history=history,
                        pilot=pilot,
                        tokens=_train_tokens(config, card),
                    )
                    candidates.append(
                        Candidate(
                            teacher=teacher.teacher,
                            student=card.name,
                            strategy=strategy.name,
                            accuracy=accuracy,
                            work=(teacher_key, train_key, serve_key),
                            prompt=teacher.prompt,
                        )
                    )
    return Problem(
        candidates=tuple(candidates),
        options=builder.options,
        limits=config.limits,
        objective=config.objective,
        left_out=builder.left_out,
        evidence=tuple(dict.fromkeys(builder.evidence)),
        warnings=catalog.warnings,
        n_offers=len(catalog.offers),
        price_dates=catalog.price_dates,
        rates=builder.rates,
        gb=builder.gb,
        egress=builder.egress,
        caps=builder.market.caps,
        ranges=builder.ranges,
        mix_gap=MIX_GAP,
        settings=config.plan,
    )


@dataclass
class _Builder:
    """Collects options and reasons while the candidates are gone through."""

    config: Config
    catalog: Catalog
    calibration: Calibration | None
    dataset_gb: float
    """The most GB that any teacher's answers weigh."""
    kept: Kept | None = None
    options: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    rates: dict[str, tuple[float, ...]] = field(default_factory=dict)
    gb: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    ranges: dict[str, str] = field(default_factory=dict)

    @cached_property
    def market(self) -> Market:
        """The servers that the config allows."""
        return open_market(self.catalog, self.config.cloud, self.config.cloud.spot)

    @cached_property
    def shelves(self) -> Shelves:
        """The same, sorted, with their hardware."""
        fleet = Fleet.of([device_of(kind, self.calibration) for kind in self.market.kinds])
        return Shelves.of(self.market, fleet)

    @cached_property
    def egress(self) -> Egress:
        """Prices of the clouds that a server may be rented in."""
        prices = list_prices()
        clouds = {cloud for cloud, _ in self.catalog.table.places}
        return Egress({cloud: prices.of(cloud) for cloud in clouds})

    @cached_property
    def slack(self) -> Slack:
        """What a place can be the dearer by, of a work that moves nothing."""
        return Slack.of(self.catalog.table.places, self.egress)

    def _kept(self, key: str, what: str, too_big: tuple[str, float]) -> bool:
        """Return whether a work has options; say why if not."""
        if not self.options[key]:
            self.left_out[what] = _too_big(*too_big, self.catalog)
        return bool(self.options[key])

    def pupils(
        self, teacher: TeacherProbe, strategy: Any, students: Sequence[ModelCard]
    ) -> list[ModelCard]:
        """Return the students that a strategy may be taken for; say why the others are not."""
        config, name = self.config, strategy.name
        pretrained = {one.name for one in config.students if one.path is not None}
        has_symbols = config.task.vocabulary() is not None
        taken = []
        for card in students:
            verdict = pick(
                config.strategies,
                teacher,
                Pupil(
                    card.name,
                    card.name in pretrained,
                    card.vocab_size,
                    card.name not in pretrained and has_symbols,
                    card.name not in pretrained and not has_symbols,
                ),
                config.complexity,
                task=config.task.name,
                can_reverse=config.task.can_reverse,
            )[name]
            if verdict.evidence:
                self.evidence.append(verdict.evidence)
            if verdict.is_taken:
                taken.append(card)
                continue
            key = {
                "strategy": name,
                "teacher": f"{name} from {teacher.teacher}",
                "pair": f"{name} from {teacher.teacher} to {card.name}",
            }[verdict.concerns]
            self.left_out[key] = verdict.reason
        return taken

    def teacher_work(self, key: str, teacher: TeacherProbe, strategy: Any) -> bool:
        """Add the teacher's answers: those of the evaluation, and those it is to teach with."""
        n_kept = self.kept.n_answers(teacher, strategy) if self.kept is not None else 0
        asked = asked_of(self.config, teacher, strategy, n_kept)
        load, card = Load(asked.n_answers, asked.work), teacher.card
        ends = (asked.least, asked.most) if asked.why else None
        if key not in self.options:
            self.gb[key] = asked.dataset_gb
            if asked.why:
                self.ranges[key] = asked.why
            if n_kept:
                self.evidence.append(
                    f"{counted(n_kept, 'answer', spec=',')} of {teacher.teacher} that "
                    f"{strategy.name} asks for, kept from before: not paid again."
                )
            if is_hosted(card):
                self.options[key] = hosted_options(
                    teacher, load, ends, evaluated=asked.evaluated, scored=asked.scored
                )
            else:
                job = Job(
                    lambda fleet, n: _generate(card, fleet, n, load, ends),
                    self.slack.moving(gb_out=self.gb[key]),
                    counted(load.n_answers, "answer"),
                )
                self.options[key] = job_options(self.shelves, job)
        if is_hosted(card):  # its size, which nobody may know, is its host's care
            return True
        return self._kept(key, teacher.teacher, ("answer", inference_bytes(card, asked.longest)))

    def train_work(self, key: str, card: ModelCard) -> bool:
        """Add the training of a student."""
        config = self.config
        batch_tokens = config.trainer.batch_tokens
        if key not in self.options:
            tokens = _train_tokens(config, card)
            student = next(s for s in config.students if s.name == card.name)
            training = TrainingJob(tokens, batch_tokens, student.context_length)
            n_servers = 1 if config.traffic.requests_per_s is None else config.cloud.max_nodes
            job = Job(
                lambda fleet, n: train_all(card, fleet, training, n),
                self.slack.moving(self.dataset_gb, n_servers * _bundle_gb(card)),
                f"{tokens:,} tokens",
            )
            self.options[key] = job_options(self.shelves, job)
        return self._kept(key, card.name, ("train", training_bytes(card, batch_tokens)))

    def serve_work(self, key: str, card: ModelCard, works: Sequence[Workload]) -> bool:
        """Add the serving of a student that was trained by one strategy."""
        if key not in self.options:
            hours = self.config.limits.serve_hours
            rates = rates_of(self.config, len(works))
            self.gb[key] = _bundle_gb(card)
            service = Service(
                lambda fleet: serving_all(card, fleet, works, fastest=rates is None),
                hours,
                self.slack.moving(gb_in=self.gb[key]),
                f"{hours:g} h of serving",
                rates,
            )
            self.options[key] = service_options(self.shelves, service)
            if rates is not None:
                self.rates[key] = rates
        context = max(work.context for work in works)
        return self._kept(key, card.name, ("serve", inference_bytes(card, context)))


def _generate(
    card: ModelCard, fleet: Fleet, n_nodes: Ints, load: Load, ends: tuple[Load, Load] | None
) -> Ranges:
    """Return the hours of a local teacher's answers; their number, too, may be a range."""

    def taking(one: Load) -> Ranges:
        return generate_all(card, fleet, one.work, one.n_answers, n_nodes)

    hours = taking(load)
    if ends is None:
        return hours
    # Where the longest chats do not fit, the end is that of the expected ones.
    low, high = np.fmin(hours.low, taking(ends[0]).low), np.fmax(hours.high, taking(ends[1]).high)
    held = ~np.isnan(hours.mean)
    return Ranges(hours.mean, np.where(held, low, np.nan), np.where(held, high, np.nan))


def _students(builder: _Builder) -> Iterable[ModelCard]:
    complexity = builder.config.complexity
    for student in builder.config.students:
        try:
            card = card_of_student(student, builder.config.task)
        except ConfigError as error:
            builder.left_out[student.name] = str(error)
            continue
        if card.n_params < complexity.min_student_params:
            builder.left_out[student.name] = (
                f"its {card.n_params:,} parameters are below complexity.min_student_params="
                f"{complexity.min_student_params} (complexity={complexity.level})"
            )
        else:
            yield card


def _train_tokens(config: Config, card: ModelCard) -> int:
    student = next(s for s in config.students if s.name == card.name)
    return config.trainer.max_tokens or student.train_tokens


def _bundle_gb(card: ModelCard) -> float:
    return BYTES_PER_PARAM * card.n_params / 1e9


def _too_big(verb: str, n_bytes: float, catalog: Catalog) -> str:
    """Say how much memory is missing, and where the most of it is."""
    table = catalog.table
    memory_gib = np.maximum(table.memory_gib, table.vram_gib * table.accelerator_count)
    largest = int(np.argmax(memory_gib))
    return (
        f"needs {n_bytes / 2**30:.1f} GiB to {verb}, and no server that is allowed holds it (the "
        f"largest is {catalog.offer(largest).name} with {memory_gib[largest]:.0f} GiB)"
    )
