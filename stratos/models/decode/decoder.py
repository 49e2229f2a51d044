"""What computes the tokens behind the second of an answer: transformers, or a faster decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from stratos.core.extensions import extensions, load
from stratos.models.words import OtherLogits

if TYPE_CHECKING:
    from torch import Tensor

    from stratos.models.decode.answers import Answers
    from stratos.models.decode.picks import Pick
    from stratos.models.decode.threads import Threads


class Decoder(StrEnum):
    """What may compute them (`evaluate.decoder`)."""

    AUTO = "auto"
    """The fast decoder of an extension that takes the model, as long as it gives the logits of
    transformers; else transformers."""
    TRANSFORMERS = "transformers"
    """Transformers alone."""


@dataclass
class Decoding:
    """Which decoder may be taken, and which was."""

    decoder: Decoder = Decoder.AUTO
    n_direct: int = 0
    """Batches decoded by a fast decoder."""
    n_different: int = 0
    """Batches whose logits were others, which transformers decoded."""

    def count(self, is_direct: bool) -> None:
        """Count a batch in which a fast decoder was compared with transformers."""
        self.n_direct += is_direct
        self.n_different += not is_direct

    @property
    def used(self) -> str:
        """What decoded, in a word that a record keeps."""
        names = ["direct"] * bool(self.n_direct)
        return " and ".join(names + ["transformers"] * bool(self.n_different or not names))

    @property
    def complaint(self) -> OtherLogits | None:
        """What to warn of; None where both gave the same."""
        return OtherLogits(self.n_different) if self.n_different else None


@dataclass(frozen=True)
class Call:
    """What all batches of one call are decoded with."""

    answers: Answers
    """Take the tokens, and tell which answers have ended."""
    pick: Pick
    batch_size: int
    n_positions: int
    """Tokens of the longest prompt and its answer."""
    poll: Callable[[], None] | None = None
    """Called behind every token."""
    threads: Threads | None = None
    """Chooses the number of CPU threads; None keeps torch's."""


class FastBatch(ABC):
    """A batch that a fast decoder has taken over: it holds keys and values of its rows."""

    @abstractmethod
    def keep(self, places: list[int]) -> None:
        """Keep the rows at these places, in this order: each moves forwards or stays."""

    @abstractmethod
    def decode(self, prompts: list[int], ids_B1: Tensor, positions_B1: Tensor) -> None:
        """Go on with the rows; those whose answers have not ended at return `finish` decodes.

        Args:
            prompts: numbers of the prompts that the rows belong to.
            ids_B1: the last token of each.
            positions_B1: its position.
        """


class FastDecoder(ABC):
    """Decodes the batches of one call from their third token on, without transformers' modules.

    It computes the second token of each batch, too, and leaves a batch to transformers where the
    logits are others.
    """

    @abstractmethod
    def take(
        self, cache: Any, ids_B1: Tensor, mask_BT: Tensor, positions_B1: Tensor, logits_BV: Tensor
    ) -> FastBatch | None:
        """Take a batch over behind a step of transformers; None where the logits are others.

        Args:
            cache: of transformers, with the step's own keys and values; emptied where it is taken.
            ids_B1: tokens that the step read.
            mask_BT: of all tokens in the cache.
            positions_B1: of the tokens that the step read.
            logits_BV: what the step returned.
        """

    @abstractmethod
    def finish(self) -> None:
        """Decode to its end what is left of the batches."""


def fast_decoder(model: Any, call: Call) -> FastDecoder | None:
    """Return the fast decoder of an extension that takes a model; None where none does."""
    makers = (load(extension.decoder) for extension in extensions() if extension.decoder)
    made = (maker(model, call) for maker in makers)
    return next((decoder for decoder in made if decoder is not None), None)
