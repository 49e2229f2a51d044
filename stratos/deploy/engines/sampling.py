"""How a request has the next token chosen: the options of the API, as llama.cpp reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""Of the next token, (V,)."""


class Sampler:
    """Chooses the tokens of one answer: the likeliest where no temperature is named."""

    def __init__(self, options: Mapping[str, float]) -> None:
        """Begin an answer.

        Args:
            options: of `chat_request.SAMPLING`, those that the request names.
        """
        self._options = options
        self._n_written: Counter[int] = Counter()
        seed = int(options.get("seed", -1))
        self._random = np.random.default_rng(None if seed < 0 else seed)

    @property
    def is_greedy(self) -> bool:
        """Whether it chooses the likeliest token, whatever was written."""
        named = ("temperature", "frequency_penalty", "presence_penalty")
        return not any(self._options.get(name) for name in named)

    def choose(self, logits_V: Logits, allowed_V: NDArray[np.bool_] | None = None) -> int:
        """Return the next token.

        Args:
            logits_V: of the model.
            allowed_V: what a grammar allows; None for any.
        """
        get = self._options.get
        scores_V = logits_V.astype(np.float64)
        for token, n in self._n_written.items():
            scores_V[token] -= n * get("frequency_penalty", 0.0) + get("presence_penalty", 0.0)
        if allowed_V is not None:
            scores_V[~allowed_V] = -np.inf
        temperature = get("temperature", 0.0)
        token = self._drawn(scores_V, temperature) if temperature else int(scores_V.argmax())
        self._n_written[token] += 1
        return token

    def _drawn(self, scores_V: NDArray[np.float64], temperature: float) -> int:
        """Draw a token; as in llama.cpp, what is left out is decided before the temperature."""
        get: Any = self._options.get
        order = np.argsort(-scores_V, kind="stable")[: int(get("top_k", 0)) or None]
        shares = np.exp(scores_V[order] - scores_V[order[0]])
        before = np.cumsum(shares / shares.sum()) - shares / shares.sum()
        # The first tokens that have top_p together, and no less than min_p of the likeliest.
        stays = (before < get("top_p", 1.0)) & (shares >= get("min_p", 0.0))
        stays[0] = True
        order = order[stays]
        weights = np.exp((scores_V[order] - scores_V[order[0]]) / temperature)
        return int(self._random.choice(order, p=weights / weights.sum()))


def logprob_of(logits_V: Logits, token: int) -> float:
    """Return the log-probability of a token, before any sampling option."""
    scores_V = logits_V.astype(np.float64)
    most = scores_V.max()
    return float(scores_V[token] - most - np.log(np.exp(scores_V - most).sum()))
