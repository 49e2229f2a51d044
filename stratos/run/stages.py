"""The table of stages, in order: record, inputs and options; and what no run goes on with.

A run is refused in the folder of another task, and where its student learnt nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stratos import records
from stratos.config import Config
from stratos.core.errors import NothingLearntError, StratosError
from stratos.core.extensions import extensions, load, room_configs
from stratos.core.formats import magnitude, shown
from stratos.core.reasons import Because, Reason
from stratos.core.values import named
from stratos.ledger.book import TEACHER
from stratos.models.students import what_may_help
from stratos.records import Corpus, Deployment, Pilot, Plan, Probe, Report, Scorecard, Student
from stratos.run import resume
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
    version=9,
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
    version=12,
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
    version=14,
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
    version=8,
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
    version=8,
    function="stratos.deploy.stage:deploy",
    record=Deployment,
    reads=(
        "task", "teacher", "student", "strategy._target_", "strategy.name", "deploy.name",
        "deploy.engine", "deploy.engines", "deploy.n_export_items", "deploy.export_minutes",
        "deploy.max_loss_points", "deploy.n_requests", "deploy.concurrency", "deploy.load_seconds",
        "deploy.port", "deploy.author", "traffic", "trainer.final", "limits.accuracy",
        "limits.latency_ms", "limits.model_mb", "evaluate.max_new_tokens", "seed", *LEARNT,
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
    version=4,
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


_FILE = "task.path"
_CONTENTS = (f"{records.CONTENT_OF}{_FILE}", f"{records.CONTENT_OF}task")
"""Names of a file's content among the inputs of a record."""


class OtherTaskError(StratosError):
    """The run folder holds another task; it is left as it is."""


def refusal(config: Config, folder: Path, key: str) -> Reason | None:
    """Return why a run may not begin in a folder; None if it may.

    The first record tells: all others rest on it.

    Args:
        config: of the run.
        folder: that it would write to.
        key: that names it.
    """
    for stage in STAGES:
        if not stage.works_on_task:
            continue
        try:
            envelope = records.opened((folder / f"{stage.name}.json").read_bytes())
            made = msgspec.json.decode(bytes(envelope.record))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue  # it tells nothing; the run says what is wrong with it
        if _is_other(envelope.inputs, made, config):
            name, path = _name_and_file(folder, made)
            on = f" on {shown(path)}" if path else ""
            return Because(
                f"{shown(folder)}: it holds a run of another task, "
                f"{shown(name) or 'of an unknown name'}{on}, which this run would overwrite. "
                f"Leave {key} out for a new folder, or type {key}=<another folder>. If you do not "
                "need that run any more, delete its folder first."
            )
        return None
    return None


def _is_other(old: Mapping[str, str], made: Any, config: Config) -> bool:
    name = made.get("task") if isinstance(made, dict) else None
    if name is not None and name != config.task.name:
        return True
    if not old:  # the record was kept without them
        return False
    new = resume.task_inputs(config)
    if any(old.get(key) != new.get(key) for key in ("task._target_", "task.name")):
        return True
    if old.get(_FILE) == new.get(_FILE):
        return False
    return not any(old.get(key) and old.get(key) == new.get(key) for key in _CONTENTS)


def _name_and_file(folder: Path, made: Any) -> tuple[str, str]:
    """Return what the other task is called, and its file as the folder's config names it."""
    name = str(made.get("task") or "") if isinstance(made, dict) else ""
    path = None
    try:
        task = yaml.safe_load((folder / ".hydra" / "config.yaml").read_bytes())["task"]
        name, path = name or str(task["name"]), task.get("path")
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        pass  # was never kept, or edited by hand
    return name, str(path or "")


LEAST_ITEMS = 30
"""Validation items of which not one is right before that counts: one of ten right would be missed
in 4 of 100 such measurements."""
LEAST_PART = 1 / 4
"""Of the training on a file's rows that a pilot has to have made, or of a student's own training
that `trainer.max_tokens` has to leave, before nothing right is more than an early start."""
_WHOLE = 0.9
"""The same of a pilot where the task makes its own data: its curves may start late (one student had
9% after 2M tokens and 88% after 4M)."""


def stop_before_training(config: Config, plan: Plan, pilot: Pilot | None) -> None:
    """Refuse to train a student that a pilot showed to learn nothing.

    Raises:
        NothingLearntError: it had no right answer after enough of its training.
    """
    if pilot is None or "distill" not in config.stages:
        return
    least = LEAST_PART if config.task.has_rows else _WHOLE
    for run in pilot.runs:
        longest = max(run.points, key=lambda point: point.train_tokens)
        if (run.student, run.strategy) != (plan.student, plan.strategy):
            continue
        is_early = longest.train_tokens < least * plan.train_tokens
        if longest.accuracy or longest.n_items < LEAST_ITEMS or is_early:
            continue
        cure = what_may_help(config, named(config.students, plan.student))
        raise NothingLearntError(
            f"{plan.student} had 0 of {longest.n_items} validation items right after "
            f"{magnitude(longest.train_tokens)} of {magnitude(plan.train_tokens)} planned tokens "
            f"(pilot): it is not trained. {cure} To train it all the same, "
            "add plan.pilot=false."
        )


def stop_before_evaluation(config: Config, student: Student) -> None:
    """Refuse to measure and bundle a student that learnt nothing.

    One that has hardly begun goes on, for such a run shows the way: it has not read each row of a
    file once, or `trainer.max_tokens` leaves it a small part of its training.

    Raises:
        NothingLearntError: it has no right answer.
    """
    if "distill" not in config.stages or student.validation_exact:
        return
    chosen = named(config.students, student.name)
    if config.task.has_rows:
        has_begun = student.epochs is None or student.epochs >= 1
    else:
        tokens = config.trainer.max_tokens or chosen.train_tokens
        has_begun = tokens >= LEAST_PART * chosen.train_tokens
    if student.n_validation_items < LEAST_ITEMS or not has_begun:
        return
    raise NothingLearntError(
        f"{student.name} has 0 of {student.n_validation_items} validation items right after its "
        f"training on {magnitude(student.train_tokens)} tokens: it is neither measured further nor "
        f"bundled. {what_may_help(config, chosen)} To measure it all the same, add "
        f"stages=[evaluate,report] hydra.run.dir={config.run_dir}."
    )
