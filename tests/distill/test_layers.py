"""Layers that a trained student does without go, and what is left learns from the whole one."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from process import interrupted
from training_runs import SHORT
from transformers import AutoModelForCausalLM

from stratos.config import FitConfig, StudentConfig
from stratos.distill.words import LayersHealed, LayersUnknown
from stratos.models.pretrained.depth import Depth
from stratos.tasks.classify import ClassifyTask

GOODS = {"apple": "fruit", "cheese": "dairy", "bread": "bakery"}
OTHERS = ("we", "sell", "some", "more", "today", "in", "town")
LAYERS = 4


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Write texts whose label one of their words says."""
    draw = random.Random(0)
    path = tmp_path / "shop.jsonl"
    with path.open("w") as file:
        for _ in range(700):
            words = draw.choices(OTHERS, k=6)
            good = draw.choice(list(GOODS))
            words[draw.randrange(6)] = good
            file.write(json.dumps({"text": " ".join(words), "label": GOODS[good]}) + "\n")
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Save random weights to start from."""
    from stratos.distill.tokenizer import make_student, save_student

    shape = StudentConfig("b", hidden_size=64, n_layers=LAYERS, n_heads=2, vocab_size=300)
    texts = [" ".join((*OTHERS, *GOODS, *GOODS.values()))]
    save_student(*make_student(shape, None, texts, 5), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def settings(shop: Path, base: Path, tmp_path: Path) -> dict[str, Any]:
    """Return a training after which every row is answered right."""
    task = ClassifyTask(str(shop))
    corpus = tmp_path / "corpus.jsonl"
    with corpus.open("w") as file:
        for item in task.items("train", 400):
            row = {"question": item.question, "completion": task.completion(item)}
            file.write(json.dumps(row) + "\n")
    return {
        **SHORT,
        "task": task,
        "corpus": corpus,
        "student": StudentConfig("g", path=str(base), fit=FitConfig(depth=0.5)),
        "max_tokens": 160_000,
        "batch_tokens": 1000,
        "optimizer": "muon",
        "lr_muon": 0.02,
        "lr_adamw": 0.01,
        "callbacks": {"n_validation_items": 40},
    }


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_trained_student_loses_layers_and_no_answers(
    run_distill: Callable[..., Any],
    settings: dict[str, Any],
    adapter: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes: list[str] = []
    settings = {**settings, "adapter": adapter, "lora_rank": 16}
    if adapter == "lora":  # which the rates of all weights have learn nothing
        settings |= {"lr_muon": 0.005, "lr_adamw": 0.003}
    student = run_distill(tmp_path / "whole", notes=notes, **settings)
    [removed] = (note for note in notes if "layers are removed" in note)
    assert "of 104 validation rows" in removed
    assert not any(note.startswith("All ") for note in notes), "none is tried before its training"
    assert student.layers is not None and student.layers[1] == LAYERS
    n_left = student.layers[0]
    assert LAYERS // 2 <= n_left < LAYERS
    n_tried = [left for left, *_ in student.depth_curve]
    assert n_tried == list(range(LAYERS, n_tried[-1] - 1, -1)) and n_left in n_tried
    # Adapters beside random weights learn little.
    assert student.validation_exact >= (0.95 if adapter == "none" else 0.5)
    read = AutoModelForCausalLM.from_pretrained(student.path)
    assert read.config.num_hidden_layers == n_left == len(read.model.layers)
    assert student.n_params == read.num_parameters()
    steps = [point.step for point in student.curve]
    assert steps == sorted(set(steps)) and steps[-1] == student.steps
    assert not (tmp_path / "whole" / "distill" / "shallow").exists()

    interrupted(run_distill, tmp_path / "stopped", monkeypatch, **settings)
    resumed = run_distill(tmp_path / "stopped", **settings)
    assert resumed.weights_sha256 == student.weights_sha256

    # And in the training that follows the removal: the layers are not tried again.
    from stratos.distill import train
    from stratos.distill.monitor import TrainingMonitor

    after = TrainingMonitor.on_train_batch_end

    def stop(self: TrainingMonitor, trainer: Any, *args: Any) -> None:
        after(self, trainer, *args)
        if self._watching.n_before and trainer.global_step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingMonitor, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run_distill(tmp_path / "later", **settings)
    fitted = train.fit_depth
    monkeypatch.setattr(train, "fit_depth", lambda *_: pytest.fail("layers are tried again"))
    resumed = run_distill(tmp_path / "later", **settings)
    monkeypatch.setattr(train, "fit_depth", fitted)
    assert resumed.weights_sha256 == student.weights_sha256 and resumed.n_resumed
    assert resumed.layers == student.layers and resumed.depth_curve == student.depth_curve


@pytest.mark.slow
def test_the_whole_student_stays_where_the_shallow_one_is_worse(
    run_distill: Callable[..., Any],
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that went is tried first, and then what cost next to nothing."""
    from stratos.distill import train

    fitted, orders = train.fit_depth, []

    def loses_two(*args: Any) -> Depth:
        orders.append(replace(fitted(*args), removed=(3, 1), rights=(104, 104, 100), n_safe=1))
        return orders[-1]

    monkeypatch.setattr(train, "fit_depth", loses_two)
    monkeypatch.setattr(train, "is_worse", lambda *_: True)
    notes: list[str] = []
    student = run_distill(tmp_path / "run", notes=notes, **settings)
    first, second = (note for note in notes if "taught by the whole student" in note)
    assert first.startswith("With 2 layers") and first.endswith("next with 3 layers.")
    assert second.startswith("With 3 layers") and second.endswith("the whole student stays.")
    assert student.layers == (LAYERS, LAYERS)
    assert [left for left, *_ in student.depth_curve] == [4, 3, 2]
    assert len(AutoModelForCausalLM.from_pretrained(student.path).model.layers) == LAYERS

    # A run that is stopped in the second attempt does not repeat the first.
    verdicts = iter((True, KeyboardInterrupt, False))

    def judged(*_: Any) -> bool:
        if (verdict := next(verdicts)) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return bool(verdict)

    monkeypatch.setattr(train, "is_worse", judged)
    with pytest.raises(KeyboardInterrupt):
        run_distill(tmp_path / "stopped", **settings)
    (tmp_path / "stopped").rename(tmp_path / "moved")
    notes = []
    second = run_distill(tmp_path / "moved", notes=notes, **settings)
    assert len(orders) == 2 and not any(note.startswith("With 2 layers") for note in notes)
    assert second.layers == (3, LAYERS) and second.seconds > student.seconds / 2
    assert len(AutoModelForCausalLM.from_pretrained(second.path).model.layers) == 3


