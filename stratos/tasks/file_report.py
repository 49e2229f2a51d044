"""What a user is told of the files of a task: sizes, what is left out, what is doubtful."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stratos.core.reasons import Reason
from stratos.tasks import doubts
from stratos.tasks.files import separators_in
from stratos.tasks.metrics import Metric, Own
from stratos.tasks.reader import PATH, TEST_PATH, UNLABELLED_PATH, Content, FileReader
from stratos.tasks.rows import swapped

if TYPE_CHECKING:
    from stratos.tasks.dedup.splits import Splits


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
        known = f" Of the test {near:,} are within a word or two of training rows." if near else ""
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
