"""Hold the Mahjong engine against the PyPI package `mahjong`, and time reverse generation.

    python benchmarks/tasks/mahjong_engine.py [--hands 20000] --keep

Measured are how many hands both agree on (they must on all) and the verified items a second of one
core, answer first: winning hand drawn, tile taken away, path written, every step checked.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import record
from mahjong.agari import Agari

from stratos.tasks.mahjong import MahjongTask, engine, hands
from stratos.tasks.mahjong.tiles import Hand, add, hand_to_text


def package_waits(hand: Hand) -> frozenset[tuple[int, int]]:
    """Return the waits by the package: every tile is tried."""
    waits = set()
    for suit, rank in engine.all_tiles():
        if hand[suit][rank - 1] < 4:
            full = add(hand, (suit, rank))
            if Agari.is_agari([n for counts in full for n in counts]):
                waits.add((suit, rank))
    return frozenset(waits)


def main() -> None:
    """Compare, then time."""
    parser = record.arguments(__doc__)
    parser.add_argument("--hands", type=int, default=20_000)
    options = parser.parse_args()
    n = options.hands
    rng = random.Random(0)
    classes = hands.flush_classes()
    compared: list[Hand] = [
        hands.flush_hand(counts, rng.randrange(3), rng.random() < 0.5)
        for counts in rng.sample(classes, min(n // 2, len(classes)))
    ]
    while len(compared) < n:
        compared.append(hands.remove_random(hands.winning_hand(rng), rng)[0])
    ours = [engine.waits(hand) for hand in compared]
    wrong = [
        hand_to_text(hand)
        for hand, waits in zip(compared, ours, strict=True)
        if waits != package_waits(hand)
    ]
    task = MahjongTask()
    start = time.process_time()
    refused = sum(task.verify(item) is not None for item in task.reverse(n, seed=1))
    result = {
        "hands": n,
        "agree": n - len(wrong),
        "differ": wrong,
        "items_per_s_a_core": n / (time.process_time() - start),
        "refused": refused,
    }
    record.finish("mahjong_engine", result, options, seed=0)
    raise SystemExit(bool(wrong or refused))


if __name__ == "__main__":
    main()
