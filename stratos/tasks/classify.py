"""Classification: each text gets one of a set of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any

from stratos.errors import ConfigError
from stratos.tasks.base import Item
from stratos.tasks.files import read_records
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.metrics import Label, Metric, MetricName
from stratos.tasks.rows import find_field, text_of
from stratos.tasks.split import normalised

_MOST_LABELS = 200
"""Different answers of a file that are taken for labels without being named."""


@dataclass(frozen=True)
class ClassifyTask(JsonlTask):
    """Texts and their labels from a file."""

    name: str = "classify"
    """Name shown in tables and written into records."""
    question: str = "text|question"
    """Field with the text; `a|b` is the first of them that a file has."""
    answer: str = "label|answer"
    """Field with the label."""
    labels: tuple[str, ...] = ()
    """The labels there are; any other is a broken line. Empty takes all that the file has."""
    instruction: str = "Classify the text."
    """What a teacher is told first; the labels are added to it."""
    n_examples: int = 8
    """Training rows that stand as examples in few-shot prompts, the labels in turn."""
    metric: MetricName = field(init=False, default="exact")
    min_f1: float = field(init=False, default=1.0)
    verifier: dict[str, Any] | None = field(init=False, default=None)
    options: str = field(init=False, default="options")

    def __post_init__(self) -> None:
        """Check the labels, then everything that a file of questions needs.

        Raises:
            ValueError: something is wrong with them.
        """
        spellings = [normalised(label) for label in self.labels]
        if len(set(spellings)) < len(spellings) or "" in spellings:
            raise ValueError("labels: each must be there once, and none may be empty.")
        if len(spellings) == 1:
            raise ValueError(f"labels=[{self.labels[0]}]: one label leaves nothing to tell apart.")
        super().__post_init__()

    def chance(self, item: Item) -> float:
        """Return how often a random label is right."""
        return 1 / len(self._labels)

    @property
    def _told(self) -> str:
        return f"{self.instruction} The labels are: {', '.join(self._labels)}."

    @cached_property
    def _metric(self) -> Metric:
        return Label(labels=self._labels)

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        return self.labels or _labels_of(self.path, self.answer)

    @cached_property
    def _shown(self) -> list[Item]:
        queues: dict[str, list[Item]] = {label: [] for label in self._labels}
        for item in self.items("train", len(self._by_split["train"]), seed=1):
            queues[item.answer].append(item)
        turns = [item for row in zip_longest(*queues.values()) for item in row if item is not None]
        return turns[: self.n_examples]

    def _choices(self, item: Item, answers: Sequence[str]) -> tuple[str, ...]:
        return super()._choices(item, self._labels)


def _labels_of(path: str, field_names: str) -> tuple[str, ...]:
    """Return the different answers of a file in their first spelling, the most frequent first."""
    counts: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    try:
        for _, row in read_records(path):
            name = find_field(row, field_names) if isinstance(row, dict) else None
            text = text_of(row, name) if isinstance(row, dict) else ""
            if text:
                counts[normalised(text)] += 1
                spelling.setdefault(normalised(text), text)
    except OSError as error:
        raise ConfigError(f"task.path={path} cannot be read: {error}") from error
    if len(counts) > _MOST_LABELS:
        raise ConfigError(
            f"{path} has {len(counts):,} different answers in its field {field_names}: are they "
            "labels? Name them with task.labels=[…], or type +task=jsonl."
        )
    if len(counts) == 1:
        raise ConfigError(f"{path} has one label only, which leaves nothing to tell apart.")
    return tuple(spelling[key] for key, _ in counts.most_common())
