"""Build the planning problem from config, probe and catalog."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from stratos.catalog import Catalog
from stratos.catalog.offers import local_offer
from stratos.catalog.residency import areas
from stratos.config import Config, LimitsConfig
from stratos.core.errors import ConfigError
from stratos.core.formats import counted
from stratos.core.machine import slowness_now
from stratos.core.names import find
from stratos.core.reasons import Because
from stratos.distill.recipe import Length, optimizer_of
from stratos.estimate.cards import TrainingJob, Workload, card_of_student
from stratos.estimate.fleet import Calibration, calibration
from stratos.estimate.hours import train
from stratos.models.kinds.suits import LM
from stratos.models.students import is_here, why_not
from stratos.plan.accuracy.predict import predict, without_hopeless, without_model
from stratos.plan.option import Egress, list_prices
from stratos.plan.options.hosted import Kept, more_rows, n_after_deploy, not_asked
from stratos.plan.options.pricing import Pricing, no_engine, not_chosen_from, not_in, too_lossy
from stratos.plan.options.role_options import jobs_of, roles_that_are_up
from stratos.plan.options.teacher_load import TeacherLoad, teacher_load_of
from stratos.plan.options.workload import Checks, Lengths, Requests, requests_of
from stratos.plan.problem import Candidate, Exclusions, Problem
from stratos.plan.words import TooBig, TooSlowHere, TooSmall
from stratos.records import CardRun, Interval, KindProbe, ModelCard, Pilot, Probe, TeacherProbe
from stratos.synthesize.choice import Reason, StudentFacts, pick
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
    kept: Kept | None = None,
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
        kept: what paid teachers answered before; None where that is not looked at.
        with_hopeless: keep students that learn next to nothing beside better ones.
    """
    left_out, evidence = Exclusions(), list[str]()
    for name, why in probe.unreachable.items():
        left_out.add(name, Reason.UNREACHABLE, Because(why), teacher=name)
    if (baseline := without_model(probe)) is not None:
        evidence.append(str(baseline))
    lengths = Lengths(config)
    students = [
        *_cards_of_kinds(config, probe),
        *_students(config, probe.teachers, lengths, calibration, left_out),
    ]
    taken = [
        (strategy, teacher, cards)
        for strategy in config.strategies
        for teacher in probe.teachers
        if (cards := _students_of(config, teacher, strategy, students, left_out, evidence))
    ]
    pairs: list[_Pair] = []
    for strategy, teacher, cards in taken:
        load = _load(config, probe, teacher, strategy, kept, evidence)
        for card in cards:
            if (kind := probe.of_kind(card.name)) is not None:
                pairs.append(_pair_of_kind(strategy, teacher, card, load, kind))
                continue
            length = lengths.of_card(teacher, strategy, card)
            sizes = lengths.sizes(teacher, strategy, lengths.student(card))
            accuracy = predict(
                card,
                config.task.name,
                strategy,
                teacher,
                task_version=config.task.version,
                history=history,
                pilot=pilot,
                tokens=length.tokens,
            )
            checks = lengths.checks(teacher, strategy, card)
            requests = requests_of(config, card, students, strategy, sizes, history)
            pairs.append(_Pair(strategy, teacher, card, load, length, checks, requests, accuracy))
    egress = _egress(catalog)
    heaviest = max((pair.load.dataset_gb for pair in pairs), default=0.0)
    rows_of_area = areas(catalog.table, config.cloud)
    priced: list[Pricing] = []
    candidates: list[Candidate] = []
    for area, rows in rows_of_area.items():
        part, suffix = catalog, ""
        if len(rows_of_area) > 1:
            part = replace(catalog, table=catalog.table.take(rows))
            suffix = f" in {area or 'places of no known country'}"
        pricing = Pricing(
            config, part, calibration, egress, heaviest, suffix, pilot, probe.teachers
        )
        priced.append(pricing)
        for pair in pairs:
            if (candidate := _candidate(config, pair, pricing, evidence)) is not None:
                candidates.append(candidate)
    if not any(candidate.is_known for candidate in candidates):
        candidates = [_with_stand_in(candidate, config, probe) for candidate in candidates]
    if not with_hopeless:
        candidates = list(without_hopeless(config, candidates, left_out))
    fitting = {name for pair in candidates for name in (pair.teacher, pair.student)}
    for pricing in priced:
        for who, (verb, n_bytes) in pricing.too_big.items():
            if who not in fitting:
                left_out.add(who, Reason.NO_SERVER, _too_big(verb, n_bytes, catalog))
        for who in pricing.no_engine - fitting:
            left_out.add(who, Reason.NO_SERVER, no_engine(config.deploy))
    return Problem(
        candidates=tuple(candidates),
        options=_joined(pricing.options for pricing in priced),
        limits=config.limits,
        objective=config.objective,
        strategies={strategy.name: strategy for strategy in config.strategies},
        exclusions=tuple(left_out.values()),
        not_rented=catalog.left_out,
        evidence=tuple(dict.fromkeys(evidence)),
        warnings=(*catalog.warnings, *map(str, not_chosen_from(config.deploy))),
        wait_hours=catalog.wait_hours,
        preempts=catalog.preempts,
        n_offers=len(catalog.table),
        max_tokens={one.teacher: one.max_tokens_by_prompt for one in probe.teachers},
        teachers={teacher.teacher: _card(teacher) for teacher in probe.teachers},
        assumed=_joined(pricing.assumed for pricing in priced),
        rates=_joined(pricing.rates for pricing in priced),
        gb=_joined(pricing.gb for pricing in priced),
        egress=egress,
        caps=replace(priced[0].market.caps, stock=_joined(one.market.caps.stock for one in priced)),
        ranges=_joined(pricing.ranges for pricing in priced),
        mix_gap=MIX_GAP,
        settings=config.plan,
        up=roles_that_are_up(config),
        jobs=jobs_of(config),
    )


