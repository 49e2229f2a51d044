"""What is wrong with items, answers and files, and what is doubtful about rows: as values.

Each reason holds its names and amounts, and is worded here, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stratos.core.formats import counted
from stratos.core.intervals import wilson
from stratos.core.reasons import Reason
from stratos.core.redact import shown

MOST_NAMED = 8
"""Labels that a warning names before it only counts."""

NGRAM = 13
"""Words in a row by which a text is found to repeat another one."""

# --- a task, and its items ------------------------------------------------------------------------


class NoTask(Reason):
    """A class does not inherit from `Task`."""

    methods: tuple[str, ...]
    """What it has to write."""

    def __str__(self) -> str:
        return (
            "is not a Task. Let it inherit from stratos.tasks.base.Task, and write name, "
            f"{', '.join(self.methods[:-1])} and {self.methods[-1]}."
        )


class TaskLacks(Reason):
    """A task does not write all that it has to."""

    methods: tuple[str, ...]

    def __str__(self) -> str:
        return f"is not a Task: it lacks {', '.join(self.methods)}."


class Unreadable(Reason):
    """No answer can be read from a text."""

    says = "it cannot be read"


class NotReadBack(Reason):
    """The answer of an item is not read back from the text that is learnt."""

    answer: str

    def __str__(self) -> str:
        return f"the answer {shown(self.answer)} cannot be read back from its text"


class NoPath(Reason):
    """An item has no reasoning path."""

    says = "it has no reasoning path"


class PathEndsElsewhere(Reason):
    """A reasoning path announces another answer than that of its item."""

    end: str
    answer: str

    def __str__(self) -> str:
        return f"its path ends in {shown(self.end)}, its answer is {shown(self.answer)}"


class WrongStep(Reason):
    """A calculation of a solution does not come to its stated result."""

    calculation: str
    result: str

    says = "{calculation} = {result} does not come out"


class NeverReached(Reason):
    """The answer of an item is no number of its solution."""

    answer: str

    says = "its path never reaches {answer}"


class Leak(Reason, StrEnum):
    """In which way an item repeats what is held out; a record counts under the value."""

    EXACT = "held out (exact)"
    CANONICAL = "held out (canonical)"
    OVERLAP = f"held out ({NGRAM}-gram)"


# --- a line of a file -----------------------------------------------------------------------------


class LineTooLong(Reason):
    """A line has more bytes than one may have."""

    n_bytes: int
    most: int

    def __str__(self) -> str:
        mib = 2**20
        return f"{self.n_bytes / mib:,.0f} MiB long; a line may have {self.most // mib} MiB"


class RowTooLong(Reason):
    """An object of a JSON array is longer than a row may be."""

    says = "is longer than a row may be"


class NotUtf8(Reason):
    """The text is not encoded as UTF-8."""

    byte: int | None = None
    """The first that is wrong, from 1; None where it is not known."""

    def __str__(self) -> str:
        where = "" if self.byte is None else f" (byte {self.byte})"
        return (
            f"not UTF-8{where}: if it is Latin-1, type iconv -f WINDOWS-1252 -t UTF-8 <it> > "
            "<new file>"
        )


class NotJson(Reason):
    """The text is not JSON."""

    problem: str
    """What the parser says."""
    column: int | None = None

    def __str__(self) -> str:
        at = "" if self.column is None else f", column {self.column}"
        return f"not JSON ({self.problem}{at})"


class UnreadableJson(Reason):
    """The text is nested too deep, or has a number of too many digits."""

    problem: str = ""
    """What the parser says; "" where that is not told."""

    def __str__(self) -> str:
        return f"not JSON that can be read{f' ({self.problem})' if self.problem else ''}"


class JsonEndsHere(Reason):
    """A file of several JSON texts cannot be read on behind one that is not JSON."""

    problem: str
    """What the parser says; "" where the file is cut off."""

    def __str__(self) -> str:
        if not self.problem:
            return "the file is cut off here: not JSON to its end"
        return f"not JSON ({self.problem}); what follows cannot be read"


class NoObject(Reason):
    """A JSON text is no object."""

    text: str = ""
    """How it begins; "" where that is not told."""

    def __str__(self) -> str:
        return f"expected an object{f', found {self.text}' if self.text else ''}"


class NotCsv(Reason):
    """A line is not CSV."""

    problem: str
    """What the parser says."""

    says = "not CSV ({problem})"


class OtherFieldCount(Reason):
    """A line of a CSV file has more or fewer fields than the header."""

    n_fields: int
    """Of the header."""

    def __str__(self) -> str:
        return f"expected {counted(self.n_fields, 'field')}"


class LacksField(Reason):
    """A line has no field of a name."""

    field: str
    """As the task names it: `a|b` is any of them."""
    fields: tuple[str, ...]
    """Those that the line has."""

    def __str__(self) -> str:
        known = ", ".join(map(shown, self.fields)) or "none"
        return f"has no field {self.field.replace('|', ' or ')}; it has {known}"


class Swapped(Reason):
    """Questions are JSON objects or labels, and answers are texts."""

    path: str
    question: str
    """Column that is read as the question; below: as the answer."""
    answer: str
    n_labels: int = 0
    """Different values of the question, where these repeat; 0 where they are JSON objects."""

    def __str__(self) -> str:
        holds, meant = "JSON objects", "JSON is the answer"
        if self.n_labels:
            holds, meant = f"{self.n_labels:,} values that repeat", "these are the labels"
        return (
            f"{self.path}: its columns look swapped: {self.question} holds {holds}, and "
            f"{self.answer} texts. If {meant}, type: task.question={self.answer} "
            f"task.answer={self.question}"
        )


class EmptyField(Reason):
    """A field of a line has no text."""

    field: str

    def __str__(self) -> str:
        return f"has no {shown(self.field)}"


class OtherType(Reason):
    """A field of a line has a value of another type than it should have."""

    field: str
    value: str
    """As JSON, cut short."""
    expected: str
    """The type, with its article."""

    says = "{field} is {value}, not {expected}"


class AnswerTooLong(Reason):
    """An answer has more characters than a student writes."""

    n_characters: int
    most: int

    says = "its answer has {n_characters:,} characters, and no student writes more than {most:,}"


class UnknownSlice(Reason):
    """The slice of a row is none of the task's."""

    slice: str
    slices: tuple[str, ...]

    def __str__(self) -> str:
        return f"its slice is {shown(self.slice) or 'empty'}, not one of {', '.join(self.slices)}"


