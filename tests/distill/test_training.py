"""What a training can be told: adapters, averages, parts of a step, and when to end."""

import gc
import importlib.util
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from process import interrupted
from stub_executors import Queue
from training_runs import EVERY_3, SHORT
from transformers import AutoModelForCausalLM, AutoTokenizer

from stratos.config import FitConfig, StudentConfig
from stratos.core.errors import StratosError
from stratos.distill.module import MuonAdamW
from stratos.distill.monitor import Average
from stratos.distill.trainer import SIGNALS, Interrupts
from stratos.distill.words import OutOfTime, VocabularyCut

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> StudentConfig:
    """A student that starts from existing weights."""
    from stratos.distill.tokenizer import make_student, save_student
    from stratos.tasks.mahjong import MahjongTask

    folder = tmp_path_factory.mktemp("grown")
    config = StudentConfig("g", hidden_size=64, n_layers=2, n_heads=2, intermediate_size=128)
    save_student(*make_student(config, MahjongTask().vocabulary(), [], 5), folder)
    return StudentConfig("g", path=str(folder))


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*is deprecated and will be removed:FutureWarning")
@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_adapters_end_in_an_ordinary_student(run_distill, grown, kind, tmp_path, monkeypatch):
    if kind == "qlora":
        pytest.importorskip("bitsandbytes")
    # Until step ten the loss of so small a student hardly moves.
    settings = {
        **SHORT,
        "max_tokens": 2 * SHORT["max_tokens"],
        "student": grown,
        "adapter": kind,
        "lora_rank": 8,
        "lr_adamw": 0.02,
    }
    seen: list[torch.Tensor] = []
    ids = torch.arange(20)[None]
    from stratos.distill import train

    merge = train._save

    def note(ready: Any, weights: dict[str, torch.Tensor], *folders: Path) -> Any:
        ready.model.load_state_dict(weights, strict=False)
        with torch.no_grad():
            seen.append(ready.model.eval()(ids).logits.float())
        return merge(ready, weights, *folders)

    monkeypatch.setattr(train, "_save", note)
    student = run_distill(tmp_path / "whole", **settings)
    assert student.curve[-1].loss < student.curve[0].loss - 0.05

    trained = AutoModelForCausalLM.from_pretrained(student.path)
    untouched = AutoModelForCausalLM.from_pretrained(student.untouched_path)
    names = [name for name, _ in untouched.named_parameters()]
    assert [name for name, _ in trained.named_parameters()] == names, "no adapter is left"
    assert student.n_params == untouched.num_parameters()
    with torch.no_grad():
        logits = trained.eval()(ids).logits
    gap = (logits - seen[0]).norm() / logits.norm()
    assert gap < (0.03 if kind == "qlora" else 1e-5), "in 4 bits products are rounded"
    up, embedding = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"
    assert not torch.equal(trained.get_parameter(up), untouched.get_parameter(up))
    assert torch.equal(trained.get_parameter(embedding), untouched.get_parameter(embedding))

    interrupted(run_distill, tmp_path / "stopped", monkeypatch, **settings)
    resumed = run_distill(tmp_path / "stopped", **settings)
    assert resumed.n_resumed == 1
    assert resumed.weights_sha256 == student.weights_sha256


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_student_is_trained_with_the_tokens_of_its_task(
    run_distill, adapter, tmp_path, monkeypatch
):
    """The base that it is compared with stays whole; a stopped training ends with the same bits."""
    from stratos.distill.tokenizer import make_student, save_student
    from stratos.tasks.mahjong import MahjongTask

    pages = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    texts = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    shape = StudentConfig("g", hidden_size=32, n_layers=2, n_heads=2, vocab_size=1200)
    save_student(*make_student(shape, None, texts, 5), tmp_path / "base")
    grown = StudentConfig("g", path=str(tmp_path / "base"), fit=FitConfig(True, depth=True))
    settings = {**SHORT, "student": grown, "adapter": adapter, "lora_rank": 4}
    notes: list[str] = []
    student = run_distill(tmp_path / "whole", notes=notes, **settings)

    trained, untouched = (
        AutoModelForCausalLM.from_pretrained(path)
        for path in (student.path, student.untouched_path)
    )
    small, large = (
        AutoTokenizer.from_pretrained(path) for path in (student.path, student.untouched_path)
    )
    assert student.vocabulary == (trained.config.vocab_size, len(large)) == (len(small), 1200)
    assert len(small) < 0.5 * len(large)
    assert str(VocabularyCut(len(small), len(large))) in notes
    assert student.layers == (2, 2), "it answers nothing, so that no layer is known to be idle"
    saved = untouched.num_parameters() - trained.num_parameters()
    assert saved == 32 * (len(large) - len(small))
    item = MahjongTask().items("validation", 1)[0]
    chat = MahjongTask().student_messages(item)
    pieces = [
        each.convert_ids_to_tokens(each.apply_chat_template(chat, return_dict=True)["input_ids"])
        for each in (small, large)
    ]
    assert pieces[0] == pieces[1]

    interrupted(run_distill, tmp_path / "stopped", monkeypatch, **settings)
    resumed = run_distill(tmp_path / "stopped", **settings)
    assert resumed.n_resumed == 1 and resumed.weights_sha256 == student.weights_sha256


