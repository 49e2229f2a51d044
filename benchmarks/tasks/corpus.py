"""How long a corpus of 100,000 Mahjong items of the general slice takes, as the stage makes it.

Every item is made answer first, each step of its path is verified, it is compared with what is held
out, duplicates are refused, and the rest is written to Parquet.

    python benchmarks/tasks/corpus.py --items 100000
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.config import CallbacksConfig, EvaluateConfig, LimitsConfig, ProbeConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.synthesize import synthesize
from stratos.synthesize.injection import Injection
from stratos.tasks.mahjong import MahjongTask


def main() -> None:
    """Make one corpus."""
    parser = record.arguments(__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    config: Any = SimpleNamespace(
        task=MahjongTask(full_flush_share=0.0),
        teachers=(),
        students=(),
        strategies=(Injection(n_items=options.items),),
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
    result = {
        "items": corpus.n_items,
        "refused": corpus.refused,
        "wall_s": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime,
        "peak_gib": usage.ru_maxrss / 2**20,
        "sha256": corpus.sha256,
    }
    record.finish("corpus/mahjong", result, options, seed=0)


if __name__ == "__main__":
    main()
