"""The eight examples of docs/extending.md are written into a folder, found, and run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from checked import problems
from hydra.types import RunMode

from stratos.catalog import load_catalog
from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.cli.help import group_page
from stratos.config import Config
from stratos.core.context import Context
from stratos.core.errors import TeacherError
from stratos.core.trust import ALLOW_TARGETS
from stratos.estimate.answering import runners
from stratos.estimate.cards import card_of_student
from stratos.estimate.fleet import Fleet, device_of
from stratos.executors.job import JobSpec, State
from stratos.ledger import Ledger
from stratos.plan.objective import HOURS, USD, weighted
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.role_options import engine_choices
from stratos.plan.stage import solve
from stratos.records import Offer
from stratos.teachers.asking import stream_ask
from stratos.teachers.base import Question

sys.path.insert(0, str(Path(__file__).parent / "plan"))
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "product"))
from tutorials import write_files
from world import SIGHTED, World

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
CHOICES = (
    "+task=doubled", "teacher=program", "student=tiny", "cloud=europe", "strategy=first_right",
    "objective=cheap_and_fast", "deploy=quick", "executor=polite",
)  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_files(PAGE.read_text(), tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOW_TARGETS, "own")
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "mine"


@pytest.fixture
def config(own: Path) -> Config:
    typed = [*CHOICES, "paths=here", "paths.run_dir=run", "logger=none", "plan.history=false"]
    with hydra_for(str(own)) as hydra:
        return build(hydra.compose_config("config", typed, RunMode.RUN, True))


def test_the_page_is_short_and_has_all_eight():
    assert len(PAGE.read_text().splitlines()) <= 160
    assert PAGE.read_text().count("\n## ") == len(CHOICES)


def test_all_are_found_checked_and_helped(own):
    assert problems("--config-dir", "mine", *CHOICES) == []
    for choice in CHOICES:
        group, _, name = choice.lstrip("+").partition("=")
        assert group_page([f"{group}={name}"], "mine").startswith(f"{group}={name}\n")
        assert name in group_page([group], "mine")


def test_task_and_teacher_answer_each_other(config):
    [teacher] = config.teachers
    splits = {split: config.task.items(split, 5) for split in ("train", "validation", "test")}
    assert len({item.id for items in splits.values() for item in items}) == 15
    chats = [config.task.messages(item) for item in splits["test"]]
    answers = teacher.ask(chats, 8)
    scores = [config.task.score(a.text, i) for a, i in zip(answers, splits["test"], strict=True)]
    assert [score.exact for score in scores] == [1.0] * 5
    assert config.task.score("no", splits["test"][0]).exact == 0


def test_a_plan_takes_student_strategy_cloud_objective_and_engine(config):
    catalog = load_catalog(config.cloud)
    assert {offer.cloud for offer in catalog.offers} <= {"aws", "gcp"}
    [student], [strategy] = config.students, config.strategies
    assert card_of_student(student, config.task).hidden_size == 192
    assert weighted(config.objective) == (USD, HOURS)
    world = World(teachers=(SIGHTED,))
    config = replace(config, teachers=world.config().teachers, executor=world.config().executor)
    problem = build_problem(config, world.probe(), catalog)
    assert problem.candidates, problem.exclusions
    plan = solve(problem)
    assert (plan.student, plan.strategy) == ("tiny", strategy.name)
    assert plan.objective == "cheap_and_fast"
    assert plan.role("serve").run.engine == "quick"  # type: ignore[union-attr]


def test_the_engine_runs_on_gpus_alone(config):
    gpu = Offer("aws", "us-east-1", "p5", "H100", 8, 96, 1000, 80, 40.0)
    cpu = Offer("aws", "us-east-1", "c7i", None, 0, 4, 16, 0, 0.2)
    card = card_of_student(config.students[0], config.task)
    fleet = Fleet.of([device_of(gpu), device_of(cpu)])
    [runner] = runners(card, fleet, engine_choices(config.deploy))
    assert (runner.kind, runner.runs.tolist()) == ("quick", [True, False])


def test_the_executor_runs_a_job_as_nicely_as_it_says(config, tmp_path):
    nicer = min(19, os.nice(0) + 10)
    ends = f"import os, sys; sys.exit(os.nice(0) != {nicer})"
    spec = JobSpec(
        "job",
        "evaluate",
        tmp_path,
        "train",
        1,
        0.0,
        hours=1.0,
        planned_hours=1.0,
        command=(sys.executable, "-c", ends),
    )
    (tmp_path / "jobs").mkdir()
    job = config.executor.submit(spec)
    deadline = time.monotonic() + 60
    while (status := config.executor.status(job)).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status.state is State.DONE, status
    config.executor.release(job)


def test_its_own_command_ends_as_a_script_too(own):
    [lines] = [part for part in PAGE.read_text().split("\n\n") if part.startswith("    STRATOS_")]
    allowed, *_, stratos, first = (words := shlex.split(lines.replace("\\\n", " ")))[:5]
    assert (allowed, stratos, first) == (f"{ALLOW_TARGETS}=own", "stratos", "--config-dir")
    # As a console script, Python puts the folder of the script before all, and not this one.
    script = "import sys; from stratos.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *words[4:], "logger=none", "hydra.run.dir=run"],
        cwd=own.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"probe.json", "plan.json"} <= {path.name for path in (own.parent / "run").iterdir()}


def test_a_teacher_of_too_few_or_too_many_answers_is_refused(config, tmp_path):
    [teacher] = config.teachers
    ask = type(teacher).ask
    half = type("Half", (type(teacher),), {"ask": lambda *args, **_: ask(*args)[1:]})
    double = type("Double", (type(teacher),), {"ask": lambda *args, **_: ask(*args) * 2})
    questions = [Question(config.task.messages(item), 8) for item in config.task.items("test", 3)]
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger.jsonl"))
    assert len(list(stream_ask(teacher, questions, context))) == 3
    other = replace(context, cache_dir=tmp_path / "other")
    with pytest.raises(TeacherError, match="gave 2 answers to 3 questions"):
        list(stream_ask(half(), questions, other))
    with pytest.raises(TeacherError, match="gave 2 answers to 1 question"):
        list(stream_ask(double(), questions, other))
