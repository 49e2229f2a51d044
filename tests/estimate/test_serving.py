from dataclasses import replace

import numpy as np
import pytest
from hardware_world import LLAMA_8B, RUN, SEVEN, SEVENTY, TINY, cpu, gpu
from hypothesis import given
from hypothesis import strategies as st

from stratos.estimate import (
    Calibration,
    Fleet,
    Workload,
    generate,
    generate_all,
    serving,
    serving_all,
)
from stratos.estimate import constants as k
from stratos.estimate.answering import pace, tensor_degrees
from stratos.estimate.device import device_of
from stratos.estimate.fitted import fitted
from stratos.estimate.roofline import ServeSetup, decode_seconds, prefill_seconds

WORK = Workload(64, 150)


def point(points, batch, degree=1):
    return next(p for p in points if (p.batch, p.tensor_parallel) == (batch, degree))


def test_a_decoding_step_reads_weights_and_cache():
    fit, device = fitted().inference, device_of(gpu("H100"))
    read = 2 * (LLAMA_8B.n_params - 128256 * 4096 - 65 * 4096)  # the embedding is looked up
    weights = read / (fit.weights * 3350e9)
    cache = 8 * 1024 * 131_072 / (fit.cache * 3350e9)
    floors = 32 * fit.layer_floor_s + 8 * fit.sequence_floor_s
    seconds = decode_seconds(LLAMA_8B, device, ServeSetup(), 8, 1024, fit)
    assert seconds == pytest.approx(weights + cache + floors)
    # Published: Llama-3.1-8B in bf16 at batch 8 on an H100, 7.4 to 7.9 ms a token.
    assert 1000 * seconds == pytest.approx(7.4, rel=0.14)


def test_a_large_batch_is_bound_by_products():
    fit, device = fitted().inference, device_of(gpu("H100"))
    few, many = (
        decode_seconds(LLAMA_8B, device, ServeSetup(), batch, 0, fit) for batch in (1, 4096)
    )
    products = 2 * 4096 * (LLAMA_8B.n_params - 128256 * 4096 - 65 * 4096)
    assert many - few > 0.8 * products / (fit.gemm * 0.803 * 989e12)


def test_tensor_parallelism_shortens_steps_and_pays_for_all_reduces():
    fit, device = fitted().inference, device_of(gpu("H100", 8))
    one, two, eight = (
        decode_seconds(SEVENTY, device, ServeSetup(g), 16, 1024, fit) for g in (1, 2, 8)
    )
    assert one / 2 < two < one
    assert one / 8 < eight < two
    slow = replace(device, link_bytes_per_s=1e9)
    prefills = [prefill_seconds(SEVENTY, d, ServeSetup(8), 4096, fit) for d in (device, slow)]
    assert prefills[1] > 10 * prefills[0]


def test_quantised_weights_are_read_faster():
    fit, device = fitted().inference, device_of(gpu("B200"))
    bf16, fp8 = (
        decode_seconds(SEVENTY, device, ServeSetup(1, n_bytes), 1, 128, fit) for n_bytes in (2, 1)
    )
    assert 1.5 < bf16 / fp8 < 2


def test_a_tiny_model_waits_for_launches_on_any_gpu():
    h100, t4 = (serving(TINY, gpu(name), [WORK]) for name in ("H100", "T4"))
    assert point(h100, 1).latency_ms == point(t4, 1).latency_ms
    assert point(h100, 1).tpot_ms.mean == pytest.approx(1000 * 4 * k.DECODE_S_PER_LAYER)
    assert point(h100, 1).latency_ms[0].source == "floor of kernel launches, within a factor of 1.5"


