"""Rows in memory, of the libraries that have them, as the file that a task reads."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest

from stratos.api import write_rows
from stratos.core.errors import ConfigError
from stratos.tasks.files import read_records

ROWS = [
    {"text": "Wo ist meine Karte, „bitte“?\nDanke", "label": "card", "n": 1},
    {"text": "a, b", "label": None, "n": 2},
]


def read(path: Path) -> list[Any]:
    return [row for _, row in read_records(str(path))]


class Stream:
    """A table of a library that speaks Arrow, as polars and DuckDB do."""

    def __init__(self) -> None:
        self.table = pyarrow.Table.from_pylist(ROWS)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        (dict(row) for row in ROWS),
        pandas.DataFrame(ROWS),
        pandas.DataFrame(ROWS).set_index(pandas.Index(["x", "y"])),
        pyarrow.Table.from_pylist(ROWS),
        Stream(),
    ],
    ids=["dicts", "generator", "pandas", "pandas with an index", "pyarrow", "another"],
)
def test_rows_are_read_as_they_were(rows, tmp_path):
    write_rows(rows, tmp_path / "rows.jsonl")
    assert read(tmp_path / "rows.jsonl") == ROWS


def test_what_is_missing_is_null_and_dates_are_texts(tmp_path):
    day = datetime.datetime(2026, 11, 30, 7)
    table = pandas.DataFrame({"text": ["a", None], "at": [day, None], "n": [1.5, None]})
    write_rows(table, tmp_path / "a.jsonl")
    assert read(tmp_path / "a.jsonl") == [
        {"text": "a", "at": "2026-11-30T07:00:00", "n": 1.5},
        {"text": None, "at": None, "n": None},
    ]
    write_rows([{"n": np.int64(3), "m": float("nan"), "of": np.array([1, 2]), "at": day}],
               tmp_path / "b.jsonl")  # fmt: skip
    [line] = (tmp_path / "b.jsonl").read_text().splitlines()
    assert json.loads(line) == {"n": 3, "m": None, "of": [1, 2], "at": "2026-11-30T07:00:00"}


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([{"text": "a"}, "b"], "row 2"),
        ([{"text": object()}], "row 1"),
        ([{"text": {1j: 2}}], "row 1"),
        ({"text": ["a"]}, "dict"),
        (3, "int"),
        (pandas.DataFrame({"text": ["a", 1]}), "table"),
    ],
    ids=["text", "object", "key", "columns", "number", "mixed"],
)
def test_what_is_no_row_is_named_and_nothing_is_written(rows, number, tmp_path):
    with pytest.raises(ConfigError, match=number):
        write_rows(rows, tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_amount_of_money_is_a_text_of_all_its_digits(tmp_path):
    write_rows([{"usd": Decimal("1.10")}], tmp_path / "rows.jsonl")
    assert read(tmp_path / "rows.jsonl") == [{"usd": "1.10"}]
