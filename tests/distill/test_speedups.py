"""A training without any extension: the plain ways, and what they say of what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from test_packed import make_data, make_model
from torch.nn import functional as F

from stratos.config import TrainerConfig
from stratos.core.extensions import Extension
from stratos.distill import packed, speedups
from stratos.distill.data import PackedLoader
from stratos.distill.module import StudentModule
from stratos.distill.speedups import Speedups
from stratos.distill.words import (
    NoGradientWorkers,
    ProcessesUnused,
)

SHORT = {"max_tokens": 20_000, "accelerator": "cpu", "n_threads": 1}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train as where no extension has speedups."""
    monkeypatch.setattr(speedups, "extensions", lambda: ())
    monkeypatch.setattr(packed, "_SPEEDUPS", Speedups())
    speedups.speedups.cache_clear()
    assert type(speedups.speedups()) is Speedups
    yield
    speedups.speedups.cache_clear()


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_training_makes_a_student(run_distill, tmp_path, precision):
    notes: list[str] = []
    student = run_distill(tmp_path, notes=notes, precision=precision, n_processes=2, **SHORT)
    assert student.curve[-1].loss < student.curve[0].loss - 0.1
    assert (student.processes, student.threads) == (1, ((0, 1),))
    assert str(ProcessesUnused(2, NoGradientWorkers())) in notes


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("half", [False, True])
def test_packed_rows_have_the_loss_of_single_documents(half):
    lengths, prompts = [7, 12, 90, 9], [3, 4, 2, 8]
    data, model = make_data(lengths, prompts), make_model(2)
    total = torch.tensor(0.0)
    for document, prompt in enumerate(prompts):
        tokens = torch.from_numpy(data.text(document).astype("int64"))
        logits = model(tokens[None]).logits[0, prompt - 1 : -1]
        total += F.cross_entropy(logits, tokens[prompt:], reduction="sum").detach()
    module = StudentModule(model, TrainerConfig(), 1)
    module.learner.pack(True)
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        loss = module.loss(PackedLoader(data, 1000, 1, 0).batch(np.arange(len(lengths))))
    expected = float(total) / (sum(lengths) - sum(prompts))
    assert loss.item() == pytest.approx(expected, abs=2e-3 if half else 1e-5)


class Own(Speedups):
    """Of an extension."""


def test_the_first_extension_with_speedups_is_taken(monkeypatch):
    both = (Extension(), Extension(speedups="room:Own"), Extension(speedups="other:Other"))
    monkeypatch.setattr(speedups, "extensions", lambda: both)
    monkeypatch.setattr(speedups, "load", {"room:Own": Own}.__getitem__)
    assert type(speedups.speedups.__wrapped__()) is Own
