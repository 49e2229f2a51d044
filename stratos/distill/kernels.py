"""Divergences between two softmax distributions with their gradients, computed in place.

A kernel takes float32 logits of student and teacher, (R, V) each, and overwrites both. It returns
the divergence of each row, (R,), and leaves in the student's buffer its gradient with respect to
the student's logits. p is the teacher's distribution, q the student's. There is one exponential
per side and no temporary beyond `Scratch`: a row block that fits the cache costs what its softmax
costs.

Divergences are sums of p * log-ratios, never differences of entropies, which would cancel where the
student is close to the teacher.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FLOOR = -1e4
"""Least logit: tokens that a model forbids (minus infinity) get probability 0 without 0 * inf."""
CACHED = 2**18
"""Elements of a row block for each thread: a few such float32 buffers fit the caches."""
TINY = torch.finfo(torch.float32).tiny


class Scratch:
    """Float32 buffers that are made once and used for every block."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def like(self, name: str, block: Tensor) -> Tensor:
        """Return the buffer of this name in the shape of `block`, with any content."""
        flat = self._flat.get(name)
        if flat is None or flat.numel() < block.numel():
            flat = torch.empty(block.numel(), dtype=torch.float32, device=block.device)
            self._flat[name] = flat
        return flat[: block.numel()].view(block.shape)


