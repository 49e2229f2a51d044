"""Sparse signals: top-k with a tail bucket, sampled tokens, shared tokens of two vocabularies."""

import objectives_functional as objectives
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives_textbook import KL, compare, reference
from torch import Tensor

from stratos.distill.objectives.base import Objective
from stratos.distill.objectives.signals import Dense, Sampled, Shared, TopK


def buckets(logprobs: Tensor, ids: list[int]) -> Tensor:
    """Return the log-probabilities of these tokens and of all others together; (len + 1,)."""
    others = torch.ones_like(logprobs, dtype=torch.bool)
    others[ids] = False
    return torch.cat([logprobs[ids], logprobs[others].logsumexp(0, keepdim=True)])


@given(
    st.sampled_from(KL),
    st.integers(1, 8),
    st.booleans(),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([1, 2, 64]),
    st.integers(0, 10**6),
)
@settings(max_examples=100)
def test_top_k_equals_buckets_in_plain_autograd(
    name: str, k: int, forced: bool, hot: float, block: int, seed: int
) -> None:
    torch.manual_seed(seed)
    objective = Objective(name, beta=0.3, temperature=hot)
    student = (2 * torch.randn(5, 20)).requires_grad_()
    teacher, targets = 2 * torch.randn(5, 20), torch.randint(20, (5,))
    signal = TopK.of(teacher, k, targets if forced else None, hot)
    mask = torch.rand(5) < 0.7
    ours = objectives.logits_loss(student, signal, objective, 3, mask, block=block)
    total = torch.zeros(())
    for row in range(5):
        ids = [id_ for id_ in signal.ids_MK[row].tolist() if id_ >= 0]
        assert not forced or targets[row] in ids
        assert len(ids) == len(set(ids))
        if mask[row]:
            log_q = buckets((student[row] / hot).log_softmax(0), ids)
            log_p = buckets((teacher[row] / hot).log_softmax(0), ids)
            one = Objective(name, beta=0.3)  # buckets are at the temperature already
            total = total + reference(one, log_q[None], log_p[None])[0] * hot**2 / 3
    if mask.any():
        compare(ours, total, student, scale=hot**2)


@pytest.mark.parametrize("name", KL)
def test_top_k_of_all_tokens_is_the_dense_divergence(name: str) -> None:
    torch.manual_seed(0)
    student = torch.randn(6, 14, requires_grad=True)
    teacher, objective = torch.randn(6, 14), Objective(name)
    compare(
        objectives.top_k(student, TopK.of(teacher, 14), objective=objective),
        objectives.logits_loss(student, Dense(teacher), objective),
        student,
    )


def test_top_k_is_not_renormalised() -> None:
    """A student that gives a token its true 0.5 is at the minimum; renormalised it would want 1."""
    teacher = torch.tensor([[0.5, 0.25, 0.25]]).log()
    student = teacher.clone().requires_grad_()
    loss = objectives.top_k(student, TopK.of(teacher, 1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-6) and gradient.abs().max() < 1e-6


def test_empty_and_foreign_slots_hold_nothing() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(2, 6, requires_grad=True), torch.randn(2, 6)
    full = TopK.of(teacher, 2)
    padded = TopK(
        torch.cat([torch.full((2, 1), -1), full.ids_MK, torch.full((2, 1), 9)], 1),
        torch.cat([torch.zeros(2, 1), full.logprobs_MK, torch.zeros(2, 1)], 1),
    )
    compare(objectives.top_k(student, padded), objectives.top_k(student, full), student)
    told = TopK(full.ids_MK, full.logprobs_MK)  # the tail is what is left to 1
    compare(objectives.top_k(student, told), objectives.top_k(student, full), student)
    nothing = TopK(torch.full((2, 1), -1), torch.zeros(2, 1))
    loss = objectives.top_k(student, nothing)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-6) and gradient.abs().max() < 1e-6


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_sampled_tokens_are_an_unbiased_estimate(power: float) -> None:
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(1, 12, generator=generator).requires_grad_()
    teacher = torch.randn(1, 12, generator=generator)
    exact = objectives.divergence("forward_kl", student, teacher)
    (expected,) = torch.autograd.grad(exact, student)
    n = 40_000
    many = student.expand(n, 12)
    signal = Sampled.of(teacher.expand(n, 12), 3, power=power, generator=generator)
    loss = objectives.sampled(many, signal)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(exact.item(), abs=0.02)
    torch.testing.assert_close(gradient, expected, atol=0.01, rtol=0)
    top = objectives.top_k(student, TopK.of(teacher, 3))
    assert (torch.autograd.grad(top, student)[0] - expected).abs().max() > 0.01


def test_sampled_equals_plain_autograd() -> None:
    torch.manual_seed(3)
    student, teacher = torch.randn(4, 10, requires_grad=True), torch.randn(4, 10)
    signal = Sampled.of(teacher, 5, temperature=2.0)
    mask = torch.tensor([True, False, True, True])
    assert signal.logprobs_MS is not None
    for logprobs in (signal.logprobs_MS, None):  # without them: another value, the same gradient
        log_q = (student / 2).log_softmax(1).gather(1, signal.ids_MS)
        gap = -log_q if logprobs is None else logprobs - log_q
        total = (signal.weights_MS * gap).sum(1) * 4
        given = Sampled(signal.ids_MS, signal.weights_MS, logprobs)
        ours = objectives.sampled(student, given, 3, mask, temperature=2.0)
        compare(ours, total[mask].sum() / 3, student)


@pytest.mark.parametrize("name", KL)
def test_shared_tokens_equal_buckets_in_plain_autograd(name: str) -> None:
    torch.manual_seed(4)
    student, teacher = torch.randn(5, 9, requires_grad=True), torch.randn(5, 14)
    ours_K, theirs_K = torch.tensor([1, 4, 8]), torch.tensor([13, 0, 6])
    objective = Objective(name, temperature=1.5)
    signal = Shared(Dense(teacher), ours_K, theirs_K)
    total = torch.zeros(())
    for row in range(5):
        log_q = buckets((student[row] / 1.5).log_softmax(0), ours_K.tolist())
        log_p = buckets((teacher[row] / 1.5).log_softmax(0), theirs_K.tolist())
        total = total + reference(Objective(name), log_q[None], log_p[None])[0] * 1.5**2 / 5
    compare(objectives.logits_loss(student, signal, objective), total, student)
