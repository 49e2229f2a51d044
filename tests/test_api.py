"""Stratos as a library: a run in this process, its values, and what the process is afterwards."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import stratos
from stratos import Run, StratosError, distil, load
from stratos.config import STAGES
from stratos.core.errors import ConfigError, InfeasibleError

WORDS = {"card": ("card", "chip"), "loan": ("loan", "rate"), "wire": ("wire", "iban")}
FILLERS = ("please", "about", "help", "with", "late", "again", "today", "why", "cannot")
SHORT = ("logger=none", "deploy.load_seconds=0", "deploy.n_requests=2")
"""Of what a run does beside the student, as little as it goes."""


def rows(n: int = 160) -> list[dict[str, str]]:
    draw = random.Random(0)
    labels = [draw.choice(list(WORDS)) for _ in range(n)]
    texts = [" ".join([*draw.sample(FILLERS, 5), draw.choice(WORDS[la])]) for la in labels]
    return [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]


def state() -> dict[str, Any]:
    """Return what of this process is the caller's."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    return {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "words": sys.argv,
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": (logging.root.level, [*logging.root.handlers], logging.raiseExceptions),
        "streams": (sys.stdout, sys.stderr),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "random": random.getstate(),
        "hydra": (GlobalHydra.instance().is_initialized(), HydraConfig.instance().cfg),
    }


def assert_unchanged(before: dict[str, Any]) -> None:
    """Check that all is as it was; threads that others had left may have ended meanwhile."""
    now = state()
    assert {*now.pop("threads")} <= {*before["threads"]}
    assert now == {name: value for name, value in before.items() if name != "threads"}


