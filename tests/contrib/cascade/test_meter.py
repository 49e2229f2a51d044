"""Whose dollars a meter counts, and how a cascade that is served stands."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import pytest

from stratos.contrib.cascade.endpoint import meter as meter
from stratos.contrib.cascade.endpoint.meter import (
    Counters,
    Facts,
    Meter,
    check_alone,
    counting,
    meter_of,
    read_kept,
)
from stratos.contrib.cascade.front import CascadeFront, typed
from stratos.core.errors import StratosError
from stratos.deploy.hosted_server import FrontStatus, Hosted
from stratos.deploy.hosted_status import Standing, State


def bundle_at(folder: Path, said: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(said)
    return folder


def spend(bundle: Path, cache: Path, usd: float) -> None:
    with counting(bundle, cache) as path:
        meter = Meter(path, None, None)
        assert meter.take(usd)
        meter.pay(usd, usd)
        meter.close()


def spent(bundle: Path, cache: Path) -> float:
    return sum(read_kept(meter_of(bundle, cache)).usd_by_day.values())


def test_a_run_that_is_moved_keeps_its_count_and_another_bundle_begins_at_none(tmp_path):
    cache, here, there = tmp_path / "cache", tmp_path / "a" / "bundle", tmp_path / "b" / "bundle"
    spend(bundle_at(here, "one"), cache, 0.25)
    shutil.move(here.parent, there.parent)
    assert spent(there, cache) == pytest.approx(0.25)
    assert spent(bundle_at(here, "two"), cache) == 0
    spend(here, cache, 0.5)
    assert (spent(there, cache), spent(here, cache)) == pytest.approx((0.25, 0.5))


def test_what_is_sent_after_midnight_by_a_process_that_is_killed_counts_for_the_new_day(
    tmp_path, monkeypatch
):
    path = tmp_path / "one.meter"
    monkeypatch.setattr(meter, "_today", lambda: "2026-11-27")
    killed = Meter(path, 1.0, None)
    assert killed.take(0.5)
    killed.pay(0.5, 0.5)
    monkeypatch.setattr(meter, "_today", lambda: "2026-11-28")
    assert killed.take(0.5) and killed.take(0.5) and not killed.take(0.5)
    again = Meter(path, 1.0, None)
    assert again.spent("2026-11-28") >= 1.0 and not again.take(0.5)


def test_a_process_that_is_killed_counts_what_was_under_way_and_nothing_else(tmp_path):
    path = tmp_path / "one.meter"
    killed = Meter(path, 0.6, None)
    for usd in (0.02, 0.0):  # an answer, and a refusal
        assert killed.take(0.1)
        killed.pay(0.1, usd)
    assert killed.take(0.1)
    today = killed.facts().usd_today
    again = Meter(path, 0.6, None)
    assert (today, again.facts().usd_today) == pytest.approx((0.02, 0.12))
    assert Meter(path, 0.6, None).facts().usd_today == pytest.approx(0.12)


def test_a_copy_does_not_spend_a_limit_twice(tmp_path):
    first = bundle_at(tmp_path / "run" / "bundle", "one")
    copied = bundle_at(tmp_path / "copied" / "bundle", "one")
    other = bundle_at(tmp_path / "other" / "bundle", "two")
    with counting(first, tmp_path):
        with pytest.raises(StratosError, match=r"A copy of .*bundle is served with --cascade on"):
            check_alone(copied, tmp_path, None)
        with (
            pytest.raises(StratosError, match=r"would spend its limits twice"),
            counting(copied, tmp_path),
        ):
            pass
        check_alone(other, tmp_path, None)
    check_alone(copied, tmp_path, None)


def hosted() -> Hosted:
    return Hosted(
        "/run/bundle", "run", 9, 10, "stratos.contrib.cascade.endpoint",
        ["/run", "--cache", "/c", "--usd-per-day", "5", "--port", "9"], {}, "log", "now", "",
        "llamacpp", 8, student="run:student",
    )  # fmt: skip


def test_a_cascade_that_is_started_again_stays_one_with_its_options():
    parser = ArgumentParser()
    CascadeFront().add_options(parser)
    told = parser.parse_args(["--teacher-seconds", "3"])
    CascadeFront().keep_options(told, hosted())
    assert told.cascade
    assert typed(told) == ["--usd-per-day", "5", "--teacher-seconds", "3"]
    alone = parser.parse_args([])
    CascadeFront().keep_options(
        alone, replace(hosted(), module="stratos.deploy.engines.llama_server")
    )
    assert not alone.cascade and typed(alone) == []


def test_the_counters_are_fields_for_scripts_and_words_for_people(monkeypatch, snapshot):
    facts = Facts(
        requests=1200, escalated=300, teacher_answers=299, teacher_input_tokens=5000,
        teacher_output_tokens=1, usd=0.01, unavailable=1, usd_today=0.02, usd_this_month=1.5,
        usd_per_month=9.0,
    )  # fmt: skip
    monkeypatch.setattr("stratos.contrib.cascade.front.facts_now", lambda hosted: facts)
    status = CascadeFront().status(Path(), hosted(), answers=True)
    assert status.facts["is_cascade"] and status.facts["cascade"]["usd_per_day"] is None
    assert {*vars(Counters())} < {*status.facts["cascade"]}
    told = status.facts["cascade"]
    assert (told["escalated"], told["usd_this_month"]) == (300, 1.5)
    assert status.line == snapshot
    one = Standing(hosted(), State.ANSWERS, 0, (status,))
    assert json.loads(one.json)["cascade"] == told and f"\n  {status.line}\n" in one.text
    silent = CascadeFront().status(Path(), hosted(), answers=False)
    assert silent == FrontStatus("", {"is_cascade": True, "cascade": None})


def test_a_student_alone_has_no_line_of_a_cascade():
    alone = replace(hosted(), module="stratos.deploy.engines.llama_server")
    status = CascadeFront().status(Path(), alone, answers=True)
    assert status == FrontStatus("", {"is_cascade": False, "cascade": None})
