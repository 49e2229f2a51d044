"""The objective of a training: a divergence from the teacher's signal, mixed with cross-entropy.

A signal has for each learned position hidden states, dense logits, the top-k or sampled tokens. Of
a sparse one, the K tokens that are given are outcomes of their own, all the others are one: the
divergence is taken over K + 1 outcomes. Its gradient at a given token is that token's, and the
tail's gradient is spread over the other tokens in proportion to the student's own probabilities
there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from stratos.core.errors import ConfigError, StratosError
from stratos.distill import kernels
from stratos.distill.divergences import Divergence, divergence, wrong_parameters
from stratos.distill.kernels import FLOOR, TINY, Scratch, softmax_

EMPTY = -1
"""Id of a slot of a sparse signal that holds nothing."""


@dataclass(frozen=True)
class LMHead:
    """A linear head: logits = softcap(scale * (hidden @ weight.T + bias)).

    weight_VH (V, H) and bias_V (V,). `scale` and `softcap` (cap * tanh(x / cap)) are what some
    model families put behind the projection.
    """

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @staticmethod
    def of(model: Any) -> LMHead:
        """Return the head of a Hugging Face causal language model."""
        linear, config = model.get_output_embeddings(), model.config
        scale = getattr(config, "logit_scale", None) or 1.0
        scale /= getattr(config, "logits_scaling", None) or 1.0
        softcap = getattr(config, "final_logit_softcapping", None)
        return LMHead(linear.weight, getattr(linear, "bias", None), scale, softcap)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of hidden states (..., H)."""
        logits = self.scale * nn.functional.linear(hidden, self.weight_VH, self.bias_V)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


_HEAD_TOLERANCE = 2e-2
"""Relative to the largest logit: bfloat16 rounds products of other shapes differently."""


@torch.no_grad()
def head_is_linear(model: Any) -> bool:
    """Try out whether a model's logits are its linear head's, of what leaves its body.

    Some classes have more layers between the two (ModernBERT's decoder), or multiply where others
    of the same setting divide; no config says so of all of them.
    """
    seen: list[Tensor] = []
    hook = model.base_model.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    try:
        ids_BT = torch.arange(5, device=model.device)[None]
        expected = model(input_ids=ids_BT, use_cache=False).logits.float()
        gap = (LMHead.of(model).logits(seen[-1]).float() - expected).abs().max()
    except (TypeError, RuntimeError, AttributeError, IndexError):
        return False
    finally:
        hook.remove()
    return bool(gap <= _HEAD_TOLERANCE * expected.abs().max().clamp(min=1e-6))


def check_head(name: str, model: Any) -> None:
    """Refuse a student whose loss would be that of other logits than it answers with.

    Raises:
        StratosError: it is such a model.
    """
    was_training = model.training
    model.train()  # bitsandbytes lays weights in 4 bits out anew for evaluation
    is_linear = head_is_linear(model)
    model.train(was_training)
    if not is_linear:
        raise StratosError(
            f"The student {name} cannot be trained here: the head of {type(model).__name__} is "
            "more than one linear layer. Choose a student of another family, such as Llama, Qwen, "
            "Gemma or Mistral: student=<name>, or student=local student.path=<folder>."
        )


@dataclass(frozen=True)
class Hidden:
    """The teacher's last hidden states and its head; logits exist only chunk by chunk.

    hidden_NH (N, H) or (..., H); rows_M: the learned places among them, None for all of them.
    layers_LNH: what each layer says at the same N places, 0 being the embedding, where a strategy
    matches them (`HiddenMatch`).
    """

    hidden_NH: Tensor
    head: LMHead
    rows_M: Tensor | None = None
    layers_LNH: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Dense:
    """Logits (or log-probabilities) of the learned places, (M, V)."""

    logits_MV: Tensor


@dataclass(frozen=True)
class TopK:
    """Log-probabilities of some tokens under the full softmax; the others share the rest.

    ids_MK, logprobs_MK (M, K), at the temperature of the objective. A slot with id -1 is empty.
    The probabilities are never renormalised: what they leave to 1 is the tail's. tail_M (M,) is
    the tail's log-probability, for where 1 minus a sum of rounded numbers is not exact enough.
    n_ids are the ids that mean something: a student's logits beyond them, which its embedding is
    padded with, are cut off. None takes all.
    """

    ids_MK: Tensor
    logprobs_MK: Tensor
    tail_M: Tensor | None = None
    n_ids: int | None = None

    @staticmethod
    def of(
        logits_MV: Tensor, k: int, targets_M: Tensor | None = None, temperature: float = 1.0
    ) -> TopK:
        """Keep the k likeliest tokens, and the target (M,) of each place where it is not one.

        With targets there are k + 1 slots; the last is empty where the target is among the first.
        """
        logits = logits_MV.float() / temperature
        top, ids = logits.topk(min(k, logits.shape[1]), dim=1)
        if targets_M is not None:
            target = targets_M[:, None]
            there = (ids == target).any(1, keepdim=True)
            ids = torch.cat([ids, torch.where(there, EMPTY, target)], 1)
            top = torch.cat([top, logits.gather(1, target)], 1)
        normalizer = logits.logsumexp(1, keepdim=True)
        # An empty slot points at the likeliest token, which is taken out of the tail anyway.
        listed = torch.where(ids == EMPTY, ids[:, :1], ids)
        tail = logits.scatter(1, listed, -torch.inf).logsumexp(1) - normalizer[:, 0]
        return TopK(ids, top - normalizer, tail)


@dataclass(frozen=True)
class Sampled:
    """Tokens drawn from the teacher, an unbiased estimate of its distribution.

    ids_MS, weights_MS (M, S): the expectation of the sum of the weights that fall on a token is
    its probability. Random sampling distillation, arXiv 2503.16870; top-k, renormalised or not,
    is biased. logprobs_MS, where there, makes the loss an estimate of the divergence; without it
    the loss is the cross-entropy with the teacher, which has the same gradient. n_ids as in `TopK`.
    """

    ids_MS: Tensor
    weights_MS: Tensor
    logprobs_MS: Tensor | None = None
    n_ids: int | None = None

    @staticmethod
    def of(
        logits_MV: Tensor,
        n: int,
        temperature: float = 1.0,
        power: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Sampled:
        """Draw n tokens a place from p^power, weighted by importance; power 1 draws from p."""
        logprobs = (logits_MV.float() / temperature).log_softmax(1)
        proposal = (logprobs * power).log_softmax(1)
        ids = torch.multinomial(proposal.exp(), n, replacement=True, generator=generator)
        picked = logprobs.gather(1, ids)
        weights = (picked - proposal.gather(1, ids)).exp() / n
        return Sampled(ids, weights, picked)


@dataclass(frozen=True)
class Shared:
    """A teacher with another vocabulary, seen through the tokens that both vocabularies have.

    student_ids_K, teacher_ids_K (K,): ids of the same text in each vocabulary. All other tokens
    of a side are one bucket, so that both sides are distributions over the same K + 1 outcomes.
    """

    teacher: Hidden | Dense
    student_ids_K: Tensor
    teacher_ids_K: Tensor


Signal = Hidden | Dense | TopK | Sampled | Shared


def dense_side(signal: Signal | None) -> Hidden | Dense | None:
    """Return the part of a signal that has logits of a whole vocabulary, if any."""
    if isinstance(signal, Shared):
        return signal.teacher
    return signal if isinstance(signal, Hidden | Dense) else None


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
