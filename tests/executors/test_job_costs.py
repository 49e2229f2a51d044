"""What a job cost that nobody followed: by its engine, its own words, or what was reserved."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from stub_executors import Queue

from stratos.executors import submission
from stratos.executors.job import BEGAN, TICK, EventWriter, JobSpec, events_path, folder_of
from stratos.executors.job_costs import JobCosts, settle, settle_unseen
from stratos.executors.submission import Submission
from stratos.ledger import Ledger
from stratos.ledger.reserves import Lease, leases, rent

AT = 1_700_000_000.0
"""When the servers were rented."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl", 100.0, stage="distill")


@pytest.fixture
def lease(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Return servers at a cent a second that are rented for an hour and were never seen to run."""
    monkeypatch.setattr("stratos.ledger.reserves.now", lambda: AT)
    return rent(ledger, "train", "servers", 36.0, 1.0)


def spent(ledger: Ledger) -> float:
    assert leases(ledger) == []
    [settled] = [one for one in map(json.loads, ledger.path.read_text().splitlines())
                 if one["kind"] == "settled"]  # fmt: skip
    assert settled["usd"] == pytest.approx(settled["seconds"] / 100)
    return ledger.spent_usd


@pytest.mark.parametrize(
    ("spans", "usd"),
    [
        ([(AT + 100, AT + 153)], 0.53),
        ([(AT + 10, AT + 20), (AT + 500, AT + 530)], 0.4),  # queued again in between
        ([], 0),  # it was cancelled while it waited
        ([(AT - 3600, AT - 60)], 0),  # of another job
        ([(AT - 3600, AT + 60)], 0.6),
    ],
)
def test_an_engine_that_knows_is_believed(ledger, lease, tmp_path, spans, usd):
    assert settle(lease, tmp_path, "distill", spans) == ""
    assert spent(ledger) == pytest.approx(usd)


def test_without_an_engine_it_is_what_the_job_said_first_and_last(ledger, lease, tmp_path):
    folder_of(tmp_path).mkdir()
    path = events_path(tmp_path, "distill")
    write = EventWriter(path)
    write(BEGAN, "n1", 7, AT - 50)  # of an earlier job of the stage
    write(BEGAN, "n1", 8, AT + 30)
    write(TICK, 1, 2, "")
    os.utime(path, (AT + 80, AT + 80))
    assert settle(lease, tmp_path, "distill", None) == ""
    assert spent(ledger) == pytest.approx(0.5)


@pytest.mark.parametrize(("passed_s", "usd"), [(60.0, 0.6), (86400.0, 36.0)])
def test_where_nothing_is_known_what_is_reserved_is_booked_and_said(
    ledger, lease, tmp_path, monkeypatch, passed_s, usd
):
    monkeypatch.setattr(time, "time", lambda: AT + passed_s)
    said = settle(lease, tmp_path, "distill", None)
    assert said.startswith("distill: nobody knows how long the servers of its earlier job ran. $")
    assert spent(ledger) == pytest.approx(usd)


def test_a_job_that_is_ended_while_it_runs_costs_from_its_start(ledger, lease, tmp_path):
    (folder_of(tmp_path)).mkdir()
    one = Submission(
        "queue", "a job", "distill", str(tmp_path), "train", 1, 36.0, servers=lease.line.what
    )
    submission.write(tmp_path, one)
    assert settle_unseen(tmp_path, "distill", ledger, None, since=AT + 5, at=AT + 65) == ""
    assert spent(ledger) == pytest.approx(0.6)
    assert submission.find(tmp_path, "distill") is None


@pytest.mark.parametrize(
    ("launched", "spans", "since", "booked"),
    [
        # It was seen at work, and is: nothing has ended.
        (10, [(10, 900)], 10, []),
        (10, None, 10, []),
        # It was seen at work, ended unseen, and has servers anew.
        (10, [(10, 40), (500, 900)], 500, [30]),
        # It ended unseen and waits again: it is not paid for that.
        (10, [(10, 40)], None, [30]),
        # Nobody saw it run twice.
        (None, [(20, 50), (100, 160), (500, 900)], 500, [90]),
        (None, [(20, 50)], None, [30]),
        (None, [(500, 900)], 500, []),
        (None, None, 500, []),
        (None, [], None, []),
    ],
)
def test_a_job_that_is_followed_pays_what_it_had_and_gave_back(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launched: float | None,
    spans: list[tuple[float, float]] | None, since: float | None, booked: list[float],
) -> None:  # fmt: skip
    monkeypatch.setattr("stratos.ledger.reserves.now", lambda: AT)
    spec = JobSpec("stratos-a-distill", "distill", tmp_path, "train", 1, 36.0, planned_hours=1.0)
    first = JobCosts(ledger, Queue(), spec)
    if launched is not None:
        first.launch(AT + launched)
    # The price of today is for the next job.
    costs = JobCosts(ledger, Queue(), replace(spec, usd_per_hour=72.0))
    assert costs.usd_per_hour == 36.0
    at = None if spans is None else [(AT + begin, AT + end) for begin, end in spans]
    costs.catch_up(at, None if since is None else AT + since)
    settled = [one for one in map(json.loads, ledger.path.read_text().splitlines())
               if one["kind"] == "settled"]  # fmt: skip
    assert [one["seconds"] for one in settled] == booked
    assert ledger.spent_usd == pytest.approx(sum(booked) / 100)
    assert len(leases(ledger)) == 1


def test_a_job_has_hours_left_for_what_is_free_and_what_was_set_aside_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("stratos.ledger.reserves.now", lambda: AT)
    ledger = Ledger(tmp_path / "ledger.jsonl", 100.0, stage="distill")
    spec = JobSpec("stratos-a-distill", "distill", tmp_path, "train", 1, 36.0, planned_hours=1.0)
    costs = JobCosts(ledger, Queue(), spec)
    assert costs.hours_left == pytest.approx(100 / 36)
    with ledger.reserve("teacher x", 28.0) as call:
        call.settle(28.0)
    assert costs.hours_left == pytest.approx(72 / 36)
    costs.launch(AT)
    monkeypatch.setattr(time, "time", lambda: AT + 1800)
    assert costs.hours_left == pytest.approx(72 / 36 - 0.5)
    monkeypatch.setattr(time, "time", lambda: AT + 36000)
    assert costs.hours_left == 0
    other = Ledger(tmp_path / "other.jsonl", 100.0, stage="distill")
    assert JobCosts(other, Queue(), replace(spec, usd_per_hour=0.0)).hours_left is None
