r"""Head plus loss, forward and backward, beside the peers: CPU seconds and peak memory.

    python benchmarks/training/head.py                       the case of the docs
    python benchmarks/training/head.py --vocab 32000 50000 152000 --masked 0 50 80 \
        --dtype float32 bfloat16                                 all of them
    python benchmarks/training/head.py --growth              memory against tokens

A first run makes a virtual environment for the peers (`--peers`), over the packages of this Python,
so that all use the same PyTorch. Every case is a process of its own, forked from one that has
imported everything, with one thread. Its CPU seconds (user and system) and the rise of its peak
resident memory are of one forward and backward pass over states and weights that are there already;
each is the least of `--runs`. Ratios are to Stratos with the same signal in the same run.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from head_peers import CASES, ONLY_KL, PEERS, enter_peers

ROOT = Path(__file__).resolve().parents[2]


def inputs(settings: dict[str, Any]) -> Any:
    """Make states, weights and labels of a case, the same for all."""
    import torch

    from stratos.distill.objectives.signals import TopK

    torch.manual_seed(0)
    x = argparse.Namespace(**settings)
    dtype, n = getattr(torch, x.dtype), x.tokens

    def made(*shape: int, scale: float = 1.0) -> Any:
        return (torch.randn(*shape) * scale).to(dtype)

    x.student = made(2, n // 2, x.width).requires_grad_()
    x.teacher = made(2, n // 2, x.width)
    scale = 3 * x.width**-0.5
    x.weight = made(x.vocab, x.width, scale=scale).requires_grad_()
    x.teacher_weight = made(x.vocab, x.width, scale=scale)
    learned = torch.arange(n) % (n // 2) >= round(n // 2 * x.masked / 100)
    x.labels = torch.where(learned, torch.randint(x.vocab, (n,)), -100).view(2, n // 2)
    x.rows = learned.nonzero()[:, 0]
    x.chunk = 128 if x.case.endswith("128") else 1024
    if x.case == "stratos top-64":
        rows = x.teacher.flatten(0, 1)[x.rows]
        parts = [TopK.of(part @ x.teacher_weight.T, 64) for part in rows.split(32)]
        kept = ("ids_MK", "logprobs_MK", "tail_M")
        x.cached = TopK(*(torch.cat([vars(part)[name] for part in parts]) for name in kept))
    return x


def peak_mib() -> float:
    """Return the peak resident memory of this process since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """Run one case in this process."""
    import torch

    x = inputs(settings)
    # What a first product or a first sort sets up is not the loss's.
    (torch.randn(8, 8, dtype=x.student.dtype) @ torch.randn(8, 8, dtype=x.student.dtype)).sum()
    ctypes.CDLL(None).malloc_trim(0)  # memory that the inputs' making has left is not for the loss
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, used = peak_mib(), resource.getrusage(resource.RUSAGE_SELF)
    loss = CASES[x.case](x)
    loss.backward()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_s": after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime,
        "mib": peak_mib() - before,
        "loss": loss.item(),
        "gradient": x.student.grad.float().norm().item(),
    }


def forked(settings: dict[str, Any]) -> dict[str, float] | str:
    """Run one case in a process of its own; what stops it is returned as text."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def work() -> None:
        try:
            theirs.send(measure(settings))
        except Exception as error:
            theirs.send(f"{type(error).__name__}: {error}"[:160])

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return "the process was killed"
    finally:
        process.join()


def import_all() -> dict[str, str]:
    """Import every peer once, before the forks; return what cannot be."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    import stratos.distill.head  # noqa: F401

    broken = {}
    for name, module in {
        "trl GKD": "trl.experimental.gkd.gkd_trainer",
        "trl chunked": "trl.trainer.distillation_trainer",
        "liger": "liger_kernel.chunked_loss",
        "torchtune": "torchtune.modules.loss",
        "modelopt": "modelopt.torch.distill.losses",
    }.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {error}"[:160]
    return broken


def compare(settings: dict[str, Any], names: list[str], runs: int) -> dict[str, Any]:
    """Print a table of one setting; return it."""
    title = "{vocab} x {tokens} tokens, {masked}% masked, {dtype}, width {width}, {objective}"
    print(f"\n{title.format(**settings)}", flush=True)
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(runs):
        for name in names:
            if settings["objective"] == "jsd" and name in ONLY_KL:
                continue
            result = forked({**settings, "case": name})
            if isinstance(result, str):
                print(f"  {name:15} {result}")
            else:
                results.setdefault(name, []).append(result)
    best = {
        name: {key: min(run[key] for run in of_name) for key in of_name[0]}
        for name, of_name in results.items()
    }
    ours = best["stratos"]
    print("  case               CPU s   ratio       MiB   ratio     loss   gradient", flush=True)
    for name, one in best.items():
        print(
            f"  {name:15} {one['cpu_s']:8.3f} {one['cpu_s'] / ours['cpu_s']:6.2f}x "
            f"{one['mib']:8.0f} {one['mib'] / ours['mib']:6.2f}x "
            f"{one['loss']:9.5f} {one['gradient']:9.6f}",
            flush=True,
        )
    if "trl GKD" in best and "stratos top-64" in best:
        gkd, top = best["trl GKD"], best["stratos top-64"]
        print(
            f"  cached top-64 against trl GKD: {gkd['cpu_s'] / top['cpu_s']:.1f}x fewer CPU "
            f"seconds, {gkd['mib'] / top['mib']:.1f}x less memory",
            flush=True,
        )
    return {**settings, "best": best, "runs": results}


def growth(width: int) -> None:
    """Print the memory of Stratos up to 128k tokens and a vocabulary of 152k."""
    print(f"\nMemory against tokens, float32, width {width}; 512 learned places, spread evenly")
    print("  vocab   tokens   peak rise MiB   beyond the states' gradient   both logits would be")
    for vocab in (32_000, 152_000):
        for tokens in (1024, 8192, 32_768, 131_072):
            settings = {"vocab": vocab, "tokens": tokens, "width": width, "dtype": "float32"}
            masked = 100 * (1 - 512 / tokens)
            case = {**settings, "masked": masked, "objective": "jsd", "case": "stratos"}
            result = forked(case)
            if isinstance(result, str):
                raise SystemExit(result)
            states = tokens * width * 4 / 2**20
            print(
                f"  {vocab:6} {tokens:8} {result['mib']:12.0f} {result['mib'] - states:24.0f} "
                f"{2 * tokens * vocab * 4 / 2**20:25.0f}",
                flush=True,
            )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", type=int, nargs="+", default=[50_000])
    parser.add_argument("--masked", type=int, nargs="+", default=[50])
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--objective", nargs="+", default=["forward_kl", "jsd"])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "stratos-peers")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    enter_peers(arguments.peers.resolve())
    broken = import_all()
    versions = {name: importlib.metadata.version(name) for name in ["torch", *PEERS]}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {versions}")
    for name, why in broken.items():
        print(f"  {name} cannot be imported: {why}")
    if arguments.growth:
        growth(arguments.width)
        return
    found = []
    for dtype in arguments.dtype:
        for vocab in arguments.vocab:
            for masked in arguments.masked:
                for objective in arguments.objective:
                    settings = {"vocab": vocab, "masked": masked, "dtype": dtype}
                    settings |= {"tokens": arguments.tokens, "width": arguments.width}
                    settings["objective"] = objective
                    found.append(compare(settings, arguments.case, arguments.runs))
    if arguments.keep:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        from record import keep

        keep("distillation/head", found, seed=0, more={"peers": versions})


if __name__ == "__main__":
    main()
