"""E-mails with the order that they speak of, as a JSON object."""

from __future__ import annotations

import random
from typing import Any

N_ROWS = 300
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
        count, other = rng.sample(range(2, 11), 2)
        product, name = rng.choice(PRODUCTS), rng.choice(NAMES)
        order = f"{rng.choice('ABKX')}-{rng.randrange(1000, 9999)}"
        template = rng.choice(_ORDERS)
        city = rng.choice(_CITIES) if rng.random() < 0.7 else None
        urgent = rng.random() < 0.4
        sentence = template.format(
            n=rng.choice((str(count), NUMBERS[count - 1])), product=product, id=order, other=other
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
    return [{"question": question, "answer": answer} for question, answer in rows.items()]
