"""Rows of a log of two workloads: JSON objects, and labels."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

EXTRACT = "Extract the product and the order from the message of a customer as a JSON object."
SORT = "Say whether the review that the user sends is positive or negative, in one word only."
START = 1_760_000_000
WORDS = [f"{one}{two}{three}" for one in "bdklm" for two in "aeiou" for three in "nrstwxyz"]


def row(system: str, asked: str, said: str, hour: float) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
    return {"created": START + 3600 * hour, "model": "m", "messages": messages, "response": said}


def extractions(n: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    rows = []
    for k in range(n):
        product, order = rng.choice(["mug", "lamp", "chair"]), rng.randrange(10**4, 10**6)
        asked = f"{' '.join(rng.choices(WORDS, k=9))} my {product} of order {order} is late"
        said = json.dumps({"product": product, "order": order})
        rows.append(row(EXTRACT, asked, said, k))
    return rows


def labels(n: int) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [
        row(SORT, " ".join(rng.choices(WORDS, k=12)), rng.choice(["positive", "negative"]), k)
        for k in range(n)
    ]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    return str(path)
