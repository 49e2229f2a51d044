"""A divergence is one entry: the check, the docs and a training are fed from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stratos.config import StudentConfig
from stratos.core.errors import ConfigError
from stratos.core.values import read_dataclass
from stratos.distill import divergences
from stratos.distill.divergences import DIVERGENCES, Divergence, Parameter, wrong_parameters
from stratos.distill.head import head_loss
from stratos.distill.kernels import Scratch, softmax_
from stratos.distill.objectives import Dense, LMHead, Objective, Sampled
from stratos.distill.words import ParameterOutOfRange, UnknownParameter
from stratos.synthesize.alignment import AlignmentLogits, AlignmentOnPolicy
from stratos.teachers.huggingface import HuggingFaceTeacher

PARTS = {"beta": 0.5, "alpha": 0.1}


def squared_(student_RV: Tensor, teacher_RV: Tensor, scratch: Scratch, scale: float) -> Tensor:
    """Return scale |q - p|^2; gradient 2 scale q (d - sum(q d)), with d = q - p."""
    q_RV = scratch.like("q", student_RV)
    softmax_(student_RV, q_RV)
    softmax_(teacher_RV, teacher_RV)
    torch.sub(q_RV, teacher_RV, out=student_RV)
    loss_R = scale * student_RV.square().sum(1)
    student_RV.mul_(q_RV)
    student_RV.addcmul_(q_RV, student_RV.sum(1, keepdim=True), value=-1).mul_(2 * scale)
    return loss_R


@pytest.fixture
def squared(monkeypatch: pytest.MonkeyPatch) -> Divergence:
    """An entry of one's own, which is all that is written for it."""
    entry = Divergence(
        "squared",
        "c |q − p|²",
        "this test",
        lambda: squared_,
        parameters=(Parameter("scale", default=1.0, low=0.5, high=9),),
    )
    monkeypatch.setitem(DIVERGENCES, entry.name, entry)
    return entry


def problems(cls: type = AlignmentLogits, **values: Any) -> list[str]:
    found: list[str] = []
    read_dataclass(values, cls, "strategy", found)
    return found


def test_the_config_takes_what_the_table_has(squared, snapshot):
    for cls in (AlignmentLogits, AlignmentOnPolicy):
        assert problems(cls, objective="squared", parameters={"scale": 2}) == []
    wrong: list[dict[str, Any]] = [
        {"objective": "square"},
        {"objective": 5},
        {"objective": "squared", "parameters": {"scale": 10}},
        {"objective": "squared", "parameters": {"scael": 2}},
        {"objective": "forward_kl", "parameters": {"scale": 2}},
    ]
    assert [problems(**settings) for settings in wrong] == snapshot
    assert wrong_parameters("squared", {"scale": 10}) == ParameterOutOfRange("scale", 10, 0.5, 9)
    assert wrong_parameters("squared", {"scael": 2}) == UnknownParameter(
        "squared", "scael", ("scale",)
    )
    with pytest.raises(ConfigError, match=r"not between 0\.5 and 9"):
        Objective("squared", parameters=(("scale", 0.1),))


def test_the_docs_list_it(squared, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from figures_of.training import divergences

    row = "| `squared` | c |q − p|² | `scale` 0.5 to 9 (1) | this test |"
    assert divergences().splitlines()[-1] == row
    assert len(divergences().splitlines()) == 2 + len(DIVERGENCES)


def test_its_kernel_gets_its_parameters_and_its_gradient_is_right(squared):
    strategy = AlignmentLogits(objective="squared", parameters={"scale": 3.0})
    objective = strategy.signal.to_minimize()
    assert objective.cross_entropy == 0.0
    torch.manual_seed(0)
    hidden, weight, teacher = torch.randn(7, 5), torch.randn(11, 5), torch.randn(7, 11)
    found = []
    for is_ours in (True, False):
        leaf = hidden.clone().requires_grad_()
        if is_ours:
            loss = head_loss(leaf, LMHead(weight), Dense(teacher), objective, 7).total
        else:
            gap = (leaf @ weight.T).softmax(1) - teacher.softmax(1)
            loss = 3 * gap.square().sum() / 7
        loss.backward()
        assert leaf.grad is not None
        found.append((loss.detach(), leaf.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    drawn = Sampled.of(teacher, 4)
    with pytest.raises(ConfigError, match="not squared"):
        head_loss(hidden, LMHead(weight), drawn, objective, 7)


@pytest.mark.slow
def test_a_student_is_trained_with_it(squared, run_distill, tmp_path):
    from stratos.distill.tokenizer import make_student, save_student
    from stratos.tasks.mahjong import MahjongTask

    config = StudentConfig("e", hidden_size=32, n_layers=1, n_heads=2, intermediate_size=64)
    path = tmp_path / "expert"
    save_student(*make_student(config, MahjongTask().vocabulary(), [], 9), path)
    student = run_distill(
        tmp_path,
        strategies=(AlignmentLogits(objective="squared", parameters={"scale": 2.0}),),
        teachers=(HuggingFaceTeacher("expert", path=str(path), dtype="float32"),),
        precision="fp32",
        batch_tokens=1500,
        max_tokens=3000,
    )
    assert 1 <= student.steps <= 4 and 0 < student.curve[-1].loss < 2 * 2


def test_what_each_needs_of_its_teacher_and_its_limits():
    assert [one.name for one in DIVERGENCES.values() if one.reads_drawn_tokens] == ["forward_kl"]
    any_tokens = [one for one in DIVERGENCES.values() if one.reads_any_vocabulary]
    assert [(one.name, one.temperature_power, one.cross_entropy) for one in any_tokens] == [
        ("universal_logit", 1, 0.5)
    ]
    found = {
        (name, key, value): DIVERGENCES[name].at({key: value}).name
        for name, key in (("jsd", "beta"), ("skew_kl", "alpha"), ("skew_reverse_kl", "alpha"))
        for value in (0.0, 0.5, 1.0)
    }
    assert {where: at for where, at in found.items() if at != where[0]} == {
        ("jsd", "beta", 0.0): "forward_kl",
        ("jsd", "beta", 1.0): "reverse_kl",
        ("skew_kl", "alpha", 0.0): "forward_kl",
        ("skew_reverse_kl", "alpha", 0.0): "reverse_kl",
    }
    assert all(callable(one.kernel()) for one in DIVERGENCES.values())
    assert divergences.divergence("jsd").values(PARTS) == {"beta": 0.5}


def test_reading_the_table_imports_no_torch():
    import subprocess

    code = (
        "import sys; from stratos.distill.divergences import DIVERGENCES;"
        "assert DIVERGENCES and 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
