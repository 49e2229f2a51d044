"""Hold the Mahjong engine against the PyPI package `mahjong`, and time reverse generation.

    python benchmarks/tasks/mahjong_engine.py [--hands 20000]

Prints how many hands both agree on (they must on all) and the verified items a second of one core,
answer first: winning hand drawn, tile taken away, path written, every step checked.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mahjong.agari import Agari
from record import keep

from stratos.tasks.mahjong import MahjongTask, engine, hands
from stratos.tasks.mahjong.tiles import Hand, add, hand_to_text


def package_waits(hand: Hand) -> frozenset[tuple[int, int]]:
    """Return the waits by the package: every tile is tried."""
    found = set()
    for suit, rank in engine.all_tiles():
        if hand[suit][rank - 1] < 4:
            full = add(hand, (suit, rank))
            if Agari.is_agari([n for counts in full for n in counts]):
                found.add((suit, rank))
    return frozenset(found)


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hands", type=int, default=20_000)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
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
    start = time.process_time()
    ours = [engine.waits(hand) for hand in compared]
    middle = time.process_time()
    theirs = [package_waits(hand) for hand in compared]
    end = time.process_time()
    wrong = [hand for hand, a, b in zip(compared, ours, theirs, strict=True) if a != b]
    print(f"agree on {n - len(wrong):,} of {n:,} hands")
    print(f"CPU seconds: ours {middle - start:.2f}, package {end - middle:.2f}")
    for hand in wrong[:5]:
        print("differs:", hand_to_text(hand))
    found: dict[str, object] = {
        "hands": n,
        "agree": n - len(wrong),
        "cpu_s": {"ours": middle - start, "package": end - middle},
    }
    for name in ("full flush", "general"):
        sizes = Counter(
            len(waits)
            for hand, waits in zip(compared, ours, strict=True)
            if (name == "full flush") == (sum(any(c) for c in hand) == 1 and not any(hand[3]))
        )
        found[name] = dict(sorted(sizes.items()))
        print(f"waits a hand, {name}:", found[name])

    task = MahjongTask()
    start = time.process_time()
    refused = sum(task.verify(item) is not None for item in task.reverse(n, seed=1))
    seconds = time.process_time() - start
    print(f"reverse generation: {n / seconds:,.0f} verified items/s a core, {refused} refused")
    found |= {"items_per_s_a_core": n / seconds, "refused": refused}
    if options.keep:
        keep("mahjong_engine", found, seed=0)
    raise SystemExit(bool(wrong or refused))


if __name__ == "__main__":
    main()
