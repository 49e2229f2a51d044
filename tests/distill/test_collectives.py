"""Two processes that train together make what one process makes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from process import stop_at
from whole import WHOLE

from stratos.core.errors import StratosError
from stratos.distill.stage import launch_script

FSDP2 = {
    "_target_": "lightning.pytorch.strategies.ModelParallelStrategy",
    "data_parallel_size": 2,
    "tensor_parallel_size": 1,
    "process_group_backend": "gloo",
}
ONE_FILE = {**FSDP2, "save_distributed_checkpoint": False}
SHORT = {"max_tokens": 16_000, "precision": "fp32", "accelerator": "cpu", "n_threads": 1}


@pytest.fixture(scope="session")
def alone(run_distill: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_distill(tmp_path_factory.mktemp("alone"), **SHORT)


def same(together: Any, alone: Any) -> None:
    """Check for the same training, but for the order in which sums are rounded."""
    assert (together.steps, together.train_tokens) == (alone.steps, alone.train_tokens)
    losses = [point.loss for point in alone.curve]
    assert [point.loss for point in together.curve] == pytest.approx(losses, abs=1e-4)
    assert Path(together.path, "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["ddp", pytest.param(FSDP2, marks=WHOLE)], ids=["ddp", "fsdp2"]
)
def test_two_processes_learn_what_one_does(run_distill, alone, tmp_path, strategy):
    ticks: list[tuple[Any, ...]] = []
    settings = {"accumulate": 2, "ema": 0.5, "devices": 2, "strategy": strategy}
    together = run_distill(tmp_path, ticks=ticks, **settings, **SHORT)
    same(together, alone)
    steps = [tick[0] for tick in ticks if tick[2] != "validating the kept weights"]
    assert steps[-1] == alone.steps, "the first process says where it is"


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize(
    "strategy",
    [pytest.param("ddp", marks=WHOLE), FSDP2, pytest.param(ONE_FILE, marks=WHOLE)],
    ids=["ddp", "fsdp2", "fsdp2-one-file"],
)
def test_both_go_on_from_a_checkpoint(run_distill, corpus_path, alone, tmp_path, strategy):
    settings = {"devices": 2, "strategy": strategy, **SHORT}
    assert stop_at(5, signal.SIGTERM, corpus_path, tmp_path, **settings) == 128 + signal.SIGTERM
    resumed = run_distill(tmp_path, **settings)
    assert resumed.n_resumed == 1
    same(resumed, alone)


@pytest.mark.slow
def test_two_servers_are_told_by_a_script(run_distill, alone, tmp_path):
    settings = {"num_nodes": 2, "strategy": "ddp", **SHORT}
    with pytest.raises(StratosError, match=r"NODE_RANK=<0 to 1> MASTER_ADDR=<the first server>"):
        run_distill(tmp_path, **settings)
    script = tmp_path / "distill" / "launch.sh"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": ":".join(sys.path)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    servers = [
        subprocess.Popen(
            ["bash", str(script)],
            env={**os.environ, **known, "NODE_RANK": str(rank), "PATH": path},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    assert [server.wait() for server in servers] == [0, 0]
    same(run_distill(tmp_path, **settings), alone)


def test_launch_script_of_several_servers():
    script = launch_script("stratos_1m", Path("/shared/run/distill"), 2, 4)
    golden = Path(__file__).parent / "launch.golden.sh"
    assert script == golden.read_text()
    assert shutil.which("bash") is None or not subprocess.run(["bash", "-n", golden]).returncode
