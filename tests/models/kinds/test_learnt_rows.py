"""What of a corpus is gold, and what a teacher labelled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stratos.config import StudentConfig
from stratos.models.kinds import learnt_rows
from stratos.models.kinds.learnt_rows import Rows, TaughtStudy, TeacherRows, studied, tuning
from stratos.models.kinds.set_classifier import SetStudy
from stratos.synthesize.stage import CorpusFile
from stratos.tasks.base import Item
from stratos.tasks.dedup.copies import HeldOut
from stratos.tasks.label_sets import written

WORDS = {"bug": "crash error broken", "praise": "love great thanks"}


def items(n: int, start: int = 0) -> list[Item]:
    labels = [list(WORDS)[i % 2] for i in range(start, start + n)]
    return [
        Item(f"{i:03}", "main", f"{WORDS[label]} number {i}", label)
        for i, label in enumerate(labels, start)
    ]


def corpus(folder: Path) -> Path:
    path = folder / "train.jsonl"
    with CorpusFile(path, HeldOut([]), lambda item: 1) as file:
        for item in items(30):
            file.add(item, item.answer)
        for item in items(40, 100):
            file.add(item, item.answer, "labelled by t", 0.75)
    return path


def test_rows_of_a_teacher_stand_apart(tmp_path: Path) -> None:
    rows = Rows.of_corpus(corpus(tmp_path), items(10, 200))
    assert len(rows.texts) == len(rows.labels) == 40
    assert rows.teacher.texts == tuple(item.question for item in items(40, 100))
    assert set(rows.teacher.agreement) == {0.75}
    assert len(rows.as_gold.texts) == 80 and rows.as_gold.teacher == TeacherRows()


def test_a_study_learns_them_beside_the_gold_ones(tmp_path: Path) -> None:
    rows = Rows.of_corpus(corpus(tmp_path), [])
    linear = [StudentConfig("linear", "linear")]
    study, choice = studied(rows, linear, seed=0, several=False)
    assert isinstance(study, TaughtStudy)
    assert choice.n_rows == 30, "gold rows alone are held out"
    assert choice.accuracy > 0.9
    [answer] = study.fit("linear").predict(["love it, great"])
    assert answer.text == "praise"


def test_what_a_look_has_measured_took_as_long_as_it_took_then(tmp_path: Path) -> None:
    linear = [StudentConfig("linear", "linear")]
    study, _ = studied(Rows.of(items(60, 1000)), linear, seed=0, several=False)
    first = study.seconds
    again, _ = studied(Rows.of(items(60, 1000)), linear, seed=0, several=False)
    assert again is study and first > 0.01
    assert first <= again.seconds < 1.5 * first


@pytest.mark.parametrize(
    "n_rows, train_hours, n_students, is_tried",
    [(600, 1.0, 2, True), (600, 0.02, 2, False), (300, 1.0, 2, None), (300, 0.02, 1, True)],
)
def test_an_encoder_is_tuned_where_rows_and_time_allow_or_it_is_named(
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_rows: int,
    train_hours: float,
    n_students: int,
    is_tried: bool | None,
) -> None:
    monkeypatch.setattr(learnt_rows.TunedEncoder, "cpu_seconds", lambda *_: 60.0)
    limits = SimpleNamespace(train_hours=train_hours, deadline_hours=None)
    task = SimpleNamespace(tests_other_rows=False, has_several_labels=False)
    config = SimpleNamespace(limits=limits, task=task)
    tuned = StudentConfig("tuned", "tuned", str(tiny_encoder))
    students = (tuned, StudentConfig("linear", "linear"))[:n_students]
    random = np.random.default_rng(0)
    texts = tuple(" ".join(random.choice(list("abcdefgh"), 3)) for _ in range(n_rows))
    rows = Rows(texts, tuple(random.choice(["yes", "no"], n_rows)))
    study, choice = studied(rows, students, 0, several=False)
    assert "tuned" not in study.kinds, "not before it was decided"
    decided = tuning(config, rows, students, study, choice)  # type: ignore[arg-type]
    assert (decided and decided.is_tried) is is_tried


def test_sets_of_labels_are_learnt_from_a_teacher_s_rows_as_they_are(tmp_path: Path) -> None:
    gold = Rows.of_corpus(corpus(tmp_path), [])
    rows = Rows(
        gold.texts,
        tuple(written([label]) for label in gold.labels),
        TeacherRows(gold.teacher.texts, ("[]",) * 40, (0.5,) * 40),
    )
    linear = [StudentConfig("linear", "linear")]
    study, choice = studied(rows, linear, seed=0, several=True)
    assert isinstance(study, SetStudy)
    assert choice.n_rows == 30 and study.n_rows == 70


class Clocks:
    """Time by the clock, and of the processor, which passes while a text is answered."""

    def __init__(self, clock: float, processor: float) -> None:
        self.now, self.spent = 0.0, 0.0
        self._clock, self._processor = clock, processor

    def answer(self, texts: object) -> None:
        self.now += self._clock
        self.spent += self._processor


@pytest.mark.parametrize(
    ("clock", "processor"),
    [(0.04, 0.002), (0.002, 0.004)],
    ids=["other work has the core", "two threads share the work"],
)
def test_what_a_text_takes_is_not_made_longer_by_other_work(
    clock: float, processor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(clock, processor)
    monkeypatch.setattr(learnt_rows.time, "perf_counter", lambda: clocks.now)
    monkeypatch.setattr(learnt_rows.time, "process_time", lambda: clocks.spent)
    assert learnt_rows.milliseconds_alone(clocks.answer, ["a", "b"]) == pytest.approx(2.0)
