"""Every objective against plain autograd, in value and gradient, in float32."""

from typing import Any

import objectives_functional as objectives
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives_textbook import KL, compare, plain, reference
from torch.nn import functional as F

from stratos.core.errors import ConfigError
from stratos.distill.divergences import DIVERGENCES
from stratos.distill.objectives.base import Objective
from stratos.distill.objectives.signals import Dense, Sampled, TopK


@given(
    st.sampled_from(tuple(DIVERGENCES)),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([1, 3, 64]),
    st.tuples(st.integers(2, 60), st.integers(2, 60)),
    st.integers(0, 10**6),
)
@settings(max_examples=200)
def test_equals_plain_autograd(
    name: str,
    share: float,
    temperature: float,
    mixture: float,
    kept: float,
    block: int,
    widths: tuple[int, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    alpha = min(share, 0.9)
    objective = Objective(name, share, alpha, temperature, mixture)
    student = (3 * torch.randn(7, widths[0])).requires_grad_()
    teacher = 3 * torch.randn(7, widths[1])
    targets = torch.randint(min(widths), (7,))
    mask = torch.rand(7) < kept
    ours = objectives.logits_loss(student, Dense(teacher), objective, 5, mask, targets, block)
    expected = plain(objective, student, teacher, targets, mask, 5)
    compare(ours, expected, student, scale=temperature**2)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_functions_take_batches_and_count_their_places(name: str) -> None:
    torch.manual_seed(1)
    student = (3 * torch.randn(2, 3, 11)).requires_grad_()
    teacher, mask = 3 * torch.randn(2, 3, 13), torch.tensor([[1, 0, 1], [1, 1, 0]]).bool()
    ours = objectives.divergence(name, student, teacher, mask=mask, temperature=2.0)
    objective, zeros = Objective(name, temperature=2.0), torch.zeros(6, dtype=torch.long)
    flat = (student.reshape(6, 11), teacher.reshape(6, 13))
    compare(ours, plain(objective, *flat, zeros, mask.reshape(6), 4), student)


def test_cross_entropy_equals_torch() -> None:
    student = torch.randn(2, 4, 9, requires_grad=True)
    targets = torch.randint(9, (2, 4))
    theirs = F.cross_entropy(student.flatten(0, 1), targets.flatten())
    compare(objectives.cross_entropy(student, targets), theirs, student)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_place_at_all_is_zero_with_a_zero_gradient(name: str, dtype: torch.dtype) -> None:
    student = torch.randn(3, 8, dtype=dtype, requires_grad=True)
    mask = torch.zeros(3, dtype=torch.bool)
    loss = objectives.divergence(name, student, torch.randn(3, 8), mask=mask, n_tokens=0)
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


@pytest.mark.parametrize("name", KL)
def test_zero_where_both_agree_and_never_below(name: str) -> None:
    torch.manual_seed(2)
    teacher = 20 * torch.randn(50, 400)
    student = (teacher + 5).requires_grad_()  # a shift changes no distribution
    loss = objectives.divergence(name, student, teacher)
    assert abs(loss.item()) < 1e-5
    assert objectives.divergence(name, 30 * torch.randn(50, 400), teacher).item() > 0.1


@pytest.mark.parametrize("name", DIVERGENCES)
def test_tokens_that_a_model_forbids_do_no_harm(name: str) -> None:
    torch.manual_seed(3)
    student, teacher = torch.randn(4, 12), torch.randn(4, 12)
    student[:, 10:] = teacher[:, 10:] = -torch.inf
    student.requires_grad_()
    loss = objectives.divergence(name, student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    short = student.detach()[:, :10].requires_grad_()
    expected = objectives.divergence(name, short, teacher[:, :10])
    compare(expected, expected, short)
    torch.testing.assert_close(loss, expected)
    assert not gradient[:, 10:].any()
    torch.testing.assert_close(gradient[:, :10], torch.autograd.grad(expected, short)[0])


def test_the_mixtures_limits() -> None:
    """Divided by its vanishing share the divergence goes to the KL that the limit is defined as."""
    torch.manual_seed(4)
    student, teacher = torch.randn(5, 20).double(), torch.randn(5, 20).double()

    def value(**settings: Any) -> float:
        return reference(Objective("jsd", **settings), student, teacher).sum().item()

    small = 1e-5
    forward = objectives.divergence("jsd", student, teacher, 1, beta=0.0).item()
    reverse = objectives.divergence("jsd", student, teacher, 1, beta=1.0).item()
    assert value(beta=small) / small == pytest.approx(forward, rel=1e-3)
    assert value(beta=1 - small) / small == pytest.approx(reverse, rel=1e-3)
    assert forward == pytest.approx(
        objectives.divergence("forward_kl", student, teacher, 1).item(), rel=1e-6
    )
    assert reverse == pytest.approx(
        objectives.divergence("reverse_kl", student, teacher, 1).item(), rel=1e-6
    )


@pytest.mark.parametrize("name", KL)
def test_temperature_keeps_the_size_of_the_gradient(name: str) -> None:
    """T^2 makes the gradient at a high temperature go to a limit, not to 0."""
    torch.manual_seed(5)
    student, teacher = torch.randn(6, 30, requires_grad=True), torch.randn(6, 30)
    norms = []
    for hot in (50.0, 200.0):
        loss = objectives.divergence(name, student, teacher, temperature=hot)
        norms.append(torch.autograd.grad(loss, student)[0].norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.05) and norms[1] > 1e-3


def test_micro_batches_add_up_to_the_batch() -> None:
    torch.manual_seed(6)
    student, teacher = torch.randn(9, 15, requires_grad=True), torch.randn(9, 15)
    whole = objectives.divergence("jsd", student, teacher, 9)
    parts = [
        objectives.divergence("jsd", student[a:b], teacher[a:b], 9) for a, b in ((0, 2), (2, 9))
    ]
    compare(parts[0] + parts[1], whole, student)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"divergence": "foward_kl"}, "Did you mean forward_kl"),
        ({"beta": 1.5}, "beta=1.5 is not between 0 and 1"),
        ({"temperature": 0.0}, "temperature=0.0 is not above 0"),
    ],
)
def test_values_out_of_range_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(**settings_)


def test_signals_that_do_not_go_with_an_objective_are_refused() -> None:
    student = torch.zeros(1, 3)
    drawn = Sampled(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1))
    top = TopK(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1))
    for signal, name, words in (
        (drawn, "jsd", "Sampled tokens estimate the forward KL, not jsd"),
        (top, "universal_logit", "compares whole distributions"),
        (None, "forward_kl", "needs a teacher's signal"),
    ):
        with pytest.raises(ConfigError, match=words):
            objectives.logits_loss(student, signal, Objective(name))
