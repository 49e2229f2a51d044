"""Settings of the teacher's signal and of on-policy training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stratos.core.errors import ConfigError
from stratos.core.reasons import Reason
from stratos.distill.divergences import DIVERGENCES
from stratos.distill.words import NotServed, ServedTemperature

if TYPE_CHECKING:
    from stratos.distill.objectives import Objective


@dataclass(frozen=True)
class SignalConfig:
    """What a strategy wants of a teacher's distribution, and what the training makes of it."""

    objective: str = "forward_kl"
    """Divergence; one that reads any vocabulary and `only_shared` allow another tokenizer."""
    beta: float = 0.5
    """For jsd: the teacher's share of the mixture."""
    alpha: float = 0.1
    """For the skew divergences: how much of one distribution is mixed into the other."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Parameters of a divergence other than beta and alpha: name to value."""
    temperature: float = 1.0
    """Temperature of the objective, also used for sparse signals."""
    cross_entropy: float | None = None
    """Share of the cross-entropy on the text; the rest is the divergence. None takes 0, and 0.5 for
    universal_logit: sorted probabilities do not identify the token."""
    only_shared: bool = False
    """Compare a teacher with another tokenizer on the tokens that both vocabularies share."""
    hidden_match: float = 0.0
    """Weight of hidden-state matching (`HiddenMatch`); 0 turns it off."""
    cache: Literal["none", "topk", "sampled"] = "none"
    """Cache the teacher's top-k or sampled tokens, so that it is asked once."""
    top_k: int = 64
    """Tokens kept, or sampled, for each position."""
    cache_gib: float = 20.0
    """Maximum size of a cache, in GiB."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """Type of its log-probabilities."""
    cache_path: str | None = None
    """Folder or URL of an existing cache; no teacher is asked then."""
    cache_url: str | None = None
    """Folder or URL for new caches; None takes the shared cache folder."""

    def to_minimize(self) -> Objective:
        """Return what the training minimizes."""
        from stratos.distill.objectives import Objective

        share = self.cross_entropy
        if share is None:
            share = DIVERGENCES[self.objective].cross_entropy
        own = tuple(sorted(self.parameters.items()))
        return Objective(self.objective, self.beta, self.alpha, self.temperature, share, own)

    @property
    def reads_any_tokens(self) -> bool:
        """Whether distributions over different vocabularies are compared."""
        return DIVERGENCES[self.objective].reads_any_vocabulary or self.only_shared

    def beyond_servers(self) -> Reason | None:
        """Return why no served teacher can give it, or None."""
        if self.reads_any_tokens:
            return NotServed.WHOLE_DISTRIBUTION
        if self.hidden_match:
            return NotServed.HIDDEN_STATES
        return None if self.temperature == 1 else ServedTemperature(self.temperature)

    def check(self) -> None:
        """Refuse choices that exclude each other.

        Raises:
            ConfigError: they do.
        """
        if self.cache not in ("none", "topk", "sampled") or self.top_k < 1:
            raise ConfigError(
                f"strategy.cache={self.cache} strategy.top_k={self.top_k}: type strategy.cache="
                "topk, sampled or none, and strategy.top_k of at least 1."
            )
        is_cached = self.cache != "none" or self.cache_path is not None
        if is_cached and self.reads_any_tokens:
            raise ConfigError(
                f"strategy.cache={self.cache} keeps a part of the distribution in the student's "
                "tokens, and another tokenizer needs the whole of it: strategy.cache=none"
            )
        if is_cached and self.hidden_match:
            raise ConfigError(
                f"strategy.cache={self.cache} keeps the teacher's probabilities, not its hidden "
                "states: strategy.cache=none, or strategy.hidden_match=0"
            )
        if self.cache == "sampled" and not DIVERGENCES[self.objective].reads_drawn_tokens:
            raise ConfigError(
                f"Sampled tokens estimate the forward KL, not {self.objective}: "
                "strategy.objective=forward_kl, or strategy.cache=topk"
            )


@dataclass(frozen=True)
class OnPolicyConfig:
    """How a student learns from texts that it writes itself while it is trained."""

    share: float
    """Share of the gradient steps on the student's own texts: 0 is off-policy, 1 is fully
    on-policy."""
    buffer_steps: int = 4
    """Steps whose texts are sampled in one batch."""
    temperature: float = 1.0
    """Temperature of the student's sampling."""
    max_new_tokens: int | None = None
    """Maximum tokens of a text; None takes that of the longest training item."""
