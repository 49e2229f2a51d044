"""What a run takes from its plan to its report: the plan's hours, and those of the comparison.

A plan's hours are those until the student serves, on the servers that it chose. A run that is
carried out here (`executor=here`) trains on this machine, whatever it chose, and then compares
models and tries the server.
"""

from __future__ import annotations

from stratos.catalog.offers import local_offer
from stratos.catalog.table import LOCAL
from stratos.config import Config
from stratos.core.formats import about
from stratos.core.names import named
from stratos.distill.recipe import optimizer_of
from stratos.estimate.cards import TrainingJob, adapter_params, card_of_student
from stratos.estimate.fleet import Calibration
from stratos.estimate.hours import generate, train
from stratos.plan.option import BYTES_PER_TOKEN
from stratos.plan.options.hosted import is_hosted
from stratos.plan.options.role_options import ROLE_OF_STAGE, runs_as_job
from stratos.plan.options.teacher_load import teacher_load_of
from stratos.plan.options.workload import Checks, Lengths
from stratos.records import KindProbe, ModelCard, Plan, Probe, StageTime
from stratos.teachers.evaluation_budget import pace_of

AFTER = ("synthesize", "distill", "evaluate", "deploy")
"""Stages behind the plan that take their time."""
_SAID = {
    "synthesize": "answers of the teacher",
    "distill": "training",
    "evaluate": "comparison",
    "deploy": "trial of the server",
}
_START_S = 15.0
"""Seconds of a server from its start to its first answer, and of models that are loaded."""
_START_OF_KIND_S = 3.0
"""The same of a student that is no language model."""
_LEAST_SAID_S = 0.5
_STREAMED = 0.5
"""Part of a load test that is made again, streamed."""


def stage_times(
    config: Config, probe: Probe, plan: Plan, machine: Calibration
) -> tuple[StageTime, ...]:
    """Return what each stage behind the plan is expected to take, where it runs.

    Of those that the run is asked for; where it is asked for none, of all.

    Args:
        config: of the run.
        probe: what the teachers showed.
        plan: teacher, student, strategy and servers.
        machine: the measurement of this machine.
    """
    kind = probe.of_kind(plan.student)
    here = _Here(config, probe, plan, machine) if kind is None else _HereOfKind(config, kind)
    found = []
    # A plan alone is made to see what a run would take.
    stages = [one for one in AFTER if one in config.stages] or AFTER
    for stage in stages:
        if stage == "deploy" and config.deploy.is_off:
            continue
        planned = ROLE_OF_STAGE.get(stage)
        role = None if planned is None else plan.role(planned)
        is_there = runs_as_job(config, stage) or (
            role is not None and (role.offer is None or role.offer.cloud == LOCAL)
        )
        share = 1 - here.tested if stage == "synthesize" else 1.0
        if role is not None and is_there:
            found.append(StageTime(stage, share * role.hours))
            continue
        hours = here.of(stage)
        if hours is not None:
            rented = None if role is None or role.offer is None else share * role.hours
            found.append(StageTime(stage, hours, rented))
    return tuple(found)


def said(plan: Plan) -> str:
    """Say in one line what is ahead of a plan; "" where nothing is."""
    if not plan.ahead:
        return ""
    total = sum(one.hours for one in plan.ahead)
    parts = []
    for one in plan.ahead:
        if 3600 * max(one.hours, one.planned_hours or 0.0) < _LEAST_SAID_S:
            continue
        part = f"{_SAID[one.stage]} {about(3600 * one.hours)}"
        if one.planned_hours is not None:
            offer = plan.role("train" if one.stage == "distill" else "teacher").offer
            name = "" if offer is None else f" on {offer.name}"
            part += f" on this machine ({about(3600 * one.planned_hours)} planned{name})"
        parts.append(part)
    whole = "From the plan to the report"
    if not any(one.stage in ("evaluate", "deploy") for one in plan.ahead):
        whole = "From the plan on"
    return f"{whole}: about {about(3600 * total)} ({', '.join(parts)})."


class _HereOfKind:
    """The same of a student that is no language model: its answers were timed one by one."""

    tested = 0.0

    def __init__(self, config: Config, kind: KindProbe) -> None:
        self._config, self._kind = config, kind

    def of(self, stage: str) -> float | None:
        """Return the hours of a stage; None of one that asks a teacher alone."""
        config, seconds = self._config, self._kind.ms_per_answer / 1000
        options = config.deploy
        served = options.n_requests * seconds + (1 + _STREAMED) * options.load_seconds
        found = {
            "distill": self._kind.seconds,
            "evaluate": min(config.evaluate.n_items, config.task.n_test) * seconds,
            "deploy": _START_OF_KIND_S + served,
        }.get(stage)
        return None if found is None else found / 3600


