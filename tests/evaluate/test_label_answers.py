"""A language model of labels is validated and evaluated by its likeliest label."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_student import tiny_model, tiny_tokenizer

from stratos.config import CallbacksConfig, EvaluateConfig
from stratos.distill.validation import Measuring, Validator
from stratos.evaluate.answers import ask_folder
from stratos.models.decode.label_scores import LabelAnswers
from stratos.tasks.classify import ClassifyTask

LABELS = ("1", "1 2", "3 4 5")


@dataclass(frozen=True)
class Student:
    task: ClassifyTask
    folder: Path

    @property
    def validator(self) -> Validator:
        callbacks = CallbacksConfig(n_validation_items=6, n_final_validation_items=6)
        evaluate = EvaluateConfig(batch_size=4)
        return Validator(self.task, callbacks, evaluate, tiny_tokenizer(), LABELS)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    """A model of random weights, which writes no label by itself."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [{"text": f"{i % 10} {i // 10} {i % 7}", "label": LABELS[i % 3]} for i in range(99)]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_model(seed=3, initializer_range=0.4).save_pretrained(folder / "student")
    tiny_tokenizer().save_pretrained(folder / "student")
    return Student(ClassifyTask(str(path)), folder / "student")


def test_every_answer_is_a_label_with_its_probability(student):
    task, items = student.task, student.task.items("test", 12)
    options: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 4}
    free = ask_folder(task, student.folder, items, **options)
    assert not any(text in LABELS for text in free.texts)
    ticks: list[tuple[int, int]] = []
    labels = LabelAnswers(task.all_labels)
    answers = ask_folder(
        task, student.folder, items, labels=labels,
        tick=lambda done, total: ticks.append((done, total)), **options,
    )  # fmt: skip
    assert all(score.parsed for score in answers.scores) and {*answers.texts} <= {*LABELS}
    assert answers.tokens == tuple(len(text.split()) + 1 for text in answers.texts)
    assert answers.input_tokens == free.input_tokens
    assert ticks[-1] == (len(items), len(items)) and answers.decoding is None
    assert all(math.log(1 / 3) <= logprob <= 0 for logprob in answers.logprobs)
    cooler = ask_folder(task, student.folder, items, labels=replace(labels, temperature=50.0),
                        **options)  # fmt: skip
    assert cooler.texts == answers.texts
    assert all(share == pytest.approx(1 / 3, abs=0.15) for share in np.exp(cooler.logprobs))


def test_weights_are_chosen_and_calibrated_by_the_likeliest_label(student):
    model = tiny_model(seed=3, initializer_range=0.4)
    validated = student.validator.validate_kept(model, 1.0)
    items = student.task.items("validation", 12)[6:]
    again = ask_folder(
        student.task, student.folder, items, max_new_tokens=8, batch_size=4,
        labels=LabelAnswers(LABELS),
    )  # fmt: skip
    assert validated.n_items == len(items)
    assert validated.exact == sum(score.exact for score in again.scores) / len(items)
    assert validated.temperature > 1.0  # it is sure, and mostly wrong
    tokens = SimpleNamespace(lengths=np.array([6]), prompt_lengths=np.array([3]), shares=False)
    measuring = Measuring(student.validator, 128, tokens)  # type: ignore[arg-type]
    assert 0 <= measuring(model, lambda: None).exact <= 1
    assert measuring.foretell_seconds(model) > 0
