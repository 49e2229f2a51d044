"""Processes that share each step of a training make what one process makes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from process import interrupted

from stratos.config import StudentConfig, TrainerConfig
from stratos.contrib.cpu import cpu_speedups
from stratos.contrib.cpu.cpu_speedups import (
    NoMoreProcesses,
    ProcessLost,
    TooLarge,
    Undivided,
    why_not,
)
from stratos.core.errors import StratosError
from stratos.core.reasons import Reason
from stratos.distill import pace
from stratos.distill.data import Encoded, PackedLoader
from stratos.distill.module import StudentModule
from stratos.distill.monitor import TrainingMonitor
from stratos.distill.pace import Pace
from stratos.distill.speedups import Part
from stratos.distill.tokenizer import make_student, save_student
from stratos.distill.words import ProcessesUnused
from stratos.synthesize.alignment import AlignmentLogits, AlignmentOnPolicy
from stratos.tasks.mahjong import MahjongTask
from stratos.teachers.huggingface import HuggingFaceTeacher

Run = Callable[..., Any]
SHORT = {"max_tokens": 20_000, "precision": "fp32", "accelerator": "cpu"}
SOME = Encoded(np.ones(60, np.int32), np.arange(4) * 20, np.full(3, 4))


@pytest.fixture(scope="module")
def alone(run_distill: Run, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_distill(tmp_path_factory.mktemp("alone"), n_processes=1, **SHORT)


@pytest.fixture(scope="module")
def together(run_distill: Run, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_distill(tmp_path_factory.mktemp("together"), n_processes=3, **SHORT)


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTeacher:
    folder = tmp_path_factory.mktemp("expert")
    config = StudentConfig("e", hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64)
    save_student(*make_student(config, MahjongTask().vocabulary(), [], 9), folder)
    return HuggingFaceTeacher("expert", path=str(folder), dtype="float32")


def losses(student: Any) -> list[float]:
    return [point.loss for point in student.curve]


def children() -> list[psutil.Process]:
    """Return the processes that train: that of calls with a limit may be left of another test."""
    own = psutil.Process()
    named = [child for child in own.children() if child.name() == own.name()]
    return [child for child in named if "stratos.core.limited" not in " ".join(child.cmdline())]


@pytest.mark.slow
def test_three_processes_learn_what_one_does(alone, together):
    assert (together.steps, together.train_tokens) == (alone.steps, alone.train_tokens)
    assert losses(together) == pytest.approx(losses(alone), abs=1e-4)
    assert (together.processes, alone.processes) == (3, 1)
    assert together.threads == ((0, 1),)
    assert not children(), "none is left"


@pytest.mark.slow
def test_the_weights_depend_on_the_number_of_processes_alone(
    run_distill, together, tmp_path, monkeypatch
):
    interrupted(run_distill, tmp_path, monkeypatch, n_processes=3, **SHORT)
    assert not children(), "none is left"
    student = run_distill(tmp_path, n_processes=3, **SHORT)
    assert student.n_resumed == 1
    assert student.weights_sha256 == together.weights_sha256


@pytest.mark.slow
def test_what_was_measured_is_taken_again_where_the_training_goes_on(
    run_distill, together, tmp_path, monkeypatch
):
    interrupted(run_distill, tmp_path, monkeypatch, n_processes=3, **SHORT)
    monkeypatch.setattr(pace, "measure", None)
    monkeypatch.setattr(pace, "measure_divided", None)
    student = run_distill(tmp_path, n_processes=None, **SHORT)
    assert (student.processes, student.weights_sha256) == (3, together.weights_sha256)


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_hangs_costs_no_bit(
    run_distill, together, tmp_path, monkeypatch, how
):
    after = TrainingMonitor.on_train_batch_end
    killed: list[int] = []

    def kill(self: TrainingMonitor, trainer: Any, module: Any, *args: Any) -> None:
        after(self, trainer, module, *args)
        if trainer.global_step == 3 and not killed:
            killed.append(module.workers._workers[1].pid)
            os.kill(killed[0], how)

    monkeypatch.setattr(TrainingMonitor, "on_train_batch_end", kill)
    if how == signal.SIGSTOP:
        monkeypatch.setattr(cpu_speedups, "_PATIENCE_S", 3.0)
        monkeypatch.setattr(cpu_speedups, "_PATIENCE_TIMES", 0.0)
    warnings: list[str] = []
    student = run_distill(tmp_path, warnings=warnings, n_processes=3, **SHORT)
    silent_s = 3.0 if how == signal.SIGSTOP else None
    assert warnings == [str(ProcessLost(killed[0], 3, 3, silent_s))]
    assert student.weights_sha256 == together.weights_sha256
    assert losses(student) == losses(together)
    assert not psutil.pid_exists(killed[0]), "no zombie is left"


@pytest.mark.slow
def test_what_fails_in_a_process_fails_in_the_first_one_with_its_reason(
    run_distill, tmp_path, monkeypatch
):
    row = PackedLoader.row

    def broken(self: PackedLoader, index: int) -> Any:
        if index == 4 and self._share is not None and self._share[0] > 0:
            raise ValueError("row 4 is broken")
        return row(self, index)

    monkeypatch.setattr(PackedLoader, "row", broken)
    with pytest.raises(ValueError, match="row 4 is broken"):
        run_distill(tmp_path, n_processes=2, **SHORT)
    assert not children()


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_a_part_names_its_items(run_distill, tmp_path, monkeypatch):
    first, loss = os.getpid(), StudentModule.loss

    def broken(self: StudentModule, batch: Any) -> Any:
        return loss(self, batch) * (float("nan") if os.getpid() != first and batch.row == 4 else 1)

    monkeypatch.setattr(StudentModule, "loss", broken)
    with pytest.raises(StratosError, match=r"The loss is nan at step 5"):
        run_distill(tmp_path, n_processes=2, **SHORT)


@pytest.mark.slow
def test_parts_of_accumulated_rows_with_ema(run_distill, alone, tmp_path):
    student = run_distill(tmp_path, n_processes=2, accumulate=2, ema=0.5, **SHORT)
    assert (student.steps, student.train_tokens) == (alone.steps, alone.train_tokens)
    assert losses(student) == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "topk"])
def test_a_teacher_s_signal_is_asked_in_every_process(run_distill, expert, tmp_path, cache):
    given = {"strategies": (AlignmentLogits(cache=cache),), "teachers": (expert,)}
    alone, together = (
        run_distill(tmp_path / str(n), n_processes=n, **given, **SHORT) for n in (1, 2)
    )
    assert (alone.processes, together.processes) == (1, 2)
    assert losses(together) == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "batch_tokens"),
    [({"cache": "topk"}, 150), ({"cache": "none", "hidden_match": 0.1}, 150)],
)
def test_parts_without_a_document_ask_no_teacher_and_count_no_token(
    run_distill, expert, tmp_path, given, batch_tokens
):
    """A document that is longer than a part leaves another part without one."""
    shared: dict[str, Any] = {
        "strategies": (AlignmentLogits(**given),),
        "teachers": (expert,),
        **{**SHORT, "max_tokens": 3000, "batch_tokens": batch_tokens},
    }
    alone, together = (run_distill(tmp_path / str(n), n_processes=n, **shared) for n in (1, 6))
    assert (together.processes, together.train_tokens) == (6, alone.train_tokens)
    assert losses(together) == pytest.approx(losses(alone), abs=1e-4)


def test_more_rows_than_a_pipe_holds_are_asked_for():
    """Neither side waits for the other to read: answers are read between questions."""
    ours, theirs = Pipe()
    answer = Part(0.5, 7, np.zeros(500, int), 0.0)
    n, asked = 3000, []

    def answering() -> None:
        for _ in range(n):
            asked.append(theirs.recv())
            theirs.send(answer)

    def asking() -> None:
        for row in range(n):
            worker.ask(row, row == 0, 60.0)

    worker = cpu_speedups._Worker(0, ours, PackedLoader(SOME, 40, 100, 0), [])
    both = [threading.Thread(target=one, daemon=True) for one in (answering, asking)]
    for one in both:
        one.start()
    both[1].join(60)
    assert not both[1].is_alive(), "it waits for ever"
    found = worker.answers(n, 60.0)
    assert found is not None and len(found) == n
    assert asked == [(row, row == 0) for row in range(n)]


@pytest.mark.slow
def test_where_no_process_can_be_started_the_first_trains_for_it(
    run_distill, together, tmp_path, monkeypatch
):
    fork, forked = os.fork, []

    def failing() -> int:
        forked.append(1)
        if len(forked) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", failing)
    warnings: list[str] = []
    student = run_distill(tmp_path, warnings=warnings, n_processes=3, **SHORT)
    assert warnings == [str(NoMoreProcesses("Resource temporarily unavailable"))]
    assert student.weights_sha256 == together.weights_sha256
    assert not children()


@pytest.mark.slow
def test_a_trial_with_a_loss_that_is_no_number_changes_no_weight(
    run_distill, together, tmp_path, monkeypatch
):
    first, loss, lost = os.getpid(), StudentModule.loss, []

    def broken(self: StudentModule, batch: Any) -> Any:
        if os.getpid() != first and not lost:  # in the first trial of each other process
            lost.append(1)
            return loss(self, batch) * float("nan")
        return loss(self, batch)

    monkeypatch.setattr(StudentModule, "loss", broken)
    student = run_distill(tmp_path, n_processes=3, **SHORT)
    assert student.weights_sha256 == together.weights_sha256


@pytest.mark.slow
def test_a_number_of_processes_that_is_not_used_is_said(run_distill, expert, tmp_path):
    notes: list[str] = []
    own = {"strategies": (AlignmentOnPolicy(lmbda=0.5, max_new_tokens=4),), "teachers": (expert,)}
    student = run_distill(tmp_path, notes=notes, n_processes=2, **own, **SHORT)
    assert student.processes == 1
    assert str(ProcessesUnused(2, Undivided.ON_POLICY)) in notes


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "processes"), [(1.0, 2), (2.1, 2), (3.0, 1)])
def test_processes_are_taken_where_they_are_no_slower(
    run_distill, tmp_path, monkeypatch, seconds, processes
):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(pace, "measure", lambda *_: [Pace(2, 2e-4, 0.0)])
    monkeypatch.setattr(pace, "measure_divided", lambda *_: Pace(1, seconds * 1e-4, 0.0))
    notes: list[str] = []
    try:
        student = run_distill(tmp_path, notes=notes, **SHORT)
        assert torch.get_num_threads() == 2, "torch has its threads back"
    finally:
        torch.set_num_threads(n_threads)
    assert student.processes == processes
    assert student.threads == ((0, 1 if processes == 2 else 2),)
    on = "2 processes of one CPU thread" if processes == 2 else "2 CPU threads"
    assert f" each on {on}: about " in "".join(notes)


@pytest.mark.slow
def test_the_measurement_changes_no_bit_and_counts_all_tokens(
    run_distill, together, tmp_path, monkeypatch
):
    trials: list[pace._Trial] = []
    trial = pace._trial

    def noted(*args: Any) -> pace._Trial:
        trials.append(trial(*args))
        return trials[-1]

    with monkeypatch.context() as patch:
        patch.setattr(pace, "_trial", noted)
        run_distill(tmp_path, n_processes=3, **SHORT)
    # Of four rows, each about as large as a step may be.
    assert all(0.9 * 2048 < one.tokens <= 2048 for one in trials[-4:])
    monkeypatch.setattr(pace, "measure_divided", lambda *_: Pace(1, 1e-6, 0.0))
    student = run_distill(tmp_path / "plain", n_processes=3, **SHORT)
    assert student.weights_sha256 == together.weights_sha256


def test_what_draws_random_numbers_or_is_large_is_not_divided(monkeypatch):
    tiny = StudentConfig("t", hidden_size=32, n_layers=1, n_heads=2, intermediate_size=64)
    model, _ = make_student(tiny, MahjongTask().vocabulary(), [], 0)

    class Writes(PackedLoader):
        """What the student writes itself is known to one process."""

    loader = PackedLoader(SOME, 40, 100, 0)

    def reason(loader: PackedLoader = loader, **settings: Any) -> Reason | None:
        return why_not(StudentModule(model, TrainerConfig(**settings), 1), loader)

    assert reason() is None
    assert reason(compile=True) == Undivided.COMPILED_OR_SERVED
    assert reason(Writes(SOME, 40, 100, 0)) == Undivided.ON_POLICY
    monkeypatch.setattr(model.config, "attention_dropout", 0.1)
    assert reason() == Undivided.DROPOUT
    monkeypatch.undo()
    model.model.layers[0].drop = torch.nn.Dropout(0.1)
    assert reason() == Undivided.DROPOUT
    model.model.layers[0].drop = torch.nn.Dropout(0.0)
    monkeypatch.setattr(cpu_speedups, "MOST_PARAMS", 100)
    assert reason() == TooLarge(100)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert reason() == Undivided.SYSTEM


def test_reasons_in_words(snapshot):
    reasons = [
        *Undivided,
        TooLarge(50_000_000),
        NoMoreProcesses("Resource temporarily unavailable"),
        ProcessLost(7, 2, 3, None),
        ProcessLost(7, 2, 3, 60.0),
    ]
    assert [str(reason) for reason in reasons] == snapshot


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
import pathlib, time, training_runs
from stratos.distill.monitor import TrainingMonitor
after = TrainingMonitor.on_train_batch_end
def told(self, trainer, module, *args):
    after(self, trainer, module, *args)
    if trainer.global_step == 3:
        print(*(worker.pid for worker in module.workers._workers), flush=True)
        time.sleep(60)
TrainingMonitor.on_train_batch_end = told
run = training_runs.run_distill
run = getattr(run, "__wrapped__", None) or run._get_wrapped_function()
run(pathlib.Path({corpus!r}))(pathlib.Path({folder!r}), n_processes=3, **{settings!r})
"""


@pytest.mark.slow
@pytest.mark.kill
def test_all_end_with_the_first_process_however_it_ends(corpus_path, tmp_path):
    script = SCRIPT.format(
        paths=sys.path,
        corpus=str(corpus_path),
        folder=str(tmp_path),
        settings=SHORT,
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2 and all(map(psutil.pid_exists, pids))
    process.kill()
    process.wait()
    _, left = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)])
    assert not left


def test_weights_lie_where_vectors_can_read_them():
    some = [torch.ones(3), torch.ones(5, 7), torch.ones(1, dtype=torch.bfloat16)]
    shared = cpu_speedups._shared(some)
    assert [one.shape for one in shared] == [one.shape for one in some]
    assert all(one.data_ptr() % 64 == 0 for one in shared)
