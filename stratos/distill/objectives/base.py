"""The objective of a training: a divergence from the teacher, mixed with cross-entropy.

Of a sparse signal, the K tokens that are given are outcomes of their own, all the others are one:
the divergence is taken over K + 1 outcomes. Its gradient at a given token is that token's, and the
tail's gradient is spread over the other tokens in proportion to the student's own probabilities
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor

from stratos.core.errors import ConfigError
from stratos.distill.divergences import Divergence, divergence, wrong_parameters
from stratos.distill.objectives import kernels
from stratos.distill.objectives.kernels import FLOOR, TINY, Scratch, softmax_
from stratos.distill.objectives.signals import Dense, Hidden, Sampled, Shared, Signal, TopK

Kernel = Callable[[Tensor, Tensor, Scratch], Tensor]


@dataclass(frozen=True)
class Objective:
    """(1 - cross_entropy) * T^2 * divergence + cross_entropy * CE, summed over tokens.

    The gradient of a divergence of softmax(z / T) shrinks as 1 / T^2: one 1 / T comes from z / T,
    the other from p - q, which at a high temperature is about (z_p - z_q) / (V T). T^2 keeps its
    weight against cross-entropy, which is always at temperature 1 (arXiv 1503.02531, section 2).
    The sorted L1 distance is not quadratic in p - q: it loses one 1 / T, and T restores it.
    """

    divergence: str = "forward_kl"
    """The name of one of `stratos.distill.divergences`."""
    beta: float = 0.5
    """Of jsd: the teacher's share of the mixture; 0 is forward KL, 1 is reverse KL, as in GKD."""
    alpha: float = 0.1
    """Of the skew divergences: how much of the first distribution is mixed into the second."""
    temperature: float = 1.0
    """Both sides' logits are divided by it; sparse signals were made at it."""
    cross_entropy: float = 0.0
    """Share of the cross-entropy on the text; 1 needs no teacher."""
    parameters: tuple[tuple[str, float], ...] = ()
    """Of a divergence with other parameters than beta and alpha: names and values."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a value is out of its range.
        """
        if reason := wrong_parameters(self.divergence, dict(self.parameters)):
            raise ConfigError(str(reason))
        shares = {"beta": self.beta, "alpha": self.alpha, "cross_entropy": self.cross_entropy}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value} is not between 0 and 1.")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature} is not above 0.")

    @property
    def _values(self) -> dict[str, float]:
        """Return all parameters that there are."""
        return {"beta": self.beta, "alpha": self.alpha, **dict(self.parameters)}

    @property
    def _is(self) -> Divergence:
        """Return what it computes: a limit of a mixture is its limit, not a division by 0."""
        named = divergence(self.divergence)
        return named.at(named.values(self._values))

    @property
    def kernel(self) -> Kernel:
        """Return the in-place kernel."""
        chosen = self._is
        values = chosen.values(self._values)
        return partial(chosen.kernel(), **values) if values else chosen.kernel()

    def check_signal(self, signal: Signal | None) -> None:
        """Refuse a signal that this objective cannot use.

        Raises:
            ConfigError: the two do not go together.
        """
        if signal is None and self.cross_entropy < 1:
            raise ConfigError(
                f"The objective {self.divergence} needs a teacher's signal. "
                "Without one: cross_entropy=1"
            )
        if isinstance(signal, Sampled) and not self._is.reads_drawn_tokens:
            raise ConfigError(
                f"Sampled tokens estimate the forward KL, not {self.divergence}: "
                "divergence=forward_kl, or a dense or top-k signal."
            )
        if self._is.reads_any_vocabulary and isinstance(signal, TopK | Sampled | Shared):
            raise ConfigError(
                f"{self.divergence} compares whole distributions: give dense logits or hidden "
                "states, or take another divergence."
            )

    def widths(self, student: int, signal: Signal | None, teacher: int) -> tuple[int, int]:
        """Return how many logits of student and teacher count, out of so many each.

        Models of one family pad one vocabulary to different widths: the shared part is taken, and
        the distributions are over it alone. Vocabularies that differ keep their own widths. What is
        said of some tokens says which ids there are.
        """
        if isinstance(signal, TopK | Sampled) and signal.n_ids is not None:
            return min(student, signal.n_ids), teacher
        alike = isinstance(signal, Hidden | Dense) and not self._is.reads_any_vocabulary
        return (min(student, teacher),) * 2 if alike else (student, teacher)

    def weigh(self, divergence: Tensor, entropy: Tensor) -> Tensor:
        """Return the mixture of a divergence and a cross-entropy."""
        return (1 - self.cross_entropy) * divergence + self.cross_entropy * entropy

    def block_(
        self,
        student_RV: Tensor,
        teacher_RU: Tensor | None,
        signal: Signal | None,
        rows: slice | Tensor,
        targets_R: Tensor | None,
        scratch: Scratch,
    ) -> tuple[Tensor, Tensor]:
        """Return divergence (with T^2) and cross-entropy of each row, unweighted; (R,) each.

        student_RV and teacher_RU are float32 logits and are overwritten; the student's buffer ends
        as the gradient of the weighted sum. `rows` are the block's places in a sparse signal.
        """
        student_RV.clamp_(min=FLOOR)
        share, hot = self.cross_entropy, self.temperature
        if share == 1:
            assert targets_R is not None, "cross-entropy needs targets"
            entropy_R = kernels.cross_entropy_(student_RV, targets_R)
            return torch.zeros_like(entropy_R), entropy_R
        if share:
            assert targets_R is not None, "cross-entropy needs targets"
            hard_RV = scratch.like("hard", student_RV).copy_(student_RV)
            entropy_R = kernels.cross_entropy_(hard_RV, targets_R)
        else:
            entropy_R = student_RV.new_zeros(len(student_RV))
        if hot != 1:
            student_RV.mul_(1 / hot)
        if teacher_RU is not None:
            if hot != 1:
                teacher_RU.mul_(1 / hot)
            teacher_RU.clamp_(min=FLOOR)
        if isinstance(signal, TopK):
            tail_R = None if signal.tail_M is None else signal.tail_M[rows]
            divergence_R = top_k_(
                student_RV, signal.ids_MK[rows], signal.logprobs_MK[rows], tail_R, self.kernel
            )
        elif isinstance(signal, Sampled):
            logprobs = None if signal.logprobs_MS is None else signal.logprobs_MS[rows]
            divergence_R = sampled_(
                student_RV, signal.ids_MS[rows], signal.weights_MS[rows], logprobs
            )
        elif isinstance(signal, Shared):
            assert teacher_RU is not None
            divergence_R = shared_(
                student_RV, signal.student_ids_K, teacher_RU, signal.teacher_ids_K, self.kernel
            )
        else:
            assert teacher_RU is not None
            divergence_R = self.kernel(student_RV, teacher_RU, scratch)
        power = prod([hot] * self._is.temperature_power)
        if (factor := (1 - share) * power / hot) != 1:
            student_RV.mul_(factor)
        if share:
            student_RV.add_(hard_RV, alpha=share)
        return divergence_R.mul_(power), entropy_R


