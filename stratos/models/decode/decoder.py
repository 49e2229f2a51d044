"""What computes the tokens behind the first: transformers, or code without its modules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DIFFERENT = (
    "Direct decoding gave other logits than transformers, which decoded {n} in its place. The "
    "answers are right, and took longer. evaluate.decoder=transformers asks for no other."
)


class Decoder(StrEnum):
    """What may compute them (`evaluate.decoder`)."""

    AUTO = "auto"
    """Directly for a float32 Llama of few parameters on a CPU (`stratos.contrib.cpu.rolling`, and
    `stratos.contrib.cpu.direct` where there is no C compiler), as long as it gives the logits of
    transformers; else by transformers."""
    TRANSFORMERS = "transformers"
    """By transformers alone."""


@dataclass
class Decoding:
    """Which decoder is asked for, and which was taken."""

    asked: Decoder = Decoder.AUTO
    n_direct: int = 0
    """Batches decoded directly."""
    n_different: int = 0
    """Batches whose logits were others, which transformers decoded."""

    def tell(self, is_direct: bool) -> None:
        """Be told of one batch in which both were compared."""
        self.n_direct += is_direct
        self.n_different += not is_direct

    @property
    def used(self) -> str:
        """What decoded, in a word that a record keeps."""
        names = ["direct"] * bool(self.n_direct)
        return " and ".join(names + ["transformers"] * bool(self.n_different or not names))

    @property
    def complaint(self) -> str | None:
        """What to warn of; None where both gave the same."""
        if not self.n_different:
            return None
        n = self.n_different
        return DIFFERENT.format(n=f"{n:,} {'batch' if n == 1 else 'batches'}")
