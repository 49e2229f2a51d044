"""How long a training takes here is said before it begins; its threads are chosen."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from process import interrupted

from stratos.config import LimitsConfig, StudentConfig
from stratos.core.errors import StratosError
from stratos.distill import pace
from stratos.distill.pace import Outlook, Pace, fastest_of
from stratos.distill.train import _smaller
from stratos.distill.words import PassedLimit, TooLong
from stratos.models.decode.decoder import thread_counts

Run = Callable[..., Any]
SHORT = {"max_tokens": 20_000, "precision": "fp32", "accelerator": "cpu", "n_processes": 1}
HOURS_353 = Outlook(
    student="smollm2_135m",
    n_steps=31_000,
    tokens_per_step=387.0,
    n_validations=13,
    epochs=700.0,
    max_hours=1.0,
    deadline_hours=None,
    max_seconds=None,
    smaller=(("stratos_3m", 0.02), ("stratos_1m", 0.0007)),
)
TOO_LONG = TooLong(
    student="smollm2_135m",
    seconds=353 * 3600,
    n_steps=31_000,
    tokens_per_step=387.0,
    step_seconds=41.0,
    limits=(PassedLimit("limits.train_hours", 1.0, 393),),
    max_tokens=30_000,
    max_epochs=1,
    smaller="stratos_1m",
)


# --- how long -------------------------------------------------------------------------------------


def test_a_training_of_353_hours_is_not_begun():
    assert HOURS_353.too_long(353 * 3600, 41.0) == TOO_LONG
    assert HOURS_353.too_long(3500, 0.1) is None
    assert replace(HOURS_353, max_hours=None).too_long(353 * 3600, 41.0) is None


def test_a_deadline_counts_too():
    outlook = replace(HOURS_353, max_hours=24.0, deadline_hours=2.0, smaller=())
    reason = outlook.too_long(3 * 3600, 0.35)
    assert reason == replace(
        TOO_LONG,
        seconds=3 * 3600,
        step_seconds=0.35,
        limits=(PassedLimit("limits.deadline_hours", 2.0, 4),),
        max_tokens=7_100_000,
        max_epochs=420,
        smaller=None,
    )


def test_what_the_stages_before_took_counts_for_the_deadline():
    outlook = replace(HOURS_353, max_hours=24.0, deadline_hours=4.0, smaller=(), passed_hours=1.5)
    assert outlook.too_long(2.4 * 3600, 0.3) is None
    reason = outlook.too_long(3 * 3600, 0.35)
    assert reason is not None
    assert reason.limits == (PassedLimit("limits.deadline_hours", 4.0, 5),)
    assert reason.passed_hours == 1.5
    late = replace(outlook, passed_hours=5.0).too_long(3600, 0.1)
    assert late is not None
    assert late.limits == (PassedLimit("limits.deadline_hours", 4.0, 7),)
    assert (late.max_tokens, late.max_epochs, late.smaller) == (None, None, None)
    assert replace(outlook, deadline_hours=None).too_long(3 * 3600, 0.35) is None


def test_a_training_of_less_than_ten_steps_is_no_advice():
    hardly = replace(HOURS_353, max_hours=0.001, smaller=())
    reason = hardly.too_long(353 * 3600, 41.0)
    assert reason is not None and reason.max_tokens is None


def test_what_would_make_it_fit_is_said(snapshot):
    both = (PassedLimit("limits.train_hours", 1.0, 5), PassedLimit("limits.deadline_hours", 4.0, 7))
    late = replace(TOO_LONG, limits=both, passed_hours=1.5)
    too_late = replace(late, max_tokens=None, max_epochs=None, smaller=None)
    assert [str(TOO_LONG), str(late), str(too_late)] == snapshot


def test_what_ends_by_itself_takes_no_longer():
    assert replace(HOURS_353, max_seconds=1800.0).seconds(41.0, 60.0) == 1800
    assert HOURS_353.seconds(0.1, 10.0) == pytest.approx(3230)


def test_the_time_is_said_and_kept(trained):
    student = trained.student
    (note,) = [note for note in trained.notes if " here, " in note]
    assert note.startswith(f"tiny: {student.steps} steps of 1,818 tokens, ")
    # What it takes is said besides where it is much, as of so short a training on a busy machine.
    assert f" here, {1 + student.steps // 3} validations included" in note
    assert student.threads == ((0, 1),)
    # What others do at the same time may change in between, but not by so much.
    assert student.seconds / 10 < student.expected_seconds < 10 * student.seconds


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory, corpus_path: Path) -> StudentConfig:
    """A model of 57M parameters: random weights, as large as what takes too long on a CPU."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from stratos.distill.tokenizer import make_student, save_student

    folder = tmp_path_factory.mktemp("big") / "m"
    _, tokenizer = make_student(StudentConfig("t"), None, ["1m 2m 3m 4p 5p 6p 7s 8s 9s"] * 9, 0)
    shape = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=8,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    save_student(LlamaForCausalLM(shape).bfloat16(), tokenizer, folder)
    return StudentConfig("big", path=str(folder), train_tokens=12_000_000)