def with_tail(
    logprobs_RK: Tensor, empty_RK: Tensor, tail_R: Tensor | None, cut_R: Tensor
) -> Tensor:
    """Return (R, K + 1): the log-probabilities, and that of all tokens that are not given.

    The tail is what is left to 1 where nothing else is told, or a given token was cut off.
    """
    logprobs_RK = logprobs_RK.float().masked_fill(empty_RK, FLOOR)
    rest_R = 1 - logprobs_RK.double().exp().sum(1)
    rest_R = rest_R.clamp_(min=TINY).log_().float()
    if tail_R is not None:
        rest_R = torch.where(cut_R, rest_R, tail_R.float())
    return torch.cat([logprobs_RK, rest_R[:, None]], 1).clamp_(min=FLOOR)


def top_k_(
    student_RV: Tensor,
    ids_RK: Tensor,
    logprobs_RK: Tensor,
    tail_R: Tensor | None,
    kernel: Kernel,
) -> Tensor:
    """Apply a dense kernel to K tokens and a tail; ids outside the vocabulary are empty slots."""
    cut_RK = ids_RK >= student_RV.shape[1]
    empty_RK = (ids_RK < 0) | cut_RK
    buckets_p = with_tail(logprobs_RK, empty_RK, tail_R, cut_RK.any(1))
    # An empty slot points at the first given token: it reads what is masked and adds 0.
    first_R1 = ids_RK.gather(1, (~empty_RK).to(torch.uint8).argmax(1, keepdim=True))
    first_R1 = first_R1.clamp(0, student_RV.shape[1] - 1)
    ids_RK = torch.where(empty_RK, first_R1, ids_RK)
    return _buckets_(student_RV, ids_RK, empty_RK, buckets_p, kernel)


def shared_(
    student_RV: Tensor,
    student_ids_K: Tensor,
    teacher_RU: Tensor,
    teacher_ids_K: Tensor,
    kernel: Kernel,
) -> Tensor:
    """Apply a dense kernel to the tokens that two vocabularies share, and a tail on each side."""
    picked_RK = teacher_RU.index_select(1, teacher_ids_K)
    normalizer_R1 = softmax_(teacher_RU, teacher_RU)
    tail_R1 = teacher_RU.index_fill_(1, teacher_ids_K, 0).sum(1, keepdim=True)
    buckets_p = torch.cat([picked_RK - normalizer_R1, tail_R1.clamp_(min=TINY).log_()], 1)
    ids_RK = student_ids_K.expand(len(student_RV), -1)
    return _buckets_(student_RV, ids_RK, None, buckets_p, kernel)


def _buckets_(
    student_RV: Tensor,
    ids_RK: Tensor,
    empty_RK: Tensor | None,
    buckets_p: Tensor,
    kernel: Kernel,
) -> Tensor:
    picked_RK = student_RV.gather(1, ids_RK)
    normalizer_R1 = softmax_(student_RV, student_RV)
    given_RK = picked_RK - normalizer_R1
    if empty_RK is not None:
        given_RK.masked_fill_(empty_RK, FLOOR)
    tail_R1 = student_RV.scatter_(1, ids_RK, 0.0).sum(1, keepdim=True).clamp_(min=TINY)
    buckets_q = torch.cat([given_RK, tail_R1.log()], 1)
    loss_R = kernel(buckets_q, buckets_p, Scratch())
    student_RV.mul_(buckets_q[:, -1:] / tail_R1)
    student_RV.scatter_add_(1, ids_RK, buckets_q[:, :-1])
    return loss_R


def sampled_(
    student_RV: Tensor, ids_RS: Tensor, weights_RS: Tensor, logprobs_RS: Tensor | None
) -> Tensor:
    """Estimate the forward KL from drawn tokens: sum of w (log p - log q) over them."""
    weights_RS = weights_RS.float()
    picked_RS = student_RV.gather(1, ids_RS)
    log_q_RS = picked_RS - softmax_(student_RV, student_RV)
    student_RV.mul_(weights_RS.sum(1, keepdim=True))
    student_RV.scatter_add_(1, ids_RS, -weights_RS)
    gap_RS = -log_q_RS if logprobs_RS is None else logprobs_RS.float() - log_q_RS
    return gap_RS.mul_(weights_RS).sum(1)
