"""What a student is trained on: objectives, their gradients, and the teacher's signals."""

from stratos.distill.objectives.functional import (
    cross_entropy,
    forward_kl,
    jsd,
    logits_loss,
    reverse_kl,
    sampled,
    skew_kl,
    skew_reverse_kl,
    top_k,
    universal_logit,
)
from stratos.distill.objectives.objective import DIVERGENCES, Objective
from stratos.distill.objectives.signals import (
    Dense,
    Hidden,
    LMHead,
    Sampled,
    Shared,
    Signal,
    TopK,
)

__all__ = [
    "DIVERGENCES",
    "Dense",
    "Hidden",
    "LMHead",
    "Objective",
    "Sampled",
    "Shared",
    "Signal",
    "TopK",
    "cross_entropy",
    "forward_kl",
    "jsd",
    "logits_loss",
    "reverse_kl",
    "sampled",
    "skew_kl",
    "skew_reverse_kl",
    "top_k",
    "universal_logit",
]
