"""The settings of a teacher's signal, and of a student that learns from texts of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from stratos.core.errors import ConfigError
from stratos.distill.divergences import DIVERGENCES

if TYPE_CHECKING:
    from stratos.distill.objectives import Objective


@dataclass(frozen=True)
class SignalConfig:
    """What a strategy wants of a teacher's distribution, and what the training makes of it."""

    objective: str = "forward_kl"
    """Divergence; one that reads any vocabulary and `only_shared` allow another tokenizer."""
    beta: float = 0.5
    """Of jsd: the teacher's share of the mixture."""
    alpha: float = 0.1
    """Of the skew divergences: how much of one distribution is mixed into the other."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Of a divergence with other parameters than beta and alpha: name to value."""
    temperature: float = 1.0
    """Temperature of the objective: sparse signals are made at it."""
    cross_entropy: float | None = None
    """Share of the cross-entropy on the text, the rest is the divergence. None takes none of it,
    and half for universal_logit: sorted probabilities do not say which token is meant."""
    only_shared: bool = False
    """Compare a teacher that has another tokenizer by the tokens of both vocabularies."""
    hidden_match: float = 0.0
    """Weight of matching the teacher's layers (`HiddenMatch`): its states are given, too."""
    cache: Literal["none", "topk", "sampled"] = "none"
    """Keep the teacher's likeliest tokens, or drawn ones, and ask it once."""
    top_k: int = 64
    """Tokens kept, or drawn, a place."""
    cache_gib: float = 20.0
    """Largest size of a cache."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """Type of its log-probabilities."""
    cache_path: str | None = None
    """Folder or URL of a cache that was made elsewhere; no teacher is asked then."""
    cache_url: str | None = None
    """Folder or URL where caches are made; None takes the cache folder that runs share."""

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

    def beyond_servers(self) -> str | None:
        """Return why no served teacher can give it, or None."""
        if self.reads_any_tokens:
            return "a served teacher tells a part of its distribution, in its own tokens"
        if self.hidden_match:
            return "a served teacher shows no layers to match"
        if self.temperature != 1:
            told = f"{self.temperature:g}"
            return f"a served teacher tells its distribution at temperature 1, not {told}"
        return None

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
        kept = self.cache != "none" or self.cache_path is not None
        if kept and self.reads_any_tokens:
            raise ConfigError(
                f"strategy.cache={self.cache} keeps a part of the distribution in the student's "
                "tokens, and another tokenizer needs the whole of it: strategy.cache=none"
            )
        if kept and self.hidden_match:
            raise ConfigError(
                f"strategy.cache={self.cache} keeps what the teacher says, not what its layers "
                "hold: strategy.cache=none, or strategy.hidden_match=0"
            )
        if self.cache == "sampled" and not DIVERGENCES[self.objective].reads_drawn_tokens:
            raise ConfigError(
                f"Drawn tokens estimate the forward KL, not {self.objective}: "
                "strategy.objective=forward_kl, or strategy.cache=topk"
            )


@dataclass(frozen=True)
class OnPolicyConfig:
    """How a student learns from texts that it writes itself while it is trained."""

    share: float
    """Share of the gradient steps on its own texts: 0 is fixed data, 1 is fully on-policy."""
    buffer_steps: int = 4
    """Steps whose texts are written at once."""
    temperature: float = 1.0
    """Of the student's sampling."""
    max_new_tokens: int | None = None
    """Longest text, in tokens; None takes that of the longest training item."""
