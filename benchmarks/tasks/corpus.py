"""How long a corpus of 100,000 Mahjong items of the general slice takes, as the stage makes it.

Every item is made answer first, each step of its path is verified, it is compared with what is held
out, duplicates are refused, and the rest is written to Parquet.

    python benchmarks/tasks/corpus.py --items 100000

Prints wall-clock and CPU seconds, items per second, what was refused, and the peak of memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stratos.config import CallbacksConfig, EvaluateConfig, LimitsConfig, ProbeConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.synthesize import synthesize
from stratos.synthesize.injection import Injection
from stratos.tasks.mahjong import MahjongTask


def main() -> None:
    """Make one corpus and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--full-flush-share", type=float, default=0.0)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    config: Any = SimpleNamespace(
        task=MahjongTask(full_flush_share=args.full_flush_share),
        teachers=(),
        students=(),
        strategies=(Injection(n_items=args.items),),
        limits=LimitsConfig(),
        probe=ProbeConfig(),
        evaluate=EvaluateConfig(),
        callbacks=CallbacksConfig(),
        seed=0,
    )
    plan: Any = SimpleNamespace(teacher="", strategy="injection", student="", prompt="")
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Path(folder), Path(folder) / "cache", Ledger(Path(folder) / "ledger"))
        started = time.perf_counter()
        corpus = synthesize(config, plan, context)
        seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime
    print(f"{corpus.n_items:,} items, refused {corpus.refused}")
    print(f"{seconds:.1f} s wall clock, {cpu:.1f} s CPU, {corpus.n_items / seconds:,.0f} items/s")
    print(f"peak {usage.ru_maxrss / 2**20:.2f} GiB; {os.cpu_count()} cores, {platform.machine()}")
    print(f"content {corpus.sha256[:16]}; load of the machine {os.getloadavg()[0]:.1f}")
    if args.keep:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from record import keep

        found = {
            "items": corpus.n_items,
            "refused": corpus.refused,
            "wall_s": seconds,
            "cpu_s": cpu,
            "peak_gib": usage.ru_maxrss / 2**20,
            "sha256": corpus.sha256,
        }
        keep("corpus/mahjong", found, seed=0)


if __name__ == "__main__":
    main()
