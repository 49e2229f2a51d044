"""Run one stage after another: skip finished ones, show progress, keep results."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from stratos.config import Config
from stratos.core.atomic_files import sweep, write_atomically
from stratos.core.chunk_engine import Engine, Here
from stratos.core.context import Context
from stratos.core.counted import counted
from stratos.core.disk_errors import disk_errors
from stratos.core.errors import BudgetError, BusyError, StratosError
from stratos.core.foreign import cause
from stratos.core.formats import usd
from stratos.core.integrity import missing
from stratos.core.locks import locked
from stratos.core.money import exact_usd
from stratos.core.ray_engine import connected
from stratos.executors import handed
from stratos.executors.handed import Handed
from stratos.executors.job_of_stage import PLANNED, ROLE_OF, fewer_nodes, job_spec
from stratos.ledger import Ledger, reserves
from stratos.records import Plan, Report, from_json, to_json
from stratos.report.costs import read_ledger
from stratos.run import resume
from stratos.run.console import Console
from stratos.run.held_folder import LOCK, HeldFolder
from stratos.run.mirror import Mirror, mirrored
from stratos.run.one_line import say_ended
from stratos.run.placing import (
    cache_for,
    keys_of,
    planned_egress_usd,
    planned_trials_usd,
    returns_of,
    roles_of_jobs,
    why_here,
)
from stratos.run.resume import Stage
from stratos.teachers.cached import restored
from stratos.teachers.choosing_items import makes_cascade
from stratos.teachers.kept_answers import FOLDER
from stratos.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_SEEN_S = 10.0
"""How long another machine's file may take until it is seen here."""


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
    with contextlib.ExitStack() as stack:
        with disk_errors("start", folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(folder / LOCK))
            except BlockingIOError:
                raise BusyError(
                    f"{folder}: another process is working in this folder. Wait for it to end, "
                    "or leave hydra.run.dir out for a new folder."
                ) from None
        sweep(folder)
        _make_cache_folder(config.cache_dir)
        held = HeldFolder(folder)
        mirror = stack.enter_context(mirrored(config, held, console.warn, console.note))
        if mirror is not None and (n := restored(folder, config.cache_dir, console.warn)):
            console.note(f"{counted(n, 'answer', spec=',')} of teachers came with the copy.")
        warnings = Warnings(folder / "warnings.json", console.warn, held)
        tracker = stack.enter_context(tracked(config, warnings.add))
        for teacher in config.teachers:
            stack.callback(teacher.close)
        if config.cloud.gpu_file is not None:
            from stratos.catalog.gpus import use_gpu_file  # not before it is needed

            use_gpu_file(config.cloud.gpu_file)
        with console.closing(), held.watched():
            yield Runner(config, console, tracker, warnings, stages, mirror=mirror, held=held)


def _make_cache_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StratosError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Type "
            "paths.cache_dir=<folder>, or set STRATOS_CACHE=<folder> in the environment."
        ) from error
    sweep(folder, levels=2)


