"""Rows worth a label: doubtful, with others like them, and not twice the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from stratos.config import StudentConfig
from stratos.synthesize.pseudo_labels import ROWS_TO_LABEL, PseudoLabels
from stratos.synthesize.suggestions import suggested
from tests.synthesize.adder import run
from tests.synthesize.test_pseudo_labels import Committee, task_of


def test_a_dense_group_of_doubtful_rows_comes_first_and_once() -> None:
    group, alone, sure = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    vectors = np.array([*[group] * 5, alone, *[sure] * 5], np.float32)
    doubt = np.array([*[0.5] * 5, 0.9, *[0.01] * 5], np.float32)
    rows = suggested(vectors, doubt, 3)
    assert rows[0][0] < 5 and rows[1][0] == 5 and rows[2][0] > 5
    assert [round(gain, 2) for _, gain in rows] == [2.5, 0.9, 0.05]


def test_no_more_rows_than_there_are() -> None:
    assert suggested(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), 5) == []
    assert len(suggested(np.eye(2, dtype=np.float32), np.array([0.5, 0.4], np.float32), 5)) == 2


def test_a_student_of_a_kind_gets_its_rows_by_expected_gain(tmp_path: Path) -> None:
    task, student = task_of(tmp_path), StudentConfig("linear", "linear")
    corpus, _ = run(
        tmp_path / "run",
        task,
        PseudoLabels(),
        (Committee(),),
        students=(student,),
        prompt="default",
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / ROWS_TO_LABEL).open()]
    gains = [row["expected_gain"] for row in rows]
    assert corpus.n_rows_to_label == len(rows) > 0
    assert gains == sorted(gains, reverse=True)
