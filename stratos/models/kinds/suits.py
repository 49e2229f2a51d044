"""Which kinds of student do a task, where their weights lie here, and how one is chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stratos.config import StudentConfig, StudentKind
from stratos.core.extras import ModuleMissing, why_no_torch
from stratos.core.remote import cached_folder, location
from stratos.models.pretrained.bert import is_bert
from stratos.tasks.base import Task

LM: StudentKind = "lm"
TUNED: StudentKind = "tuned"
LABELS: tuple[StudentKind, ...] = ("linear", "static", "encoder", TUNED)
"""Kinds that answer with one of a set of labels, the cheapest first."""
TAGGER: StudentKind = "tagger"
MAJORITY: StudentKind = "majority"
FREE: tuple[StudentKind, ...] = ("nearest", MAJORITY)
"""Kinds without a model, which answer with what rows have."""
MOST_ROWS = 20_000
"""Rows of each split of a file that a classifier or a baseline reads at most."""
_TABLE_PATTERNS = ("model.safetensors", "weights/*_256.safetensors")
_TOKENIZER_PATTERNS = ("tokenizer.json", "tokenizers/*_tokenizer_config.json")
"""Of a folder of model2vec, and of the package wordllama."""
_MODEL = "model"
"""Folder of a package that ships a Hugging Face model."""


def kinds_for(task: Task) -> tuple[StudentKind, ...]:
    """Return the kinds beside language models that learn a task; none where no other does."""
    if task.has_labels:
        return LABELS
    return (TAGGER,) if task.has_objects else ()


def does(kind: StudentKind, task: Task) -> bool:
    """Return whether a kind beside language models can do a task at all."""
    # A task that looks rows up in its own way has no texts whose words tell which is near.
    is_of_words = task.has_rows and type(task).lookup is Task.lookup
    return is_of_words if kind in FREE else kind in kinds_for(task)


def table_files(student: StudentConfig) -> tuple[Path, Path] | None:
    """Return weights and tokenizer of a static student's table; None where they are not here."""
    folder = folder_here(student)
    if folder is None:
        return None
    files = [
        next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)
        for patterns in (_TABLE_PATTERNS, _TOKENIZER_PATTERNS)
    ]
    weights, tokenizer = files
    return None if weights is None or tokenizer is None else (weights, tokenizer)


def folder_here(student: StudentConfig) -> Path | None:
    """Return the folder of a student's weights: named, of the hub's cache, or of a package."""
    if student.path is not None:
        named, is_folder = location(student.path)
        if is_folder:
            return Path(named)
        if (cached := cached_folder(student.path)) is not None:
            return cached
    if student.package is None:
        return None
    spec = importlib.util.find_spec(student.package)  # the package itself is not imported
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder / _MODEL if (folder / _MODEL / "config.json").is_file() else folder


def has_weights(student: StudentConfig) -> bool:
    """Return whether this machine has the weights that a kind starts from, and what loads them."""
    if student.kind == "static":
        return table_files(student) is not None
    if student.kind not in ("encoder", TUNED):
        return True
    return folder_here(student) is not None and why_no_torch_for(student) is None


def why_no_torch_for(student: StudentConfig) -> ModuleMissing | None:
    """Return why a student cannot be trained without PyTorch; None if it can, or PyTorch is here.

    An encoder of the form of BERT, as most small ones are, needs none, unless it is tuned.
    """
    if student.kind == "encoder" and ((folder := folder_here(student)) is None or is_bert(folder)):
        return None
    return why_no_torch() if student.kind in (LM, "encoder", TUNED) else None


# What the choice among kinds rests on: micro-F1, prior knowledge, and estimates without optimism.
#
# The score of the chosen kind comes from bootstrap bias-corrected cross-validation (Tsamardinos,
# Greasidou, Borboudakis 2018): the kind is chosen again on each resample of the rows and scored on
# the rows that the resample left out.

_PRIOR_GAIN = {"linear": 0.0, "static": 0.02, "encoder": 0.06, "tuned": 0.06}
_PRIOR_ROWS = 150
"""How far each kind is ahead of `linear` before a row of the task has been read, and how many rows
that knowledge is worth where half of the answers are right. On 50 rows the accuracies of kinds
differ by chance more than by nature: to choose by them alone lost 2.4 points to the best kind on
training rows of public sets, with such a prior 0.4. From 1,000 rows on it decides near-ties only.
"""
_N_RESAMPLES = 200
"""Resamples of the bias-corrected estimate."""


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the ratio of summed counts; 1 where there are no labels at all.

    Args:
        counts: as in `KindScore`, shape (..., rows, 2).
    """
    both, all_labels = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return np.where(all_labels > 0, both / np.maximum(all_labels, 1), 1.0)


def ahead_by_prior(kinds: Sequence[str], reached: np.ndarray) -> np.ndarray:
    """Return the right answers that the prior gives each kind, shape (kinds,).

    They are fewer where an answer tells more: where nearly all are right, or none.

    Args:
        kinds: their names.
        reached: share that each answers right.
    """
    best = float(reached.max())
    gains = np.array([_PRIOR_GAIN[kind] for kind in kinds])
    return gains * _PRIOR_ROWS * 4 * best * (1 - best)


def without_optimism(
    right: np.ndarray, counts: np.ndarray, ahead: np.ndarray, seed: int
) -> tuple[float, float]:
    """Return accuracy and micro-F1 of a choice, by choosing again on resamples.

    Args:
        right: whether each kind is right on each row, shape (kinds, rows).
        counts: of the labels of each row, shape (kinds, rows, 2).
        ahead: right answers that the prior gives each kind.
        seed: of the resamples.
    """
    if len(right) == 1:  # nothing was chosen
        return float(right.mean()), float(micro_f1(counts[0]))
    random = np.random.default_rng(seed)
    n = right.shape[1]
    means, scores = [], []
    for _ in range(_N_RESAMPLES):
        drawn = random.integers(0, n, n)
        out = np.setdiff1d(np.arange(n), drawn)
        chosen = (micro_f1(counts[:, drawn]) * n + ahead).argmax()
        if len(out):
            means.append(right[chosen, out].mean())
            scores.append(micro_f1(counts[chosen, out]))
    if not means:  # of one row
        chosen = (micro_f1(counts) * n + ahead).argmax()
        return float(right[chosen].mean()), float(micro_f1(counts[chosen]))
    return float(np.mean(means)), float(np.mean(scores))


def deviations(counts: np.ndarray, seed: int) -> tuple[float, float]:
    """Return how far below and above its value a micro-F1 lies on 95% of resamples.

    Args:
        counts: of the labels of each row, shape (rows, 2).
        seed: of the resamples.
    """
    n = len(counts)
    drawn = np.random.default_rng(seed).integers(0, n, (_N_RESAMPLES, n))
    low, high = np.quantile(micro_f1(counts[drawn]), (0.025, 0.975)) - micro_f1(counts)
    return float(low), float(high)


def wilson_ends(mean: float, n: float) -> tuple[float, float]:
    """Return the 95% interval of a share of n rows (Wilson 1927)."""
    z2 = 1.96**2
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = float(np.sqrt(z2 * (mean * (1 - mean) / n + z2 / (4 * n * n)))) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
