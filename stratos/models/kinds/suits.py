"""Which kinds of student do a task, and where their weights lie on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

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
