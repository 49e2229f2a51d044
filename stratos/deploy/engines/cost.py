"""What serving costs an engine: the time of its host, its memory, and what a format changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stratos.records import ModelCard

UTILISATION = 0.7
"""Share of a server's capacity that is planned with where a queue of requests is served. The wait
before a server that is busy to the share ρ grows like ρ / (1 - ρ): it doubles from 0.7 to 0.82 and
has no end at 1. `estimate.queueing` says what it comes to, by the number of answers at once."""


@dataclass(frozen=True)
class WeightFormat:
    """How an engine holds the weights, how fast a CPU multiplies with them, and what they lose."""

    name: str
    """Of the export; "" for the bundle's own weights."""
    weight_bytes: float = 2.0
    """Bytes per parameter; those of bf16 unless said otherwise."""
    cache_bytes: float = 2.0
    """Bytes per number of the cache; the same."""
    alone: float = 0.0
    """FLOP/s of one answer alone over those of a prefill; 0 where no CPU was measured."""
    batch: float = 0.0
    """The same of several answers together."""
    loss_points: float = 0.0
    """Points of accuracy that it loses: the most of the students that were measured."""
    most_loss_points: float = 0.0
    """Upper end of the 95% interval of the same."""
    block_width: int = 1
    """Weights of a row that it puts into one block."""
    takes_other_rows: bool = False
    """Whether rows of other widths are held in another format: then one width is enough."""

    def divides(self, *widths: int) -> bool:
        """Return whether a model whose rows are so wide can be held in it."""
        divided = [width % self.block_width == 0 for width in widths]
        return any(divided) if self.takes_other_rows else all(divided)

    def holds(self, card: ModelCard) -> bool:
        """Return whether a model can be held in it."""
        return self.divides(card.hidden_size, card.intermediate_size)


OWN_WEIGHTS = WeightFormat("")


@dataclass(frozen=True)
class ServingCost:
    """What an answer costs a program beside the arithmetic of the model.

    What its host does is counted in blocks: the seconds that Python takes to issue one transformer
    block (`Device.decode_floor_s`), so that a slower host is slower in all of it. A step of n
    sequences takes the host

        block · L + step + n · (sequence + row · L)      blocks, of a model with L
    """

    slots: tuple[int, ...]
    """Answers at once that it is considered at; (1,) answers one after another."""
    block: float
    step: float
    sequence: float = 0.0
    row: float = 0.0
    utilisations: tuple[float, ...] = (UTILISATION,)
    """Shares of its capacity that it is planned at."""
    all_devices: bool = False
    """Whether one command fills all GPUs of a server, by tensor and data parallelism."""
    request_s: float | None = None
    """Seconds of a request beside the model: HTTP, chat template, tokenizer; None for those that
    the engines of the fitted rows took."""
    front_s: float = 0.0
    """Seconds of one thread that every request passes."""
    process_gib: float = 1.0
    """GiB of its process beside model and cache; that of one which has loaded torch and
    transformers (`estimate.constants.RUNTIME_GIB_CPU`) unless it was measured."""
    least_context: int = 0
    """Tokens of a slot that it takes the memory of at least, where the model has them."""
    prompt_tokens: int = 0
    """Tokens of a prompt that it computes at once, in float32 and with the attention scores of each
    head; 0 of an engine whose `process_gib` has them."""
    token_bytes: float = 0.0
    """Bytes of its process for each token of a vocabulary: tokenizer, merges, and what it draws an
    answer's token from."""
    cache_bytes: float | None = None
    """Weights that a step finds in a near cache where it computes by code of its own; None for all
    that a CPU's cache holds."""
    is_compiled: bool = False
    """Whether its host is no Python and it computes by code of its own, at the rates of its
    formats: then load tests scale all of its estimate."""

    def slot_context(self, card: ModelCard, context: float) -> float:
        """Return the tokens that it takes the memory of for one answer."""
        return max(context, min(card.context_length, self.least_context))

    def prompt_bytes(self, card: ModelCard, context: float) -> float:
        """Return what it computes of a prompt at once, beside model and cache.

        Of five shapes of Llama, 128 to 1,024 wide, llama.cpp gave itself 10 to 16 rows as wide as
        the residual stream beside the scores.
        """
        scores = card.n_heads * self.slot_context(card, context)
        return 4.0 * self.prompt_tokens * (scores + 12 * card.hidden_size)

    def host_blocks(self, n_layers: int, batch: float) -> float:
        """Return what a step of a batch takes the host, in blocks."""
        of_model = self.block * n_layers + self.step
        return of_model + batch * (self.sequence + self.row * n_layers)


# The formats of GGUF files: their size, their rates on a CPU, and what they lose.
#
# Of f32 and f16 every text was that of the evaluation; what the others lose is the most of the
# students in benchmarks/results/serving/format_loss.json.

_ALL = (
    WeightFormat("f32", weight_bytes=4.0, cache_bytes=4.0, alone=0.165, batch=0.154),
    WeightFormat("f16", weight_bytes=2.0, alone=0.38, batch=0.216),
    WeightFormat(
        "q8_0",
        weight_bytes=1.0625,
        alone=0.39,
        batch=0.322,
        loss_points=0.1,
        most_loss_points=0.6,
        block_width=32,
    ),
    WeightFormat(
        "q4_k_m",
        weight_bytes=0.61,
        alone=0.495,
        batch=0.332,
        loss_points=0.6,
        most_loss_points=1.8,
        block_width=256,
        takes_other_rows=True,
    ),
)
FORMATS = {form.name: form for form in _ALL}
"""By name."""
