"""Track one command: what happens in it goes to all services that `logger=` names.

`tracked` is entered once around the whole pipeline. What it yields is a `Tracker`, whose
`for_stage(name)` fits `Context.log`. With `logger=none` nothing is imported and nothing happens.
Each service works in a thread of its own (see `SinkThread`), so that none can fail a run or slow
it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from typing import Any

from stratos.config import Config
from stratos.core.errors import BudgetError
from stratos.core.extras import ModuleMissing
from stratos.core.formats import is_number, usd
from stratos.core.process import Terminated
from stratos.core.redact import redact, redact_override, redact_shapes, redact_text
from stratos.records import (
    Corpus,
    CurvePoint,
    Deployment,
    Plan,
    PlanPoint,
    Probe,
    Scorecard,
    Student,
)
from stratos.report.frontier import chosen_point, is_same
from stratos.report.paired import Example, read_examples
from stratos.tracking.sink import (
    Artifact,
    Cell,
    Chart,
    Sink,
    SinkThread,
    Start,
    Table,
    one_line,
    wandb_mode,
)
from stratos.tracking.sinks import (
    FINISH_TIMEOUT_S,
    CsvSink,
    MlflowSink,
    TensorboardSink,
    WandbSink,
    axis_of,
)

_INTERRUPTED = (129, 130, 143)
"""Exit codes of a run that was told to end."""
_INTERRUPTED_TIMEOUT_S = 1.5
"""Longest wait for uploads of such a run: whoever presses Ctrl-C does not wait for them."""
_PROGRESS_S = 2.0
"""Seconds between two points of a stage's progress."""
_ALARMING = 0.8
"""Share of the budget from which on the user is told."""


