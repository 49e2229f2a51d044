"""The last stage: the run on one page, and a sweep on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stratos.config import Config
    from stratos.core.context import Context
    from stratos.records import Report


def report(
    config: Config, records: Mapping[str, Any], context: Context, warnings: Sequence[str] = ()
) -> Report:
    """Write the page of a run, `<run_dir>/report.html`, and say where it lies.

    Args:
        config: the run's config.
        records: stage name to record; any may be missing or None, and its section then says so.
        context: the run's folder and ledger.
        warnings: what the stages have warned of.
    """
    from stratos.report.run_page import write_run_page

    return write_run_page(config, records, context, warnings)


def sweep_report(sweep_dir: str | Path) -> Path:
    """Write the comparison of a sweep's jobs, `<sweep_dir>/index.html`, and return its path.

    Raises:
        ReportError: the folder holds no job.
    """
    from stratos.report.sweep_page import write_sweep_page

    return write_sweep_page(Path(sweep_dir))
