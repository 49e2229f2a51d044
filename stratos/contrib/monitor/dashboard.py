"""`stratos dashboard`: a sweep as a saved W&B workspace and a report."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from stratos.contrib.monitor.contents import contents_of
from stratos.contrib.monitor.views import Views, as_json
from stratos.core.atomic_files import write_atomically
from stratos.core.errors import StratosError
from stratos.core.redact import redact_text
from stratos.tracking.services import has_login, why_refused

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
    _build(args.folder, args.entity, args.project, args.offline)


def _build(folder: Path, entity: str | None, project: str | None, offline: bool) -> None:
    import dataclasses

    contents = contents_of(folder)
    if project:
        contents = dataclasses.replace(contents, project=project)
    os.environ.setdefault("WANDB_SILENT", "true")
    is_online = not offline and has_login()
    if is_online and (why := why_refused()) is not None:
        raise StratosError(f"{why}. Set another key, or add --offline to write the files alone.")
    whose = entity or contents.entity or (_own_entity() if is_online else _NO_ENTITY)
    views = Views(contents, whose)
    report, workspace = views.report(), views.workspace()
    for name, view in (("report", report), ("workspace", workspace)):
        path = folder / FOLDER / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, as_json(view))
        print(f"{name.capitalize():<10} {path}")
    if not is_online:
        print("Nothing was sent: there is no W&B key, or --offline was given.")
        return
    for name, view in (("report", report), ("workspace", workspace)):
        try:
            view.save()
        except Exception as error:  # the client raises whatever its service does
            raise StratosError(
                f"W&B does not take the {name} ({redact_text(str(error))[:200]}). The files are "
                f"in {folder / FOLDER}."
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