class Tracker:
    """Hands what happens on to the services; costs the run microseconds."""

    def __init__(self, threads: Sequence[SinkThread], warn: Callable[[str], None]) -> None:
        """Track with these services; with none, nothing."""
        self._threads = list(threads)
        self._warn = warn
        self._began: dict[str, float] = {}
        self._told: dict[str, tuple[float, float]] = {}
        """Stage to when its progress was logged last, and what it was."""
        self._has_told_of_budget = False
        self._in_use: dict[str, str] = {}
        """Stage to the name of its artifact."""

    @property
    def is_on(self) -> bool:
        """Whether anything is tracked."""
        return bool(self._threads)

    def begin(self, stage: str) -> None:
        """Start the clock of a stage, which its metrics are drawn over."""
        self._began[stage] = time.monotonic()

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics named "<stage>/..."; over gradient steps, or else over the stage's seconds.

        The steps are those of `distill`.
        """
        if not self._threads:
            return
        now, by_axis = time.monotonic(), dict[tuple[str, float], dict[str, float]]()
        for name, value in metrics.items():
            stage, slash, _ = name.partition("/")
            axis, at = "", 0.0
            if slash and (step is not None) == axis_of(stage).endswith("/step"):
                axis = axis_of(stage)
                at = float(step) if step is not None else now - self._began.get(stage, now)
            by_axis.setdefault((axis, at), {})[name] = value
        for (axis, at), some in by_axis.items():
            self._do("log metrics", methodcaller("log", some, axis, round(at, 3)))
        self._complain()

    def for_stage(self, stage: str) -> Callable[..., None]:
        """Return a `log(metrics, step=None)` that puts names under "<stage>/"."""
        prefix = f"{stage}/"

        def log(metrics: Mapping[str, float], step: int | None = None) -> None:
            named = {prefix + name.removeprefix(prefix): value for name, value in metrics.items()}
            self.log(named, step)

        return log

    def progress(
        self, stage: str, done: float, total: float, spent_usd: float, budget_usd: float | None
    ) -> None:
        """Log how far a stage is, and what the run has spent; may be called often."""
        if not self._threads:
            return
        now, share = time.monotonic(), min(1.0, done / total) if total else 0.0
        told_at, last_share = self._told.get(stage, (0.0, -1.0))
        if now - told_at < _PROGRESS_S and (share < 1.0 or last_share == 1.0):
            return
        self._told[stage] = now, share
        self.log({f"{stage}/spent_usd": spent_usd, f"{stage}/progress": share})
        if budget_usd and spent_usd >= _ALARMING * budget_usd and not self._has_told_of_budget:
            self._has_told_of_budget = True
            text = f"{usd(spent_usd)} of {usd(budget_usd)} (limits.budget_usd) are spent in {stage}"
            self.alert("The budget is nearly spent", text)

    def record(
        self, config: Config, stage: str, records: Mapping[str, Any], is_input: bool = False
    ) -> None:
        """Keep what a stage has made: its tables, charts and artifact.

        Args:
            config: of the run.
            stage: whose record is among `records`.
            records: stage to record, as far as the stages have run.
            is_input: whether another run made it; then it is only said to be used.
        """
        if not self._threads:
            return
        record = records[stage]
        if not is_input:
            for table in tables_of(stage, record):
                self._do("keep a table", methodcaller("table", table))
            for chart in charts_of(stage, record):
                self._do("keep a chart", methodcaller("chart", chart))
        artifact = artifact_of(config, stage, record, self._in_use, is_input)
        if artifact is not None:
            self._in_use[stage] = artifact.name
            self._do(f"keep the artifact {artifact.name}", methodcaller("artifact", artifact))
        self._complain()

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Set the numbers that runs are compared by."""
        clean = redact(dict(values))
        self._do("write the summary", methodcaller("summary", clean))

    def alert(self, title: str, text: str, is_error: bool = False) -> None:
        """Tell the user of something now, wherever the service can."""
        clean = redact_text(text)
        self._do("send an alert", methodcaller("alert", title, clean, is_error))

    def finish(self, exit_code: int) -> None:
        """End the run everywhere; a code other than 0 marks it as failed."""
        longest = _INTERRUPTED_TIMEOUT_S if exit_code in _INTERRUPTED else FINISH_TIMEOUT_S + 5
        until = time.monotonic() + longest
        for thread in self._threads:
            thread.finish(exit_code, max(0.0, until - time.monotonic()))
        self._complain()
        self._threads.clear()

    def _do(self, what: str, act: Callable[[Sink], Any]) -> None:
        for thread in self._threads:
            thread.do(what, act)

    def _complain(self) -> None:
        for thread in self._threads:
            for text in thread.complaints():
                self._warn(text)


@contextmanager
def tracked(
    config: Config, warn: Callable[[str], None], note: Callable[[str], None] = lambda _: None
) -> Iterator[Tracker]:
    """Open the services of one command, and finish them however the block ends.

    Args:
        config: the run's config; `logger` says which, the rest is logged, redacted.
        warn: told once of each that cannot be used.
        note: told where W&B, which nobody had to ask for, is not installed.
    """
    with _environment(config.run_dir):
        start = Start(
            config,
            name="-".join(config.run_dir.resolve().parts[-2:]),
            group=config.logger.group or _sweep_name() or None,
        )
        tracker = Tracker([SinkThread(sink, start) for sink in _sinks(config, warn, note)], warn)
        exit_code = 1
        try:
            yield tracker
            exit_code = 0
        except KeyboardInterrupt as interrupt:
            exit_code = interrupt.exit_code if isinstance(interrupt, Terminated) else 130
            raise
        except SystemExit as stop:
            exit_code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            raise
        except Exception as error:
            ended = "The budget is spent" if isinstance(error, BudgetError) else "The run failed"
            tracker.alert(ended, str(error) or type(error).__name__, is_error=True)
            raise
        finally:
            tracker.finish(exit_code)