class Contradiction(Reason):
    """One question has different answers."""

    n_answers: int
    answers: str
    """The first of them, in words."""

    says = "one question with {n_answers:,} different answers, {answers}"


# --- a whole file ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """Lines of a file with what is wrong with them, long lists cut short."""

    causes: tuple[str, ...]
    """The first of them, in the order of the lines; lines with one cause stand together."""
    n_listed: int
    """Lines that these are about."""
    n_lines: int

    def lines(self) -> Iterator[str]:
        """Yield what a message says of them, one line each."""
        yield from self.causes
        if more := self.n_lines - self.n_listed:
            yield f"… and {more:,} more"


class FileProblems(Reason):
    """What is wrong with the lines of a file that are no good rows."""

    path: str
    broken: Listing
    """Lines that cannot be read as a question and its answer."""
    unanswered: Listing
    """Lines with a question and no answer."""
    mend: str = ""
    """What to do about broken lines, as a sentence."""
    answer: str = ""
    """What to do about lines without an answer, as a sentence."""

    def __str__(self) -> str:
        n_broken, n_unanswered = self.broken.n_lines, self.unanswered.n_lines
        unanswered = counted(n_unanswered, "row without an answer", "rows without an answer")
        parts = [
            (self.broken, counted(n_broken, "broken line"), self.mend),
            (self.unanswered, unanswered, self.answer),
        ]
        return "\n".join(
            "\n    ".join([f"{self.path} has {what}:", *listing.lines(), *([end] if end else [])])
            for listing, what, end in parts
            if listing.n_lines
        )


class ToLabel(Reason):
    """No row of a file has an answer, and some were written into a table to be labelled."""

    path: str
    n_rows: int
    answer: str
    """Field of the answers, as the task names it."""
    table: str
    n_needed: int
    """Rows that there should be."""
    n_checked: int
    """Validation rows among these, which a teacher is checked on."""
    hoped: float
    """Share of right answers at which they are enough."""
    least: float
    """Share that a teacher has to be right of, surely, before it may label rows."""
    key: str
    """Of that share, as it is typed."""
    is_labels: bool
    """Whether an answer is a label, or several of them."""

    def __str__(self) -> str:
        several = (
            "Several labels of a text: billing|bug; none: []. If they are read as one label, add "
            "'task.separator=\"|\"'.",
        )
        drawn = counted(min(self.n_needed, self.n_rows), "row", spec=",")
        lines = [
            f"{self.path}: none of its {self.n_rows:,} rows has an answer "
            f"(task.answer={self.answer}), so nothing can be measured.",
            f"Fill in the {drawn} of {self.table}, a random draw from all groups of texts that are "
            "alike, and type the same command again.",
            *(several if self.is_labels else ()),
            f"{self.n_needed:,} labelled rows are enough to check a teacher: one that is right on "
            f"{self.hoped:.0%} of {self.n_checked:,} of them is surely right on {self.least:.0%} "
            f"({self.key}), and labels the others where you name it (teacher=<name>).",
        ]
        return "\n    ".join(lines)