def this_machine(config: Config, cache_dir: Path) -> Calibration | None:
    """Return the measurement of this machine, if it may be planned or a student depends on it.

    Where it may be planned, with what its other work takes of it now.
    """
    if "local" in config.cloud.providers:
        # Those of random weights are so small that their products are the lesser part.
        from_weights = any(student.path is not None for student in config.students)
        with_bf16 = from_weights and config.trainer.precision != "fp32"
        here = calibration(cache_dir, with_bf16=with_bf16)
        return replace(here, slowness=slowness_now())
    depends = any(student.only_if_here and is_here(student) for student in config.students)
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


def _pair_of_kind(
    strategy: Strategy, teacher: TeacherProbe, card: ModelCard, load: TeacherLoad, kind: KindProbe
) -> _Pair:
    """Return a pair whose student is no language model: it was measured on the rows themselves."""
    accuracy = kind.accuracy
    if strategy.labels_rows:
        low, high = kind.gain or (0.0, 0.0)
        taught = min(accuracy.mean + (low + high) / 2, teacher.exact.mean)
        accuracy = Interval(
            max(accuracy.mean, taught),
            accuracy.low,
            min(1.0, accuracy.high + high),
            f"{accuracy.source}, and what labels of {teacher.teacher} may add",
        )
    length = Length(0, 1, 1.0, f"{kind.n_rows:,} rows")
    checks = Checks(0, Workload(0.0, 0.0))
    return _Pair(strategy, teacher, card, load, length, checks, Requests((), ()), accuracy, kind)


def _cards_of_kinds(config: Config, probe: Probe) -> Iterator[ModelCard]:
    """Yield the cards of the students that are no language models."""
    for student in config.students:
        if (kind := probe.of_kind(student.name)) is not None:
            yield replace(card_of_student(student, config.task), n_params=kind.n_params)


