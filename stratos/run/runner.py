"""Open a run, and run one stage after another: skip finished ones, show progress, keep results."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from stratos.config import Config
from stratos.core.atomic_files import sweep
from stratos.core.context import Context, Engine, Here, engine_of, unsaid
from stratos.core.errors import BusyError, StratosError, first_cause
from stratos.core.formats import counted, usd
from stratos.core.output import disk_errors, say_ended
from stratos.core.process import locked
from stratos.ledger import reserves
from stratos.records import Plan, Report
from stratos.report.costs import read_ledger
from stratos.run import resume
from stratos.run.console import Console
from stratos.run.live_page import watched_page
from stratos.run.mirror import Mirror, mirrored
from stratos.run.resume import Stage, StoredRecord, missing
from stratos.run.run_state import LOCK, ProgressFile, RunFolder, RunState, Warnings, needed_stages
from stratos.run.screen import Line
from stratos.run.stage_job import (
    check_handed,
    end_job,
    hold_money,
    made_by_job,
    more_money,
    roles_done,
    runs_as_job,
    with_money,
)
from stratos.teachers.cache import FOLDER, restored
from stratos.tracking.tracker import tracked

T = TypeVar("T")
_CHECK_S = 1.0
"""Seconds between two looks whether the run folder is there, at least."""


class Runner:
    """Called once for each stage, with the records that it takes."""

    def __init__(
        self, state: RunState, mirror: Mirror | None = None, folder: RunFolder | None = None
    ) -> None:
        """Start without records.

        Args:
            state: of the run.
            mirror: copy of the run folder that is kept.
            folder: of the run, where this process has its lock.
        """
        self.state = state
        self.needed = needed_stages(state.config, state.stages)
        self._mirror = mirror
        self._folder = folder
        self._unverified: dict[str, Path] = {}
        """Stage to the folder of its record, which another command made, whose files may be damaged
        by now, and were not read yet."""
        self._are_rows_introduced = self._is_task_introduced = False

    def __call__(self, stage: Stage[T], *inputs: Any, **optional: Any) -> T | None:
        """Return the record of a stage: made now, or read if it is done or was not asked for.

        None if no stage that is asked for needs it, or if it is switched off. A record in
        `optional` is handed on by its name, or as None where there is none.

        Raises:
            StratosError: the stage cannot be run.
        """
        state = self.state
        if stage.name not in self.needed:
            return None
        self._check_folder()
        if stage.name not in state.requested:
            return self._read(stage)
        self._require(stage)
        self._introduce_rows(stage)
        stored = resume.find(stage, state.config.run_dir)
        mark = state.fingerprint(stage, None if stored is None else stored.record)
        if stored is None:
            return self._make(stage, mark, inputs, optional)
        if stored.record is not None and stored.fingerprint == mark:
            if (more := more_money(state, stage, stored.record)) is None:
                end_job(state, stage, stored.record)
                return self._reuse(stage, stored, state.config.run_dir)
            state.console.note(f"{stage.name}: {more}; it continues.")
        else:
            trouble = stored.trouble or self._what_changed(stage, stored)
            state.console.note(f"{stage.name}: {trouble}; it runs again.")
        return self._make(stage, mark, inputs, optional)

    def summarize(self) -> None:
        """Show what came out, and give the tracker what runs are compared by."""
        from stratos.run.summary import final_numbers, show

        state = self.state
        numbers = final_numbers(state.records, read_ledger(state.ledger.path), state.config)
        state.tracker.summary(numbers)
        show(state.console, state.config, state.records, state.ledger.path)
        report: Report | None = state.records.get("report")
        if report is not None:
            numbers["report"] = report.path
        say_ended(state.config.run_dir, [*state.records], numbers, state.ledger.spent_usd)

    def _read(self, stage: Stage[T]) -> T | None:
        """Read the record of a stage that was not asked for, wherever it may be."""
        state = self.state
        folders = (state.config.run_dir, state.config.paths.records_from)
        for folder in (Path(folder).expanduser() for folder in folders if folder is not None):
            stored = resume.find(stage, folder)
            if stored is None:
                continue
            if stored.record is None:
                state.warnings.add(f"{stored.trouble}; it is not used.")
                continue
            made_for = getattr(stored.record, "task", state.config.task.name)
            if made_for != state.config.task.name:
                raise StratosError(
                    f"{folder}/{stage.name}.json was made for the task {made_for}, not for "
                    f"{state.config.task.name}. Give another folder with hydra.run.dir=<folder>."
                )
            if stored.fingerprint != state.fingerprint(stage, stored.record):
                changed = self._what_changed(stage, stored)
                state.console.note(f"{stage.name}: used as it is, although {changed}.")
            return self._reuse(stage, stored, folder)
        return None

    def _reuse(self, stage: Stage[T], stored: StoredRecord, folder: Path) -> T:
        """Go on with a record of another command, whose files are verified when they are read."""
        state = self.state
        state.console.done(stage.name, stored.record, again=True)
        self._unverified[stage.name] = folder
        record = self._add(stage, cast(T, stored.record), stored.fingerprint)
        is_input = folder != state.config.run_dir
        state.tracker.record(state.config, stage.name, state.records, is_input)
        return record

    def _what_changed(self, stage: Stage[T], stored: StoredRecord) -> str:
        return resume.what_changed(stored.inputs, self.state.inputs(stage, stored.record))

    def _require(self, stage: Stage[T]) -> None:
        state = self.state
        lacking = [name for name in stage.after if name not in state.records]
        if lacking:
            stages = [*lacking, *(name for name in state.config.stages if name not in lacking)]
            raise StratosError(
                f"{stage.name} needs the record of {' and '.join(lacking)}, and "
                f"{state.config.run_dir} has none. Add the stage: stages=[{','.join(stages)}], go "
                "on in the folder of a run that has it with hydra.run.dir=<folder>, or read it "
                "there with paths.records_from=<folder>."
            )

    def _make(
        self, stage: Stage[T], mark: str, inputs: tuple[Any, ...], optional: dict[str, Any]
    ) -> T | None:
        state = self.state
        for name in (*stage.after, *stage.uses):
            if name in self._unverified:
                resume.verify(name, self._unverified.pop(name))
        state.warnings.begin(stage.name)
        self._introduce_task(stage)
        state.ledger.stage = stage.name
        state.tracker.begin(stage.name)
        if state.progress is not None:
            state.progress.begin(stage.name)
        if stage.forgets_plan:
            reserves.allot(state.ledger, "", {})  # another plan follows
        is_job = runs_as_job(state, stage)
        with (
            state.console.stage(stage.name) as tick,
            contextlib.nullcontext(Here()) if is_job else self._engine(stage) as engine,
            disk_errors(stage.name, state.config.run_dir, state.config.cache_dir),
        ):
            context = Context(
                run_dir=state.config.run_dir, cache_dir=state.config.cache_dir, ledger=state.ledger,
                tick=self._tracked(tick, stage, is_job=is_job), warn=state.warnings.add,
                log=self._logged(stage), fingerprint=mark, engine=engine,
                sample=unsaid if state.progress is None else state.progress.sample,
                note=state.console.note if is_job else state.console.detail,
                spent_seconds=sum(getattr(each, "seconds", 0.0) for each in state.records.values()),
                answers_dir=None if self._mirror is None else state.config.run_dir / FOLDER,
            )  # fmt: skip
            record: T | None
            if is_job:
                record = made_by_job(state, stage, mark, context)
                mark = state.fingerprint(stage, record)
            else:
                with self._alone(stage, mark):
                    check_handed(state, stage, mark)
                    record = self._call(stage, inputs, optional, context)
                    if isinstance(record, Plan):
                        record = cast(T, self._dated(record, mark))
                    self._check_folder()
                    if record is not None:
                        mark = self._save(stage, record)
            if self._mirror is not None:
                self._mirror.soon()
        if record is None:
            if stage.name in state.config.stages:
                state.console.skipped(stage.name)
            return None
        state.console.done(stage.name, record)
        self._add(stage, record, mark)
        self._track(stage)
        if stage.record is Plan and (reserved := reserves.describe(state.ledger)):
            state.console.detail(f"{stage.name}: {reserved}.")
        return record

    def _check_folder(self) -> None:
        """Check that the run folder is there before a record is read from it or written to it.

        Raises:
            FolderGoneError: it is not.
        """
        if self._folder is not None:
            self._folder.check()

    def _save(self, stage: Stage[T], record: T) -> str:
        """Write a record, and return its fingerprint.

        Raises:
            StratosError: something that the stage has made was deleted meanwhile.
        """
        state, run_dir = self.state, self.state.config.run_dir
        if (gone := missing(record, run_dir)) is not None:
            raise StratosError(
                f"{stage.name}: {gone} was deleted while the stage worked. Give the same command "
                "again: the stage goes on, and makes it again."
            )
        mark = state.fingerprint(stage, record)
        resume.keep(stage, run_dir, mark, record, state.inputs(stage, record))
        return mark

    def _introduce_rows(self, stage: Stage[Any]) -> None:
        """Say how the task's rows are split, before the first stage that works on them."""
        if self._are_rows_introduced or not stage.works_on_task or self.state.job is not None:
            return
        self._are_rows_introduced = True
        task = self.state.config.task
        made = f"made by the task {task.name}; to repeat them: seed={self.state.config.seed}"
        notes = task.notes or (made,)
        self.state.console.show([Line("rows", "\n".join(notes))])

    def _introduce_task(self, stage: Stage[Any]) -> None:
        """Warn of a task's own files before the first stage that works on them; once a run."""
        state = self.state
        if self._is_task_introduced or not stage.works_on_task:
            return
        self._is_task_introduced = True
        task = state.config.task
        if task.has_rows and state.job is None:
            from stratos.evaluate.read_log import said_of_runs

            rows = task.items("test", task.n_test)
            if earlier := said_of_runs(state.config.cache_dir, state.config.run_dir, rows):
                state.console.detail(earlier)
        for complaint in map(str, task.complaints):
            state.warnings.add(complaint)

    def _engine(self, stage: Stage[Any]) -> contextlib.AbstractContextManager[Engine]:
        """Return what does the work of a stage that is the same wherever it is done."""
        if not stage.has_engine:
            return contextlib.nullcontext(Here())
        settings = self.state.config.synthesize
        return engine_of(settings.engine).connected(settings.ray_address, self.state.console.note)

    def _tracked(
        self, tick: Callable[..., None], stage: Stage[Any], *, is_job: bool
    ) -> Callable[..., None]:
        """Return a stage's tick that is tracked; what is no job shows its money, too.

        Such a stage ends at its next tick once the run folder is gone.
        """
        ledger, progress = self.state.ledger, self.state.progress
        tick, due = tick if is_job else with_money(self.state, tick, stage), 0.0

        def tick_and_track(done: float, total: float, text: str = "") -> None:
            nonlocal due
            if not is_job and time.monotonic() >= due:
                self._check_folder()
                due = time.monotonic() + _CHECK_S
            tick(done, total, text)
            if progress is not None:
                progress.tick(done, total, text)
            self.state.tracker.progress(
                stage.name, done, total, ledger.usd_so_far, ledger.budget_usd
            )

        return tick_and_track

    def _logged(self, stage: Stage[Any]) -> Callable[..., None]:
        """Return a stage's log of metrics, whose training curve others read meanwhile."""
        track, progress = self.state.tracker.for_stage(stage.name), self.state.progress

        def log(metrics: Mapping[str, float], step: int | None = None) -> None:
            track(metrics, step)
            if progress is not None:
                progress.log(metrics, step)

        return log

    def _track(self, stage: Stage[Any]) -> None:
        """Track what a stage has just made, and what is known of the run by now."""
        state = self.state
        if not state.tracker.is_on:
            return
        from stratos.run.summary import final_numbers

        state.tracker.record(state.config, stage.name, state.records)
        spends = read_ledger(state.ledger.path)
        state.tracker.summary(final_numbers(state.records, spends, state.config))

    def _call(
        self,
        stage: Stage[T],
        inputs: tuple[Any, ...],
        optional: dict[str, Any],
        context: Context,
    ) -> T | None:
        """Import a stage's package only now: torch comes with the stage that needs it."""
        state = self.state
        module, _, name = stage.function.partition(":")
        function = getattr(importlib.import_module(module), name)
        if stage.record is Report:
            made: T | None = function(state.config, state.records, context, state.warnings.all())
        else:
            made = function(state.config, *inputs, context, **optional)
        return made

    def _alone(self, stage: Stage[T], mark: str) -> contextlib.AbstractContextManager[Any]:
        """Let jobs of a sweep that would ask the same do so one by one."""
        if not stage.is_shared_by_jobs:
            return contextlib.nullcontext()
        name = stage.name
        return locked(
            self.state.config.cache_dir / "locks" / f"{name}-{mark[:16]}.lock",
            waiting=lambda: self.state.console.note(
                f"{name}: another run is asking the same; waiting."
            ),
        )

    def _dated(self, plan: Plan, mark: str) -> Plan:
        """Say of a plan that it was made when its training was over: what it expects is no news."""
        self.state.records["plan"], self.state.marks["plan"] = plan, mark
        return replace(plan, is_late="train" in roles_done(self.state))

    def _add(self, stage: Stage[T], record: T, mark: str) -> T:
        """Let the stages after this one have its record."""
        state = self.state
        state.records[stage.name] = record
        state.marks[stage.name] = mark
        if self._folder is not None and (state.config.run_dir / f"{stage.name}.json").exists():
            self._folder.add_record(f"{stage.name}.json")
        hold_money(state, stage, record)
        if isinstance(seconds := getattr(record, "seconds", None), float):
            state.tracker.summary({f"{stage.name}_seconds": seconds})
        return record