class NoLabelYet(Reason):
    """The table that was written to be labelled has no answer."""

    path: str
    table: str
    n_rows: int

    says = (
        "{path}: no row has an answer, and {table}, which was written for them, has none yet. "
        "Fill in some of its {n_rows:,} rows (all of them, for the intervals to be as promised), "
        "and type the same command again. To draw other rows, delete it."
    )


class ToLabelUnreadable(Reason):
    """The table that was written to be labelled cannot be read."""

    path: str
    table: str
    cause: str

    says = (
        "{path}: no row has an answer, and {table}, where labels are looked for, cannot be read "
        "({cause}). Move it away, and type the same command again: the rows to label are written "
        "there."
    )


class AnswersNotRead(Reason):
    """A file of rows without answers has some with one."""

    path: str
    n_rows: int
    labelled_path: str
    """File whose answers are read."""

    def __str__(self) -> str:
        return (
            f"{counted(self.n_rows, 'row', spec=',')} of {self.path} have answers, which are "
            f"not read: move them to {self.labelled_path}, or remove their answers."
        )


class GoldNotRight(Reason):
    """A gold answer is not right by the user's verifier, compared with itself."""

    verifier: str
    """Name of its class."""
    points: float
    gold: str
    where: str
    """Line and file of the gold answer."""

    def __str__(self) -> str:
        return (
            f"task.verifier {self.verifier} gives {self.points:g} to the gold answer "
            f"{shown(self.gold)} of {self.where}, compared with itself, where 1 is right. Unless "
            "gold answers are patterns or tests, no answer will count as right: fix its "
            "compare(answer, gold)."
        )


class HeldOutCopies(Reason):
    """Held-out questions are copies of others, and are measured once."""

    path: str
    n_rows: int

    def __str__(self) -> str:
        are = "is a copy" if self.n_rows == 1 else "are copies"
        return (
            f"{self.path}: {counted(self.n_rows, 'validation or test question', spec=',')} {are} "
            "of another except for case, punctuation and spacing, with the same answer. Each "
            "question is measured once: copies would make every interval too narrow."
        )


class AnswersLikeIds(Reason):
    """A field has another value in nearly every row, so that it may not be the answer."""

    path: str
    field: str
    likely: tuple[str, ...]
    """What to type for fields that may hold the answer."""

    def __str__(self) -> str:
        return (
            f"{self.path}: nearly every row has another answer in its field {self.field}: it looks "
            f"like an id. Which column holds the answer? Type {' or '.join(self.likely)}."
        )


class NearTest(Reason):
    """Test questions are within a word or two of training questions."""

    n_near: int
    n_test: int

    def __str__(self) -> str:
        are = "is" if self.n_near == 1 else "are"
        return (
            f"{self.n_near:,} of {counted(self.n_test, 'test question', spec=',')} {are} within a "
            "word or two of a training question with the same answer, as of templates: the "
            "accuracy is too high for other texts. Test on texts that others wrote: "
            "task.test_path=<file>."
        )


class SeveralLanguages(Reason):
    """Training rows are in several languages."""

    path: str
    n_rows: Mapping[str, int]
    """Language to how many of the rows that were looked at."""
    n_train: int

    def __str__(self) -> str:
        names = ", ".join(f"{name} {n:,}" for name, n in self.n_rows.items())
        return (
            f"{self.path} seems to have rows in {len(self.n_rows)} languages ({names} of "
            f"{self.n_train:,} training rows, by their commonest words and letters). Each is "
            "learnt from its own rows. To see how well, name a field with the language: "
            "task.slice=<field> 'task.slices=[…]'."
        )


# --- how many rows there are ----------------------------------------------------------------------


class TooFewRows(Reason):
    """A split has so few rows that nothing can be learnt or measured."""

    path: str
    n_rows: Mapping[str, int]
    """By split."""
    least: int
    """That each split has to have."""

    def __str__(self) -> str:
        return (
            f"{self.path} has too few rows: {counted(self.n_rows['train'], 'row')} to train on, "
            f"{self.n_rows['validation']} to validate, {self.n_rows['test']} to test. At least "
            f"{self.least} of each are needed; start with at least a hundred rows in all. Add "
            "rows, give the test questions in a file of their own (task.test_path=<file>), or "
            "larger shares of the rows: task.validation_share=<share> task.test_share=<share>."
        )