@pytest.mark.slow
def test_a_model_that_takes_too_long_is_refused_in_good_time(run_distill, big, tmp_path):
    with pytest.raises(StratosError, match=r"would take about [\d,.]+ h on this machine") as caught:
        run_distill(tmp_path, student=big, max_tokens=12_000_000, batch_tokens=4096)
    said = str(caught.value)
    assert "more than limits.train_hours=1 allows. Nothing was trained." in said
    with pytest.raises(StratosError, match=r"limits\.train_hours=1 allows"):
        run_distill(tmp_path, student=big, max_tokens=12_000_000, batch_tokens=4096)
    assert not list((tmp_path / "distill").glob("checkpoints/step-*"))


@pytest.mark.slow
def test_a_training_that_goes_on_is_not_measured_again(run_distill, tmp_path, monkeypatch):
    interrupted(run_distill, tmp_path, monkeypatch, **SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(pace, "measure", None)
        student = run_distill(tmp_path, **SHORT)
    kept = json.loads((tmp_path / "distill" / "pace.json").read_text())
    assert student.threads == ((0, kept["n_threads"]),), "others would round sums otherwise"
    assert student.n_resumed == 1
    assert student.expected_seconds is not None


def _takes(seconds: Callable[[int], float]) -> Any:
    """Return trials that take so long, by their tokens, and 0.3 s for the update."""

    def trial(_trainer: Any, _module: Any, row: Any, _optimizer: Any) -> pace._Trial:
        tokens = row.tokens_1N.numel()
        return pace._Trial(tokens, seconds(tokens), 0.3)

    return trial


@pytest.mark.parametrize("accumulate", [1, 4])
def test_what_a_pass_takes_whatever_its_tokens_is_counted_once_a_pass(accumulate, monkeypatch):
    """A model of 135M parameters narrows and widens them in each pass: most of a short row's."""

    import numpy as np

    from stratos.distill.data import Encoded, PackedLoader

    n = 400
    data = Encoded(
        tokens=np.ones(60 * n, np.int32),
        starts=np.arange(n + 1) * 60,
        prompt_lengths=np.full(n, 20),
    )
    loader = PackedLoader(data, 2048 * accumulate, 10_000, 0, accumulate=accumulate)
    trainer = SimpleNamespace(world_size=1, accumulate_grad_batches=accumulate)
    module = SimpleNamespace(
        optimizer=lambda scale: None, parameters=lambda: [], device=torch.device("cpu")
    )

    def per_step(seconds: Callable[[int], float]) -> float:
        monkeypatch.setattr(pace, "_trial", _takes(seconds))
        counts = (torch.get_num_threads(),)
        (found,) = pace.measure(trainer, module, loader, counts)  # type: ignore[arg-type]
        return found.seconds_per_step(2048 * accumulate)

    expected = accumulate * (0.25 + 0.0012 * 2048) + 0.3
    assert per_step(lambda tokens: 0.25 + 0.0012 * tokens) == pytest.approx(expected)
    quick = accumulate * 0.0002 * 2048 + 0.3
    assert per_step(lambda tokens: 0.0002 * tokens) == pytest.approx(quick)
    # Other work in the midst of it makes the longer row quicker: a time per token is left.
    busy = {120: 3.0, 240: 2.0, 480: 2.0, 960: 2.0}
    assert per_step(busy.__getitem__) == pytest.approx(accumulate * 2.0 / 240 * 2048 + 0.3)


# --- on how many threads --------------------------------------------------------------------------


def test_all_powers_of_two_and_all_cores_are_tried():
    assert thread_counts(1) == (1,)
    assert thread_counts(2) == (1, 2)
    assert thread_counts(6) == (1, 2, 4, 6)
    assert thread_counts(8) == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0, 2: 0.55, 4: 0.3}, 4),  # quiet
        ({1: 1.0, 2: 0.95, 4: 1.4}, 1),  # busy: two threads are hardly faster than one
        ({1: 1.0, 2: 0.6, 4: 0.58}, 2),
    ],
)
def test_more_threads_are_taken_where_they_are_clearly_faster(seconds, chosen):
    paces = [Pace(n, s / 1000, 0.01) for n, s in seconds.items()]
    assert fastest_of(paces, 1000).n_threads == chosen


@pytest.mark.slow
def test_measuring_changes_no_bit(run_distill, tmp_path, monkeypatch):
    measured = run_distill(tmp_path / "measured", **SHORT)
    n = torch.get_num_threads()
    monkeypatch.setattr(pace, "measure", lambda *_: [Pace(n, 1e-6, 1e-6)])
    plain = run_distill(tmp_path / "plain", **SHORT)
    assert measured.weights_sha256 == plain.weights_sha256


def test_a_hint_names_smaller_language_models_alone():
    students = (
        StudentConfig("tagger", kind="tagger"),
        StudentConfig("small", path="a/folder", facts={"n_params": 1_000_000}),
        StudentConfig("large", path="b/folder", facts={"n_params": 9_000_000}),
    )
    shares = _smaller(students, 4_000_000)
    assert shares == (("small", 0.25),)


def test_limits_have_an_hour_of_training():
    assert LimitsConfig().train_hours == 1.0
