"""What rows of a log tell of the model that answered them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import nan

import numpy as np

from stratos.contrib.logs.logged_model import LoggedModel
from stratos.contrib.logs.messages.conversation import CHARACTERS_A_TOKEN
from stratos.contrib.logs.words import Doubt
from stratos.tasks.answers import AnswerText
from stratos.tasks.split import content_hash, normalised
from stratos.tasks.table import Row, Rows


def model_of(rows: Iterable[tuple[Doubt | None, Row]], is_checked: bool) -> LoggedModel:
    """Return what rows prove of the model that answered most of them.

    Args:
        rows: each with what is doubtful about its answer, None where nothing is.
        is_checked: whether a wrong answer could be found.
    """
    found = [(why, row) for why, row in rows if row.provenance is not None]
    models = Counter(row.provenance.model for _, row in found if row.provenance is not None)
    name = models.most_common(1)[0][0] if models else ""
    own = [(why, row) for why, row in found if row.provenance and row.provenance.model == name]
    tokens = [_tokens(row) for _, row in own]
    return LoggedModel(
        name,
        len(own),
        Counter(doubt for doubt, _ in own if doubt),
        is_checked,
        tuple(asked for asked, _, _ in tokens),
        tuple(said for _, said, _ in tokens),
        all(is_counted for _, _, is_counted in tokens),
    )


def time_of(row: Row) -> float:
    """Return when a row was logged, in seconds since 1970; NaN where nobody says."""
    return nan if row.provenance is None else row.provenance.time_s


class AnswersByQuestion:
    """Finds the answer of a question among rows."""

    def __init__(self, rows: Rows) -> None:
        """Sort the rows by the hash of their question."""
        self._rows = rows
        ids = rows.column("ids")
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def answer(self, question: str) -> AnswerText | None:
        """Return the answer to a question, up to case and spacing; None where there is none."""
        wanted = content_hash(normalised(question))
        place = int(np.searchsorted(self._sorted, np.uint64(wanted)))
        if place == len(self._sorted) or int(self._sorted[place]) != wanted:
            return None
        return self._rows[int(self._order[place])].answer


def _tokens(row: Row) -> tuple[float, float, bool]:
    """Return tokens in and out of a logged answer, and whether the log says them.

    Else they are told by the length of the texts.
    """
    logged = row.provenance
    if logged is not None and logged.input_tokens is not None and logged.output_tokens is not None:
        return logged.input_tokens, logged.output_tokens, True
    return len(row.question) / CHARACTERS_A_TOKEN, len(row.answer) / CHARACTERS_A_TOKEN, False
