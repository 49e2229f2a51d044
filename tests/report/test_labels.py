"""Labels in the report: the confusion matrix, and what each label comes to."""

from __future__ import annotations

from stratos.evaluate.scores import confusion
from stratos.records import NO_LABEL, ModelScore
from stratos.report.run_page import label_table
from stratos.tasks.base import Item


def items(*answers: str) -> list[Item]:
    return [Item(str(i), "main", f"q{i}", answer) for i, answer in enumerate(answers)]


def test_a_matrix_counts_right_against_answered() -> None:
    some = items("bug", "bug", "bug", "praise", "praise", "praise")
    counts = confusion(some, ["bug", "BUG", "praise", "praise", None, "what?"])
    assert counts == {"bug": {"bug": 2, "praise": 1}, "praise": {NO_LABEL: 2, "praise": 1}}
    table = label_table(ModelScore("student", "s", (), labels=counts))
    assert table is not None and table.answered == ("bug", "praise", NO_LABEL)
    bug, praise = table.rows
    assert (bug.counts, praise.counts) == ((2, 1, 0), (0, 1, 2))
    assert (bug.precision, bug.recall, round(bug.f1, 3)) == (1.0, 2 / 3, 0.8)
    assert (praise.precision, praise.recall, praise.f1) == (0.5, 1 / 3, 0.4)
    assert round(table.macro_f1, 3) == 0.6


def test_answers_that_hardly_repeat_are_no_labels() -> None:
    assert confusion(items("1", "2", "3", "4"), ["1", "2", "3", "4"]) == {}
    assert confusion(items("1", "1", "1"), ["1", "1", "1"]) == {}
    assert label_table(ModelScore("student", "s", ())) is None
