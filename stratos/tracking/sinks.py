"""The services: CSV files, TensorBoard, MLflow, and Weights & Biases."""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from typing_extensions import override

from stratos.config import STAGES
from stratos.core.atomic_files import write_atomically
from stratos.core.redact import redact
from stratos.tracking.sink import Artifact, Cell, Chart, Sink, Start, Table, one_line, why_refused

_HEAD = ("time", "name", "value", "axis", "at")


class CsvSink(Sink):
    """One line a metric, added as it comes; a run that is gone on with adds to the file."""

    title = "CSV"

    def __init__(self) -> None:
        self._folder = Path()
        self._file: TextIO | None = None

    @override
    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        self._folder = start.own_folder()
        path = self._folder / "metrics.csv"
        is_new = not path.exists() or path.stat().st_size == 0
        self._file = path.open("a", newline="", encoding="utf-8")
        if is_new:
            self._write([_HEAD])

    @override
    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        now = f"{time.time():.3f}"
        self._write([(now, name, value, axis, at) for name, value in metrics.items()])

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Write `summary.csv` anew."""
        write_atomically(self._folder / "summary.csv", as_csv(("name", "value"), values.items()))

    @override
    def table(self, table: Table) -> None:
        path = self._folder / f"{table.name.replace('/', '_')}.csv"
        write_atomically(path, as_csv(table.columns, table.rows))

    @override
    def finish(self, exit_code: int) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        assert self._file is not None
        csv.writer(self._file).writerows(rows)
        self._file.flush()


def as_csv(columns: tuple[str, ...], rows: object) -> bytes:
    """Return a table as a file of comma-separated values."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


_MOST_ROWS = 50
"""Of a table, which TensorBoard shows as one text."""
_FLUSH_S = 5
"""Seconds until what was written can be seen."""
_QUEUE = 1000


class TensorboardSink(Sink):
    """Scalars over gradient steps or seconds; tables and the summary as texts.

    Its event files are written without torch.
    """

    title = "TensorBoard"

    def __init__(self) -> None:
        root = "tensorboard"
        self._event: Any = importlib.import_module(f"{root}.compat.proto.event_pb2").Event
        self._scalar: Any = importlib.import_module(f"{root}.plugins.scalar.summary_v2")
        self._text: Any = importlib.import_module(f"{root}.plugins.text.summary_v2")
        self._files: Any = importlib.import_module(f"{root}.summary.writer.event_file_writer")
        self._writer: Any = None
        self._last: dict[str, int] = {}

    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        """Open an event file; a run that is gone on with opens another beside it."""
        folder = start.own_folder()
        self._writer = self._files.EventFileWriter(str(folder), _QUEUE, _FLUSH_S)

    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        """Add scalars; what has no axis is counted."""
        for name, value in metrics.items():
            step = round(at) if axis else self._last.get(name, -1) + 1
            self._last[name] = step
            self._add(self._scalar.scalar_pb(name, float(value)), step)

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Show the summary as a table."""
        rows = [[name, value] for name, value in sorted(values.items())]
        self._write("summary", ("name", "value"), rows)

    def table(self, table: Table) -> None:
        """Show the first rows of a table."""
        self._write(table.name, table.columns, table.rows[:_MOST_ROWS])

    def alert(self, title: str, text: str, is_error: bool) -> None:
        """Show an alert as a text."""
        self._add(self._text.text_pb("alerts", f"**{title}** {text}"), 0)

    @override
    def finish(self, exit_code: int) -> None:
        self._writer.close()

    def _write(self, tag: str, columns: tuple[str, ...], rows: Any) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        self._add(self._text.text_pb(tag, text), 0)

    def _add(self, summary: Any, step: int) -> None:
        event = self._event(wall_time=time.time(), step=step, summary=summary)
        self._writer.add_event(event)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


URI_VARIABLE = "MLFLOW_TRACKING_URI"
_CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Of MLflow's own client, unless the user has said another: it would try for minutes, and print."""
_MOST_PARAMS = 100
"""Of one request."""
_LONGEST_PARAM = 500
_BAD = re.compile(r"[^\w\-./ :]")
"""What the name of a metric may not have."""


