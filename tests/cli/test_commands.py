"""`stratos status` and `stratos compare`, on folders as stages leave them."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from stratos.evaluate.answers import answers_path
from stratos.records import save
from tests.cli.made_run import make_run
from tests.in_process import Done, stratos
from tests.report import factory


def run(*words: str, cwd: Path, **env: str) -> Done:
    return stratos(*words, cwd=cwd, env={"NO_COLOR": "1", **env})


def compared(runs: Path) -> Done:
    """Compare the run with the first job of the sweep."""
    return run("compare", "outputs/one", "sweeps/day/0", "--json", cwd=runs)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "outputs" / "one", right=60)
    make_run(folder / "sweeps" / "day" / "0", "student=stratos_300k", right=90)
    half = make_run(folder / "sweeps" / "day" / "1", right=10)
    (half / "deploy.json").unlink()
    (half / "error.txt").write_text("no room\x1b[31m on the disk\nmore")
    return folder


@pytest.mark.parametrize(
    "name",
    [".hydra/config.yaml", ".hydra/overrides.yaml", ".ledger.json", "distill.json",
     "ledger.jsonl", "probe.json", "progress.json", "warnings.json"],
)  # fmt: skip
def test_a_file_that_is_nested_without_end_hides_no_other_run(tmp_path, name):
    make_run(tmp_path / "outputs" / "good")
    bad = make_run(tmp_path / "outputs" / "bad")
    (bad / name).write_text("[" * 100_000 + "\n")
    done = run("status", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = {json.loads(line)["folder"] for line in done.stdout.splitlines()}
    assert folders == {"outputs/good", "outputs/bad"}


def test_runs_and_the_jobs_of_sweeps_are_listed(runs):
    done = run("status", cwd=runs)
    assert done.returncode == 0, done.stderr
    for name in ("outputs/one", "sweeps/day/0", "sweeps/day/1"):
        assert name in done.stdout
    assert "failed" in done.stdout and "\x1b" not in done.stdout
    lines = [json.loads(line) for line in run("status", "--json", cwd=runs).stdout.splitlines()]
    assert {row["folder"]: row["status"] for row in lines} == {
        "outputs/one": "finished", "sweeps/day/0": "finished", "sweeps/day/1": "failed"
    }  # fmt: skip
    student = next(row for row in lines if row["folder"] == "outputs/one")
    assert student["task"] == "mahjong" and 0 < student["accuracy"]["mean"] <= 1
    assert student["accuracy"]["low"] <= student["accuracy"]["mean"]


def test_a_run_under_way_says_where_it_is(runs, tmp_path):
    folder = make_run(tmp_path / "outputs" / "now")
    for stage in ("evaluate", "deploy"):
        (folder / f"{stage}.json").unlink()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("status", "outputs/now", "--json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["why"]) == ("running", "in evaluate")
    assert answer["accuracy"] is None and answer["validation_accuracy"] is not None


def test_there_is_nothing(tmp_path):
    done = run("status", cwd=tmp_path)
    assert done.returncode == 0 and "There is no run here" in done.stdout
    done = run("status", "nowhere", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("nowhere is no folder. Type")


def test_two_runs_are_compared_on_the_items_of_both(runs):
    done = run("compare", "outputs/one", "sweeps/day/0", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("B is better than A: B 90.0%, A 60.0%")
    assert "test accuracy: student" in done.stdout and "seed" in done.stdout
    plain = compared(runs)
    answer = json.loads(plain.stdout)
    assert answer["paired"]["better"] == "second" and answer["paired"]["only_second"] == 30
    assert answer["settings"] == {"seed": ["0", "1"]}
    assert "hidden-key-1234" not in plain.stdout + done.stdout


def test_a_file_that_has_grown_between_two_runs_differs(tmp_path):
    folders = [make_run(tmp_path / "outputs" / name) for name in "abc"]
    for folder, digest in zip(folders, ("1a", "2b", "2b"), strict=True):
        record = factory.make_records(folder)["probe"]
        files = {"task.path": digest, "task.test_path": "3c", "task": digest}  # "task" is of both
        inputs = {"task.name": "f0", **{f"the content of {key}": of for key, of in files.items()}}
        save(folder / "probe.json", "probe", "mark", record, inputs=inputs)
    done = run("compare", "outputs/a", "outputs/b", cwd=tmp_path)
    assert "All settings are equal, the data are not." in done.stdout
    assert "the content of task.path" in done.stdout and "digest 1a" in done.stdout
    data = json.loads(run("compare", "outputs/a", "outputs/b", "--json", cwd=tmp_path).stdout)
    assert data["data"] == {"the content of task.path": ["digest 1a", "digest 2b"]}
    done = run("compare", "outputs/b", "outputs/c", cwd=tmp_path)
    assert "All settings and the data are equal." in done.stdout


def test_what_cannot_be_compared_is_said(runs, tmp_path):
    done = run("compare", "outputs/one", "outputs", cwd=runs)
    assert done.returncode == 2 and "outputs is no folder of a run" in done.stderr
    bare = make_run(tmp_path / "bare")
    answers_path(bare).unlink()
    done = run("compare", "outputs/one", str(bare), cwd=runs)
    assert done.returncode == 0
    assert done.stdout.startswith("B has no answers")


def test_a_failed_run_is_compared_as_far_as_it_came_with_an_exit_code(runs, tmp_path):
    done = run("compare", "outputs/one", "sweeps/day/1", cwd=runs)
    assert done.returncode == 1 and not done.stderr
    assert "A is better than B" in done.stdout and "no room" in done.stdout
    verdict = json.loads(run("compare", "outputs/one", "sweeps/day/1", "--json", cwd=runs).stdout)
    assert verdict["verdict"].endswith(
        " B failed: its command, typed again, goes on where it stopped."
    )
    bare = make_run(tmp_path / "bare")
    for path in (answers_path(bare), bare / "evaluate.json", bare / "deploy.json"):
        path.unlink()
    (bare / "error.txt").write_text("no room on the disk")
    done = run("compare", str(bare), "outputs/one", cwd=runs)
    assert done.returncode == 1
    assert done.stdout.startswith("A has no answers to test items yet: no verdict. A failed: its")


LONG = "outputs/2026-11-27/14-35-51-a-name-that-no-narrow-terminal-has-room-for"


@pytest.mark.parametrize("columns", ["40", "400"])
def test_the_name_of_a_run_is_never_broken(tmp_path, columns):
    make_run(tmp_path / LONG)
    printed = run("status", cwd=tmp_path, FORCE_COLOR="1", COLUMNS=columns, TERM="dumb").stdout
    assert any(LONG in line for line in printed.splitlines())
    assert "finished" in printed and "teacher" in printed


@pytest.mark.parametrize("columns", ["60", "200", ""])
def test_a_file_has_no_broken_path_and_no_cut_word(runs, tmp_path, columns):
    first, second = make_run(tmp_path / LONG), make_run(tmp_path / "outputs" / "b", right=5)
    path = (
        "/data/of/a/customer/whose/folders/are/long/and/whose/files/are/longer/rows-of-2026.jsonl"
    )
    for folder in (first, second):
        config = folder / ".hydra" / "config.yaml"
        config.write_text(f"{config.read_text()}data: {path}.{folder.name}\n")
    (first / "deploy.json").unlink()
    (first / "error.txt").write_text(f"{path} cannot be read.")
    for words in (["status"], ["compare", LONG, "outputs/b"]):
        printed = run(*words, cwd=tmp_path, COLUMNS=columns).stdout
        assert LONG in printed and path in printed and "…" not in printed


def test_a_narrow_terminal_shows_whole_words_and_no_color_no_styles(runs):
    env = {"FORCE_COLOR": "1", "COLUMNS": "60", "TERM": "xterm"}
    words = ("compare", "outputs/one", "sweeps/day/0")
    styled, plain = (run(*words, cwd=runs, NO_COLOR=value, **env).stdout for value in ("", "1"))
    assert "\x1b[1m" in styled and "\x1b" not in plain
    assert "…" not in plain and "accuracy" in plain


def test_compared_figures_are_numbers_for_a_program(runs):
    figures = json.loads(compared(runs).stdout)["a"]
    records = factory.make_records(runs / "outputs" / "one")
    assert figures["planned_usd"] == records["plan"].usd
    assert figures["bundle_bytes"] == records["deploy"].bundle_bytes
    assert (
        figures["test_accuracy"]["student"]["mean"] > 0.9
        and figures["test_accuracy"]["student"]["n_items"]
    )
    assert figures["texts"]["planned dollars"].startswith("$")


@pytest.mark.parametrize("change", ["edited", "cut", "of another format"])
def test_a_record_that_cannot_be_read_is_told(tmp_path, change):
    first, second = (make_run(tmp_path / "outputs" / name, right=60) for name in ("one", "other"))
    path = second / "evaluate.json"
    text = path.read_text()
    path.write_text(
        {
            "edited": text.replace('"exact"', '"exaCt"', 1),
            "cut": text[: len(text) // 2],
            "of another format": text.replace('"format": 1', '"format": 0', 1),
        }[change]
    )
    assert path.read_text() != text
    done = run("compare", str(first), str(second), cwd=tmp_path)
    assert done.returncode == 2, done
    assert "evaluate.json cannot be read" in done.stderr


def test_the_page_of_a_sweep_is_not_made_of_one_run(runs):
    done = run("report", "outputs/one", cwd=runs)
    assert done.returncode == 2
    assert "report.html" in done.stderr
    assert not (runs / "outputs" / "one" / "index.html").exists()
