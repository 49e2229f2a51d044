"""The constants that ship: what the tables give, and within the errors that the docs state."""

from pathlib import Path

import numpy as np
import pytest

from stratos.estimate.fitted import FITTED_TOML, fitted

PERF = Path(__file__).parents[2].parent / "shared" / "perf"
pytestmark = pytest.mark.skipif(not PERF.exists(), reason="the tables are not here")


@pytest.fixture(scope="module")
def training():
    from rows import training_rows

    return training_rows()


@pytest.fixture(scope="module")
def inference():
    from rows import inference_rows

    return inference_rows()


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
    from rows import training_bytes_of

    assert len(training) == 117
    for row in training:
        assert training_bytes_of(row) <= row.device.memory_bytes, row


def test_twice_the_micro_batch_is_judged_not_to_fit_where_it_filled_the_gpu(training):
    # The published micro batches are the largest that ran: of the rows above 80% full by the
    # model, none has room for twice the tokens.
    from rows import training_bytes_of

    full = [row for row in training if training_bytes_of(row) > 0.8 * row.device.memory_bytes]
    assert len(full) > 20
    for row in full:
        assert training_bytes_of(row, 2.0) > row.device.memory_bytes


def test_another_gpu_is_named_and_has_a_wider_range():
    known, other, unlike = (
        fitted().interval("training", gpu, 1.0) for gpu in ("H100", "H200", "L4")
    )
    assert unlike.high - unlike.low > other.high - other.low
    assert known.source == "roofline, H100: error 2% on models it was not fitted to"
    assert "H200 not measured" in other.source
    assert "unlike" in unlike.source