@pytest.mark.slow
def test_a_time_limit_says_which_training_it_ended(
    run_distill: Callable[..., Any],
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter((3600.0, 0.0))
    monkeypatch.setattr("stratos.distill.train.seconds_of", lambda _: next(seconds))
    warnings: list[str] = []
    run_distill(tmp_path / "run", warnings=warnings, max_time="00:01:00:00", **settings)
    [ended] = (text for text in warnings if "trainer.max_time" in text)
    assert ended.startswith("Learning again without the removed layers: The training ended at")


def test_what_is_said_of_layers() -> None:
    assert "once it is trained" in str(LayersUnknown(30, 2, 200, 20))
    kept = str(LayersHealed(20, 150, 200, 4, 3, 1.0, is_kept=True))
    assert kept.startswith("With 20 layers, and taught by the whole student, 149 of 200 validation")
    assert kept.endswith(
        "150 with all (95% interval of the loss: -2.6 to 3.7 points): it is the student."
    )
    lost = str(LayersHealed(20, 150, 200, 6, 3, 1.0, is_kept=False))
    assert "worse (more than student.fit.max_loss_points=1): the whole student stays" in lost
    surely = str(LayersHealed(20, 150, 200, 8, 0, 9.0, is_kept=False, n_next=22))
    assert "worse (p = 0.0078): next with 22 layers" in surely
