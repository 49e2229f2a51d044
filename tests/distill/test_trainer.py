"""Lightning's trainer from the config, and what cannot run said before anything is loaded."""

from __future__ import annotations

import socket
import threading

import pytest
import torch

from stratos.config import TrainerConfig
from stratos.core.errors import ConfigError
from stratos.distill import meeting
from stratos.distill import trainer as made
from stratos.distill.meeting import Meeting
from stratos.distill.trainer import make_strategy

FSDP2 = {
    "_target_": "lightning.pytorch.strategies.ModelParallelStrategy",
    "data_parallel_size": 2,
    "tensor_parallel_size": 1,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "zero"},
        {"strategy": {"process_group_backend": "gloo"}},
        {"max_time": "90m"},
        {"strategy": "fsdp", "accelerator": "cpu"},
        {"strategy": "deepspeed", "accelerator": "cpu"},
        {"strategy": FSDP2, "adapter": "lora"},
        {"n_processes": 2, "n_threads": 2},
        {"n_processes": 2, "devices": 2},
    ],
    ids=str,
)
def test_what_cannot_run_is_said(settings, snapshot):
    [problem] = made.unusable(TrainerConfig(**settings))
    assert problem == snapshot


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": FSDP2}, {"strategy": "fsdp"}, {"n_processes": 2, "n_threads": 1}],
)
def test_what_can_run_is_not_complained_of(settings):
    assert made.unusable(TrainerConfig(**settings)) == []


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_a_machine_without_a_gpu_is_told(strategy, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = rf"trainer\.strategy={strategy} needs a GPU, and this machine has none\."
    with pytest.raises(ConfigError, match=said):
        made.check_machine(TrainerConfig(strategy=strategy))
    made.check_machine(TrainerConfig(strategy=FSDP2))


def test_a_strategy_is_made_from_its_class():
    strategy = made.make_strategy(TrainerConfig(strategy=FSDP2))
    assert type(strategy).__name__ == "ModelParallelStrategy"
    with pytest.raises(ConfigError, match=r"trainer\.strategy cannot be made"):
        made.make_strategy(TrainerConfig(strategy={**FSDP2, "data_parallel": 2}))


def test_time_is_days_hours_minutes_seconds():
    assert made.seconds_of("01:02:03:04") == 86_400 + 2 * 3600 + 3 * 60 + 4
    for wrong in ("00:00:00:00", "1:30", "aa:00:00:01", ""):
        with pytest.raises(ConfigError):
            made.seconds_of(wrong)


def test_precision_is_the_machines_where_none_is_named():
    assert made.precision("fp32", "cpu") == "32-true"
    assert made.precision("bf16", "cpu") == "bf16-mixed"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert made.precision("auto", "cpu") == ("bf16-mixed" if fast else "32-true")


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (
            {"_target_": "os.system", "command": "touch made"},
            "trainer.strategy._target_=os.system: only classes under lightning.pytorch.strategies. "
            "may be created",
        ),
        (
            {"_target_": "lightning.pytorch.strategies.ddp.os.system", "command": "touch made"},
            "cannot be imported",
        ),
        (
            {**FSDP2, "x": [{"_target_": "torch.load", "f": "made"}]},
            "trainer.strategy._target_=torch.load: only classes under",
        ),
        (
            {
                "_target_": "lightning.pytorch.strategies.DDPStrategy",
                "x": {"_target_": "os.system"},
            },
            "trainer.strategy._target_=os.system: only classes under",
        ),
    ],
)
def test_no_class_but_lightnings_is_made_at_any_depth(strategy, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        make_strategy(TrainerConfig(strategy=strategy))
    assert told in str(caught.value)
    assert not (tmp_path / "made").exists()


# Servers that train together find the first one by a file, or learn that it has ended.


def test_the_others_wait_for_the_call(tmp_path, monkeypatch):
    path = tmp_path / "7.0.meeting"
    heard: list[Meeting | None] = []
    waiting = threading.Thread(target=lambda: heard.append(meeting.await_call(path)))
    waiting.start()
    monkeypatch.setenv(meeting.VARIABLE, str(path))
    assert meeting.called() == path
    made = meeting.call(path, tmp_path / "distill", 2, 4)
    waiting.join(10)
    assert heard == [made]
    assert made.words(1) == [
        "--nnodes=2", "--nproc-per-node=4", "--node-rank=1",
        f"--master-addr={socket.gethostname()}", f"--master-port={made.port}", "-m",
        "stratos.distill.worker", str(tmp_path / "distill"),
    ]  # fmt: skip


def test_they_leave_where_the_first_has_ended(tmp_path, monkeypatch):
    monkeypatch.delenv(meeting.VARIABLE, raising=False)
    assert meeting.called() is None
    path = tmp_path / "7.1.meeting"
    assert not meeting.has_ended(path)
    meeting.end(path)
    assert meeting.await_call(path) is None
    assert meeting.has_ended(path)
