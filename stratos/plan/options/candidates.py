"""Build the planning problem from config, probe and catalog."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from stratos.catalog import Catalog
from stratos.catalog.offers import local_offer
from stratos.catalog.residency import areas
from stratos.config import CloudConfig, Config, StudentConfig, TrainerConfig
from stratos.core.errors import ConfigError
from stratos.core.formats import counted, points_gained
from stratos.core.machine import slowness_now
from stratos.core.reasons import Because
from stratos.core.values import find, named
from stratos.distill.trainer import Length
from stratos.estimate.cards import Workload, card_of_student, read_otherwise
from stratos.estimate.fleet import Calibration, calibration
from stratos.estimate.hours import train
from stratos.models.kinds.student_kinds import corrects_labels
from stratos.models.students import is_here, why_not
from stratos.plan.accuracy.predict import (
    of_cut,
    predict,
    with_labels,
    without_hopeless,
    without_model,
)
from stratos.plan.option import Egress, list_prices
from stratos.plan.options.pricing import Pricing
from stratos.plan.options.role_options import (
    jobs_of,
    no_engine,
    not_in,
    roles_that_are_up,
    runs_as_job,
    too_lossy,
)
from stratos.plan.options.sizes import kind_mb, weights_mb
from stratos.plan.options.teacher import (
    CachedAnswers,
    TeacherLoad,
    more_rows,
    n_after_deploy,
    repeated_rows,
    teacher_load_of,
)
from stratos.plan.options.workload import Checks, Lengths, Requests, requests_of, training_job
from stratos.plan.problem import Candidate, Cut, Exclusions, Problem
from stratos.plan.words import LearnsRows, TooBig, TooSlowHere, TooSmall
from stratos.records import CardRun, Interval, KindProbe, ModelCard, Pilot, Probe, TeacherProbe
from stratos.synthesize.choice import Reason, StudentFacts, Verdict, pick
from stratos.synthesize.strategy import Strategy

K = TypeVar("K")
V = TypeVar("V")

_PLANNED = ("plan",)
"""A plan is the same whatever stages follow: a student of known facts is planned unseen."""

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
    cached: CachedAnswers | None = None,
    *,
    with_hopeless: bool = False,
) -> Problem:
    """Return the problem that the plan is the solution of.

    Where data may not cross borders, a pair is a candidate of each area (`catalog.residency`), with
    works of its own: all servers of a plan stand in one.

    Args:
        config: the run.
        probe: what the teachers showed.
        catalog: the offers that `config.cloud` allows.
        history: past runs that speak for a student's accuracy.
        pilot: short trainings that do.
        calibration: of `this_machine`; without it, local offers are estimated as any other, and no
            student is too slow for this machine.
        cached: what paid teachers answered before; None where that is not looked at.
        with_hopeless: keep students that learn next to nothing beside better ones.
    """
    builder = _Builder(config, probe, catalog, history, pilot, calibration, cached)
    pairs = builder.pairs()
    areas = builder.areas(max((pair.load.dataset_gb for pair in pairs), default=0.0))
    candidates = [
        candidate
        for pricing in areas
        for pair in pairs
        for candidate in builder.candidates(pair, pricing)
    ]
    if not any(candidate.is_known for candidate in candidates):
        candidates = [builder.with_stand_in(candidate) for candidate in candidates]
    if not with_hopeless:
        candidates = list(without_hopeless(config.students, candidates, builder.left_out))
    builder.leave_out_unfit(candidates, areas)
    return Problem(
        candidates=tuple(candidates),
        options=_joined(pricing.options for pricing in areas),
        limits=config.limits,
        objective=config.objective,
        strategies={strategy.name: strategy for strategy in config.strategies},
        exclusions=tuple(builder.left_out.values()),
        not_rented=catalog.left_out,
        evidence=tuple(dict.fromkeys(builder.evidence)),
        warnings=catalog.warnings,
        wait_hours=catalog.wait_hours,
        preempts=catalog.preempts,
        n_offers=len(catalog.table),
        max_tokens={teacher.teacher: teacher.max_tokens_by_prompt for teacher in probe.teachers},
        teachers={teacher.teacher: _card(teacher) for teacher in probe.teachers},
        assumed=_joined(pricing.assumed for pricing in areas),
        rates=_joined(pricing.rates for pricing in areas),
        gb=_joined(pricing.gb for pricing in areas),
        egress=builder.egress,
        caps=replace(
            areas[0].market.caps, stock=_joined(pricing.market.caps.stock for pricing in areas)
        ),
        ranges=_joined(pricing.ranges for pricing in areas),
        mix_gap=MIX_GAP,
        settings=config.plan,
        up=roles_that_are_up(config.executor),
        jobs=jobs_of(config.executor, config.stages),
        cuts=builder.cuts(),
        more_rows=_more_rows(probe),
    )


def _more_rows(probe: Probe) -> str:
    """Return what more labelled rows bring, where the learning curve rises; "" elsewhere."""
    best = probe.best_kind
    if best is None or best.gain is None or best.gain[0] <= 0:
        return ""
    rows = counted(best.n_rows, "more labelled row", spec=",")
    return f"Or label more rows: {rows} {points_gained(best.gain)} ({best.student})."


def this_machine(
    cloud: CloudConfig,
    students: Sequence[StudentConfig],
    trainer: TrainerConfig,
    cache_dir: Path,
) -> Calibration | None:
    """Return the measurement of this machine, if it may be planned or a student depends on it.

    Where it may be planned, with what its other work takes of it now.
    """
    if "local" in cloud.providers:
        # Those of random weights are so small that their products are the lesser part.
        from_weights = any(s.is_lm and s.path is not None for s in students)
        with_bf16 = from_weights and trainer.precision != "fp32"
        here = calibration(cache_dir, with_bf16=with_bf16)
        return replace(here, slowness=slowness_now())
    depends = any(student.only_if_here and is_here(student) for student in students)
    return calibration(cache_dir) if depends else None


def _joined(parts: Iterable[Mapping[K, V]]) -> dict[K, V]:
    """Return what several areas have, whose keys differ."""
    return {key: value for part in parts for key, value in part.items()}


def _egress(catalog: Catalog) -> Egress:
    """Return the prices of the clouds that a server may be rented in."""
    prices = list_prices()
    clouds = {cloud for cloud, _ in catalog.table.places}
    return Egress(
        {cloud: prices.of(cloud) for cloud in clouds},
        {cloud: prices.provenance_of(cloud) for cloud in clouds},
        frozenset(clouds - set(prices.usd_per_gb)),
    )


def _card(teacher: TeacherProbe) -> ModelCard:
    """Return the facts of a teacher; a log stays when its model ends."""
    return teacher.card if teacher.logged is None else replace(teacher.card, retires="")


@dataclass(frozen=True)
class _Pair:
    """A strategy, a teacher and a student, with what is the same in all areas."""

    strategy: Strategy
    teacher: TeacherProbe
    card: ModelCard
    load: TeacherLoad
    length: Length
    checks: Checks
    requests: Requests
    accuracy: Interval
    kind: KindProbe | None = None
    """None for a language model."""


class _Builder:
    """Makes the candidates of a run; collects what is left out, and what speaks for the rest."""

    def __init__(
        self,
        config: Config,
        probe: Probe,
        catalog: Catalog,
        history: Sequence[CardRun],
        pilot: Pilot | None,
        calibration: Calibration | None,
        cached: CachedAnswers | None,
    ) -> None:
        self.config = config
        self.probe = probe
        self.catalog = catalog
        self.history = history
        self.pilot = pilot
        self.calibration = calibration
        self.cached = cached
        self.lengths = Lengths(config)
        self.egress = _egress(catalog)
        self.left_out = Exclusions()
        self.evidence: list[str] = []
        for name, why in probe.unreachable.items():
            self.left_out.add(name, Reason.UNREACHABLE, Because(why), teacher=name)
        if (baseline := without_model(probe)) is not None:
            self.evidence.append(str(baseline))
        self.students = [*self._cards_of_kinds(), *self._cards()]

    # Step 1: which student may learn from which teacher by which strategy.

    def pairs(self) -> list[_Pair]:
        """Return what may be taken together, with its work and its accuracy."""
        students = {
            (strategy.name, teacher.teacher): self._students_of(teacher, strategy)
            for strategy in self.config.strategies
            for teacher in self.probe.teachers
        }
        return [
            self._pair(strategy, teacher, card, load)
            for strategy in self.config.strategies
            for teacher in self.probe.teachers
            if (cards := students[strategy.name, teacher.teacher])
            for load in [self._load(teacher, strategy)]
            for card in cards
        ]

    def _cards_of_kinds(self) -> Iterator[ModelCard]:
        """Yield the cards of the students that are no language models."""
        for student in self.config.students:
            if (kind := self.probe.of_kind(student.name)) is not None:
                yield replace(card_of_student(student, self.config.task), n_params=kind.n_params)

    def _cards(self) -> Iterator[ModelCard]:
        """Yield the language models that may be trained; say why the others are not."""
        complexity = self.config.complexity
        for student in self.config.students:
            if (reason := why_not(student, _PLANNED)) is not None:
                self.left_out.add(student.name, Reason.STUDENT, reason)
                continue
            if not student.is_lm:
                continue  # measured, and so planned, by the probe
            try:
                card = card_of_student(student, self.config.task)
            except ConfigError as error:
                self.left_out.add(student.name, Reason.STUDENT, Because(str(error)))
                continue
            least = complexity.min_student_params
            if card.n_params < least:
                small = TooSmall(card.n_params, least, complexity.level)
                self.left_out.add(student.name, Reason.DECLARED, small)
            elif student.only_if_here and (slow := self._too_slow(card, None)) is not None:
                self.left_out.add(student.name, Reason.TOO_SLOW, slow)
            else:
                yield card

    def _too_slow(self, card: ModelCard, length: Length | None) -> TooSlowHere | None:
        """Return that a training on this machine takes too long; None if it does not.

        A student that the user named is tried unless that is sure, where this run would start it.

        Args:
            card: the student.
            length: of the training; None takes the longest of any strategy and teacher.
        """
        config, student = self.config, self._student(card)
        is_named = not student.only_if_here
        is_here = "distill" in config.stages and not runs_as_job(config.executor, "distill")
        is_here = is_here and config.trainer.max_time is None  # which would end it in time
        if self.calibration is None or (is_named and not is_here):
            return None
        length = length or self.lengths.longest(self.probe.teachers, card)
        job = training_job(config.trainer, student, length)
        hours = train(card, local_offer(), job, calibration=self.calibration)
        # Of a deadline the solver tells more: what plan comes nearest, and what would allow it.
        deadline = None if is_named else config.limits.deadline_hours
        limits = [config.limits.train_hours, deadline]
        most = min((limit for limit in limits if limit is not None), default=math.inf)
        if hours is None:
            return None if is_named else TooSlowHere(length.tokens, None, most)
        if is_named and hours.low > most:  # as short as it may be
            tokens = math.ceil(self.lengths.surely_read(student) * job.tokens)
            read_once = replace(job, tokens=tokens, computed=1.0)
            shortest = train(card, local_offer(), read_once, calibration=self.calibration)
            if shortest is not None and shortest.low <= most:
                return None
        is_slow = (hours.low if is_named else hours.mean) > most
        return TooSlowHere(length.tokens, hours.mean, most) if is_slow else None

    def _students_of(self, teacher: TeacherProbe, strategy: Strategy) -> list[ModelCard]:
        """Return the students that a strategy may be taken for; say why the others are not."""
        config, name = self.config, strategy.name
        if strategy.learns_rows and not strategy.writes_rows:
            self.evidence += more_rows(config, teacher)
        kinds = {student.name for student in config.students if not student.is_lm}
        able = []
        for card in self.students:
            verdict = self._verdict(teacher, strategy, card, card.name in kinds)
            if verdict.evidence:
                self.evidence.append(verdict.evidence)
            if card.name in kinds and not _suits_kinds(strategy):
                if not any(map(_suits_kinds, config.strategies)):
                    key, why_none = f"{name} to {card.name}", LearnsRows(card.name)
                    self.left_out.add(key, Reason.STUDENT, why_none, strategy=name)
                continue
            if verdict.is_taken and (slow := self._too_slow_pair(strategy, teacher, card)):
                key = f"{card.name} by {name}"
                self.left_out.add(key, Reason.TOO_SLOW, slow, strategy=name)
                continue
            if verdict.is_taken:
                able.append(card)
                if strategy.adds_rows:
                    added = strategy.added(config, teacher.teacher, teacher.exact.mean)
                    self.evidence.append(added)
                continue
            if verdict.why_not is Reason.REPEATS and verdict.concerns == "teacher":
                load = teacher_load_of(config, teacher, strategy)
                self.evidence.append(str(repeated_rows(teacher, load)))
            key = {
                "strategy": name,
                "teacher": f"{name} from {teacher.teacher}",
                "pair": f"{name} from {teacher.teacher} to {card.name}",
            }[verdict.concerns]
            assert verdict.why_not is not None, "only what is taken has no reason"
            of = "" if verdict.concerns == "strategy" else teacher.teacher
            why = Because(verdict.reason)
            self.left_out.add(key, verdict.why_not, why, strategy=name, teacher=of)
        return able

    def _too_slow_pair(
        self, strategy: Strategy, teacher: TeacherProbe, card: ModelCard
    ) -> TooSlowHere | None:
        student = self._student(card)
        if student.only_if_here or not student.is_lm:
            return None
        return self._too_slow(card, self.lengths.of_card(teacher, strategy, card))

    def _student(self, card: ModelCard) -> StudentConfig:
        return named(self.config.students, card.name)

    def _verdict(
        self, teacher: TeacherProbe, strategy: Strategy, card: ModelCard, is_kind: bool
    ) -> Verdict:
        """Return whether a strategy may be taken for a teacher and a student."""
        config, task = self.config, self.config.task
        has_weights = not is_kind and named(config.students, card.name).path is not None
        has_symbols = task.vocabulary() is not None
        kind = self.probe.of_kind(card.name)
        return pick(
            config.strategies,
            teacher,
            StudentFacts(
                card.name,
                has_weights,
                # The tokens of a cut vocabulary are no teacher's.
                card.vocab_size if self._student(card).fit.share is None else 0,
                not has_weights and has_symbols,
                not has_weights and not has_symbols,
                corrects_labels(task, [self._student(card)]),
                kind is not None and kind.gain is not None,
            ),
            config.complexity,
            task=task.name,
            can_reverse=task.can_reverse,
            n_rows=task.n_train if task.has_rows else None,
            n_unlabelled=task.n_unlabelled,
            n_made=task.n_made,
        )[strategy.name]

    # Step 2: what a pair takes, and how accurate its student is expected to be.

    def _load(self, teacher: TeacherProbe, strategy: Strategy) -> TeacherLoad:
        """Return what a teacher is asked by a strategy; say what of it is in the cache."""
        if self.cached is None:
            after_deploy = n_after_deploy(self.config, self.probe, teacher)
            return teacher_load_of(self.config, teacher, strategy, 0, after_deploy)
        n_cached = self.cached.n_answers(teacher, strategy)
        if n_cached:
            self.evidence.append(
                f"{counted(n_cached, 'answer', spec=',')} of {teacher.teacher} that "
                f"{strategy.name} asks for, already in the cache: not paid again."
            )
        after_deploy = self.cached.n_after_deploy(self.probe, teacher)
        return teacher_load_of(self.config, teacher, strategy, n_cached, after_deploy)

    def _pair(
        self, strategy: Strategy, teacher: TeacherProbe, card: ModelCard, load: TeacherLoad
    ) -> _Pair:
        if (kind := self.probe.of_kind(card.name)) is not None:
            accuracy = kind.accuracy
            if strategy.labels_rows:
                corrects = corrects_labels(self.config.task, [self._student(card)])
                n_added = strategy.n_added(self.config, teacher.exact.mean)
                accuracy = with_labels(kind, teacher, n_added, corrects=corrects)
            return _pair_of_kind(strategy, teacher, card, load, kind, accuracy)
        config, lengths = self.config, self.lengths
        length = lengths.of_card(teacher, strategy, card)
        sizes = lengths.sizes(teacher, strategy, lengths.student(card))
        accuracy = self._accuracy(strategy, teacher, card, length)
        checks = lengths.checks(teacher, strategy, card)
        requests = requests_of(config, card, self.students, strategy, sizes, self.history)
        return _Pair(strategy, teacher, card, load, length, checks, requests, accuracy)

    def _accuracy(
        self, strategy: Strategy, teacher: TeacherProbe, card: ModelCard, length: Length
    ) -> Interval:
        """Return what a language model may be expected to reach.

        Of one with a cut vocabulary its own trainings speak, else those of the whole one.
        """

        def predicted(card: ModelCard) -> Interval:
            return predict(
                card,
                self.config.task.name,
                strategy,
                teacher,
                task_version=self.config.task.version,
                history=self.history,
                pilot=self.pilot,
                tokens=length.tokens,
            )

        whole = self._whole(card)
        own = predicted(card)
        if whole is None or own.is_known:
            return own
        as_whole = predicted(replace(card, name=whole.name, runs=whole.runs))
        return of_cut(as_whole, self._read_otherwise)

    def _whole(self, card: ModelCard) -> StudentConfig | None:
        """Return the student that another one is cut from, where both are offered."""
        student = self._student(card)
        return next((each for each in self.config.students if student.is_cut_of(each)), None)

    @cached_property
    def _read_otherwise(self) -> float:
        return read_otherwise(self.config.task)

    def cuts(self) -> dict[str, Cut]:
        """Return the students with a cut vocabulary, each with the whole one."""
        cards = {card.name: card for card in self.students}
        return {
            card.name: Cut(whole.name, (weights_mb(cards[whole.name]), weights_mb(card)))
            for card in self.students
            if (whole := self._whole(card)) is not None and whole.name in cards
        }

    # Step 3: the servers of each area, and the pairs that some of them do the works of.

    def areas(self, dataset_gb: float) -> list[Pricing]:
        """Return the servers of each area; the answers that move weigh so much at most."""
        rows_of_area = areas(self.catalog.table, self.config.cloud)
        pricings = []
        for area, rows in rows_of_area.items():
            part, suffix = self.catalog, ""
            if len(rows_of_area) > 1:
                part = replace(self.catalog, table=self.catalog.table.take(rows))
                suffix = f" in {area or 'places of no known country'}"
            pricings.append(
                Pricing(
                    self.config,
                    part,
                    self.calibration,
                    self.egress,
                    dataset_gb,
                    suffix,
                    self.pilot,
                    self.probe.teachers,
                )
            )
        return pricings

    def candidates(self, pair: _Pair, pricing: Pricing) -> list[Candidate]:
        """Return a pair as candidates of an area; none where no server does one of its works.

        There are several where a limit of bytes is set: one of each size that it is served in.
        """
        limits, card, kind = self.config.limits, pair.card, pair.kind
        teacher = pricing.teacher(pair.teacher, pair.strategy.name, pair.load)
        if kind is not None:
            train_key = teacher and pricing.training_of_kind(kind)
        else:
            train_key = teacher and pricing.training(card, pair.length, pair.checks)
        if not teacher or not train_key:
            return []
        candidate = Candidate(
            teacher=pair.teacher.teacher,
            student=card.name,
            strategy=pair.strategy.name,
            accuracy=pair.accuracy,
            work=(teacher, train_key, ""),
            prompt=pair.teacher.prompt,
            # Without a limit of accuracy plans differ in nothing but the mean, and the frontier
            # keeps no plan for its low end.
            confidence=limits.confidence if limits.accuracy is not None else "mean",
            train_tokens=pair.length.tokens,
            weights_mb=weights_mb(card) if kind is None else kind_mb(kind),
        )
        if kind is not None:
            served = pricing.serving_of_kind(kind)
        else:
            lossy = too_lossy(pricing.choices, candidate.limit_accuracy, limits)
            loss = not_in(lossy, card.name, limits)
            if loss is not None and candidate.is_known:
                self.evidence.append(str(loss))
            served = pricing.serving(card, pair.strategy.kind, pair.requests, lossy)
        return [
            replace(
                candidate,
                work=(teacher, train_key, work.key),
                model_mb=work.size.model_mb,
                memory_gb=work.size.memory_gb,
            )
            for work in served
        ]

    # Step 4: what is unknown of all, and who fits on no server.

    def with_stand_in(self, candidate: Candidate) -> Candidate:
        """Return a pair of which nothing is known, to be ordered by what its teacher knows."""
        strategy = find(self.config.strategies, candidate.strategy)
        teacher = self.probe.of_teacher(candidate.teacher)
        bound = None if strategy is None else strategy.accuracy_before_training(teacher)
        return candidate if bound is None else replace(candidate, stand_in=bound.mean)

    def leave_out_unfit(self, candidates: Sequence[Candidate], areas: Sequence[Pricing]) -> None:
        """Say who is served or trained on no server of any area."""
        fitting = {name for pair in candidates for name in (pair.teacher, pair.student)}
        for pricing in areas:
            for who, (verb, n_bytes) in pricing.too_big.items():
                if who not in fitting:
                    self.left_out.add(who, Reason.NO_SERVER, self._too_big(verb, n_bytes))
            for who in pricing.no_engine - fitting:
                self.left_out.add(who, Reason.NO_SERVER, no_engine(self.config.deploy))

    def _too_big(self, verb: str, n_bytes: float) -> TooBig:
        """Return how much memory is missing, and where the most of it is."""
        table = self.catalog.table
        memory_gib = np.maximum(table.memory_gib, table.vram_gib * table.accelerator_count)
        largest = int(np.argmax(memory_gib))
        name = self.catalog.offer(largest).name
        return TooBig(verb, n_bytes / 2**30, name, float(memory_gib[largest]))


def _suits_kinds(strategy: Strategy) -> bool:
    """Return whether it learns the rows themselves: beside others no kind is measured."""
    return strategy.learns_rows and not strategy.writes_rows


def _pair_of_kind(
    strategy: Strategy,
    teacher: TeacherProbe,
    card: ModelCard,
    load: TeacherLoad,
    kind: KindProbe,
    accuracy: Interval,
) -> _Pair:
    """Return a pair whose student is no language model: it was measured on the rows themselves."""
    length = Length(0, 1, 1.0, f"{kind.n_rows:,} rows")
    checks = Checks(0, Workload(0.0, 0.0))
    return _Pair(strategy, teacher, card, load, length, checks, Requests((), ()), accuracy, kind)
