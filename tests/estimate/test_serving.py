import heapq
from dataclasses import replace

import numpy as np
import pytest
from hardware_world import LLAMA_8B, RUN, SEVEN, SEVENTY, TINY, cpu, gpu, tensor_degrees
from hypothesis import given
from hypothesis import strategies as st
from serving_points import serving

from stratos.deploy.engines.cost import UTILISATION
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.vllm import Vllm
from stratos.estimate import constants as k
from stratos.estimate.answering import GENERATE_COST, pace
from stratos.estimate.cards import Workload
from stratos.estimate.fitted import fitted
from stratos.estimate.fleet import Calibration, Fleet, ServedHere, device_of
from stratos.estimate.hours import generate, generate_all
from stratos.estimate.queueing import spread
from stratos.estimate.roofline import ServeSetup, decode_line, prefill_seconds
from stratos.estimate.serving import p95_seconds, routed_p95_ms, serving_all
from stratos.records import ServingSetting

WORK = Workload(64, 150)


def test_a_decoding_step_reads_weights_and_cache():
    fit, device = fitted().inference, device_of(gpu("H100"))
    read = 2 * (LLAMA_8B.n_params - 128256 * 4096 - 65 * 4096)  # the embedding is looked up
    weights = read / (fit.weights * 3350e9)
    cache = 8 * 1024 * 131_072 / (fit.cache * 3350e9)
    floors = 32 * fit.layer_floor_s + 8 * fit.sequence_floor_s
    seconds = decode_line(LLAMA_8B, device, ServeSetup(), 1024, fit).seconds(8)
    assert seconds == pytest.approx(weights + cache + floors)
    # Published: Llama-3.1-8B in bf16 at batch 8 on an H100, 7.4 to 7.9 ms a token.
    assert 1000 * seconds == pytest.approx(7.4, rel=0.14)


def test_a_large_batch_is_bound_by_products():
    fit, device = fitted().inference, device_of(gpu("H100"))
    few, many = (
        decode_line(LLAMA_8B, device, ServeSetup(), 0, fit).seconds(batch) for batch in (1, 4096)
    )
    products = 2 * 4096 * (LLAMA_8B.n_params - 128256 * 4096 - 65 * 4096)
    assert many - few > 0.8 * products / (fit.gemm * 0.803 * 989e12)


def test_tensor_parallelism_shortens_steps_and_pays_for_all_reduces():
    fit, device = fitted().inference, device_of(gpu("H100", 8))
    one, two, eight = (
        decode_line(SEVENTY, device, ServeSetup(g), 1024, fit).seconds(16) for g in (1, 2, 8)
    )
    assert one / 2 < two < one
    assert one / 8 < eight < two
    slow = replace(device, link_bytes_per_s=1e9)
    prefills = [prefill_seconds(SEVENTY, d, ServeSetup(8), 4096, fit) for d in (device, slow)]
    assert prefills[1] > 10 * prefills[0]


def test_quantised_weights_are_read_faster():
    fit, device = fitted().inference, device_of(gpu("B200"))
    bf16, fp8 = (
        decode_line(SEVENTY, device, ServeSetup(1, n_bytes), 128, fit).seconds(1)
        for n_bytes in (2, 1)
    )
    assert 1.5 < bf16 / fp8 < 2


def test_a_tiny_model_waits_for_the_host_on_any_gpu(snapshot):
    h100, t4 = (serving(TINY, gpu(name), [WORK], fastest=True)[0] for name in ("H100", "T4"))
    assert h100.latency_ms == t4.latency_ms
    assert h100.engine == "vllm"
    assert h100.tpot_ms.mean == pytest.approx(1000 * Vllm.cost.step * k.DECODE_S_PER_LAYER)
    assert h100.latency_ms[0].source == snapshot
    narrow = replace(TINY, n_heads=8, n_kv_heads=8)  # heads of 16, which vLLM has no kernel for
    (eager,) = serving(narrow, gpu("T4"), [WORK], fastest=True)
    assert eager.engine == "transformers"
    assert eager.tpot_ms.mean == pytest.approx(1000 * (4 + 1) * k.DECODE_S_PER_LAYER)


