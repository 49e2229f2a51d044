"""The queue of requests before a server: closed forms beside a simulation of every request."""

import heapq

import numpy as np
import pytest
from serving_points import serving

from stratos.deploy.engines.hugging_face import Transformers, TransformersBatching
from stratos.estimate import constants as k
from stratos.estimate.answering import pace
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import device_of
from stratos.estimate.queueing import (
    busy_probability,
    p95_over_service,
    spread,
    variation_squared,
    wait_of_waiting,
)
from stratos.records import ModelCard, Offer

WORK = Workload(64, 150)


def simulated(slots: int, utilisation: float, services, weights, n: int, seed: int):
    """Return arrival by arrival: which size a request had, and its seconds from coming to end."""
    rng = np.random.default_rng(seed)
    size = rng.choice(len(services), n, p=weights)
    noise = np.exp(spread() * rng.standard_normal(n) - spread() ** 2 / 2)
    service = np.array(services)[size] * noise
    mean = float(np.dot(services, weights))
    come = np.cumsum(rng.exponential(mean / (slots * utilisation), n))
    free = [0.0] * slots
    took = np.empty(n)
    for i in range(n):
        end = max(heapq.heappop(free), come[i]) + service[i]
        heapq.heappush(free, end)
        took[i] = end - come[i]
    return size[n // 10 :], took[n // 10 :]


@pytest.mark.parametrize("slots", [1, 4, 16])
@pytest.mark.parametrize("utilisation", [0.1, 0.5, 0.7, 0.85])
def test_the_95th_percentile_is_that_of_a_simulation(slots, utilisation):
    _, took = simulated(slots, utilisation, [1.0], [1.0], 300_000, seed=slots)
    predicted = float(
        p95_over_service(slots, utilisation, wait_of_waiting(slots, utilisation, 1.0))
    )
    assert predicted == pytest.approx(np.quantile(took, 0.95), rel=0.07)
    wait = busy_probability(slots, utilisation) * wait_of_waiting(slots, utilisation, 1.0)
    assert 1 + wait == pytest.approx(took.mean(), rel=0.05)


def test_short_requests_wait_for_long_ones():
    services, weights = np.array([0.2, 2.0]), np.array([0.8, 0.2])
    square = (services**2 @ weights) * (1 + variation_squared())
    wait = wait_of_waiting(1, 0.6, services @ weights, square)
    predicted = services * p95_over_service(1, 0.6, wait / services)
    size, took = simulated(1, 0.6, services, weights, 400_000, seed=3)
    for i, ms in enumerate(predicted.tolist()):
        assert ms == pytest.approx(np.quantile(took[size == i], 0.95), rel=0.12)
    assert predicted[0] > 5 * 0.2 * k.P95_OVER_MEAN


def test_one_slot_is_pollaczek_and_khinchine_and_many_are_erlang():
    assert busy_probability(1, 0.7) == pytest.approx(0.7)
    assert busy_probability(2, 0.5) == pytest.approx(1 / 3)  # M/M/2 at a load of 1
    assert busy_probability(5, 0.8) == pytest.approx(0.5541, abs=1e-4)  # tables of Erlang C
    assert busy_probability(256, 0.7) < 1e-6
    exponential = wait_of_waiting(1, 0.5, 1.0, 2.0)
    assert exponential == pytest.approx(2.0)  # M/M/1: S / (1 - ρ)


def test_alone_there_is_no_wait():
    assert float(p95_over_service(1, 0.0, 0.0)) == k.P95_OVER_MEAN
    table = [float(p95_over_service(1, share, share)) for share in (0.1, 0.5, 0.9, 0.95)]
    assert table == sorted(table)


def test_a_service_has_the_percentile_that_is_assumed():
    rng = np.random.default_rng(0)
    service = np.exp(spread() * rng.standard_normal(400_000) - spread() ** 2 / 2)
    assert service.mean() == pytest.approx(1, rel=0.01)
    assert np.quantile(service, 0.95) == pytest.approx(k.P95_OVER_MEAN, rel=0.01)
    assert service.var() == pytest.approx(variation_squared(), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Transformers, TransformersBatching])
def test_the_time_to_first_token_under_load_is_that_of_a_simulation_by_the_token(engine):
    """An engine that batches is simulated step by step: a plan is no lower than that."""
    from queues import of_tokens

    slots = engine.cost.slots[0]
    card = ModelCard("tiny", 869_504, 4, 128, 2, 2, 384, 512, 2048)
    offer = Offer("c", "r", "cpu", None, 0, 4, 16, 0, 1.0)
    points = [
        p for p in serving(card, offer, [WORK]) if (p.engine, p.batch) == (engine.kind, slots)
    ]
    point = max(points, key=lambda p: p.utilisation)
    found = pace(card, device_of(offer), WORK, 1, engine.cost)
    first, whole = of_tokens(found, slots, point.requests_per_s[0])
    alone = 1000 * float(found.steady(slots).first_token)
    assert point.ttft_ms.mean > 2 * alone  # most of it is the queue
    assert 0.93 <= point.ttft_ms.mean / (1000 * first.mean()) <= 1.35
    assert 0.93 <= point.latency_ms[0].mean / (1000 * np.quantile(whole, 0.95)) <= 1.35


def test_a_slower_answer_makes_the_queue_longer_too():
    """The interval of the wait is wider than that of an answer; where it has no end it is said."""
    card = ModelCard("tiny", 869_504, 4, 128, 2, 2, 384, 512, 2048)
    offer = Offer("c", "r", "cpu", None, 0, 4, 16, 0, 1.0)
    alone = serving(card, offer, [WORK], fastest=True)[0].ttft_ms
    busy = max(serving(card, offer, [WORK]), key=lambda p: p.utilisation).ttft_ms
    assert busy.high / busy.mean > 1.2 * alone.high / alone.mean
    assert busy.mean / busy.low > 1.2 * alone.mean / alone.low
    assert "the queue may have no end" in busy.source
    assert "queue" not in alone.source
