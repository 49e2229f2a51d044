"""Drift: how often the check alarms although nothing has changed, and how much it takes to see.

    python benchmarks/contrib/drift.py [--checks 400] [--turns] --keep

Questions and answers are Mahjong hands and what to wait for. Both samples of a check are drawn
alike, without a change for the false alarms, and with a part of the live ones spoilt for what is
found.

With `--turns` they are conversations of a shop's agent of 3 to 8 turns (`trace_services.py`), which
are read from two logs in each check. A tool has another name in a part of the live conversations,
or a part of what users say has other words.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

sys.path.insert(0, str(Path(__file__).parent))

import record
from caller import messages_of, task_of
from trace_services import SERVICE, conversations

from stratos.contrib.drift.shifts import Response, shifts
from stratos.core.intervals import wilson
from stratos.tasks.mahjong import MahjongTask

ALPHA = 0.01
SIZES = ((200, 100), (400, 200))
"""Test items and live requests of a check."""
SHARES = (0.05, 0.1, 0.2)
CHANGES: dict[str, Callable[[Response], Response]] = {
    "": lambda request: request,
    "unread": lambda request: replace(request, answer="I do not know.", value=None),
    "reworded": lambda request: replace(
        request, question=f"Hello, please tell me: {request.question} Thank you."
    ),
}


@cache
def pool() -> list[Response]:
    """Return the questions with answers that all checks draw from, 3% of which cannot be read."""
    rng = random.Random(0)
    return [
        Response(item.question, item.answer, None if rng.random() < 0.03 else item.answer)
        for item in MahjongTask().items("train", 3000)
    ]


def alarms(size: tuple[int, int], seed: int, change: str, share: float) -> bool:
    """Return whether one check alarms."""
    n_before, n_now = size
    rng = random.Random(seed)
    both = rng.sample(pool(), n_before + n_now)
    spoil = CHANGES[change]
    now = [spoil(request) if rng.random() < share else request for request in both[n_before:]]
    return any(shift.is_shift for shift in shifts(both[:n_before], now, ALPHA, seed))


def measured(size: tuple[int, int], n_checks: int, change: str, share: float) -> dict[str, Any]:
    """Return how many checks alarm."""
    first_seed = 10_000 if change else 0
    n_alarms = sum(alarms(size, first_seed + i, change, share) for i in range(n_checks))
    interval = wilson(n_alarms, n_checks)
    return {
        "n_evaluated": size[0], "n_live": size[1], "change": change, "share": share,
        "n_checks": n_checks, "n_alarms": n_alarms, "low": interval.low, "high": interval.high,
    }  # fmt: skip


SERVICE_ASKED, RENAMED = "shop", "get_order_details"
"""A service of `trace_services.py`, and the tool that gets another name."""
ALPHAS = (0.01, 0.05)
SIZES_OF_TURNS = ((100, 60),)
"""Conversations of the test and live ones."""
CHANGES_OF_TURNS = (("", 0.0), ("renamed", 0.1), ("reworded", 0.2))
LEAST_TURNS, MOST_TURNS = 3, 8


def talks() -> list[list[dict[str, Any]]]:
    """Return the conversations that all checks draw from."""
    made = [messages_of(turns) for turns in conversations(SERVICE_ASKED, 4000, 0)]
    n_turns = [sum(message["role"] == "assistant" for message in messages) for messages in made]
    return [
        messages
        for messages, n in zip(made, n_turns, strict=True)
        if LEAST_TURNS <= n <= MOST_TURNS
    ]


def spoilt(text: str, change: str, share: float, rng: random.Random) -> str:
    """Return the JSON of a conversation, of some with a change."""
    if change == "renamed":
        return text.replace(RENAMED, f"{RENAMED}_v2") if rng.random() < share else text
    messages = json.loads(text)
    for message in messages:
        if message["role"] == "user" and rng.random() < share:
            message["content"] = f"Hello, please tell me: {message['content']} Thank you."
    return json.dumps(messages)


def checks_of_turns(n_checks: int) -> list[dict[str, Any]]:
    """Return how many checks of turns alarm, by size, change and level."""
    rows, drawn = [], [json.dumps(messages) for messages in talks()]
    tools = json.dumps(SERVICE[SERVICE_ASKED][0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        turns = task_of(SERVICE_ASKED, 50, folder).turns()

        def sample(texts: list[str]) -> list[Response]:
            path = folder / "log.jsonl"
            lines = (f'{{"messages": {text}, "tools": {tools}}}\n' for text in texts)
            path.write_text("".join(lines))
            return [*map(Response.of_turn, turns.of_log(str(path), None, None)[0])]

        for size in SIZES_OF_TURNS:
            for change, share in CHANGES_OF_TURNS:
                least = []
                for seed in range(n_checks // 3 if change else n_checks):
                    rng = random.Random(seed + (10_000 if change else 0))
                    both = rng.sample(drawn, sum(size))
                    live = [spoilt(text, change, share, rng) for text in both[size[0] :]]
                    found = shifts(sample(both[: size[0]]), sample(live), ALPHA, seed)
                    least.append(len(found) * min(shift.p_value for shift in found))
                for alpha in ALPHAS:
                    n_alarms = sum(p <= alpha * (1 + 1e-9) for p in least)
                    interval = wilson(n_alarms, len(least))
                    rows.append({
                        "n_evaluated": size[0], "n_live": size[1], "change": change, "share": share,
                        "alpha": alpha, "n_checks": len(least), "n_alarms": n_alarms,
                        "low": interval.low, "high": interval.high,
                    })  # fmt: skip
    return rows


def main() -> None:
    """Count false alarms, and what is found."""
    parser = record.arguments(__doc__)
    parser.add_argument("--checks", type=int, default=400)
    parser.add_argument("--turns", action="store_true")
    options = parser.parse_args()
    if options.turns:
        rows = checks_of_turns(options.checks)
        record.finish("drift_turns", {"service": SERVICE_ASKED, "rows": rows}, options, seed=0)
        return
    rows = []
    for size in SIZES:
        rows.append(measured(size, options.checks, "", 0.0))
        rows += [
            measured(size, options.checks // 8, change, share)
            for change in ("unread", "reworded")
            for share in SHARES
        ]
    record.finish("drift", {"alpha": ALPHA, "rows": rows}, options, seed=0)


if __name__ == "__main__":
    main()
