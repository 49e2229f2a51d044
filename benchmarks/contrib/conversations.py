"""How many tokens a language model reads to learn the turns of agents' conversations.

    python benchmarks/contrib/conversations.py --keep

Services are those of `trace_services.py`. The student has random weights, a tokenizer trained on
the rows, and 6 layers of 256. An epoch is read in steps of 8,192 tokens of whole rows:

- `single`: every turn is a row of its own, with all that was said before it.
- `beginnings`: the same, and what the rows of a step begin with alike is computed once.
- `conversations`: turns of one conversation are in one step, and what is said is read once.

Seconds are of forward and backward passes on one thread, the median of some steps.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import record
from caller import task_of

SERVICES = ("restaurant", "shop", "travel", "operations")
N, BATCH_TOKENS, N_STEPS = 100, 8192, 5
CASES = ("single", "beginnings", "conversations")


def student_of(items: list[Any], task: Any) -> tuple[Any, Any]:
    """Return a student of random weights, and the turns in its tokens."""
    from stratos.config import StudentConfig
    from stratos.distill.data import conversations_in, encode
    from stratos.distill.tokenizer import make_student

    config = StudentConfig("student", hidden_size=256, n_layers=6, context_length=8192)
    chats = [task.student_messages(item) for item in items]
    answers = [item.answer for item in items]
    texts = [*(chat[0]["content"] for chat in chats), *answers]
    model, tokenizer = make_student(config, None, texts, 0)
    data, _ = encode(tokenizer, chats, answers, config.context_length)
    conversations = conversations_in(data, [item.family for item in items])
    return model, replace(data, shares=True, conversations=conversations)


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Return what each case reads of a service."""
    from stratos.config import TrainerConfig
    from stratos.distill.data import PackedLoader
    from stratos.distill.module import StudentModule

    task = task_of(name, N, folder)
    items = task.items("train", task.n_train)
    model, whole = student_of(items, task)
    module = StudentModule(model, TrainerConfig(), 1)
    module.learner.pack(True)
    result: dict[str, Any] = {
        "n_conversations": len({item.family for item in items}), "turns": len(items),
        "learned": int((whole.lengths - whole.prompt_lengths).sum()),
    }  # fmt: skip
    for case in CASES:
        data = replace(
            whole,
            shares=case != "single",
            conversations=whole.conversations if case == "conversations" else None,
        )
        loader = PackedLoader(data, BATCH_TOKENS, int(data.lengths.sum()), 0)
        rows = [loader.row(index) for index in range(len(loader))]
        seconds = []
        for row in rows[:N_STEPS]:
            began = time.process_time()
            module.loss(row).backward()
            seconds.append(time.process_time() - began)
        result[case] = {
            "steps": len(rows),
            "learned": sum(len(row.rows_M) for row in rows),
            "read": sum(row.tokens_1N.numel() for row in rows),
            "cpu_s_a_step": statistics.median(seconds),
        }
    return result


def main() -> None:
    """Measure all services."""
    parser = record.arguments(__doc__)
    parser.add_argument("--services", nargs="+", default=list(SERVICES))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    result = {}
    for name in options.services:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = measured(name, Path(folder))
    record.finish("tools/conversations", result, options, seed=0)


if __name__ == "__main__":
    main()
