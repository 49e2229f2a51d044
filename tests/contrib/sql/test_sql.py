"""Queries are compared by their rows, and can do nothing but read."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from stratos.contrib.sql.same_rows import (
    Database,
    EmptyGolds,
    QueryError,
    QueryLimits,
    SqlResult,
    _child,
)
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask

SLOW_STEP = "select hex(zeroblob(300000)) like '%' || hex(zeroblob(12000)) || '1'"
"""One step of SQLite that takes minutes."""
BY_COUNT = (
    "select city, count(*) from orders where id < 9 group by city order by count(*) {}, max(city)"
)


@pytest.fixture(params=["sqlite", "duckdb"])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"shop 1.{request.param}"
    with opened(path) as database:
        database.execute("create table orders (id integer, city text, total double)")
        rows = [(k, ("Rome", "Bern")[k % 2], k * 1.1) for k in range(10)]
        database.executemany("insert into orders values (?, ?, ?)", rows)
    return path


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a database for writing, by the suffix of its file."""
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as database, database:
            yield database
        return
    with pytest.importorskip("duckdb").connect(str(path)) as database:
        yield database


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
        ("select city from orders where city <> '=> x'", "select city from orders", 1),
        ("select 10000000001", "select 10000000002", 0),
        ("select 0.1 + 0.2", "select 0.3", 1),
        ("select 10.0", "select 10", 1),
        ("select 12345678901.000002", "select 12345678901.0", 1),
        ("select 1700000004.4", "select 1700000000.1", 0),
        ("select 4006381333050.0", "select 4006381333051.0", 0),
        ("select sum(total) - 49.5 from orders", "select 0", 1),
        ("select total + 1e-13 from orders", "select total from orders", 1),
        ("select total + 1e-3 from orders", "select total from orders", 0),
        ("select id from orders order by city, id desc", "select id from orders order by city", 1),
        ("select id from orders order by city desc", "select id from orders order by city", 0),
        ("select id, city from orders order by 2, 1", "select id, city from orders order by 2", 1),
        ("select id from orders order by city", "select id from orders order by city, 1 desc", 0),
        (
            "select id from orders order by id % 2, id desc",
            "select id from orders where 'from' <> ',' order by id % 2 asc, city",
            1,
        ),
        (
            "select city, count(*) from orders group by city order by city desc",
            "select city, count(*) as n from orders group by city order by n",
            1,
        ),
        (
            "select id from orders order by 1 desc",
            "select id from orders where id < 5 union select id from orders order by 1",
            0,
        ),
        (BY_COUNT.format("asc"), BY_COUNT.format("desc"), 0),
        (BY_COUNT.format("desc"), BY_COUNT.format("desc") + " -- order by", 1),
        (
            "select id from (select id from orders order by id desc) as a",
            "select id from (select id from orders order by id) as a",
            1,
        ),
        (
            "select id from orders order by id desc",
            "select id from orders where city <> 'order by'",
            1,
        ),
    ],
)
def test_rows_decide(answer, gold, right, shop):
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
        "select length(repeat('x', 3000000000))",
        "select range(500000000)",
        SLOW_STEP,
        "copy orders to '{other}'",
        "export database '{other}'",
        "select * from read_text('/etc/hostname')",
        "set threads = 8",
        "install httpfs",
        "explain select 1",
        "select '" + "x" * 30_000 + "'",
    ],
)
def test_a_query_can_only_read_and_not_for_long(query, shop, tmp_path):
    before, other = shop.read_bytes(), tmp_path / "other.sqlite"
    verifier = SqlResult(str(shop), seconds=0.3, most_rows=1000)
    assert verifier.compare(query.replace("{other}", str(other)), "select 1") == 0
    assert shop.read_bytes() == before and not other.exists()


def test_an_answer_of_few_rows_with_millions_of_numbers_is_refused(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "shop.duckdb"
    duckdb.connect(str(path)).close()
    database, limits = Database(path), QueryLimits(seconds=60, most_rows=10)
    with pytest.raises(QueryError, match="more than 2,000,000 numbers"):
        database.rows("select range(2000001)", limits)
    assert len(database.rows("select range(1000)", limits)[0][1]) == 1000


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("select 2.0::decimal(9, 2)", "select 2", 1),
        ("select [1, 2.0]", "select [1.0, 2]", 1),
        ("select {'b': 1, 'a': 'x'}", "select {'a': 'x', 'b': 1.0}", 1),
        ("select [1, 2]", "select [2, 1]", 0),
        ("select date '2020-01-01'", "select make_date(2020, 1, 1)", 1),
        ("select timestamp '2020-01-01 00:00:00'", "select date '2020-01-01'", 1),
        ("select timestamp '2020-01-01 00:00:01'", "select date '2020-01-01'", 0),
        ("select date '2020-01-02'", "select date '2020-01-01'", 0),
        ("select '1'", "select 1", 0),
        ("select null", "select ''", 0),
        ("select 9007199254740993", "select 9007199254740992", 0),
        ("from orders", "select * from orders", 1),
    ],
)
def test_values_of_duckdb_are_compared_by_what_they_are(answer, gold, right, tmp_path):
    path = tmp_path / "a.duckdb"
    with opened(path) as database:
        database.execute("create table orders (id integer)")
    assert SqlResult(str(path)).compare(answer, gold) == right


