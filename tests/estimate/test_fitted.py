"""The constants that ship: what the tables give, and within the errors that the docs state."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stratos.estimate.fitted import FITTED_TOML, TRAINER, Factor, Setting, fitted

PERF = Path(__file__).parents[2].parent / "shared" / "perf"
pytestmark = pytest.mark.skipif(not PERF.exists(), reason="the tables are not here")


@pytest.fixture(scope="module")
def training():
    from measured_rows import training_rows

    return training_rows()


@pytest.fixture(scope="module")
def inference():
    from measured_rows import inference_rows

    return inference_rows()


@pytest.mark.slow
def test_the_file_is_what_the_script_writes():
    from fit import fitted_toml

    # Written with three digits: another BLAS may round a last one otherwise.
    mine, there = (
        [float(word) for word in text.replace("[", " ").replace("]", " ").replace(",", " ").split()
         if word.replace(".", "", 1).replace("e-", "", 1).replace("-", "", 1).isdigit()]
        for text in (fitted_toml(fitted().date), FITTED_TOML.read_text(encoding="utf-8"))
    )  # fmt: skip
    assert mine == pytest.approx(there, rel=0.02)


def test_tokens_per_s_of_sizes_and_gpus_never_seen(training):
    from heldout import training_splits

    splits = training_splits(training)

    def mape(split):
        return np.abs(np.concatenate([r for r, _ in splits[split].values()]) - 1).mean()

    assert mape("bf16, size never seen") <= 0.05
    assert mape("fp8, size never seen") <= 0.06
    for ratios, _ in splits["bf16, GPU never seen"].values():
        assert np.abs(ratios - 1).mean() <= 0.07


def test_latencies_of_models_and_gpus_never_seen(inference):
    from heldout import inference_splits, spearman

    for quantity, most, least_rank in (("first_token", 0.35, 0.0), ("output_token", 0.11, 0.96)):
        for split, by_gpu in inference_splits(inference)[quantity].items():
            ratios, measured = (
                np.concatenate([pair[i] for pair in by_gpu.values()]) for i in (0, 1)
            )
            assert np.abs(ratios - 1).mean() <= most, (quantity, split)
            assert spearman(ratios * measured, measured) >= least_rank, (quantity, split)


def test_every_training_that_ran_is_judged_to_fit(training):
    from measured_rows import training_bytes_of

    assert len(training) == 117
    for row in training:
        assert training_bytes_of(row) <= row.device.memory_bytes, row


def test_twice_the_micro_batch_is_judged_not_to_fit_where_it_filled_the_gpu(training):
    # The published micro batches are the largest that ran: of the rows above 80% full by the
    # model, none has room for twice the tokens.
    from measured_rows import training_bytes_of

    full = [row for row in training if training_bytes_of(row) > 0.8 * row.device.memory_bytes]
    assert len(full) > 20
    for row in full:
        assert training_bytes_of(row, 2.0) > row.device.memory_bytes


def within(quantity, *setting, hidden=0.0):
    found = fitted().errors[quantity].interval(Setting(*setting), 1.0, hidden)
    return found.high / found.low, found


def test_another_gpu_is_named_and_has_a_wider_range(snapshot):
    known, other, unlike = (within("training", TRAINER, gpu) for gpu in ("H100", "H200", "L4"))
    assert known[0] < other[0] < unlike[0]
    assert known[1].source == snapshot
    assert other[1].source == snapshot
    assert "L4 is unlike those that were" in unlike[1].source


@pytest.mark.parametrize("quantity", ["first_token", "output_token"])
def test_what_was_not_measured_has_a_wider_range_by_what_it_lacks(quantity):
    known, widest_known = within(quantity, "vllm", "H100", 8), 0.0
    for one in fitted().errors[quantity].known:
        widest_known = max(widest_known, one.high / one.low)
    combination = within(quantity, "vllm", "H100", 16)
    engine = within(quantity, "sglang", "H100", 8)
    gpu = within(quantity, "vllm", "H200", 8)
    both = within(quantity, "sglang", "H200", 8)
    assert known[0] < combination[0] < gpu[0] < engine[0] < both[0]
    assert widest_known < engine[0]
    assert "vllm on H100 in bf16 not measured" in combination[1].source
    assert "sglang not measured" in engine[1].source and "H200" not in engine[1].source
    assert "sglang not measured" in both[1].source and "H200 not measured" in both[1].source
    # Two engines say less of a third one than six settings say of a seventh.
    errors = fitted().errors[quantity].unseen
    assert errors[Factor.ENGINE].between > 1.5 * errors[Factor.COMBINATION].between


def test_a_precision_that_was_not_measured_has_a_wider_range():
    errors = fitted().errors["output_token"]
    fewer = replace(errors, known=tuple(one for one in errors.known if one.setting.bits != 8))
    setting = Setting("vllm", "B200", 8)
    known, unseen = (one.interval(setting, 1.0) for one in (errors, fewer))
    assert unseen.low < known.low and known.high < unseen.high
    assert "8 bits not measured" in unseen.source


def test_what_is_hidden_may_come_on_top():
    assert within("output_token", "vllm", "H100", 16, hidden=2.0)[1].high == 3.0
    assert within("output_token", "vllm", "H100", 16, hidden=0.1)[1].high < 1.5


def test_intervals_hold_for_a_held_out_engine_as_for_a_held_out_gpu(inference):
    """And where requests queue: 90% of what was measured is inside, by load."""
    from coverage import scored
    from unseen import fit_of

    for what, level in (("engine", lambda r: r.backend), ("GPU", lambda r: r.device.name)):
        for value in sorted({level(row) for row in inference}):
            rest = tuple(row for row in inference if level(row) != value)
            out = [row for row in inference if level(row) == value]
            for line in scored(what, value, out, fit_of(rest), None, rest):
                assert line["coverage"] >= 0.9, line
                if line["load"] == "below":
                    assert line["high"] / line["low"] < 7, line  # an interval that says something


def test_a_saturated_queue_has_a_wider_range(inference):
    from campaign import is_saturated
    from unseen import fit_of, intervals

    fit = fit_of(tuple(inference))
    row = next(row for row in inference if row.lab and row.batch == 32)
    full = replace(row, batch=128)
    assert is_saturated(full) and not is_saturated(row)
    calm, saturated = (intervals(one, fit, fitted().errors, inference)[0] for one in (row, full))
    assert saturated.high / saturated.low > 3 * calm.high / calm.low
    assert "saturated" in saturated.source


def test_what_another_server_may_not_take_lowers_the_low_end_alone():
    errors, setting = fitted().errors["first_token"], Setting("vllm", "H100", 8)
    plain, long, short = (errors.interval(setting, 1.0, spared=s) for s in (0.0, 0.1, 0.7))
    assert plain == long, "the measured error is wider"
    assert (short.low, short.high) == (pytest.approx(0.3), plain.high)
    request = fitted().inference.first_token_s
    assert errors.interval(setting, 0.06, spared=request).low == pytest.approx(0.06 - request)
