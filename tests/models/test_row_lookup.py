"""Students without a model: what they answer, and what is written of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import StudentConfig
from stratos.core.errors import ForeignFileError
from stratos.models.kinds import load_predictor
from stratos.models.kinds.base import FILE
from stratos.models.kinds.learnt_rows import Rows
from stratos.models.kinds.row_lookup import MostFrequentAnswer, NearestRow, RowLookup
from stratos.models.kinds.student_kinds import KINDS
from stratos.probe.kind_probes import _winning
from stratos.records import Interval, KindProbe
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.mahjong import MahjongTask

ABOUT = ("card", "loan", "parcel", "rent", "tax")
TEXTS = tuple(f"my {about} of x{i}{about}" for i in range(12) for about in ABOUT)
ANSWERS = tuple(text.split()[1] for text in TEXTS)
TASK: Any = SimpleNamespace(normal=str.lower)


def test_the_nearest_row_answers_and_the_most_frequent_answer_does():
    nearest = NearestRow().fit(TEXTS, ANSWERS, TASK)
    assert nearest.accuracy.mean == 1.0
    [prediction] = nearest.student.predict(["a parcel for me"])
    assert (prediction.text, prediction.probability) == ("parcel", 1.0)
    uneven = ("card",) * 30 + ANSWERS[30:]
    majority = MostFrequentAnswer().fit(TEXTS, uneven, TASK)
    assert majority.accuracy.mean == pytest.approx(uneven.count("card") / len(uneven))
    assert [p.text for p in majority.student.predict(["", "my loan"])] == ["card", "card"]


def test_a_near_duplicate_in_another_fold_answers_no_row():
    sources = [" ".join(f"w{i}{k}" for k in range(20)) for i in range(40)]
    copies = [f"{source} once more" for source in sources]
    strangers = [" ".join(f"s{i}{k}" for k in range(20)) for i in range(40)]
    answers = tuple(f"answer {i}" for i in range(40))  # of a text, its copy and a stranger
    fitted = NearestRow().fit((*sources, *copies, *strangers), answers * 3, TASK)
    assert fitted.accuracy.mean < 0.05 and fitted.n_rows == 120


@pytest.mark.parametrize("learner", [NearestRow, MostFrequentAnswer])
def test_a_folder_gives_the_same_answers(learner, tmp_path):
    student = learner().fit(TEXTS, ANSWERS, TASK).student
    student.save(tmp_path)
    loaded = load_predictor(tmp_path)
    assert isinstance(loaded, RowLookup) and loaded == student
    described = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**described, "answers": ["one", "two", "three"]}))
    with pytest.raises(ForeignFileError):
        load_predictor(tmp_path)


def test_it_is_a_student_by_itself_only_where_it_beats_what_learns(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = ({"text": t, "label": a} for t, a in zip(TEXTS, ANSWERS, strict=True))
    path.write_text("\n".join(map(json.dumps, rows)))
    task = ClassifyTask(path=str(path), question="text", answer="label")
    free = tuple(StudentConfig(kind, kind=kind) for kind in ("nearest", "majority"))
    linear = StudentConfig("linear", kind="linear")
    students = (*free, linear)

    def probed(accuracy: float) -> KindProbe:
        mean = Interval(accuracy, accuracy, accuracy, "")
        return KindProbe("linear", "linear", mean, accuracy, 60, 0.0, 1.0, 1.0, 1)

    def winners(*others: KindProbe) -> list[str]:
        return [
            probe.kind for probe in _winning(task, 0, students, free, Rows(TEXTS, ANSWERS), others)
        ]

    assert winners(probed(0.9)) == ["nearest"] and winners(probed(1.0)) == []
    assert winners() == ["nearest"], "beside language models alone it has to do the task"
    named = [*_winning(task, 0, free[1:], free[1:], Rows(TEXTS, ANSWERS), ())]
    assert [probe.kind for probe in named] == ["majority"], "however little it reaches"
    assert KINDS["nearest"].does(task) and not KINDS["nearest"].does(MahjongTask())