def _load(
    config: Config,
    probe: Probe,
    teacher: TeacherProbe,
    strategy: Strategy,
    kept: Kept | None,
    evidence: list[str],
) -> TeacherLoad:
    """Return what a teacher is asked by a strategy; say what of it is in the cache."""
    if kept is None:
        after_deploy = n_after_deploy(config, probe, teacher)
        return teacher_load_of(config, teacher, strategy, 0, after_deploy)
    n_cached = kept.n_answers(teacher, strategy)
    if n_cached:
        evidence.append(
            f"{counted(n_cached, 'answer', spec=',')} of {teacher.teacher} that "
            f"{strategy.name} asks for, already in the cache: not paid again."
        )
    after_deploy = kept.n_after_deploy(probe, teacher)
    return teacher_load_of(config, teacher, strategy, n_cached, after_deploy)


def _candidate(
    config: Config, pair: _Pair, pricing: Pricing, evidence: list[str]
) -> Candidate | None:
    """Return a pair as a candidate of an area; None where no server does one of its works."""
    strategy, teacher, card = pair.strategy, pair.teacher, pair.card
    teacher_key = pricing.teacher(teacher, strategy.name, pair.load)
    if teacher_key is None:
        return None
    if (kind := pair.kind) is not None:
        train_key = pricing.training_of_kind(kind)
    else:
        train_key = pricing.training(card, pair.length, pair.checks)
    if train_key is None:
        return None
    candidate = Candidate(
        teacher=teacher.teacher,
        student=card.name,
        strategy=strategy.name,
        accuracy=pair.accuracy,
        work=(teacher_key, train_key, ""),
        prompt=teacher.prompt,
        confidence=_counted(config.limits),
        train_tokens=pair.length.tokens,
    )
    if kind is not None:
        serve_key = pricing.serving_of_kind(kind)
        return (
            None if serve_key is None else replace(candidate, work=(*candidate.work[:2], serve_key))
        )
    lossy = too_lossy(pricing.choices, candidate.limit_accuracy, config.limits)
    loss = not_in(lossy, card.name, config.limits)
    if loss is not None and candidate.is_known:
        evidence.append(str(loss))
    serve_key = pricing.serving(card, strategy.kind, pair.requests, lossy)
    if serve_key is None:
        return None
    return replace(candidate, work=(teacher_key, train_key, serve_key))


def _students_of(
    config: Config,
    teacher: TeacherProbe,
    strategy: Strategy,
    students: Sequence[ModelCard],
    left_out: Exclusions,
    evidence: list[str],
) -> list[ModelCard]:
    """Return the students that a strategy may be taken for; say why the others are not."""
    name = strategy.name
    if strategy.learns_rows and not strategy.writes_rows:
        evidence += more_rows(config, teacher)
    kinds = {one.name for one in config.students if one.kind != LM}
    pretrained = {one.name for one in config.students if one.path is not None} - kinds
    has_symbols = config.task.vocabulary() is not None
    taken = []
    for card in students:
        verdict = pick(
            config.strategies,
            teacher,
            StudentFacts(
                card.name,
                card.name in pretrained,
                card.vocab_size,
                card.name not in pretrained and has_symbols,
                card.name not in pretrained and not has_symbols,
            ),
            config.complexity,
            task=config.task.name,
            can_reverse=config.task.can_reverse,
            n_rows=config.task.n_train if config.task.has_rows else None,
            n_unlabelled=config.task.n_unlabelled,
            n_made=config.task.n_made,
        )[name]
        if verdict.evidence:
            evidence.append(verdict.evidence)
        if card.name in kinds and (not strategy.learns_rows or strategy.writes_rows):
            continue  # it learns answers of rows, and cannot be measured beside rows made of them
        if verdict.is_taken:
            taken.append(card)
            if strategy.adds_rows:
                covered = teacher.exact.mean
                evidence.append(strategy.added(config.task, teacher.teacher, covered))
            continue
        if verdict.why_not is Reason.REPEATS and verdict.concerns == "teacher":
            evidence.append(str(not_asked(config, teacher, strategy)))
        key = {
            "strategy": name,
            "teacher": f"{name} from {teacher.teacher}",
            "pair": f"{name} from {teacher.teacher} to {card.name}",
        }[verdict.concerns]
        assert verdict.why_not is not None, "only what is taken has no reason"
        of = "" if verdict.concerns == "strategy" else teacher.teacher
        why = Because(verdict.reason)
        left_out.add(key, verdict.why_not, why, strategy=name, teacher=of)
    return taken