def _sinks(
    config: Config, warn: Callable[[str], None], note: Callable[[str], None]
) -> Iterable[Sink]:
    """Import what is wanted, and yield what can be imported."""
    logger, mode = config.logger, wandb_mode(config, warn)
    if logger.csv:
        yield CsvSink()
    if mode != "disabled":
        try:
            yield WandbSink(mode)
        except ImportError:
            note(f"Nothing is tracked: {ModuleMissing('wandb')}, or logger=none")
    if logger.tensorboard:
        try:
            yield TensorboardSink()
        except ImportError as error:
            warn(f"logger=tensorboard cannot be used ({one_line(error)}).")
    if logger.mlflow:
        try:
            yield MlflowSink(logger.tracking_uri)
        except Exception as error:  # a client refuses an address in many ways
            warn(f"logger=mlflow cannot be used ({one_line(error)}).")


def _sweep_name() -> str:
    """Return the folder name of the Hydra sweep that this job is part of; "" without a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().sweep.dir).name
    return ""


@contextmanager
def _environment(run_dir: Path) -> Iterator[None]:
    """Set what W&B takes from the environment alone: silence, and where artifacts are staged.

    Its own reports of errors go to its makers even where a run is kept offline, by threads that
    outlive the run: they are off, unless the user has set them.
    """
    settings = {
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(run_dir / "wandb"),
        "WANDB_ERROR_REPORTING": "false",
    }
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    argv, sys.argv = sys.argv, [redact_override(word) for word in sys.argv]  # which W&B records
    try:
        yield
    finally:
        sys.argv = argv
        for name in ours:
            os.environ.pop(name, None)


MOST_ROWS = 1000
"""Of a table."""
LONGEST = 2000
"""Characters of a cell."""
_MOST_POINTS = 500
"""Of a curve."""
_MODELS = ("student", "teacher", "untouched")

LINEAGE = {
    "probe": ("probe", "probe", ()),
    "plan": ("plan", "plan", ("probe",)),
    "synthesize": ("corpus", "dataset", ("plan",)),
    "distill": ("student", "model", ("plan", "synthesize")),
    "evaluate": ("scorecard", "evaluation", ("distill",)),
    "deploy": ("bundle", "model", ("distill", "evaluate")),
}
"""Stage to what it makes: name and type of the artifact, and the stages whose artifacts it uses."""


def tables_of(stage: str, record: Any) -> Iterator[Table]:
    """Yield the tables of a stage's record; none where its files are not there."""
    if isinstance(record, Probe):
        yield from _asked(Path(record.answers_path))
    elif isinstance(record, Scorecard):
        examples = read_examples(Path(record.examples_path)).shown[:MOST_ROWS]
        if examples:
            columns = ("question", "gold", *_MODELS, *(f"{model} right" for model in _MODELS))
            rows = [_side_by_side(example) for example in examples]
            yield Table(f"{stage}/answers", (*columns, "slice", "outcome"), rows)


def charts_of(stage: str, record: Any) -> Iterator[Chart]:
    """Yield the charts of a stage's record."""
    if isinstance(record, Plan):
        yield _frontier(record)
    elif isinstance(record, Student) and len(record.curve) > 1:
        yield from _curves(record.curve)


def artifact_of(
    config: Config, stage: str, record: Any, made: Mapping[str, str], is_input: bool
) -> Artifact | None:
    """Return the artifact of a stage; None where it has none.

    Args:
        config: of the run.
        stage: whose it is.
        record: of the stage.
        made: stage to the name of its artifact, of those before it.
        is_input: whether another run made it.
    """
    if stage not in LINEAGE:
        return None
    name, kind, before = LINEAGE[stage]
    path = config.run_dir / f"{stage}.json"
    if not path.exists() and config.paths.records_from is not None:
        path = Path(config.paths.records_from).expanduser() / f"{stage}.json"
    files, facts = _content(record)
    return Artifact(
        name=f"{config.task.name}-{name}",
        type=kind,
        record=path,
        files=files,
        made_from=tuple(made[stage] for stage in before if stage in made),
        facts=facts,
        is_input=is_input,
    )


