"""Who has read the test items before, and what each stage of a run read."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from stratos.config import CallbacksConfig
from stratos.evaluate.read_log import LOG, describe_reads, excerpt, note_reads, said_of_runs
from stratos.records import EarlierReads
from stratos.tasks.base import Item


def items(*numbers: int) -> list[Item]:
    return [Item(f"id {number}", "all", str(number), "") for number in numbers]


def note(cache: Path, run: str, *numbers: int, student: str = "a") -> EarlierReads:
    return note_reads(cache, Path("/runs") / run, student, items(*numbers))


def test_each_run_says_how_many_have_read_its_items_before(tmp_path):
    assert note(tmp_path, "1", *range(10)) == EarlierReads(0, 0, 10)
    assert note(tmp_path, "2", *range(10)) == EarlierReads(1, 10, 10)
    assert note(tmp_path, "3", *range(5, 15)) == EarlierReads(2, 5, 10)
    assert note(tmp_path, "4", *range(100, 110)) == EarlierReads(0, 0, 10)
    assert note(tmp_path, "5", *range(20)) == EarlierReads(3, 15, 20)


def test_the_same_student_of_the_same_run_counts_once(tmp_path):
    for _ in range(3):
        assert note(tmp_path, "1", *range(10)).n_runs == 0
    assert len((tmp_path / LOG).read_text().splitlines()) == 1
    assert note(tmp_path, "1", *range(20)).n_runs == 0, "with more items it is still the same"
    assert note(tmp_path, "1", *range(20), student="b") == EarlierReads(1, 20, 20), (
        "another student of the run has been looked at before"
    )
    assert note(tmp_path, "2", *range(20)).n_runs == 2


def test_a_line_that_is_nested_without_end_is_passed_over(tmp_path):
    note(tmp_path, "1", *range(10))
    with (tmp_path / LOG).open("a") as log:
        log.write("[" * 100_000 + "\n")
    assert note(tmp_path, "2", *range(10)) == EarlierReads(1, 10, 10)


def test_another_machine_finds_what_the_log_says_about_its_items(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    note(here, "1", *range(10))
    note(here, "2", *range(100, 110))
    assert note(here, "3", *range(5, 15)) == EarlierReads(1, 5, 10)
    there.mkdir()
    (there / LOG).write_bytes(excerpt(here, items(*range(5, 15))))
    before = (there / LOG).read_text()
    assert [json.loads(line)["run"] for line in before.splitlines()] == ["/runs/1", "/runs/3"]
    assert note(there, "3", *range(5, 15)) == EarlierReads(1, 5, 10)
    assert (there / LOG).read_text() == before, "it was noted before it was sent"


def test_a_run_says_first_which_runs_were_measured_on_its_rows(tmp_path, worded, snapshot):
    rows = items(*range(10))
    assert said_of_runs(tmp_path, tmp_path / "2", rows) == ""
    assert not (tmp_path / LOG).exists(), "to look is not to read"
    (tmp_path / "1").mkdir()
    note_reads(tmp_path, tmp_path / "gone", "s", rows[5:])
    note_reads(tmp_path, tmp_path / "1", "s", rows[:5])
    before = (tmp_path / LOG).read_bytes()
    today = date.today().isoformat()
    of_all = said_of_runs(tmp_path, tmp_path / "2", rows)
    of_some = said_of_runs(tmp_path, tmp_path / "2", items(*range(3, 23)))
    assert [worded(one).replace(today, "TODAY") for one in (of_all, of_some)] == snapshot
    assert said_of_runs(tmp_path, tmp_path / "1", rows[:5]) == "", "its own folder is no other"
    assert said_of_runs(tmp_path, tmp_path / "2", items(77)) == ""
    assert (tmp_path / LOG).read_bytes() == before


def test_a_log_that_was_damaged_is_gone_on_with(tmp_path):
    note(tmp_path, "1", *range(10))
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'\xff\xfe\nnull\n[]\n{"run": 1}\n{"run": "cut sho')
    assert note(tmp_path, "2", *range(10)) == EarlierReads(1, 10, 10)
    assert note(tmp_path, "3", *range(10)) == EarlierReads(2, 10, 10)


@pytest.mark.slow
def test_runs_at_once_lose_no_line(tmp_path):
    script = (
        "import sys; from pathlib import Path; from stratos.evaluate.read_log import note_reads; "
        "from stratos.tasks.base import Item; "
        "items = [Item(str(i), 'a', str(i), '') for i in range(200)]; "
        "[note_reads(Path(sys.argv[1]), Path(sys.argv[2]) / str(i), 's', items) for i in range(5)]"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), f"/runs/{i}"])
        for i in range(4)
    ]
    assert [one.wait() for one in started] == [0] * 4
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert len(lines) == 20 and len({line["run"] for line in lines}) == 20


@pytest.mark.parametrize(
    ("reads", "told"),
    [
        (EarlierReads(0, 0, 10), "no test item was read by an earlier run of this machine"),
        (EarlierReads(1, 10, 10), "test split read by 1 earlier run of this machine"),
        (EarlierReads(7, 72, 72), "test split read by 7 earlier runs of this machine"),
        (
            EarlierReads(5, 31, 1000),
            "31 of 1,000 test items read by 5 earlier runs of this machine",
        ),
    ],
)
def test_it_is_said_in_words(reads, told):
    assert describe_reads(reads) == told


def test_a_training_reads_so_many_validation_items():
    assert CallbacksConfig().n_final == 512
    assert CallbacksConfig(n_validation_items=8).n_validation_read == 40
    assert CallbacksConfig(n_final_validation_items=100).n_validation_read == 228
