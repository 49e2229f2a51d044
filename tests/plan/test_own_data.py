"""What is planned for a user's own file: labels for tickets, JSON for e-mails."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from world import LARGE, STUDENTS, World, teacher

from stratos.catalog import load_catalog
from stratos.config import (
    CloudConfig,
    ComplexityConfig,
    StudentConfig,
)
from stratos.estimate.constants import ASSUMED_ANSWER_TOKENS
from stratos.evaluate.baselines import free_baselines, labelled_rows
from stratos.plan.accuracy.predict import needs_no_model
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.plan.words import NeedsNoModel, WithoutModel
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


def test_the_rows_are_learnt_and_the_paid_teacher_is_not_asked_for_them(task, snapshot):
    problem, _ = planned(task)
    assert {candidate.strategy for candidate in problem.candidates} == {"supervised"}
    plan = solve(problem)
    assert plan.strategy == "supervised"
    asked = plan.role("teacher")
    assert asked.note == f"hosted, {task.n_test} answers by the token", "the evaluation's"
    # 180 rows at 400 tokens in, 12 out.
    [said] = [reason for reason in plan.reasons if "can only repeat them" in reason]
    assert said == snapshot
    n, usd = task.n_train, task.n_train * (400 * 2 + 12 * 8) / 1e6
    assert f"takes {n} answers, ${usd:.2f} at least, and can only repeat them." in said
    assert " ".join(plan.reasons) == snapshot
    assert plan.left_out["alignment from gpt"] == snapshot


def test_what_needs_no_model_is_said_before_the_training(task, snapshot):
    problem, probe = planned(task)
    best = max(probe.baselines, key=lambda score: score.slice().exact.mean)
    [said] = [reason for reason in problem.evidence if reason.startswith("Without a model")]
    assert said == str(WithoutModel(best))
    assert best.role == "linear"
    assert (needs_no_model(probe) is not None) == (best.slice().exact.mean >= 0.8)
    sure = replace(best.slices[-1], exact=replace(best.slice().exact, mean=0.9))
    found = replace(probe, baselines=(replace(best, slices=(sure,)),))
    assert needs_no_model(found) == NeedsNoModel(found.baselines[0])


def test_what_a_teacher_adds_to_the_rows_is_planned_and_said(task, tmp_path, snapshot):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(f'{{"{task.question.split("|")[0]}": "new {i}"}}\n' for i in range(50)))
    with_more = replace(task, unlabelled_path=str(more))
    problem, _ = planned(with_more, (*AUTO, PseudoLabels()))
    assert {candidate.strategy for candidate in problem.candidates} == {"pseudo_labels"}
    plan = solve(problem)
    reasons = " ".join(plan.reasons)
    assert reasons == snapshot
    # It is right on all validation items, so two answers settle a row.
    n = 2 * 50 + task.n_test
    assert plan.role("teacher").note == f"hosted, {n} answers ({n} to {n + 150}) by the token"
    assert f"With strategy=augmentation gpt writes {2 * task.n_train} questions" in reasons
    assert "it is never chosen automatically" in reasons

    none, _ = planned(task, (*AUTO, PseudoLabels()))
    assert none.left_out["pseudo_labels"] == snapshot


def sizes_of(problem, candidate):
    """Return the assumed lengths of a candidate's requests: name to number and where it is from."""
    return {one.name: (one.value, one.why) for one in problem.assumed[candidate.work[2]]}


QUESTION, ANSWER = "tokens of a question", "tokens of a student's answer"
HUB = StudentConfig("hub_135m", path="not/here", facts={
    "n_params": 134_515_008, "n_layers": 30, "hidden_size": 576, "n_heads": 9, "n_kv_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49152,
})  # fmt: skip


