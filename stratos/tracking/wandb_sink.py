"""Weights & Biases: one run a run folder, which the same command goes on with."""

from __future__ import annotations

import importlib
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from typing_extensions import override

from stratos.config import STAGES
from stratos.core.redact import redact
from stratos.tracking.services import why_refused
from stratos.tracking.sink import Artifact, Cell, Chart, Sink, Start, Table, one_line

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
        for name, kept in _SUMMARIES.items():
            run.define_metric(name, step_metric=axis_of("distill"), summary=kept)
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
