"""Write the sweep page when all jobs have ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from stratos.core.errors import StratosError
from stratos.core.formats import visible


class SweepPage(Callback):
    """Remembers the folder of the sweep that runs in this process.

    Hydra calls `on_multirun_end` only if every job went well; a comparison is wanted above all
    when one did not, so `main` asks for the page itself, after Hydra has ended.
    """

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the jobs of this sweep will lie."""
        SweepPage.folder = Path(str(config.hydra.sweep.dir))


def write_page() -> None:
    """Write `index.html` of the sweep that this process ran, if any, and say which job is best."""
    folder = SweepPage.folder
    if folder is None or not any(folder.glob("*/.hydra")):
        return
    from stratos.report import sweep_report
    from stratos.report.sweep_jobs import best_line

    try:
        page = sweep_report(folder)
        if best := best_line(folder):
            print(visible(f"Best    {best}"))
        print(f"Sweep   {page}")
    except StratosError as error:
        print(error, file=sys.stderr)
