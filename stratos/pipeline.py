"""The pipeline: seven stages in order, the optional pilot, and what rooms of contrib add."""

from __future__ import annotations

import time
from pathlib import Path

from stratos.cli.rules import check_rows
from stratos.config import Config
from stratos.core.errors import (
    CapacityError,
    CatalogError,
    ConfigError,
    InfeasibleError,
    StratosError,
)
from stratos.core.formats import duration
from stratos.core.redact import redact
from stratos.deploy.manifest import check_target, is_bundle
from stratos.distill.trainer import check_adapter, check_machine
from stratos.models.students import check_students
from stratos.records import Deployment, Plan, Probe
from stratos.run.run_state import RunState
from stratos.run.runner import Runner, opened
from stratos.run.stage_job import (
    MOST,
    NAME,
    WAIT_S,
    check_limits,
    forget_all,
    forget_old,
    give_up,
    refuse,
    refused_of,
    region_of,
    without_refused,
)
from stratos.run.stages import (
    ADDED,
    DEPLOY,
    DISTILL,
    EVALUATE,
    PILOT,
    PLAN,
    PROBE,
    REPORT,
    STAGES,
    SYNTHESIZE,
    OtherTaskError,
    refusal,
    stop_before_evaluation,
    stop_before_training,
)
from stratos.teachers.prompting import with_repaired_prompts

ENOUGH = 0.9
"""Accuracy of a tagger from which on language models are not tried beside it."""


def run_pipeline(config: Config) -> float | None:
    """Run the stages that are asked for; the others are read from the run folder.

    Returns:
        The number that a sweep compares jobs by, read from validation items alone: the student's
        exact match, or, as far as the run went, the plan's net cost (negative, so that more is
        better) or the best teacher's accuracy.

    Raises:
        StratosError: a stage cannot go on; what was made before it is kept.
    """
    check_before(config)
    if config.deploy.push_to is not None and "deploy" in config.stages:
        try:
            check_target(config.deploy.push_to)
        except StratosError as error:
            raise ConfigError(f"deploy.push_to={error}") from error
    if (reason := refusal(config, config.run_dir, "hydra.sweep.dir")) is not None:
        raise OtherTaskError(str(reason))  # of a job of a sweep; for any other run the check saw it
    forget_old(config.run_dir)
    with opened(without_refused(config), STAGES) as run:
        number = _with_servers_that_can_be_had(run, config)
        run.summarize()
        if is_bundle(config.run_dir / "bundle"):
            if config.deploy.push_to is not None:
                _push(run.state, config.deploy.push_to)
            if config.deploy.keep:
                _keep_hosted(run.state)
    return number


def _with_servers_that_can_be_had(run: Runner, typed: Config) -> float | None:
    """Run the stages; plan again without a server that cannot be had, a few times.

    Args:
        run: whose stages they are.
        typed: the config as the user typed it.

    Raises:
        StratosError: a stage cannot go on.
    """
    state, folder, n_refused = run.state, run.state.config.run_dir, 0
    began_at = time.monotonic()
    while True:
        try:
            return run_stages(run)
        except (InfeasibleError, CatalogError) as error:
            if not refused_of(state.config):
                raise
            check_limits(state, typed)
            if (region := region_of(state.config)) is None:
                if not _waits(state, began_at):
                    state.console.note(
                        "There is a plan with the servers that could not be had, and none without "
                        f"them. To try them again, delete {folder / NAME}."
                    )
                    raise
                n_refused, state.config = 0, without_refused(state.config, typed)
                continue
            give_up(folder, region, str(error))
            state.console.note(
                f"No other server of {region} does. The plan is solved again for the other regions "
                "that cloud.regions and cloud.residency allow, and the data of the run move there."
            )
        except CapacityError as error:
            n_refused += 1
            refuse(folder, error)
            if n_refused == MOST and _waits(state, began_at):
                n_refused, state.config = 0, without_refused(state.config, typed)
                continue
            _check_refused(state, error, n_refused)
            state.console.note(
                f"{error} The plan is solved again without it ({n_refused} of {MOST} at most; to "
                f"try it again later, delete {folder / NAME}), in its region if another server "
                "there does."
            )
        state.config = without_refused(state.config, typed)


