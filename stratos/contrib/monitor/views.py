"""The report and the workspace of a sweep, as code for W&B."""

from __future__ import annotations

import importlib
import json
from typing import Any

from stratos.contrib.monitor.contents import Contents
from stratos.core import extras
from stratos.core.errors import StratosError

ACCURACY, USD, LATENCY, HOURS = (
    "student_exact", "planned_usd", "latency_p95_ms", "planned_hours",
)  # fmt: skip
"""Numbers of the summary of a run, as `stratos.run.summary` names them."""
COLUMNS = (
    "summary:verdict", "summary:beside_baselines", f"summary:{ACCURACY}",
    "summary:validation_exact", f"summary:{USD}", f"summary:{HOURS}", f"summary:{LATENCY}",
)  # fmt: skip
"""Columns of the table of runs, the verdict first."""
_CURVES = ("distill/loss", "distill/validation_exact")


class Views:
    """Makes both; needs the package wandb-workspaces, and no account."""

    def __init__(self, contents: Contents, entity: str) -> None:
        """Take what to show, and whose it is.

        Raises:
            StratosError: the package is not installed.
        """
        try:
            self._reports = importlib.import_module("wandb_workspaces.reports.v2")
            self._workspaces = importlib.import_module("wandb_workspaces.workspaces")
        except ImportError as error:
            raise StratosError(
                f"A dashboard needs the package wandb-workspaces. Type: "
                f"{extras.install('dashboard')}"
            ) from error
        self._contents, self._entity = contents, entity

    def report(self) -> Any:
        """Return the report: the jobs in words, and the panels over their runs."""
        wr, contents = self._reports, self._contents
        group = self._workspaces.Metric("Group") == contents.name
        # Without an account of its own it is that of the report, and nobody is asked for it.
        runs = wr.Runset(
            name=contents.name,
            filters=[group],
            pinned_columns=["run:displayName", COLUMNS[0]],
            visible_columns=["run:displayName", *COLUMNS, *self._varied()],
        )
        lines = [
            f"- job {name} ({varied or 'as the others'}): {outcome}"
            for name, varied, outcome in contents.jobs
        ]
        return wr.Report(
            entity=self._entity,
            project=contents.project,
            title=f"Sweep {contents.name}",
            description="Accuracy, dollars and latency of the jobs of a sweep by Stratos.",
            blocks=[
                wr.H1(text="Verdicts"),
                wr.MarkdownBlock(text="\n".join(lines)),
                wr.H1(text="Runs"),
                wr.PanelGrid(runsets=[runs], panels=self._panels()),
            ],
            width="fluid",
        )

    def workspace(self) -> Any:
        """Return the saved view of the project: the same panels, and the verdict as a column."""
        ws, contents = self._workspaces, self._contents
        return ws.Workspace(
            entity=self._entity,
            project=contents.project,
            name=f"Sweep {contents.name}",
            sections=[
                ws.Section(name="Comparison", panels=self._panels(), is_open=True),
                ws.Section(name="Training", panels=self._curves(), is_open=True),
            ],
            runset_settings=ws.RunsetSettings(
                filters=[ws.Metric("Group") == contents.name], pinned_columns=list(COLUMNS)
            ),
        )

    def _varied(self) -> list[str]:
        return [f"config:{key}" for key in self._contents.varied]

    def _panels(self) -> list[Any]:
        wr = self._reports
        summary = wr.SummaryMetric
        columns = [
            *(wr.Config(key) for key in self._contents.varied),
            *(summary(name) for name in (USD, HOURS, LATENCY, ACCURACY)),
        ]
        bars = [
            wr.BarPlot(
                title=f"{title}, by cloud",
                metrics=[summary(name)],
                groupby=wr.Config("cloud.name"),
                groupby_aggfunc="mean",
                groupby_rangefunc="minmax",
                orientation="v",
            )
            for title, name in (("Planned dollars", USD), ("Accuracy on test items", ACCURACY))
        ]
        return [
            wr.ScatterPlot(
                title="Accuracy, dollars, latency",
                x=summary(USD),
                y=summary(ACCURACY),
                z=summary(LATENCY),
                log_x=True,
                layout=wr.Layout(x=0, y=0, w=12, h=10),
            ),
            wr.ParallelCoordinatesPlot(
                title="What was varied, and what came of it",
                columns=[wr.ParallelCoordinatesPlotColumn(metric=one) for one in columns],
                layout=wr.Layout(x=12, y=0, w=12, h=10),
            ),
            *bars,
        ]

    def _curves(self) -> list[Any]:
        wr = self._reports
        return [wr.LinePlot(title=name, x="distill/step", y=[name]) for name in _CURVES]


def as_json(view: Any) -> bytes:
    """Return a report or workspace as W&B keeps it."""
    model = view._to_model()
    plain = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(plain, indent=1, ensure_ascii=False).encode()
