from dataclasses import replace

import pytest
from hardware_world import LLAMA_8B, SEVEN, SEVENTY, TINY, cpu, gpu, tensor_degrees
from hypothesis import given
from hypothesis import strategies as st
from serving_points import serving

from stratos.estimate.cards import (
    TrainingJob,
    Workload,
    activation_bytes,
    adapter_params,
    serving_bytes,
    training_memory,
)
from stratos.estimate.fleet import device_of
from stratos.estimate.hours import train

GIB = 2**30


def test_full_training_in_closed_form():
    memory = training_memory(SEVEN, 512)
    assert memory.states == 16 * SEVEN.n_params
    assert memory.gathered == 0
    # Norms and attention keep 8 widths in bf16, the gated MLP 4 of its own.
    assert memory.activations == 512 * 32 * (16 * 4096 + 8 * 11008)
    assert memory.logits == 512 * 8 * 32000
    assert memory.total == memory.states + memory.activations + memory.logits


def test_a_plain_mlp_of_four_widths_keeps_32_bytes_per_width():
    plain = replace(SEVEN, n_params=6_658_859_008, intermediate_size=16384, vocab_size=50368)
    assert activation_bytes(plain) == 32 * 4096


def test_sharding_divides_states_and_gathers_two_blocks():
    one, eight = training_memory(SEVEN, 512), training_memory(SEVEN, 512, 8)
    assert eight.states == one.states / 8
    assert eight.gathered == 4 * SEVEN.n_params / 32
    assert eight.activations == one.activations


def test_recomputation_keeps_inputs_and_one_block():
    kept = training_memory(SEVEN, 512, checkpointing=True)
    block = 16 * 4096 + 8 * 11008
    assert kept.activations == 512 * (32 * 2 * 4096 + block)
    assert training_memory(SEVEN, 512, checkpointing=True, offload=True).activations == 512 * block


def test_adapters_of_llama_8b_as_peft_counts_them():
    # peft on every linear map of the blocks with rank 16: 41,943,040 trainable parameters.
    assert adapter_params(LLAMA_8B) == 41_943_040


def test_lora_and_qlora_need_less_than_full_training():
    full, lora, qlora = (
        training_memory(LLAMA_8B, 2048, method=method).states
        for method in ("full", "lora", "qlora")
    )
    assert lora == 2 * LLAMA_8B.n_params + 16 * 41_943_040
    assert 4.5 * GIB < qlora < 8 * GIB < lora < full / 7


def test_serving_in_closed_form():
    assert serving_bytes(LLAMA_8B, 1024) == (2 * LLAMA_8B.n_params + 1024 * 131_072 + 4 * 128_256)
    one, two = serving_bytes(LLAMA_8B, 1024, 64, 1), serving_bytes(LLAMA_8B, 1024, 64, 2)
    logits = 4 * 128_256 * 64
    assert two - logits == (one - logits) / 2


def test_key_value_heads_cannot_be_cut():
    cut = [serving_bytes(SEVENTY, 4096, 8, g) - 2 * SEVENTY.n_params / g for g in (8, 16)]
    assert cut[0] == cut[1]  # 8 key-value heads


def test_a_7b_trains_on_80_gib_sharded_or_by_qlora_but_not_alone():
    job = TrainingJob(10**7, 8192, 512)
    assert train(SEVEN, gpu("H100"), job) is None
    assert train(SEVEN, gpu("H100", 2), job) is not None
    assert train(SEVEN, gpu("H100"), job, n_nodes=2) is not None
    assert train(SEVEN, gpu("H100"), replace(job, method="lora")) is not None
    assert train(SEVENTY, gpu("H100"), replace(job, method="lora")) is None
    assert train(SEVENTY, gpu("H100"), replace(job, method="qlora")) is not None


def test_a_server_without_room_for_the_runtime_holds_no_model():
    assert not serving(TINY, cpu(1, memory=0.5), [Workload(64, 128)])
    assert train(TINY, cpu(1, memory=2), TrainingJob(10**6, 512, 512)) is None
    assert serving(TINY, cpu(2, memory=4), [Workload(64, 128)])


def bytes_to_train(card, job, n_devices=1):
    """Return the least bytes on each device: one row at once, activations recomputed or not."""
    row = min(job.context, job.batch_tokens)
    return min(
        training_memory(card, row, n_devices, method=job.method, checkpointing=again).total
        for again in (False, True)
    )


def bytes_to_serve(card, work, tensor_parallel=1):
    """Return the bytes on each device of a group that answers one request at a time."""
    return serving_bytes(card, work.context, 1, tensor_parallel)


@given(
    card=st.sampled_from([TINY, SEVEN, LLAMA_8B, SEVENTY]),
    name=st.sampled_from(["T4", "L4", "A10G", "A100", "H100", "H200", "B200"]),
    count=st.sampled_from([1, 2, 4, 8]),
    method=st.sampled_from(["full", "lora", "qlora"]),
    context=st.sampled_from([128, 1024, 8192]),
    n_nodes=st.sampled_from([1, 2, 4]),
)
def test_a_job_fits_exactly_where_its_least_bytes_do(card, name, count, method, context, n_nodes):
    offer, job = gpu(name, count), TrainingJob(10**7, 32768, context, method)
    device = device_of(offer)
    fits = bytes_to_train(card, job, device.count * n_nodes) <= device.memory_bytes
    assert fits == (train(card, offer, job, n_nodes) is not None)
    work, degree = Workload(context, 128), tensor_degrees(card, device)[-1]
    fits = bytes_to_serve(card, work, degree) <= device.memory_bytes
    assert fits == bool(serving(card, offer, [work]))


def test_bytes_are_least_on_one_device_with_one_row():
    assert bytes_to_train(TINY, TrainingJob(10**6, 8192, 512)) < training_memory(TINY, 8192).total
    assert bytes_to_serve(TINY, Workload(64, 128)) == pytest.approx(
        2 * TINY.n_params + 192 * 2 * 4 * 128 * 2 + 4 * 128
    )
