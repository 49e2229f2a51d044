"""The table of stages: record, inputs and options of each, in order."""

from __future__ import annotations

from typing import Any

from stratos.core.extensions import extensions, load, room_configs
from stratos.ledger.book import TEACHER
from stratos.records import Corpus, Deployment, Pilot, Plan, Probe, Report, Scorecard, Student
from stratos.run.resume import Stage

CHOICES = {"plan": ("teacher", "prompt", "max_tokens", "student", "strategy")}
"""All that matters of a plan until its prices do: a new limit that changes none of them trains
nothing again."""

LEARNT = tuple(
    f"{group}.{key}" for group, room in room_configs().items() for key in room.validation_keys
)
"""Keys of rooms that decide which validation rows a student of a kind may learn."""

PROBE = Stage(
    name="probe",
    version=5,
    function="stratos.probe.stage:probe",
    record=Probe,
    reads=(
        "task", "teacher", "student.path", "student.candidates", "strategy._target_",
        "strategy.name", "strategy.min_coverage", "strategy.min_coverage_beside_injection", "probe",
        "complexity", "evaluate.max_new_tokens", "limits.probe_usd", "seed", *LEARNT,
    ),
    remembers=("cut_at_usd",),
    own_limit="probe_usd",
    is_shared_by_jobs=True,
    forgets_plan=True,
)  # fmt: skip
PILOT = Stage(
    name="pilot",
    version=2,
    function="stratos.probe.pilot.stage:pilot",
    record=Pilot,
    reads=(
        "task", "teacher", "student", "strategy", "complexity", "cloud", "limits", "trainer",
        "traffic", "callbacks", "evaluate", "probe.n_items", "probe.max_items", "plan.pilot",
        "plan.pilot_tokens", "plan.pilot_share", "plan.pilot_minutes", "plan.history", "objective",
        "seed",
    ),
    after=("probe",),
    is_part_of="plan",
    is_on=lambda config: config.plan.pilot is not False,
    forgets_plan=True,
)  # fmt: skip
PLAN = Stage(
    name="plan",
    version=6,
    function="stratos.plan.stage:plan",
    record=Plan,
    reads=(
        "task", "teacher", "student", "strategy", "complexity", "cloud", "limits", "objective",
        "trainer", "traffic", "plan", "deploy.engines", "executor._target_", "executor.stages",
        "executor.usd_per_hour", "evaluate.max_new_tokens", "evaluate.n_items",
        "evaluate.n_teacher_items", "evaluate.teacher_minutes", "evaluate.teacher_usd",
        "callbacks.n_validation_items", "callbacks.n_final_validation_items", "seed",
    ),
    after=("probe",),
    uses=("pilot",),
    remembers=("history",),
    forgets_plan=True,
)  # fmt: skip
SYNTHESIZE = Stage(
    name="synthesize",
    version=2,
    function="stratos.synthesize.stage:synthesize",
    record=Corpus,
    reads=(
        "task", "teacher", "student", "strategy", "trainer", "probe.n_items", "probe.max_items",
        "callbacks.n_validation_items", "callbacks.n_final_validation_items", "evaluate.n_items",
        "evaluate.max_new_tokens", "limits.on_exhausted", "seed",
    ),
    after=("plan",),
    only=CHOICES,
    remembers=("cut_at_usd",),
    spends_plan=True,
    has_engine=True,
)  # fmt: skip
DISTILL = Stage(
    name="distill",
    version=6,
    function="stratos.distill.stage:distill",
    record=Student,
    reads=(
        "task", "teacher", "student", "strategy", "trainer", "callbacks", "evaluate.max_new_tokens",
        "evaluate.batch_size", "seed", *LEARNT,
    ),
    after=("plan", "synthesize"),
    only=CHOICES,
    remembers=("cut_at_usd",),
    spends_plan=True,
)  # fmt: skip
EVALUATE = Stage(
    name="evaluate",
    version=3,
    function="stratos.evaluate.stage:evaluate",
    record=Scorecard,
    reads=(
        "task", "teacher", "student", "traffic", "evaluate", "probe.max_tokens",
        "limits.budget_usd", "limits.probe_usd", "seed",
    ),
    after=("probe", "plan", "synthesize", "distill"),
    spends_plan=True,
    releases=(TEACHER,),
)  # fmt: skip
DEPLOY = Stage(
    name="deploy",
    version=4,
    function="stratos.deploy.stage:deploy",
    record=Deployment,
    reads=(
        "task", "teacher", "student", "strategy._target_", "strategy.name", "deploy.name",
        "deploy.engine", "deploy.engines", "deploy.n_export_items", "deploy.export_minutes",
        "deploy.max_loss_points", "deploy.n_requests", "deploy.concurrency", "deploy.load_seconds",
        "deploy.port", "traffic", "trainer.final", "limits.accuracy", "limits.latency_ms",
        "evaluate.max_new_tokens", "seed", *LEARNT,
    ),
    after=("plan", "evaluate", "distill"),
    uses=("probe", "pilot", "synthesize"),
)  # fmt: skip
ADDED: tuple[Stage[Any], ...] = tuple(
    stage for room in extensions() if room.stages for stage in load(room.stages)
)
"""Stages that rooms of contrib add, made between `deploy` and `report`."""
REPORT = Stage(
    name="report",
    function="stratos.report:report",
    record=Report,
    reads=(),
    version=2,
    uses=(
        *("probe", "pilot", "plan", "synthesize", "distill", "evaluate", "deploy"),
        *(stage.name for stage in ADDED),
    ),
)
STAGES: tuple[Stage[Any], ...] = (
    *(PROBE, PILOT, PLAN, SYNTHESIZE, DISTILL, EVALUATE, DEPLOY),
    *ADDED,
    REPORT,
)

PILOT_TRAINING = Stage(
    name="distill",
    function="stratos.distill.stage:distill",
    record=Student,
    reads=tuple(dict.fromkeys((*SYNTHESIZE.reads, *DISTILL.reads))),
    version=SYNTHESIZE.version + DISTILL.version,  # it rises with either
)
"""A short training of the pilot: what its corpus and its training depend on, and neither the
limits nor the servers that there are."""
