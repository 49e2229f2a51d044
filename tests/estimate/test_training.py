import math
from dataclasses import replace

import numpy as np
import pytest
from hardware_world import LLAMA_8B, RUN, SEVEN, TINY, cpu, gpu
from hypothesis import given
from hypothesis import strategies as st
from stub_executors import with_queue

from stratos.catalog import load_catalog
from stratos.config import CloudConfig
from stratos.estimate import constants as k
from stratos.estimate.cards import TrainingJob
from stratos.estimate.fitted import fitted
from stratos.estimate.fleet import Calibration, Fleet, device_of
from stratos.estimate.hours import train, train_all, train_setup
from stratos.estimate.roofline import TrainSetup, train_step_seconds

JOB = TrainingJob(20_000_000, 8192, 512)
CALIBRATION = Calibration("this one", 50e9, 15e9, 1.2e-6, "2026-11-25")


def hours(card, offer, job=JOB, n_nodes=1):
    found = train(card, offer, job, n_nodes)
    assert found is not None
    return found


def test_a_step_on_one_gpu_is_products_attention_and_traffic():
    fit, device = fitted().training, device_of(gpu("A100-80GB"))
    tokens, context = 16384, 2048
    seconds = train_step_seconds(LLAMA_8B, device, TrainSetup(context, tokens), fit)
    n_params = LLAMA_8B.n_params - 128256 * 4096 - 65 * 4096  # neither embedding nor norms
    products = 6 * n_params * tokens / (fit.gemm * 312e12 * 0.869)
    attention = 3.5 * 2 * 32 * 4096 * context * tokens / (fit.attention * 312e12 * 0.62)
    traffic = (fit.elementwise_bytes * 32 * 4096 + 12 * 128256) * tokens / device.bytes_per_s
    optimizer = 28 * LLAMA_8B.n_params / device.bytes_per_s
    assert seconds == pytest.approx(products + attention + traffic + optimizer)


def test_a_7b_trains_at_the_pace_that_llm_foundry_published():
    # 10,643 tokens/s a GPU: 7b at 2,048, 8 H100s, micro batch 6, full shard, no recomputation.
    setup = TrainSetup(2048, 6 * 2048, n_devices=8)
    device = device_of(gpu("H100", 8))
    mpt = replace(SEVEN, n_params=6_650_470_400, intermediate_size=16384, vocab_size=50368)
    seconds = train_step_seconds(mpt, device, setup, fitted().training)
    assert 6 * 2048 / seconds == pytest.approx(10_643, rel=0.09)


def test_recomputation_costs_a_forward_pass():
    device, fit = device_of(gpu("H100")), fitted().training
    plain, again = (
        train_step_seconds(
            LLAMA_8B, device, TrainSetup(2048, 16384, checkpointing=checkpointing), fit
        )
        for checkpointing in (False, True)
    )
    assert 1.25 < again / plain < 4 / 3


def test_a_slow_network_between_servers_binds():
    fit, setup = fitted().training, TrainSetup(2048, 16384, n_devices=16, n_nodes=2)
    device = device_of(gpu("H100", 8))
    fast = train_step_seconds(LLAMA_8B, device, setup, fit)
    slow = train_step_seconds(LLAMA_8B, replace(device, node_bytes_per_s=1e9), setup, fit)
    sent = 8 * LLAMA_8B.n_params * 15 / 16
    assert slow == pytest.approx(sent / 0.8e9, rel=0.01)
    assert fast < slow / 20


def test_rows_are_dealt_and_cut_until_they_fit():
    eight = Fleet.of([device_of(gpu("H100", 8))])

    def setup(card, job):
        found, fits = train_setup(card, eight, job, np.array([1]))
        assert fits[0]
        return found

    assert setup(TINY, TrainingJob(10**6, 2048, 512)).n_devices[0] == 4  # four rows
    many = setup(SEVEN, TrainingJob(10**9, 2**21, 4096))
    assert many.n_micro[0] > 1
    assert many.n_micro[0] * many.micro_tokens[0] == 2**21 / 8
    long = setup(SEVEN, TrainingJob(10**9, 2**21, 65536))
    assert long.checkpointing[0]