def _card(teacher: TeacherProbe) -> ModelCard:
    """Return the facts of a teacher; a log stays when its model ends."""
    return teacher.card if teacher.logged is None else replace(teacher.card, retires="")


def _students(
    config: Config,
    teachers: Sequence[TeacherProbe],
    lengths: Lengths,
    measured: Calibration | None,
    left_out: Exclusions,
) -> Iterator[ModelCard]:
    """Yield the students that may be trained; say why the others are not."""
    complexity = config.complexity
    for student in config.students:
        reason = why_not(student, _PLANNED)
        if reason is not None:
            left_out.add(student.name, Reason.STUDENT, reason)
            continue
        if student.kind != LM:
            continue  # measured, and so planned, by the probe
        try:
            card = card_of_student(student, config.task)
        except ConfigError as error:
            left_out.add(student.name, Reason.STUDENT, Because(str(error)))
            continue
        if card.n_params < complexity.min_student_params:
            left_out.add(
                student.name,
                Reason.DECLARED,
                TooSmall(card.n_params, complexity.min_student_params, complexity.level),
            )
        elif (
            student.only_if_here
            and measured is not None
            and (why := _too_slow(config, card, lengths, teachers, measured))
        ):
            left_out.add(student.name, Reason.TOO_SLOW, why)
        else:
            yield card


def _with_stand_in(candidate: Candidate, config: Config, probe: Probe) -> Candidate:
    """Return a pair of which nothing is known, to be ordered by what its teacher knows."""
    strategy = find(config.strategies, candidate.strategy)
    teacher = probe.of_teacher(candidate.teacher)
    bound = None if strategy is None else strategy.accuracy_before_training(teacher)
    return candidate if bound is None else replace(candidate, stand_in=bound.mean)


def _counted(limits: LimitsConfig) -> Literal["low", "mean"]:
    """Return what of an interval counts under the limits: without one of accuracy, the mean alone.

    Then plans differ in nothing else, and the frontier keeps no plan for its low end.
    """
    return limits.confidence if limits.accuracy is not None else "mean"


def _too_slow(
    config: Config,
    card: ModelCard,
    lengths: Lengths,
    teachers: Sequence[TeacherProbe],
    measured: Calibration,
) -> TooSlowHere | None:
    """Return that a training on this machine takes too long; None if it does not."""
    length = lengths.longest(teachers, card)
    tokens = length.tokens
    student = lengths.student(card)
    job = TrainingJob(
        tokens,
        length.batch_tokens,
        student.context_length,
        optimizer=optimizer_of(config.trainer, student.path is None),
        precision=config.trainer.precision,
    )
    hours = train(card, local_offer(), job, calibration=measured)
    limits = [config.limits.train_hours, config.limits.deadline_hours]
    most = min((hours for hours in limits if hours is not None), default=math.inf)
    if hours is not None and hours.mean <= most:
        return None
    return TooSlowHere(tokens, None if hours is None else hours.mean, most)


def _too_big(verb: str, n_bytes: float, catalog: Catalog) -> TooBig:
    """Return how much memory is missing, and where the most of it is."""
    table = catalog.table
    memory_gib = np.maximum(table.memory_gib, table.vram_gib * table.accelerator_count)
    largest = int(np.argmax(memory_gib))
    name = catalog.offer(largest).name
    return TooBig(verb, n_bytes / 2**30, name, float(memory_gib[largest]))
