"""`stratos calibration`, on folders as stages leave them."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "report"))

import factory
from in_process import Done, stratos

from stratos.contrib.monitor.calibration import hits_of, judged_in, n_to_tell
from stratos.core.intervals import wilson
from stratos.records import Interval, LoadResult, Prediction, save

_SECONDS = itertools.count(1.0)
ACCURACY = 0.979
"""Of the student of the factory's records, on 1,000 test items."""


def make_run(folder: Path, low: float, high: float, busy: bool = False) -> Path:
    """Leave a run whose plan predicted an accuracy between two ends."""
    folder.mkdir(parents=True)
    factory.write_hydra(folder, [], ["probe", "plan"])
    records = factory.make_records(folder)
    predicted = Interval((low + high) / 2, low, high, "2 recorded runs")
    # Two runs never take equally long: by that a copy of one is told from another run.
    records["plan"] = replace(records["plan"], accuracy=predicted, seconds=next(_SECONDS))
    load = LoadResult(
        requests_per_s=2.0, n_requests=40, seconds=20.0, kept_up=True, gap_variation=1.0,
        latest_ms=0.1, latency_p50_ms=100.0, latency_p95_ms=300.0, capacity_per_s=8.0,
        tries=(), p95_ms=Prediction(Interval(250, 150, 350), 300.0),
        capacity=Prediction(Interval(20, 15, 25), 8.0),
    )  # fmt: skip
    records["deploy"] = replace(
        records["deploy"],
        answer_ms=Prediction(Interval(80, 60, 90), 85.0),
        load=load,
        was_busy=busy,
        memory_gib=Prediction(Interval(2.1, 0.0, 2.1), 0.9),
    )
    for stage, record in records.items():
        save(folder / f"{stage}.json", stage, "mark", record)
    return folder


def run(*words: str, cwd: Path, **env: str) -> Done:
    return stratos("calibration", *words, cwd=cwd, env={"NO_COLOR": "1", **env})


def test_hits_and_misses_of_all_runs_are_counted(tmp_path):
    for i in range(3):
        make_run(tmp_path / "sweeps" / "day" / str(i), 0.95, 0.99)
    make_run(tmp_path / "outputs" / "missed", 0.5, 0.6, busy=True)
    folders = [tmp_path / "outputs", tmp_path / "sweeps", tmp_path / "sweeps" / "day"]
    found = judged_in(folders).rows
    by_kind = {one.name: one for one in hits_of(found)}
    accuracy = by_kind["accuracy"]
    assert (accuracy.n, accuracy.n_inside, accuracy.n_open) == (4, 3, 0)
    assert (accuracy.share.low, accuracy.share.high) == (wilson(3, 4).low, wilson(3, 4).high)
    assert accuracy.verdict == "too few"
    # Planned for a server of AWS and measured here: shown, and judged by nothing.
    assert (by_kind["hours"].n, by_kind["hours"].n_open) == (0, 4)
    # The plan's own p95 is judged by nothing; those of the load test are, but on a busy machine.
    assert (by_kind["latency"].n, by_kind["latency"].n_known) == (0, 0)
    alone, latency = by_kind["an answer alone"], by_kind["p95 under load"]
    assert (latency.n, latency.n_inside) == (alone.n, alone.n_inside) == (3, 3)
    assert (by_kind["rate"].n, by_kind["rate"].n_inside) == (3, 0)
    assert by_kind["rate"].ratio == pytest.approx(0.4)
    assert (by_kind["memory"].n, by_kind["memory"].n_inside) == (4, 4)
    assert by_kind["memory"].is_bound and by_kind["memory"].verdict == "bound"
    assert by_kind["memory"].width is None
    assert by_kind["memory"].ratio == pytest.approx(0.9 / 2.1), "so far below it"
    # What would have missed on a busy machine is counted apart.
    rate = by_kind["rate"]
    assert (rate.n_open, rate.n_known, rate.n_known_inside) == (1, 4, 0)
    assert (latency.n_open, latency.n_known, latency.n_known_inside) == (1, 4, 4)
    # So a hit of a wide interval is seen.
    assert latency.width == pytest.approx(350 / 150)
    assert rate.width == pytest.approx(25 / 15)
    assert accuracy.width == pytest.approx(0.04, abs=0.02)


