"""What a page says would help next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stratos.records import CurvePoint, Interval, Student
from stratos.report.frontier import next_steps
from tests.report import factory


def test_a_longer_training_and_another_student_have_gain_price_and_command(tmp_path):
    factory.write_hydra(tmp_path, ["+task=mahjong", "trainer.max_tokens=5"])
    student = trained(0.5, 0.65, 0.8)
    steps = next_steps(
        tmp_path, factory.make_probe(), None, factory.make_plan(), student, is_taught=False
    )
    twice, four_times, another = steps
    assert twice.what.startswith("2× the training: 2,000,000 tokens")
    assert twice.command.split()[-2:] == ["trainer.max_tokens=2000000", "trainer.max_epochs=-1"]
    means = [float(step.predicted.partition("%")[0]) for step in (twice, four_times)]
    assert 80 < means[0] < means[1] < 100
    assert twice.price.startswith("$0.12 as planned")
    assert another.what == "Another student: llama-3m by injection"
    assert another.command == ""  # no YAML has that name


def trained(*exact: float, **more: Any) -> Student:
    """A student whose training was measured each quarter of a million tokens before its end."""
    curve = tuple(CurvePoint(i, 250_000 * i, 1.0, share) for i, share in enumerate(exact[:-1], 1))
    return replace(
        factory.make_student(), validation_exact=exact[-1], n_validation_items=500,
        n_choosing_items=128, train_tokens=1_000_000, curve=curve, **more,
    )  # fmt: skip


def longer(tmp_path: Path, student: Student) -> list[str]:
    factory.write_hydra(tmp_path, [])
    plan = replace(factory.make_plan(), frontier=())
    return [
        step.predicted for step in next_steps(tmp_path, None, None, plan, student, is_taught=False)
    ]


def test_the_curve_of_the_training_tells_where_it_has_become_flat(tmp_path):
    def twice(*exact: float) -> float:
        prediction = longer(tmp_path, trained(*exact))[0]
        return float(prediction.partition("%")[0])

    assert twice(0.8, 0.8, 0.8) < 84 < twice(0.3, 0.55, 0.8)


def test_more_of_a_training_that_overfits_is_not_advised(tmp_path):
    def student(last: float, *validation_losses: float | None) -> Student:
        curve = tuple(
            CurvePoint(i, 300_000 * i, 1 / i, exact, loss)
            for i, (exact, loss) in enumerate(
                zip((0.5, 0.8, last), validation_losses, strict=True), 1
            )
        )
        return replace(trained(0.5, 0.78), curve=curve)

    assert longer(tmp_path, student(0.7, 0.9, 0.4, 0.6)) == []
    assert longer(tmp_path, student(0.7, None, None, None)) == []
    assert len(longer(tmp_path, student(0.7, 0.9, 0.4, 0.3))) == 2
    assert len(longer(tmp_path, student(0.8, 0.9, 0.4, 0.6))) == 2


def test_what_nobody_can_tell_of_a_longer_training_is_not_predicted(tmp_path):
    again = longer(tmp_path, trained(0.5, 0.65, 0.8, epochs=101.0))
    assert again == [f"unknown: each row would be read {n} times" for n in (202, 404)]
    once = longer(tmp_path, trained(0.8))
    assert once == ["unknown: this training was measured once"] * 2
    few = trained(0.5, 0.65, 0.8, epochs=1.0, n_validation_reused=500)
    ends = "; an upper end: rows are read again and the items also chose the weights"
    assert all(step.endswith(ends) for step in longer(tmp_path, few))


def test_nothing_is_promised_of_a_student_that_has_learnt_nothing(tmp_path):
    student = replace(
        factory.make_student(), validation_exact=0.02, n_validation_items=500, train_tokens=1_000
    )
    plan = replace(factory.make_plan(), frontier=())
    assert next_steps(tmp_path, factory.make_probe(), None, plan, student, is_taught=False) == ()
    assert next_steps(tmp_path, None, None, None, student, is_taught=True) == ()


def test_a_better_teacher_is_named_where_the_student_learns_from_one(tmp_path):
    probe = factory.make_probe()
    [ours] = probe.teachers
    better = replace(ours, teacher="gpt_4o", exact=Interval(0.7, 0.6, 0.8))
    plan = replace(factory.make_plan(), strategy="alignment", frontier=())
    student = replace(
        factory.make_student(), validation_exact=0.02, n_validation_items=500, train_tokens=1_000
    )
    two = replace(probe, teachers=(ours, better))
    assert next_steps(tmp_path, two, None, plan, student, is_taught=False) == ()
    [step] = next_steps(tmp_path, two, None, plan, student, is_taught=True)
    assert step.what == "Another teacher: gpt_4o" and "70.0% (60.0% to 80.0%)" in step.predicted
    [step] = next_steps(tmp_path, probe, None, plan, student, is_taught=True)
    assert step.what == "A better teacher" and "could not be asked" in step.predicted
