"""The record of a cascade: its line, its numbers, its section of the page."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "report"))

import factory
from test_run_page import make

from stratos.contrib.cascade.record import Cascade, CascadeAt
from stratos.core.intervals import wilson
from stratos.records import Interval
from stratos.run.screen import lines_of

MADE = Cascade(
    "The student answers, and asks its teacher where it is unsure.", True, 0.95, 0.9, 500, 0.9,
    0.97, escalated=wilson(70, 500), measured=wilson(490, 500),
)  # fmt: skip
REFUSED = replace(MADE, is_promised=False, escalated=None, measured=None)


def test_the_stage_says_in_short_what_the_summary_says_whole(snapshot):
    assert [line.text for made in (MADE, REFUSED) for line in lines_of(made)] == snapshot
    run_dir = Path("my runs")
    served = f"Cascade {MADE.text} Type: {MADE.serve_command(run_dir)}"
    assert MADE.summary(run_dir) == served and "'my runs' --cascade" in served
    assert REFUSED.summary(run_dir) == f"Cascade {REFUSED.text}"


def test_runs_are_compared_by_what_is_promised():
    numbers = {"cascade_escalated": 0.14, "cascade_exact": 0.98}
    assert MADE.numbers() == numbers and REFUSED.numbers() == {}
    priced = replace(MADE, usd_per_1000=0.25)
    assert priced.numbers() == numbers | {"cascade_usd_per_1000": 0.25}


def test_a_cascade_has_its_table_and_the_command_that_serves_it(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    records = factory.make_records(run)
    page = make(run, records)
    assert page.section("cascade") == "" and "Cascade" not in page.text[""]
    share = Interval(0.125, 0.1, 0.15, "400 items, Wilson")
    cascade = Cascade(
        "Ask the teacher where <it> is unsure.", True, 0.95, 0.95, 400, 0.9, 0.97, 0.9,
        escalated=share, measured=Interval(0.961, 0.94, 0.98, "400 items, Wilson"),
        usd_per_1000=0.25, student_usd_per_1000=0.125, teacher_usd_per_1000=1.0,
        month=CascadeAt(1000.0, 60.0, 30.0, 63.75),
    )  # fmt: skip
    page = make(run, records | {"cascade": cascade})
    told = page.section("cascade")
    assert "Ask the teacher where <it> is unsure." in told
    assert "96.1% 94.0–98.0% 12.5% 10.0–15.0%" in told and "$0.25 $63.75" in told
    assert f"stratos serve '{run}' --cascade" in told
    assert "Cascade" in page.text[""]