@contextlib.contextmanager
def opened(config: Config, stages: Sequence[Stage[Any]]) -> Iterator[Runner]:
    """Open the run folder, the tracker and the console for the stages of one run.

    Args:
        config: the run's config.
        stages: all that there are, in order.

    Raises:
        StratosError: the folder cannot be written.
        BusyError: another process works in it.
    """
    folder = config.run_dir
    console = Console(explain=config.plan.explain, folder=folder)
    with first_cause(console.warn) as first, contextlib.ExitStack() as stack:
        with disk_errors("start", folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(folder / LOCK))
            except BlockingIOError:
                raise BusyError(
                    f"{folder}: another process is working in this folder. Wait for it to end, "
                    "or leave hydra.run.dir out for a new folder."
                ) from None
        prepare(config)
        run_folder = RunFolder(folder)
        mirror = stack.enter_context(mirrored(config, run_folder, console.warn, console.note))
        if mirror is not None and (n := restored(folder, config.cache_dir, console.warn)):
            console.note(f"{counted(n, 'answer', spec=',')} of teachers came with the copy.")
        warnings = Warnings(folder / "warnings.json", console.warn, run_folder)
        tracker = stack.enter_context(tracked(config, warnings.add, console.note))
        for teacher in config.teachers:
            stack.callback(teacher.close)
        progress = ProgressFile(folder, run_folder.is_gone)
        with (
            console.closing(),
            run_folder.watched(),
            watched_page(folder, run_folder.is_gone) as page,
        ):
            if page is not None:
                console.show([Line("page", str(page))])
            state = RunState(config, stages, console, tracker, warnings, progress=progress)
            try:
                yield Runner(state, mirror, run_folder)
            except StratosError as error:
                first.append(error)
                if spent := state.ledger.spent_usd:
                    stays = "" if run_folder.is_gone() else f"; what is made stays in {folder}"
                    console.show([Line("spent", f"{usd(spent)}{stays}")])
                raise
            progress.remove()


def prepare(config: Config) -> None:
    """Make the cache folder, take away what killed processes left, and read the user's GPUs.

    Raises:
        StratosError: the folder cannot be made, or the file of GPUs not be read.
    """
    sweep(config.run_dir)
    try:
        config.cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StratosError(
            f"The cache folder {config.cache_dir} cannot be made ({error.strerror}). Type "
            "paths.cache_dir=<folder>, or set STRATOS_CACHE=<folder> in the environment."
        ) from error
    sweep(config.cache_dir, levels=2)
    if config.cloud.gpu_file is not None:
        from stratos.catalog.gpus import use_gpu_file  # not before it is needed

        use_gpu_file(config.cloud.gpu_file)
