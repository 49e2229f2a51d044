"""MLflow: a run on a tracking server, which the same command goes on with."""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from typing_extensions import override

from stratos.core.redact import redact
from stratos.tracking.file_sinks import as_csv
from stratos.tracking.sink import Artifact, Cell, Sink, Start, Table

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