def test_a_server_that_answers_one_at_a_time_gives_one_over_its_service_time():
    """What was wrong: 50 requests a second on two servers of two cores, at 366 ms."""
    points = [p for p in serving(TINY, cpu(), [WORK]) if p.engine == "transformers"]
    (alone,) = serving(TINY, cpu(), [WORK], fastest=True)
    service_s = alone.latency_ms[0].mean / k.P95_OVER_MEAN / 1000
    assert alone.requests_per_s[0] == pytest.approx(1 / service_s)
    assert alone.requests_per_s[0] < 10
    for one in points:
        assert one.batch == 1
        assert one.requests_per_s[0] == pytest.approx(one.utilisation / service_s)
    # The busier, the longer the wait; nothing is planned at the latency of an idle server.
    latencies = [p.latency_ms[0].mean for p in sorted(points, key=lambda p: p.utilisation)]
    assert latencies == sorted(latencies)
    assert latencies[-1] > 2 * alone.latency_ms[0].mean
    # More cores answer no sooner: it is one process, with one thread that matters.
    big = serving(TINY, cpu(64, 256), [WORK], fastest=True)[0]
    assert big.requests_per_s[0] < 1.1 * alone.requests_per_s[0]


def test_batching_pays_on_a_cpu_under_load_and_not_alone():
    points = serving(TINY, cpu(), [WORK])
    batching = [p for p in points if p.engine == "transformers-batching"]
    alone = serving(TINY, cpu(), [WORK], fastest=True)[0]
    assert alone.engine == "transformers"
    most = max(p.requests_per_s[0] for p in batching)
    assert alone.requests_per_s[0] < most < 6 * alone.requests_per_s[0]


def test_points_do_not_dominate_one_another_and_say_what_they_give():
    works = (WORK, Workload(800, 40))
    points = serving(LLAMA_8B, gpu("A100-80GB", 8), works)
    assert len(points) > 2
    for one in points:
        for work, latency, rate in zip(works, one.latency_ms, one.requests_per_s, strict=True):
            assert latency.low < latency.mean < latency.high
            device = device_of(gpu("A100-80GB", 8))
            time = pace(LLAMA_8B, device, work, one.tensor_parallel, Vllm.cost).steady(one.batch)
            answer = time.seconds(work.answer_tokens)
            slots = 8 // one.tensor_parallel * one.batch
            assert rate == pytest.approx(UTILISATION * slots / answer)
            assert latency.mean >= 0.999 * 1000 * k.P95_OVER_MEAN * answer
        for other in points:
            if other != one:
                figures = [
                    [latency.mean for latency in p.latency_ms] + [-r for r in p.requests_per_s]
                    for p in (one, other)
                ]
                assert any(a < b for a, b in zip(*figures, strict=True))


def test_recorded_latency_scales_with_the_answer_and_the_server():
    measured = replace(TINY, runs=(RUN,))

    def ms(answer_tokens, offer):
        work = Workload(64, answer_tokens, "t", "injection")
        return serving(measured, offer, [work], fastest=True)[0].latency_ms[0].mean

    request_ms = 1000 * Transformers.cost.request_s
    assert ms(600, cpu()) > 3.5 * (ms(150, cpu()) - request_ms)
    assert ms(15, cpu()) < ms(150, cpu()) / 5
    assert ms(150, cpu(16, 64)) < ms(150, cpu(2, 64)) < ms(150, cpu(1, 64))


def test_a_recorded_run_scales_the_arithmetic_on_cpus_only():
    measured = replace(TINY, runs=(RUN,))
    work = Workload(64, 150, "t", "injection")
    alone = serving(measured, cpu(), [work], fastest=True)[0].latency_ms[0]
    assert alone.mean == pytest.approx(k.P95_OVER_MEAN * 321)
    assert alone.source == "latency of 1 recorded run"
    other = [replace(work, task="other")]
    assert serving(measured, cpu(), other) == serving(TINY, cpu(), other)
    assert serving(measured, gpu("T4"), [work]) == serving(TINY, gpu("T4"), [work])


def test_a_calibration_moves_the_floor_of_this_machine():
    slow = Calibration("this one", 50e9, 15e9, 2.4e-6, "2026-11-25")
    (here,) = serving(TINY, cpu(cloud="local"), [WORK], slow, fastest=True)
    floor = 1000 * (4 + 1) * 2.4e-6 * k.DECODE_OPERATIONS_PER_LAYER
    assert floor < here.tpot_ms.mean < 1.2 * floor
    assert here.tpot_ms.source == "roofline of this machine, measured"


