"""What comparisons of trainings share: an environment of peers, a process a case, its marks."""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

PEERS = ["trl", "liger-kernel", "torchtune", "nvidia-modelopt"]
BARE = [*PEERS, "torchao<0.14", "triton"]
"""Installed without what they require, which is there or is for GPUs."""
WHOLE = ["datasets", "accelerate", "omegaconf", "scipy", "sentencepiece", "tiktoken"]
DEVICE = "cpu"
"""Of all cases of this process; on a GPU seconds are those of the clock, memory is the card's."""
RATE = 1e-3
WARM_UP = 2
"""Steps that are not counted: allocators and thread pools are set up."""
TRAINER: dict[str, Any] = {
    "learning_rate": RATE,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "max_grad_norm": 1.0,
    "weight_decay": 0.0,
    "optim": "adamw_torch_fused",
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
"""Of TRL's trainers: fused AdamW at a constant rate, as ours."""

Case = Callable[[argparse.Namespace], dict[str, Any]]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a comparison."""
    parser = record.arguments(doc)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "stratos-peers")
    return parser


def enter(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, go on as the Python of the peers' environment, made where missing, on one thread."""
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = options.peers.resolve()
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, symlinks=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        overlay = folder / "lib" / version / "site-packages" / "overlay.pth"
        overlay.write_text(sysconfig.get_path("purelib") + "\n")
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", *BARE], check=True)
        subprocess.run([*pip, *WHOLE], check=True)
        (folder / "ready").touch()
    if Path(sys.prefix) != folder:
        os.execv(python, [str(python), *sys.argv])
    import torch

    sys.path.insert(0, str(record.ROOT))
    torch.set_num_threads(1)
    return options


def seconds() -> float:
    """Return user and system seconds of this process; on a GPU seconds until all is computed."""
    if DEVICE != "cpu":
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Return the peak memory of this process, or of its GPU, since it was last reset."""
    if DEVICE != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak() -> float:
    """Count the peak from here, and return it; a GPU counts from when nothing is on it."""
    if DEVICE != "cpu":
        return 0.0
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


class Marks:
    """Seconds at the end of each step, and losses."""

    def __init__(self) -> None:
        """Start without any."""
        self.times: list[float] = []
        self.losses: list[float] = []

    def step(self, loss: float | None = None) -> None:
        """Mark the end of a step."""
        self.times.append(seconds())
        if loss is not None:
            self.losses.append(loss)

    def result(self, tokens: list[int], before: float) -> dict[str, Any]:
        """Return what a case showed."""
        return {
            "tokens_per_s": sum(tokens[WARM_UP:]) / (self.times[-1] - self.times[WARM_UP - 1]),
            "mib": peak_mib() - before,
            "losses": self.losses,
        }


def ours(model: Any, config: Any, steps: int, rows: Any, folder: Path, *signal: Any) -> Any:
    """Train with our module and trainer; return the marks of its steps and their tokens."""
    import lightning as L
    import torch

    from stratos.distill.module import StudentModule
    from stratos.distill.trainer import make_trainer, quiet_lightning

    marks, sizes = Marks(), []

    class Module(StudentModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    class Mark(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            sizes.append(outputs.get("tokens"))
            marks.step(float(outputs["loss"]))

    with quiet_lightning():
        trainer = make_trainer(config, steps, [Mark()], folder / "stratos")
        trainer.fit(Module(model, config, steps, *signal), rows)
    return marks, sizes


def trainer_config(dtype: str, **more: Any) -> Any:
    """Return the settings of our training in float32 or bfloat16."""
    from stratos.config import TrainerConfig

    precision: Any = "bf16" if dtype == "bfloat16" else "fp32"
    accelerator: Any = "cpu" if DEVICE == "cpu" else "gpu"
    return TrainerConfig(precision=precision, accelerator=accelerator, **more)


def loop(model: Any, dtype: str, losses: Any) -> Marks:
    """Train in a plain loop; `losses` yields a function of no argument for each step."""
    import torch

    marks = Marks()
    model.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    for loss_of in losses:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        marks.step(loss.item())
    return marks


def forked(case: Callable[[Any], Any], settings: argparse.Namespace, *, keeps: bool = True) -> Any:
    """Run one case in a process of its own, with what glibc frees kept; what stops it is raised."""
    context = multiprocessing.get_context("fork")
    parent, child = context.Pipe()

    def work() -> None:
        import torch

        from stratos.contrib.cpu import cpu_speedups as heap

        torch.set_num_threads(1)  # before threads load weights: the pool of a fork is made once
        if keeps:
            heap.keep()
        try:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            child.send(case(settings))
        except Exception as error:
            child.send(error)

    process = context.Process(target=work)
    process.start()
    result = parent.recv()
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def compared(cases: Mapping[str, Case], settings: argparse.Namespace, runs: int) -> dict[str, Any]:
    """Run all cases in turn; return medians, and our ratio to each peer run by run."""
    results: dict[str, list[Any]] = {case: [] for case in cases}
    for _ in range(runs):
        for name, case in cases.items():
            results[name].append(forked(case, settings))

    def ratio(case: str, key: str) -> float:
        pairs = zip(results["stratos"], results[case], strict=True)
        return statistics.median(own[key] / theirs[key] for own, theirs in pairs)

    return {
        "runs": results,
        "median": {
            case: {
                key: statistics.median(run[key] for run in rows) for key in ("tokens_per_s", "mib")
            }
            for case, rows in results.items()
        },
        "stratos_times_as_fast_as": {case: ratio(case, "tokens_per_s") for case in cases},
        "stratos_memory_over": {case: ratio(case, "mib") for case in cases},
    }