def test_adapters_beside_random_weights_are_refused(run_distill, tmp_path):
    with pytest.raises(StratosError, match=r"student\.path=<folder>, or trainer\.adapter=none"):
        run_distill(tmp_path, adapter="lora")


def test_4_bits_need_their_package(run_distill, grown, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StratosError, match=r"pip install bitsandbytes, or trainer\.adapter"):
        run_distill(tmp_path, student=grown, adapter="qlora")


@pytest.mark.slow
def test_parts_of_a_step_are_the_step(run_distill, trained, tmp_path):
    whole = trained.student
    parts = run_distill(tmp_path, accumulate=3, callbacks=EVERY_3, **SHORT)
    assert (parts.steps, parts.train_tokens) == (whole.steps, whole.train_tokens)
    losses = [point.loss for point in whole.curve]
    assert [point.loss for point in parts.curve] == pytest.approx(losses, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*is deprecated and will be removed:FutureWarning")
def test_blocks_computed_twice_are_the_same(run_distill, trained, tmp_path):
    again = run_distill(tmp_path, checkpointing=True, callbacks=EVERY_3, **SHORT)
    losses = [point.loss for point in trained.student.curve]
    assert [point.loss for point in again.curve] == pytest.approx(losses, abs=1e-5)


@pytest.mark.slow
def test_an_average_goes_on_with_a_resume(run_distill, tmp_path, monkeypatch):
    settings = {**SHORT, "ema": 0.9, "accumulate": 2}
    whole = run_distill(tmp_path / "whole", **settings)
    interrupted(run_distill, tmp_path / "stopped", monkeypatch, **settings)
    resumed = run_distill(tmp_path / "stopped", **settings)
    assert resumed.weights_sha256 == whole.weights_sha256
    plain = run_distill(tmp_path / "plain", **{**settings, "ema": None})
    assert plain.weights_sha256 != whole.weights_sha256


def test_an_average_is_that_of_its_definition():
    model = torch.nn.Linear(2, 2, bias=False)
    module, trainer = SimpleNamespace(model=model), SimpleNamespace(global_step=0)
    average = Average(0.5)
    average.on_train_start(trainer, module)  # type: ignore[arg-type]
    expected = model.weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            model.weight += step
        average.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
        trainer.global_step = step
        average.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    latest = model.weight.detach().clone()
    with average.in_place(module):
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, latest)


@pytest.mark.slow
def test_ends_at_its_accuracy(run_distill, tmp_path):
    callbacks = {"validate_every_steps": 3, "stop_at_exact": 0.0}
    student = run_distill(tmp_path, callbacks=callbacks, **SHORT)
    assert student.steps == student.best_step == 3


