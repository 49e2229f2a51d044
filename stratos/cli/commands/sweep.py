"""`stratos sweep resume`: run what is missing of a sweep."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratos.cli.commands.run import run_hydra
from stratos.core.errors import StratosError
from stratos.core.redact import HIDDEN
from stratos.report.sweep_jobs import read_yaml

KEPT = "multirun.yaml"
_GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_STUDY = "hydra_plugins.stratos_launchers.study.StudySweeper"
_MISSING = "hydra_plugins.stratos_launchers.missing.MissingSweeper"
_OURS = ("hydra.sweep.dir=", "hydra.sweeper._target_=", "hydra.mode=")
"""Overrides that are given anew."""


@dataclass(frozen=True)
class SweepCommand:
    """What to type, and where."""

    words: tuple[str, ...]
    folder: Path


def command_of(sweep_dir: Path, more: Sequence[str] = ()) -> SweepCommand:
    """Return the command that runs what is missing of a sweep.

    Args:
        sweep_dir: folder of the sweep.
        more: overrides of Hydra's own part, such as of its launcher.

    Raises:
        StratosError: there is no sweep, or its command cannot be told.
    """
    path = sweep_dir / KEPT
    try:
        settings: Any = read_yaml(path)
        if settings is None and path.exists():
            raise ValueError("it is empty")
        if settings is None:
            raise StratosError(
                f"{sweep_dir}: no sweep in it ({KEPT} is not there). Give the folder of one, as in "
                "sweeps/<time>."
            )
        hydra = settings["hydra"]
        target = hydra["sweeper"]["_target_"]
        typed = [*hydra["overrides"]["hydra"], *hydra["overrides"]["task"]]
        sources = hydra["runtime"]["config_sources"]
        cwd = Path(hydra["runtime"]["cwd"])
    except (ValueError, KeyError, TypeError) as error:
        raise StratosError(
            f"{path} cannot be read ({error}). Give the command of the sweep again with "
            f"hydra.sweep.dir={sweep_dir}: each job goes on where it stopped."
        ) from error
    if target not in (_GRID, _STUDY, _MISSING):
        raise StratosError(
            f"{sweep_dir} is a sweep by {target}, which has its own way to go on. Give its command "
            f"again with hydra.sweep.dir={sweep_dir}."
        )
    if any(HIDDEN in line for line in typed):
        raise StratosError(
            f"The command of {sweep_dir} had a secret, which is not kept. Give it again with "
            f"hydra.sweep.dir={sweep_dir}: each job goes on where it stopped."
        )
    if wrong := [line for line in more if not line.startswith("hydra")]:
        raise StratosError(
            f"{wrong[0]}: what the jobs are stays as it was. Only Hydra's own part may change, as "
            "in hydra.launcher.n_jobs=4."
        )
    words = ["-m", *(line for line in typed if not line.startswith(_OURS)), *more]
    words.append(f"hydra.sweep.dir='{_escaped(str(sweep_dir.resolve()))}'")
    if target != _STUDY:
        words.append(f"hydra.sweeper._target_={_MISSING}")
    for source in sources:
        if source["provider"] == "command-line":
            words += ["--config-dir", source["path"]]
    return SweepCommand(tuple(words), cwd if cwd.is_dir() else Path.cwd())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments."""
    parser.description = (
        "Run the jobs of a sweep that failed, were stopped or never began. Each goes on in its own "
        "folder; those that have finished are left alone."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    resume = commands.add_parser("resume", help="run what is missing")
    resume.add_argument("folder", type=Path, help="of the sweep, as in sweeps/<time>")
    resume.add_argument(
        "overrides",
        nargs="*",
        metavar="OVERRIDE",
        help="of the launcher, such as hydra.launcher.n_jobs=4",
    )


def run(args: argparse.Namespace) -> None:
    """Give the command of the sweep again, for the jobs that have not finished.

    Raises:
        StratosError: there is no such sweep.
        SystemExit: a job has failed.
    """
    command = command_of(args.folder, args.overrides)
    os.chdir(command.folder)  # relative paths are those of where it was typed
    run_hydra(command.words)
