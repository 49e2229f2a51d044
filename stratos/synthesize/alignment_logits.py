"""Knowledge alignment by logits: the teacher's answers, and its whole distribution over them."""

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
    """Keep the teacher's distribution on disk: a second epoch, student or run asks it nothing."""
    top_k: Count = 64
    """Of a cache: likeliest tokens that are kept, or tokens that are drawn, of each place."""
    cache_gib: Amount = 20.0
    """Largest size of a cache, in GiB."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """Type of its log-probabilities."""
    cache_path: str | None = None
    """Folder or URL of a cache that was made elsewhere; no teacher is asked then."""
    cache_url: str | None = None
    """Folder or URL where caches are made; None takes the cache folder that runs share."""

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