def of_steps(ticks: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leave out what is said when the kept weights are measured."""
    return [tick for tick in ticks if tick[2] != "validating the kept weights"]


@pytest.mark.slow
def test_nothing_of_a_training_is_held_when_it_has_ended(run_distill, tmp_path):
    """Weights, gradients and an optimizer's states are four times a student's size."""
    handlers = [signal.getsignal(number) for number in SIGNALS]
    run_distill(tmp_path, **{**SHORT, "max_tokens": 4_000})
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert not [one for one in gc.get_objects() if issubclass(type(one), MuonAdamW)]


def test_signals_that_are_ignored_stay_so():
    """As `nohup` does to SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupts = Interrupts()
    try:
        interrupts.listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == interrupts._note
    finally:
        interrupts.close()
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_ends_with_its_time(run_distill, tmp_path):
    ticks: list[tuple[Any, ...]] = []
    settings = {**SHORT, "max_tokens": 100_000_000, "max_time": "00:00:00:02"}
    warnings: list[str] = []
    student = run_distill(tmp_path, ticks=ticks, warnings=warnings, **settings)
    ticks = of_steps(ticks)
    assert 0 < student.steps < ticks[-1][1] / 10
    assert warnings == [str(OutOfTime(student.steps, ticks[-1][1]))]
    assert student.best_step == student.steps, "measured at the end all the same"
    assert 2 <= student.seconds < 60
    assert ticks[-1][2].endswith("0:00 left")


def test_progress_says_what_a_user_wants_to_know(trained):
    ticks = of_steps(trained.ticks)
    line = ticks[-1][2]
    said = (
        r"loss \d\.\d{4} · exact 0\.000 · [\d,]+ tokens/s · \$\d\.\d\d at the plan's price"
        r" · 0:\d\d left"
    )
    assert re.fullmatch(said, line), line
    waits = ticks[-2][2]
    assert re.fullmatch(said + " · validating", waits), waits


def test_progress_of_a_job_shows_the_price_that_is_paid(monkeypatch):
    from stratos.distill.train import _price
    from stratos.executors.here import Here
    from stratos.records import RoleChoice

    train = RoleChoice("train", None, 1, False, 2.0, 1.0)
    plan: Any = SimpleNamespace(roles_of=lambda role: [train])

    def price(executor: Any) -> tuple[float, str]:
        trainer = SimpleNamespace(num_nodes=2)
        config: Any = SimpleNamespace(executor=executor, trainer=trainer)
        return _price(config, plan)

    planned = (0.5, "at the plan's price")
    assert price(Queue(usd_per_hour=3.0)) == planned, "it runs in the command's own process"
    monkeypatch.setenv("STRATOS_JOB", "stratos-run-distill")
    assert price(Queue(usd_per_hour=3.0)) == (6.0, "for the job's servers")
    assert price(Queue()) == (0.5, "for the job's servers")
    assert price(Here()) == planned


@pytest.mark.slow
def test_measured_in_training_is_what_the_evaluation_measures(run_distill, tmp_path, monkeypatch):
    from stratos.distill import validation
    from stratos.tasks.mahjong import MahjongTask

    complete, seen = validation.complete, []

    def note(*args: Any, **named: Any) -> Any:
        seen.append(complete(*args, **named))
        return seen[-1]

    monkeypatch.setattr(validation, "complete", note)
    student = run_distill(tmp_path, ema=0.9, **{**SHORT, "precision": "auto"})
    task = MahjongTask()
    chats = [task.student_messages(item) for item in task.items("validation", 2)]
    answers = complete(
        AutoModelForCausalLM.from_pretrained(student.path),
        AutoTokenizer.from_pretrained(student.path),
        chats,
        max_new_tokens=8,
        batch_size=2,
    )
    assert [answer.text for answer in answers] == [answer.text for answer in seen[-1]]
