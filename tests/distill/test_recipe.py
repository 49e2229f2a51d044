"""How long a student is trained and how fast: one rule for the plan and for the training."""

import pytest

from stratos.config import CallbacksConfig, StudentConfig, TrainerConfig
from stratos.distill.trainer import few_passes, learning_rates, training_length, warmup_steps

RANDOM = StudentConfig("stratos_1m", train_tokens=13_000_000)
MODEL = StudentConfig("smollm2_135m", path="some/folder", train_tokens=12_000_000)


@pytest.mark.parametrize(
    ("student", "n_rows", "epochs"),
    [
        (RANDOM, 100, 60), (RANDOM, 304, 60), (RANDOM, 1000, 20), (RANDOM, 2000, 10),
        (MODEL, 100, 5), (MODEL, 300, 5), (MODEL, 375, 4), (MODEL, 5000, 3),
    ],
)  # fmt: skip
def test_few_rows_are_read_tens_of_times_not_thousands(student, n_rows, epochs):
    length = training_length(TrainerConfig(), student, n_rows, 80.0)
    assert length.tokens == epochs * n_rows * 80
    assert length.epochs == epochs
    assert length.reason == f"{epochs} epochs of {n_rows:,} rows (trainer.max_epochs)"


def test_many_rows_are_read_up_to_the_tokens_of_the_student():
    length = training_length(TrainerConfig(), RANDOM, 80_000, 170.0)
    assert (length.tokens, length.batch_tokens) == (13_000_000, 4096)
    assert length.reason == "train_tokens of stratos_1m"
    assert length.epochs == pytest.approx(0.956, abs=0.001)


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({"max_tokens": 500_000}, 500_000),  # said so, whatever the rows
        ({"max_tokens": 500_000, "max_epochs": 4}, 4 * 24_000),
        ({"max_epochs": 100}, 2_400_000),
        ({"max_epochs": -1}, 13_000_000),
    ],
)
def test_what_is_configured_comes_first(settings, tokens):
    assert training_length(TrainerConfig(**settings), RANDOM, 300, 80.0).tokens == tokens


@pytest.mark.parametrize(
    ("student", "max_tokens", "n_rows", "is_warned"),
    [
        (MODEL, 12_000, 100, True),  # 1.5 times
        (MODEL, 24_000, 100, False),  # three times, as by default
        (MODEL, 160_000, 2_000, False),  # once, and many rows
        (RANDOM, 12_000, 100, False),  # who starts from nothing is tried out with little
    ],
)
def test_few_rows_that_are_read_seldom_have_a_warning(student, max_tokens, n_rows, is_warned):
    trainer = TrainerConfig(max_tokens=max_tokens)
    length = training_length(trainer, student, n_rows, 80.0)
    reason = few_passes(trainer, student, length, n_rows)
    assert (reason is not None) is is_warned
    if reason is not None:
        enough = training_length(
            TrainerConfig(max_tokens=reason.enough_tokens), student, n_rows, 80.0
        )
        assert few_passes(trainer, student, enough, n_rows) is None
    once = TrainerConfig(max_epochs=1)  # by which more tokens would change nothing
    length = training_length(once, student, n_rows, 80.0)
    assert few_passes(once, student, length, n_rows) is None


def test_an_epoch_has_steps_enough():
    assert training_length(TrainerConfig(), MODEL, 300, 80.0).batch_tokens == 1500
    assert training_length(TrainerConfig(), MODEL, 20, 80.0).batch_tokens == 256
    assert training_length(TrainerConfig(batch_tokens=512), MODEL, 300, 80.0).batch_tokens == 512


def test_measurements_fit_the_length():
    often, seldom = CallbacksConfig(), CallbacksConfig(validate_every_steps=7)
    length = training_length(TrainerConfig(), MODEL, 300, 80.0)  # 5 epochs of 16 steps
    assert length.validate_every_steps(often, 80) == 16, "once an epoch"
    assert length.validate_every_steps(seldom, 80) == 7
    length = training_length(TrainerConfig(), RANDOM, 304, 80.0)  # 60 epochs
    assert length.validate_every_steps(often, 960) == 48, "20 times"
    length = training_length(TrainerConfig(), RANDOM, 80_000, 170.0)
    assert length.validate_every_steps(often, 3174) == 1000


def test_warm_up_leaves_most_of_a_short_training():
    assert warmup_steps(TrainerConfig(), 3000) == 50
    assert warmup_steps(TrainerConfig(), 160) == 16
    assert warmup_steps(TrainerConfig(warmup_steps=0), 160) == 0


def test_learning_rates_go_by_the_kind_and_the_width_of_a_student():
    for width in (64, 128, 192, 256):
        rates = learning_rates(TrainerConfig(), True, width)
        assert (rates.optimizer, rates.lr_muon, rates.lr_adamw) == ("muon", 0.01, 0.003)
    assert learning_rates(TrainerConfig(), True, 1024).lr_muon < 0.004
    full = learning_rates(TrainerConfig(), False, 576)
    assert full.optimizer == "adamw"
    assert full.lr_adamw == pytest.approx(1.3e-4, rel=0.05)
    assert learning_rates(TrainerConfig(), False, 2000).lr_adamw == pytest.approx(5e-5)
    lora = learning_rates(TrainerConfig(adapter="lora"), False, 576)
    assert lora.lr_adamw == pytest.approx(10 * full.lr_adamw)


def test_own_learning_rates_and_optimizer_come_first():
    own = TrainerConfig(lr_muon=0.02, lr_adamw=0.001, optimizer="muon")
    rates = learning_rates(own, False, 576)
    assert (rates.optimizer, rates.lr_muon, rates.lr_adamw) == ("muon", 0.02, 0.001)
    assert learning_rates(TrainerConfig(optimizer="adamw"), True, 128).optimizer == "adamw"
