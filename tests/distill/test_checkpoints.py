"""What outlives a crash, a signal, damage, a full disk; and what is never run."""

import os
import pickle
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from process import interrupted, stop_at
from training_runs import EVERY_3, SHORT, Trained

from stratos.config import CallbacksConfig
from stratos.core.atomic_files import DiskFull, mount_of, replacing, room_for
from stratos.distill.checkpoints import Checkpoints, checkpoints_in, unreadable
from stratos.records import Student

Run = Callable[..., Any]
OFTEN = {"checkpoint_every_steps": 2}


@pytest.fixture
def whole(trained: Trained) -> Student:
    """A training that nothing stopped."""
    return trained.student


def checkpoints_of(folder: Path) -> list[Path]:
    return checkpoints_in(folder / "distill" / "checkpoints")


def truncated(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


class Code:
    """Runs a command where it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncated, flipped, emptied])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    run_distill, whole, tmp_path, monkeypatch, damage
):
    callbacks = {**OFTEN, **EVERY_3}
    interrupted(run_distill, tmp_path, monkeypatch, callbacks=callbacks, **SHORT)
    latest, before = checkpoints_of(tmp_path)
    assert (latest.name, before.name) == ("step-6.ckpt", "step-4.ckpt")
    damage(latest)
    warnings: list[str] = []
    student = run_distill(tmp_path, warnings=warnings, callbacks=callbacks, **SHORT)
    assert [str(latest) in text for text in warnings] == [True]
    assert student.n_resumed == 1
    assert student.weights_sha256 == whole.weights_sha256
    assert [p.loss for p in student.curve] == [p.loss for p in whole.curve]


@pytest.mark.slow
def test_without_any_that_can_be_read_the_training_begins_anew(
    run_distill, whole, tmp_path, monkeypatch
):
    callbacks = {**OFTEN, **EVERY_3}
    interrupted(run_distill, tmp_path, monkeypatch, callbacks=callbacks, **SHORT)
    for path in checkpoints_of(tmp_path):
        truncated(path)
    warnings: list[str] = []
    student = run_distill(tmp_path, warnings=warnings, callbacks=callbacks, **SHORT)
    assert len(warnings) == 2 and warnings[-1].endswith("or starts again if there is none.")
    assert student.n_resumed == 0
    assert student.weights_sha256 == whole.weights_sha256


@pytest.mark.slow
def test_no_code_in_a_checkpoint_is_run(run_distill, tmp_path, monkeypatch):
    interrupted(run_distill, tmp_path, monkeypatch, callbacks=OFTEN, **SHORT)
    latest, marker = checkpoints_of(tmp_path)[0], tmp_path / "was-run"
    state = torch.load(latest, weights_only=True)
    torch.save({**state, "extra": Code(marker)}, latest)
    warnings: list[str] = []
    student = run_distill(tmp_path, warnings=warnings, callbacks=OFTEN, **SHORT)
    assert student.n_resumed == 1 and len(warnings) == 1
    assert not marker.exists()
    latest = tmp_path / "pickle.ckpt"
    latest.write_bytes(pickle.dumps(Code(marker)))
    assert unreadable(latest) is not None
    assert not marker.exists()


def test_damage_anywhere_is_told_or_changes_nothing(tmp_path):
    state = {"weights": torch.arange(64.0), "step": 7, "names": ["a", "b"]}
    path = tmp_path / "step-7.ckpt"
    torch.save(state, path)
    assert unreadable(path) is None
    good, rng, n_told = path.read_bytes(), random.Random(0), 0
    for _ in range(400):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        if unreadable(path) is not None:
            n_told += 1
            continue
        read = torch.load(path, weights_only=True)
        assert torch.equal(read.pop("weights"), state["weights"])
        assert read == {"step": 7, "names": ["a", "b"]}
    assert n_told > 100


def test_what_is_written_is_whole_or_not_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    folder = tmp_path / "folder"
    for text in ("one", "two"):
        with replacing(folder) as new:
            new.mkdir()
            (new / "a").write_text(text)
    assert (folder / "a").read_text() == "two"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.slow
def test_a_checkpoint_never_touches_the_folder_for_temporary_files(
    run_distill, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    interrupted(run_distill, tmp_path / "run", monkeypatch, callbacks=OFTEN, **SHORT)
    assert checkpoints_of(tmp_path / "run")


@pytest.mark.slow
def test_checkpoints_go_by_time_too(run_distill, tmp_path, monkeypatch):
    callbacks = {"checkpoint_every_steps": 1000, "checkpoint_every_minutes": 1e-6}
    monkeypatch.setattr("stratos.distill.checkpoints._MOST_OVERHEAD", 1e6)
    interrupted(run_distill, tmp_path, monkeypatch, callbacks=callbacks, **SHORT)
    assert [path.name for path in checkpoints_of(tmp_path)] == ["step-6.ckpt", "step-5.ckpt"]


def test_at_most_so_much_time_is_lost(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    settings = CallbacksConfig(checkpoint_every_steps=400, checkpoint_every_minutes=2)
    checkpoints = Checkpoints(tmp_path, settings)
    checkpoints.start()
    now[0] = 100.0
    assert not checkpoints.is_due(7, seconds_ahead=10)
    assert checkpoints.is_due(7, seconds_ahead=21), "else the next step passes the two minutes"
    assert checkpoints.is_due(400, seconds_ahead=0)
    checkpoints._took = 30.0  # a large model: writing would take a quarter of the time
    assert not checkpoints.is_due(7, seconds_ahead=21)


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_checkpoint(run_distill, corpus_path, whole, tmp_path, how):
    callbacks = {"checkpoint_every_steps": 1000, **EVERY_3}
    code = stop_at(5, how, corpus_path, tmp_path, callbacks=callbacks, **SHORT)
    assert code == 128 + how
    kept = checkpoints_of(tmp_path)[0]
    assert kept.name in ("step-5.ckpt", "step-6.ckpt"), "nothing of what was done is lost"
    student = run_distill(tmp_path, callbacks=callbacks, **SHORT)
    assert student.n_resumed == 1
    assert student.weights_sha256 == whole.weights_sha256
    assert [(p.loss, p.exact) for p in student.curve] == [(p.loss, p.exact) for p in whole.curve]


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize("step", [3, None])
def test_a_measurement_that_a_signal_cuts_short_is_made_later(
    run_distill, corpus_path, whole, tmp_path, step
):
    callbacks = {"checkpoint_every_steps": 1000, **EVERY_3}
    step = step or whole.steps
    stop_at(step, signal.SIGTERM, corpus_path, tmp_path, "validating", callbacks=callbacks, **SHORT)
    assert checkpoints_of(tmp_path)[0].name == f"step-{step}.ckpt"
    student = run_distill(tmp_path, callbacks=callbacks, **SHORT)
    assert student.weights_sha256 == whole.weights_sha256
    assert student.best_step == whole.best_step
    assert [(p.loss, p.exact) for p in student.curve] == [(p.loss, p.exact) for p in whole.curve]


@pytest.mark.slow
@pytest.mark.kill
def test_a_measurement_that_ends_at_once_costs_no_step_before_it(
    run_distill, corpus_path, whole, tmp_path
):
    callbacks = {"checkpoint_every_steps": 1000, **EVERY_3}
    stop_at(3, signal.SIGKILL, corpus_path, tmp_path, "validating", callbacks=callbacks, **SHORT)
    student = run_distill(tmp_path, callbacks=callbacks, **SHORT)
    assert student.n_resumed == 1
    assert student.weights_sha256 == whole.weights_sha256


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4000k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_named_and_loses_nothing(run_distill, whole, small_disk):
    run = small_disk / "run"
    run.mkdir()
    callbacks = {**OFTEN, **EVERY_3}
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_600_000))
    with pytest.raises(DiskFull) as caught:
        run_distill(run, callbacks=callbacks, **SHORT)
    said = str(caught.value)
    assert said.startswith(f"The disk mounted at {small_disk} is full: "), said
    assert " takes " in said and " are free." in said
    assert "give the same command again" in said
    ballast.unlink()
    student = run_distill(run, callbacks=callbacks, **SHORT)
    assert student.weights_sha256 == whole.weights_sha256


def test_a_disk_that_fills_up_while_it_is_written_to_is_named_too(small_disk):
    from safetensors.torch import save_file

    weights = {"a": torch.zeros(2 * 10**6)}
    torch_file, safe_file = small_disk / "a.ckpt", small_disk / "a.safetensors"
    with pytest.raises(DiskFull), room_for(0, torch_file, "it"), torch_file.open("wb") as file:
        torch.save(weights, file)
    with pytest.raises(DiskFull), room_for(0, safe_file, "it"):
        save_file(weights, safe_file)
    assert not list(small_disk.iterdir()), "what was written of them is gone"
    assert mount_of(safe_file) == small_disk
    with pytest.raises(ZeroDivisionError), room_for(0, safe_file, "it"):
        _ = 1 / 0
