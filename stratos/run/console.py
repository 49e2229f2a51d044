"""Console output of a run: progress bar, one result line per stage, warnings.

On a terminal the running stage is a progress bar. Anywhere else (a log, a pipe) there is nothing
to redraw: a line when a stage begins, one now and then while it lasts, and its outcome.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import singledispatch
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stratos.config import STAGES
from stratos.core.formats import (
    at_least,
    count,
    counted,
    cut_short,
    duration,
    hours,
    magnitude,
    measured,
    milliseconds,
    n_bytes,
    percent,
    percent_most,
    predicted,
    size,
    usd,
    visible,
)
from stratos.core.output import is_for_machines
from stratos.evaluate.read_log import describe_reads
from stratos.evaluate.verdict import verdict
from stratos.records import (
    Corpus,
    Deployment,
    Interval,
    ModelScore,
    Pilot,
    Plan,
    Prediction,
    Probe,
    Report,
    RoomRecord,
    Scorecard,
    SliceScore,
    Student,
    TeacherProbe,
)

_CHANCE = 0.25
"""A guess among four answers."""


@singledispatch
def outcome(record: Any) -> str:
    """Return the line of a stage record."""
    raise TypeError(f"no stage makes a {type(record).__name__}")


@outcome.register
def _(probe: Probe) -> str:
    parts = [_teacher(teacher) for teacher in probe.real_teachers]
    if (best_kind := probe.best_kind) is not None:
        accuracy = percent(best_kind.accuracy.mean)
        rows = counted(best_kind.n_rows, "row", spec=",")
        parts.append(f"{best_kind.student} {accuracy} by cross-validation on {rows}")
    if probe.baselines:
        best = max(probe.baselines, key=lambda score: score.slice().exact.mean)
        parts.append(f"without a model: {percent(best.slice().exact.mean)} by {best.name}")
    if probe.unreachable:
        parts.append(f"not reachable: {', '.join(probe.unreachable)}")
    return "; ".join(parts)


def _teacher(teacher: TeacherProbe) -> str:
    if teacher.logged is not None:
        most = percent_most(teacher.exact.mean) if teacher.logged.is_checked else "not known"
        return f"{teacher.card.name}, by its log: at most {most} of {count(teacher.n_items)} hold"
    right = round(teacher.exact.mean * teacher.n_items)
    choice = (
        f", {_choice(teacher.choice)} on multiple choice" if teacher.choice.is_share_known else ""
    )
    cut = f" ({cut_short(teacher.n_truncated, teacher.n_items)})" if teacher.is_cut_short else ""
    return f"{teacher.teacher} {right}/{teacher.n_items} exact{cut}{choice}"


def _choice(choice: Interval) -> str:
    blind = choice.low <= _CHANCE <= choice.high
    return f"{'at chance ' if blind else ''}{percent(choice.mean, 0)}"


@outcome.register
def _(pilot: Pilot) -> str:
    if not pilot.runs:
        return "no pair was trained: " + "; ".join(pilot.left_out.values())
    curves = []
    for run in pilot.runs:
        longest = run.points[-1]
        curves.append(
            f"{run.student} by {run.strategy} {percent(longest.accuracy)} exact on validation "
            f"items after {magnitude(longest.train_tokens)} tokens"
        )
    paid = f", {usd(pilot.usd)} to teachers" if pilot.usd else ""
    return f"{'; '.join(curves)}{paid}"


@outcome.register
def _(plan: Plan) -> str:
    servers = [
        f"{role.count} × {role.offer.name}" if role.count > 1 else role.offer.name
        for role in plan.roles_of("serve")
        if role.offer is not None
    ]
    server = f" on {' + '.join(servers)}" if servers else ""
    if server and (engines := _engines(plan)):
        server += f" with {engines}"
    return (
        f"{plan.pair}{server}: {usd(plan.usd)}, "
        f"{hours(plan.hours)}, {milliseconds(plan.latency_ms)}, accuracy "
        f"{predicted(plan.accuracy)}; {plan.status}, "
        f"{counted(plan.n_frontier, 'plan')} on the frontier"
    )


def _engines(plan: Plan) -> str:
    """Return which engines and formats serve; "" where the bundle's own weights are served."""
    runs = [role.run for role in plan.roles_of("serve") if role.run is not None]
    return " and ".join(dict.fromkeys(f"{run.engine} {run.format}" for run in runs if run.format))


