"""Liger's kernel: taken only where it fits, equals ours, and is faster."""

import time

import pytest
import torch
from torch import Tensor

from stratos.distill.head import head_loss
from stratos.distill.objectives.base import Objective
from stratos.distill.objectives.liger import fits, is_better, liger_loss
from stratos.distill.objectives.signals import Dense, Hidden, LMHead


def test_a_cpu_never_takes_it() -> None:
    head = LMHead(torch.zeros(5, 2))
    assert not fits(torch.zeros(3, 2), head, Hidden(torch.zeros(3, 2), head), Objective())


@pytest.mark.parametrize(
    ("slow", "wrong", "taken"),
    [("ours", 0.0, True), ("theirs", 0.0, False), ("ours", 0.01, False)],
)
def test_the_trial_takes_what_is_equal_and_faster(slow: str, wrong: float, taken: bool) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(4, 6), torch.randn(9, 6, requires_grad=True)
    signal, objective = Dense(torch.randn(4, 9)), Objective()

    def run(name: str, error: float) -> object:
        def one(states: Tensor, head: LMHead) -> Tensor:
            if name == slow:
                time.sleep(0.1)
            return head_loss(states, head, signal, objective, 4).total * (1 + error)

        return one

    found = is_better((slow, wrong), hidden, LMHead(weight), run("ours", 0.0), run("theirs", wrong))  # type: ignore[arg-type]
    assert found == taken


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Liger's fused kernel needs a GPU")
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_equals_ours_on_a_gpu(name: str, temperature: float) -> None:
    pytest.importorskip("liger_kernel")
    torch.manual_seed(1)
    objective = Objective(name, beta=0.3, temperature=temperature)
    states, teacher = torch.randn(40, 64).cuda(), torch.randn(40, 32).cuda()
    weight, theirs = torch.randn(500, 64).cuda() / 8, LMHead(torch.randn(500, 32).cuda() / 6)
    rows = torch.arange(0, 40, 3).cuda()
    found = []
    for kernel in ("stratos", "liger"):
        hidden, own = states.clone().requires_grad_(), weight.clone().requires_grad_()
        signal = Hidden(teacher, theirs, rows)
        if kernel == "liger":
            assert fits(hidden, LMHead(own), signal, objective)
            loss = liger_loss(hidden, LMHead(own), signal, objective, 20, rows)
        else:
            loss = head_loss(hidden, LMHead(own), signal, objective, 20, rows, kernel=kernel).total
        loss.backward()
        found.append((loss.detach(), hidden.grad, own.grad))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)
