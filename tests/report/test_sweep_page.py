from __future__ import annotations

import fcntl
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.stratos_launchers._one_job import say
from omegaconf import OmegaConf

from stratos.cli.commands.run import SweepPage, write_page
from stratos.core.intervals import wilson
from stratos.records import Versus, save
from stratos.report import report, sweep_report
from stratos.report.sweep_jobs import read_jobs
from stratos.report.sweep_page import ReportError
from tests.in_process import stratos
from tests.report import factory


def add_job(folder: Path, overrides: list[str], without: tuple[str, ...] = ()) -> None:
    factory.write_hydra(folder, overrides)
    records = factory.make_records(folder)
    if not without:
        records["report"] = report(
            factory.make_config(folder), records, factory.make_context(folder)
        )
    for stage, record in records.items():
        if stage not in without:
            save(folder / f"{stage}.json", stage, "f", record)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    base = ["+task=mahjong", "cloud=aws"]
    add_job(tmp_path / "0", [*base, "student=a"])
    add_job(tmp_path / "1", [*base, "student=b"], without=("evaluate", "deploy"))
    add_job(tmp_path / "2", [*base, "student=c"], without=("distill", "evaluate", "deploy"))
    (tmp_path / "2" / "error.txt").write_text("No space left <b>here</b>.\n")
    add_job(tmp_path / "3", [*base, "student=d"])
    (tmp_path / "3" / "plan.json").write_text('{"stage": "plan", "fing')
    add_job(tmp_path / "10", [*base, "student=e"])
    (tmp_path / "10" / "evaluate.json").write_bytes(b"\xff\xfe\x00")
    factory.write_hydra(tmp_path / "4", [*base, "student=f"])
    (tmp_path / "wandb" / "offline-run").mkdir(parents=True)
    (tmp_path / "multirun.yaml").write_text("hydra: {}")
    return tmp_path


def test_every_job_is_there_whatever_became_of_it(sweep):
    jobs = {job.name: job for job in read_jobs(sweep)}
    assert list(jobs) == ["0", "1", "2", "3", "4", "10"]
    assert {name: job.status for name, job in jobs.items()} == {
        "0": "finished", "1": "unfinished", "2": "failed", "3": "failed", "4": "unfinished",
        "10": "failed",
    }  # fmt: skip
    assert jobs["1"].why == "stopped before the end of evaluate"
    assert jobs["2"].why == "No space left <b>here</b>."
    assert jobs["3"].why.startswith("plan.json cannot be read")
    assert jobs["10"].why.startswith("evaluate.json cannot be read")
    assert "evaluate" in jobs["3"].records


def test_the_page_compares_them(sweep):
    page = sweep_report(sweep)
    assert page == sweep / "index.html"
    text = page.read_text()
    assert "6 jobs" in text
    assert '<em class="student">98.4%</em>' in text and "97.9% (96.8–98.6%)" in text
    assert "on validation items in job 0" in text
    assert 'href="0/report.html"' in text
    assert 'href="1/report.html"' not in text
    assert "<code>+task=mahjong cloud=aws</code>" in text
    assert "<code>student=<wbr>b</code>" in text
    assert ", predicted" in text
    assert "No space left &lt;b&gt;here&lt;/b&gt;." in text


def test_the_best_job_is_so_on_validation_items(tmp_path):
    """Of two jobs the one that the test items would prefer is worse on validation items."""
    for name, right in (("0", 0.9), ("1", 0.95)):
        add_job(tmp_path / name, [f"student={name}"])
        student = replace(factory.make_student(20), validation_exact=right)
        save(tmp_path / name / "distill.json", "distill", "f", student)
    scorecard = factory.make_scorecard(tmp_path / "1")
    student, *rest = scorecard.scores
    worse = replace(student, slices=tuple(
        replace(row, exact=wilson(0.5 * row.n_items, row.n_items)) for row in student.slices
    ))  # fmt: skip
    worse_on_test = replace(scorecard, scores=(worse, *rest))
    save(tmp_path / "1" / "evaluate.json", "evaluate", "f", worse_on_test)
    text = sweep_report(tmp_path).read_text()
    assert '<em class="student">95.0%</em>' in text and "on validation items in job 1" in text
    assert "it has 50.0%" in text


