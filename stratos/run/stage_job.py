"""A stage as a job of the executor: submitted, followed, and its record read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, TypeVar

from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.executors import handed
from stratos.executors.job_of_stage import fewer_nodes, job_spec
from stratos.run import resume
from stratos.run.placing import cache_for, keys_of, returns_of, why_here
from stratos.run.resume import Stage
from stratos.run.run_state import RunState

T = TypeVar("T")

_SEEN_S = 10.0
"""How long another machine's file may take until it is seen here."""


def runs_as_job(state: RunState, stage: Stage[Any]) -> bool:
    """Return whether a stage runs as a job; say why where it was to, and does not."""
    if state.job is not None or stage.name not in state.config.executor.stages:
        return False
    why = why_here(state.config, stage.name, state.plan)
    if why is not None:
        state.console.note(f"{stage.name}: runs here, and not as a job: {why}.")
    return why is None


def made_by_job(state: RunState, stage: Stage[T], mark: str, context: Context) -> T:
    """Return the record of a stage that runs as a job.

    Raises:
        StratosError: the job failed, or what it left is not what was asked for.
    """
    from stratos.executors.follow import Handover, run_there
    from stratos.run.kept_config import hand_over

    folder, executor = state.config.run_dir, state.config.executor
    hand_over(folder, stage.name)  # the job reads it
    deadline = state.config.limits.deadline_hours
    spec = job_spec(
        state.plan,
        stage.name,
        folder,
        executor,
        deadline_hours=deadline,
        withheld=keys_of(state.config),
        nodes=state.config.trainer.num_nodes if stage.name == "distill" else 1,
        files=resume.files_of(stage, state.config),
        cache={}
        if executor.shares_files
        else cache_for(state.config, stage.name, state.records.get("distill")),
        returns=returns_of(state.config, stage.name, state.plan),
    )
    if (fewer := fewer_nodes(state.plan, spec, executor)) is not None:
        context.warn(f"{stage.name}: {fewer}")
    longest = deadline if executor.max_pending_hours is None else executor.max_pending_hours
    run_there(Handover(executor, spec, mark, state.inputs_now(stage), longest), context)
    kept = _found_late(stage, folder)
    if kept is None or kept.record is None:
        why = f"{folder} has none" if kept is None else kept.trouble
        raise StratosError(
            f"{stage.name}: its job ended well, and its record cannot be read: {why}. The job "
            "has to write to the folder that this machine reads: put the run on a file system "
            "that both share, with hydra.run.dir=<folder>."
        )
    record: T = kept.record
    if kept.fingerprint != state.fingerprint(stage, record):
        changed = resume.what_changed(kept.inputs, state.inputs(stage, record))
        raise StratosError(
            f"{stage.name}: its job made the record from other inputs than there are here: "
            f"{changed}. Give the same command again: it is made again."
        )
    return record


def end_job(state: RunState, stage: Stage[Any], record: Any) -> None:
    """Take notice of a job that has left its record while no command followed it."""
    if state.job is None and handed.find(state.config.run_dir, stage.name) is not None:
        from stratos.executors.earlier import end_made

        inputs = state.inputs(stage, record)
        inputs.pop(resume.SEEN, None)
        end_made(
            state.config.run_dir, stage.name, inputs, state.ledger, state.console.note,
            state.warnings.add,
        )  # fmt: skip


def check_handed(state: RunState, stage: Stage[Any], mark: str) -> None:
    """Refuse to run a stage that a job still has, or as a job with other inputs than its own.

    Raises:
        StratosError: it is so.
    """
    folder = state.config.run_dir
    if state.job is not None and state.job.mark != mark:
        changed = resume.what_changed(state.job.inputs, state.inputs_now(stage))
        raise StratosError(
            f"{stage.name}: what its job finds is not what it was submitted with: {changed}. "
            "The nodes have to see the same files, and the same Stratos, as the machine that "
            "submits."
        )
    if state.job is None and (known := handed.find(folder, stage.name)) is not None:
        raise StratosError(handed.refusal(known, folder, stage.name))


def _found_late(stage: Stage[T], folder: Path) -> resume.Kept | None:
    """Read the record that a job has left; a file system may show it seconds later."""
    until = time.monotonic() + _SEEN_S
    while (kept := resume.find(stage, folder)) is None and time.monotonic() < until:
        time.sleep(_SEEN_S / 20)
    return kept
