"""Price a role's work on the servers of one area.

Hours of jobs on this machine, by the clock of what probe and pilot have done here.

The calibration of this machine counts CPU seconds, which other work on it does not change; the
clock of a job does. The probe has just asked the same teacher here, and the pilot has trained the
same student. Their clock tells the mean. What nobody knows, whether the other work goes on, is the
width: from the estimate of a machine that is free to that pace with its own error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from stratos.catalog import Catalog
from stratos.catalog.offers import local_offer
from stratos.catalog.table import Bools, Floats, Ints
from stratos.config import Config
from stratos.core.formats import counted
from stratos.core.values import named
from stratos.deploy.engines.cost import WeightFormat
from stratos.distill.trainer import Length
from stratos.estimate import constants as k
from stratos.estimate.answering import EngineChoice, runners
from stratos.estimate.cards import Workload, serving_bytes, training_memory
from stratos.estimate.fleet import Calibration, Fleet, Ranges, device_of, startup_hours, within
from stratos.estimate.hours import generate_all, train_all
from stratos.estimate.serving import serving_all, serving_table_of_kind
from stratos.models.kinds.student_kinds import KINDS
from stratos.plan.option import BYTES_PER_PARAM, Egress, Option
from stratos.plan.options.market import Market, OfferGroups, open_market
from stratos.plan.options.role_options import (
    Job,
    JobServers,
    Service,
    engine_choices,
    job_options,
    runs_as_job,
    service_options,
    without,
)
from stratos.plan.options.sizes import Sized, size_of_kind, sizes_of
from stratos.plan.options.teacher import Load, TeacherLoad, hosted_options, is_hosted
from stratos.plan.options.workload import Checks, Requests, rates_of, training_job
from stratos.plan.pareto import Slack
from stratos.records import Assumption, KindProbe, ModelCard, Pilot, PilotPoint, TeacherProbe


def trained_here(
    estimated: Ranges, here: Bools, pilot: Pilot | None, student: str, tokens: int
) -> Ranges | None:
    """Return hours of a training, those on this machine by the pilot's pace; None without one.

    Args:
        estimated: hours on each of some servers that do nothing else.
        here: which of them is this machine.
        pilot: short trainings that were made here.
        student: name of the student that is trained.
        tokens: of its training.
    """
    points = sorted(_points(pilot, student), key=lambda point: point.train_tokens)
    if not points:
        return None
    seconds, last = _at(points, tokens), points[-1]
    # A short training's part before its first step makes its pace the slowest there may be.
    slowest = max(seconds, last.train_seconds * tokens / last.train_tokens)
    ends = seconds / k.CPU_CALIBRATED_ERROR, k.CPU_CALIBRATED_ERROR * slowest
    measured = (np.full_like(estimated.mean, clock / 3600) for clock in (seconds, *ends))
    return _spanned(estimated, here, Ranges(*measured))


def slowed_now(estimated: Ranges, here: Bools, slowness: float) -> Ranges:
    """Return hours with the other work that this machine has now; how long that lasts is unknown.

    Args:
        estimated: hours on each of some servers that do nothing else.
        here: which of them is this machine.
        slowness: how many times as long work takes here now.
    """
    slow = Ranges(estimated.mean * slowness, estimated.low, estimated.high * slowness)
    return slow.where(here, estimated)


def answered_here(estimated: Ranges, fleet: Fleet, n_nodes: Ints, probed: TeacherProbe) -> Ranges:
    """Return hours of a local teacher's answers, those on this machine by the probe's pace.

    Args:
        estimated: hours on each of some servers that do nothing else.
        fleet: the servers.
        n_nodes: how many of each are together.
        probed: the teacher, and its answers to the probe, which were given here.
    """
    slowness = _slowness(fleet, n_nodes, probed)
    ends = (estimated.mean, estimated.low, estimated.high)
    return _spanned(estimated, fleet.calibrated, Ranges(*(hours * slowness for hours in ends)))


def perhaps_slowed(
    estimated: Ranges, fleet: Fleet, n_nodes: Ints, teachers: Iterable[TeacherProbe]
) -> Ranges:
    """Return hours whose upper ends on this machine are as far off as those of the probe were.

    What slowed the answers of a local teacher may slow another job, too.

    Args:
        estimated: hours on each of some servers that do nothing else.
        fleet: the servers.
        n_nodes: how many of each are together.
        teachers: the probe, which was made here.
    """
    high = estimated.high
    for probed in teachers:
        slowness = np.nan_to_num(_slowness(fleet, n_nodes, probed), nan=1.0)
        high = np.maximum(high, estimated.high * slowness)
    return Ranges(estimated.mean, estimated.low, high).where(fleet.calibrated, estimated)


def _slowness(fleet: Fleet, n_nodes: Ints, probed: TeacherProbe) -> Floats:
    """Return the seconds of the probe over those of each server that does nothing else.

    NaN where a server does not hold the teacher; 1 where its answers were not given here.
    """
    n = probed.n_items
    if not n or probed.n_cached or not probed.seconds or is_hosted(probed.card):
        return np.ones(len(fleet))
    work = Workload(probed.input_tokens / n, probed.output_tokens / n)
    slowness: Floats = (
        probed.seconds / 3600 / generate_all(probed.card, fleet, work, n, n_nodes)[0].mean
    )
    return slowness


def _spanned(estimated: Ranges, here: Bools, measured: Ranges) -> Ranges:
    """Return the hours here as measured, from the least to the most of both; others stay."""
    spanned = Ranges(
        measured.mean,
        np.minimum(estimated.low, measured.low),
        np.maximum(estimated.high, measured.high),
    )
    # A server whose memory does not hold it has no hours.
    return spanned.where(here & ~np.isnan(estimated.mean) & ~np.isnan(measured.mean), estimated)


def _points(pilot: Pilot | None, student: str) -> list[PilotPoint]:
    """Return the trainings of a student by any strategy: a token takes as long in each."""
    return [
        point
        for run in (pilot.runs if pilot is not None else ())
        for point in run.points
        if run.student == student
    ]


def _at(points: Sequence[PilotPoint], tokens: int) -> float:
    """Return the seconds of a training: a line through the two longest, no steeper than by ratio.

    The line has the fixed part of a training; where noise makes it fall, the ratio stays.
    """
    last = points[-1]
    slope = by_ratio = last.train_seconds / last.train_tokens
    shorter = [point for point in points if point.train_tokens < last.train_tokens]
    before = shorter[-1] if shorter else None
    if before is not None:
        rise = last.train_seconds - before.train_seconds
        slope = min(by_ratio, rise / (last.train_tokens - before.train_tokens))
    if slope <= 0:
        slope = by_ratio
    return last.train_seconds + slope * (tokens - last.train_tokens)


_KIND_ERROR = 2.0
"""Factor by which the seconds of a training may be off whose folds were timed."""


@dataclass
class Pricing:
    """The options of all works on the servers of one area; a work is priced when it is asked for.

    A work is named by a key; `suffix` tells the keys of several areas apart.
    """

    config: Config
    catalog: Catalog
    """The offers of the area."""
    calibration: Calibration | None
    egress: Egress
    dataset_gb: float
    """The most GB that any teacher's answers weigh."""
    suffix: str = ""
    pilot: Pilot | None = None
    """Short trainings on this machine."""
    teachers: tuple[TeacherProbe, ...] = ()
    """The probe."""
    options: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    rates: dict[str, tuple[float, ...]] = field(default_factory=dict)
    gb: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, tuple[Assumption, ...]] = field(default_factory=dict)
    too_big: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Who is held by no server of the area: what it is to do, and the bytes that takes."""
    no_engine: set[str] = field(default_factory=set)
    """Students that no engine of the choice serves on a server of the area."""

    @cached_property
    def choices(self) -> tuple[EngineChoice, ...] | None:
        """The engines that the config lets the plan choose from."""
        return engine_choices(self.config.deploy)

    @cached_property
    def market(self) -> Market:
        """The servers that the config allows."""
        return open_market(self.catalog, self.config.cloud, self.config.cloud.spot)

    @cached_property
    def offer_groups(self) -> OfferGroups:
        """The same, sorted, with their hardware."""
        fleet = Fleet.of([device_of(kind, self.calibration) for kind in self.market.kinds])
        return OfferGroups.of(self.market, fleet)

    @cached_property
    def job_servers(self) -> JobServers:
        """Those that stages may have as jobs of the executor."""
        config = self.config
        return JobServers.of(
            config.cloud, config.executor, self.catalog, self.calibration, self.egress
        )

    @cached_property
    def slack(self) -> Slack:
        """What a place can be the dearer by, of a work that moves nothing."""
        return Slack.of(self.catalog.table.places, self.egress)

    def teacher(self, probed: TeacherProbe, strategy: str, asks: TeacherLoad) -> str | None:
        """Return the key of a teacher's answers, those of the evaluation among them.

        None if no server holds the teacher.
        """
        key = f"teacher {probed.teacher} {strategy}{self.suffix}"
        load, card = Load(asks.n_answers, asks.work), probed.card
        ends = (asks.least, asks.most) if asks.why else None
        if key not in self.options:
            self.gb[key] = asks.dataset_gb
            self.assumed[key] = asks.assumptions
            if asks.why:
                self.ranges[key] = asks.why
            if is_hosted(card):
                self.options[key] = hosted_options(
                    probed,
                    load,
                    ends,
                    evaluated=asks.evaluated,
                    scored=asks.scored,
                    after_deploy=asks.after_deploy,
                    most_tokens=asks.most_tokens,
                )
            else:
                self.options[key] = self._job_options(
                    "synthesize",
                    lambda fleet, n: self._answered(
                        _generate(card, fleet, n, load, ends), fleet, n, probed
                    ),
                    counted(load.n_answers, "answer"),
                    gb_out=self.gb[key],
                )
        if is_hosted(card):  # its size, which nobody may know, is its host's care
            return key
        return self._held(key, probed.teacher, "answer", serving_bytes(card, asks.longest))

    def training(self, card: ModelCard, length: Length, checks: Checks | None = None) -> str | None:
        """Return the key of a student's training of some length, None if no server holds it.

        Args:
            card: the student.
            length: of the training.
            checks: its validations, which take their time on this machine; None leaves them out.
        """
        config = self.config
        key = f"train {card.name} {length.tokens} {length.batch_tokens} {length.computed:.3g}"
        if checks is not None and self.calibration is not None:
            key += f" {checks.n_answers}+{checks.work.answer_tokens:.3g}"
        key += self.suffix
        if key not in self.options:
            student = named(config.students, card.name)
            training = training_job(config.trainer, student, length)
            n_servers = 1 if config.traffic.requests_per_s is None else config.cloud.max_nodes
            self.options[key] = self._job_options(
                "distill",
                lambda fleet, n: self._trained(
                    _checked(train_all(card, fleet, training, n)[0], card, fleet, n, checks),
                    fleet,
                    n,
                    card.name,
                    length.tokens,
                ),
                f"{length.tokens:,} tokens: {length.reason}",
                gb_in=self.dataset_gb,
                gb_out=n_servers * _bundle_gb(card),
            )
        return self._held(key, card.name, "train", training_memory(card, length.batch_tokens).total)

    @property
    def _was_probed_here(self) -> bool:
        return (
            not runs_as_job(self.config.executor, "probe")
            and self.config.paths.records_from is None
        )

    def _answered(self, hours: Ranges, fleet: Fleet, n: Ints, probed: TeacherProbe) -> Ranges:
        """Return the hours of answers, those on this machine by the probe that was made here."""
        is_here = self._was_probed_here and fleet.calibrated.any()
        return answered_here(hours, fleet, n, probed) if is_here else hours

    def _trained(self, hours: Ranges, fleet: Fleet, n: Ints, student: str, tokens: int) -> Ranges:
        """Return the hours of a training, those on this machine by what pilot or probe took."""
        if not fleet.calibrated.any():
            return hours
        by_pilot = trained_here(hours, fleet.calibrated, self.pilot, student, tokens)
        if by_pilot is not None:
            return by_pilot
        slowness = 1.0 if self.calibration is None else self.calibration.slowness
        now = slowed_now(hours, fleet.calibrated, slowness)
        if not self._was_probed_here:
            return now
        perhaps = perhaps_slowed(hours, fleet, n, self.teachers)
        return Ranges(now.mean, now.low, np.fmax(now.high, perhaps.high))

    def _job_options(
        self,
        stage: str,
        hours: Callable[[Fleet, Ints], Ranges],
        note: str,
        gb_in: float = 0.0,
        gb_out: float = 0.0,
    ) -> tuple[Option, ...]:
        """Return the options of a work that ends, by the stage that does it.

        As a job it has one node, and a training those that `trainer.num_nodes` names.
        """
        config = self.config
        if not runs_as_job(config.executor, stage):
            return job_options(
                self.offer_groups, Job(hours, self.slack.moving(gb_in, gb_out), note)
            )
        servers = self.job_servers
        nodes = config.trainer.num_nodes if stage == "distill" else 1
        return servers.options(Job(hours, servers.slack.moving(gb_in, gb_out), note, nodes))

    def serving(
        self,
        card: ModelCard,
        strategy: str,
        requests: Requests,
        left_out: frozenset[WeightFormat] = frozenset(),
    ) -> list[Sized]:
        """Return the works of serving a student that a strategy trained; none where none holds it.

        There is one, or one of each size where a limit of bytes is set.
        """
        config, works = self.config, requests.works
        names = sorted(form.name for form in left_out)
        fewer = f" without {' '.join(names)}" if left_out else ""
        name = f"serve {card.name} {strategy} {requests.name}{fewer}"
        choices = self.choices
        if choices is not None and left_out:
            choices = without(choices, left_out)
        context = max(work.context for work in works)
        alone = config.traffic.requests_per_s is None
        served = []
        for size, some in sizes_of(card, context, choices, config.limits, one_at_a_time=alone):
            key = f"{name}{size.suffix}{self.suffix}"
            if key not in self.options:
                self._serve(key, card, requests, some)
            if self.options[key]:
                served.append(Sized(key, size))
        if not served:
            fleet = self.offer_groups.fleet
            if any(runner.runs.any() for runner in runners(card, fleet, choices)):
                self.too_big[card.name] = ("serve", serving_bytes(card, context))
            else:
                self.no_engine.add(card.name)
        return served

    def _serve(
        self,
        key: str,
        card: ModelCard,
        requests: Requests,
        choices: Sequence[EngineChoice] | None,
    ) -> None:
        """Price a work of serving a student by some engines."""
        config, works = self.config, requests.works
        hours = config.limits.serve_hours
        rates = rates_of(config.traffic, len(works))
        self.gb[key] = _bundle_gb(card)
        self.assumed[key] = requests.assumptions
        service = Service(
            lambda fleet: serving_all(card, fleet, works, rates, rates is None, choices),
            hours,
            self.slack.moving(gb_in=self.gb[key]),
            f"{hours:g} h of serving",
            rates,
            names_engine=self.choices is not None,
        )
        self.options[key] = service_options(self.offer_groups, service)
        if rates is not None:
            self.rates[key] = rates

    def training_of_kind(self, kind: KindProbe) -> str | None:
        """Return the key of the training of a student that is no language model."""
        key = f"train {kind.student}{self.suffix}"
        if not runs_as_job(
            self.config.executor, "distill"
        ):  # done here before a server would have started
            offer = local_offer(self.config.cloud.usd_per_cpu_hour)
            hours = kind.seconds / 3600
            ends = 0.0, hours * _KIND_ERROR  # what cross-validation has fitted is used again
            note = f"{kind.n_rows:,} rows, on this machine"
            self.options[key] = (
                Option(
                    offer,
                    False,
                    hours,
                    hours * offer.usd_per_hour,
                    note=note,
                    hours_range=ends,
                    usd_range=(ends[0] * offer.usd_per_hour, ends[1] * offer.usd_per_hour),
                ),
            )
        if key not in self.options:
            self.options[key] = self._job_options(
                "distill",
                lambda fleet, n: (
                    startup_hours(fleet, 0.0)
                    + within(np.full(len(fleet), kind.seconds / 3600), _KIND_ERROR)
                ),
                f"{kind.n_rows:,} rows",
                gb_in=self.dataset_gb,
                gb_out=k.FLOAT_BYTES * kind.n_params / 1e9,
            )
        return key if self.options[key] else None

    def serving_of_kind(self, kind: KindProbe) -> list[Sized]:
        """Return the work of serving such a student, as it was timed here; none without servers."""
        key = f"serve {kind.student}{self.suffix}"
        has_encoder = KINDS[kind.kind].has_encoder
        if key not in self.options:
            config = self.config
            rates = rates_of(config.traffic, max(1, len(config.traffic.buckets)))
            self.gb[key] = k.FLOAT_BYTES * kind.n_params / 1e9
            hours = config.limits.serve_hours
            service = Service(
                lambda fleet: serving_table_of_kind(kind.ms_per_answer, fleet, rates, has_encoder),
                hours,
                self.slack.moving(gb_in=self.gb[key]),
                f"{hours:g} h of serving",
                rates,
            )
            self.options[key] = service_options(self.offer_groups, service)
            if rates is not None:
                self.rates[key] = rates
        size = size_of_kind(kind, self.config.limits, has_encoder=has_encoder)
        return [Sized(key, size)] if self.options[key] else []

    def _held(self, key: str, who: str, verb: str, n_bytes: float) -> str | None:
        """Return the key of a work that has options; else remember who is too big."""
        if self.options[key]:
            return key
        self.too_big[who] = (verb, n_bytes)
        return None


def _generate(
    card: ModelCard, fleet: Fleet, n_nodes: Ints, load: Load, ends: tuple[Load, Load] | None
) -> Ranges:
    """Return the hours of a local teacher's answers; their number, too, may be a range."""

    def taking(load: Load) -> Ranges:
        return generate_all(card, fleet, load.work, load.n_answers, n_nodes)[0]

    hours = taking(load)
    if ends is None:
        return hours
    # Where the longest chats do not fit, the end is that of the expected ones.
    low, high = np.fmin(hours.low, taking(ends[0]).low), np.fmax(hours.high, taking(ends[1]).high)
    fits = ~np.isnan(hours.mean)
    return Ranges(hours.mean, np.where(fits, low, np.nan), np.where(fits, high, np.nan))


def _checked(
    hours: Ranges, card: ModelCard, fleet: Fleet, n_nodes: Ints, checks: Checks | None
) -> Ranges:
    """Return the hours of a training with its validations, on this machine.

    On a rented GPU they are within what ordering it may take.
    """
    if checks is None or not fleet.calibrated.any():
        return hours
    answers, _ = generate_all(card, fleet, checks.work, checks.n_answers, n_nodes)
    return (hours + answers).where(fleet.calibrated & ~np.isnan(answers.mean), hours)


def _bundle_gb(card: ModelCard) -> float:
    return BYTES_PER_PARAM * card.n_params / 1e9
