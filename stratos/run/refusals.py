"""Refuse a run folder of another task, and a student that learnt nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stratos import records
from stratos.config import Config
from stratos.core.errors import NothingLearntError, StratosError
from stratos.core.formats import magnitude, shown
from stratos.core.names import named
from stratos.core.reasons import Because, Reason
from stratos.models.students import what_may_help
from stratos.records import Pilot, Plan, Student
from stratos.run import resume
from stratos.run.stages import STAGES

_FILE = "task.path"
_CONTENTS = (f"the content of {_FILE}", "the content of task")
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
