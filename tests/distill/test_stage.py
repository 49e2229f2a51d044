"""The stage: a student any tool loads, bit-exact resume after kill -9, and what goes wrong."""

import copy
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from process import interrupted, stop_at
from training_runs import EVERY_3, SHORT
from transformers import AutoModelForCausalLM

from stratos.core.errors import StratosError
from stratos.distill.data import PackedLoader
from stratos.distill.module import MuonAdamW
from stratos.distill.words import CheckpointsAside, OtherInputs, RowsTooLong
from stratos.records import corpus_rows


def test_makes_a_student_and_its_untouched_twin(trained):
    student = trained.student
    trained = AutoModelForCausalLM.from_pretrained(student.path)
    untouched = AutoModelForCausalLM.from_pretrained(student.untouched_path)
    assert trained.num_parameters() == student.n_params == untouched.num_parameters()
    assert student.curve[-1].step == student.steps
    assert student.curve[-1].loss < student.curve[0].loss - 0.3
    assert student.train_tokens >= SHORT["max_tokens"]
    assert not torch.equal(
        trained.model.layers[0].mlp.up_proj.weight, untouched.model.layers[0].mlp.up_proj.weight
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_student(run_distill, trained, tmp_path):
    again = run_distill(tmp_path, callbacks=EVERY_3, **SHORT)
    assert again.weights_sha256 == trained.student.weights_sha256


@pytest.mark.slow
@pytest.mark.kill
def test_goes_on_after_kill_9_to_the_same_weights(run_distill, corpus_path, tmp_path):
    whole = run_distill(tmp_path / "whole")
    killed = tmp_path / "killed"
    assert stop_at(7, signal.SIGKILL, corpus_path, killed) == -signal.SIGKILL
    assert list((killed / "distill" / "checkpoints").glob("step-*.ckpt"))

    student = run_distill(killed)
    assert student.n_resumed == 1
    assert student.weights_sha256 == whole.weights_sha256
    assert [p.loss for p in student.curve] == [p.loss for p in whole.curve]
    assert student.train_tokens == whole.train_tokens


@pytest.mark.slow
def test_a_checkpoint_of_other_inputs_is_not_gone_on_from(run_distill, tmp_path, monkeypatch):
    warnings: list[str] = []
    interrupted(run_distill, tmp_path, monkeypatch)
    assert list((tmp_path / "distill" / "checkpoints").glob("step-*.ckpt"))
    interrupted(run_distill, tmp_path, monkeypatch, fingerprint="other", warnings=warnings)
    aside = tmp_path / "distill" / "checkpoints.other"
    assert list(aside.glob("step-*.ckpt")), "what took hours is not thrown away"
    made = CheckpointsAside(
        str(aside.with_name("checkpoints")), str(aside), OtherInputs.CONFIG_OR_CORPUS
    )
    assert warnings == [str(made)]
    student = run_distill(tmp_path, fingerprint="other")
    assert student.n_resumed == 1


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_and_names_the_batch(run_distill, tmp_path):
    settings = {"lr_muon": 1e30, "lr_adamw": 1e30, "clip_norm": 0, "warmup_steps": 0}
    with pytest.raises(StratosError) as caught:
        run_distill(tmp_path, **settings)
    said = r"is nan at step \d+, on the batch of training items"
    assert re.search(said, str(caught.value))
    assert "callbacks.checkpoint_every_steps" in str(caught.value)
    assert "Lower trainer.lr_muon" in str(caught.value)


@pytest.mark.slow
def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    run_distill, tmp_path, monkeypatch
):
    from stratos.distill.module import StudentModule

    plain = StudentModule.loss

    def poisoned(self: StudentModule, batch: Any) -> torch.Tensor:
        bad = 0 if self.trainer.global_step < 6 or self.trainer.fit_loop.batch_idx % 2 else 1
        return plain(self, batch) * (float("nan") if bad else 1)

    documents: list[Any] = []
    row = PackedLoader.row
    monkeypatch.setattr(
        PackedLoader, "row", lambda self, i: documents.append(row(self, i)) or documents[-1]
    )
    with monkeypatch.context() as patch:
        patch.setattr(StudentModule, "loss", poisoned)
        with pytest.raises(StratosError) as caught:
            run_distill(tmp_path, accumulate=2)
    named = re.search(r"training items ([\d, ]+)", str(caught.value))
    assert named is not None
    first_of_step = documents[-2].document_ids_D.tolist()
    assert [int(item) for item in named[1].split(",") if item.strip()] == first_of_step[:8]
    kept = tmp_path / "distill" / "checkpoints" / "step-4.ckpt"
    assert f"The last good checkpoint is kept: {kept}." in str(caught.value)
    assert run_distill(tmp_path, accumulate=2).n_resumed == 1


def write_corpus(path: Path, questions: list[str], completions: list[str]) -> Path:
    rows = [
        {"question": question, "completion": completion}
        for question, completion in zip(questions, completions, strict=True)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_an_empty_corpus_is_refused(run_distill, tmp_path):
    with pytest.raises(StratosError, match="The corpus has no items"):
        run_distill(tmp_path, corpus=write_corpus(tmp_path / "c.jsonl", [], []))


@pytest.mark.slow
def test_items_longer_than_the_context_are_counted(run_distill, corpus_path, tmp_path):
    rows = list(corpus_rows(corpus_path))
    questions, completions = [row.question for row in rows], [row.completion for row in rows]
    completions[3] *= 80
    completions[7] *= 80
    path = write_corpus(tmp_path / "c.jsonl", questions, completions)
    warnings: list[str] = []
    run_distill(tmp_path, corpus=path, warnings=warnings, max_tokens=4000)
    assert warnings == [str(RowsTooLong(2))]
    long = [text * 80 for text in completions]
    path = write_corpus(tmp_path / "long.jsonl", questions, long)
    with pytest.raises(StratosError, match=r"No training item fits .* of 1024 tokens"):
        run_distill(tmp_path / "long", corpus=path)


def test_two_optimizers_in_one_save_and_load():
    def make() -> tuple[torch.nn.Module, MuonAdamW]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        others = [p for p in model.parameters() if p.ndim != 2]
        return model, MuonAdamW([model[0].weight], others, 0.01, 0.01, 0.0)

    def step(model: torch.nn.Module, optimizer: MuonAdamW) -> None:
        optimizer.zero_grad()
        model(torch.arange(8.0).view(2, 4)).square().sum().backward()
        optimizer.step()

    model, optimizer = make()
    for _ in range(3):
        step(model, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    weights = copy.deepcopy(model.state_dict())
    step(model, optimizer)

    other_model, other = make()
    other_model.load_state_dict(weights)
    other.load_state_dict(state)
    step(other_model, other)
    for one, two in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(one, two)
    other.param_groups[0]["lr"] = 0.0
    before = other_model[0].weight.detach().clone()
    step(other_model, other)
    assert torch.equal(other_model[0].weight, before), "groups are shared after loading, too"
