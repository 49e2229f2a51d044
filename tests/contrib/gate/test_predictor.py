"""The gate asks a bundle of a student that is no language model as it asks another."""

from pathlib import Path

from predictor_student import trained, write_rows
from tiny_run import tiny_config

from stratos.contrib.gate import command
from stratos.contrib.gate.command import Side, frozen_of, right_in_turn, side_of
from stratos.evaluate.answers import KeptAnswer
from stratos.tasks.classify import ClassifyTask


def test_its_answers_are_those_of_the_student(tmp_path, monkeypatch):
    student, bundle = trained(), tmp_path / "bundle"
    student.save(bundle)
    task = ClassifyTask(str(write_rows(tmp_path / "rows.jsonl")))
    items = task.items("test", 100)
    kept = {}
    for k, item in enumerate(items):
        text = student.predict([item.question])[0].text if k % 3 else "none of the labels"
        kept[item.question, item.answer] = KeptAnswer(
            item.id, item.slice, item.question, item.answer, task.student_messages(item), text, 1,
            task.score(text, item), -0.1,
        )  # fmt: skip
    config = tiny_config(tmp_path, task=task)
    monkeypatch.setattr(command, "task_of", lambda run_dir, asked: config)
    reference, candidate = Side(Path("kept"), kept), side_of(bundle)
    assert candidate.bundle == bundle
    frozen = frozen_of(candidate, reference)
    right = list(right_in_turn(candidate, frozen, reference, lambda done, total: None))
    assert right == [student.predict([question])[0].text == gold for question, gold in frozen.keys]
    assert sum(right) > sum(one.score.exact >= 1 for one in kept.values())