class _Here:
    """Hours of the stages of one run on this machine."""

    def __init__(self, config: Config, probe: Probe, plan: Plan, machine: Calibration) -> None:
        self._config, self._plan, self._machine = config, plan, machine
        self._probed = probe.of_teacher(plan.teacher)
        self._student = named(config.students, plan.student)
        self._card = card_of_student(self._student, config.task)
        self._strategy = named(config.strategies, plan.strategy)
        lengths = Lengths(config)
        self._length = lengths.of_card(self._probed, self._strategy, self._card)
        self._checks = lengths.checks(self._probed, self._strategy, self._card)
        self._load = teacher_load_of(config, self._probed, self._strategy)
        self.tested = self._load.evaluated.n_answers / max(1, self._load.n_answers)
        """Part of the teacher's answers that are those to test items, behind the training."""

    def of(self, stage: str) -> float | None:
        """Return the hours of a stage; None where memory does not hold its model."""
        hours = {
            "synthesize": self._answers,
            "distill": self._training,
            "evaluate": self._comparison,
            "deploy": self._trial,
        }[stage]()
        return hours

    def _answers(self) -> float:
        return (1 - self.tested) * self._all_answers()

    def _all_answers(self) -> float:
        """Return the hours of all answers of the teacher, on its servers or here."""
        role = self._plan.role("teacher")
        if is_hosted(self._probed.card) or (role.offer is not None and role.offer.cloud == LOCAL):
            return role.hours
        return self._load.n_answers * pace_of(self._probed) / 3600

    def _training(self) -> float | None:
        length, trainer = self._length, self._config.trainer
        job = TrainingJob(
            length.tokens,
            length.batch_tokens,
            self._student.context_length,
            optimizer=optimizer_of(trainer, self._student.path is None),
            precision=trainer.precision,
        )
        hours = train(self._card, local_offer(), job, calibration=self._machine)
        checked = self._written(self._card, self._checks)
        if hours is None or checked is None:
            return None
        return self._machine.slowness * hours.mean + checked

    def _comparison(self) -> float | None:
        options, work = self._config.evaluate, self._checks.work
        n_items = options.n_items
        if self._config.task.has_rows:
            n_items = min(n_items, self._config.task.n_test)
        starts_from_model = self._student.path is not None
        untouched = min(options.n_untouched_items, n_items) if starts_from_model else 0
        written = self._written(self._card, Checks(n_items + untouched, work))
        if written is None:
            return None
        starts = (1 + starts_from_model) * _START_S / 3600
        return written + starts + self.tested * self._all_answers()

    def _trial(self) -> float | None:
        options = self._config.deploy
        answer = self._written(self._card, Checks(1, self._checks.work))
        if answer is None:
            return None
        hours = options.n_requests * answer
        hours += (1 + _STREAMED) * options.load_seconds / 3600 + _START_S / 3600
        run = self._plan.role("serve").run
        if run is not None and run.format:
            exported = min(options.export_minutes / 60, options.n_export_items * answer)
            hours += exported + _START_S / 3600
        return hours

    def _written(self, card: ModelCard, answers: Checks) -> float | None:
        """Return the hours of answers that a student writes here."""
        hours = generate(
            card, local_offer(), answers.work, answers.n_answers, calibration=self._machine
        )
        return None if hours is None else self._machine.slowness * hours.mean


# What a stage that runs on a rented server sends back to the machine of the command, at most.


SMALL_GB = 0.01
"""What every stage sends: progress, logs, tokenizers, answers, charts."""
_BYTES_PER_PARAM = 4.0
"""Of the weights of a student, trained and untouched, and in its bundle: fp32."""
_BYTES_PER_TRAINED = 16.0
"""Of a parameter that is trained, in a checkpoint: fp32 weights, two moments, a moving average."""


def sent_back_gb(config: Config, plan: Plan | None, stage: str) -> tuple[float, float]:
    """Return GB (10^9 bytes) at the end of a stage, and each time that it is saved before.

    Args:
        config: of the run.
        plan: of the run; there is none before the probe.
        stage: its name.
    """
    if plan is None or stage in ("probe", "evaluate"):
        return SMALL_GB, 0.0
    if stage == "synthesize":
        return SMALL_GB + BYTES_PER_TOKEN * plan.train_tokens / 1e9, 0.0
    card = card_of_student(named(config.students, plan.student), config.task)
    weights = _BYTES_PER_PARAM * card.n_params / 1e9
    if stage == "deploy":
        return SMALL_GB + weights + _exports_gb(config, plan, card.n_params), 0.0
    trained = card.n_params if config.trainer.adapter == "none" else adapter_params(card)
    copy = _BYTES_PER_TRAINED * trained / 1e9
    return SMALL_GB + 2 * weights + copy, copy


def _exports_gb(config: Config, plan: Plan, n_params: float) -> float:
    """Return GB of the files that are made of a bundle for its engine, in every format."""
    engine = config.deploy.engine
    if engine is None:
        run = plan.role("serve").run
        known = {one.kind: one for one in config.deploy.engines.values()}
        if run is None or run.engine not in known:
            return 0.0
        engine = known[run.engine].as_planned(run)
    per_param = sum(engine.weight_format(name).weight_bytes for name in engine.exports)
    return per_param * n_params / 1e9
