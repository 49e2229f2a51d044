"""Causal attention in bfloat16 by blocks, beside PyTorch's in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stratos.contrib.cpu import attention
from stratos.contrib.cpu.attention import LONGEST, attend, attend_behind, pays
from stratos.core.machine import multiplies_bf16
from stratos.distill.speedups import Speedups


def _states(length: int, spread: float = 1.0) -> list[Tensor]:
    torch.manual_seed(0)
    shape = (3, 2, length, 32)
    return [torch.randn(shape) * scale for scale in (spread, spread, 1.0, 1.0)]


def _passed(states: list[Tensor], dtype: torch.dtype, ours: bool) -> list[Tensor]:
    """Return the output and the three gradients, in double precision."""
    *inputs, grad = (one.bfloat16().to(dtype) for one in states)
    leaves = [one.requires_grad_() for one in inputs]
    out = attend(*leaves) if ours else F.scaled_dot_product_attention(*leaves, is_causal=True)
    out.backward(grad)
    return [
        out.detach().double(),
        *(leaf.grad.double() for leaf in leaves if leaf.grad is not None),
    ]


def _off(of: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(of, exact, strict=True)]


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 130, 200])
def test_output_and_gradients_are_those_of_attention(length):
    states = _states(length)
    exact = _passed(states, torch.float64, ours=False)
    assert len(exact) == 4
    for value, true in zip(_passed(states, torch.bfloat16, ours=True), exact, strict=True):
        assert (value - true).norm() <= 0.01 * true.norm() + 1e-6


@pytest.mark.parametrize("spread", [1.0, 2.0, 3.0])
def test_it_is_as_exact_as_flash_attention(spread):
    """Where a few scores are far above the others, too (a standard deviation of 9)."""
    states = _states(200, spread)
    exact = _passed(states, torch.float64, ours=False)
    ours = _off(_passed(states, torch.bfloat16, ours=True), exact)
    flash = _off(_passed(states, torch.bfloat16, ours=False), exact)
    assert all(a <= 1.5 * b for a, b in zip(ours, flash, strict=True)), (ours, flash)


def test_compiled_it_is_the_same_at_every_length_in_one_graph():
    compiled = torch.compile(attend, dynamic=True, backend="aot_eager", fullgraph=True)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (70, 130, 200):
            *inputs, _ = (one.bfloat16() for one in _states(length))
            assert torch.equal(compiled(*inputs), attend(*inputs))


def test_under_autocast_its_scores_stay_in_single_precision():
    *inputs, _ = (one.bfloat16() for one in _states(100, 3.0))
    with torch.autocast("cpu", torch.bfloat16):
        under = attend(*inputs)
    assert torch.equal(under, attend(*inputs))


def test_where_it_is_taken():
    assert pays(torch.zeros(1, 2, LONGEST, 32, dtype=torch.bfloat16)) == (multiplies_bf16())
    assert not pays(torch.zeros(1, 2, LONGEST + 1, 32, dtype=torch.bfloat16))
    assert not pays(torch.zeros(1, 2, 64, 32))


@pytest.mark.parametrize(("n", "several"), [(52, 21), (1, 1), (3, 64), (40, 8)])
def test_heads_and_documents_are_taken_in_powers_of_two(n, several):
    chunks = list(attention._chunks(n, several))
    sizes = [high - low for low, high in chunks]
    assert sum(sizes) == n
    assert [low for low, _ in chunks] == [sum(sizes[:k]) for k in range(len(sizes))]
    assert all(size <= several and size.bit_count() == 1 for size in sizes)


def test_a_beginning_gets_the_gradients_of_any_number_of_documents():
    """A sum in bfloat16 over the queries of so many is off by 0.8% and more."""
    torch.manual_seed(0)
    query, key, value, grad = torch.randn(4, 400, 2, 28, 16).bfloat16()
    grad = grad + torch.randn(1, 2, 1, 16).bfloat16()  # what all documents have in common
    states = [query, key, value, *torch.randn(2, 1, 2, 73, 16).bfloat16()]
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        query, key, value, *before = (
            tensor.to(dtype).detach().requires_grad_() for tensor in states
        )
        if dtype == torch.bfloat16:
            out = attend_behind(query, key, value, (before[0], before[1]), None)
        else:
            out = Speedups().attention(query, key, value, None, 0.0, (before[0], before[1]))
        out.backward(grad.to(dtype))
        gradients.append([tensor.grad.double() for tensor in before])
    for ours, true in zip(*gradients, strict=True):
        assert (ours - true).norm() < 0.004 * true.norm()