def _content(record: Any) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Return the files that belong to a record, and what is said of them."""
    match record:
        case Corpus():
            return (Path(record.path),), {"sha256": record.sha256, "n_items": record.n_items}
        case Student():
            facts = {"weights_sha256": record.weights_sha256, "n_params": record.n_params}
            return (Path(record.path),), facts
        case Deployment():
            return (Path(record.bundle_path),), {}
    return (), {}


def _asked(path: Path) -> Iterator[Table]:
    """Yield the table of what teachers answered in the probe."""
    rows: list[list[Cell]] = []
    try:
        with path.open("rb") as file:
            for line in file:
                row = json.loads(line)
                if row.get("kind") != "answer":
                    continue
                texts = (row["teacher"], row["prompt"], row["question"], row["gold"], row["answer"])
                rows.append([*map(_cell, texts), row["exact"] == 1])
                if len(rows) == MOST_ROWS:
                    break
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    if rows:
        columns = ("teacher", "prompt", "question", "gold", "answer", "right")
        yield Table("probe/answers", columns, rows)


def _side_by_side(example: Example) -> list[Cell]:
    by_model = {reply.model: reply for reply in example.replies}
    replies = [by_model.get(name) for name in _MODELS]
    return [
        _cell(example.question),
        _cell(example.gold),
        *(None if reply is None else _cell(reply.text or reply.answer) for reply in replies),
        *(None if reply is None else reply.right for reply in replies),
        _cell(example.slice),
        example.kind,
    ]


def _cell(text: Any) -> str:
    """Return a text without secrets, and not too long."""
    clean, _ = redact_shapes(redact_text(str(text)))
    clean = clean.encode(errors="replace").decode()  # halves of characters, which JSON refuses
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST - 1]}…"


def _frontier(plan: Plan) -> Chart:
    chosen = chosen_point(plan)
    points = [("frontier", option) for option in plan.frontier if not is_same(option, chosen)]
    points += [
        (name, option) for name, option in plan.alternatives.items() if not is_same(option, chosen)
    ]
    points.append(("chosen", chosen))
    columns = (
        "usd", "accuracy", "accuracy low", "accuracy high", "hours", "p95 ms", "student",
        "strategy", "teacher", "what",
    )  # fmt: skip
    known = all(option.accuracy_known for _, option in points)
    table = Table("plan/frontier", columns, [_row(what, option) for what, option in points])
    title = "Plans: accuracy against dollars" if known else "Plans: hours against dollars"
    return Chart(table, title, x="usd", y="accuracy" if known else "hours")


def _row(what: str, point: PlanPoint) -> list[Cell]:
    return [
        point.usd,
        point.accuracy if point.accuracy_known else None,
        point.accuracy_low,
        point.accuracy_high,
        point.hours,
        point.latency_ms,
        point.student,
        point.strategy,
        point.teacher,
        what,
    ]


def _curves(curve: tuple[CurvePoint, ...]) -> Iterator[Chart]:
    points = curve[:: max(1, len(curve) // _MOST_POINTS)]
    shown = {
        "loss": {"training": [(p.tokens, p.loss) for p in points]},
        "exact": {"validation": [(p.tokens, p.exact) for p in curve if is_number(p.exact)]},
    }
    shown["loss"]["validation"] = [
        (p.tokens, p.validation_loss) for p in curve if is_number(p.validation_loss)
    ]
    titles = {"loss": "Loss over training tokens", "exact": "Validation items that are right"}
    for name, lines in shown.items():
        rows = [(tokens, value, which) for which, line in lines.items() for tokens, value in line]
        if rows:
            table = Table(f"distill/curve_{name}", ("tokens", name, "of"), rows)
            yield Chart(table, titles[name], x="tokens", y=name, kind="lines", series="of")
