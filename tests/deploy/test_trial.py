"""The load test beside the plan and the estimate, with a server whose answers take a known time."""

import math
from dataclasses import replace

import pytest
from slow_server import CHATS, one_at_a_time
from tiny_run import tiny_plan

from stratos.deploy import trial
from stratos.deploy.card import sentences, with_speed
from stratos.deploy.load_test import OpenLoop, Served
from stratos.deploy.trial import (
    Asking,
    Plans,
    _tests,
    _usd_per_1000,
    planned_per_s,
    setting_here,
    try_server,
)
from stratos.estimate.fleet import calibration
from stratos.records import (
    Deployment,
    Interval,
    LoadResult,
    ModelCard,
    Offer,
    Prediction,
    ServingSetting,
    TriedRate,
)

CARD = ModelCard("tiny", 10_000, 2, 32, 4, 4, 64, 100, 128)
ALONE = ServingSetting("transformers")


def tried(
    server, cache_dir, *, planned=None, load_seconds=1.0, run=ALONE, concurrency=1, card=CARD
):
    server.process = type("Process", (), {"pid": 1})
    plans = Plans(card, "t", "s", run, planned, cache_dir)
    return try_server(asking(server, load_seconds, run.slots), plans, concurrency)


def asking(server, load_seconds, slots=1):
    return Asking(server, CHATS, 4, load_seconds, 0, lambda done, total, what: None, slots)


@pytest.mark.slow
def test_an_answer_that_takes_too_long_for_an_open_loop_is_said(tmp_path):
    with one_at_a_time(0.05) as server:
        found = tried(server, tmp_path, load_seconds=0.1)
        none = tried(server, tmp_path, load_seconds=0.0)
    assert found.load is None
    assert found.load_note.startswith("0.1 seconds hold fewer than 5 requests")
    assert none.load is None and none.load_note == ""


@pytest.mark.slow
@pytest.mark.parametrize("card", [CARD, None])
def test_tokens_are_timed_of_a_language_model_alone(tmp_path, card):
    with one_at_a_time(0.002) as server:
        load = tried(server, tmp_path, card=card).load
    assert load is not None
    assert bool(load.first_token_ms) is (load.stream_kept_up is not None) is (card is not None)


@pytest.mark.slow
def test_a_busy_machine_is_no_calibration(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "others_between", lambda before, after: (1.8, True))
    with one_at_a_time(0.01) as server:
        found = tried(server, tmp_path, load_seconds=0.0)
    assert found.was_busy and found.others_cores == 1.8
    assert calibration(tmp_path).served == ()
    monkeypatch.setattr(trial, "others_between", lambda before, after: (0.1, False))
    with one_at_a_time(0.01) as server:
        tried(server, tmp_path, load_seconds=0.0)
    (served,) = calibration(tmp_path).served
    assert served.answer_tokens == 3
    assert 0.01 < served.answer_s < 1


def test_the_engine_of_the_plan_is_served_here_if_it_runs_here():
    plan = tiny_plan()
    assert setting_here(plan) == ALONE

    def of(run):
        return replace(plan, roles=tuple(
            replace(role, run=run) if role.role == "serve" else role for role in plan.roles
        ))  # fmt: skip

    batching = ServingSetting("transformers-batching", 16)
    assert setting_here(of(batching)) == batching
    assert setting_here(of(ServingSetting("vllm", 64))) == ALONE


def test_the_planned_rate_is_that_of_one_server():
    plan = tiny_plan()
    roles = [
        replace(role, count=4, traffic=(1.0, 0.5)) if role.role == "serve" else role
        for role in plan.roles
    ]
    mixed = replace(plan, roles=tuple(roles))
    assert planned_per_s(mixed, (10.0, 4.0)) == 3.0
    assert planned_per_s(mixed, None) is None
    assert planned_per_s(plan, (10.0,)) is None


def shown(**changes):
    load = LoadResult(
        requests_per_s=3.0, n_requests=45, seconds=16.2, kept_up=True, gap_variation=1.0,
        latest_ms=2.0, latency_p50_ms=280.0, latency_p95_ms=900.0, capacity_per_s=3.5, tries=(),
        p95_ms=Prediction(Interval(1000.0, 500.0, 2000.0, "a test"), 900.0),
        capacity=Prediction(Interval(8.0, 5.0, 9.0, "a test"), 3.5), planned_per_s=25.0,
    )  # fmt: skip
    answer = Prediction(Interval(300.0, 250.0, 400.0, "a test"), 281.0)
    made = Deployment("", "", 32, 32, 280.0, 320.0, 500.0, "", 0, 1.0, ALONE)
    return replace(made, **{"load": load, "answer_ms": answer, **changes})


def test_what_was_measured_is_said_beside_what_was_predicted(snapshot):
    assert sentences(shown()) == snapshot


def test_on_a_busy_machine_what_is_slower_is_not_judged():
    said = sentences(shown(was_busy=True, others_cores=1.7))
    assert not any("as predicted" in one for one in said)
    assert said[1].startswith("Other work used 1.7 cores")


def test_where_nothing_was_predicted_nothing_is_said_and_the_card_stays():
    old = shown(load=None, answer_ms=None)
    assert sentences(old) == []
    assert with_speed("# x\n\n## Limits\n", old) == "# x\n\n## Limits\n"


