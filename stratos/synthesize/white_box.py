"""Shared parts of strategies that train on a teacher's distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from msgspec import Meta
from typing_extensions import override

from stratos.config import Amount, Share
from stratos.core.typed import OneOf
from stratos.distill.divergences import DIVERGENCES, wrong_parameters
from stratos.distill.signal_config import SignalConfig
from stratos.synthesize.alignment import Alignment

DivergenceName = Annotated[str, OneOf(DIVERGENCES)]


@dataclass(frozen=True)
class WhiteBox(Alignment):
    """Alignment whose student also sees how likely the teacher finds every token.

    The corpus is that of `alignment`: answers of the teacher that the task verified.
    """

    taught_by: ClassVar[tuple[str, ...]] = ("objective", "temperature", "cross_entropy")

    min_coverage: float = 0.5
    """As of alignment; higher, for what the teacher finds likely beside its answer is learnt
    unverified."""
    min_entropy_nats: Amount = 0.05
    """Least entropy of the teacher's next token, in nats, over its own answers. A teacher that is
    more certain has little to show beyond its text, which `auto_white_box` then learns from."""
    objective: DivergenceName = "forward_kl"
    """How far the student is from the teacher: a divergence of docs/distillation.md."""
    beta: Share = 0.5
    """Of jsd: the teacher's share of the mixture; 0 is forward KL, 1 is reverse KL."""
    alpha: Share = 0.1
    """Of the skew divergences: how much of the first distribution is mixed into the second."""
    parameters: dict[str, float] = field(default_factory=dict)
    """Of a divergence with other parameters than beta and alpha: name to value."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if reason := wrong_parameters(self.objective, self.parameters):
            raise ValueError(str(reason))

    @property
    @override
    def least_entropy_nats(self) -> float:
        return self.min_entropy_nats

    @property
    @override
    def signal(self) -> SignalConfig:
        return SignalConfig(
            objective=self.objective,
            beta=self.beta,
            alpha=self.alpha,
            parameters=self.parameters,
            temperature=self.temperature,
            cross_entropy=self.cross_entropy,
            only_shared=self.only_shared,
            hidden_match=self.hidden_match,
        )