class MlflowSink(Sink):
    """A run of MLflow."""

    title = "MLflow"

    def __init__(self, uri: str | None) -> None:
        """Import the package, and know its server; raises ImportError without the package."""
        mlflow: Any = importlib.import_module("mlflow")
        importlib.import_module("mlflow.entities")
        for name, value in _CLIENT.items():
            os.environ.setdefault(name, value)
        self._mlflow = mlflow
        self._client = mlflow.MlflowClient(tracking_uri=uri or os.environ[URI_VARIABLE])
        self._id = ""
        self._upload = False

    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        """Begin the run in the experiment `logger.project`, or go on with it."""
        self._upload = start.config.logger.upload
        path = start.own_folder() / "mlflow_run_id"
        if self._goes_on(path):
            return
        name = start.config.logger.project
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        tags = {"task": start.config.task.name, "cloud": start.config.cloud.name}
        if start.group:
            tags["group"] = start.group
        self._id = self._client.create_run(experiment, tags=tags, run_name=start.name).info.run_id
        path.write_text(f"{self._id}\n")
        params = [
            self._mlflow.entities.Param(_BAD.sub("_", key), str(value)[:_LONGEST_PARAM])
            for key, value in _flat(redact(start.config.plain))
        ]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])

    def _goes_on(self, path: Path) -> bool:
        with suppress(OSError, self._mlflow.exceptions.MlflowException):
            known = path.read_text().strip()
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return True
        return False

    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        """Keep metrics; seconds count as steps where a stage has no others."""
        now = int(time.time() * 1000)
        rows = [
            self._mlflow.entities.Metric(_BAD.sub("_", name), float(value), now, round(at))
            for name, value in metrics.items()
        ]
        self._client.log_batch(self._id, metrics=rows)

    def summary(self, values: Mapping[str, Cell]) -> None:
        """Keep numbers as metrics, and words as tags."""
        now = int(time.time() * 1000)
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._client.log_metric(self._id, name, float(value), now)
            else:
                self._client.set_tag(self._id, name, str(value))

    def table(self, table: Table) -> None:
        """Keep the table as a CSV file."""
        text = as_csv(table.columns, table.rows).decode()
        self._client.log_text(self._id, text, f"{table.name}.csv")

    def artifact(self, artifact: Artifact) -> None:
        """Keep the record; the rest if `logger.upload` wants it."""
        self._client.log_artifact(self._id, str(artifact.record), artifact.name)
        for path in artifact.files if self._upload else ():
            keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            keep(self._id, str(path), f"{artifact.name}/{path.name}")

    def alert(self, title: str, text: str, is_error: bool) -> None:
        """Keep it as a tag: MLflow sends nothing."""
        self._client.set_tag(self._id, f"alert.{'error' if is_error else 'warning'}", text)

    @override
    def finish(self, exit_code: int) -> None:
        status = {0: "FINISHED", 130: "KILLED", 143: "KILLED", 129: "KILLED"}.get(
            exit_code, "FAILED"
        )
        self._client.set_terminated(self._id, status)