def test_times_of_tokens_dollars_and_errors_are_said(snapshot):
    full = replace(
        shown().load, first_token_ms=(12.0, 30.0, 55.0), token_ms=(0.2, 0.31, 12.4),
        latency_p99_ms=1400.0, tokens_per_s=480.0, usd_per_1000=0.0093, planned_usd_per_1000=0.0011,
        n_errors=2, servers_here=9,
    )  # fmt: skip
    said = sentences(shown(load=full))
    assert said[3:7] == snapshot


def test_what_broke_at_each_rate_is_said(snapshot):
    failed, late, slow = (
        TriedRate(20.0, 40, 2, 120.0, True), TriedRate(10.0, 20, 0, 310.0, True),
        TriedRate(5.0, 10, 1, 300.0, False),
    )  # fmt: skip
    load = replace(shown().load, holds_limit=False, n_errors=2, tries=(failed,))
    said = sentences(shown(load=load))
    assert sum(one.startswith("At 20 a second it did not") for one in said) == 1
    assert not any("limit" in one for one in said), "there was none"
    said = sentences(shown(load=replace(load, tries=(failed, late, slow), limit_ms=150.0)))
    assert [one for one in said if one.startswith("At ")] == snapshot
    streamed = sentences(shown(load=replace(shown().load, stream_kept_up=False)))
    assert sum(one.startswith("Streamed, it did not keep up") for one in streamed) == 1


class Scripted:
    """A server of which each rate has a known outcome, as the load test sees it."""

    seconds = 10.0

    def __init__(self, holds, share_failed=0.0):
        self.holds, self.share_failed, self.rates = holds, share_failed, []

    def at(self, rate, *, stream=False, is_clear=False):
        self.rates.append(rate)
        n, s = round(rate * self.seconds), 0.9 / rate if self.holds(rate) else 1.4 / rate
        spans, free = [], 0.0
        for i in range(n):
            free = max(free, i / rate) + s
            spans.append((i / rate, free))
        bad = round(n * self.share_failed)
        answers = tuple(
            Served("x", 1, end - due, due, error="gone" if i < bad else "")
            for i, (due, end) in enumerate(spans)
        )
        return OpenLoop(answers, spans[-1][1], rate, self.seconds, 1)


@pytest.mark.parametrize(
    ("planned", "most_that_holds", "rates", "busiest"),
    [
        (18.0, 19.0, [18.0], 18.0),  # between 85% of the capacity and all of it: itself
        (18.0, 17.5, [18.0, 17.0], 17.0),
        (18.0, 10.0, [18.0, 17.0, 8.5], 8.5),
        (6.0, 19.0, [6.0], 6.0),
        (10.0, 6.0, [10.0, 5.0, 7.5], 5.0),
        (25.0, 19.0, [17.0], 17.0),  # above the capacity
        (None, 19.0, [17.0], 17.0),
        (None, 10.0, [17.0, 8.5, 12.75], 8.5),
    ],
)
def test_the_rates_that_are_tried(tmp_path, planned, most_that_holds, rates, busiest):
    asking = Scripted(lambda rate: rate <= most_that_holds)
    _, sustained = _tests(asking, Plans(CARD, "t", "s", ALONE, planned, tmp_path), 20.0)
    assert asking.rates == rates
    assert sustained is not None and sustained.asked_per_s == busiest


def test_dollars_are_of_answers_that_were_given(tmp_path):
    offer = Offer("aws", "r", "x", None, 0, 2.0, 8.0, 0.0, 0.36)
    plans = Plans(CARD, "t", "s", ALONE, 40.0, tmp_path, None, offer)
    half = Scripted(lambda rate: True, share_failed=0.5).at(10.0)
    assert half.requests_per_s == pytest.approx(50 / half.seconds)
    assert _usd_per_1000(plans, half) == (pytest.approx(0.02), pytest.approx(0.0025))
    behind = Scripted(lambda rate: False).at(10.0)
    assert _usd_per_1000(plans, behind) == (None, pytest.approx(0.0025))


@pytest.mark.slow
def test_the_highest_rate_within_the_limit_is_found_and_what_holds_the_plan(tmp_path):
    """Answers take 50 ms one after another: 95 of 100 are within 150 ms at some rate below 20/s."""
    offer = Offer("aws", "r", "x", None, 0, 2.0, 8.0, 0.0, 0.36)
    with one_at_a_time(0.05) as server:
        server.process = type("Process", (), {"pid": 1})
        plans = Plans(CARD, "t", "s", ALONE, 40.0, tmp_path, 150.0, offer, 2)
        load = try_server(asking(server, 2.0), plans, 1).load
    assert load is not None and load.limit_ms == 150
    assert load.tries[0].requests_per_s == pytest.approx(0.85 * load.capacity_per_s)
    if load.kept_up:
        assert load.usd_per_1000 == pytest.approx(0.1 / load.requests_per_s)
    assert load.planned_usd_per_1000 == pytest.approx(0.0025)
    if load.holds_limit:
        assert load.latency_p95_ms <= 150
        assert load.servers_here == math.ceil(80 / load.requests_per_s)
    else:
        assert load.servers_here is None
