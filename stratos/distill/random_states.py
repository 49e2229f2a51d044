"""RNG states of every process, stored in every checkpoint."""

from __future__ import annotations

import random
from typing import Any

import lightning as L
import numpy as np
import torch
from typing_extensions import override

from stratos.distill.collectives import gathered, rank


class RandomStates(L.Callback):
    """Keeps the random states in every checkpoint, so that a resumed run draws the same numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the states of Python, NumPy and torch, of every process."""
        kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
        own = {
            "python": list(random.getstate()[1]),
            "numpy": [kind, np.asarray(keys).tolist(), place, has_gauss, gauss],
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            own["cuda"] = torch.cuda.get_rng_state()
        return {"by_rank": gathered(own)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = state_dict["by_rank"][rank()]
        random.setstate((3, tuple(own["python"]), None))
        kind, keys, place, has_gauss, gauss = own["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), place, has_gauss, gauss))
        torch.set_rng_state(own["torch"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
