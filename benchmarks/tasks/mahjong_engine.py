"""Hold the Mahjong engine against the PyPI package `mahjong`, and time reverse generation.

    python benchmarks/tasks/mahjong_engine.py [--hands 20000] --keep

Measured are how many hands both agree on (they must on all) and the verified items a second of one
core, answer first: winning hand drawn, tile taken away, path written, every step checked.

    python benchmarks/tasks/mahjong_engine.py --corpus 100000 --keep

Measured is a corpus of the general slice as the stage makes it: every item is made answer first,
each step of its path is verified, it is compared with what is held out, duplicates are refused, and
the rest is written to Parquet.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from mahjong.agari import Agari

from stratos.config import CallbacksConfig, EvaluateConfig, LimitsConfig, ProbeConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.synthesize import synthesize
from stratos.synthesize.injection import Injection
from stratos.tasks.mahjong import MahjongTask, engine
from stratos.tasks.mahjong.engine import Hand, add, hand_to_text


def package_waits(hand: Hand) -> frozenset[tuple[int, int]]:
    """Return the waits by the package: every tile is tried."""
    waits = set()
    for suit, rank in engine.all_tiles():
        if hand[suit][rank - 1] < 4:
            full = add(hand, (suit, rank))
            if Agari.is_agari([n for counts in full for n in counts]):
                waits.add((suit, rank))
    return frozenset(waits)


def compared(n: int) -> dict[str, Any]:
    """Compare the waits of so many hands, and time as many items."""
    rng, classes = random.Random(0), engine.flush_classes()
    drawn: list[Hand] = [
        engine.flush_hand(counts, rng.randrange(3), rng.random() < 0.5)
        for counts in rng.sample(classes, min(n // 2, len(classes)))
    ]
    while len(drawn) < n:
        drawn.append(engine.remove_random(engine.winning_hand(rng), rng)[0])
    wrong = [hand_to_text(hand) for hand in drawn if engine.waits(hand) != package_waits(hand)]
    task = MahjongTask()
    start = time.process_time()
    refused = sum(task.verify(item) is not None for item in task.reverse(n, seed=1))
    return {
        "hands": n,
        "agree": n - len(wrong),
        "differ": wrong,
        "items_per_s_a_core": n / (time.process_time() - start),
        "refused": refused,
    }


def made_corpus(n: int) -> dict[str, Any]:
    """Make a corpus of so many items, and time it."""
    config: Any = SimpleNamespace(
        task=MahjongTask(full_flush_share=0.0), teachers=(), students=(),
        strategies=(Injection(n_items=n),), limits=LimitsConfig(), probe=ProbeConfig(),
        evaluate=EvaluateConfig(), callbacks=CallbacksConfig(), seed=0,
    )  # fmt: skip
    plan: Any = SimpleNamespace(teacher="", strategy="injection", student="", prompt="")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = Context(folder, folder / "cache", Ledger(folder / "ledger"))
        start, cpu_start = time.perf_counter(), time.process_time()
        corpus = synthesize(config, plan, context)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "items": corpus.n_items, "refused": corpus.refused, "wall_s": wall_s, "cpu_s": cpu_s,
        "sha256": corpus.sha256,
    }  # fmt: skip


def main() -> None:
    """Compare and time, or make a corpus."""
    parser = record.arguments(__doc__)
    parser.add_argument("--hands", type=int, default=20_000)
    parser.add_argument("--corpus", type=int, help="items of a corpus")
    options = parser.parse_args()
    if options.corpus:
        record.finish("corpus/mahjong", made_corpus(options.corpus), options, seed=0)
    else:
        record.finish("mahjong_engine", compared(options.hands), options, seed=0)


if __name__ == "__main__":
    main()
