"""Which rows without a label are worth one next, by what the labelled rows teach.

A label settles the row that has it and, in part, those that are like it. So a row is the more
useful the less sure a student of the labelled rows is of it and of its neighbours, and the less of
that is settled by the rows above it (uncertainty and coverage; `synthesize.pseudo_labels`).
`benchmarks/kinds/next_rows.py` compares such rows with as many random ones.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stratos.core.errors import ConfigError
from stratos.core.remote import local_path
from stratos.probe.look.columns import AnswerKind
from stratos.probe.words import NoColumn, NoPool, OnlyLabels, StillThere
from stratos.tasks.dedup.hashes import normalised
from stratos.tasks.files import TO_LABEL, is_local, read_records, safe_cell
from stratos.tasks.rows import answer_of, find_field, text_of

if TYPE_CHECKING:
    from stratos.models.kinds.features import Features
    from stratos.probe.look.facts import Facts

N_NEXT = 30
MOST_COMPARED = 2_000
"""Rows without a label among which the useful ones are looked for: an encoder reads each."""


@dataclass(frozen=True)
class NextRows:
    """Rows that are worth a label, written into a table with an empty column for it."""

    path: str
    n: int
    n_compared: int
    """Rows without a label that were compared, of `n_unlabelled` different ones."""
    n_unlabelled: int


def next_rows(facts: Facts, unlabelled: str, n: int = N_NEXT) -> NextRows:
    """Write the rows that are worth a label next, the most useful first.

    Args:
        facts: what is in the file with the labels.
        unlabelled: path of a file with further texts, or of the same file.
        n: how many are wanted.

    Raises:
        ConfigError: there are none, or the table is there already; the message says what to type.
    """
    from stratos.models.kinds.learnt_rows import blocks_of
    from stratos.probe.look.measure import MOST_CHARACTERS, kinds_here, rows_of

    if facts.kind is not AnswerKind.LABELS:
        raise ConfigError(str(OnlyLabels(facts.path)))
    path = local_path(facts.path) if is_local(facts.path) else Path(facts.path).name
    table = Path(path).expanduser().with_suffix(TO_LABEL)
    if table.exists():
        raise ConfigError(str(StillThere(str(table), facts.path)))
    known = {normalised(text) for text in _texts(facts.path, facts, with_answer=True)}
    texts = {normalised(text): text for text in _texts(unlabelled, facts, with_answer=False)}
    pool = [text for key, text in texts.items() if key not in known]
    if not pool:
        raise ConfigError(str(NoPool(unlabelled, facts.path)))
    compared = random.Random(0).sample(pool, min(len(pool), MOST_COMPARED))
    rows = rows_of(facts)
    students, _ = kinds_here(len(rows.texts))
    cut = [text[:MOST_CHARACTERS] for text in compared]
    chosen = most_useful(rows.texts, rows.labels, cut, blocks_of(students), n)
    written = io.StringIO(newline="")
    heading = (facts.text, facts.answer)
    csv.writer(written).writerows([heading, *((safe_cell(compared[k]), "") for k in chosen)])
    with table.open("x", encoding="utf-8", newline="") as file:
        file.write(written.getvalue())
    return NextRows(str(table), len(chosen), len(compared), len(pool))


def most_useful(
    texts: Sequence[str],
    labels: Sequence[str],
    unlabelled: Sequence[str],
    blocks: Sequence[Features],
    n: int,
) -> list[int]:
    """Return which rows are worth a label, the most useful first.

    Args:
        texts: of the labelled rows.
        labels: theirs.
        unlabelled: texts of the others.
        blocks: of features; the last that learns nothing from texts is used, if there is any.
        n: how many are wanted.
    """
    from stratos.models.kinds.learnt_rows import Correction, TeacherRows, Way
    from stratos.synthesize.pseudo_labels import suggested

    # Rows of a teacher that has labelled none of them: each is answered by the labelled rows.
    nobody = TeacherRows(
        tuple(unlabelled), (labels[0],) * len(unlabelled), (0.0,) * len(unlabelled)
    )
    answered = Correction(texts, labels, nobody, blocks, options=(Way(0.0),))
    doubt = 1 - answered.probabilities(0.0).max(axis=1)
    return [row for row, _ in suggested(answered.of_teacher, doubt, n)]


def _texts(path: str, facts: Facts, *, with_answer: bool) -> Iterator[str]:
    """Yield the texts of the rows with an answer, or of those without.

    Raises:
        ConfigError: the file cannot be read, or lacks the column.
    """
    try:
        for _, row in read_records(path):
            if not isinstance(row, dict):
                continue
            if find_field(row, facts.text) is None:
                columns = tuple(map(str, row))
                raise ConfigError(str(NoColumn(path, facts.text, columns, "")))
            text = text_of(row, facts.text)
            if text and bool(answer_of(row, facts.answer)) == with_answer:
                yield text
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}).") from error
