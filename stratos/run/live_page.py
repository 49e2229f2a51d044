"""A page that shows a run while it works: stages, spending, the curve, samples as they come.

It is read from the run folder alone, so that any process can make it: the run itself with
`--watch`, or `stratos status --page`. It loads itself again every two seconds, and leads to the
report once that is there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stratos.core.atomic_files import write_atomically
from stratos.core.formats import duration
from stratos.core.output import WATCH, is_on
from stratos.core.process import every
from stratos.core.redact import redact_text
from stratos.records import from_json
from stratos.report.charts import EXACT, LOSS, Plot, curve_plots, render
from stratos.report.costs import read_ledger, running_usd
from stratos.report.sweep_jobs import Job, asked_stages, config_of, read_job
from stratos.run.run_state import Progress, read_progress
from stratos.run.screen import outcome

NAME = "live.html"
EVERY_S = 2.0
"""Seconds between two versions of the page."""
_SHOWN = (LOSS.key, EXACT.key)
"""What is drawn of a training; the report draws the rest."""
_SILENT_S = 30.0
"""Seconds without a new version from which on the page says so."""


@dataclass(frozen=True)
class StageRow:
    """One stage on the page."""

    name: str
    state: str
    """done, working or waiting."""
    text: str
    share: float | None = None
    took: str = ""
    remaining: str = ""


def write_live_page(folder: Path, error: BaseException | None = None) -> str:
    """Write the page of a run.

    Args:
        folder: of the run.
        error: that the run ends by just now, before its folder says so.

    Returns:
        How the run stands: finished, running, failed or unfinished.
    """
    job, progress = read_job(folder.parent, folder), read_progress(folder)
    if error is not None:
        job = replace(job, status="unfinished", why=redact_text(str(error)) or "it was interrupted")
    path, name = folder / "ledger.jsonl", "/".join(folder.resolve().parts[-2:])
    report = "report.html"
    working = progress if job.status == "running" else None
    page = render(
        "live.html",
        title=f"{name} · Stratos",
        run_name=name,
        job=job,
        stages=_stages(job, working),
        spent_usd=sum(spend.usd for spend in read_ledger(path)) + running_usd(path),
        budget_usd=_budget_usd(folder),
        plots=_plots(job, progress),
        samples=list(reversed(progress.samples)) if progress else [],
        warnings=_warnings(folder),
        refresh_s=EVERY_S if job.status == "running" else None,
        report=report if job.status == "finished" and (folder / report).exists() else "",
        written=datetime.now().astimezone(),
        silent_s=_SILENT_S,
    )
    write_atomically(folder / NAME, page, flushed=False)
    return job.status


def _stages(job: Job, progress: Progress | None) -> Sequence[StageRow]:
    return [_row(name, job.records.get(name), progress) for name in asked_stages(job.folder)]


def _row(name: str, record: Any, progress: Progress | None) -> StageRow:
    if progress is not None and progress.stage == name:
        left_s = None if " left" in progress.text else progress.left_s
        return StageRow(
            name,
            "working",
            progress.text,
            progress.share,
            took=duration(max(0.0, time.time() - progress.began_s)),
            remaining="" if left_s is None else f"about {duration(left_s)} left",
        )
    if record is None:
        return StageRow(name, "waiting", "")
    return StageRow(name, "done", outcome(record), took=duration(record.seconds))


def _plots(job: Job, progress: Progress | None) -> Sequence[Plot]:
    student = job.records.get("distill")
    curve = student.curve if student is not None else progress.curve if progress else ()
    plots = curve_plots(curve) if len(curve) > 1 else ()
    return [plot for plot in plots if plot.ys[0] in _SHOWN]


def _budget_usd(folder: Path) -> float | None:
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        budget = config_of(folder)["limits"]["budget_usd"]
        return None if budget is None else float(budget)
    return None


def _warnings(folder: Path) -> list[str]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        by_stage = from_json((folder / "warnings.json").read_bytes(), dict[str, list[str]])
        return list(dict.fromkeys(text for texts in by_stage.values() for text in texts))
    return []


def show_in_browser(path: Path) -> bool:
    """Open a file in a browser with a window, where there is one; return whether."""
    has_window = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    with contextlib.suppress(webbrowser.Error):
        return has_window and webbrowser.open(path.resolve().as_uri())
    return False


@contextlib.contextmanager
def watched_page(folder: Path, is_gone: Callable[[], bool]) -> Iterator[Path | None]:
    """Keep the page of a run new while the block lasts, where the user asked for it.

    Args:
        folder: of the run.
        is_gone: tells whether the folder was deleted meanwhile.
    """
    if not is_on(WATCH):
        yield None
        return
    error: BaseException | None = None

    def write() -> None:
        with contextlib.suppress(Exception):  # a page is worth less than the run
            if not is_gone():
                write_live_page(folder, error)

    write_live_page(folder)
    show_in_browser(folder / NAME)
    try:
        with every(EVERY_S, write):
            yield folder / NAME
    except BaseException as caught:
        error = caught
        raise
    finally:
        write()