@outcome.register
def _(corpus: Corpus) -> str:
    refused = sum(corpus.refused.values())
    reasons = [f"{count(n)} {name}" for name, n in corpus.refused.items() if n]
    # Rows of the user's own: what became of each is said here. Of drawn items the report tells.
    why = f" ({', '.join(reasons)})" if corpus.n_by_source and reasons else ""
    per_s = corpus.items_per_s
    rate = count(per_s) if per_s >= 10 else f"{per_s:.2g}"
    parts = corpus.n_by_source or corpus.n_by_slice
    listed = ", ".join(f"{count(n)} {part}" for part, n in parts.items())
    of = f" ({listed})" if corpus.n_by_source or len(parts) > 1 else ""
    # Nobody verified a row of a file, or a teacher's label.
    items = counted(corpus.n_items, "item" if corpus.n_by_source else "verified item", spec=",")
    return f"{items} by {corpus.strategy}{of}, {count(refused)} refused{why}, {rate} a second"


@outcome.register
def _(student: Student) -> str:
    if not student.is_lm:
        return (
            f"{student.name}, {magnitude(student.n_params)} parameters: "
            f"{percent(student.validation_exact)} by cross-validation on "
            f"{counted(student.n_validation_items, 'row', spec=',')}, probabilities off by "
            f"{percent(student.calibration_error)} on average"
        )
    resumed = f", gone on {student.n_resumed}×" if student.n_resumed else ""
    return (
        f"{student.name}, {magnitude(student.n_params)} parameters, "
        f"{counted(student.steps, 'step', spec=',')}, {magnitude(student.train_tokens)} tokens"
        f"{resumed}: {percent(student.validation_exact)} exact on "
        f"{counted(student.n_validation_items, 'validation item', spec=',')}"
    )


@outcome.register
def _(scorecard: Scorecard) -> str:
    parts = []
    for role in ("student", "constrained", "teacher", "untouched"):
        score = scorecard.score(role)
        if score is not None:
            known = [score.name, *([size(score.n_params)] if score.n_params else [])]
            large = f" ({', '.join(known)})" if role == "teacher" else ""
            parts.append(f"{role}{large} {_reached(score.slice())}{_cut(score)}")
    free = scorecard.best_free
    if free is not None:
        exact = percent(free.other_exact.mean)
        reached = exact if free.micro_f1 is None else f"{percent(free.baseline)} ({exact})"
        parts.append(f"{free.name} {reached}")
    compared = scorecard.comparison
    judgement = verdict(scorecard)
    student = scorecard.score("student")
    is_several = student is not None and student.slice().micro_f1 is not None
    metric = "micro-F1 (exact match)" if is_several else measured(scorecard.metric)
    headline = f"; {judgement.headline}" if judgement is not None and judgement.headline else ""
    bound = at_least(compared) if compared else ""
    ratio = f"; {bound}" if bound else ""
    reads = f"; {describe_reads(scorecard.earlier_reads)}"
    return f"{', '.join(parts)} {metric} on test items{headline}{ratio}{reads}"


def _reached(score: SliceScore) -> str:
    """Return an accuracy; where a text has several labels, it stands behind the micro-F1."""
    exact = percent(score.exact.mean)
    return exact if score.micro_f1 is None else f"{percent(score.micro_f1.mean)} ({exact})"


def _cut(score: ModelScore) -> str:
    if not score.is_cut_short:
        return ""
    return f" ({cut_short(score.n_truncated, score.slice().n_items)})"


@outcome.register
def _(deployment: Deployment) -> str:
    limit = {None: "", True: ", within the limit", False: ", OVER the latency limit"}
    equal = "answer equals that" if deployment.n_requests == 1 else "answers equal those"
    of = "of the evaluation" if not deployment.n_rows_learnt else "of the student in this process"
    load = deployment.load
    under = ""
    if load is not None:
        missed = "" if load.kept_up and load.holds_limit else ", NOT held"
        under = (
            f"; {load.requests_per_s:.3g} requests a second, random arrivals{missed}: p95 "
            f"{milliseconds(load.latency_p95_ms)}"
            f"{'' if deployment.was_busy else _judged(load.p95_ms)}"
            f" (capacity {load.capacity_per_s:.3g} a second)"
        )
    served = deployment.served
    text = ""
    if n := deployment.n_rows_learnt:
        text = f"learnt all {counted(n, 'row', spec=',')}, now that the test has measured it; "
    if served is not None:
        text += (
            f"{served.format} {percent(served.exact.mean)} of {count(served.n_items)} test items, "
        )
    return (
        f"{text}{deployment.n_equal}/{deployment.n_requests} {equal} {of}, "
        f"p95 {milliseconds(deployment.latency_p95_ms)}{limit[deployment.meets_latency_limit]}"
        f"{under}; bundle {n_bytes(deployment.bundle_bytes)}"
    )


