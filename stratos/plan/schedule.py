"""What a run takes from its plan to its report, and what its stages send back.

A plan's hours are those until the student is trained, on the servers that it chose. A run that is
carried out here (`executor=here`) trains on this machine, whatever it chose, and then compares
models and tries the server.
"""

from __future__ import annotations

from stratos.catalog.offers import local_offer
from stratos.catalog.table import LOCAL
from stratos.config import Config, DeployConfig, EvaluateConfig
from stratos.core.formats import about
from stratos.core.values import named
from stratos.estimate.cards import adapter_params, card_of_student
from stratos.estimate.fleet import Calibration
from stratos.estimate.hours import generate, train
from stratos.plan.option import BYTES_PER_TOKEN
from stratos.plan.options.role_options import ROLE_OF_STAGE, runs_as_job
from stratos.plan.options.teacher import is_hosted, teacher_load_of
from stratos.plan.options.workload import Lengths, training_job
from stratos.records import KindProbe, Plan, Probe, RoleChoice, StageTime
from stratos.tasks.base import Task
from stratos.teachers.cost_estimate import pace_of

AFTER = ("synthesize", "distill", "evaluate", "deploy")
"""Stages behind the plan that take their time."""
_NAMES = {
    "synthesize": "answers of the teacher",
    "distill": "training",
    "evaluate": "comparison",
    "deploy": "trial of the server",
}
_START_HOURS = 15.0 / 3600
"""Of a server from its start to its first answer, and of models that are loaded."""
_START_OF_KIND_S = 3.0
"""Seconds of the same of a student that is no language model."""
_SHORTEST_S = 0.5
"""Seconds from which on a stage is named."""
_STREAMED = 0.5
"""Part of a load test that is made again, streamed."""


def stage_times(
    config: Config, probe: Probe, plan: Plan, machine: Calibration
) -> tuple[StageTime, ...]:
    """Return what each stage behind the plan is expected to take, where it runs.

    Of those that the run is asked for; where it is asked for none, of all.
    """
    kind = probe.of_kind(plan.student)
    if kind is None:
        tested, here = _hours_here(config, probe, plan, machine)
    else:
        tested, here = 0.0, _hours_of_kind(config.task, config.evaluate, config.deploy, kind)
    times = []
    # A plan alone is made to see what a run would take.
    for stage in [stage for stage in AFTER if stage in config.stages] or AFTER:
        if stage == "deploy" and config.deploy.is_off:
            continue
        share = 1 - tested if stage == "synthesize" else 1.0
        role = plan.role(ROLE_OF_STAGE[stage]) if stage in ROLE_OF_STAGE else None
        planned = None if role is None else share * role.hours
        if planned is not None and (runs_as_job(config.executor, stage) or _is_here(role)):
            times.append(StageTime(stage, planned))
        elif (hours := here.get(stage)) is not None:
            times.append(StageTime(stage, hours, planned))
    return tuple(times)


def _is_here(role: RoleChoice | None) -> bool:
    """Return whether a role has no server that is rented: a hosted teacher, or this machine."""
    return role is not None and (role.offer is None or role.offer.cloud == LOCAL)


def schedule_text(plan: Plan) -> str:
    """Say in one line what is ahead of a plan; "" where nothing is."""
    if not plan.ahead:
        return ""
    parts = []
    for time in plan.ahead:
        if 3600 * max(time.hours, time.planned_hours or 0.0) < _SHORTEST_S:
            continue
        part = f"{_NAMES[time.stage]} {about(3600 * time.hours)}"
        if time.planned_hours is not None:
            offer = plan.role(ROLE_OF_STAGE[time.stage]).offer
            name = "" if offer is None else f" on {offer.name}"
            part += f" on this machine ({about(3600 * time.planned_hours)} planned{name})"
        parts.append(part)
    is_whole = any(time.stage in ("evaluate", "deploy") for time in plan.ahead)
    total = about(3600 * sum(time.hours for time in plan.ahead))
    until = "to the report" if is_whole else "on"
    return f"From the plan {until}: about {total} ({', '.join(parts)})."


