"""What is served has learnt all rows, unless it is worse than the student that was tested."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import LimitsConfig, StudentConfig, TrainerConfig
from stratos.core.pairs import mcnemar_exact
from stratos.deploy.final_student import (
    Agrees,
    FinalIsLarger,
    FinalIsWorse,
    FinalStudent,
    TrainedOnce,
    compared,
    final_student,
)
from stratos.models.kinds.base import has_learnt_test, weights_bytes
from stratos.models.kinds.learnt_rows import Rows
from stratos.models.kinds.tagger import fit_tagger
from stratos.probe.kind_probes import _alone
from stratos.records import FROM_FILE, KindProbe
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask

NAMES = ("Ann", "Bo", "Cy", "Dee", "Eli", "Fay", "Gus", "Hal")
N_ROWS = 80


def rows(answer_of: Any = lambda name: name) -> list[dict[str, str]]:
    named = [(NAMES[k % len(NAMES)], k) for k in range(N_ROWS)]
    return [
        {
            "question": f"{name} orders {k + 10} boxes of number {k * k} today",
            "answer": json.dumps({"name": answer_of(name)}),
        }
        for name, k in named
    ]


def fitted(folder: Path, lines: list[dict[str, str]]) -> Path:
    """Fit a tagger on rows, and write it into a folder."""
    texts, answers = zip(*((line["question"], line["answer"]) for line in lines), strict=True)
    fit_tagger(texts, answers).tagger.save(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> SimpleNamespace:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows())))
    task = JsonlTask(path=str(path), compares_words=False)
    train = task.items("train", N_ROWS)
    corpus = tmp_path / "corpus.jsonl"
    columns = [
        {"id": item.id, "slice": item.slice, "question": item.question, "answer": item.answer,
         "source": FROM_FILE, "agreement": 1.0}
        for item in train
    ]  # fmt: skip
    corpus.write_text("".join(f"{json.dumps(row)}\n" for row in columns))
    known = [*train, *task.items("validation", N_ROWS)]
    tested = fitted(
        tmp_path / "tested", [{"question": i.question, "answer": i.answer} for i in known]
    )
    return SimpleNamespace(
        config=SimpleNamespace(
            task=task, rooms={}, seed=0, trainer=TrainerConfig(),
            limits=LimitsConfig(),
            students=(StudentConfig("tagger", kind="tagger"),),
        ),
        student=SimpleNamespace(kind="tagger", is_lm=False, name="tagger", path=str(tested)),
        corpus=SimpleNamespace(path=str(corpus)),
        items=[Item(str(k), "main", **line) for k, line in enumerate(rows())],
    )  # fmt: skip


def test_all_rows_are_learnt_and_the_agreement_is_known(run, tmp_path):
    final = final_student(run.config, run.student, run.corpus, tmp_path / "final")
    assert final.folder == tmp_path / "final" and has_learnt_test(final.folder)
    assert (final.n_rows, final.agreement) == (N_ROWS, 1.0)
    assert final.note == Agrees(1.0, N_ROWS)


def test_what_was_tested_is_served_where_that_is_asked(run, tmp_path):
    run.config.trainer = replace(run.config.trainer, final="train")
    final = final_student(run.config, run.student, run.corpus, tmp_path / "final")
    assert final == FinalStudent(Path(run.student.path))
    assert not (tmp_path / "final").exists()


def test_a_final_student_that_is_worse_is_not_served(run, tmp_path):
    tested = Path(run.student.path)
    wrong = fitted(tmp_path / "wrong", rows(lambda name: "Ann"))
    n_wrong = N_ROWS - N_ROWS // len(NAMES)
    final = compared(run.config.task, run.items, tested, FinalStudent(wrong, N_ROWS))
    assert (final.folder, final.n_rows) == (tested, 0)
    assert final.note == FinalIsWorse(N_ROWS, n_wrong, 0, mcnemar_exact(0, n_wrong))
    better = compared(run.config.task, run.items, wrong, FinalStudent(tested, N_ROWS))
    assert (better.folder, better.agreement) == (tested, 1 - n_wrong / N_ROWS)


def test_a_final_student_beyond_the_limit_of_bytes_is_not_served(run, tmp_path, monkeypatch):
    tested = Path(run.student.path)
    larger = Path(shutil.copytree(tested, tmp_path / "larger"))
    (larger / "more.safetensors").write_bytes(bytes(1_000_000))
    made = larger, N_ROWS
    monkeypatch.setattr("stratos.distill.kind_training.with_test_rows", lambda *_: made)
    tested_mb = sum(file.stat().st_size for file in tested.glob("*.safetensors")) / 1e6

    def final(most_mb: float) -> FinalStudent:
        run.config.limits = LimitsConfig(model_mb=most_mb)
        return final_student(run.config, run.student, run.corpus, larger)

    assert final(2.0).folder == larger and final(2.0).n_rows == N_ROWS
    between = final(0.5)
    assert (between.folder, between.n_rows) == (tested, 0)
    assert between.note == FinalIsLarger(1 + tested_mb, 0.5, tested_mb)
    assert final(tested_mb / 2).folder == tested, "neither keeps the limit: the smaller one"


def test_a_tagger_is_foretold_with_the_bytes_of_its_file(run):
    task = run.config.task
    items = [*task.items("train", N_ROWS), *task.items("validation", N_ROWS)]
    probed = _alone(task, 0, run.config.students[0], Rows.of(items))
    assert isinstance(probed, KindProbe)
    assert probed.n_bytes == weights_bytes(Path(run.student.path)) > 4 * probed.n_params


def test_a_language_model_is_the_tested_one_and_it_is_said(run, tmp_path):
    run.student.is_lm, run.student.name = True, "smollm2"
    final = final_student(run.config, run.student, run.corpus, tmp_path / "final")
    assert final.folder == Path(run.student.path) and final.n_rows == 0
    assert final.note == TrainedOnce("smollm2", run.config.task.n_test)