@pytest.fixture
def labelled(tmp_path):
    rows = [
        {"text": f"{i}: my parcel {'is late ' * (i % 4)}", "label": ("billing", "shipping")[i % 2]}
        for i in range(120)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return ClassifyTask(str(path))


def problem_of(task, *students, strategies=AUTO, probed=None, **changes):
    world = World(
        task=task,
        teachers=(probed or teacher(PAID, right=60, n=60),),
        strategies=strategies,
        students=students,
        cloud=CloudConfig(providers=("aws",)),
        **changes,
    )
    return build_problem(world.config(), world.probe(), load_catalog(world.cloud))


RANDOM = replace(STUDENTS[1], runs=())


def test_requests_are_as_long_as_the_rows_of_the_file(labelled, snapshot):
    problem = problem_of(labelled, RANDOM, HUB)
    by_student = {one.student: sizes_of(problem, one) for one in problem.candidates}
    items = labelled.items("train", 10**6)
    labels = fmean(len(item.answer) for item in items)
    questions = fmean(len(item.question) for item in items)

    # No tokenizer is here: 4 bytes a token, the end of the answer, and the template's 20.
    answer, said = by_student["hub_135m"][ANSWER]
    assert answer == pytest.approx(labels / 4 + 1)
    n = f"{len(items)} gold answers as the student learns them"
    assert said == snapshot
    question, said = by_student["hub_135m"][QUESTION]
    told = len(labelled.system_prompt)
    assert question == pytest.approx((questions + told) / 4 + 20), "the labels are in the prompt"
    assert said == snapshot

    # Random weights: a tokenizer of the rows, and the bare question.
    answer, said = by_student["stratos_1m"][ANSWER]
    assert 2 <= answer <= 5 and said == f"mean of {n}, in tokens of stratos_1m"
    assert by_student["stratos_1m"][QUESTION][0] < question / 2


def test_a_past_run_says_how_long_reasonings_are(labelled):
    writes = Injection(rationale="teacher")
    world = World(
        task=labelled, teachers=(teacher(PAID, right=60, n=60),), strategies=(writes,),
        students=(RANDOM,), cloud=CloudConfig(providers=("aws",)),
    )  # fmt: skip
    past = replace(
        STUDENTS[1].runs[0], task="classify", strategy=writes.name, student=RANDOM.name,
        tokens_per_answer=77.0,
    )  # fmt: skip
    catalog = load_catalog(world.cloud)
    problem = build_problem(world.config(), world.probe(), catalog, history=(past,))
    (one,) = problem.candidates
    assert ANSWER not in sizes_of(problem, one), "it is measured"
    assert one.work[2].endswith("+77")


def test_reasoning_of_the_rows_and_answers_of_the_probe_are_longer(labelled, tmp_path, snapshot):
    rows = [
        {"question": f"{i} + {i}?", "answer": str(2 * i), "why": f"{i} and {i}, so twice {i}. " * 9}
        for i in range(120)
    ]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = JsonlTask(str(path), rationale="why")

    def tokens(strategy):
        problem = problem_of(task, RANDOM, strategies=(strategy,))
        return sizes_of(problem, problem.candidates[0])[ANSWER][0]

    assert tokens(Supervised()) > 9 * tokens(Supervised(reasoning=False))
    wordy = teacher(LARGE, right=60, n=60, output_tokens=60 * 90)
    problem = problem_of(labelled, HUB, strategies=(Alignment(),), probed=wordy)
    value, why = sizes_of(problem, problem.candidates[0])[ANSWER]
    assert value == pytest.approx(90 + 1)
    assert why == snapshot


def test_a_few_long_answers_are_what_the_latency_is_planned_for(tmp_path):
    """Of 16 answers one has 300 words: a mean of 20 promised 88 ms where 1 in 16 took 700."""
    rows = [
        {"question": f"what is {i}?", "answer": "word " * (300 if i % 16 == 0 else 1)}
        for i in range(320)
    ]
    path = tmp_path / "skewed.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    problem = problem_of(JsonlTask(str(path)), HUB, strategies=(Supervised(),))
    (one,) = problem.candidates
    value, why = sizes_of(problem, one)[ANSWER]
    longest = 1500 / 4 + 1
    assert value == pytest.approx(longest / 1.5, rel=0.02)
    assert "; more, since 1 in 20 has 37" in why
    even = [{**row, "answer": "word " * 20} for row in rows]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in even))
    value, why = sizes_of(
        *_first(problem_of(JsonlTask(str(path)), HUB, strategies=(Supervised(),)))
    )[ANSWER]
    assert value == pytest.approx(100 / 4 + 1, rel=0.02) and "since" not in why


def _first(problem):
    return problem, problem.candidates[0]


def test_rows_without_an_answer_do_not_shorten_it(tmp_path):
    rows = [{"question": f"what is {i}?", "answer": "word " * 20} for i in range(200)]
    path, more = tmp_path / "rows.jsonl", tmp_path / "more.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    more.write_text("".join(f'{{"question": "and {i}?"}}\n' for i in range(200)))
    with_more = problem_of(
        JsonlTask(str(path), unlabelled_path=str(more)), HUB, strategies=(Supervised(),)
    )
    plain = problem_of(JsonlTask(str(path)), HUB, strategies=(Supervised(),))
    assert sizes_of(*_first(with_more))[ANSWER] == sizes_of(*_first(plain))[ANSWER]


def test_the_size_of_what_nobody_wrote_is_assumed_and_said(labelled, snapshot):
    writes = Injection(rationale="teacher")
    problem = problem_of(labelled, RANDOM, strategies=(writes,))
    (one,) = problem.candidates
    value, why = sizes_of(problem, one)[ANSWER]
    assert value == ASSUMED_ANSWER_TOKENS
    assert why == snapshot
    assert "training rows" in sizes_of(problem, one)[QUESTION][1], "questions are in the file"


def test_a_declared_reasoning_does_not_lengthen_a_bare_answer(labelled):
    declared = ComplexityConfig("high", path_tokens=384)
    problem = problem_of(labelled, RANDOM, complexity=declared)
    for one in problem.candidates:
        assert sizes_of(problem, one)[ANSWER][0] < 6
    plain = problem_of(labelled, RANDOM)
    assert [c.train_tokens for c in problem.candidates] == [
        c.train_tokens for c in plain.candidates
    ]
