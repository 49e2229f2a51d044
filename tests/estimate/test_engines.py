"""Which engine serves which model in which format, and what it takes."""

from dataclasses import replace

import numpy as np
import pytest
from hardware_world import SEVEN, TINY, cpu, gpu
from serving_points import serving
from sharing import p95, p95_by_size

from stratos.deploy.engines.cost import FORMATS
from stratos.deploy.engines.direct import Direct
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.vllm import Vllm
from stratos.estimate import constants as k
from stratos.estimate.answering import EngineChoice, runners
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import Calibration, Fleet, ServedHere, device_of
from stratos.estimate.queueing import p95_over_service, wait_of_waiting
from stratos.estimate.serving import (
    block_seconds,
    foresee,
    over_estimate,
    p95_seconds,
    p95_shared,
    routed_p95_ms,
)
from stratos.records import ServingSetting

WORK = Workload(64, 150)
LLAMA = (EngineChoice(LlamaCpp()),)
STUDENT = replace(TINY, is_gguf=True)
HERE = Calibration("this", 50e9, 30e9, 1.2e-6, "2026-11-27")


def on(card, offer, choices=LLAMA):
    fleet = Fleet.of([device_of(offer)])
    return [(one.kind, one.format.name) for one in runners(card, fleet, choices) if one.runs]


def test_llama_cpp_serves_what_gguf_holds_on_servers_without_gpu():
    assert on(STUDENT, cpu()) == [("llamacpp", "f32"), ("llamacpp", "f16"), ("llamacpp", "q8_0")]
    assert on(TINY, cpu()) == [] == on(STUDENT, gpu("H100"))
    assert ("llamacpp", "q4_k_m") in on(replace(STUDENT, hidden_size=256), cpu())
    assert ("llamacpp", "q8_0") not in on(replace(STUDENT, hidden_size=100), cpu())
    asked = (EngineChoice(LlamaCpp(), (FORMATS["q8_0"],)), EngineChoice(Transformers()))
    assert on(STUDENT, cpu(), asked) == [("llamacpp", "q8_0"), ("transformers", "")]


def test_without_a_choice_a_plan_takes_what_it_took():
    assert on(STUDENT, cpu(), None) == [("transformers", ""), ("transformers-batching", "")]
    both = (EngineChoice(Vllm()), EngineChoice(Transformers()))
    assert on(SEVEN, gpu("H100"), both) == on(SEVEN, gpu("H100"), None) == [("vllm", "")]
    assert on(SEVEN, gpu("H100"), both[1:]) == [("transformers", "")]


def test_llama_cpp_is_several_times_as_fast_as_transformers_on_a_cpu():
    [slow] = serving(STUDENT, cpu(), [WORK], fastest=True)
    [fast] = serving(STUDENT, cpu(), [WORK], fastest=True, choices=LLAMA)
    assert (fast.engine, fast.batch) == ("llamacpp", 1)
    assert 5 < slow.latency_ms[0].mean / fast.latency_ms[0].mean < 20
    most = max(one.requests_per_s[0] for one in serving(STUDENT, cpu(), [WORK], choices=LLAMA))
    assert most > 2 * max(one.requests_per_s[0] for one in serving(STUDENT, cpu(), [WORK]))


def test_fewer_bytes_a_weight_fit_where_others_do_not():
    choices = [(EngineChoice(LlamaCpp(), (form,)),) for form in FORMATS.values()]
    card = replace(SEVEN, is_gguf=True)
    fits = [bool(serving(card, cpu(8, 11.0), [WORK], choices=one)) for one in choices]
    assert fits == [False, False, True, True]


def test_one_thread_serves_a_small_model_whatever_the_server():
    def answer(vcpus, card):
        return serving(card, cpu(vcpus, 64.0), [WORK], fastest=True, choices=LLAMA)[0]

    assert answer(2, STUDENT).latency_ms == answer(32, STUDENT).latency_ms
    large = replace(SEVEN, is_gguf=True)
    assert answer(2, large).latency_ms[0].mean > 5 * answer(32, large).latency_ms[0].mean


def test_short_answers_are_as_many_as_one_thread_hands_on():
    run = ServingSetting("llamacpp", 8, format="q8_0")
    found = foresee(STUDENT, cpu(), Workload(8, 1), run)
    assert found.requests_per_s.mean == pytest.approx(1 / LlamaCpp.cost.front_s)


