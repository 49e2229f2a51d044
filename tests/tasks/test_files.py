"""Files of every kind, and the hub: fetched once, then there without a network."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from stratos.core.errors import ConfigError
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.files import read_records
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.words import NotUtf8, OtherFieldCount, Swapped, UnreadableJson

SPLITS = ("train", "validation", "test")
ROWS = [{"question": f'say "{i}",\ntwice', "answer": str(i)} for i in range(30)]


def parquet(path: Path) -> str:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return str(path)


def csv(path: Path) -> str:
    lines = [f'"say ""{i}"",\ntwice",{i}' for i in range(30)]
    path.write_text("\ufeffquestion,answer\n" + "\n".join(lines))
    return str(path)


def jsonl(path: Path) -> str:
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return str(path)


def test_one_table_in_three_formats_is_one_task(tmp_path):
    paths = [parquet(tmp_path / "t.parquet"), csv(tmp_path / "t.csv"), jsonl(tmp_path / "t.jsonl")]
    tasks = [JsonlTask(path) for path in [*paths, f"file://{paths[2]}"]]
    for split in ("train", "validation", "test"):
        items = [task.items(split, 100) for task in tasks]
        assert items[0] == items[1] == items[2] == items[3]
        assert items[0]


@pytest.mark.parametrize(
    ("header", "sign", "name"),
    [("id;question;answer", ";", "semicolons"), ("question\tanswer", "\t", "tabs"),
     ('"question, in full"|question|answer', "|", "vertical bars")],
)  # fmt: skip
def test_columns_of_a_csv_are_separated_as_its_header_shows(tmp_path, header, sign, name):
    path = tmp_path / "t.csv"
    n_before = header.count(sign) - 1
    rows = [sign.join([*("x,y" for _ in range(n_before)), f"what, {i}", str(i)]) for i in range(30)]
    path.write_text("\n".join([header, *rows]))
    task = JsonlTask(str(path))
    assert sum(len(task.items(split, 99)) for split in ("train", "validation", "test")) == 30
    assert {item.question for item in task.items("train", 99)} <= {f"what, {i}" for i in range(30)}
    assert task.notes[0].startswith(f"{path}: read with {name} between its columns")


def test_a_header_that_leaves_open_what_separates_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("question;a\tanswer;b\n1;2\t3;4\n")
    with pytest.raises(ValueError, match=r"separated by semicolons or tabs\. Save it as CSV with"):
        JsonlTask(str(path))
    path.write_text("question,answer;unit\n" + "".join(f"q{i},{i}\n" for i in range(30)))
    [row, *_] = list(read_records(str(path)))
    assert row == ("line 2", {"question": "q0", "answer;unit": "0"}), "a comma is a comma"


@pytest.mark.parametrize(
    ("packed", "typed"),
    [(bz2.compress, "bunzip2 -k <it>"),
     (lzma.compress, "xz -dk <it>"), (lambda data: b"PK\x03\x04" + data, "unzip <it>"),
     (lambda data: b"SQLite format 3\x00" + data, "sqlite3 -csv -header <it> ")],
)  # fmt: skip
def test_what_is_packed_says_how_it_is_unpacked(tmp_path, packed, typed):
    for name in ("t.jsonl", "t.csv"):
        path = tmp_path / name
        path.write_bytes(packed(b'{"question": "a", "answer": "b"}\n'))
        with pytest.raises(ValueError, match=re.escape(typed)):
            JsonlTask(str(path))


def test_gzip_is_read_as_what_it_unpacks_to(tmp_path, monkeypatch):
    lines = "".join(f'{{"question": "what {i}", "answer": "{i}"}}\n' for i in range(30))
    table = "question;answer\n" + "".join(f"what {i};{i}\n" for i in range(30))
    for name, text in (("t.jsonl.gz", lines), ("t.csv.gz", table)):
        path = tmp_path / name
        for encoding in ("utf-8", "utf-16"):
            path.write_bytes(gzip.compress(text.encode(encoding)))
            assert sum(len(JsonlTask(str(path)).items(s, 99)) for s in SPLITS) == 30
    path.write_bytes(gzip.compress(lines.encode())[:-20])
    with pytest.raises(ValueError, match="no whole gzip file"):
        JsonlTask(str(path))
    monkeypatch.setattr("stratos.tasks.files._FREE_BYTES", 0)
    path.write_bytes(gzip.compress(b'{"question": "a", "answer": "b"}\n' * 300_000))
    with pytest.raises(ValueError, match=r"more than 200 times its size.*gunzip -k"):
        JsonlTask(str(path))


def test_columns_that_look_swapped_are_named(tmp_path):
    path, schema = tmp_path / "t.jsonl", tmp_path / "schema.json"
    rows = [{"question": {"n": i}, "answer": f"number {i} it is"} for i in range(30)]
    path.write_text("\n".join(map(json.dumps, rows)))
    schema.write_text('{"type": "object", "properties": {"n": {"type": "integer"}}}')
    typed = "task.question=answer task.answer=question"
    with pytest.raises(ValueError, match=f"look swapped: .*{typed}"):
        JsonlTask(str(path), schema=str(schema))
    assert typed in str(JsonlTask(str(path)).complaints[0])
    right = JsonlTask(str(path), question="answer", answer="question", schema=str(schema))
    assert not any(isinstance(reason, Swapped) for reason in right.complaints)


@pytest.mark.parametrize("n", [60, 11_000])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_labels_that_look_swapped_with_texts_are_named(tmp_path, n, on_error):
    teams = ["bills", "parcels", "log in"]
    path = tmp_path / "t.csv"
    text = "".join(f"{teams[i % 3]},what is to be done with case {i}\n" for i in range(n))
    path.write_text(f"text,label\nalone,a team of a single case\n{text}")
    swapped = str(Swapped(str(path), "text", "label", 4))
    with pytest.raises(ValueError) as caught:
        ClassifyTask(str(path), on_error=on_error)
    assert str(caught.value) == swapped
    with pytest.raises(ValueError) as caught:
        JsonlTask(str(path), question="text", answer="label", on_error=on_error)
    assert str(caught.value) == swapped


def test_a_file_that_is_not_there_has_those_beside_it(tmp_path, worded, snapshot):
    for name in ("bank.csv", "bank.txt", "other.csv"):
        (tmp_path / name).write_text("question,answer\n")
    task = JsonlTask(f"{tmp_path}/bank.cvs")
    with pytest.raises(ConfigError) as caught:
        task.refusals()
    assert worded(caught.value) == snapshot


def test_broken_files_of_each_kind(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"question,answer\na,1,2\nb\n\xff,1\nc,2\n")
    found = list(read_records(str(tmp_path / "a.csv")))
    assert found == [
        ("line 2", OtherFieldCount(2)),
        ("line 3", OtherFieldCount(2)),
        ("line 4", NotUtf8()),
        ("line 5", {"question": "c", "answer": "2"}),
    ]
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"task.path=.*a.parquet cannot be read: no Parquet file"):
        JsonlTask(f"file://{tmp_path}/a.parquet")
    deep = '{"question": ' + "[" * 100_000
    (tmp_path / "a.jsonl").write_text(deep)
    assert isinstance(next(iter(read_records(str(tmp_path / "a.jsonl"))))[1], UnreadableJson)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A server that answers for one file as the hub does."""
    content = Path(parquet(tmp_path / "served.parquet")).read_bytes()
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            known = "/datasets/org/set/resolve/refs%2Fconvert%2Fparquet/main/test/0000.parquet"
            if self.path != known:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_GET = do_HEAD = answer

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def n_items(path: str, home: Path, **env: str) -> str:
    """Load a task in a process of its own: the hub's client reads its settings once."""
    code = (
        "import sys; from stratos.tasks.jsonl import JsonlTask\n"
        "try: print(len(JsonlTask(sys.argv[1]).items('train', 99)))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        env={**kept, "HF_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.slow
def test_a_file_of_the_hub_is_fetched_once_and_kept(hub, tmp_path, snapshot):
    endpoint, asked = hub
    path = "hf://datasets/org/set@~parquet/main/test/0000.parquet"
    here = str(len(JsonlTask(parquet(tmp_path / "t.parquet")).items("train", 99)))
    home = tmp_path / "home"
    offline = n_items(path, home, HF_HUB_OFFLINE="1")
    assert offline == snapshot
    assert n_items(path, home, HF_ENDPOINT=endpoint) == here
    assert len([line for line in asked if line.startswith("GET /datasets")]) == 1
    n_asked = len(asked)
    assert n_items(path, home, HF_HUB_OFFLINE="1") == here
    assert len(asked) == n_asked
    absent = n_items("hf://datasets/org/set/no.jsonl", home, HF_ENDPOINT=endpoint)
    assert absent.startswith("ConfigError task.path=hf://datasets") and "404" in absent
    assert "hf:// names a file of a data set" in n_items("hf://org/set", home)


def test_a_csv_of_another_suffix_is_told_what_to_be_called(tmp_path):
    rows = tmp_path / "library.txt"
    rows.write_text("text,label\n" + "".join(f"text {i},a\n" for i in range(60)))
    with pytest.raises(ValueError) as caught:
        ClassifyTask(str(rows)).items("train", 1)
    assert "If it is a CSV file, name it library.csv" in str(caught.value)
    assert "on_error" not in str(caught.value)