def test_a_tiny_model_is_not_infinitely_fast_on_a_large_gpu(snapshot):
    large, larger = hours(TINY, gpu("H100")), hours(TINY, gpu("B200"))
    steps = -(-20_000_000 // 8192)
    floor = steps * (k.TRAIN_STEP_S + 4 * k.TRAIN_STEP_S_PER_LAYER) / 3600
    assert large == larger  # both wait for launches, not for arithmetic
    assert large.mean == pytest.approx(k.STARTUP_HOURS + floor)
    assert large.source == snapshot


@pytest.mark.parametrize("cloud", ["queue", "local"])
def test_a_node_of_a_cluster_is_up(cloud, monkeypatch):
    with_queue(monkeypatch)
    rented = hours(TINY, gpu("H100"))
    node = hours(TINY, replace(gpu("H100"), cloud=cloud))
    assert rented.mean - node.mean == pytest.approx(k.STARTUP_HOURS - k.TRAIN_FIXED_S / 3600)
    assert rented.high - node.high == pytest.approx(
        k.STARTUP_HOURS_HIGH - k.TRAIN_FIXED_S_HIGH / 3600
    )


def test_a_recorded_run_replaces_the_arithmetic_on_cpus_only():
    measured = replace(TINY, runs=(RUN, replace(RUN, train_cpu_seconds=700.0)))
    found = hours(measured, cpu(1, cloud="local"))
    assert found.mean == pytest.approx((1200 + k.TRAIN_FIXED_S) / 3600)
    low = 1200 / k.CPU_RECORDED_ERROR + k.TRAIN_FIXED_S_LOW
    assert found.low == pytest.approx(low / 3600)
    assert found.source == "seconds per token of 2 recorded runs"
    assert hours(measured, gpu("T4")) == hours(TINY, gpu("T4"))


def test_a_calibration_speaks_for_this_machine_only():
    here, there = cpu(4, cloud="local"), cpu(4)
    fast = replace(CALIBRATION, gemm_flops=100e9)
    step_s = k.CPU_STEP_S + k.CPU_STEP_S_PER_PARAM["muon"] * TINY.n_params
    fixed = (k.TRAIN_FIXED_S + math.ceil(JOB.tokens / JOB.batch_tokens) * step_s) / 3600
    assert train(TINY, here, JOB, 1, fast).mean - fixed == pytest.approx(
        (train(TINY, here, JOB, 1, CALIBRATION).mean - fixed) / 2
    )
    assert train(TINY, there, JOB, 1, CALIBRATION) == train(TINY, there, JOB)
    assert "this machine" in train(TINY, here, JOB, 1, CALIBRATION).source


def test_a_machine_that_multiplies_bf16_trains_large_students_faster():
    here = cpu(2, memory=512, cloud="local")
    both = replace(CALIBRATION, bf16_flops=4 * CALIBRATION.gemm_flops)
    adamw = replace(JOB, optimizer="adamw")
    plain, fast = (train(SEVEN, here, adamw, 1, one).mean for one in (CALIBRATION, both))
    products = plain * k.CPU_TRAIN_OVER_GEMM / 4
    assert products < fast < plain / 2  # what is no product does not gain
    in_fp32 = replace(adamw, precision="fp32")
    assert train(SEVEN, here, in_fp32, 1, both).mean == pytest.approx(plain)
    assert train(TINY, cpu(2), JOB, 1, both) == train(TINY, cpu(2), JOB)


@pytest.mark.parametrize("runs", [(), (RUN,)], ids=["computed", "recorded"])
def test_what_is_read_once_costs_once(runs):
    # On a GPU, of the tiny one launches decide, whatever is computed.
    large = (LLAMA_8B, gpu("H100", 8, "local"))
    for card, offer in ((replace(TINY, runs=runs), cpu(8, memory=512)), large):
        whole, half = (hours(card, offer, replace(JOB, computed=share)).mean for share in (1, 0.5))
        assert 0.45 * whole < half < 0.95 * whole
    # A run that computed half of its tokens speaks for as many others.
    again, job = replace(RUN, computed=0.5), replace(JOB, computed=0.5)
    by_half = hours(replace(TINY, runs=(again,)), cpu(8), job).mean
    assert by_half == pytest.approx(hours(replace(TINY, runs=(RUN,)), cpu(8)).mean)


def test_start_up_is_of_rented_servers_and_in_the_range():
    rented, here = hours(LLAMA_8B, gpu("H100", 8)), hours(LLAMA_8B, gpu("H100", 8, "local"))
    assert rented.mean - here.mean == pytest.approx(10 / 60 - k.TRAIN_FIXED_S / 3600)
    assert rented.low - here.low == pytest.approx(5 / 60 - k.TRAIN_FIXED_S_LOW / 3600)
    assert rented.high - here.high == pytest.approx(15 / 60 - k.TRAIN_FIXED_S_HIGH / 3600)


def test_a_short_training_here_takes_more_than_its_tokens():
    found = hours(replace(TINY, runs=(RUN,)), cpu(2, cloud="local"), TrainingJob(6147, 512, 512))
    # Runs of so few tokens took 3 to 46 seconds, of which the tokens had less than one.
    assert found.low < 3 / 3600 and found.high > 46 / 3600
    assert found.low < found.mean < found.high


def test_more_vcpus_help_but_not_in_proportion():
    two, eight = (hours(TINY, cpu(n, cloud="local")).mean for n in (2, 8))
    assert 4 > two / eight > 2


def test_lora_costs_less_and_qlora_more_than_lora():
    full, lora, qlora = (
        hours(LLAMA_8B, gpu("H100", 8, "local"), TrainingJob(10**8, 2**19, 2048, method)).mean
        for method in ("full", "lora", "qlora")
    )
    assert lora < qlora < full


def test_every_offer_of_the_table_has_finite_estimates():
    for offer in load_catalog(CloudConfig()).offers:
        found = hours(TINY, offer)
        assert 0 < found.low < found.mean < found.high < 10


@given(
    card=st.sampled_from([TINY, SEVEN, LLAMA_8B]),
    name=st.sampled_from(["L4", "A100", "A100-80GB", "H100", "B200"]),
    tokens=st.integers(10**6, 10**9),
    n_nodes=st.sampled_from([1, 2, 4]),
)
def test_more_work_never_takes_less_time(card, name, tokens, n_nodes):
    some, more = (
        train(card, gpu(name, 8), TrainingJob(n, 2**19, 2048), n_nodes)
        for n in (tokens, 2 * tokens)
    )
    if some is not None:
        assert some.low <= some.mean <= some.high
        assert some.mean <= more.mean


def test_a_longer_context_costs_attention():
    fit, device = fitted().training, device_of(gpu("H100"))
    short, long = (
        train_step_seconds(LLAMA_8B, device, TrainSetup(context, 16384), fit)
        for context in (1024, 16384)
    )
    assert 1.1 < long / short < 2


def test_recomputation_is_chosen_where_small_micro_steps_would_wait_for_the_link():
    eight = Fleet.of([device_of(gpu("L4", 8))])
    setup, fits = train_setup(SEVEN, eight, TrainingJob(10**9, 2**19, 2048), np.array([2]))
    assert fits[0] and setup.checkpointing[0]
    assert setup.n_micro[0] < 16


def test_many_servers_at_once_are_each_as_alone():
    offers = [gpu("H100", 8), cpu(16, 64), gpu("T4"), gpu("L4", 4), cpu(1, 2), gpu("A100", 2)]
    fleet = Fleet.of([device_of(offer) for offer in offers])
    n_nodes = np.array([1, 4, 2, 1, 1, 8])
    for card in (TINY, replace(TINY, runs=(RUN, replace(RUN, train_cpu_seconds=600.0))), SEVEN):
        for method in ("full", "lora"):
            job = replace(JOB, method=method)
            every, _ = train_all(card, fleet, job, n_nodes)
            for i, (offer, n) in enumerate(zip(offers, n_nodes.tolist(), strict=True)):
                alone = train(card, offer, job, n)
                if alone is None:
                    assert np.isnan(every.mean[i])
                else:
                    assert every.interval(i, alone.source) == alone


def test_small_steps_take_longer_on_a_cpu_and_adamw_updates_faster():
    """What a step takes beside its tokens counts: the recorded runs had steps of 4,096 tokens."""
    here = cpu(2, cloud="local")
    of_run = replace(TINY, runs=(RUN,))
    tokens = 400_000
    few, many = (
        train(of_run, here, TrainingJob(tokens, batch, 512), 1, CALIBRATION).mean
        for batch in (k.CPU_RECORDED_BATCH_TOKENS, 400)
    )
    step_s = k.CPU_STEP_S + k.CPU_STEP_S_PER_PARAM["muon"] * TINY.n_params
    more = tokens / 400 - tokens / k.CPU_RECORDED_BATCH_TOKENS
    assert 3600 * (many - few) == pytest.approx(more * step_s, rel=0.01)
    tuned = TrainingJob(tokens, 400, 512, optimizer="adamw")
    assert few < train(of_run, here, tuned, 1, CALIBRATION).mean < many
