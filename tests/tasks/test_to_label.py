"""A file without answers: what is drawn to be labelled, and how the same command goes on."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import checked
import pytest
from hydra._internal.utils import get_args_parser

from stratos.cli.check import check
from stratos.core.errors import ConfigError
from stratos.core.intervals import wilson
from stratos.tasks.file_report import LEAST, diverse, n_to_check, with_labels
from stratos.tasks.files import read_records

KEY = "strategy.min_coverage"
ABOUT = ("card", "loan", "parcel", "rent")
TEXTS = [f"{about} question number {i} of the {about}" for i in range(100) for about in ABOUT]


def written(path: Path, rows: list[tuple[str, ...]], heading: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return path


def node(path: Path, **more: Any) -> dict[str, Any]:
    """Return the settings of a task as the config has them."""
    target = "stratos.tasks.classify.ClassifyTask"
    names = {"question": "text|question", "answer": "label|answer"}
    return {"_target_": target, "path": str(path), "validation_share": 0.15, **names, **more}


def labelled(task: dict[str, Any], *, is_taught: bool = False) -> Any:
    return with_labels(task, LEAST, KEY, is_taught=is_taught)


def rows_of(table: Path) -> list[list[str]]:
    with table.open(newline="") as file:
        return list(csv.reader(file))


def test_as_many_rows_as_show_that_a_teacher_is_good_enough():
    for least in (0.5, 0.7, 0.9):
        n, hoped = n_to_check(least)
        assert wilson(hoped * n, n).low >= least - 1e-9
        assert wilson(hoped * (n - 2), n - 2).low < least


def test_a_draw_has_each_group_by_its_share_and_each_text_alike_often():
    many = TEXTS + [f"weather report {i} about the weather of the day" for i in range(400)]
    counts: Counter[str] = Counter()
    for seed in range(40):
        drawn = diverse(many, 80, seed)
        assert len(set(drawn)) == 80
        n_weather = sum(text.startswith("weather") for text in drawn)
        assert 36 <= n_weather <= 44, "half of the texts; a plain draw strays to 31 and 49"
        counts.update(drawn)
    share = sum(counts[text] for text in TEXTS[::4]) / counts.total()
    assert share == pytest.approx(1 / 8, abs=0.02), "those of cards are an eighth of all"
    assert sorted(diverse(TEXTS, 1000)) == sorted(TEXTS)


def test_rows_are_written_once_and_the_command_goes_on_with_their_labels(tmp_path):
    path = written(tmp_path / "mails.csv", [(text, "") for text in TEXTS], ("Text", "Label"))
    table = tmp_path / "mails.to_label.csv"
    with pytest.raises(ConfigError, match=r"none of its 400 rows"):
        labelled(node(path))
    heading, *drawn = rows_of(table)
    assert heading == ["Text", "Label"] and len(drawn) == 100
    assert {label for _, label in drawn} == {""} and {text for text, _ in drawn} <= {*TEXTS}
    before = table.read_bytes()
    with pytest.raises(ConfigError, match=r"has none yet"):
        labelled(node(path))
    assert table.read_bytes() == before
    filled = [(text, text.split()[0]) for text, _ in drawn]
    written(table, filled, ("Text", "Label"))
    task = labelled(node(path))
    assert task["path"] == str(table) and "unlabelled_path" not in task
    n_checked = round(100 * task["validation_share"])
    assert n_checked >= n_to_check(LEAST)[0]
    taught = labelled(node(path), is_taught=True)
    assert taught["unlabelled_path"] == str(path)
    assert labelled(node(path, validation_share=0.3))["validation_share"] == 0.3


def test_a_file_of_texts_alone_is_one_without_answers(tmp_path):
    path = written(tmp_path / "mails.csv", [(text,) for text in TEXTS], ("text",))
    with pytest.raises(ConfigError, match=r"to_label\.csv"):
        labelled(node(path))
    assert rows_of(tmp_path / "mails.to_label.csv")[0] == ["text", "label"]


@pytest.mark.parametrize("answer", ["answer", "label|answer", "topic"])
def test_a_column_whose_name_is_like_the_usual_one_holds_no_answers(tmp_path, answer):
    rows = [(text, f"{text}@example.org") for text in TEXTS]
    path = written(tmp_path / "mails.csv", rows, ("text", "sender"))
    with pytest.raises(ConfigError, match=r"to_label\.csv"):
        labelled(node(path, answer=answer))


def test_what_has_an_answer_or_may_have_one_is_left_as_it_is(tmp_path):
    rows = [(text, "") for text in TEXTS]
    some = written(tmp_path / "some.csv", [*rows, ("new", "card")], ("text", "label"))
    other = written(
        tmp_path / "other.csv", [(text, text.split()[0]) for text in TEXTS], ("text", "topic")
    )
    unlike = written(
        tmp_path / "unlike.csv", [(text, f"{text}!") for text in TEXTS], ("text", "labels")
    )
    usual = written(tmp_path / "usual.csv", [(text, text) for text in TEXTS], ("text", "label"))
    empty = written(tmp_path / "empty.csv", rows, ("text", "label"))
    plain = [
        node(some),
        node(other),
        node(unlike, answer="labls"),
        *(node(usual, answer=answer) for answer in ("reply", "")),
        node(empty, unlabelled_path=str(empty)),
        node(empty, metric="regex"),
        node(empty, _target_="mine.Task"),
        node(tmp_path / "nowhere.csv"),
        node("s3://bucket/rows.csv"),
    ]
    assert [labelled(task) for task in plain] == plain
    assert not [*tmp_path.glob("*.to_label.csv")]


def test_the_command_says_what_to_label_and_then_has_no_problem(tmp_path):
    path = written(tmp_path / "mails.csv", [(text, "") for text in TEXTS], ("text", "label"))
    argv = ["+task=classify", f"task.path={path}"]
    with pytest.raises(ConfigError, match=r"^task: [^$]*strategy\.candidates\.pseudo_labels"):
        check(get_args_parser().parse_args(argv))
    table = tmp_path / "mails.to_label.csv"
    filled = [(text, text.split()[0]) for text, _ in rows_of(table)[1:]]
    written(table, filled, ("text", "label"))
    assert checked.problems(*argv) == []


def test_no_text_is_a_formula_in_a_spreadsheet_and_each_is_read_back(tmp_path):
    formulas = ["=1+2", "-3 stars from me", "+49 is my code", "@ann said so", "'=quoted", "'it is"]
    path = written(tmp_path / "rows.csv", [(text,) for text in formulas], ("text",))
    with pytest.raises(ConfigError):
        labelled(node(path))
    table = path.with_suffix(".to_label.csv")
    texts = [text for text, _ in rows_of(table)[1:]]
    assert not [text for text in texts if text[0] in "=+-@"]
    assert {row["text"] for _, row in read_records(str(table))} == set(formulas)  # type: ignore[index]


def test_a_folder_in_place_of_the_table_is_refused(tmp_path):
    path = written(tmp_path / "rows.csv", [(text,) for text in TEXTS], ("text",))
    path.with_suffix(".to_label.csv").mkdir()
    with pytest.raises(ConfigError, match=r"rows\.to_label\.csv"):
        labelled(node(path))
