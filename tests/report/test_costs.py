from dataclasses import replace

import pytest

from stratos.ledger.lines import Reserve
from stratos.report.costs import Spend, cost_rows, read_ledger, stage_seconds
from tests.report import factory


def test_hours_here_are_priced_as_planned(records):
    rows = {row.role: row for row in cost_rows(records["plan"], records)}
    assert list(rows) == ["teacher", "train", "serve", "total"]
    train = rows["train"]
    assert train.measured_hours == pytest.approx((512.0 + 9.2) / 3600)
    assert train.measured_usd == pytest.approx(0.4213 * (512.0 + 9.2) / 3600)  # the spot price
    assert train.stages == ("synthesize", "distill")
    assert (train.planned_usd, train.planned_hours) == (0.0594, 0.141)
    assert rows["serve"].measured_usd == pytest.approx(0.10264 * (331.0 + 38.0) / 3600)
    assert rows["teacher"].measured_usd is None  # the plan rents no server for it
    assert rows["total"].planned_usd == 2.552
    assert rows["total"].measured_usd == pytest.approx(
        rows["train"].measured_usd + rows["serve"].measured_usd
    )


def test_a_corpus_that_a_teacher_wrote_counts_as_the_teachers_time(records):
    factory.change(records, "synthesize", teacher_tokens=1000)
    rows = {row.role: row for row in cost_rows(records["plan"], records)}
    assert rows["teacher"].stages == ("probe", "synthesize")
    assert rows["train"].stages == ("distill",)


def test_hours_of_a_job_are_those_of_all_its_attempts(records):
    spends = tuple(
        Spend("train", seconds / 3600, "train", "distill", seconds, "a server")
        for seconds in (95.5, 2150.5, 29.0)
    )
    train = {row.role: row for row in cost_rows(records["plan"], records, spends)}["train"]
    assert train.measured_hours == pytest.approx((9.2 + 95.5 + 2150.5 + 29.0) / 3600)
    assert train.stages == ("synthesize", "distill")
    assert stage_seconds(records, spends)["distill"] == pytest.approx(2275.0)
    # It failed, and has no record: its attempts were paid all the same.
    assert stage_seconds({}, spends) == pytest.approx({"distill": 2275.0})
    # Most of it ran on this machine.
    assert stage_seconds(records, spends[2:])["distill"] == records["distill"].seconds


def test_hours_of_a_job_stand_beside_its_money(records):
    """A corpus that no teacher wrote takes a server of the role that makes data all the same."""
    factory.change(records, "synthesize", teacher_tokens=0)
    here = {row.role: row for row in cost_rows(records["plan"], records)}
    assert "synthesize" in here["train"].stages
    paid = Spend("teacher 1 × a", 0.1, "teacher", "synthesize", seconds=360.0)
    there = {row.role: row for row in cost_rows(records["plan"], records, (paid,))}
    assert "synthesize" in there["teacher"].stages and "synthesize" not in there["train"].stages
    assert there["teacher"].measured_hours == pytest.approx(
        here["teacher"].measured_hours + max(360.0, records["synthesize"].seconds) / 3600
    )


def test_spend_goes_to_the_role_that_it_names():
    spends = (
        Spend("teacher gpt-x", 0.5, "teacher"),
        Spend("teacher gpt-x", 0.25, "teacher"),
        Spend("storage", 0.1, "other"),
    )
    rows = {row.role: row for row in cost_rows(None, {}, spends)}
    assert list(rows) == ["teacher", "train", "serve", "other", "total"]
    assert (rows["teacher"].spent_usd, rows["other"].spent_usd) == (0.75, 0.1)
    assert rows["total"].spent_usd == pytest.approx(0.85)
    assert rows["total"].planned_usd is None
    assert rows["total"].measured_usd is None


def test_a_ledger_line_that_was_cut_short_is_skipped(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert read_ledger(path) == ()
    whole = (
        '{"kind": "settled", "what": "teacher a", "role": "teacher", "usd": 1.5, "total_usd": 1.5}'
    )
    path.write_text(f'{whole}\nnull\n{{"usd": 2}}\n{{"what": "teach')
    assert read_ledger(path) == (Spend("teacher a", 1.5, "teacher"),)


def test_reserves_stand_beside_what_was_spent(records):
    plan = replace(records["plan"], egress_usd=0.25)
    reserves = {
        "teacher": Reserve(1.5, 0.5, released_usd=1.0),
        "serve": Reserve(2.0),
        "egress": Reserve(0.25),
    }
    spends = (Spend("teacher gpt-x", 0.75, "teacher"), Spend("serve a server", 0.5, "serve"))
    rows = {row.role: row for row in cost_rows(plan, records, spends, reserves)}
    assert (
        rows["teacher"].reserve == reserves["teacher"]
        and rows["egress"].reserve == reserves["egress"]
    )
    assert rows["train"].reserve is None
    assert (rows["teacher"].spent_usd, rows["serve"].spent_usd) == (0.75, 0.5)
    assert rows["total"].reserve == Reserve(3.75, 0.5, released_usd=1.0)
