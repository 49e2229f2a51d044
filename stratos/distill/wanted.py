"""What a strategy asks of a teacher's signal, and which of its choices exclude each other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from stratos.errors import ConfigError


@dataclass(frozen=True)
class Wanted:
    """What a strategy asks of a signal: its fields of these names."""

    objective: str = "forward_kl"
    """Divergence; universal_logit and `only_shared` allow another tokenizer."""
    temperature: float = 1.0
    """Temperature of the objective: sparse signals are made at it."""
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

    @staticmethod
    def of(strategy: Any) -> Wanted:
        """Take what a strategy says.

        Raises:
            ConfigError: its choices exclude each other.
        """
        names = [field.name for field in dataclasses.fields(Wanted)]
        told = {name: getattr(strategy, name) for name in names if hasattr(strategy, name)}
        wanted = Wanted(**told)
        wanted.check()
        return wanted

    @property
    def reads_any_tokens(self) -> bool:
        """Whether distributions over different vocabularies are compared."""
        return self.objective == "universal_logit" or self.only_shared

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
        if self.cache == "sampled" and self.objective != "forward_kl":
            raise ConfigError(
                f"Drawn tokens estimate the forward KL, not {self.objective}: "
                "strategy.objective=forward_kl, or strategy.cache=topk"
            )