def test_a_load_test_of_llama_cpp_scales_its_answers_and_no_others():
    run = ServingSetting("llamacpp", 8, format="q8_0")
    local = cpu(2, 8, "local")
    before = foresee(STUDENT, local, WORK, run, HERE).answer_ms
    ratio = over_estimate(STUDENT, WORK, run, 0.05, HERE)
    assert ratio == pytest.approx(50 / before.mean)
    served = ServedHere("llamacpp", "x", 1, 9.9, 0.05, 150, 32, "", "q8_0", ratio)
    after = replace(HERE, served=(served,))
    found = foresee(STUDENT, local, WORK, run, after).answer_ms
    assert found.mean == pytest.approx(50)
    assert found.high / found.mean < before.high / before.mean
    assert found.source == "load tests of servers on this machine"
    other = ServingSetting("transformers")
    assert foresee(STUDENT, local, WORK, other, after) == foresee(STUDENT, local, WORK, other, HERE)
    assert np.isclose(over_estimate(STUDENT, WORK, run, 0.05, after), ratio)


def test_the_host_of_a_compiled_engine_is_what_its_format_leaves_of_an_answer():
    run = ServingSetting("llamacpp", 8, format="q8_0")
    local = cpu(2, 8, "local")
    with np.errstate(all="raise"):  # without a format no time of the arithmetic is known
        short, long = (block_seconds(STUDENT, local, WORK, run, one, HERE) for one in (1.0, 2.0))
    computed = 1.0 - 1.0 / (long / short - 1)
    assert 0 < computed < 0.5


def test_few_answers_at_once_are_faster_than_many_and_the_percentile_knows():
    """The table is that of the simulation, and of the plain queue where nothing is shared."""
    for slots, ratio, busy in ((8, 0.125, 0.7), (8, 0.3, 0.5), (4, 0.2, 0.8)):
        simulated = p95(slots, ratio, busy, n=20_000, seed=1)
        assert p95_shared(slots, busy, ratio) == pytest.approx(simulated, rel=0.12)
    for slots in (2, 3, 12, 64):
        for ratio, busy in ((0.2, 0.6), (0.45, 0.7)):
            simulated = p95(slots, ratio, busy, n=30_000, seed=1)
            assert p95_shared(slots, busy, ratio) == pytest.approx(simulated, rel=0.15)
    wait = wait_of_waiting(8, 0.7, 1.0)
    assert p95_shared(8, 0.7, 1.0) == pytest.approx(p95_over_service(8, 0.7, wait), rel=0.05)
    assert p95_shared(8, 0.0, 0.2) == pytest.approx(k.P95_OVER_MEAN * 0.2)
    rising = [float(p95_shared(8, busy / 100, 0.2)) for busy in range(0, 100, 3)]
    assert rising == sorted(rising) and rising[-1] > 4 * rising[-4]


@pytest.mark.parametrize("slots", [4, 8])
@pytest.mark.parametrize(
    ("sizes", "weights"), [((1.0, 10.0), (0.5, 0.5)), ((1.0, 3.0), (0.7, 0.3))]
)
def test_short_answers_wait_for_the_long_ones_that_share_their_processor(slots, sizes, weights):
    """Seen: 1.8 s promised where a short answer between long ones took 7.8 s, and 0.4 s on a server
    of short ones alone, where it took 1.9 s."""
    busy, ratio = 0.7, 0.3
    alone = np.full((1, 2), ratio)
    found = p95_seconds(np.array([sizes]), np.array(weights), slots, busy, alone)[0]
    seen = np.median(
        [p95_by_size(slots, ratio, busy, sizes, weights, 20_000, seed) for seed in range(3)], axis=0
    )
    assert (found > 0.95 * seen).all() and (found < 1.35 * seen).all()
    capacity = [busy * slots / size for size in sizes]
    run = ServingSetting("llamacpp", slots, 1, busy, format="q8_0", alone=(ratio, ratio))
    short, _ = routed_p95_ms((1000 * found).tolist(), capacity, weights, (1.0, 0.0), run)
    assert short == pytest.approx(1000 * p95(slots, ratio, busy, n=30_000), rel=0.1)


def test_an_engine_without_a_host_has_no_block(monkeypatch):
    monkeypatch.setattr(Direct, "cost", replace(Direct.cost, sequence=0.0))
    local = cpu(2, 8, "local")
    assert block_seconds(STUDENT, local, WORK, ServingSetting("direct"), 1.0, HERE) == 0.0
