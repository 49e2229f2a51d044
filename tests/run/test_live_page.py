"""The page of a run at work: read from its folder, in a real browser, kept new by a real run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stratos.core.process import locked
from stratos.records import save
from stratos.run.live_page import write_live_page
from stratos.run.run_state import PROGRESS, ProgressFile, read_progress
from tests.browser import chrome, page
from tests.in_process import stratos
from tests.report import factory

__all__ = ["chrome", "page"]

CONFIG = """stages: [probe, plan, synthesize, distill, evaluate, deploy, report]
deploy:
  name: local
limits:
  budget_usd: 5.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a run that is in its training: three stages are done."""
    run = tmp_path / "run"
    factory.write_hydra(run, ["+task=mahjong"])
    (run / ".hydra" / "config.yaml").write_text(CONFIG)
    records = factory.make_records(run)
    for stage in ("probe", "plan", "synthesize"):
        save(run / f"{stage}.json", stage, "f", records[stage])
    return run


def train(folder: Path) -> ProgressFile:
    """Say what a training says, with answers that try to break a page."""
    progress = ProgressFile(folder)
    progress.begin("distill")
    for step in range(10, 60, 10):
        progress.log({"distill/loss": 6.0 / step, "distill/tokens": 1000.0 * step}, step)
    progress.sample("stratos_1m", factory.HOSTILE, "4s", "4s", True)
    progress.sample("stratos_1m", "1111m", "5p", factory.HOSTILE, False)
    progress._progress.written_s = 0.0
    progress.tick(40, 100, "loss 0.1")
    return progress


def test_progress_is_what_was_said_last(tmp_path):
    train(tmp_path)
    progress = read_progress(tmp_path)
    assert progress is not None and (progress.stage, progress.share) == ("distill", 0.4)
    assert [point.step for point in progress.curve] == [10, 20, 30, 40, 50]
    assert [sample.is_right for sample in progress.samples] == [True, False]
    assert read_progress(tmp_path / "elsewhere") is None


def test_time_left_is_that_of_the_part_at_its_own_pace(tmp_path, monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    progress = ProgressFile(tmp_path)
    progress.begin("deploy")
    progress.tick(0, 32, "server starts")
    now += 25
    for n, left_s in ((1, None), (2, 60.0), (4, 56.0)):
        progress.tick(n, 32, "requests")
        written = read_progress(tmp_path)
        assert written is not None and written.left_s == left_s
        now += 2 * n


def test_a_long_curve_keeps_its_shape_and_every_measurement(tmp_path):
    progress = ProgressFile(tmp_path)
    progress.begin("distill")
    for step in range(1, 2001):
        metrics = {"loss": 1.0, "validation_exact": 0.5} if step % 100 == 0 else {"loss": 1.0}
        progress.log(metrics, step)
    curve = progress._progress.curve
    assert len(curve) <= 400 and sum(point.exact is not None for point in curve) == 20


def test_nothing_is_written_into_a_folder_that_is_gone(tmp_path):
    progress = ProgressFile(tmp_path, is_gone=lambda: True)
    progress.begin("probe")
    assert not (tmp_path / PROGRESS).exists()


@pytest.mark.browser
def test_a_run_at_work_shows_stage_money_curve_and_samples(page, folder):
    train(folder)
    with locked(folder / ".lock"):
        assert write_live_page(folder) == "running"
        page.open(folder / "live.html")
        stages = {row.get_attribute("class"): row.text for row in page.all(".stages li")}
        assert "progress 40%" in stages["working"]
        assert [row.text for row in page.all(".stages li.done strong")] == [
            "probe", "plan", "synthesize",
        ]  # fmt: skip
        assert "of $5.00" in page.one("#spent").text
        assert [title.text for title in page.all(".plot-title")] == ["Training loss"]
        assert "4s right" in page.one("#samples tbody tr:last-child").text
        assert page.js("return typeof window.hacked") == "undefined"
        assert page.console() == []
        assert not page.one("#silent").is_displayed()
        before = page.js("return document.querySelector('time').textContent")
        time.sleep(1.1)
        write_live_page(folder)
        last = time.monotonic() + 20
        while page.js("return document.querySelector('time').textContent") == before:
            assert time.monotonic() < last, "it loads itself again"
            time.sleep(0.2)


@pytest.mark.browser
def test_it_leads_to_the_report_once_that_is_there(page, folder):
    records = factory.make_records(folder)
    for stage in ("distill", "evaluate", "deploy"):
        save(folder / f"{stage}.json", stage, "f", records[stage])
    config = factory.make_config(folder)
    from stratos.report import report

    record = report(config, records, factory.make_context(folder))
    save(folder / "report.json", "report", "f", record)
    assert write_live_page(folder) == "finished"
    page.open(folder / "live.html")
    last = time.monotonic() + 20
    while not page.all("#scorecard"):
        assert time.monotonic() < last
        time.sleep(0.2)


def test_a_run_that_was_killed_says_how_it_goes_on(folder):
    train(folder)
    assert write_live_page(folder) == "unfinished"
    page = (folder / "live.html").read_text()
    assert f"hydra.run.dir={folder}" in page and 'http-equiv="refresh"' not in page


def test_status_writes_the_page_of_a_run(folder):
    done = stratos("status", str(folder), "--page")
    assert done.stdout.strip() == f"Page    {folder / 'live.html'}"
    assert (folder / "live.html").exists()
    none = stratos("status", "--page", str(folder.parent / "empty"))
    assert none.returncode == 2


def test_a_watched_run_writes_it_and_takes_its_progress_away(tmp_path):
    done = stratos(
        "plan", "+task=mahjong", "cloud=aws", "logger=none", "stages=[probe]", "teacher=none",
        "--watch", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "live.html").exists()
    assert f"page       {tmp_path / 'run' / 'live.html'}" in done.stdout.splitlines()
    assert not (tmp_path / "run" / PROGRESS).exists()
