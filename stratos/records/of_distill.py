"""The training data that were made, and the student that was trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

FROM_FILE = "of the file"
"""Source of a row that no teacher made or labelled."""


@dataclass(frozen=True)
class CorpusRow:
    """One verified row that a student learns from."""

    id: str = ""
    family: str = ""
    slice: str = ""
    question: str = ""
    rationale: str = ""
    answer: str = ""
    completion: str = ""
    source: str = FROM_FILE
    """How a teacher made or labelled it, if any did."""
    agreement: float = 1.0
    """Share of a teacher's answers to it that are its answer."""


def corpus_rows(path: str | Path) -> Iterator[CorpusRow]:
    """Yield the rows of a corpus file."""
    read = msgspec.json.Decoder(CorpusRow).decode
    with Path(path).open("rb") as file:
        yield from map(read, file)


@dataclass(frozen=True)
class Corpus:
    """Verified training data on disk, and what was refused."""

    task: str
    strategy: str
    path: str
    """JSON lines, each a `CorpusRow`."""
    n_items: int
    n_by_slice: dict[str, int]
    refused: dict[str, int]
    """Reason to count: duplicates, held out, unverified …"""
    answer_sizes: dict[str, dict[str, int]]
    """Slice to a table: size of the answer to the number of items."""
    items_per_s: float
    """By the clock, waiting for the teacher included."""
    sha256: str
    seconds: float
    cpu_seconds: float
    teacher_tokens: int = 0
    usd: float = 0.0
    cut_at_usd: float | None = None
    """Budget at which questions were left out; None where none were."""
    n_answers: int = 0
    """Answers of the teacher, those that were refused too."""
    n_truncated: int = 0
    """Those of them that were cut at the longest length."""
    n_by_source: dict[str, int] = field(default_factory=dict)
    """Where a teacher added rows to those of a file: how each came about, to how many there are."""
    rows_to_label: str | None = None
    """File that lists rows worth labelling by hand; None where there are none."""
    n_rows_to_label: int = 0
    drawn_in_vain: dict[str, int] = field(default_factory=dict)
    """Draws that made no item (of a tools task: by tool and reason), which cost nothing."""


@dataclass(frozen=True)
class CurvePoint:
    """One row of the training curve."""

    step: int
    tokens: int
    loss: float
    exact: float | None = None
    """Exact match on validation items, where it was measured."""
    validation_loss: float | None = None
    """Cross-entropy of the validation items' gold answers in nats a token, measured with it."""
    learning_rate: float | None = None
    """Of the last step: that of Muon where there is one, else AdamW's."""
    grad_norm: float | None = None
    """Norm of the gradient before clipping, in the last step."""
    tokens_per_s: float | None = field(default=None, compare=False)
    """Since the point before, measurements left out: of the machine, not of the training."""


@dataclass(frozen=True)
class Student:
    """The trained student and its untouched twin.

    A language model is an ordinary Hugging Face folder; any other kind a folder that
    `stratos.models.kinds.load_predictor` reads, whose accuracy is that of cross-validation.
    """

    name: str
    path: str
    untouched_path: str
    """"" for a kind that has no language model to start from."""
    n_params: int
    steps: int
    train_tokens: int
    best_step: int
    validation_exact: float
    """Exact match of the kept weights on validation items, measured once the training was over."""
    n_validation_items: int
    """Items of `validation_exact`."""
    n_validation_reused: int
    """How many of them also chose the weights, because there were no others."""
    n_choosing_items: int
    """Validation items by which the kept weights were chosen."""
    best_exact: float
    """What these weights had on the items that chose them: the best of several measurements."""
    curve: tuple[CurvePoint, ...]
    weights_sha256: str
    seconds: float
    cpu_seconds: float
    n_resumed: int = 0
    """How many times the training went on from a checkpoint."""
    cut_at_usd: float | None = None
    """Budget that did not suffice for the teacher's signal, so that its text alone was learnt."""
    validation_loss: float | None = None
    """Cross-entropy of the validation items' gold answers at the best step, in nats a token."""
    epochs: float | None = None
    """How often each row was read."""
    threads: tuple[tuple[int, int], ...] = ()
    """From which step on how many CPU threads: their number decides how sums are rounded."""
    expected_seconds: float | None = None
    """What the training was expected to take, measured before it began."""
    content: dict[str, str] = field(default_factory=dict)
    """Digests of what it was trained and validated with, and of what it started from, where the
    config names files (`stratos.models.students.content_of`)."""
    setup_seconds: float = 0.0
    """Around the `seconds` of the training, in the process that ended it: to load rows and model,
    to measure the speed, to save and validate."""
    processes: int = 1
    """Processes of one thread that shared each step: on their number the rounding depends, too."""
    kind: str = "lm"
    """lm, or the kind that it is (`StudentConfig.kind`)."""
    calibration_error: float | None = None
    """Expected calibration error by cross-validation; None for a language model."""

    @property
    def is_lm(self) -> bool:
        """Whether it is a language model."""
        return self.kind == "lm"
