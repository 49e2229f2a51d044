"""Give back the memory of models that nothing uses any more."""

from __future__ import annotations

import gc


def free_memory() -> None:
    """Free models that only their own parts still refer to, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