def made_at(folder: Path) -> dict[str, int]:
    """Return when each record of a run was written."""
    files = (folder / f"{stage}.json" for stage in STAGES)
    return {file.stem: file.stat().st_mtime_ns for file in files if file.exists()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a cache of its own, in which the runs of this module lie."""
    folder = tmp_path_factory.mktemp("api")
    patch = pytest.MonkeyPatch()
    patch.setenv("STRATOS_CACHE", str(folder / "cache"))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """A run on rows in memory, which leaves the process as it was."""
    before = state()
    made = distil(rows(), accuracy=0.5, student="linear", out=folder / "run", overrides=SHORT)
    assert_unchanged(before)
    return made


def test_a_run_tells_what_it_reached_and_cost(run):
    assert run.accuracy is not None and run.plan is not None and run.verdict is not None
    assert run.accuracy.low <= run.accuracy.mean <= run.accuracy.high and run.accuracy.mean > 0.8
    assert (run.plan.student, run.cost_usd) == ("linear", 0.0)
    assert run.report == run.folder / "report.html" and run.report.is_file()
    assert (run.verdict.outcome, run.verdict.reason) == ("open", "cost")  # the nearest row has all
    assert str(run.verdict) == run.verdict.text
    assert run.verdict.text in (run.folder / "stratos.log").read_text()
    assert f"{run.accuracy.mean:.3f}" in repr(run)
    assert Run(run.folder).accuracy == run.accuracy


def test_its_student_answers_texts_and_chats(run):
    text = "please help about my chip"
    assert run.student(text) == "card" == run.student([{"role": "user", "content": text}])
    assert run.predict([text, "why is the iban late"]) == ["card", "wire"]
    shares = run.probability(text)
    assert list(shares) == sorted(WORDS, key=shares.__getitem__, reverse=True)
    assert next(iter(shares)) == "card" and 0.9 < sum(shares.values()) < 1 + 1e-9
    with pytest.raises(TypeError):
        run.predict(text)


def test_it_is_hosted_for_as_long_as_a_block(run):
    with run.serve() as server:
        body = {"model": server.model, "messages": [{"role": "user", "content": "the iban"}]}
        request = urllib.request.Request(
            f"{server.url}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
    assert answer["choices"][0]["message"]["content"] == "wire"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(request)
    server.stop()


def test_the_same_call_goes_on_where_it_was(run, capsys):
    before = made_at(run.folder)
    again = distil(rows(), accuracy=0.5, student="linear", out=run.folder, overrides=SHORT)
    assert again.accuracy == run.accuracy and made_at(run.folder) == before
    capsys.readouterr()
    distil(rows(), accuracy=0.5, student="linear", out=run.folder, overrides=SHORT, quiet=True)
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert words == ["verdict", "spent", "host", "page"]


def test_what_is_stopped_by_ctrl_c_goes_on(folder, monkeypatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows()))
    settings = {"student": "linear", "out": folder / "stopped"}
    words = [*SHORT, "deploy=none"]
    monkeypatch.setattr("stratos.evaluate.stage.evaluate", interrupted)
    before = state()
    with pytest.raises(KeyboardInterrupt) as stopped:
        distil(folder / "rows.jsonl", **settings, overrides=words)
    assert_unchanged(before)
    assert str(folder / "stopped") in stopped.value.__notes__[0]
    monkeypatch.undo()
    before = made_at(folder / "stopped")
    run = distil(folder / "rows.jsonl", **settings, overrides=words)
    assert run.accuracy is not None and before.items() <= made_at(run.folder).items()
    assert before.keys() == {"probe", "plan", "synthesize", "distill"}
    with pytest.raises(StratosError, match="deploy=none"):
        run.student("my chip")


def test_all_mistakes_are_told_at_once_and_leave_nothing(folder):
    before = state()
    with pytest.raises(ConfigError) as wrong:
        distil(
            rows(),
            accuracy=90,
            student="linaer",
            out=folder / "wrong",
            overrides=["task.test_shore=1", "seed=-1"],
        )
    for word in ("accuracy=90", "linear", "test_share", "seed"):
        assert word in str(wrong.value)
    assert "limits." not in str(wrong.value)
    assert_unchanged(before)
    assert not (folder / "wrong").exists()


def test_a_column_that_is_no_name_is_refused(folder):
    for call in (stratos.look, distil):
        with pytest.raises(ConfigError, match='text="…"'):
            call("rows.csv", text=3)  # type: ignore[arg-type]


def test_a_call_that_is_refused_leaves_the_rows_of_the_run(run):
    before = (run.folder / "rows.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="cannot be used"):
        distil([], out=run.folder)
    assert (run.folder / "rows.jsonl").read_bytes() == before


def test_a_plan_that_is_refused_has_its_reasons_as_values(folder):
    with pytest.raises(InfeasibleError) as refused:
        distil(
            rows(),
            accuracy=0.9999,
            student="linear",
            cloud="local",
            out=folder / "refused",
            overrides=[*SHORT, "stages=[probe,plan]"],
        )
    [remedy] = refused.value.remedies
    [(key, least)] = (override.split("=") for override in remedy.overrides)
    assert (key, remedy.usd) == ("limits.accuracy", 0.0) and 0.5 < float(least) < 0.9999
    assert remedy.accuracy is not None and remedy.accuracy >= float(least)
    assert remedy.text in str(refused.value)


def test_a_run_in_another_thread_is_a_run(folder):
    runs: list[Run] = []

    def work() -> None:
        settings = {"student": "linear", "out": folder / "threaded"}
        runs.append(distil(rows(), **settings, overrides=["logger=none", "stages=[probe,plan]"]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert runs[0].plan is not None and runs[0].accuracy is None


@pytest.mark.parametrize("source", ["mahjon", "tickets"])
def test_what_is_no_file_may_be_a_task(source):
    with pytest.raises(ConfigError, match="mahjong"):
        distil(source)


def test_the_package_imports_what_it_offers_when_it_is_used(run):
    code = (
        "import sys, stratos\n"
        "assert 'stratos.core' not in sys.modules\n"
        f"print(stratos.load({str(run.folder)!r})('please my chip'))\n"
        "print({'torch', 'hydra', 'omegaconf', 'lightning', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["card", "set()"]
    assert {*stratos.__all__} <= {*dir(stratos)}
    with pytest.raises(AttributeError, match="distill_all"):
        _ = stratos.distill_all  # type: ignore[attr-defined]


def test_a_student_whose_library_is_missing_says_what_to_install(run, monkeypatch):
    def lacking(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    student = load(run.folder)
    monkeypatch.setattr("stratos.models.kinds.classifier.Classifier.predict", lacking)
    for ask in (student, student.probability):
        with pytest.raises(StratosError, match="pip install"):
            ask("my chip")


def test_a_folder_without_a_student_is_refused(tmp_path):
    with pytest.raises(StratosError, match="holds no bundle"):
        load(tmp_path)
    with pytest.raises(StratosError, match="no such folder"):
        Run(tmp_path / "none")
