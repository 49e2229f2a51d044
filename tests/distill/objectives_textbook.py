"""Objectives as a textbook writes them, in plain autograd: what the tests compare with."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stratos.distill.divergences import DIVERGENCES
from stratos.distill.objectives import Objective

KL = [name for name in DIVERGENCES if name != "universal_logit"]


def reference(objective: Objective, student: Tensor, teacher: Tensor) -> Tensor:
    """Return each place's divergence by the textbook; student (M, V), teacher (M, V)."""
    hot = objective.temperature
    log_q, log_p = (student / hot).log_softmax(-1), (teacher / hot).log_softmax(-1)
    q, p = log_q.exp(), log_p.exp()
    name, beta, alpha = objective.divergence, objective.beta, objective.alpha
    if name == "universal_logit":
        width = max(q.shape[1], p.shape[1])
        q, p = (F.pad(x, (0, width - x.shape[1])) for x in (q, p))
        gap = q.sort(-1, descending=True).values - p.sort(-1, descending=True).values
        return gap.abs().sum(-1) * hot
    if name == "jsd" and 0 < beta < 1:
        m = beta * p + (1 - beta) * q
        both = beta * p * (log_p - m.log()) + (1 - beta) * q * (log_q - m.log())
        return both.sum(-1) * hot**2
    if name == "skew_kl":
        return (p * (log_p - (alpha * p + (1 - alpha) * q).log())).sum(-1) * hot**2
    if name == "skew_reverse_kl":
        return (q * (log_q - ((1 - alpha) * p + alpha * q).log())).sum(-1) * hot**2
    if name == "forward_kl" or (name == "jsd" and beta == 0):
        return (p * (log_p - log_q)).sum(-1) * hot**2
    assert name in ("reverse_kl", "jsd"), f"write the formula of {name} here"
    return (q * (log_q - log_p)).sum(-1) * hot**2


def plain(
    objective: Objective,
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    mask: Tensor,
    n_tokens: int,
) -> Tensor:
    """Return the whole objective by the textbook, from (N, V) and (N, U)."""
    if objective.divergence != "universal_logit":
        shared = min(student.shape[1], teacher.shape[1])
        student, teacher = student[:, :shared], teacher[:, :shared]
    entropy = F.cross_entropy(student, targets, reduction="none")
    both = (1 - objective.cross_entropy) * reference(objective, student, teacher)
    both = both + objective.cross_entropy * entropy
    return both[mask].sum() / max(1, n_tokens)


def compare(ours: Tensor, theirs: Tensor, *leaves: Tensor, scale: float = 1) -> None:
    """Compare a loss, whose rounding errors were multiplied by `scale`, and its gradients."""
    gradients = torch.autograd.grad(ours, leaves, allow_unused=True)
    expected = torch.autograd.grad(theirs, leaves, allow_unused=True)
    torch.testing.assert_close(ours, theirs, atol=1e-6 * max(1, scale), rtol=1e-6)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient is not None and wanted is not None
        torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-6)