def block_rows(n_vocab: int, device: torch.device) -> int:
    """Return how many rows kernels take at once: what fits the caches, a row a thread at least."""
    threads = torch.get_num_threads()
    elements = CACHED * threads if device.type == "cpu" else 2**26
    return max(threads, elements // n_vocab)


def softmax_(logits_RV: Tensor, out_RV: Tensor) -> Tensor:
    """Write the softmax to `out_RV`, which may be the logits' own, and return the log normalizer.

    The normalizer, (R, 1), is read off the largest entry: no second pass of exponentials.
    """
    top_R1 = logits_RV.amax(1, keepdim=True)
    torch.softmax(logits_RV, 1, out=out_RV)
    return top_R1 - out_RV.amax(1, keepdim=True).log_()


def cross_entropy_(student_RV: Tensor, targets_R: Tensor) -> Tensor:
    """Cross-entropy of the targets; gradient q - 1[target]."""
    targets_R1 = targets_R[:, None]
    picked_R1 = student_RV.gather(1, targets_R1)
    loss_R1 = softmax_(student_RV, student_RV) - picked_R1
    student_RV.scatter_add_(1, targets_R1, torch.full_like(picked_R1, -1.0))
    return loss_R1[:, 0]


def forward_kl_(student_RV: Tensor, teacher_RV: Tensor, scratch: Scratch) -> Tensor:
    """KL(p || q); gradient q - p."""
    p_RV = scratch.like("p", teacher_RV)
    normalizer_p = softmax_(teacher_RV, p_RV)
    teacher_RV.sub_(student_RV)
    normalizer_q = softmax_(student_RV, student_RV)
    loss_R = teacher_RV.mul_(p_RV).sum(1) - (normalizer_p - normalizer_q)[:, 0]
    student_RV.sub_(p_RV)
    return loss_R


def reverse_kl_(student_RV: Tensor, teacher_RV: Tensor, scratch: Scratch) -> Tensor:
    """KL(q || p); gradient q (log q/p - KL)."""
    q_RV = scratch.like("q", student_RV)
    normalizer_q = softmax_(student_RV, q_RV)
    student_RV.sub_(teacher_RV)
    normalizer_p = softmax_(teacher_RV, teacher_RV)
    loss_R = student_RV.sub_(normalizer_q - normalizer_p).mul_(q_RV).sum(1)
    student_RV.addcmul_(q_RV, loss_R[:, None], value=-1)
    return loss_R


def jsd_(student_RV: Tensor, teacher_RV: Tensor, scratch: Scratch, beta: float) -> Tensor:
    """Return beta KL(p || m) + (1 - beta) KL(q || m), with m = beta p + (1 - beta) q.

    The gradient is (1 - beta) q (log q/m - KL(q || m)); source: GKD, arXiv 2306.13649, equation 1.
    """
    p_RV, q_RV = scratch.like("p", teacher_RV), scratch.like("q", student_RV)
    log_m_RV = scratch.like("m", student_RV)
    normalizer_p, normalizer_q = softmax_(teacher_RV, p_RV), softmax_(student_RV, q_RV)
    torch.lerp(q_RV, p_RV, beta, out=log_m_RV).clamp_(min=TINY).log_()
    kl_p_R = teacher_RV.sub_(normalizer_p).sub_(log_m_RV).mul_(p_RV).sum(1)
    kl_q_R = student_RV.sub_(normalizer_q).sub_(log_m_RV).mul_(q_RV).sum(1)
    student_RV.addcmul_(q_RV, kl_q_R[:, None], value=-1).mul_(1 - beta)
    return beta * kl_p_R + (1 - beta) * kl_q_R


def skew_kl_(student_RV: Tensor, teacher_RV: Tensor, scratch: Scratch, alpha: float) -> Tensor:
    """KL(p || m) with m = alpha p + (1 - alpha) q (DistiLLM, arXiv 2402.03898).

    The gradient is (1 - alpha) (q sum(u) - u), with u = p q / m.
    """
    p_RV, q_RV = scratch.like("p", teacher_RV), scratch.like("q", student_RV)
    m_RV = scratch.like("m", student_RV)
    normalizer_p = softmax_(teacher_RV, p_RV)
    softmax_(student_RV, q_RV)
    torch.lerp(q_RV, p_RV, alpha, out=m_RV).clamp_(min=TINY)
    u_RV = torch.mul(q_RV, p_RV, out=student_RV).div_(m_RV)
    q_RV.mul_(u_RV.sum(1, keepdim=True))
    torch.sub(q_RV, u_RV, out=student_RV).mul_(1 - alpha)
    return teacher_RV.sub_(normalizer_p).sub_(m_RV.log_()).mul_(p_RV).sum(1)


def skew_reverse_kl_(
    student_RV: Tensor, teacher_RV: Tensor, scratch: Scratch, alpha: float
) -> Tensor:
    """KL(q || m) with m = (1 - alpha) p + alpha q (DistiLLM, arXiv 2402.03898).

    The gradient is q (a - sum(q a)), with a = log q/m - alpha q/m.
    """
    p_RV, q_RV = scratch.like("p", teacher_RV), scratch.like("q", student_RV)
    m_RV = scratch.like("m", student_RV)
    softmax_(teacher_RV, p_RV)
    normalizer_q = softmax_(student_RV, q_RV)
    torch.lerp(p_RV, q_RV, alpha, out=m_RV).clamp_(min=TINY)
    share_RV = torch.div(q_RV, m_RV, out=teacher_RV)
    student_RV.sub_(normalizer_q).sub_(m_RV.log_())
    loss_R = torch.mul(student_RV, q_RV, out=m_RV).sum(1)
    student_RV.sub_(share_RV, alpha=alpha).mul_(q_RV)
    student_RV.addcmul_(q_RV, student_RV.sum(1, keepdim=True), value=-1)
    return loss_R


def universal_logit_(student_RV: Tensor, teacher_RU: Tensor, scratch: Scratch) -> Tensor:
    """Return the L1 distance of the sorted probabilities (ULD, arXiv 2402.12030), V and U free.

    It is the Wasserstein distance of two distributions whose tokens cannot be told apart. The
    gradient is q (s - sum(q s)), where s is the sign of the difference at the token's rank.
    """
    q_RV = scratch.like("q", student_RV)
    softmax_(student_RV, q_RV)
    softmax_(teacher_RU, teacher_RU)
    n_q, n_p = q_RV.shape[1], teacher_RU.shape[1]
    n = min(n_q, n_p)
    order_RV = _order(q_RV)
    difference_RV = q_RV.gather(1, order_RV)
    sorted_p_RU = _sorted(teacher_RU)
    rest_R = sorted_p_RU[:, : n_p - n].sum(1)
    difference_RV[:, n_q - n :].sub_(sorted_p_RU[:, n_p - n :])
    loss_R = difference_RV.abs().sum(1) + rest_R
    student_RV.scatter_(1, order_RV, difference_RV.sign_())
    student_RV.mul_(q_RV)
    student_RV.addcmul_(q_RV, student_RV.sum(1, keepdim=True), value=-1)
    return loss_R


def _order(values_RV: Tensor) -> Tensor:
    """Return the indices that sort each row, the smallest first.

    On a CPU by numpy, whose vectorised sort takes a sixth of torch's time or less.
    """
    if values_RV.device.type != "cpu":
        return values_RV.argsort(1)
    return torch.from_numpy(np.argsort(values_RV.numpy(), axis=1))


def _sorted(values_RV: Tensor) -> Tensor:
    """Return each row sorted, the smallest first; see `_order`."""
    if values_RV.device.type != "cpu":
        return values_RV.sort(1).values
    return torch.from_numpy(np.sort(values_RV.numpy(), axis=1))