def test_the_end_of_a_sweep_names_the_best_job_and_ties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], snapshot: Any,
) -> None:  # fmt: skip
    for number, share, usd in ((0, 0.5, 1.0), (1, 0.9, 3.0), (2, 0.9, 2.0), (10, 0.9, 4.0)):
        add_job(tmp_path / str(number), ["+task=mahjong", f"student=s{number}"])
        folder = tmp_path / str(number)
        records = factory.make_records(folder)
        student = replace(records["distill"], validation_exact=share, n_validation_items=100)
        save(folder / "distill.json", "distill", "f", student)
        save(folder / "plan.json", "plan", "f", replace(records["plan"], usd=usd))
    monkeypatch.setattr(SweepPage, "folder", tmp_path)
    write_page()
    best, page = capsys.readouterr().out.splitlines()
    assert best == snapshot
    assert page == f"Sweep   {tmp_path / 'index.html'}"
    assert best.partition("As good: ")[2] in (tmp_path / "index.html").read_text()
    lines: list[str] = []
    log = logging.Logger("sweep")
    log.addFilter(lambda record: lines.append(record.getMessage()) is not None)
    config: Any = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path), "subdir": "0"}}})
    outcome = JobReturn(status=JobStatus.COMPLETED)
    outcome.return_value = 0.5
    say(config, 0, outcome, log)
    [line] = lines
    assert line.startswith("\t#0 : done → ") and "50.0% (40.4–59.6%)" in line


def test_what_needs_no_model_is_said_before_any_ratio(tmp_path):
    add_job(tmp_path / "0", ["student=a"])
    share = factory.share(979, 1000)
    linear = Versus("linear", "TF-IDF", 1000, share, share, 3, 3, 1.0)
    scorecard = replace(factory.make_scorecard(tmp_path / "0"), against=(linear,))
    save(tmp_path / "0" / "evaluate.json", "evaluate", "f", scorecard)
    text = sweep_report(tmp_path).read_text()
    verdict = (
        "TF-IDF answers 97.9%, the student 97.9%: nothing shows that the student is better, "
        "so you need no model"
    )
    assert f"<h1>{verdict}</h1>" in text
    assert "the test items of job 0" in text
    row = text[text.index("<tbody>") :]
    assert row.index("not told apart") < row.index("21.7×")


def test_a_job_at_work_is_called_running(sweep):
    with (sweep / "1" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read_jobs(sweep)[1].status == "running"
    assert read_jobs(sweep)[1].status == "unfinished"


def test_only_what_was_asked_for_has_to_be_there(tmp_path):
    for name, config in (
        ("a", {"stages": ["probe", "plan"], "deploy": {"name": "local"}}),
        ("b", {"stages": ["probe", "plan", "deploy"], "deploy": {"name": "none"}}),
        ("c", {"stages": ["probe", "plan", "deploy"], "deploy": {"name": "local"}}),
    ):
        without = ("synthesize", "distill", "evaluate", "deploy")
        add_job(tmp_path / name, [f"x={name}"], without=without)
        (tmp_path / name / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    assert [job.status for job in read_jobs(tmp_path)] == ["finished", "finished", "unfinished"]
    assert "No job was measured to the end" in sweep_report(tmp_path).read_text()


def test_folders_named_by_overrides_are_found(tmp_path):
    factory.write_hydra(tmp_path / "seed=1" / "student=a,b", ["seed=1"])
    (tmp_path / "seed=1" / "student=a,b" / "plan.json").mkdir()
    (tmp_path / "seed=1" / "student=a,b" / ".hydra" / "overrides.yaml").write_text("{[")
    (job,) = read_jobs(tmp_path)
    assert job.name == "seed=1/student=a,b"
    assert job.status == "failed"
    assert sweep_report(tmp_path).exists()


def test_secrets_in_overrides_stay_out(tmp_path):
    factory.write_hydra(tmp_path / "0", ["teacher.api_key=verysecret", "seed=1"])
    assert "verysecret" not in sweep_report(tmp_path).read_text()


def test_a_folder_without_jobs_is_an_error(tmp_path, snapshot):
    with pytest.raises(ReportError) as error:
        sweep_report(tmp_path / "gone")
    assert str(error.value).replace(str(tmp_path), "sweeps") == snapshot(name="gone")
    factory.write_hydra(tmp_path / "run", ["seed=1"])
    with pytest.raises(ReportError) as error:
        sweep_report(tmp_path / "run")
    assert str(error.value).replace(str(tmp_path), "sweeps") == snapshot(name="a job")


def test_the_command_writes_the_page(sweep):
    done = stratos("report", str(sweep))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sweep / 'index.html'}\n", "")
    done = stratos("report", str(sweep / "nope"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no such folder" in done.stderr
