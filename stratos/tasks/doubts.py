"""Data quality warnings: too few rows, imbalance, mixed languages.

What nothing can be learnt or measured from is refused; the rest is said before anything is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice, pairwise, takewhile

from stratos.core.counted import counted, listed
from stratos.core.intervals import wilson
from stratos.tasks.base import Split
from stratos.tasks.languages import languages
from stratos.tasks.rows import FileRows, likely_answers, shown
from stratos.tasks.split import normalised
from stratos.tasks.table import Rows

_FEWEST = 2
"""Rows that each split has to have."""
_FEW_VALIDATION, _FEW_TEST, _FEW_PER_LABEL = 20, 50, 4
"""Rows below which a warning says what they cannot tell."""
_N_SAMPLE = 2000
"""Rows whose language is looked at."""
_SHARE_OF_LANGUAGE, _ROWS_OF_LANGUAGE = 0.05, 3
_ALIKE = 0.85
"""Likeness of two labels from which one may be a slip of the other."""
_SHORTEST = 4
"""Characters of a label below which one of them tells nothing."""
_RARE = 1 / 10
"""Part of the rows of a label that its slip may have."""
_ONE_AGAINST = 5
"""Rows of a label of which a single other row may be a slip."""
_MOST_SHOWN = 8
_FEWEST_IDS = 10
"""Rows from which answers that are all different may be ids."""
_NUMBER = re.compile(r"\d+")
_IS_ID = re.compile(r"[\w.:/#-]*\d[\w.:/#-]*")
_IS_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)

COPY = "copy of a held-out question"
"""Why a row is neither trained on nor measured: it differs from another in punctuation alone."""

NEAR = "near duplicate of a question of the test file"
"""Why a row of the training file is not used."""

REPEAT = "row that repeats another's question and answer"
"""Why a row is not used: another one says exactly the same."""

BySplit = Mapping[Split, Rows]


def of_copies(path: str, n: int) -> tuple[str, ...]:
    """Say that held-out questions are copies of others, and are measured once."""
    if not n:
        return ()
    are = "is a copy" if n == 1 else "are copies"
    return (
        f"{path}: {counted(n, 'validation or test question', spec=',')} {are} of another except "
        "for case, punctuation and spacing, with the same answer. Each question is measured once: "
        "copies would make every interval too narrow.",
    )


def of_empty_golds(database: str, n_empty: Mapping[Split, int], rows: BySplit) -> list[str]:
    """Say that gold queries give no rows, so that many wrong queries are right there.

    Args:
        database: file that they are run on.
        n_empty: how many of a split.
        rows: of each split.
    """
    told = [f"{n:,} of {len(rows[split]):,} {split} rows" for split, n in n_empty.items() if n]
    if not told:
        return []
    return [
        f"The gold queries of {listed(told)} give no rows on {database}. There, every query "
        "without rows counts as right, also a wrong one, so that the accuracy is too high. Take "
        "these questions out, or put rows into the database that they find."
    ]


def too_few(path: str, rows: BySplit) -> list[str]:
    """Return why nothing can be learnt or measured from the rows; nothing where it can."""
    sizes = {split: len(some) for split, some in rows.items()}
    if min(sizes.values()) >= _FEWEST:
        return []
    return [
        f"{path} has too few rows: {counted(sizes['train'], 'row')} to train on, "
        f"{sizes['validation']} to validate, {sizes['test']} to test. At least {_FEWEST} of "
        "each are needed; start with at least a hundred rows in all. Add rows, give the test "
        "questions in a file of their own (task.test_path=<file>), or larger shares of the rows: "
        "task.validation_share=<share> task.test_share=<share>."
    ]


def too_few_for_labels(path: str, rows: BySplit, labels: Sequence[str]) -> list[str]:
    """Return why not every label can be learnt, where there are more of them than rows."""
    n_train = len(rows["train"])
    if n_train >= len(labels):
        return []
    n = sum(map(len, rows.values()))
    return [
        f"{path} has {counted(n, 'row')} for {counted(len(labels), 'label')}, {n_train} of them to "
        f"train on: not every label can be learnt. At least {_FEW_PER_LABEL} training rows of each "
        f"label are needed, which is about {2 * _FEW_PER_LABEL * len(labels)} rows in all. Add "
        "rows, or name fewer labels: task.labels=[…]."
    ]


def of_sizes(rows: BySplit) -> list[str]:
    """Say how sharply so few rows measure."""
    few = [
        f"{counted(n, f'{split} row')} (an accuracy is known to ±{_points(n)} points)"
        for split, least in (("validation", _FEW_VALIDATION), ("test", _FEW_TEST))
        if (n := len(rows[split])) < least  # type: ignore[index]
    ]
    if not few:
        return []
    return [
        f"There are few rows to measure on: {' and '.join(few)}. More rows narrow the interval, or "
        "larger shares of them: task.validation_share=<share> task.test_share=<share>."
    ]


def of_labels(rows: BySplit, labels: Sequence[str]) -> list[str]:
    """Say which labels have hardly a row to learn from, and which may be slips of others."""
    by_split = {
        split: {label: int(some.of_answer(label).sum()) for label in labels}
        for split, some in rows.items()
    }
    train = by_split["train"]
    told = []
    held_out = {label: by_split["validation"][label] + by_split["test"][label] for label in labels}
    lost = [label for label in labels if not train[label] and held_out[label]]
    if lost:
        told.append(
            "Held-out labels without a training row: "
            + _listed([f"{shown(one)} ({counted(held_out[one], 'held-out row')})" for one in lost])
            + ". No student can learn it: add training rows of it, or take it out."
        )
    unused = [label for label in labels if not train[label] and not held_out[label]]
    if unused:
        told.append(
            f"No row has the {'label' if len(unused) == 1 else 'labels'} "
            f"{_listed(list(map(shown, unused)))}, which task.labels names."
        )
    few = [label for label in labels if 0 < train[label] < _FEW_PER_LABEL]
    if few:
        told.append(
            f"Few training rows: {_listed([f'{shown(one)} ({train[one]})' for one in few])}. At "
            f"least {_FEW_PER_LABEL} of each label are needed."
        )
    n = {label: train[label] + held_out[label] for label in labels}
    slips = [
        f"{shown(rare)} ({counted(n[rare], 'row')}) for {shown(common)} ({n[common]})"
        for rare in labels
        for common in labels
        if _is_rare(n[rare], n[common]) and are_alike(rare, common)
    ]
    if slips:
        told.append(
            f"Labels that may be typos: {_listed(slips)}. Fix them in the file, or list the labels:"
            " task.labels=[…]."
        )
    return told


def of_unlabelled(found: FileRows, path: str) -> list[str]:
    """Say what of a file of rows without answers is not read.

    Args:
        found: what was read of it.
        path: of the file with the labelled rows.
    """
    told = [found.complaint()] if found.n_problems else []
    if found.n_passed and found.path != path:
        told.append(
            f"{counted(found.n_passed, 'row', spec=',')} of {found.path} have answers, which are "
            f"not read: move them to {path}, or remove their answers."
        )
    return told


def of_spellings(path: str, spellings: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say which labels differ in case and spacing alone, and are read as one.

    Args:
        path: of the file.
        spellings: label to its spellings in the file, with their numbers of rows. The label is
            the spelling that is kept.
    """
    merged = [
        f"{shown(label)} ({', '.join(f'{shown(one)}: {n:,}' for one, n in found.items())})"
        for label, found in spellings.items()
        if len(found) > 1
    ]
    if not merged:
        return []
    return [
        f"{path} spells {counted(len(merged), 'label')} in more than one way. They are read as "
        f"one, spelled as most of its rows spell it: {_listed(merged)}. Where they are meant to "
        "differ, give them other names."
    ]