def test_a_load_test_on_this_machine_speaks_before_all_else():
    served = ServedHere(
        engine="transformers", model="tiny", n_params=869_504, block_s=0.0005, answer_s=0.4,
        answer_tokens=150.0, n_requests=32, date="2026-11-26",
    )  # fmt: skip
    known = Calibration("this one", 50e9, 15e9, 2.4e-6, "2026-11-25", (served,))
    work = Workload(64, 150, "t", "injection")
    card = replace(TINY, runs=(RUN,))
    (here,) = serving(card, cpu(cloud="local"), [work], known, fastest=True)
    assert here.tpot_ms.mean == pytest.approx(2.5, rel=0.05)
    assert here.latency_ms[0].source == "load tests of servers on this machine"
    assert here.latency_ms[0].high / here.latency_ms[0].mean == pytest.approx(k.CPU_RECORDED_ERROR)
    rented = serving(card, cpu(), [work], known, fastest=True)[0]
    assert rented.latency_ms[0].source == "latency of 1 recorded run"


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
    assert [p.batch for p in serving(SEVEN, gpu("L4"), [work])] == [4]
    assert generate(SEVENTY, gpu("H100"), work, 10) is None
    assert generate(SEVENTY, gpu("H100", 4), work, 10) is not None


@given(
    card=st.sampled_from([TINY, SEVEN, LLAMA_8B, SEVENTY]),
    name=st.sampled_from(["L4", "A100-80GB", "H100", "B200"]),
    count=st.sampled_from([1, 2, 4, 8]),
    prompt=st.integers(1, 8192),
    answer=st.integers(1, 2048),
    batch=st.sampled_from([1, 4, 16, 64]),
    engine=st.sampled_from([Vllm.cost, Transformers.cost, GENERATE_COST]),
)
def test_more_work_never_takes_less_time(card, name, count, prompt, answer, batch, engine):
    device = device_of(gpu(name, count))
    for g in tensor_degrees(card, device):
        base = pace(card, device, Workload(prompt, answer), g, engine)
        longer = pace(card, device, Workload(prompt, answer + 1), g, engine)
        wider = pace(card, device, Workload(prompt + 1, answer), g, engine)
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
        hours, _ = generate_all(card, fleet, works[0], 5000, n_nodes)
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
                means = [ms.mean for ms in point.latency_ms]
                assert table.latency_ms[row].tolist() == pytest.approx(means)
                assert tuple(table.requests_per_s[row].tolist()) == point.requests_per_s
            best = fastest.latency_ms[fastest.server == i].max(axis=1).tolist()
            one = serving(card, offer, works, fastest=True)
            slowest = [max(ms.mean for ms in point.latency_ms) for point in one]
            assert best == pytest.approx(slowest)
            assert bool(one) == bool(points)


# --- a server that answers a part of the traffic --------------------------------------------------


def simulated_p95(seconds, rates, slots, n=60_000):
    """Return the 95th percentile of wait and answer by work, of requests that come at random."""
    rng = np.random.default_rng(0)
    work = rng.choice(len(seconds), n, p=np.array(rates) / sum(rates))
    sigma = spread()
    answers = np.array(seconds)[work] * np.exp(sigma * rng.standard_normal(n) - sigma**2 / 2)
    come = np.cumsum(rng.exponential(1 / sum(rates), n))
    free, took = [0.0] * slots, np.empty(n)
    for i in range(n):
        start = max(heapq.heappop(free), come[i])
        heapq.heappush(free, start + answers[i])
        took[i] = start + answers[i] - come[i]
    work, took = work[n // 10 :], took[n // 10 :]
    return [float(np.quantile(took[work == b], 0.95)) for b in range(len(seconds)) if rates[b]]


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("routed", [(0, 0, 1), (0, 1, 1), (5, 3, 0)], ids=["long", "both", "short"])
def test_a_server_of_a_mix_has_the_queue_of_what_comes_to_it(slots, routed):
    """The queue of all requests promised 1,645 ms where the longest alone make it 1,960."""
    seconds, traffic, busy = (0.2, 0.5, 1.5), (5, 3, 1), 0.7
    share = np.array(traffic) / sum(traffic)
    whole = 1000 * p95_seconds(np.array([seconds]), share, slots, busy)[0]
    run = ServingSetting("any", slots, 1, busy)
    capacity = [busy * slots / s for s in seconds]
    found = routed_p95_ms(whole.tolist(), capacity, traffic, routed, run)
    rates = np.array(routed) * busy * slots / np.dot(routed, seconds)
    seen = simulated_p95(seconds, rates.tolist(), slots)
    predicted = [ms / 1000 for ms, n in zip(found, routed, strict=True) if n]
    assert predicted == pytest.approx(seen, rel=0.1)
    same = routed_p95_ms(whole.tolist(), capacity, traffic, (10, 6, 2), run)
    assert same == pytest.approx(whole.tolist())
