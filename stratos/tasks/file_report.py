"""What a user is told of the files of a task: sizes, rows left out or to label, doubts.

Of a file without a single answer: how many rows to label, which, and how the run goes on. Which
rows somebody labels decides what the test can say. So they are drawn at random, in proportion from
groups of texts that are alike: they are as diverse as the file, and what is right of them is right
of the file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratos.core.errors import ConfigError, nearest
from stratos.core.intervals import n_above
from stratos.core.reasons import Reason
from stratos.core.remote import local_path
from stratos.tasks import doubts
from stratos.tasks.dedup.splits import MOST_EDITS
from stratos.tasks.files import TO_LABEL, is_local, read_records, safe_cell, separators_in
from stratos.tasks.metrics import Metric, Own
from stratos.tasks.reader import PATH, TEST_PATH, UNLABELLED_PATH, Content, FileReader
from stratos.tasks.rows import answer_of, columns_of, find_field, likely_answers, swapped, text_of
from stratos.tasks.words import NoLabelYet, ToLabel, ToLabelUnreadable

if TYPE_CHECKING:
    import numpy as np

    from stratos.tasks.dedup.splits import Splits


def within_characters(n: int) -> str:
    """Return that so many rows are within a few characters of a training row."""
    are = "is" if n == 1 else "are"
    return f"{n:,} {are} within {MOST_EDITS} characters of a training row"


UNANSWERED = "row without an answer"


@dataclass(frozen=True)
class FileReport:
    """What is said of the files of a task."""

    files: Mapping[str, str]
    """Key in the config to file."""
    content: Content
    splits: Splits
    n_unlabelled: int
    """Rows without an answer."""
    reader: FileReader
    measure: Metric

    @property
    def left_out(self) -> dict[str, int]:
        """How many lines of the files are not used, by reason."""
        files = self.content.files
        counts = {
            "broken line": sum(rows.broken.n_lines for rows in files),
            UNANSWERED: sum(rows.unanswered.n_lines for rows in files),
            **self._set_aside,
            doubts.COPY: self.splits.excluded[doubts.COPY],
        }
        return {reason: n for reason, n in counts.items() if n}

    @property
    def _set_aside(self) -> dict[str, int]:
        """Return how many lines are not used though nothing is wrong with them, by reason."""
        n_repeats = sum(rows.n_repeats for rows in self.content.files)
        excluded = {k: n for k, n in self.splits.excluded.items() if k != doubts.COPY}
        return {doubts.REPEAT: n_repeats, **excluded, **self.content.passed}

    @property
    def set_aside(self) -> tuple[str, ...]:
        """How many lines are not used though nothing is wrong with them; nothing where none are."""
        paths = " and ".join(path for key, path in self.files.items() if key != UNLABELLED_PATH)
        reasons = [f"{reason}: {n:,}" for reason, n in self._set_aside.items() if n]
        return (f"Left out of {paths}: {'; '.join(reasons)}.",) if reasons else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user wants to know of the rows, a line each."""
        separators = separators_in(self.files.values())
        return (*separators, self._sizes, *self.set_aside, *self.measure.notes)

    @property
    def _sizes(self) -> str:
        n = {split: f"{len(rows):,}" for split, rows in self.splits.rows.items()}
        test_path = self.files.get(TEST_PATH)
        of_test = f" of {test_path}" if test_path else ""
        more = f", {self.n_unlabelled:,} without an answer" if self.n_unlabelled else ""
        near = self.splits.n_near_test
        edited = self.splits.n_edited_test
        known = f" Of the test {near:,} are within a word or two of training rows." if near else ""
        if edited:
            known += f" Of the test {within_characters(edited)}."
        return (
            f"{n['train']} to train, {n['validation']} to validate, {n['test']} to test"
            f"{of_test}{more}; {self.splits.how}{known}"
        )

    @property
    def complaints(self) -> tuple[Reason, ...]:
        """What is doubtful about the rows, one warning each."""
        content, path, named = self.content, self.files[PATH], self.reader.fields
        of_files = (
            (file.problems() if file.n_problems else None, self.reader.doubt(file))
            for file in content.files
        )
        unlabelled, splits = content.unlabelled, self.splits
        return (
            *(() if unlabelled is None else doubts.of_unlabelled(unlabelled, path)),
            *(reason for of_file in of_files for reason in of_file if reason is not None),
            *self._swapped,
            *doubts.of_ids(path, content.files[0].rows, named.question, named.answer),
            *doubts.of_copies(path, splits.excluded[doubts.COPY]),
            *doubts.of_near(splits.n_near_test, len(splits.rows["test"])),
            *self._doubtful_golds,
            *doubts.of_sizes(splits.rows),
            *doubts.of_languages(path, splits.rows["train"]),
        )

    @property
    def _swapped(self) -> tuple[Reason, ...]:
        """Return that questions and answers look swapped, if they do."""
        path = self.files[PATH]
        if not self.content.files[0].rows[0].question.startswith("{"):
            return ()
        reason = swapped(path, self.reader.fields)
        return () if reason is None else (reason,)

    @property
    def _doubtful_golds(self) -> tuple[Reason, ...]:
        """Return what the user's verifier finds doubtful about the answers of held-out rows."""
        if not isinstance(self.measure, Own):
            return ()
        golds = {name: [row.answer for row in rows] for name, rows in self.splits.rows.items()}
        return tuple(self.measure.doubts({name: golds[name] for name in ("validation", "test")}))


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
    return is_typed and bool(nearest(answer, columns) or find_field(columns, "|".join(_USUAL)))


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
