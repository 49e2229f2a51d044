"""What chooses the next token of each row: the likeliest, or one drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Pick = Callable[[Tensor, Sequence[int]], Tensor]
"""Takes the next token's logits (B, V) and the numbers of the prompts that the rows belong to, and
returns the token of each row, (B, 1). It is asked once for each token, in the order of a row; which
rows are asked for together is the decoder's affair."""


def likeliest(logits_BV: Tensor, prompts: Sequence[int] = ()) -> Tensor:
    """Return the likeliest token of each row, (B, 1)."""
    return logits_BV.argmax(-1, keepdim=True)


class Likelihood:
    """Picks as another does, and adds up the log-probability of what is picked."""

    def __init__(self, pick: Pick, n_prompts: int) -> None:
        """Begin with no tokens.

        Args:
            pick: chooses the tokens.
            n_prompts: prompts in all.
        """
        self._pick = pick
        self.sums = [0.0] * n_prompts

    def __call__(self, logits_BV: Tensor, prompts: Sequence[int]) -> Tensor:
        """Return the token of each row, (B, 1)."""
        total_B1 = logits_BV.float().logsumexp(-1, keepdim=True)
        picked_B1 = self._pick(logits_BV, prompts)
        logprobs_B1 = logits_BV.gather(-1, picked_B1).float() - total_B1
        for prompt, logprob in zip(prompts, logprobs_B1[:, 0].tolist(), strict=True):
            self.sums[prompt] += logprob
        return picked_B1


class Drawn:
    """Draws each token with its probability, by a number that belongs to the prompt and the place.

    So a text does not depend on which others are written beside it, or in what order.
    """

    def __init__(self, n_prompts: int, max_new_tokens: int, temperature: float) -> None:
        """Draw all numbers from torch's generator.

        Args:
            n_prompts: prompts in all.
            max_new_tokens: longest text, in tokens.
            temperature: what logits are divided by, above 0.
        """
        self._numbers = torch.rand(n_prompts, max_new_tokens, dtype=torch.float64)
        self._places = [0] * n_prompts
        self._temperature = temperature

    def __call__(self, logits_BV: Tensor, prompts: Sequence[int]) -> Tensor:
        """Return the token of each row, (B, 1)."""
        places = [self._places[prompt] for prompt in prompts]
        for prompt in prompts:
            self._places[prompt] += 1
        sums_BV = (logits_BV.double() / self._temperature).softmax(-1).cumsum(-1)
        numbers_B1 = self._numbers[list(prompts), places].to(sums_BV.device)[:, None]
        # The first token whose sum is above the number; rounding may leave the last sum below 1.
        drawn_B1 = torch.searchsorted(sums_BV, numbers_B1 * sums_BV[:, -1:], right=True)
        return drawn_B1.clamp_(max=logits_BV.shape[-1] - 1)
