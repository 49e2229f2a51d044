"""The stage: a student any tool loads, bit-exact resume after kill -9, and what goes wrong."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from stratos.distill.optim import MuonAdamW
from stratos.errors import StratosError


def test_makes_a_student_and_its_untouched_twin(
    run_distill: Callable[..., Any], tmp_path: Path
) -> None:
    student = run_distill(tmp_path)
    trained = AutoModelForCausalLM.from_pretrained(student.path)
    untouched = AutoModelForCausalLM.from_pretrained(student.untouched_path)
    assert trained.num_parameters() == student.n_params == untouched.num_parameters()
    assert student.curve[-1].step == student.steps
    assert student.curve[-1].loss < student.curve[0].loss - 0.3
    assert student.train_tokens >= 30_000
    assert not torch.equal(
        trained.model.layers[0].mlp.up_proj.weight, untouched.model.layers[0].mlp.up_proj.weight
    )
    again = run_distill(tmp_path / "again")
    assert again.weights_sha256 == student.weights_sha256, "the same seed gives the same student"


def test_goes_on_after_kill_9_to_the_same_weights(
    run_distill: Callable[..., Any], corpus_path: Path, tmp_path: Path
) -> None:
    whole = run_distill(tmp_path / "whole")
    killed = tmp_path / "killed"
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
import conftest, pathlib, time
from stratos.distill.callbacks import Watch
after = Watch.on_train_batch_end
def slowly(self, trainer, *args):
    after(self, trainer, *args)
    print(trainer.global_step, flush=True)
    time.sleep(0.3 if trainer.global_step > 6 else 0)
Watch.on_train_batch_end = slowly
run = conftest.run_distill.__wrapped__ if hasattr(conftest.run_distill, "__wrapped__") else None
run = run or conftest.run_distill._get_wrapped_function()
run(pathlib.Path({str(corpus_path)!r}))(pathlib.Path({str(killed)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "7":
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    assert list((killed / "distill" / "checkpoints").glob("step-*.ckpt"))

    student = run_distill(killed)
    assert student.n_resumed == 1
    assert student.weights_sha256 == whole.weights_sha256
    assert [p.loss for p in student.curve] == [p.loss for p in whole.curve]
    assert student.train_tokens == whole.train_tokens


def test_a_checkpoint_of_other_inputs_is_not_gone_on_from(
    run_distill: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        _interrupted(run_distill, tmp_path)
    assert list((tmp_path / "distill" / "checkpoints").glob("step-*.ckpt"))
    student = run_distill(tmp_path, fingerprint="other")
    assert student.n_resumed == 0


def _interrupted(run_distill: Callable[..., Any], folder: Path) -> None:
    from stratos.distill import callbacks

    before = callbacks.Watch.on_train_batch_end

    def stop(self: Any, trainer: Any, *args: Any) -> None:
        before(self, trainer, *args)
        if trainer.global_step == 6:
            raise KeyboardInterrupt

    callbacks.Watch.on_train_batch_end = stop  # type: ignore[method-assign]
    try:
        run_distill(folder)
    finally:
        callbacks.Watch.on_train_batch_end = before  # type: ignore[method-assign]


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(
    run_distill: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(StratosError, match=r"is nan at step \d+, on the batch of training items"):
        run_distill(tmp_path, lr_muon=1e30, lr_adamw=1e30, clip_norm=0)


def test_two_optimizers_in_one_save_and_load() -> None:
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
