"""The objective of a training: a divergence from the teacher, mixed with cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor

from stratos.core.errors import ConfigError
from stratos.distill.divergences import Divergence, divergence, wrong_parameters
from stratos.distill.objectives import kernels, sparse
from stratos.distill.objectives.kernels import FLOOR, Scratch
from stratos.distill.objectives.signals import Dense, Hidden, Sampled, Shared, Signal, TopK
from stratos.distill.objectives.sparse import Kernel


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
        found = self._is
        values = found.values(self._values)
        return partial(found.kernel(), **values) if values else found.kernel()

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
            divergence_R = sparse.top_k_(
                student_RV, signal.ids_MK[rows], signal.logprobs_MK[rows], tail_R, self.kernel
            )
        elif isinstance(signal, Sampled):
            logprobs = None if signal.logprobs_MS is None else signal.logprobs_MS[rows]
            divergence_R = sparse.sampled_(
                student_RV, signal.ids_MS[rows], signal.weights_MS[rows], logprobs
            )
        elif isinstance(signal, Shared):
            assert teacher_RU is not None
            divergence_R = sparse.shared_(
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
