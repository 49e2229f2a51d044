"""Logit distillation: the teacher's answers and its distribution over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stratos.config import Amount, Count
from stratos.distill.signal_config import SignalConfig
from stratos.synthesize.white_box import WhiteBox


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

    @property
    def signal(self) -> SignalConfig:
        """What it wants of the teacher's distribution, and how that is kept."""
        return replace(
            super().signal,
            cache=self.cache,
            top_k=self.top_k,
            cache_gib=self.cache_gib,
            cache_dtype=self.cache_dtype,
            cache_path=self.cache_path,
            cache_url=self.cache_url,
        )