class MoreLabelsThanRows(Reason):
    """There are fewer training rows than labels."""

    path: str
    n_rows: int
    n_train: int
    n_labels: int
    least: int
    """Training rows that a label needs."""

    def __str__(self) -> str:
        return (
            f"{self.path} has {counted(self.n_rows, 'row')} for {counted(self.n_labels, 'label')}, "
            f"{self.n_train} of them to train on: not every label can be learnt. At least "
            f"{self.least} training rows of each label are needed, which is about "
            f"{2 * self.least * self.n_labels} rows in all. Add rows, or name fewer labels: "
            "task.labels=[…]."
        )


class TooFewToTell(Reason):
    """What a student reaches cannot be told from so few rows."""

    n_rows: int
    enough: int

    def __str__(self) -> str:
        rows = counted(self.n_rows, "labelled row")
        return f"What a student reaches cannot be said of {rows}: label {self.enough} or more."


class WideIntervals(Reason):
    """Held-out splits are so small that an accuracy is hardly known."""

    n_rows: Mapping[str, int]
    """Of each split that is too small."""

    def __str__(self) -> str:
        sizes = " and ".join(
            f"{counted(n, f'{split} row')} (an accuracy is known to ±{_points(n)} points)"
            for split, n in self.n_rows.items()
        )
        return (
            f"There are few rows to measure on: {sizes}. More rows narrow the interval, or larger "
            "shares of them: task.validation_share=<share> task.test_share=<share>."
        )


# --- labels ---------------------------------------------------------------------------------------


class UnlearnableLabels(Reason):
    """Held-out rows have labels of which no training row is."""

    n_held_out: Mapping[str, int]
    """Label to its held-out rows."""

    def __str__(self) -> str:
        rows = [
            f"{shown(label)} ({counted(n, 'held-out row')})" for label, n in self.n_held_out.items()
        ]
        return (
            f"Held-out labels without a training row: {_named(rows)}. No student can learn it: add "
            "training rows of it, or take it out."
        )


class UnusedLabels(Reason):
    """`task.labels` names labels that no row has."""

    labels: tuple[str, ...]

    def __str__(self) -> str:
        noun = "label" if len(self.labels) == 1 else "labels"
        names = _named(list(map(shown, self.labels)))
        return f"No row has the {noun} {names}, which task.labels names."


class RareLabels(Reason):
    """Labels have few training rows."""

    n_train: Mapping[str, int]
    """Label to its training rows."""
    least: int
    """Training rows that a label needs."""

    def __str__(self) -> str:
        rows = _named([f"{shown(label)} ({n})" for label, n in self.n_train.items()])
        return (
            f"Few training rows: {rows}. A student hardly learns a label of less than {self.least} "
            "rows, and the test may have none of it: add rows of it, or leave it out."
        )


@dataclass(frozen=True)
class Typo:
    """A rare label that looks like a slip of a common one."""

    rare: str
    n_rare: int
    common: str
    n_common: int

    def __str__(self) -> str:
        rare = f"{shown(self.rare)} ({counted(self.n_rare, 'row')})"
        return f"{rare} for {shown(self.common)} ({self.n_common})"


class LikelyTypos(Reason):
    """Labels look like slips of others."""

    typos: tuple[Typo, ...]

    def __str__(self) -> str:
        return (
            f"Labels that may be typos: {_named(list(map(str, self.typos)))}. Fix them in the "
            "file, or list the labels: task.labels=[…]."
        )


class MergedSpellings(Reason):
    """Labels that differ in case and spacing alone are read as one."""

    path: str
    spellings: Mapping[str, Mapping[str, int]]
    """Label to its spellings in the file, with their numbers of rows."""

    def __str__(self) -> str:
        merged = [
            f"{shown(label)} ({', '.join(f'{shown(name)}: {n:,}' for name, n in counts.items())})"
            for label, counts in self.spellings.items()
        ]
        return (
            f"{self.path} spells {counted(len(merged), 'label')} in more than one way. They are "
            f"read as one, spelled as most of its rows spell it: {_named(merged)}. Where they are "
            "meant to differ, give them other names."
        )


def _points(n: int) -> int:
    """Return half the width of an interval around one half, in percentage points."""
    interval = wilson(n / 2, n)
    return round(50 * (interval.high - interval.low))


def _named(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_NAMED
    return ", ".join([*texts[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
