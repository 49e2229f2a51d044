"""Three small tasks of different kinds, made by script: the same rows in every run.

python benchmarks/own_data/make.py --folder own_data
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from tickets import tickets

N_ROWS = 300
WRONG_SHARE = 0.08
"""Share of the opinions that somebody labelled wrongly: no model can be right on those."""


def pairs(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of a question and its answer."""
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


NAMES = (
    "Ines Duarte", "Omar Haddad", "Lucy Chen", "Paul Weber", "Mara Novak", "Ben Adeyemi",
    "Clara Rossi", "Jonas Lind", "Aiko Mori", "Sofia Marques", "Dan Kowalski", "Ruth Levy",
)  # fmt: skip
PRODUCTS = (
    "desk lamp", "office chair", "label printer", "standing desk", "webcam", "headset",
    "whiteboard", "filing cabinet", "coffee machine", "docking station",
)  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDERS = (
    "we would like to order {n} {product}s",
    "please send us {n} {product}s",
    "could you add {n} {product}s to order {id}",
    "about order {id}: make it {n} {product}s instead of {other}",
    "the {n} {product}s of {id} have not arrived",
    "I need a quote for {n} {product}s, reference {id}",
)
_URGENT = ("It is urgent.", "We need them by tomorrow!", "Please treat this with priority.")
_CALM = ("There is no hurry.", "Whenever it suits you.", "", "Take your time.")
_PLACES = ("Ship to {city}.", "Our office is in {city}.", "Delivery to {city}, please.")
_CITIES = ("Lyon", "Porto", "Ghent", "Graz", "Turin", "Malmö", "Cork", "Brno")


def mails(seed: int = 0) -> list[dict[str, Any]]:
    """Return e-mails with product, quantity, order, city, urgency and sender; null is not said."""
    rng = random.Random(seed)
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < N_ROWS:
        count, before = rng.sample(range(2, 11), 2)
        product, name = rng.choice(PRODUCTS), rng.choice(NAMES)
        order = f"{rng.choice('ABKX')}-{rng.randrange(1000, 9999)}"
        template = rng.choice(_ORDERS)
        city = rng.choice(_CITIES) if rng.random() < 0.7 else None
        urgent = rng.random() < 0.4
        sentence = template.format(
            n=rng.choice((str(count), NUMBERS[count - 1])), product=product, id=order, other=before
        )
        parts = [
            f"{rng.choice(('Hello', 'Dear team', 'Good morning'))},",
            f"{sentence}.",
            rng.choice(_PLACES).format(city=city) if city else "",
            rng.choice(_URGENT if urgent else _CALM),
            f"{rng.choice(('Regards', 'Best', 'Thank you'))}, {name}",
        ]
        rows[" ".join(part for part in parts if part)] = {
            "product": product,
            "quantity": count,
            "order": order if "{id}" in template else None,
            "city": city,
            "urgent": urgent,
            "sender": name,
        }
    return pairs(rows)


LABELS = ("negative", "neutral", "positive")
THINGS = (
    "battery", "screen", "staff", "breakfast", "seat", "plot", "soundtrack", "keyboard", "room",
    "delivery", "ending", "camera", "soup", "guide", "app", "strap",
)  # fmt: skip
GOOD = ("lovely", "great", "better than I expected", "a joy", "spotless", "quick", "excellent")
BAD = ("awful", "worse than before", "a let-down", "dirty", "slow", "broken", "far too loud")
PLAIN = ("as described", "of average size", "the same as last year", "there", "grey", "on time")
NOT_GOOD = ("not {good}", "never {good}", "anything but {good}", "hardly {good}")
NOT_BAD = ("not {bad} at all", "never {bad}", "anything but {bad}")
ASIDES = ("I went on a Tuesday.", "Bought for my sister.", "Second visit.", "Read on a train.", "")


def opinions(
    seed: int = 0, n_rows: int = N_ROWS, wrong_share: float = WRONG_SHARE
) -> list[dict[str, str]]:
    """Return opinions; where two are said, the one behind "but" decides."""
    rng = random.Random(seed)
    seen: set[str] = set()
    rows: list[dict[str, str]] = []
    while len(rows) < n_rows:
        label = rng.choice(LABELS)
        thing, second = rng.sample(THINGS, 2)
        sentence = f"The {thing} was {_said(rng, label)}."
        shape = rng.random()
        if shape < 0.35 and label != "neutral":
            opposite = "positive" if label == "negative" else "negative"
            sentence = (
                f"The {second} was {_said(rng, opposite)}, but the {thing} was {_said(rng, label)}"
            )
            sentence += rng.choice((", and that is what counts.", ", which decided it.", "."))
        elif shape < 0.6:
            sentence = f"{sentence} The {second} was {_said(rng, 'neutral')}."
        text = " ".join(part for part in (rng.choice(ASIDES), sentence) if part)
        if text in seen:
            continue
        seen.add(text)
        if rng.random() < wrong_share:
            label = rng.choice([name for name in LABELS if name != label])
        rows.append({"text": text, "label": label})
    return rows


def _said(rng: random.Random, label: str) -> str:
    good, bad = rng.choice(GOOD), rng.choice(BAD)
    is_turned = rng.random() < 0.35
    if label == "neutral":
        return rng.choice(PLAIN)
    if label == "positive":
        return rng.choice(NOT_BAD).format(bad=bad) if is_turned else good
    return rng.choice(NOT_GOOD).format(good=good) if is_turned else bad


@dataclass(frozen=True)
class Made:
    """One task: how its rows are made, and the task that reads them."""

    rows: Callable[[], list[dict[str, Any]]]
    task: str


TASKS = {
    "tickets": Made(tickets, "classify"),
    "sentiment": Made(opinions, "classify"),
    "emails": Made(mails, "jsonl"),
}


def write(name: str, folder: Path) -> Path:
    """Write the rows of a task as JSON lines; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in TASKS[name].rows()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("own_data"))
    for name in TASKS:
        print(write(name, parser.parse_args().folder))
