"""On-policy distillation: the student samples, the teacher scores every token.

What a student learns from the teacher's text it has to do alone from its own beginnings, with its
own mistakes in them. Generalized knowledge distillation: arXiv 2306.13649.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from stratos.config import Count, Share
from stratos.distill.signal_config import OnPolicyConfig
from stratos.synthesize.white_box import DivergenceName, WhiteBox


@dataclass(frozen=True)
class AlignmentOnPolicy(WhiteBox):
    """A share of the gradient steps is on texts that the student itself wrote."""

    name: str = "alignment_on_policy"
    """Name shown in the plan."""
    objective: DivergenceName = "reverse_kl"
    """As for alignment_logits; reverse KL keeps a small student on what it can do."""
    lmbda: Share = 0.5
    """Share of the steps on the student's own texts: 0 is off-policy, 1 is fully on-policy."""
    buffer_steps: Count = 4
    """Steps whose texts are sampled in one batch: more is faster and less on-policy."""
    sampling_temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Temperature of the student's sampling."""
    max_new_tokens: Count | None = None
    """Maximum tokens of a student's text; None takes that of the longest training item."""

    @property
    def on_policy(self) -> OnPolicyConfig:
        """How the student learns from texts of its own: none of them has a cached signal."""
        return OnPolicyConfig(
            self.lmbda, self.buffer_steps, self.sampling_temperature, self.max_new_tokens
        )
