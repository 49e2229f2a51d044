"""Rows that are worth a label next: what is named, what is written, and what is refused."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import in_process
import pytest

from stratos.core.errors import ConfigError
from stratos.models.kinds import student_kinds
from stratos.models.kinds.features import Tfidf
from stratos.probe.look import read_facts
from stratos.probe.look.next_rows import MOST_COMPARED, most_useful, next_rows
from stratos.probe.words import NoColumn, NoPool, OnlyLabels, StillThere
from stratos.tasks.files import read_records
from tests.probe.test_look import lines, table, texts


@pytest.fixture(autouse=True)
def _linear_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student_kinds, "has_weights", lambda student: student.kind == "linear")


@pytest.fixture
def rows(tmp_path: Path) -> str:
    return table(tmp_path / "rows.csv", "text,label", texts(120))


def test_a_kind_of_text_that_no_label_settles_comes_first() -> None:
    known = [(text, label) for text, label in texts(200) if label != "login"][:80]
    pool = texts(150, seed=1)
    named = most_useful(*zip(*known, strict=True), [text for text, _ in pool], [Tfidf()], 12)
    assert len(set(named)) == 12
    shares = [Counter(label for _, label in some)["login"] / len(some)
              for some in ([pool[k] for k in named], pool)]  # fmt: skip
    assert shares[0] > 1.5 * shares[1]


def test_the_table_has_the_texts_without_a_label_and_is_read_as_they_were(
    tmp_path: Path, rows: str
) -> None:
    own = texts(120)
    pool = [*(text for text, _ in texts(100, seed=1)), own[0][0], own[1][0].upper(), "=1+1 refund"]
    unlabelled = table(tmp_path / "pool.csv", "text", [(text,) for text in pool])
    named = next_rows(read_facts(rows), unlabelled, n=101)
    assert (named.path, named.n_compared, named.n_unlabelled) == (
        str(tmp_path / "rows.to_label.csv"), 101, 101
    )  # fmt: skip
    written = [row for _, row in read_records(named.path) if isinstance(row, dict)]
    assert len(written) == named.n
    assert {row["label"] for row in written} == {""}
    assert {row["text"] for row in written} <= {*pool[:100], pool[-1]}
    with open(named.path, encoding="utf-8") as file:
        assert not any(row[0].startswith("=") for row in csv.reader(file)), "no formula"


def test_rows_of_the_same_file_may_be_those_without_a_label(tmp_path: Path) -> None:
    pairs = [(t, x if k < 90 else "") for k, (t, x) in enumerate(texts(140))]
    path = table(tmp_path / "rows.csv", "text,label", pairs)
    named = next_rows(read_facts(path), path)
    assert (named.n, named.n_unlabelled) == (30, 50)


def test_of_many_texts_some_are_drawn(tmp_path: Path, rows: str) -> None:
    pool = ((f"text of number {k}",) for k in range(MOST_COMPARED + 5))
    named = next_rows(read_facts(rows), table(tmp_path / "pool.csv", "text", pool), n=3)
    assert (named.n_compared, named.n_unlabelled) == (MOST_COMPARED, MOST_COMPARED + 5)


def test_what_cannot_be_named_is_refused_with_what_to_type(tmp_path: Path, rows: str) -> None:
    facts = read_facts(rows)
    other = table(tmp_path / "other.csv", "body", [("a text",)])
    objects = [{"input": t, "output": {"n": k}} for k, (t, _) in enumerate(texts(40))]
    of_objects = read_facts(lines(tmp_path / "objects.jsonl", objects))
    for refused, path, reason in (
        (facts, rows, NoPool(rows, rows)),
        (facts, other, NoColumn(other, "text", ("body",), "")),
        (of_objects, other, OnlyLabels(of_objects.path)),
    ):
        with pytest.raises(ConfigError) as raised:
            next_rows(refused, path)
        assert str(raised.value) == str(reason)
    with pytest.raises(ConfigError, match=r"nowhere\.csv cannot be read"):
        next_rows(facts, str(tmp_path / "nowhere.csv"))
    there = tmp_path / "rows.to_label.csv"
    there.write_text("text,label\na,b\n")
    with pytest.raises(ConfigError) as raised:
        next_rows(facts, rows)
    assert str(raised.value) == str(StillThere(str(there), rows))
    assert there.read_text() == "text,label\na,b\n"


def test_the_command_says_where_they_are(tmp_path: Path, rows: str) -> None:
    table(tmp_path / "pool.csv", "text", [(text,) for text, _ in texts(60, seed=1)])
    words = ("look", "rows.csv", "--unlabelled", "pool.csv")
    done = in_process.stratos(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("label next")]
    assert line.split(None, 2)[2] == (
        "30 rows of 60 without a label, the most useful first: rows.to_label.csv"
    )
    again = in_process.stratos(*words, cwd=tmp_path)
    assert again.returncode == 2 and "is there already" in again.stderr
    (tmp_path / "rows.to_label.csv").unlink()
    looked = json.loads(in_process.stratos(*words, "--json", cwd=tmp_path).stdout)
    assert looked["label_next"]["n"] == 30
