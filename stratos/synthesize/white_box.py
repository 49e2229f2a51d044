"""Shared parts of strategies that train on a teacher's distribution.

Logit distillation: the teacher's answers and its distribution over them. On-policy distillation:
the student samples, the teacher scores every token. What a student learns from the teacher's text
it has to do alone from its own beginnings, with its own mistakes in them. Generalized knowledge
distillation: arXiv 2306.13649.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from typing_extensions import override

from stratos.config import Amount, Count, Share
from stratos.core.values import OneOf
from stratos.distill.divergences import DIVERGENCES, wrong_parameters
from stratos.distill.signal_config import OnPolicyConfig, SignalConfig
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
        own = {setting.name for setting in fields(self)}
        names = [setting.name for setting in fields(SignalConfig) if setting.name in own]
        return SignalConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class AlignmentLogits(WhiteBox):
    """The teacher scores the verified answers token by token, while the student learns them."""

    name: str = "alignment_logits"
    """Name shown in the plan."""
    cache: Literal["none", "topk", "sampled"] = "none"
    """Cache the teacher's distribution on disk, for later epochs, students and runs."""
    top_k: Count = 64
    """For a cache: most likely tokens kept, or tokens sampled, for each position."""
    cache_gib: Amount = 20.0
    """Maximum size of a cache, in GiB."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """Type of its log-probabilities."""
    cache_path: str | None = None
    """Folder or URL of an existing cache; no teacher is asked then."""
    cache_url: str | None = None
    """Folder or URL for new caches; None takes the shared cache folder."""


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
