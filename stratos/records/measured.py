"""What records are said in: quantities with their range, and the cards of models."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tried:
    """What a training showed that was too short to predict from."""

    n_right: int
    """Validation items with the right answer."""
    n_items: int
    train_tokens: int

    @property
    def share(self) -> float:
        """Share of the items with the right answer."""
        return self.n_right / self.n_items if self.n_items else 0.0


@dataclass(frozen=True)
class Interval:
    """A quantity with the range that it may be trusted to (95% unless `source` says otherwise)."""

    mean: float
    low: float
    high: float
    source: str = ""
    """Where it comes from, as a phrase: "64 validation items, Wilson"."""
    is_known: bool = True
    """False where nothing was measured that it could rest on: its ends are bounds then, and its
    mean is no estimate."""
    tried: Tried | None = None
    """Of an unknown accuracy, what a short training showed nevertheless."""

    @property
    def is_share_known(self) -> bool:
        """Return False for a share that may be anything, as after no trials."""
        return (self.low, self.high) != (0.0, 1.0)


MOST_TRUNCATED = 0.05
"""Share of a model's answers that may end at the longest length before its accuracy is doubted."""


def is_cut_short(n_truncated: int, n_answers: int) -> bool:
    """Return whether so many answers were cut that what was measured of them is doubtful."""
    return n_truncated > MOST_TRUNCATED * n_answers


@dataclass(frozen=True)
class ModelCard:
    """The facts of a model that the estimate and the plan need; weights are not among them."""

    name: str
    n_params: int
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    intermediate_size: int
    vocab_size: int
    context_length: int
    license: str = "unknown"
    usd_per_million_input_tokens: float | None = None
    """Price of a hosted model; None for one that runs on a server of the plan."""
    usd_per_million_output_tokens: float | None = None
    max_requests_per_minute: float | None = None
    max_tokens_per_minute: float | None = None
    """Rate limit of a hosted model, tokens in and out together."""
    usd_per_million_batch_input_tokens: float | None = None
    """Price of a batch that may take `batch_hours`; None for a model without."""
    usd_per_million_batch_output_tokens: float | None = None
    batch_hours: float = 24.0
    """Window within which a batch is answered."""
    runs: tuple[CardRun, ...] = ()
    """Recorded runs of this model as a student."""
    head_size: int | None = None
    """Width of one attention head; None for hidden_size / n_heads."""
    price_date: str = ""
    """Day of a hosted model's prices."""
    price_source: str = ""
    retires: str = ""
    """Day from which a hosted model answers no more, as YYYY-MM-DD; "" where none is known."""
    retires_source: str = ""
    is_gguf: bool = False
    """Whether llama.cpp's file can hold the model: its architecture, and how positions are told."""


@dataclass(frozen=True)
class CardRun:
    """One recorded training of a student: what a card's accuracy and latency rest on."""

    task: str
    strategy: str
    accuracy: float
    """Exact match on the test split, all slices together: for show, no plan rests on it."""
    n_items: int
    """Test items."""
    train_tokens: int
    tokens_per_answer: float
    """Mean completion tokens of one answer, the reasoning path included."""
    ms_per_answer: float
    """Median latency of one answer at batch 1 on `machine`."""
    train_cpu_seconds: float
    seed: int
    date: str
    machine: str
    accuracy_by_slice: dict[str, float] = field(default_factory=dict, hash=False)
    student: str = ""
    """Name of the student, where the run stands elsewhere than on its own card."""
    validation_accuracy: float | None = None
    """Exact match of the kept weights on validation items: what plans rest on."""
    n_validation_items: int = 0
    task_version: int = 1
    """`task.version` that the run was made with."""
