"""Several answers drawn to the same question: agreement, money, and teachers that cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pupil import Pupil, World

from stratos.config import ComplexityConfig, LimitsConfig, ProbeConfig
from stratos.core.errors import TeacherError
from stratos.probe import probe
from stratos.probe.teacher_evaluation import TEMPERATURE
from stratos.records import Probe, SampledAnswers, from_json, to_json
from stratos.teachers.base import Answer, Question
from stratos.teachers.call_budget import most_usd


@dataclass
class Wavering(Pupil):
    """Draws: of four samples of an even number all are right, of an odd one the first two."""

    drawn: list[Question] = field(default_factory=list)

    def sample(self, questions: Any, keep: Any = None) -> list[Answer]:
        answers = []
        for index, question in enumerate(questions):
            if not question.temperature:
                answers += self.ask([question.chat], question.max_tokens)
                keep(index, answers[-1])
                continue
            self.drawn.append(question)
            number = int(question.chat[-1]["content"].split()[2])
            is_right = number % 2 == 0 or question.sample < 3
            answers.append(Answer(f"Answer: {2 * number + (not is_right)}", 10, 2, 0.5))
            keep(index, answers[-1])
        return answers


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def told(record: Probe) -> dict[str, Any]:
    return {measure.name: measure for measure in record.complexity.measures}


def test_agreement_of_samples(world):
    teacher = Wavering()
    record = world.probe(teacher, probe=ProbeConfig(n_items=40, n_trial_items=8))
    items = world.task.items("validation", 8)
    n_odd = sum(item.slice == "odd" for item in items)
    assert n_odd == 4
    (found,) = record.teachers
    # Two and two: 2 of 6 pairs are equal, and one bit.
    expected = (4 + 4 * 2 / 6) / 8, 0.5
    assert found.samples == SampledAnswers(8, 4, TEMPERATURE, *expected)
    assert [question.sample for question in teacher.drawn] == [1, 2, 3, 4] * 8
    assert {question.temperature for question in teacher.drawn} == {TEMPERATURE}
    agreement, entropy = (
        told(record)[f"{name} samples"] for name in ("agreement between", "entropy of the")
    )
    assert agreement.value.mean == pytest.approx(expected[0])
    assert (entropy.value.mean, entropy.unit) == (0.5, "bits")
    assert agreement.note == "8 items, 4 answers each at temperature 1"
    assert from_json(to_json(record), Probe) == record
    rows = [json.loads(line) for line in Path(record.answers_path).read_text().splitlines()]
    kept = [row for row in rows if row["kind"] == "sample"]
    assert [row["sample"] for row in kept] == [1, 2, 3, 4] * 8
    assert [row["item"] for row in kept[::4]] == [item.id for item in items]
    # They are kept in the cache like all answers.
    again = Wavering()
    world.probe(again, run="again", probe=ProbeConfig(n_items=40, n_trial_items=8))
    assert again.drawn == []


def test_samples_count_in_the_money_of_the_probe_and_are_cut_with_it(world):
    few = ProbeConfig(
        n_items=10, max_items=10, n_trial_items=2, n_samples=3, n_sample_items=5, max_tokens=32
    )
    free = Wavering(usd_per_million=1000.0)  # $0.012 an answer
    (found,) = world.probe(free, probe=few).teachers
    items, n_others = world.task.items("validation", 10), 3 * 2 + 8
    assert found.usd == pytest.approx(0.012 * (n_others + 15))
    assert found.samples is not None and found.samples.n_items == 5
    # What an answer may cost at most is set aside before; the rest suffices for some.
    cut = Wavering("cut", usd_per_million=1000.0)
    chats = [world.task.messages(item, name) for item in items for name in world.task.prompts]
    ceiling = max(most_usd(cut.card(), chat, 32) for chat in chats)
    limits = LimitsConfig(probe_usd=0.012 * (n_others + 7) + ceiling)
    (less,) = world.probe(cut, probe=few, limits=limits, run="cut").teachers
    assert less.n_items == 10
    assert less.usd <= limits.probe_usd
    assert less.samples is not None and 2 <= less.samples.n_items == len(cut.drawn) // 3 < 5
    assert any("samples less" in text for text in world.said)


def test_why_nothing_was_drawn(world, snapshot):
    few = ProbeConfig(n_items=10, max_items=10, n_trial_items=2)
    silent = world.probe(Pupil(), probe=few)
    measure = told(silent)["agreement between samples"]
    assert measure.value is None
    notes = [measure.note]
    off = ProbeConfig(n_items=10, max_items=10, n_trial_items=2, n_samples=0)
    teacher = Wavering()
    measure = told(world.probe(teacher, probe=off, run="off"))["entropy of the samples"]
    assert (measure.value, teacher.drawn) == (None, [])
    assert [*notes, measure.note] == snapshot
    declared = world.probe(
        teacher, probe=few, run="declared", complexity=ComplexityConfig(level="low")
    )
    assert (declared.teachers[0].samples, teacher.drawn) == (None, [])
    with pytest.raises(ValueError, match="n_samples=1 leaves nothing to compare"):
        ProbeConfig(n_samples=1)


def test_a_teacher_that_fails_to_draw_is_still_a_teacher(world, snapshot):
    class Refusing(Wavering):
        def sample(self, questions: Any, keep: Any = None) -> list[Answer]:
            if any(question.temperature for question in questions):
                raise TeacherError("no temperature here")
            return super().sample(questions, keep)

    record = probe(world.config(Refusing()), world.context())
    assert record.teachers[0].exact.mean == 1.0
    measure = told(record)["agreement between samples"]
    assert measure.value is None
    assert [measure.note, *world.said] == snapshot