def _hours_of_kind(
    task: Task, evaluate: EvaluateConfig, deploy: DeployConfig, kind: KindProbe
) -> dict[str, float]:
    """Return the hours of stages of a student that is no language model: its answers were timed."""
    seconds = kind.ms_per_answer / 1000
    load_test = deploy.n_requests * seconds + (1 + _STREAMED) * deploy.load_seconds
    return {
        "distill": kind.seconds / 3600,
        "evaluate": min(evaluate.n_items, task.n_test) * seconds / 3600,
        "deploy": (_START_OF_KIND_S + load_test) / 3600,
    }


def _hours_here(
    config: Config, probe: Probe, plan: Plan, machine: Calibration
) -> tuple[float, dict[str, float]]:
    """Return which part of the teacher's answers is to test items, and the hours of stages here.

    A stage whose model is held by no memory here has none.
    """
    teacher = probe.of_teacher(plan.teacher)
    student = named(config.students, plan.student)
    strategy = named(config.strategies, plan.strategy)
    card = card_of_student(student, config.task)
    lengths = Lengths(config)
    length = lengths.of_card(teacher, strategy, card)
    checks = lengths.checks(teacher, strategy, card)
    load = teacher_load_of(config, teacher, strategy)
    tested = load.evaluated.n_answers / max(1, load.n_answers)

    role = plan.role("teacher")
    answers = load.n_answers * pace_of(teacher) / 3600
    if is_hosted(teacher.card) or (role.offer is not None and role.offer.cloud == LOCAL):
        answers = role.hours
    hours = {"synthesize": (1 - tested) * answers}
    an_answer = generate(card, local_offer(), checks.work, 1, calibration=machine)
    if an_answer is None:
        return tested, hours

    def written(n_answers: int) -> float:
        made = generate(card, local_offer(), checks.work, n_answers, calibration=machine)
        return 0.0 if made is None else machine.slowness * made.mean

    is_pretrained = student.path is not None
    job = training_job(config.trainer, student, length)
    trained = train(card, local_offer(), job, calibration=machine)
    if trained is not None:
        hours["distill"] = machine.slowness * trained.mean + written(checks.n_answers)

    n_items = config.evaluate.n_items
    if config.task.has_rows:
        n_items = min(n_items, config.task.n_test)
    untouched = min(config.evaluate.n_untouched_items, n_items) if is_pretrained else 0
    starts = (1 + is_pretrained) * _START_HOURS
    hours["evaluate"] = written(n_items + untouched) + starts + tested * answers

    options, run = config.deploy, plan.role("serve").run
    hours["deploy"] = options.n_requests * written(1) + _START_HOURS
    hours["deploy"] += (1 + _STREAMED) * options.load_seconds / 3600
    if run is not None and run.format:
        exported = min(options.export_minutes / 60, options.n_export_items * written(1))
        hours["deploy"] += exported + _START_HOURS
    return tested, hours


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
        return SMALL_GB + weights + _exports_gb(config.deploy, plan, card.n_params), 0.0
    trained = card.n_params if config.trainer.adapter == "none" else adapter_params(card)
    copy = _BYTES_PER_TRAINED * trained / 1e9
    return SMALL_GB + 2 * weights + copy, copy


def _exports_gb(deploy: DeployConfig, plan: Plan, n_params: float) -> float:
    """Return GB of the files that are made of a bundle for its engine, in every format."""
    engine, run = deploy.engine, plan.role("serve").run
    if engine is None:
        known = {engine.kind: engine for engine in deploy.engines.values()}
        if run is None or run.engine not in known:
            return 0.0
        engine = known[run.engine].as_planned(run)
    per_param = sum(engine.weight_format(name).weight_bytes for name in engine.exports)
    return per_param * n_params / 1e9
