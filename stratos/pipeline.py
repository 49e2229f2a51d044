"""The seven stages in order, and the pilot that a plan may ask for: one page."""

from __future__ import annotations

from pathlib import Path

from stratos.config import Config
from stratos.distill.trainer import check_adapter, check_machine
from stratos.records import Corpus, Deployment, Pilot, Plan, Probe, Report, Scorecard, Student
from stratos.resume import Stage
from stratos.runner import opened
from stratos.students import check_students

PROBE = Stage(
    name="probe",
    record=Probe,
    reads=(
        "task",
        "teacher",
        "student.path",
        "student.candidates",
        "strategy._target_",
        "strategy.name",
        "strategy.min_coverage",
        "strategy.min_coverage_beside_injection",
        "probe",
        "complexity",
        "evaluate.max_new_tokens",
        "limits.probe_usd",
    ),
    code=(
        "tasks",
        "teachers",
        "evaluate/answers.py",
        "evaluate/generate.py",
        "evaluate/cache.py",
        "synthesize/admission.py",
        "choice.py",
        "declared.py",
        "distill/wanted.py",
        "hub.py",
        "intervals.py",
        "targets.py",
        "words.py",
    ),
    remembers=("cut_at_usd",),
)
PILOT = Stage(
    name="pilot",
    record=Pilot,
    reads=(
        "task",
        "teacher",
        "student",
        "strategy",
        "complexity",
        "cloud",
        "limits",
        "trainer",
        "traffic",
        "callbacks",
        "evaluate",
        "probe.n_items",
        "probe.max_items",
        "plan.pilot_tokens",
        "seed",
    ),
    code=(
        "catalog",
        "estimate",
        "plan",
        "tasks",
        "teachers",
        "synthesize",
        "distill",
        "evaluate",
        "choice.py",
        "composing.py",
        "declared.py",
        "hub.py",
        "intervals.py",
        "resume.py",
        "rules.py",
        "targets.py",
        "typed.py",
        "words.py",
    ),
    after=("probe",),
)
PLAN = Stage(
    name="plan",
    record=Plan,
    reads=(
        "task",
        "teacher",
        "student",
        "strategy",
        "complexity",
        "cloud",
        "limits",
        "objective",
        "trainer",
        "traffic",
        "plan",
        "evaluate.max_new_tokens",
        "evaluate.n_teacher_items",
        "seed",
    ),
    code=(
        "catalog",
        "estimate",
        "tasks",
        "teachers",
        "synthesize/alignment.py",
        "synthesize/injection.py",
        "synthesize/rationale.py",
        "synthesize/strategy.py",
        "choice.py",
        "composing.py",
        "declared.py",
        "distill/wanted.py",
        "hub.py",
        "intervals.py",
        "targets.py",
        "typed.py",
        "words.py",
    ),
    after=("probe",),
    uses=("pilot",),
    remembers=("history",),
)
CHOICES = {"plan": ("teacher", "prompt", "student", "strategy")}
"""All that matters of a plan until its prices do: a new limit that changes none of them trains
nothing again."""
SYNTHESIZE = Stage(
    name="synthesize",
    record=Corpus,
    reads=(
        "task",
        "teacher",
        "student",
        "strategy",
        "trainer",
        "probe.n_items",
        "probe.max_items",
        "callbacks.n_validation_items",
        "evaluate.n_items",
        "evaluate.max_new_tokens",
        "limits.on_exhausted",
        "seed",
    ),
    code=(
        "tasks",
        "teachers",
        "evaluate/answers.py",
        "evaluate/generate.py",
        "evaluate/cache.py",
        "distill/objectives",
        "hub.py",
        "words.py",
    ),
    after=("plan",),
    only=CHOICES,
    remembers=("cut_at_usd",),
)
DISTILL = Stage(
    name="distill",
    record=Student,
    reads=(
        "task",
        "teacher",
        "student",
        "strategy",
        "trainer",
        "callbacks",
        "evaluate.max_new_tokens",
        "evaluate.batch_size",
        "seed",
    ),
    code=(
        "tasks",
        "teachers",
        "synthesize",
        "evaluate/generate.py",
        "evaluate/cache.py",
        "hub.py",
        "words.py",
    ),
    after=("plan", "synthesize"),
    only=CHOICES,
    remembers=("cut_at_usd",),
)
EVALUATE = Stage(
    name="evaluate",
    record=Scorecard,
    reads=("task", "teacher", "student", "traffic", "evaluate", "probe.max_tokens", "seed"),
    code=("tasks", "teachers", "catalog", "estimate", "hub.py", "intervals.py", "words.py"),
    after=("probe", "plan", "synthesize", "distill"),
)
DEPLOY = Stage(
    name="deploy",
    record=Deployment,
    reads=(
        "task",
        "teacher",
        "student",
        "deploy",
        "limits.latency_ms",
        "evaluate.max_new_tokens",
        "seed",
    ),
    code=("tasks", "teachers", "evaluate", "words.py"),
    after=("plan", "evaluate", "distill"),
)
REPORT = Stage(
    name="report",
    record=Report,
    reads=(),
    code=("plan/show.py", "intervals.py", "words.py"),
    uses=("probe", "pilot", "plan", "synthesize", "distill", "evaluate", "deploy"),
)
STAGES = (PROBE, PILOT, PLAN, SYNTHESIZE, DISTILL, EVALUATE, DEPLOY, REPORT)


def run_pipeline(config: Config) -> float | None:
    """Run the stages that are asked for; the others are read from the run folder.

    Returns:
        The number that a sweep compares jobs by, read from validation items alone: the student's
        exact match, or, as far as the run went, the plan's score or the best teacher's accuracy.

    Raises:
        StratosError: a stage cannot go on; what was made before it is kept.
    """
    check_students(config)
    if "distill" in config.stages and not (Path(config.paths.run_dir) / "distill.json").exists():
        check_machine(config.trainer)  # before anything is asked or paid
        check_adapter(config.trainer, config.students)
    with opened(config, STAGES) as run:
        probe = run(PROBE)
        pilot = run(PILOT, probe)
        plan = run(PLAN, probe, pilot=pilot)
        corpus = run(SYNTHESIZE, plan)
        student = run(DISTILL, plan, corpus)
        scorecard = run(EVALUATE, probe, plan, corpus, student)
        run(DEPLOY, plan, scorecard, student)
        run(REPORT)
        run.summarize()
    if student is not None:
        return student.validation_exact
    if plan is not None:
        return plan.score
    return max((one.exact.mean for one in probe.teachers), default=None) if probe else None
