"""From config, probe and catalog to the problem: which pairs there are, what each role costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean
from typing import Any

from stratos.catalog import Catalog
from stratos.config import Config
from stratos.errors import ConfigError
from stratos.estimate import (
    Workload,
    answer_seconds,
    batch_hours,
    card_of_student,
    fits_inference,
    fits_training,
    train_hours,
)
from stratos.estimate import constants as k
from stratos.estimate.inference import inference_bytes
from stratos.estimate.training import training_bytes
from stratos.plan.accuracy import predict
from stratos.plan.problem import Candidate, Option, Problem
from stratos.records import ModelCard, Offer, Probe, TeacherProbe

MIN_COVERAGE = 0.3
"""Least teacher accuracy for alignment, where the strategy does not say."""


@dataclass
class _Builder:
    """Collects options and reasons while the candidates are gone through."""

    config: Config
    catalog: Catalog
    options: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)

    def work(self, key: str, what: str, options: Iterable[Option], too_big: str) -> bool:
        """Keep the options of a work, which is read once; say why if there are none."""
        if key not in self.options:
            self.options[key] = tuple(options)
        if not self.options[key]:
            self.left_out[what] = too_big
        return bool(self.options[key])

    def servers(
        self, fits: Callable[[Offer], bool], spot_allowed: bool
    ) -> Iterator[tuple[Offer, bool, float]]:
        """Yield the servers that fit, with their price, on demand and on spot."""
        for offer, spot, price in self.market:
            if (spot_allowed or not spot) and fits(offer):
                yield offer, spot, price

    @cached_property
    def market(self) -> tuple[tuple[Offer, bool, float], ...]:
        """The cheapest offer of every kind of hardware, on demand and on spot.

        Nothing that a plan is judged by tells two offers of the same hardware apart but the price,
        so the dearer one is dominated. (Machines here are a kind of their own: they start at once.)
        """
        cap = self.config.cloud.max_usd_per_hour
        best: dict[tuple[Any, ...], tuple[float, str, Offer, bool]] = {}
        for offer in self.catalog.offers:
            prices = [(False, offer.usd_per_hour)]
            if self.config.cloud.spot and offer.usd_per_hour_spot is not None:
                prices.append((True, offer.usd_per_hour_spot))
            hardware = (
                offer.cloud == "local",
                offer.accelerator,
                offer.accelerator_count,
                offer.vcpus,
                offer.memory_gib,
            )
            for spot, price in prices:
                found = (price, offer.name, offer, spot)
                key = (*hardware, spot)
                if (cap is None or price <= cap) and (key not in best or found[:2] < best[key][:2]):
                    best[key] = found
        return tuple((offer, spot, price) for price, _, offer, spot in best.values())


def build_problem(config: Config, probe: Probe, catalog: Catalog) -> Problem:
    """Return the problem that the plan is the solution of."""
    builder = _Builder(config, catalog)
    builder.left_out.update(probe.unreachable)
    students = list(_students(builder))
    candidates: list[Candidate] = []
    for strategy in config.strategies:
        if strategy.name.startswith("injection") and not config.task.can_reverse:
            builder.left_out[strategy.name] = (
                f"the task {config.task.name} cannot build a question from an answer"
            )
            continue
        for teacher in probe.teachers:
            if not _covers(builder, teacher, strategy):
                continue
            teacher_key = f"teacher {teacher.teacher} {strategy.name}"
            if not _teacher_work(builder, teacher_key, teacher, strategy):
                continue
            for card in students:
                work = _workload(config, card, students, strategy.name)
                train_key = f"train {card.name}"
                serve_key = f"serve {card.name} {strategy.name}"
                if _train_work(builder, train_key, card) and _serve_work(
                    builder, serve_key, card, work
                ):
                    candidates.append(
                        Candidate(
                            teacher=teacher.teacher,
                            student=card.name,
                            strategy=strategy.name,
                            accuracy=predict(card, config.task.name, strategy.name, teacher),
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
    )


def _students(builder: _Builder) -> Iterable[ModelCard]:
    for student in builder.config.students:
        try:
            yield card_of_student(student, builder.config.task)
        except ConfigError as error:
            builder.left_out[student.name] = str(error)


def _covers(builder: _Builder, teacher: TeacherProbe, strategy: Any) -> bool:
    """Return whether the teacher knows enough of the task for the strategy, and say so."""
    if not strategy.name.startswith("alignment"):
        return True
    least = float(getattr(strategy, "min_coverage", MIN_COVERAGE))
    covered = teacher.exact
    measured = (
        f"{teacher.teacher} answered {covered.mean:.1%} of {teacher.n_items} validation items "
        f"exactly (95% interval {covered.low:.1%} to {covered.high:.1%})"
    )
    if covered.mean >= least:
        builder.evidence.append(
            f"{measured}, at least the {least:.0%} that {strategy.name} needs: its answers can be "
            "learnt from."
        )
        return True
    builder.evidence.append(
        f"{measured}, below the {least:.0%} that {strategy.name} needs: too few of its answers "
        "would survive verification."
    )
    builder.left_out[f"{strategy.name} from {teacher.teacher}"] = (
        f"coverage {covered.mean:.3f} is below min_coverage {least:g}"
    )
    return False


def _teacher_work(builder: _Builder, key: str, teacher: TeacherProbe, strategy: Any) -> bool:
    """Options of the teacher's answers: those of the evaluation, and those it is to teach with."""
    n_answers = builder.config.evaluate.n_teacher_items + _training_answers(strategy)
    asked = max(1, teacher.n_items)
    work = Workload(teacher.input_tokens / asked, teacher.output_tokens / asked)
    card = teacher.card
    price_in, price_out = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    if price_in is not None or price_out is not None:
        usd = (
            n_answers
            / 1e6
            * (work.prompt_tokens * (price_in or 0.0) + work.answer_tokens * (price_out or 0.0))
        )
        hosted = Option(
            offer=None,
            spot=False,
            hours=_api_hours(teacher, n_answers),
            usd=usd,
            note=f"hosted, {n_answers} answers by the token",
        )
        return builder.work(key, teacher.teacher, [hosted], "")

    def options() -> Iterator[Option]:
        for offer, spot, price in builder.servers(
            lambda o: fits_inference(card, o, work.context), builder.config.cloud.spot
        ):
            hours = batch_hours(card, offer, work, n_answers) * (k.SPOT_OVERHEAD if spot else 1.0)
            yield Option(offer, spot, hours, hours * price, note=f"{n_answers} answers")

    return builder.work(
        key,
        teacher.teacher,
        options(),
        _too_big("answer", inference_bytes(card, work.context), builder.catalog),
    )


