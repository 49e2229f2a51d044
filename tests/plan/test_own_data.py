"""What is planned for a user's own file: labels for tickets, JSON for e-mails."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from world import LARGE, STUDENTS, World, teacher

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.evaluate.baselines import free_baselines, labelled_rows
from stratos.plan.accuracy.without_model import needs_no_model
from stratos.plan.options.candidates import build_problem
from stratos.plan.solution import solve
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.synthesize.pseudo_labels import PseudoLabels
from stratos.synthesize.supervised import Supervised
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.jsonl import JsonlTask

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "own_data"))

import make

PAID = replace(
    LARGE, name="gpt", usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=8.0
)
AUTO = (Alignment(), Injection(), Supervised())


@pytest.fixture(scope="module", params=["tickets", "emails"])
def task(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    kind = {"classify": ClassifyTask, "jsonl": JsonlTask}[make.TASKS[request.param].task]
    return kind(str(make.write(request.param, folder)))


def planned(task, strategies=AUTO, **changes):
    knows = teacher(PAID, right=60, n=60)  # it knows all answers, for money
    world = World(
        task=task,
        teachers=(knows,),
        strategies=strategies,
        students=tuple(replace(one, runs=()) for one in STUDENTS[:2]),
        cloud=CloudConfig(providers=("aws",)),
        **changes,
    )
    config = world.config()
    found = free_baselines(task, labelled_rows(task), task.items("validation", 99))
    probe = replace(world.probe(), baselines=tuple(one.score for one in found))
    return build_problem(config, probe, load_catalog(config.cloud)), probe


def test_the_rows_are_learnt_and_the_paid_teacher_is_not_asked_for_them(task) -> None:
    problem, _ = planned(task)
    assert {candidate.strategy for candidate in problem.candidates} == {"supervised"}
    plan = solve(problem)
    assert plan.strategy == "supervised"
    asked = plan.role("teacher")
    assert asked.note == f"hosted, {task.n_test} answers by the token", "the evaluation's"
    # 180 rows at 400 tokens in, 12 out.
    [said] = [reason for reason in plan.reasons if "can only repeat them" in reason]
    assert said.startswith(
        "The training rows of the file have their answers, which supervised learns for nothing. "
        "Asking gpt for them again takes "
    )
    n, usd = task.n_train, task.n_train * (400 * 2 + 12 * 8) / 1e6
    assert f"takes {n} answers, ${usd:.2f} at least, and can only repeat them." in said
    assert "supervised trains on the answers in the file" in " ".join(plan.reasons)
    assert plan.left_out["alignment from gpt"] == (
        "the file has the answers, which gpt could only repeat"
    )


def test_what_needs_no_model_is_said_before_the_training(task) -> None:
    problem, probe = planned(task)
    best = max(probe.baselines, key=lambda score: score.slice().exact.mean)
    [said] = [reason for reason in problem.evidence if reason.startswith("Without a model")]
    assert f"Without a model, {best.name} answers {best.slice().exact.mean:.1%} of " in said
    assert best.role == "linear"
    assert (needs_no_model(probe) != "") == (best.slice().exact.mean >= 0.8)
    sure = replace(best.slices[-1], exact=replace(best.slice().exact, mean=0.9))
    found = replace(probe, baselines=(replace(best, slices=(sure,)),))
    assert needs_no_model(found).endswith("Compare before you train: a student has to beat that.")


def test_what_a_teacher_adds_to_the_rows_is_planned_and_said(task, tmp_path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text("".join(f'{{"{task.question.split("|")[0]}": "new {i}"}}\n' for i in range(50)))
    with_more = replace(task, unlabelled_path=str(more))
    problem, _ = planned(with_more, (*AUTO, PseudoLabels()))
    assert {candidate.strategy for candidate in problem.candidates} == {"pseudo_labels"}
    plan = solve(problem)
    reasons = " ".join(plan.reasons)
    assert "50 rows without an answer: gpt answers each 2 to 5 times" in reasons
    # It is right on all validation items, so two answers settle a row.
    n = 2 * 50 + task.n_test
    assert plan.role("teacher").note == f"hosted, {n} answers ({n} to {n + 150}) by the token"
    assert f"With strategy=augmentation gpt writes {2 * task.n_train} questions" in reasons
    assert "it is never chosen automatically" in reasons

    none, _ = planned(task, (*AUTO, PseudoLabels()))
    assert none.left_out["pseudo_labels"] == (
        "the file has no rows without answers (task.unlabelled_path)"
    )
