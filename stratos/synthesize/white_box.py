"""What strategies share that learn from a teacher's distribution, not from its text alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from stratos.config import Amount, Share
from stratos.synthesize.alignment import Alignment

if TYPE_CHECKING:
    from stratos.distill.objectives import Objective

Divergence = Literal[
    "forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "universal_logit"
]


@dataclass(frozen=True)
class WhiteBox(Alignment):
    """Alignment whose student also sees how likely the teacher finds every token.

    The corpus is that of `alignment`: answers of the teacher that the task verified.
    """

    needs: ClassVar[str] = "logits"
    """What the teacher has to give beside text."""

    min_coverage: float = 0.5
    """As of alignment; higher, for what the teacher finds likely beside its answer is learnt
    unverified."""
    min_entropy_nats: Amount = 0.05
    """Least entropy of the teacher's next token, in nats, over its own answers. A teacher that is
    more certain has little to show beyond its text, which `auto_white_box` then learns from."""
    objective: Divergence = "forward_kl"
    """How far the student is from the teacher: forward_kl, reverse_kl, jsd, skew_kl,
    skew_reverse_kl, or universal_logit for vocabularies that have nothing in common."""
    beta: Share = 0.5
    """Of jsd: the teacher's share of the mixture; 0 is forward KL, 1 is reverse KL."""
    alpha: Share = 0.1
    """Of the skew divergences: how much of the first distribution is mixed into the second."""
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Both sides' logits are divided by it."""
    cross_entropy: Share | None = None
    """Share of the cross-entropy on the text, the rest is the divergence. None takes none of it,
    and half for universal_logit: sorted probabilities do not say which token is meant."""
    hidden_match: Amount = 0.0
    """Weight of matching the teacher's hidden states, layer by layer, through projections that are
    learned beside the student and dropped after; 0 matches none."""
    only_shared: bool = False
    """Compare a teacher that has another tokenizer by the tokens of both vocabularies."""

    def to_minimize(self) -> Objective:
        """Return what the training minimizes."""
        from stratos.distill.objectives import Objective

        share = self.cross_entropy
        if share is None:
            share = 0.5 if self.objective == "universal_logit" else 0.0
        return Objective(self.objective, self.beta, self.alpha, self.temperature, share)