def _training_answers(strategy: Any) -> int:
    """Return the most answers that the strategy asks of the teacher; injection asks for none."""
    if not strategy.name.startswith("alignment"):
        return 0
    return int(getattr(strategy, "n_items", 0)) * int(getattr(strategy, "n_samples", 1))


def _api_hours(teacher: TeacherProbe, n_answers: int) -> float:
    """Hours of a hosted teacher: its rate limit, and the pace that the probe saw."""
    hours = 0.0
    if teacher.card.max_requests_per_minute:
        hours = n_answers / teacher.card.max_requests_per_minute / 60
    pace = teacher.seconds / max(1, teacher.n_items)
    return max(hours, n_answers * pace / 3600)


def _train_work(builder: _Builder, key: str, card: ModelCard) -> bool:
    config = builder.config
    student = next(s for s in config.students if s.name == card.name)
    trainer = config.trainer
    tokens = trainer.max_tokens or student.train_tokens

    def options() -> Iterator[Option]:
        for offer, spot, price in builder.servers(
            lambda o: fits_training(card, o, trainer.batch_tokens), config.cloud.spot
        ):
            hours = train_hours(card, offer, tokens, trainer.batch_tokens, student.context_length)
            hours *= k.SPOT_OVERHEAD if spot else 1.0
            yield Option(offer, spot, hours, hours * price, note=f"{tokens:,} tokens")

    return builder.work(
        key,
        card.name,
        options(),
        _too_big("train", training_bytes(card, trainer.batch_tokens), builder.catalog),
    )


def _serve_work(builder: _Builder, key: str, card: ModelCard, work: Workload) -> bool:
    hours = builder.config.limits.serve_hours
    options = (
        Option(
            offer=offer,
            spot=False,
            hours=hours,
            usd=hours * price,
            latency_ms=1000 * k.P95_OVER_MEAN * answer_seconds(card, offer, work),
            note=f"{hours:g} h of serving",
        )
        for offer, _, price in builder.servers(
            lambda o: fits_inference(card, o, work.context), spot_allowed=False
        )
    )
    return builder.work(
        key,
        card.name,
        options,
        _too_big("serve", inference_bytes(card, work.context), builder.catalog),
    )


def _workload(
    config: Config, card: ModelCard, all_cards: list[ModelCard], strategy: str
) -> Workload:
    """Shape of the student's answers: its own runs, those of other students, or an assumption."""
    for cards in ([card], all_cards):
        seen = [
            run.tokens_per_answer
            for other in cards
            for run in other.runs
            if run.task == config.task.name and run.strategy == strategy
        ]
        if seen:
            return Workload(k.STUDENT_PROMPT_TOKENS, mean(seen), config.task.name, strategy)
    assumed = min(k.ASSUMED_ANSWER_TOKENS, config.evaluate.max_new_tokens)
    return Workload(k.STUDENT_PROMPT_TOKENS, assumed, config.task.name, strategy)


def _too_big(verb: str, n_bytes: float, catalog: Catalog) -> str:
    """Say how much memory is missing, and where the most of it is."""

    def memory_gib(offer: Offer) -> float:
        return max(offer.memory_gib, offer.vram_gib * offer.accelerator_count)

    largest = max(catalog.offers, key=memory_gib)
    return (
        f"needs {n_bytes / 2**30:.1f} GiB to {verb}, and no server that is allowed holds it (the "
        f"largest is {largest.name} with {memory_gib(largest):.0f} GiB)"
    )
