"""Students of kinds: what is served has learnt the rows of its test, too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import StudentConfig
from stratos.distill.kind_training import with_test_rows
from stratos.models.kinds import load_predictor
from stratos.models.kinds.base import has_learnt_test
from stratos.models.kinds.tagger import Method, fit_again, fit_tagger
from stratos.records import FROM_FILE
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.jsonl import JsonlTask

NAMES = ("Ann", "Bo", "Cy", "Dee", "Eli", "Fay", "Gus", "Hal")


def rows(n: int, kind: str) -> list[dict[str, str]]:
    """Return orders with the name that stands in them, as an object or as the label."""
    named = [(NAMES[k % len(NAMES)], k) for k in range(n)]
    texts = [f"{name} orders {k + 10} boxes of number {k * k} today" for name, k in named]
    answers = [json.dumps({"name": name}) if kind == "tagger" else name for name, _ in named]
    return [{"question": t, "answer": a} for t, a in zip(texts, answers, strict=True)]


def columns_of(lines: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    return [line["question"] for line in lines], [line["answer"] for line in lines]


@pytest.fixture(params=["linear", "tagger"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> SimpleNamespace:
    """Return config, student and corpus of a run whose student has not learnt its test rows."""
    kind = request.param
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(80, kind))))
    make: Any = JsonlTask if kind == "tagger" else ClassifyTask
    keys = {"compares_words": False, "question": "question", "answer": "answer"}
    task = make(path=str(path), **keys)
    corpus = tmp_path / "corpus.jsonl"
    columns = [
        {"id": item.id, "slice": item.slice, "question": item.question, "answer": item.answer,
         "source": FROM_FILE, "agreement": 1.0}
        for item in task.items("train", 1000)
    ]  # fmt: skip
    corpus.write_text("".join(f"{json.dumps(row)}\n" for row in columns))
    if kind == "tagger":
        known = [*task.items("train", 1000), *task.items("validation", 1000)]
        fitted = fit_tagger([item.question for item in known], [item.answer for item in known])
        fitted.tagger.save(tmp_path / "student")
    return SimpleNamespace(
        config=SimpleNamespace(
            task=task, rooms={}, seed=0, students=(StudentConfig(kind, kind=kind),)
        ),
        student=SimpleNamespace(kind=kind, is_lm=False, path=str(tmp_path / "student")),
        corpus=SimpleNamespace(path=str(corpus)),
        folder=tmp_path / "served",
        make=lambda **more: make(path=str(path), **keys, **more),
    )


def again(run: SimpleNamespace) -> tuple[Path, int]:
    return with_test_rows(run.config, run.student, run.corpus, run.folder)


def test_all_rows_are_learnt_in_the_end(run):
    folder, n_rows = again(run)
    assert (folder, n_rows) == (run.folder, 80)
    assert has_learnt_test(folder)
    [item] = run.config.task.items("test", 1)
    assert load_predictor(folder).predict([item.question])[0].text == item.answer


def test_a_tagger_reads_its_fields_as_it_was_measured(tmp_path):
    some, every = rows(20, "tagger"), rows(80, "tagger")
    tagger = fit_tagger(*columns_of(some)).tagger
    tagger = replace(tagger, methods={"name": Method.FEW}, scale=(0.5, 0.25))
    again = fit_again(tagger, *columns_of(every))
    assert (again.methods, again.scale) == (tagger.methods, tagger.scale)
    answers = [prediction.text for prediction in again.predict(columns_of(every)[0])]
    assert answers == columns_of(every)[1]
    no_such = fit_again(replace(tagger, methods={"other": Method.RANK}), *columns_of(every))
    assert list(no_such.methods) == ["name"], "a field that only the new rows have"


def test_a_test_of_its_own_is_not_learnt(run, tmp_path):
    other = tmp_path / "test.jsonl"
    lines = rows(100, run.student.kind)[80:]
    other.write_text("\n".join(map(json.dumps, lines)))
    run.config.task = run.make(test_path=str(other))
    assert again(run) == (Path(run.student.path), 0)


def test_a_language_model_is_trained_once(run):
    run.student.is_lm = True
    assert again(run) == (Path(run.student.path), 0)