def _flat(node: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(node, Mapping):
        return [
            pair
            for key, inner in node.items()
            for pair in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    return [(name, node)]


FINISH_TIMEOUT_S = 120.0
"""Longest wait for uploads at the end; what is left is on disk, and `wandb sync` sends it."""
_INIT_TIMEOUT_S = 30.0
_COMMIT_TIMEOUT_S = 60
"""Longest wait for the server to have an artifact that another one is made from."""
_SUMMARIES = {
    "distill/loss": "min,last",
    "distill/validation_loss": "min,last",
    "distill/validation_exact": "max,last",
    "distill/tokens_per_s": "mean,max",
    "distill/grad_norm": "max,last",
}
"""Metrics of which the summary keeps more than the last value."""


class WandbSink(Sink):
    """A run of Weights & Biases."""

    title = "W&B"

    def __init__(self, mode: str) -> None:
        """Import the package; raises ImportError without it.

        It is imported here, in the thread that calls, since imports of two threads may get in each
        other's way.
        """
        self._wandb: Any = importlib.import_module("wandb")
        self._mode = mode
        self._run: Any = None
        self._upload = False
        self._kept: dict[str, Any] = {}
        """Artifacts of this run by name."""

    def open(self, start: Start, warn: Callable[[str], None]) -> None:
        """Begin the run, or go on with it; offline where it cannot be had online."""
        self._upload = start.config.logger.upload
        # Its own client would try a wrong key for as long as it waits for the run.
        if self._mode == "online" and (why := why_refused()) is not None:
            self._mode = "offline"
            warn(f"{why}: W&B is kept offline; `wandb sync` sends it.")
        try:
            self._run = self._init(start)
        except Exception as error:
            if self._mode == "offline":
                raise
            # A service whose first run failed online refuses the next one too.
            self._wandb.teardown()
            self._mode = "offline"
            self._run = self._init(start)
            warn(
                f"W&B cannot be used online ({one_line(error)}): kept offline; `wandb sync` sends "
                "it."
            )

    def _init(self, start: Start) -> Any:
        logger, folder = start.config.logger, start.folder
        folder.mkdir(parents=True, exist_ok=True)
        run = self._wandb.init(
            project=logger.project,
            entity=logger.entity,
            group=start.group,
            name=start.name,
            job_type="stratos",
            tags=[start.config.task.name, start.config.cloud.name],
            config=redact(start.config.plain),
            dir=str(folder),
            id=_run_id(folder),
            resume="allow" if self._mode == "online" else None,
            mode=self._mode,
            reinit="create_new",
            settings=self._wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
            ),
        )
        for stage in ("pilot", *STAGES):
            axis = axis_of(stage)
            run.define_metric(axis, hidden=True)
            run.define_metric(f"{stage}/*", step_metric=axis)
        for name, summary in _SUMMARIES.items():
            run.define_metric(name, step_metric=axis_of("distill"), summary=summary)
        return run

    @override
    def log(self, metrics: Mapping[str, float], axis: str, at: float) -> None:
        self._run.log({**metrics, **({axis: at} if axis else {})})

    @override
    def summary(self, values: Mapping[str, Cell]) -> None:
        self._run.summary.update(dict(values))

    def table(self, table: Table) -> None:
        """Keep a table, to be sorted and filtered on the run's page."""
        self._run.log({table.name: self._table(table)})

    def chart(self, chart: Chart) -> None:
        """Keep a custom chart, with its table."""
        if chart.kind == "scatter":
            drawn = self._wandb.plot.scatter(
                self._table(chart.table), x=chart.x, y=chart.y, title=chart.title
            )
        else:
            drawn = self._lines(chart)
        self._run.log({chart.table.name: drawn})

    def _lines(self, chart: Chart) -> Any:
        columns = chart.table.columns
        x, y, series = (columns.index(name) for name in (chart.x, chart.y, chart.series))
        lines: dict[str, tuple[list[Cell], list[Cell]]] = {}
        for row in chart.table.rows:
            xs, ys = lines.setdefault(str(row[series]), ([], []))
            xs.append(row[x])
            ys.append(row[y])
        return self._wandb.plot.line_series(
            xs=[xs for xs, _ in lines.values()],
            ys=[ys for _, ys in lines.values()],
            keys=list(lines),
            title=chart.title,
            xname=chart.x,
        )

    def _table(self, table: Table) -> Any:
        return self._wandb.Table(
            columns=list(table.columns), data=[list(row) for row in table.rows]
        )

    def artifact(self, artifact: Artifact) -> None:
        """Keep an artifact: its record as a file, the rest by name unless it is to be uploaded.

        What it was made from stands in its metadata; online the run is also said to use that.
        """
        parents = [self._kept[name] for name in artifact.made_from if name in self._kept]
        made = self._wandb.Artifact(
            _artifact_name(artifact.name),
            type=artifact.type,
            metadata={
                **artifact.facts,
                "made_from": {parent.name.partition(":")[0]: parent.digest for parent in parents},
            },
        )
        made.add_file(str(artifact.record), skip_cache=True)
        for path in artifact.files:
            if not path.exists():
                continue
            if not self._upload:
                made.add_reference(path.absolute().as_uri(), name=path.name, checksum=False)
            elif path.is_dir():
                # Not copied: it may be big, and it stays where it is.
                made.add_dir(str(path), name=path.name, policy="immutable", skip_cache=True)
            else:
                made.add_file(str(path), policy="immutable", skip_cache=True)
        if self._mode == "online":
            for parent in parents:
                self._run.use_artifact(parent.wait(_COMMIT_TIMEOUT_S))
            if artifact.is_input:
                self._kept[artifact.name] = self._run.use_artifact(made)
                return
        self._kept[artifact.name] = self._run.log_artifact(made)

    def alert(self, title: str, text: str, is_error: bool) -> None:
        """Have W&B send a mail or a message, as its user has set it."""
        self._run.alert(title=title[:60], text=text, level="ERROR" if is_error else "WARN")

    def finish(self, exit_code: int) -> None:
        """End the run; uploads are waited for."""
        self._run.finish(exit_code=exit_code)


def axis_of(stage: str) -> str:
    """Return what the metrics of a stage are drawn over: gradient steps, or its seconds."""
    return "distill/step" if stage == "distill" else f"{stage}/seconds"


def _run_id(folder: Path) -> str:
    """Return the id of a run folder's W&B run: the same when the run is gone on with.

    Offline, each command leaves a folder of its own with that id; `wandb sync --append` sends them
    to one run.
    """
    path = folder / "wandb" / "run_id"
    with suppress(OSError):
        known = path.read_text().strip()
        if known:
            return known
    made = secrets.token_hex(4)
    with suppress(OSError):  # of a folder that cannot be written, nothing is kept
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{made}\n")
    return made


def _artifact_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