def of_ids(path: str, rows: Rows, question: str, answer: str) -> list[str]:
    """Say that the answers look like ids of the rows: each another one, in the order of the file.

    Whether that is right, nobody can tell; so it is a doubt only where another field has values
    that repeat.

    Args:
        path: of the file.
        rows: its labelled rows.
        question: field with the question, as the task has it.
        answer: field with the answer.
    """
    if len(rows) < _FEWEST_IDS:
        return []
    some = list(islice(rows, _N_SAMPLE))
    if any(row.answer in row.question or not _IS_ID.fullmatch(row.answer) for row in some):
        return []
    keys = [_NUMBER.sub(lambda found: found[0].zfill(20), row.answer) for row in some]
    is_counted = all(one < other for one, other in pairwise(keys))
    if not is_counted and not all(_IS_UUID.fullmatch(row.answer) for row in some):
        return []
    likely = likely_answers(path, question, answer)
    return [is_id(path, answer, likely)] if likely else []


def is_id(path: str, answer: str, likely: Sequence[str]) -> str:
    """Say that a field has another value in every row, and which may hold the answer."""
    return (
        f"{path}: every row has another answer in its field {answer}: it looks like an id. Which "
        f"column holds the answer? Type {' or '.join(likely)}."
    )


def of_languages(path: str, rows: Rows) -> list[str]:
    """Say that there are several languages."""
    texts = (row.question for row in islice(rows, _N_SAMPLE))
    found = languages(texts, _SHARE_OF_LANGUAGE, _ROWS_OF_LANGUAGE)
    if len(found) < 2:
        return []
    told = ", ".join(f"{name} {n:,}" for name, n in found.items())
    return [
        f"{path} seems to have rows in {len(found)} languages ({told} of {len(rows):,} training "
        "rows, by their commonest words and letters). Each is learnt from its own rows. To see how "
        "well, name a field with the language: task.slice=<field> 'task.slices=[…]'."
    ]


def _is_rare(n: int, n_common: int) -> bool:
    return 0 < n <= _RARE * n_common or (n == 1 and n_common >= _ONE_AGAINST)


def are_alike(one: str, other: str) -> bool:
    """Return whether one label may be a slip of the other: one key, or little of a long label.

    Labels that differ in a number are meant to: "1 star" and "2 stars".
    """
    one, other = normalised(one), normalised(other)
    if _digits(one) != _digits(other):
        return False
    return _is_one_key(one, other) or SequenceMatcher(None, one, other).ratio() >= _ALIKE


def _is_one_key(one: str, other: str) -> bool:
    """Return whether one character behind the first is wrong, too many, lacking or changed places.

    A share of characters in common does not show it of short labels: two neighbours that changed
    places in a word of six leave 83%.
    """
    if min(len(one), len(other)) < _SHORTEST or one[0] != other[0]:
        return False
    start = _n_in_common(one, other)
    one, other = one[start:], other[start:]
    end = _n_in_common(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    is_swapped = len(one) == 2 and one == other[::-1]
    return is_swapped or max(len(one), len(other)) <= 1


def _n_in_common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _points(n: int) -> int:
    """Return half the width of an interval around one half, in percentage points."""
    found = wilson(n / 2, n)
    return round(50 * (found.high - found.low))


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_SHOWN
    return ", ".join([*texts[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])])
