"""What students can do before their training: measured, in time, or said why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_student import Larger, make_students

from stratos.config import ComplexityConfig, EvaluateConfig, ProbeConfig, StudentConfig
from stratos.core.context import Context
from stratos.core.intervals import wilson
from stratos.ledger import Ledger
from stratos.probe.stage import judge, probe_students
from stratos.records import ModelCard, StudentProbe, TeacherProbe
from stratos.synthesize.admission import PretrainedStudent

ITEMS = Larger().items("validation", 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_students(tmp_path_factory.mktemp("student"), steps=30)[0]


def measured(tmp_path: Path, *students: StudentConfig, **changes: Any) -> tuple[StudentProbe, ...]:
    config: Any = SimpleNamespace(
        task=Larger(),
        students=students,
        probe=replace(ProbeConfig(n_student_items=20), **changes),
        evaluate=EvaluateConfig(max_new_tokens=12),
        complexity=ComplexityConfig(),
    )
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"))
    return probe_students(config, ITEMS, context)


def test_a_student_with_weights_is_asked_and_one_without_is_not(folder, tmp_path):
    student = StudentConfig("half_trained", path=str(folder))
    (found,) = measured(tmp_path, StudentConfig("random"), student)
    evaluate = EvaluateConfig(max_new_tokens=12, batch_size=60)
    known = PretrainedStudent(str(folder), Larger(), evaluate).knows(ITEMS[:20])
    assert 0 < sum(known) < 20
    assert (found.student, found.n_items, found.reason) == ("half_trained", 20, "")
    assert found.exact == wilson(sum(known), 20)
    card = ModelCard(
        "t", n_params=1, n_layers=1, hidden_size=1, n_heads=1, n_kv_heads=1, intermediate_size=1,
        vocab_size=1, context_length=1, license="",
    )  # fmt: skip
    teacher = TeacherProbe(
        "t", card, "default", n_items=8, exact=wilson(1, 8), choice=wilson(0, 0), exact_by_slice={},
        parsable=1.0, echoes=0.0, input_tokens=8, output_tokens=8, seconds=1.0, cpu_seconds=1.0,
        usd=0.0, n_cached=0,
    )  # fmt: skip
    measures = judge(ComplexityConfig(), Larger(), ITEMS, [teacher], [found]).measures
    (row,) = [one for one in measures if one.name == "exact match before training"]
    assert (row.value, row.of, row.note) == (found.exact, "half_trained", "20 validation items")


def test_what_takes_too_long_or_cannot_be_loaded_is_said(folder, tmp_path):
    student = StudentConfig("tiny", path=str(folder))
    (late,) = measured(tmp_path, student, student_seconds=0.0)
    assert late.exact is None
    assert "probe.student_seconds=0" in late.reason
    assert measured(tmp_path, student, n_student_items=0) == ()
    empty = tmp_path / "empty"
    empty.mkdir()
    away, broken = measured(
        tmp_path, StudentConfig("hub", path="some/name"), StudentConfig("bad", path=str(empty))
    )
    assert away == StudentProbe("hub", reason="its weights are not on this machine")
    assert broken.exact is None and broken.reason.startswith("it cannot be asked (")
