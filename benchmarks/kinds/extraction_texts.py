"""Generated requests with their JSON answers: table reservations, and orders with lists of items.

Each set has twelve templates to learn from and four that a test of unseen wording uses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

Row = tuple[str, dict[str, Any]]
N_SEEN = 12
"""Templates of training rows: the first ones."""


def _words(text: str) -> list[str]:
    return text.split("|")


SURNAMES = _words(
    "Smith|Johansson|Patel|García|Nguyen|O'Brien|Kowalski|Rossi|Müller|Chen|Dubois|Haddad|Silva"
    "|Novak|Yamamoto|Okafor|Larsen|Popov|Weber|Martin|Ahmed|Fischer|Brown|Costa|Lindqvist|Khan"
)
NAMES = _words(
    "Anna|Ben|Carla|David|Ella|Felix|Grace|Hugo|Ivy|Jonas|Karin|Liam|Mona|Nils|Olga|Paul|Quinn"
)
RESTAURANTS = _words(
    "Luigi's|The Golden Fork|Blue Lagoon|Casa Verde|Chez Marie|Sakura House|The Old Mill|Bistro 21"
    "|La Piazza|Green Garden|Harbour Grill|Taj Palace|Zum Goldenen Hirsch|Ocean Basket|El Toro"
)
ITEMS = _words(
    "pepperoni pizza|margherita|tiramisu|garlic bread|cola|sparkling water|caesar salad|pad thai"
    "|chicken curry|veggie burger|cheeseburger|lemonade|apple pie|iced tea|tomato soup|salmon bowl"
    "|mango lassi|naan|falafel wrap|espresso|cappuccino|chocolate cake|beef taco|miso soup"
)
COUNTS = _words("one|two|three|four|five|six|seven|eight|nine|ten")
MONTHS = _words(
    "January|February|March|April|May|June|July|August|September|October|November|December"
)
RESERVATIONS = _words(
    "Book a table for {p} at {r} on {d} at {t}, name {n}."
    "|I'd like to reserve at {r} for {p} people, {d}, {t}. It's under {n}."
    "|Hi, can I get a table at {r} on {d} around {t} for {p}? My name is {n}."
    "|Reservation for {n}: {p} guests, {r}, {d} {t}"
    "|Please reserve {r} for {d}, {t}, party of {p}. Thanks, {n}"
    "|Table for {p} please, {d} at {t}, {r}. Regards, {n}"
    "|We are {p} and want to eat at {r} on {d}. {t} would be great. {n}"
    "|Could you put {n} down for {t} on {d}? {p} of us, at {r}."
    "|{n} here. Need a table at {r} ({p} persons) for {d} at {t}"
    "|Hello, this is {n}. Do you have space for {p} at {r} at {t} on {d}?"
    "|Dinner at {r}: {d}, {t}, {p} people."
    "|Get me a table at {r} on {d} for {p} at {t}."
    "|Is {r} free on {d} at {t}? There will be {p} of us. Name: {n}"
    "|I am {n} and I'd love a table for {p} at {r}, {t} on {d}."
    "|For {d} I need {r} at {t}, {p} people, booked as {n}."
    "|Can you book {r}? {p} people, {t}, {d}. Under the name {n}."
)
ORDERS = _words(
    "I'd like {i}, please.|Can I get {i}?|Send {i} to {n}.|Hi, please send {i} to {a}."
    "|One order: {i}. Name: {n}.|We want {i} delivered to {a}, thanks!|Could we have {i}? {n}"
    "|Order for {n}: {i}.|Bring {i} to {a} please, it's for {n}|Please add {i} to my order."
    "|Give me {i}.|Hello, {i} for pickup, {n}."
    "|For dinner we'll take {i}.|My name is {n}; I need {i} at {a}."
    "|Let me have {i}, bring it to {a}.|Tonight it's {i} for {n}, please."
)


def reservation(source: random.Random, templates: Sequence[str]) -> Row:
    """Make one reservation; the name may be absent."""
    template, day = source.choice(templates), source.randint(1, 28)
    month, hour, minute = source.randint(1, 12), source.randint(11, 22), source.choice([0, 15, 30])
    iso, name = f"2026-{month:02d}-{day:02d}", MONTHS[month - 1]
    dates = [f"{day} {name} 2026", f"{name} {day}, 2026", iso, f"{day}.{month}.2026"]
    half, hour_12 = ("am" if hour < 12 else "pm"), (hour - 1) % 12 + 1
    times = [
        f"{hour}:{minute:02d}",
        f"{hour_12}:{minute:02d} {half}",
        f"{hour_12}.{minute:02d}{half}",
    ]
    people, who = source.randint(1, 10), source.choice(SURNAMES)
    who = source.choice([who, f"{source.choice(NAMES)} {who}"])
    place = source.choice(RESTAURANTS)
    spoken = source.choice([str(people), COUNTS[people - 1]])
    answer = {"restaurant": place, "date": iso, "time": f"{hour}:{minute:02d}", "people": people}
    text = template.format(r=place, d=source.choice(dates), t=source.choice(times), p=spoken, n=who)
    return text, {**answer, "name": who if "{n}" in template else None}


def order(source: random.Random, templates: Sequence[str]) -> Row:
    """Make one order of one to four items; name and address may be absent."""
    template, parts, items = source.choice(templates), list[str](), list[dict[str, Any]]()
    for item in source.sample(ITEMS, source.choice([1, 1, 2, 2, 3, 4])):
        n = source.choice([1, 1, 1, 2, 2, 3, 4, 5, 6])
        forms = [f"{n} ", f"{COUNTS[n - 1]} ", f"{n}x ", *(["a ", ""] if n == 1 else [])]
        parts.append(source.choice(forms) + item)
        items.append({"item": item, "quantity": n})
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    name = source.choice(NAMES)
    address = f"{source.randint(1, 200)} {source.choice(['Oak', 'Mill', 'Park', 'Lake'])} Street"
    answer = {
        "items": items,
        "name": name if "{n}" in template else None,
        "address": address if "{a}" in template else None,
    }
    return template.format(i=listed, n=name, a=address), answer


SETS: dict[str, tuple[Callable[[random.Random, Sequence[str]], Row], list[str]]] = {
    "reservations": (reservation, RESERVATIONS),
    "orders": (order, ORDERS),
}


def drawn(name: str, n_train: int, n_test: int, seed: int) -> dict[str, list[Row]]:
    """Return training rows, test rows of the same templates, and test rows of other templates."""
    make, templates = SETS[name]
    source = random.Random(seed)
    seen, unseen = templates[:N_SEEN], templates[N_SEEN:]
    return {
        "train": [make(source, seen) for _ in range(n_train)],
        "known_templates": [make(source, seen) for _ in range(n_test)],
        "unseen_templates": [make(source, unseen) for _ in range(n_test)],
    }