def _waits(state: RunState, began_at: float) -> bool:
    """Wait until the servers that could not be had may be tried again, where the deadline allows.

    Args:
        state: of the run.
        began_at: when the command began, by the monotonic clock.
    """
    deadline, plan = state.config.limits.deadline_hours, state.records.get("plan")
    if deadline is None or not isinstance(plan, Plan):
        return False
    taken_s = time.monotonic() - began_at + WAIT_S
    hours = max(plan.hours, *(plan.hours_range or (0.0,)))
    if plan.spent_hours + taken_s / 3600 + hours > deadline:
        return False
    if not forget_all(state.config.run_dir):  # that is not why
        return False
    state.console.note(
        f"No server can be had now that does. limits.deadline_hours={deadline:g} leaves time: they "
        f"are tried again in {duration(WAIT_S)}."
    )
    time.sleep(WAIT_S)
    return True


def _check_refused(state: RunState, error: CapacityError, n_refused: int) -> None:
    """Leave it to the user where no plan may be made, or too many servers could not be had."""
    path = state.config.run_dir / NAME
    if PLAN.name not in state.requested:
        raise StratosError(
            f"{error} Give the command again with plan among its stages: it plans without "
            f"that server. To try it again, delete {path}."
        ) from error
    if n_refused == MOST:
        raise StratosError(
            f"{error} {MOST} servers could not be had, one after the other. The same "
            f"command plans without them; to try them again, delete {path}."
        ) from error


def _push(state: RunState, target: str) -> None:
    """Publish the bundle, and say where it is."""
    from stratos.deploy.manifest import push

    done = push(state.config.run_dir / "bundle", target)
    state.console.note(
        f"The bundle {'was already' if done.was_there else 'is now'} at {redact(done.url)}. To "
        f"check a copy, type: stratos verify {redact(target)}"
    )


def _keep_hosted(state: RunState) -> None:
    """Leave the student hosted on this machine, and say how to ask and stop it."""
    from stratos.deploy.hosting import keep_hosted
    from stratos.deploy.manifest import bundle_in

    config, deployment = state.config, state.records.get("deploy")
    hosted, ran = keep_hosted(
        bundle_in(config.run_dir),
        config.cache_dir,
        port=config.deploy.port,
        run=deployment.run if isinstance(deployment, Deployment) else None,
    )
    state.console.note(
        f"The student {'is still' if ran else 'stays'} hosted on this machine, at {hosted.url}/v1 "
        f"({hosted.served_by}). How to ask it: stratos serve {config.run_dir}; to try it "
        f"in a browser, add --page; to stop it: stratos serve stop {config.run_dir}"
    )


def check_before(config: Config) -> None:
    """Refuse what cannot be run, before anything is asked or paid."""
    check_rows(config)
    check_students(config)
    if "distill" in config.stages and not (Path(config.paths.run_dir) / "distill.json").exists():
        if "distill" not in config.executor.stages:  # else its job looks at its own machine
            check_machine(config.trainer)
        check_adapter(config.trainer, config.students)


def run_stages(run: Runner) -> float | None:
    """Run the stages in order; return the number that a sweep compares jobs by."""
    probe = run(PROBE)
    run.state.config = with_repaired_prompts(run.state.config, probe)
    pilot = run(PILOT, probe) if _wants_pilot(run.state.config, probe) else None
    plan = run(PLAN, probe, pilot=pilot)
    if plan is not None:
        stop_before_training(run.state.config, plan, pilot)
    corpus = run(SYNTHESIZE, plan)
    student = run(DISTILL, plan, corpus)
    if student is not None:
        stop_before_evaluation(run.state.config, student)
    scorecard = run(EVALUATE, probe, plan, corpus, student)
    run(DEPLOY, plan, scorecard, student, probe=probe, pilot=pilot, corpus=corpus)
    for stage in ADDED:
        run(stage, *(run.state.records.get(name) for name in stage.after))
    run(REPORT)
    if student is not None:
        return student.validation_exact
    if plan is not None:
        return -plan.net_usd
    return (
        max((teacher.exact.mean for teacher in probe.real_teachers), default=None)
        if probe
        else None
    )


def _wants_pilot(config: Config, probe: Probe | None) -> bool:
    """Return whether the plan may need a pilot; the planner's arrays are imported only then.

    One that is made by itself belongs to a run that trains: a plan alone costs almost nothing.
    """
    if config.plan.pilot != "auto":
        return bool(config.plan.pilot)
    best = None if probe is None else probe.best_kind
    has_rival = any(student.is_lm for student in config.students)
    if best is not None and (best.accuracy.mean >= ENOUGH or not has_rival):
        return False  # what is measured is good, or there is no language model beside it
    is_made = (config.run_dir / "pilot.json").exists()
    if probe is None or "plan" not in config.stages or is_made:
        return is_made
    if "distill" not in config.stages:
        return False
    from stratos.probe.pilot.decision import wants_pilot

    return wants_pilot(config, probe)