def test_queries_run_in_a_child_that_is_kept_and_comes_again(shop):
    verifier = SqlResult(str(shop), seconds=0.3)
    child = _child(Database(shop.resolve()), os.getpid())
    first = child._process
    assert first is not None and verifier.compare("select 1", "select 1") == 1
    assert child._process is first
    peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for query in ("select range(500000000)", SLOW_STEP):
        assert verifier.compare(query, "select 1") == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak + 100_000
    assert time.monotonic() - started < 20, "70 s and more where only steps are counted"
    assert verifier.compare("select 1", "select 1") == 1


def test_at_most_eight_children_are_alive_and_a_fork_ends_none(tmp_path):
    def children() -> list[psutil.Process]:
        ours = psutil.Process().children()
        return [one for one in ours if str(tmp_path) in " ".join(one.cmdline())]

    for k in range(10):
        path = tmp_path / f"{k}.sqlite"
        with opened(path) as database:
            database.execute("create table orders (id integer)")
        Database(path).rows("select id from orders", QueryLimits(seconds=9, most_rows=9))
    left = children()
    assert len(left) == 8
    fork = multiprocessing.get_context("fork").Process(target=_child.cache_clear)
    fork.start()
    fork.join()
    assert fork.exitcode == 0 and children() == left
    _child.cache_clear()
    assert not children()


def test_a_missing_duckdb_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "a.duckdb"
    path.write_bytes(bytes(8) + b"DUCK" + bytes(4096))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"package duckdb is not installed: pip install .*sql"):
        SqlResult(str(path))


def test_what_is_no_database_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        SqlResult(str(tmp_path / "no.sqlite"))
    (tmp_path / "text.sqlite").write_text("hello, this is no database at all" * 40)
    with pytest.raises(ValueError, match="no file of SQLite or DuckDB"):
        SqlResult(str(tmp_path / "text.sqlite"))


@pytest.mark.parametrize("by_name", [True, False])
def test_gold_queries_that_fail_are_named_by_line(by_name, shop, tmp_path):
    query = "select count(*) from orders where id > {}"
    rows = [{"question": f"How many above {k}?", "answer": query.format(k)} for k in range(60)]
    rows[7]["answer"] = "select count(*) from order"
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    verifier = {"_target_": "stratos.contrib.sql.same_rows.SqlResult", "database": str(shop)}
    settings: dict[str, Any] = {"verifier": verifier}
    if by_name:
        settings = {"metric": "sql", "database": str(shop)}
    with pytest.raises(ValueError, match="line 8: its query fails"):
        JsonlTask(str(path), **settings)
    task = JsonlTask(str(path), **settings, on_error="skip")
    [item] = task.items("test", 1)
    assert task.score(f"```sql\n{item.answer.upper()}\n```", item).exact == 1
    assert task.score("select 999", item).exact == 0


def empty_golds(path: Path, shop: Path, **settings: Any) -> list[EmptyGolds]:
    task = JsonlTask(str(path), **(settings or {"metric": "sql", "database": str(shop)}))
    return [reason for reason in task.complaints if isinstance(reason, EmptyGolds)]


def test_gold_queries_without_rows_are_counted_and_stay(shop, tmp_path):
    path = tmp_path / "questions.jsonl"
    query = "select id from orders where id = {}"
    rows = [{"question": f"Which are {k}?", "answer": query.format(k)} for k in range(40)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    verifier = {"_target_": "stratos.contrib.sql.same_rows.SqlResult", "database": str(shop)}
    task = JsonlTask(str(path), verifier=verifier)
    [reason] = empty_golds(path, shop)
    assert empty_golds(path, shop, verifier=verifier) == [reason]
    assert reason.database == str(shop)
    held: dict[str, list[Item]] = {
        "validation": task.items("validation", 40),
        "test": task.items("test", 40),
    }
    assert sum(map(len, held.values())) + task.n_train == 40, "none is left out"
    for split, some in held.items():
        n_empty = sum(int(item.answer.split()[-1]) > 9 for item in some)
        assert n_empty and reason.n_empty[split] == n_empty and reason.n_rows[split] == len(some)
    with opened(shop) as database:
        more = [(k, "Oslo", 1.0) for k in range(10, 40)]
        database.executemany("insert into orders values (?, ?, ?)", more)
    assert empty_golds(path, shop) == []


def test_the_metric_sql_asks_for_its_database(shop, tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {k}?", "answer": f"select {k}"} for k in range(60)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for settings, why in (
        ({"metric": "sql"}, "Type task.database=<file of SQLite or DuckDB>"),
        ({"database": str(shop)}, "Type task.metric=sql"),
        ({"metric": "sql", "database": str(path)}, "no file of SQLite or DuckDB"),
        ({"metric": "sql", "database": str(shop), "verifier": {}}, "Leave one of them out"),
    ):
        with pytest.raises(ValueError, match=why):
            JsonlTask(str(path), **settings)
    task = JsonlTask(str(path), metric="sql", database=str(shop))
    before = task.content_sha256
    with opened(shop) as database:
        database.execute("insert into orders values (11, 'Oslo', 1)")
    assert JsonlTask(str(path), metric="sql", database=str(shop)).content_sha256 != before
