"""A file without a single answer: how many rows to label, which, and how the run goes on.

Which rows somebody labels decides what the test can say. So they are drawn at random, in proportion
from groups of texts that are alike: they are as diverse as the file, and what is right of them is
right of the file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.core.errors import ConfigError, nearest
from stratos.core.intervals import n_above
from stratos.core.remote import local_path
from stratos.tasks.files import TO_LABEL, is_local, read_records, safe_cell
from stratos.tasks.rows import answer_of, columns_of, find_field, likely_answers, text_of
from stratos.tasks.words import NoLabelYet, ToLabel, ToLabelUnreadable

if TYPE_CHECKING:
    import numpy as np

_LABELS = "stratos.tasks.classify.ClassifyTask"
_TARGETS = (_LABELS, "stratos.tasks.jsonl.JsonlTask")
"""Tasks whose rows are a question and its answer."""
_USUAL = {"label", "answer"}
"""Names of the field of the answers where none was typed."""
_OTHER_METRICS = ("regex", "multiple_choice", "sql")
"""Metrics whose gold answers are nothing that a teacher, or a column of texts, could hold."""
_DEFAULT_SHARE, _VALIDATION_SHARE = 0.15, 0.36
"""Share of the labelled rows that are for validation: by default, and of rows that are labelled to
check a teacher."""
LEAST = 0.7
"""Share of right answers that a teacher needs where no strategy says so."""
_MOST_ROWS, _N_GROUPS = 20_000, 25


def with_labels(
    task: Mapping[str, Any], least: float, key: str, *, is_taught: bool
) -> Mapping[str, Any]:
    """Return the settings of a task; those of a file without answers take the labels beside it.

    Its labelled rows are then those of `<file>.to_label.csv`. A teacher that is named may label the
    others.

    Args:
        task: as it was composed.
        least: share of right answers from which a teacher may label rows.
        key: of that share, as it is typed.
        is_taught: whether a teacher is named.

    Raises:
        ConfigError: rows have to be labelled first; they are written where no file has them yet.
    """
    path, names = task.get("path"), (task.get("question"), task.get("answer"))
    is_text = task.get("_target_") in _TARGETS and task.get("metric") not in _OTHER_METRICS
    if not is_text or task.get("unlabelled_path") or not isinstance(path, str):
        return task
    question, answer = map(str, names)
    if not is_local(path) or not (texts := _unanswered(path, question, answer)):
        return task
    table = Path(local_path(path)).expanduser().with_suffix(TO_LABEL)
    share = task.get("validation_share", _DEFAULT_SHARE)
    share = _VALIDATION_SHARE if share == _DEFAULT_SHARE else share
    if not table.exists():
        n_checked, hoped = n_to_check(least)
        n = math.ceil(n_checked / share)
        _write(table, _heading(path, question, answer), diverse(texts, n))
        amounts, is_labels = (n, n_checked, hoped, least), task["_target_"] == _LABELS
        why = ToLabel(path, len(texts), answer, str(table), *amounts, key, is_labels)
        raise ConfigError(str(why))
    try:
        rows = [row for _, row in read_records(str(table)) if isinstance(row, dict)]
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(str(ToLabelUnreadable(path, str(table), str(reason)))) from error
    if not any(answer_of(row, answer) for row in rows):
        raise ConfigError(str(NoLabelYet(path, str(table), len(rows))))
    labelled = {**task, "path": str(table), "validation_share": share}
    return {**labelled, "unlabelled_path": path} if is_taught else labelled


def n_to_check(least: float) -> tuple[int, float]:
    """Return how many rows show that a teacher is good enough, and how often it is right of them.

    It is taken to be right half-way between what is needed and always.

    Args:
        least: the share of right answers that the low end of its interval has to reach.
    """
    hoped = (1 + least) / 2
    return n_above(hoped, least) or 1, hoped


def diverse(texts: Sequence[str], n: int, seed: int = 0) -> list[str]:
    """Return texts that are drawn at random, as many of each group of texts that are alike.

    As many, that is, as are the group's share: each text is drawn with the same probability.

    Args:
        texts: all different.
        n: how many to draw.
        seed: of the draw.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(texts))[: max(n, _MOST_ROWS)]
    if n >= len(shuffled):
        return [texts[index] for index in shuffled]
    groups = _groups([texts[index] for index in shuffled])
    # Every k-th along an order in which a group stands together, from a random start.
    ordered = shuffled[np.argsort(groups, kind="stable")]
    places = (rng.random() + np.arange(n)) * len(ordered) / n
    return [texts[index] for index in rng.permutation(ordered[places.astype(int)])]


def _groups(texts: Sequence[str]) -> np.ndarray:
    """Return a group for each text, those that share words being of one."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.feature_extraction.text import HashingVectorizer

    features = HashingVectorizer(n_features=2**12, ngram_range=(1, 2)).transform(texts)
    means = MiniBatchKMeans(min(_N_GROUPS, len(texts)), random_state=0, n_init=1)
    groups: np.ndarray = means.fit_predict(features)
    return groups


def _unanswered(path: str, question: str, answer: str) -> list[str]:
    """Return the different questions of a file; none where a row has an answer, or may have one."""
    texts: dict[str, None] = {}
    has_column = False
    try:
        for _, row in read_records(path):
            if not isinstance(row, dict) or find_field(row, question) is None:
                return []  # what is wrong with it is said where its rows are read
            if answer_of(row, answer):
                return []
            has_column = has_column or find_field(row, answer) is not None
            if text := text_of(row, question):
                texts[text] = None
        if not has_column and _may_be_another(path, question, answer):
            return []
    except OSError:
        return []
    return [*texts]


def _may_be_another(path: str, question: str, answer: str) -> bool:
    """Return whether the answers may stand in another column than the one that is not there."""
    if likely_answers(path, question):
        return True
    columns = dict.fromkeys(columns_of(path))
    columns.pop(find_field(columns, question) or "", None)
    is_typed = not {*answer.split("|")} <= _USUAL
    return is_typed and bool(nearest(answer, columns))


def _heading(path: str, question: str, answer: str) -> tuple[str, str]:
    """Return the names of the two columns, as the file has them or the task takes them."""
    row = next(row for _, row in read_records(path) if isinstance(row, dict))
    names = (find_field(row, question) or question, find_field(row, answer) or answer)
    first, second = (name.split("|")[0] for name in names)
    return first, second


def _write(table: Path, heading: tuple[str, str], texts: Sequence[str]) -> None:
    """Write texts with an empty column beside them, into a file that is not there yet.

    Raises:
        ConfigError: it cannot be written.
    """
    written = io.StringIO(newline="")
    csv.writer(written).writerows([heading, *((safe_cell(text), "") for text in texts)])
    try:
        with table.open("x", encoding="utf-8", newline="") as file:
            file.write(written.getvalue())
    except OSError as error:
        raise ConfigError(
            f"{table} cannot be written ({error.strerror or error}), and no row has an answer. "
            "Copy the file into a folder of your own and name it with task.path=<file>."
        ) from error