def test_enough_values_tell_whether_intervals_are_wide_enough(tmp_path):
    n = n_to_tell()
    assert wilson(n, n).low >= 0.9 > wilson(n - 1, n - 1).low
    [one] = judged_in([make_run(tmp_path / "a", 0.95, 0.99)]).rows[:1]
    [hits] = hits_of([one] * n)
    assert hits.verdict == "holds"
    missed = replace(one, row=replace(one.row, outcome="outside"))
    assert hits_of([*[one] * 30, *[missed] * 10])[0].verdict == "too narrow"
    assert hits_of([*[one] * 30, missed])[0].verdict == "too few"
    assert hits_of([missed])[0].verdict == "too few", "one miss comes once in 20 times"
    assert hits_of([missed] * 2)[0].verdict == "too narrow"


def test_the_command_lists_misses_and_says_that_runs_are_too_few(tmp_path):
    make_run(tmp_path / "outputs" / "good", 0.95, 0.99)
    make_run(tmp_path / "outputs" / "missed", 0.5, 0.6)
    told = run(cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "2 runs with a plan" in told.stdout and "outputs/missed" in told.stdout
    assert "Too few to tell: 35 values" in told.stdout and "\x1b" not in told.stdout
    plain = json.loads(run("--json", "outputs", cwd=tmp_path).stdout)
    assert plain["n_runs"] == 2 and plain["n_to_tell"] == 35
    rows = [one for one in plain["rows"] if one["row"]["quantity"] == "accuracy"]
    assert {Path(one["folder"]).name: one["row"]["outcome"] for one in rows} == {
        "good": "inside", "missed": "outside"
    }  # fmt: skip
    assert rows[0]["row"]["figures"]["measured"] == pytest.approx(ACCURACY)


def test_a_run_counts_once_however_often_it_was_copied(tmp_path):
    first = make_run(tmp_path / "outputs" / "a", 0.95, 0.99)
    for name in "bcd":
        shutil.copytree(first, tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "b" / "deploy.json").unlink()  # it went on, or was stopped, elsewhere
    make_run(tmp_path / "outputs" / "another", 0.95, 0.99)
    found = judged_in([tmp_path / "outputs"])
    assert len({one.folder for one in found.rows}) == 2
    assert sorted(Path(one).name for one in found.copies) == ["b", "c", "d"]
    [accuracy] = [one for one in hits_of(found.rows) if one.kind == "accuracy"]
    assert (accuracy.n, accuracy.n_inside) == (2, 2)
    told = run(cwd=tmp_path)
    assert "2 runs with a plan" in told.stdout
    assert "a copy of a run that counts: outputs/b" in told.stdout
    assert len(json.loads(run("--json", cwd=tmp_path).stdout)["copies"]) == 3


def test_the_least_copy_is_left_out_whichever_comes_first(tmp_path):
    first = make_run(tmp_path / "a", 0.95, 0.99)
    shutil.copytree(first, tmp_path / "b")
    (first / "deploy.json").unlink()
    found = judged_in([tmp_path])
    assert [Path(one).name for one in found.copies] == ["a"]
    assert {Path(one.folder).name for one in found.rows} == {"b"}


def test_the_table_shows_widths_and_bounds_apart(tmp_path):
    make_run(tmp_path / "outputs" / "a", 0.95, 0.99, busy=True)
    told = run(cwd=tmp_path).stdout
    intervals, bounds = told.split("Upper bounds")
    assert "width" in intervals and "points" in intervals and "memory" not in intervals
    assert "43%" in bounds and "1 of 1" in bounds


def test_there_is_nothing(tmp_path):
    told = run(cwd=tmp_path)
    assert told.returncode == 0 and "No run here has a plan" in told.stdout
    told = run("nowhere", cwd=tmp_path)
    assert told.returncode == 2 and told.stderr.startswith("nowhere is no folder. Type")


def test_a_narrow_terminal_shows_whole_words_and_no_color_no_styles(tmp_path):
    make_run(tmp_path / "outputs" / "a", 0.95, 0.99)
    env = {"FORCE_COLOR": "1", "COLUMNS": "60", "TERM": "xterm"}
    styled, plain = (run(cwd=tmp_path, NO_COLOR=value, **env).stdout for value in ("", "1"))
    assert "\x1b[1m" in styled and "\x1b" not in plain
    assert "…" not in plain and "accuracy" in plain
