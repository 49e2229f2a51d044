"""Two processes that train together make what one process makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stratos.distill.launch import launch_script

FSDP2 = {
    "_target_": "lightning.pytorch.strategies.ModelParallelStrategy",
    "data_parallel_size": 2,
    "tensor_parallel_size": 1,
    "process_group_backend": "gloo",
}


@pytest.fixture(scope="module")
def short() -> dict[str, Any]:
    return {"max_tokens": 16_000, "precision": "fp32", "accelerator": "cpu", "n_threads": 1}


@pytest.mark.parametrize("strategy", ["ddp", FSDP2], ids=["ddp", "fsdp2"])
def test_two_processes_learn_what_one_does(
    run_distill: Callable[..., Any], tmp_path: Path, short: dict[str, Any], strategy: Any
) -> None:
    alone = run_distill(tmp_path / "alone", **short)
    ticks: list[tuple[Any, ...]] = []
    together = run_distill(
        tmp_path / "together", ticks=ticks, devices=2, strategy=strategy, **short
    )
    assert together.steps == alone.steps
    assert together.train_tokens == alone.train_tokens
    assert [p.loss for p in together.curve] == pytest.approx(
        [p.loss for p in alone.curve], abs=1e-4
    )
    assert ticks[-1][0] == alone.steps, "the first process says where it is"
    assert Path(together.path, "model.safetensors").exists()


def test_launch_script_of_several_servers(tmp_path: Path) -> None:
    script = launch_script("stratos_1m", Path("/shared/run/distill"), 2, 4)
    assert script == (Path(__file__).parent / "launch.golden.sh").read_text()