def _asked(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those that come with one of them."""
    parts = {one.name for one in stages if one.is_part_of in config.stages}
    return frozenset({*config.stages, *parts} - _switched_off(config))


def _needed(config: Config, stages: Sequence[Stage[Any]]) -> frozenset[str]:
    """Return the stages that are asked for, and those whose records they take."""
    needed = set(_asked(config, stages))
    for stage in reversed(stages):
        if stage.name in needed:
            needed |= {*stage.after, *stage.uses}
    return frozenset(needed - _switched_off(config))


def _switched_off(config: Config) -> frozenset[str]:
    off = ["pilot"] if config.plan.pilot is False else []
    if not makes_cascade(config):
        off.append("cascade")
    return frozenset(off)


def _found_late(stage: Stage[T], folder: Path) -> resume.Kept | None:
    """Read the record that a job has left; a file system may show it seconds later."""
    until = time.monotonic() + _SEEN_S
    while (kept := resume.find(stage, folder)) is None and time.monotonic() < until:
        time.sleep(_SEEN_S / 20)
    return kept


class Warnings:
    """What the user should read: said once, and kept by stage for the report and a resumed run."""

    def __init__(
        self, path: Path, say: Callable[[str], None], held: HeldFolder | None = None
    ) -> None:
        """Go on with the warnings that an earlier run left at `path`.

        Args:
            path: of the file.
            say: shows a warning.
            held: the run folder; nothing is written once it is gone.
        """
        self.path = path
        self._held = held
        self.stage = "start"
        self._say = say
        self._by_stage: dict[str, list[str]] = {}
        # A file that was cut short holds nothing worth stopping for.
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self._by_stage = from_json(path.read_bytes(), dict[str, list[str]])
        self._by_stage.pop("start", None)

    def begin(self, stage: str) -> None:
        """Forget what the last run of a stage warned of."""
        self.stage = stage
        self._by_stage.pop(stage, None)

    def add(self, text: str) -> None:
        """Say a warning, unless this stage said it already."""
        said = self._by_stage.setdefault(self.stage, [])
        if text not in said:
            said.append(text)
            self._say(text)
            if self._held is not None and self._held.is_gone():
                return
            write_atomically(self.path, to_json(self._by_stage))

    def all(self) -> list[str]:
        """Return every warning of the run, each once."""
        return list(dict.fromkeys(text for said in self._by_stage.values() for text in said))


class Runner:
    """Called once for each stage, with the records that it takes."""

    def __init__(
        self,
        config: Config,
        console: Console,
        tracker: Tracker,
        warnings: Warnings,
        stages: Sequence[Stage[Any]],
        job: Handed | None = None,
        mirror: Mirror | None = None,
        held: HeldFolder | None = None,
    ) -> None:
        """Start without records.

        Args:
            config: the run's config.
            console: says what happens.
            tracker: keeps metrics.
            warnings: keeps what the user should read.
            stages: all that there are, in order.
            job: what this process was handed, where another one holds the run.
            mirror: copy of the run folder that is kept.
            held: the run folder, where this process has its lock.
        """
        self.config = config
        self.stages = stages
        self.asked = _asked(config, stages)
        self.needed = _needed(config, stages)
        self.console = console
        self.tracker = tracker
        self.warnings = warnings
        path = config.run_dir / "ledger.jsonl"
        self._job = job
        self._mirror = mirror
        self._held = held
        is_alone = job is None and not handed.is_any(config.run_dir)
        self.ledger = Ledger(path, config.limits.budget_usd, is_alone=is_alone)
        self.records: dict[str, Any] = {}
        self._marks: dict[str, str] = {}
        self._unverified: dict[str, Path] = {}
        """Stage to the folder of its record, where the files that it names were not read yet."""
        self._unmarked: dict[str, Path] = {}
        """The same of records of older versions, of whose files nothing but the size is known."""
        self._is_task_told = False

    def __call__(self, stage: Stage[T], *inputs: Any, **optional: Any) -> T | None:
        """Return the record of a stage: made now, or read if it is done or was not asked for.

        None if no stage that is asked for needs it, or if it is switched off. A record in
        `optional` is handed on by its name, or as None where there is none.

        Raises:
            StratosError: the stage cannot be run.
        """
        if stage.name not in self.needed:
            return None
        self._check_held()
        if stage.name not in self.asked:
            return self._read(stage)
        self._require(stage)
        kept = resume.find(stage, self.config.run_dir)
        mark = self._fingerprint(stage, kept.record if kept is not None else None)
        if kept is not None and kept.record is not None and kept.fingerprint == mark:
            if more := self._more_money(stage, kept.record):
                self.console.note(f"{stage.name}: {more}; it continues.")
                return self._make(stage, mark, inputs, optional)
            self.console.done(stage.name, kept.record, again=True)
            self._end_job(stage, kept.record)
            self._not_made_now(stage.name, self.config.run_dir, kept)
            taken = self._take(stage, kept.record, mark)
            self.tracker.record(self.config, stage.name, self.records)
            return taken
        if kept is not None:
            trouble = kept.trouble or resume.what_changed(
                kept.inputs, self._inputs(stage, kept.record)
            )
            self.console.note(f"{stage.name}: {trouble}; it runs again.")
        return self._make(stage, mark, inputs, optional)

    def summarize(self) -> None:
        """Show what came out, and give the tracker what runs are compared by."""
        from stratos.run.summary import final_numbers, show

        numbers = final_numbers(self.records, read_ledger(self.ledger.path), self.config)
        self.tracker.summary(numbers)
        show(self.console.rich, self.config, self.records, self.ledger.path)
        say_ended(self.config.run_dir, [*self.records], numbers, self.ledger.spent_usd)

    def _cap_usd(self, stage: Stage[Any]) -> float | None:
        """Return what may be spent in all by the end of a stage."""
        own = getattr(self.config.limits, stage.own_limit) if stage.own_limit else None
        return self.ledger.cap_usd(own)

    def _more_money(self, stage: Stage[Any], record: Any) -> str:
        """Say that a stage left out what it may now pay for; "" where it did not, or may not."""
        cut_at, cap = getattr(record, "cut_at_usd", None), self._cap_usd(stage)
        if cut_at is None or (cap is not None and cap <= cut_at):
            return ""
        now = "has no limit" if cap is None else f"may spend {usd(cap)}"
        return f"it stopped at {usd(cut_at)} and now {now}"

    def _fingerprint(self, stage: Stage[Any], own: Any) -> str:
        return resume.fingerprint(stage, self.config, self.records, self._marks, own)

    def _inputs(self, stage: Stage[Any], own: Any) -> dict[str, str]:
        return resume.named(resume.inputs_of(stage, self.config, self.records, self._marks, own))

    def _read(self, stage: Stage[T]) -> T | None:
        """Read the record of a stage that was not asked for, wherever it may be."""
        for folder in (self.config.run_dir, self.config.paths.records_from):
            kept = resume.find(stage, Path(folder).expanduser()) if folder is not None else None
            if kept is None:
                continue
            if kept.record is None:
                self.warnings.add(f"{kept.trouble}; it is not used.")
                continue
            made_for = getattr(kept.record, "task", self.config.task.name)
            if made_for != self.config.task.name:
                raise StratosError(
                    f"{folder}/{stage.name}.json was made for the task {made_for}, not for "
                    f"{self.config.task.name}. Give another folder with hydra.run.dir=<folder>."
                )
            if kept.fingerprint != self._fingerprint(stage, kept.record):
                changed = resume.what_changed(kept.inputs, self._inputs(stage, kept.record))
                self.console.note(f"{stage.name}: used as it is, although {changed}.")
            self.console.done(stage.name, kept.record, again=True)
            self._not_made_now(stage.name, Path(str(folder)).expanduser(), kept)
            taken = self._take(stage, kept.record, kept.fingerprint)
            is_input = Path(str(folder)).expanduser() != self.config.run_dir
            self.tracker.record(self.config, stage.name, self.records, is_input)
            return taken
        return None

    def _require(self, stage: Stage[T]) -> None:
        lacking = [name for name in stage.after if name not in self.records]
        if lacking:
            wanted = [*lacking, *(name for name in self.config.stages if name not in lacking)]
            raise StratosError(
                f"{stage.name} needs the record of {' and '.join(lacking)}, and "
                f"{self.config.run_dir} has none. Add the stage: stages=[{','.join(wanted)}], go "
                "on in the folder of a run that has it with hydra.run.dir=<folder>, or read it "
                "there with paths.records_from=<folder>."
            )

    def _make(
        self, stage: Stage[T], mark: str, inputs: tuple[Any, ...], optional: dict[str, Any]
    ) -> T | None:
        for name in (*stage.after, *stage.uses):
            if name in self._unverified:
                resume.verify(name, self._unverified.pop(name))
        self.warnings.begin(stage.name)
        self._tell_of_task(stage)
        self.ledger.stage = stage.name
        self.tracker.begin(stage.name)
        if stage.forgets_plan:
            reserves.allot(self.ledger, "", {})  # another plan follows
        is_job = self._goes(stage)
        with (
            self.console.stage(stage.name) as tick,
            contextlib.nullcontext(Here()) if is_job else self._engine(stage) as engine,
            disk_errors(stage.name, self.config.run_dir, self.config.cache_dir),
        ):
            context = Context(
                run_dir=self.config.run_dir,
                cache_dir=self.config.cache_dir,
                ledger=self.ledger,
                tick=self._tracked(tick if is_job else self._with_money(tick, stage), stage),
                warn=self.warnings.add,
                log=self.tracker.for_stage(stage.name),
                fingerprint=mark,
                note=self.console.note,
                spent_seconds=sum(getattr(one, "seconds", 0.0) for one in self.records.values()),
                answers_dir=None if self._mirror is None else self.config.run_dir / FOLDER,
                engine=engine,
            )
            record: T | None
            if is_job:
                record = self._made_by_job(stage, mark, context)
                mark = self._fingerprint(stage, record)
            else:
                with self._alone(stage, mark):
                    self._check_handed(stage, mark)
                    with self._blamed(stage):
                        record = self._call(stage, inputs, optional, context)
                    if isinstance(record, Plan):
                        record = cast(T, self._dated(record, mark))
                    self._check_held()
                    if record is not None:
                        self._check_left(stage, record)
                        mark = self._fingerprint(stage, record)
                        made_from = self._inputs(stage, record)
                        resume.keep(stage, self.config.run_dir, mark, record, made_from)
            if self._mirror is not None:
                self._mirror.soon()
        if record is None:
            if stage.name in self.config.stages:
                self.console.skipped(stage.name)
            return None
        self.console.done(stage.name, record)
        taken = self._take(stage, record, mark)
        self._track(stage)
        if stage.record is Plan and (held := reserves.said(self.ledger)):
            self.console.note(f"{stage.name}: {held}.")
        return taken

    def _goes(self, stage: Stage[Any]) -> bool:
        """Return whether a stage runs as a job; say why where it was to, and does not."""
        if self._job is not None or stage.name not in self.config.executor.stages:
            return False
        why = why_here(self.config, stage.name, self.records.get("plan"))
        if why is not None:
            self.console.note(f"{stage.name}: runs here, and not as a job: {why}.")
        return why is None

    def _made_by_job(self, stage: Stage[T], mark: str, context: Context) -> T:
        """Return the record of a stage that runs as a job.

        Raises:
            StratosError: the job failed, or what it left is not what was asked for.
        """
        from stratos.executors.follow import Handover, run_there
        from stratos.run.kept_config import hand_over

        folder, executor = self.config.run_dir, self.config.executor
        hand_over(folder, stage.name)  # the job reads it
        deadline = self.config.limits.deadline_hours
        spec = job_spec(
            self.records.get("plan"),
            stage.name,
            folder,
            executor,
            deadline_hours=deadline,
            withheld=keys_of(self.config),
            nodes=self.config.trainer.num_nodes if stage.name == "distill" else 1,
            files=resume.files_of(stage, self.config),
            cache={}
            if executor.shares_files
            else cache_for(self.config, stage.name, self.records.get("distill")),
            returns=returns_of(self.config, stage.name, self.records.get("plan")),
        )
        if (fewer := fewer_nodes(self.records.get("plan"), spec, executor.kind)) is not None:
            context.warn(f"{stage.name}: {fewer}")
        longest = deadline if executor.max_pending_hours is None else executor.max_pending_hours
        run_there(Handover(executor, spec, mark, self._inputs_now(stage), longest), context)
        kept = _found_late(stage, folder)
        if kept is None or kept.record is None:
            why = f"{folder} has none" if kept is None else kept.trouble
            raise StratosError(
                f"{stage.name}: its job ended well, and its record cannot be read: {why}. The job "
                "has to write to the folder that this machine reads: put the run on a file system "
                "that both share, with hydra.run.dir=<folder>."
            )
        record: T = kept.record
        if kept.fingerprint != self._fingerprint(stage, record):
            changed = resume.what_changed(kept.inputs, self._inputs(stage, record))
            raise StratosError(
                f"{stage.name}: its job made the record from other inputs than there are here: "
                f"{changed}. Give the same command again: it is made again."
            )
        return record

    def _end_job(self, stage: Stage[Any], record: Any) -> None:
        """Take notice of a job that has left its record while no command followed it."""
        if self._job is None and handed.find(self.config.run_dir, stage.name) is not None:
            from stratos.executors.earlier import end_made

            inputs = self._inputs(stage, record)
            inputs.pop(resume.SEEN, None)
            end_made(
                self.config.run_dir, stage.name, inputs, self.ledger, self.console.note,
                self.warnings.add,
            )  # fmt: skip

    def _check_handed(self, stage: Stage[Any], mark: str) -> None:
        """Refuse to run a stage that a job still has, or as a job with other inputs than its own.

        Raises:
            StratosError: it is so.
        """
        folder = self.config.run_dir
        if self._job is not None and self._job.mark != mark:
            changed = resume.what_changed(self._job.inputs, self._inputs_now(stage))
            raise StratosError(
                f"{stage.name}: what its job finds is not what it was submitted with: {changed}. "
                "The nodes have to see the same files, and the same Stratos, as the machine that "
                "submits."
            )
        if self._job is None and (known := handed.find(folder, stage.name)) is not None:
            raise StratosError(handed.refusal(known, folder, stage.name))

    def _check_held(self) -> None:
        """Check that the run folder is there before a record is read from it or written to it.

        Raises:
            FolderGoneError: it is not.
        """
        if self._held is not None:
            self._held.check()

    def _check_left(self, stage: Stage[Any], record: Any) -> None:
        """Check that all is there that a stage has just made.

        Raises:
            StratosError: something was deleted meanwhile.
        """
        if (gone := missing(record, self.config.run_dir)) is not None:
            raise StratosError(
                f"{stage.name}: {gone} was deleted while the stage worked. Give the same command "
                "again: the stage goes on, and makes it again."
            )

    def _inputs_now(self, stage: Stage[Any]) -> dict[str, str]:
        kept = resume.find(stage, self.config.run_dir)
        return self._inputs(stage, None if kept is None else kept.record)

    def _not_made_now(self, name: str, folder: Path, kept: resume.Kept) -> None:
        """Take notice of a record that another command made: its files may be damaged by now."""
        (self._unverified if kept.is_marked else self._unmarked)[name] = folder

    @contextlib.contextmanager
    def _blamed(self, stage: Stage[Any]) -> Iterator[None]:
        """Say which stages left what a stage fails on, where their files cannot be verified.

        Raises:
            StratosError: the block failed on something that nobody expects.
        """
        try:
            yield
        except StratosError:
            raise
        except Exception as error:
            before = [name for name in (*stage.after, *stage.uses) if name in self._unmarked]
            if not before or (isinstance(error, OSError) and error.errno is not None):
                raise
            files = " and ".join(str(self._unmarked[name] / f"{name}.json") for name in before)
            raise StratosError(
                f"{stage.name} failed on what earlier stages left ({type(error).__name__}: "
                f"{cause(error)}). Their records are from an older version without checksums, so "
                f"damage cannot be detected. Delete {files} and give the same command again: these "
                "stages run again."
            ) from error

    def _tell_of_task(self, stage: Stage[Any]) -> None:
        """Warn of a task's own files before the first stage that works on them; once a run."""
        if self._is_task_told or not stage.works_on_task:
            return
        self._is_task_told = True
        for note in self.config.task.notes:
            self.console.note(note)
        self._tell_of_earlier_runs()
        for complaint in self.config.task.complaints:
            self.warnings.add(complaint)

    def _tell_of_earlier_runs(self) -> None:
        """Say which earlier runs of this machine were measured on the same test rows."""
        task = self.config.task
        if not task.has_rows or self._job is not None:
            return
        from stratos.evaluate.read_log import said_of_runs

        rows = task.items("test", task.n_test)
        if told := said_of_runs(self.config.cache_dir, self.config.run_dir, rows):
            self.console.note(told)

    def _engine(self, stage: Stage[Any]) -> contextlib.AbstractContextManager[Engine]:
        """Return what does the work of a stage that is the same wherever it is done."""
        wanted = self.config.synthesize
        if wanted.engine == "local" or not stage.has_engine:
            return contextlib.nullcontext(Here())
        return connected(wanted.ray_address, self.console.note)

    def _with_money(self, tick: Callable[..., None], stage: Stage[Any]) -> Callable[..., None]:
        """Return a stage's tick that shows what the run has spent so far, once the stage pays."""
        ledger = self.ledger
        limit, before = self._cap_usd(stage), ledger.usd_so_far
        # A limit of its own is on what the stage spends alone.
        others = ledger.spent_usd - ledger.spent_here_usd if stage.own_limit else 0.0

        def told(done: float, total: float, text: str = "") -> None:
            spent = ledger.usd_so_far
            if spent > before:
                money = f"{usd(spent - others)} spent" + (
                    "" if limit is None else f" of {usd(limit)}"
                )
                text = f"{text} · {money}" if text else money
            tick(done, total, text)

        return told

    def _tracked(self, tick: Callable[..., None], stage: Stage[Any]) -> Callable[..., None]:
        """Return a stage's tick that is tracked, too."""
        ledger = self.ledger

        def told(done: float, total: float, text: str = "") -> None:
            tick(done, total, text)
            self.tracker.progress(stage.name, done, total, ledger.usd_so_far, ledger.budget_usd)

        return told

    def _track(self, stage: Stage[Any]) -> None:
        """Track what a stage has just made, and what is known of the run by now."""
        if not self.tracker.is_on:
            return
        from stratos.run.summary import final_numbers

        self.tracker.record(self.config, stage.name, self.records)
        spends = read_ledger(self.ledger.path)
        self.tracker.summary(final_numbers(self.records, spends, self.config))

    def _call(
        self,
        stage: Stage[T],
        inputs: tuple[Any, ...],
        optional: dict[str, Any],
        context: Context,
    ) -> T | None:
        """Import a stage's package only now: torch comes with the stage that needs it."""
        function = getattr(importlib.import_module(f"stratos.{stage.name}"), stage.name)
        if stage.record is Report:
            made: T | None = function(self.config, self.records, context, self.warnings.all())
        else:
            made = function(self.config, *inputs, context, **optional)
        return made

    def _alone(self, stage: Stage[T], mark: str) -> contextlib.AbstractContextManager[None]:
        """Let jobs of a sweep that would ask the same do so one by one."""
        if not stage.is_shared_by_jobs:
            return contextlib.nullcontext()
        name = stage.name
        return locked(
            self.config.cache_dir / "locks" / f"{name}-{mark[:16]}.lock",
            waiting=lambda: self.console.note(f"{name}: another run is asking the same; waiting."),
        )

    def _hold_money(self, stage: Stage[Any], record: Any) -> None:
        """Hold what a plan counts with for each role; free what is left where one is done."""
        if isinstance(record, Plan):
            spenders = {one.name for one in self.stages if one.spends_plan}
            if self.asked & {stage.name, *spenders}:
                budget = self.ledger.budget_usd
                left = None if budget is None else max(0.0, budget - self.ledger.committed_usd)
                jobs = roles_of_jobs(self.config, record)
                egress = planned_egress_usd(self.config, record)
                done, trials = self._roles_done(), planned_trials_usd(self.config, record)
                held = reserves.planned_usd(record, left, egress, jobs, done, trials)
                before = self.ledger.totals.plan
                is_new = before is None or before.plan != self._marks[stage.name]
                if is_new and self.asked & {*self.config.executor.stages}:
                    missing = reserves.missing_usd(record, held, jobs, done, trials)
                    enough = reserves.enough_usd(record, egress, done, trials)
                    self._check_jobs(missing, enough, [*jobs, *(["serve"] if trials else [])])
                reserves.allot(self.ledger, self._marks[stage.name], held)
        elif stage.name in self.asked:
            later = self.stages[self.stages.index(stage) + 1 :]
            paid_later = {role for one in later if one.name in self.asked for role in one.releases}
            for role in {*stage.releases} - paid_later:
                reserves.release(self.ledger, role)

    def _dated(self, plan: Plan, mark: str) -> Plan:
        """Say of a plan that it was made when its training was over: what it expects is no news."""
        self.records["plan"], self._marks["plan"] = plan, mark
        return replace(plan, is_late="train" in self._roles_done())

    def _roles_done(self) -> list[str]:
        """Return the roles whose work lies in the folder, by the plan that was just made."""
        made, marks, done = dict(self.records), dict(self._marks), []
        for stage in self.stages:
            if stage.name not in PLANNED:
                continue
            kept = resume.find(stage, self.config.run_dir)
            if kept is None or kept.record is None:
                break
            mark = resume.fingerprint(stage, self.config, made, marks, kept.record)
            if kept.fingerprint != mark:
                break
            made[stage.name], marks[stage.name] = kept.record, mark
            done.append(ROLE_OF[stage.name])
        return done

    def _check_jobs(self, missing_usd: float, enough_usd: float, jobs: list[str]) -> None:
        """Refuse a plan whose jobs could not be submitted, before anything of it is paid.

        Args:
            missing_usd: that is held too little for them.
            enough_usd: that is enough, from now on.
            jobs: their roles.

        Raises:
            BudgetError: their high ends are more than there is, without a dollar for serving.
        """
        budget = self.ledger.budget_usd
        if budget is None or missing_usd <= 1e-9:
            return
        # More of the budget is held for other roles, too, so that what is missing is not enough.
        least = max(budget + missing_usd, self.ledger.committed_usd + enough_usd)
        needed = math.ceil(100 * least - 1e-6) / 100
        raise BudgetError(
            f"limits.budget_usd={budget:g} is enough for what the plan expects, and not for its "
            f"jobs ({', '.join(jobs)}): the high end of their hours is set aside before they are "
            f"submitted, which is {exact_usd(missing_usd)} more than there is. Type "
            f"limits.budget_usd={needed:.2f} or more; what they do not use is free again."
        )

    def _take(self, stage: Stage[T], record: T, mark: str) -> T:
        self.records[stage.name] = record
        self._marks[stage.name] = mark
        if self._held is not None and (self.config.run_dir / f"{stage.name}.json").exists():
            self._held.add_record(f"{stage.name}.json")
        self._hold_money(stage, record)
        if isinstance(seconds := getattr(record, "seconds", None), float):
            self.tracker.summary({f"{stage.name}_seconds": seconds})
        return record
