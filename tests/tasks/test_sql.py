"""Queries are compared by their rows, and can do nothing but read."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.sql import SqlResult


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop 1.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("create table orders (id integer, city text, total real)")
        rows = [(k, ("Rome", "Bern")[k % 2], k * 1.1) for k in range(10)]
        database.executemany("insert into orders values (?, ?, ?)", rows)
    database.close()
    return path


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("select city from orders", "SELECT city FROM orders;", 1),
        ("select city from orders order by id desc", "select city from orders", 1),
        ("select city from orders order by id desc", "select city from orders order by id", 0),
        ("select distinct city from orders", "select city from orders", 0),
        ("select sum(total) as s from orders", "select 49.5", 1),
        ("select id, city from orders", "select city, id from orders", 0),
        ("```sql\nselect count(*) from orders;\n```", "select 10", 1),
        ("The answer is: select 10", "select count(*) from orders", 1),
        ("select null", "select max(id) from orders where id > 99", 1),
        ("select cty from orders", "select city from orders", 0),
        ("", "select 1", 0),
        ("I don't know", "select 1", 0),
    ],
)
def test_rows_decide(answer: str, gold: str, right: float, shop: Path) -> None:
    assert SqlResult(str(shop)).compare(answer, gold) == right


@pytest.mark.parametrize(
    "query",
    [
        "drop table orders",
        "delete from orders",
        "insert into orders values (1, 'x', 1) returning id",
        "attach database '{other}' as other",
        "vacuum into '{other}'",
        "pragma writable_schema = 1",
        "select load_extension('x')",
        "select 1; drop table orders",
        "with recursive n(k) as (select 1 union all select k + 1 from n) select count(*) from n",
        "with recursive n(k) as (select 1 union all select k + 1 from n) select k from n",
        "select zeroblob(2000000000)",
        "select '" + "x" * 30_000 + "'",
    ],
)
def test_a_query_can_only_read_and_not_for_long(query: str, shop: Path, tmp_path: Path) -> None:
    before, other = shop.read_bytes(), tmp_path / "other.sqlite"
    verifier = SqlResult(str(shop), seconds=0.3, most_rows=1000)
    assert verifier.compare(query.replace("{other}", str(other)), "select 1") == 0
    assert shop.read_bytes() == before and not other.exists()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        SqlResult(str(tmp_path / "no.sqlite"))
    (tmp_path / "text.sqlite").write_text("hello, this is no database at all" * 40)
    with pytest.raises(ValueError, match="no SQLite file"):
        SqlResult(str(tmp_path / "text.sqlite"))


@pytest.mark.parametrize("by_name", [True, False])
def test_gold_queries_that_fail_are_named_by_line(
    by_name: bool, shop: Path, tmp_path: Path
) -> None:
    query = "select count(*) from orders where id > {}"
    rows = [{"question": f"How many above {k}?", "answer": query.format(k)} for k in range(60)]
    rows[7]["answer"] = "select count(*) from order"
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    verifier = {"_target_": "stratos.tasks.sql.SqlResult", "database": str(shop)}
    settings: dict[str, Any] = {"verifier": verifier}
    if by_name:
        settings = {"metric": "sql", "database": str(shop)}
    with pytest.raises(ValueError, match="line 8: its query fails"):
        JsonlTask(str(path), **settings)
    task = JsonlTask(str(path), **settings, on_error="skip")
    [item] = task.items("test", 1)
    assert task.score(f"```sql\n{item.answer.upper()}\n```", item).exact == 1
    assert task.score("select 999", item).exact == 0


def test_the_metric_sql_asks_for_its_database(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {k}?", "answer": f"select {k}"} for k in range(60)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for settings, why in (
        ({"metric": "sql"}, "Type task.database=<SQLite file>"),
        ({"database": str(shop)}, "Type task.metric=sql"),
        ({"metric": "sql", "database": str(path)}, "no SQLite file"),
        ({"metric": "sql", "database": str(shop), "verifier": {}}, "Leave one of them out"),
    ):
        with pytest.raises(ValueError, match=why):
            JsonlTask(str(path), **settings)
    task = JsonlTask(str(path), metric="sql", database=str(shop))
    before = task.content_sha256
    with sqlite3.connect(shop) as database:
        database.execute("insert into orders values (11, 'Oslo', 1)")
    database.close()
    assert JsonlTask(str(path), metric="sql", database=str(shop)).content_sha256 != before
