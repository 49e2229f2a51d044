"""Validation: which weights are kept, and what is said of them at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from stratos.config import CallbacksConfig, EvaluateConfig
from stratos.distill import validation
from stratos.distill.monitor import Best
from stratos.distill.validation import Measured, Measuring, Validator
from stratos.distill.words import NoBetter
from stratos.tasks.base import Item
from stratos.tasks.mahjong import MahjongTask

Run = Callable[..., Any]


@pytest.mark.slow
def test_the_best_weights_are_kept_and_not_the_last(run_distill, tmp_path, monkeypatch):
    scores = [0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    seen: list[dict[str, Any]] = []

    def measure(self: Measuring, model: Any, poll: Callable[[], None]) -> Measured:
        seen.append({k: v.detach().clone() for k, v in model.state_dict().items()})
        return Measured(scores[len(seen) - 1], 1.0)

    monkeypatch.setattr(Measuring, "__call__", measure)
    student = run_distill(tmp_path, callbacks={"validate_every_steps": 3})
    assert len(seen) > 3, "it went on behind its best"
    assert (student.best_step, student.best_exact) == (6, 0.75)
    kept = AutoModelForCausalLM.from_pretrained(student.path).state_dict()
    best, last = (
        max(float((kept[name].float() - one[name].float()).abs().max()) for name in kept)
        for one in (seen[1], seen[-1])
    )
    assert best == 0.0 and last > 0.0
    assert load_file(Path(student.path) / "model.safetensors").keys() <= kept.keys()


@pytest.mark.slow
def test_a_student_says_what_its_kept_weights_reach_and_on_how_many_items(
    run_distill, tmp_path, monkeypatch
):
    monkeypatch.setattr(Measuring, "__call__", lambda *_: Measured(0.9, None))
    student = run_distill(tmp_path, callbacks={"n_final_validation_items": 5})
    assert student.best_exact == 0.9
    assert student.validation_exact == 0.0, "what chose the weights is not what is said of them"
    assert (student.n_validation_items, student.n_validation_reused) == (5, 0)


def test_of_equal_exact_match_the_lower_loss_is_kept():
    best = Best()
    found = [(0.0, 2.0), (0.0, 1.5), (0.5, 1.8), (0.5, 1.6), (0.5, 1.7), (0.4, 1.6)]
    kept = [best.is_next(step, Measured(*one)) for step, one in enumerate(found)]
    assert kept == [True, True, True, True, False, False]
    assert best.step == 3
    assert best.n_no_better == 3, "from step 3 on neither was better than all before"
    again = Best()
    again.load_state_dict(best.state_dict(), with_weights=True)
    assert not again.is_next(6, Measured(0.4, 1.55))
    assert again.n_no_better == 4
    assert again.is_next(7, Measured(0.5, 1.4))
    assert (again.n_no_better, again.step) == (0, 7)
    assert not again.is_next(8, Measured(0.3, 1.3)), "it still learns, and is not the best"
    assert again.n_no_better == 0


@pytest.mark.slow
def test_a_training_that_gets_no_better_ends(run_distill, tmp_path, monkeypatch):
    losses = [3.0, 2.0, 2.5, 2.6, 2.7, 1.0]
    measured = iter([Measured(0.5, loss) for loss in losses])
    monkeypatch.setattr(Measuring, "__call__", lambda *_: next(measured))
    notes: list[str] = []
    ticks: list[tuple[Any, ...]] = []
    callbacks = {"validate_every_steps": 2, "patience": 3}
    student = run_distill(tmp_path, notes=notes, ticks=ticks, callbacks=callbacks)
    assert (student.steps, student.best_step, student.validation_loss) == (10, 4, 2.0)
    n_steps = next(total for _, total, text in ticks if text.startswith("loss "))
    assert notes[-1] == str(NoBetter(10, n_steps, n_measurements=3, best_step=4))
    assert [p.validation_loss for p in student.curve if p.exact is not None] == losses[:5]


def test_the_loss_is_that_of_the_gold_answers(trained):
    import torch
    from transformers import AutoTokenizer

    student = trained.student
    model = AutoModelForCausalLM.from_pretrained(student.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(student.path)
    task, total, n_tokens = MahjongTask(), 0.0, 0
    for item in task.items("validation", 2):
        prompt = tokenizer.apply_chat_template(
            task.student_messages(item), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        gold = tokenizer(task.completion(item) + tokenizer.eos_token)["input_ids"]
        ids = torch.tensor([prompt + gold])
        with torch.no_grad():
            logs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total -= float(logs.gather(1, ids[0, len(prompt) :, None]).sum())
        n_tokens += len(gold)
    assert student.validation_loss == pytest.approx(total / n_tokens, abs=1e-4)


def test_the_loss_is_that_without_dropout(trained):
    from transformers import AutoTokenizer

    from stratos.distill.data import encode

    folder, task = trained.student.path, MahjongTask()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items = task.items("validation", 2)
    chats = [task.student_messages(item) for item in items]
    rows, _ = encode(tokenizer, chats, list(map(task.completion, items)), 2048)
    callbacks = CallbacksConfig(n_validation_items=2)
    measuring = Measuring(Validator(task, callbacks, EvaluateConfig(), tokenizer), 2048, rows)
    losses = []
    for dropout in (0.0, 0.5):
        model = AutoModelForCausalLM.from_pretrained(folder, attention_dropout=dropout).train()
        losses.append(measuring._loss(model, lambda: None))
        assert model.training
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


# --- which items ----------------------------------------------------------------------------------


class Rows:
    """A task with so many validation rows, of which the even ones are answered right."""

    def __init__(self, n: int) -> None:
        self.n = n

    def items(self, split: str, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        assert split == "validation", "no other split is read while a student is made"
        return [Item(str(i), "all", str(i), "") for i in range(min(n, self.n))]


def validator(task: Any) -> Validator:
    callbacks = CallbacksConfig(n_validation_items=10)
    return Validator(task, callbacks, EvaluateConfig(batch_size=8), tokenizer=None)


@pytest.mark.parametrize(
    ("n_rows", "n_items", "n_reused"),
    [(1000, 40, 0), (50, 40, 0), (30, 30, 10), (12, 12, 10), (7, 7, 7)],
)
def test_items_that_chose_nothing_are_asked_first(n_rows, n_items, n_reused):
    items, reused = validator(Rows(n_rows)).final_items()
    assert (len(items), reused) == (n_items, n_reused)
    choosing = {item.id for item in items if int(item.id) < 10}
    assert len(choosing) == n_reused
    assert choosing == {item.id for item in items[len(items) - n_reused :]}


def test_mahjong_has_enough_items_that_chose_nothing():
    items, reused = validator(MahjongTask()).final_items()
    choosing = {item.family for item in MahjongTask().items("validation", 10)}
    assert reused == 0 and not choosing & {item.family for item in items}


def test_the_last_measurement_ends_when_its_time_is_up(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(validation.time, "monotonic", lambda: clock[0])

    def right(_: Validator, model: Any, items: Any, poll: Any) -> tuple[list[float], None]:
        clock[0] += 25.0
        poll()
        return [float(int(item.id) % 2 == 0) for item in items], None

    monkeypatch.setattr(Validator, "right", right)
    model = SimpleNamespace(to=lambda device: None)
    slow = validator(Rows(1000)).validate_kept(model, training_seconds=1.0)
    assert (slow.n_items, slow.exact, slow.n_reused) == (8, 0.5, 0)
    clock[0] = 0.0
    long = validator(Rows(20)).validate_kept(model, training_seconds=2000.0)
    assert (long.n_items, long.n_reused) == (20, 10)
    clock[0] = 0.0
    some = validator(Rows(20)).validate_kept(model, training_seconds=600.0)
    assert (some.n_items, some.n_reused) == (16, 6)


@pytest.mark.slow
def test_a_model_is_really_asked(run_distill, tmp_path):
    from stratos.tasks.base import Score

    class Easy(MahjongTask):
        def score(self, text: str, item: Item) -> Score:
            return Score(1.0, 1.0, True)

    student = run_distill(tmp_path, task=Easy())
    assert (student.validation_exact, student.n_validation_items) == (1.0, 8)
    assert replace(student, validation_exact=0.0) != student
