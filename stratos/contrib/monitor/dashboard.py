"""`stratos dashboard`: a sweep as a saved W&B workspace and a report."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stratos.core import extras
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.formats import interval, percent, usd
from stratos.core.redact import redact_override, redact_text
from stratos.records import Plan, Scorecard
from stratos.report.sweep_jobs import Job, config_of, natural, read_jobs
from stratos.tracking.sink import has_login, why_refused


@dataclass(frozen=True)
class Contents:
    """A sweep, as far as W&B has to know it."""

    name: str
    """Folder of the sweep, which is the group of its runs."""
    project: str
    entity: str | None
    varied: tuple[str, ...]
    """Keys of the config in which the jobs differ."""
    jobs: tuple[tuple[str, str, str], ...]
    """Name, what was varied, and outcome of each job, in words."""


def contents_of(sweep_dir: Path) -> Contents:
    """Read a sweep.

    Raises:
        StratosError: there is none.
    """
    jobs = read_jobs(sweep_dir) if sweep_dir.is_dir() else []
    if not jobs:
        raise StratosError(
            f"{sweep_dir}: no job of a sweep in it. Give the folder of a sweep, as in "
            "sweeps/<time>."
        )
    logger = _logger(jobs)
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    varied = {line.partition("=")[0] for job in jobs for line in job.overrides} - {
        line.partition("=")[0] for line in common
    }
    keys = [_key(key, jobs[0]) for key in sorted(varied, key=natural)]
    return Contents(
        name=str(logger.get("group") or sweep_dir.resolve().name),
        project=str(logger.get("project") or "stratos"),
        entity=logger.get("entity"),
        varied=tuple(dict.fromkeys(keys)),
        jobs=tuple(
            (
                job.name,
                " ".join(redact_override(line) for line in job.overrides if line not in common),
                _outcome(job),
            )
            for job in jobs
        ),
    )


def _logger(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return where the jobs were tracked."""
    try:
        logger = config_of(jobs[0].folder).get("logger")
    except ValueError as error:
        raise StratosError(str(error)) from error
    return logger if isinstance(logger, dict) else {}


def _key(override: str, job: Job) -> str:
    """Return the key of the config that an override sets: of a group, the name of its choice."""
    key = override.lstrip("+~")
    try:
        node = config_of(job.folder).get(key)
    except ValueError:
        return key
    return f"{key}.name" if isinstance(node, dict) and "name" in node else key


def _outcome(job: Job) -> str:
    if job.status != "finished":
        return f"{job.status}: {job.why}".strip(": ")
    plan: Plan | None = job.records.get("plan")
    scorecard: Scorecard | None = job.records.get("evaluate")
    student = scorecard.score("student") if scorecard is not None else None
    parts = []
    if student is not None:
        exact = student.slice().exact
        parts.append(f"{percent(exact.mean)} ({interval(exact)}) of test items")
    if plan is not None:
        parts.append(f"planned {usd(plan.usd)}")
        if plan.worth is not None:
            parts.append(plan.worth.text)
    return ", ".join(parts) or job.status


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
                "A dashboard needs the package wandb-workspaces. Type: "
                f"{extras.install('dashboard')}"
            ) from error
        self._contents, self._entity = contents, entity

    def report(self) -> Any:
        """Return the report: the jobs in words, and the panels over their runs."""
        wr, contents = self._reports, self._contents
        group = self._workspaces.Metric("Group") == contents.name
        # Without an account of its own it is that of the report, and nobody is asked for it.
        varied = [f"config:{key}" for key in contents.varied]
        runs = wr.Runset(
            name=contents.name,
            filters=[group],
            pinned_columns=["run:displayName", COLUMNS[0]],
            visible_columns=["run:displayName", *COLUMNS, *varied],
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
                columns=[wr.ParallelCoordinatesPlotColumn(metric=metric) for metric in columns],
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


FOLDER = "dashboard"
_NO_ENTITY = "entity"
"""Stands in the files where no account is known; the upload names the real one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Build the comparison of a sweep for W&B: accuracy, dollars and latency as a scatter plot, "
        "parallel coordinates, bars by cloud, the verdict as a column. With a W&B key it is saved "
        "as a workspace and a report; the files are written either way."
    )
    parser.add_argument("folder", type=Path, help="of the sweep, as in sweeps/<time>")
    parser.add_argument("--entity", help="W&B account or team; the account's own by default")
    parser.add_argument("--project", help="W&B project; that of the jobs by default")
    parser.add_argument("--offline", action="store_true", help="write the files alone")


def run(args: argparse.Namespace) -> None:
    """Write both as JSON, and save them at W&B where there is a key; without one nothing is sent.

    Raises:
        StratosError: they cannot be written or saved.
    """
    contents = contents_of(args.folder)
    if args.project:
        contents = replace(contents, project=args.project)
    os.environ.setdefault("WANDB_SILENT", "true")
    is_online = not args.offline and has_login()
    if is_online and (why := why_refused()) is not None:
        raise StratosError(f"{why}. Set another key, or add --offline to write the files alone.")
    whose = args.entity or contents.entity or (_own_entity() if is_online else _NO_ENTITY)
    made = Views(contents, whose)
    views = {"report": made.report(), "workspace": made.workspace()}
    for name, view in views.items():
        path = args.folder / FOLDER / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, as_json(view))
        print(f"{name.capitalize():<10} {path}")
    if not is_online:
        print("Nothing was sent: there is no W&B key, or --offline was given.")
        return
    for name, view in views.items():
        try:
            view.save()
        except Exception as error:  # the client raises whatever its service does
            raise StratosError(
                f"W&B does not take the {name} ({redact_text(str(error))[:200]}). The files are "
                f"in {args.folder / FOLDER}."
            ) from error
        print(f"{name.capitalize():<10} {view.url}")


def _own_entity() -> str:
    import wandb

    try:
        return str(wandb.Api().default_entity)
    except Exception as error:
        raise StratosError(
            f"W&B does not tell the account ({redact_text(str(error))[:200]}). Add "
            "--entity <account>, or --offline to write the files alone."
        ) from error