def test_points_do_not_dominate_one_another_and_say_what_they_give():
    works = (WORK, Workload(800, 40))
    points = serving(LLAMA_8B, gpu("A100-80GB", 8), works)
    assert len(points) > 3
    for one in points:
        for work, latency, rate in zip(works, one.latency_ms, one.requests_per_s, strict=True):
            assert latency.low < latency.mean < latency.high
            answer = latency.mean / k.P95_OVER_MEAN / 1000
            assert rate == pytest.approx(8 // one.tensor_parallel * one.batch / answer)
            assert work.answer_tokens
        for other in points:
            if other != one:
                figures = [
                    [latency.mean for latency in p.latency_ms] + [-r for r in p.requests_per_s]
                    for p in (one, other)
                ]
                assert any(a < b for a, b in zip(*figures, strict=True))


def test_a_recorded_run_replaces_the_arithmetic_on_cpus_only():
    measured = replace(TINY, runs=(RUN,))
    work = Workload(64, 150, "t", "injection")
    alone = point(serving(measured, cpu(), [work]), 1).latency_ms[0]
    assert alone.mean == pytest.approx(k.P95_OVER_MEAN * 321)
    assert alone.source == "latency of 1 recorded run"
    other = [replace(work, task="other")]
    assert point(serving(measured, cpu(), other), 1) == point(serving(TINY, cpu(), other), 1)
    assert serving(measured, gpu("T4"), [work]) == serving(TINY, gpu("T4"), [work])


def test_a_calibration_moves_the_floor_of_this_machine():
    slow = Calibration("this one", 50e9, 15e9, 2.4e-6, "2026-11-25")
    here = serving(TINY, cpu(cloud="local"), [WORK], slow)
    floor = 1000 * 4 * 2.4e-6 * k.DECODE_OPERATIONS_PER_LAYER
    assert point(here, 1).tpot_ms.mean == pytest.approx(floor)
    assert point(here, 1).tpot_ms.source == "roofline of this machine, measured"


def test_teacher_hours_are_rounds_of_batches_over_replicas():
    work = Workload(400, 12)
    one = generate(LLAMA_8B, gpu("H100", 1, "local"), work, 3200).mean
    eight = generate(LLAMA_8B, gpu("H100", 8, "local"), work, 3200).mean
    nodes = generate(LLAMA_8B, gpu("H100", 1, "local"), work, 3200, n_nodes=8).mean
    assert one / eight == pytest.approx(100 / 13)  # 100 batches, 13 rounds of 8 replicas
    assert nodes == eight
    rented = generate(LLAMA_8B, gpu("H100"), work, 3200)
    download = 2 * LLAMA_8B.n_params / 125e6 / 3600
    assert rented.mean - one == pytest.approx(k.STARTUP_HOURS + download)


def test_a_batch_takes_cache_beside_the_weights():
    work = Workload(1024, 1024)
    batches = [p.batch for p in serving(SEVEN, gpu("T4"), [work])]
    assert batches == []  # 12.6 GiB of weights and 1 GiB of cache, of 13.5
    assert [p.batch for p in serving(SEVEN, gpu("L4"), [work])] == [1, 4]
    assert generate(SEVENTY, gpu("H100"), work, 10) is None
    assert generate(SEVENTY, gpu("H100", 4), work, 10) is not None


@given(
    card=st.sampled_from([TINY, SEVEN, LLAMA_8B, SEVENTY]),
    name=st.sampled_from(["L4", "A100-80GB", "H100", "B200"]),
    count=st.sampled_from([1, 2, 4, 8]),
    prompt=st.integers(1, 8192),
    answer=st.integers(1, 2048),
    batch=st.sampled_from([1, 4, 16, 64]),
)
def test_more_work_never_takes_less_time(card, name, count, prompt, answer, batch):
    device = device_of(gpu(name, count))
    for g in tensor_degrees(card, device):
        base = pace(card, device, Workload(prompt, answer), g)
        longer = pace(card, device, Workload(prompt, answer + 1), g)
        wider = pace(card, device, Workload(prompt + 1, answer), g)
        for kind in ("steady", "together"):
            at = getattr(base, kind)(batch).seconds(answer)
            assert at > 0
            assert at <= getattr(longer, kind)(batch).seconds(answer + 1) * (1 + 1e-12)
            assert at <= getattr(wider, kind)(batch).seconds(answer) * (1 + 1e-12)
            assert at <= getattr(base, kind)(batch + 1).seconds(answer)


def test_many_servers_at_once_are_each_as_alone():
    offers = [gpu("H100", 8), cpu(16, 64), gpu("T4"), gpu("L4", 4), cpu(1, 4), gpu("A100", 2)]
    fleet = Fleet.of([device_of(offer) for offer in offers])
    works = (Workload(64, 150, "t", "injection"), Workload(1500, 20))
    for card in (TINY, replace(TINY, runs=(RUN, replace(RUN, ms_per_answer=400.0))), LLAMA_8B):
        n_nodes = np.array([1, 4, 2, 1, 1, 8])
        hours = generate_all(card, fleet, works[0], 5000, n_nodes)
        table, fastest = (serving_all(card, fleet, works, fastest=one) for one in (False, True))
        for i, (offer, n) in enumerate(zip(offers, n_nodes.tolist(), strict=True)):
            alone = generate(card, offer, works[0], 5000, n)
            if alone is None:
                assert np.isnan(hours.mean[i])
            else:
                assert hours.interval(i, alone.source) == alone
            points = serving(card, offer, works)
            rows = np.flatnonzero(table.server == i)
            assert [(p.batch, p.tensor_parallel) for p in points] == list(
                zip(table.batch[rows].tolist(), table.tensor_parallel[rows].tolist(), strict=True)
            )
            for row, point in zip(rows, points, strict=True):
                assert table.latency_ms[row].tolist() == [ms.mean for ms in point.latency_ms]
                assert tuple(table.requests_per_s[row].tolist()) == point.requests_per_s
            slowest = [max(ms.mean for ms in point.latency_ms) for point in points]
            best = fastest.latency_ms[fastest.server == i].max(axis=1).tolist()
            assert best == ([min(slowest)] if points else [])
