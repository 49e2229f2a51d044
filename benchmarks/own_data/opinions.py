"""Short opinions with their sentiment, some of them labelled wrongly, as people label."""

from __future__ import annotations

import random

N_ROWS = 300
WRONG_SHARE = 0.08
"""Share of the labels that somebody got wrong: no model can be right on those."""

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


def opinions(seed: int = 0) -> list[dict[str, str]]:
    """Return 300 opinions; where two are said, the one behind "but" decides."""
    rng = random.Random(seed)
    seen: set[str] = set()
    rows: list[dict[str, str]] = []
    while len(rows) < N_ROWS:
        label = rng.choice(LABELS)
        thing, other = rng.sample(THINGS, 2)
        said = f"The {thing} was {_said(rng, label)}."
        shape = rng.random()
        if shape < 0.35 and label != "neutral":
            opposite = "positive" if label == "negative" else "negative"
            said = (
                f"The {other} was {_said(rng, opposite)}, but the {thing} was {_said(rng, label)}"
            )
            said += rng.choice((", and that is what counts.", ", which decided it.", "."))
        elif shape < 0.6:
            said = f"{said} The {other} was {_said(rng, 'neutral')}."
        text = " ".join(part for part in (rng.choice(ASIDES), said) if part)
        if text in seen:
            continue
        seen.add(text)
        if rng.random() < WRONG_SHARE:
            label = rng.choice([one for one in LABELS if one != label])
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