def _judged(prediction: Prediction | None) -> str:
    if prediction is None:
        return ""
    return " as predicted" if prediction.is_inside else " NOT as predicted"


@outcome.register
def _(record: RoomRecord) -> str:
    return record.outcome()


@outcome.register
def _(report: Report) -> str:
    return f"{report.path} ({n_bytes(report.n_bytes)})"


WORTH_STYLES = {"distil": "green", "open": "yellow", "stay": "red"}

_HEARTBEAT_S = 30.0
"""Seconds between two lines of a running stage where no bar can be drawn, at least."""
_STEP = 0.05
"""Share of a stage between two of these lines."""
_LONGEST_SILENCE = 60
"""Heartbeats without a line, at most: half an hour."""
_NAME_WIDTH = max(map(len, STAGES))
_SIGNALLED = (129, 143)
"""Exit codes of a process that SIGHUP or SIGTERM has ended."""
_LOG_WIDTH = 120
"""Columns of a table in a log, which has no width of its own."""


RUN_LOG = "stratos.run"
"""Logger of what a run says: it goes to the log in the run folder, and not to the console again."""
_log = logging.getLogger(RUN_LOG)


class PlainConsole(RichConsole):
    """A console to which text is text: brackets are no markup, and escapes are made visible.

    Names and reasons come from catalogs, models and servers.
    """

    def __init__(self, width: int | None = None) -> None:
        """Write as wide as the output is unless `width` says otherwise.

        That is standard output; standard error where that is kept for one line of JSON.
        """
        super().__init__(
            highlight=False, markup=False, emoji=False, width=width, stderr=is_for_machines(),
            force_jupyter=False,  # a notebook shows lines; as HTML each would be a paragraph
            color_system=None if os.environ.get("NO_COLOR") else "auto",  # no bold, either
        )  # fmt: skip

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as it is shown: every cell of a table passes here."""
        return super().render_str(visible(text), **options)


class Console:
    """Says everything that a run says."""

    def __init__(
        self, rich: RichConsole | None = None, explain: bool = False, folder: Path | None = None
    ) -> None:
        """Write to the terminal unless another console is given.

        Args:
            rich: where to write.
            explain: say of a plan what binds it, what its limits are worth and what came second.
            folder: of the run, where it goes on after an interruption.
        """
        self.explain = explain
        self.folder = folder
        self.rich = rich or PlainConsole()
        if rich is None and not self.rich.is_terminal:
            self.rich = PlainConsole(width=_LOG_WIDTH)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Keep other voices off the console, and say so if the user interrupts the work."""
        logging.captureWarnings(True)  # Python's own warnings belong in the log file
        # Bars of Hugging Face libraries would tear ours; read when they are imported.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        try:
            yield
        except KeyboardInterrupt:
            self._say_kept()
            raise
        except SystemExit as ended:  # a training that a signal ended, once its step was saved
            if ended.code in _SIGNALLED:
                self._say_kept()
            raise
        except Exception as error:
            _log.error("%s: %s", type(error).__name__, visible(str(error)))
            raise
        finally:
            logging.captureWarnings(False)

    def _say_kept(self) -> None:
        """Say that what is finished is kept, and how to go on."""
        text = "Finished work is kept."
        if self.folder is not None:
            text += f" The same command resumes with hydra.run.dir={_from_here(self.folder)}"
        self.rich.print(Text.assemble(("Interrupted.", "yellow"), f" {text}"), soft_wrap=True)
        _log.warning("Interrupted. %s", text)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        """Show that a stage runs; yields its `tick(done, total, text="")`."""
        _log.info("%s begins", name)
        if not self.rich.is_terminal:
            self._line(name, "…", style="dim")
            with self._heartbeat(name) as tick:
                yield tick
            return
        columns = (
            SpinnerColumn(),
            TextColumn(f"[bold]{name:<{_NAME_WIDTH}}[/]"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
        )
        with Progress(*columns, console=self.rich, transient=True) as progress:
            bar = progress.add_task("", total=None)

            def tick(done: float, total: float, text: str = "") -> None:
                progress.update(bar, completed=done, total=total or None, description=visible(text))

            yield tick

    def done(self, name: str, record: Any, again: bool = False) -> None:
        """Say in one line what a stage came to, and whether it was made before."""
        took = "made before" if again else _took(record)
        if name == "plan" and record.worth is not None:
            self._line(name, record.worth.text, WORTH_STYLES[record.worth.outcome])
            _log.info("plan: %s", record.worth.text)
        self._line(name, f"{outcome(record)}  ({took})", style="green" if not again else "cyan")
        _log.info("%s: %s (%s)", name, outcome(record), took)
        if name == "plan" and not again:
            for reason in record.reasons:
                _log.info("plan: %s", reason)
            self._show_plan(record)

    def skipped(self, name: str) -> None:
        """Say that a stage was switched off."""
        self._line(name, "switched off", style="dim")
        _log.info("%s: switched off", name)

    def note(self, text: str) -> None:
        """Say something that explains what happens next."""
        self.rich.print(Text(visible(text), style="dim"), soft_wrap=True)
        _log.info("%s", visible(text))

    def warn(self, text: str) -> None:
        """Say something that the user should read."""
        self.rich.print(Text.assemble(("Warning:", "yellow"), f" {visible(text)}"), soft_wrap=True)
        _log.warning("%s", visible(text))

    def _line(self, name: str, text: str, style: str) -> None:
        self.rich.print(
            Text.assemble((f"{name:<{_NAME_WIDTH}}", f"bold {style}"), f" {visible(text)}"),
            soft_wrap=True,
        )

    @contextmanager
    def _heartbeat(self, name: str) -> Iterator[Callable[..., None]]:
        """Say now and then how far a stage is, also while its work says nothing for minutes."""
        began = time.monotonic()
        ended = threading.Event()
        at, share, is_new = "", 0.0, False

        def tick(done: float, total: float, text: str = "") -> None:
            nonlocal at, share, is_new
            share = done / total if total else 0.0
            at, is_new = f"{f'{share:.0%} ' if total else ''}{text}".rstrip(), True

        def beat() -> None:
            nonlocal is_new
            shown, silent, patience = -_STEP, 0, 1
            while not ended.wait(_HEARTBEAT_S):
                # A share that has fallen is that of another part of the stage.
                has_moved = is_new and not shown <= share < shown + _STEP
                silent += 1
                if not has_moved and silent < patience:
                    continue
                waited = f"still at work after {duration(time.monotonic() - began)}"
                line = at if has_moved else ", ".join(filter(None, (at, waited)))
                self._line(name, line, style="dim")
                patience = 1 if has_moved else min(2 * patience, _LONGEST_SILENCE)
                shown, silent, is_new = share if has_moved else shown, 0, False

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield tick
        finally:
            ended.set()
            thread.join()

    def _show_plan(self, plan: Any) -> None:
        from stratos.plan.explain.show import (
            alternatives_table,
            explanation,
            frontier_table,
            only_plan,
        )
        from stratos.plan.schedule import schedule_text
        from stratos.plan.worth import ways_table

        if plan.worth is not None:
            self.rich.print(ways_table(plan.worth))
        if only := only_plan(plan):
            for line in only:
                self.rich.print(Text(visible(line)), soft_wrap=True)
        else:
            self.rich.print(frontier_table(plan))
            self.rich.print(alternatives_table(plan))
        if self.explain:
            self.rich.print(explanation(plan), soft_wrap=True)
        if ahead := schedule_text(plan):
            self.note(ahead)


def _from_here(folder: Path) -> str:
    """Return a folder as it may be typed where the command was."""
    folder = folder.absolute()
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def _took(record: Any) -> str:
    """Return how long a stage took, with what lay around a training where that is much."""
    around = getattr(record, "setup_seconds", 0.0)
    if around < max(5.0, 0.05 * record.seconds):
        return duration(record.seconds)
    return f"{duration(record.seconds)}; {duration(around)} more to load, measure and save"
