"""Six small tasks of different kinds, made by script: the same rows in every run.

python benchmarks/own_data/make.py --folder own_data
"""

from __future__ import annotations

import argparse
import datetime
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


_DATES = (
    "{d} {B} {Y}", "{B} {d}, {Y}", "{d} {b} {Y}", "{d}. {B} {Y}", "on the {o} of {B} {Y}",
    "{A}, {d} {B} {Y}", "{d}.{m}.{Y}", "{b} {o}, '{y}", "{Y}, {B} {d}", "{d}-{b}-{y}",
    "due by {A} the {o} of {b} {Y}",
)  # fmt: skip


def dates(seed: int = 0) -> list[dict[str, str]]:
    """Return dates as people write them, with the ISO form."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < N_ROWS:
        day = datetime.date(1995, 1, 1) + datetime.timedelta(rng.randrange(11_000))
        ending = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
        text = rng.choice(_DATES).format(
            d=day.day, m=day.month, Y=day.year, y=f"{day:%y}", B=f"{day:%B}", b=f"{day:%b}",
            A=f"{day:%A}", o=f"{day.day}{ending.get(day.day, 'th')}",
        )  # fmt: skip
        rows[text] = day.isoformat()
    return pairs(rows)


PEOPLE = ("Ana", "Ben", "Chloe", "Dev", "Ella", "Farid", "Gia", "Hugo", "Iris", "Jon")
GOODS = ("apples", "stickers", "books", "marbles", "cards", "pens", "shells", "coins")


def sums(seed: int = 0) -> list[dict[str, str]]:
    """Return word problems of two steps."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < N_ROWS:
        name, friend = rng.sample(PEOPLE, 2)
        thing = rng.choice(GOODS)
        a, b, c = rng.randrange(3, 30), rng.randrange(2, 10), rng.randrange(2, 20)
        text, answer = rng.choice(
            (
                (f"{name} has {a} {thing} and buys {b} boxes of {c} {thing} each. How many {thing} "
                 f"does {name} have now?", a + b * c),
                (f"{name} has {b} times as many {thing} as {friend}, who has {c}. How many {thing} "
                 "do they have together?", b * c + c),
                (f"{name} shares {b * c} {thing} equally among {b} friends and then gives each "
                 f"{a} more. How many {thing} does each friend get?", c + a),
                (f"There are {a + c} {thing} in a box. {name} takes {c} and {friend} puts in {b}. "
                 f"How many {thing} are in the box now?", a + b),
                (f"{name} saves {b} {thing} a day for {c} days and loses {min(a, b * c)} of them. "
                 f"How many {thing} are left?", b * c - min(a, b * c)),
            )
        )  # fmt: skip
        rows[text] = str(answer)
    return pairs(rows)


_TABLES = {
    "employees": (("name", "salary", "city", "department"), "salary", ("city", "department")),
    "orders": (("id", "amount", "customer", "status"), "amount", ("customer", "status")),
    "books": (("title", "price", "author", "genre"), "price", ("author", "genre")),
}
_VALUES = {
    "city": ("Lyon", "Porto", "Graz"), "department": ("Sales", "Legal", "Support"),
    "customer": ("Acme", "Globex", "Initech"), "status": ("open", "paid", "late"),
    "author": ("Ito", "Silva", "Berg"), "genre": ("crime", "poetry", "history"),
}  # fmt: skip


def queries(seed: int = 0) -> list[dict[str, str]]:
    """Return questions to one of three tables, with the query in one form."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < N_ROWS:
        table = rng.choice(list(_TABLES))
        columns, number, words = _TABLES[table]
        word, limit = rng.choice(words), 10 * rng.randrange(1, 60)
        value = rng.choice(_VALUES[word])
        more = rng.random() < 0.5
        than, sign = (rng.choice(("over", "more than", "above")), ">") if more else (
            rng.choice(("under", "less than", "below")), "<")  # fmt: skip
        what, text = rng.choice(
            (
                ("COUNT(*)", f"How many {table}"),
                (columns[0], f"List the {columns[0]} of {table}"),
                (f"AVG({number})", f"What is the average {number} of {table}"),
                (f"MAX({number})", f"What is the highest {number} of {table}"),
            )
        )
        where = f"{word} = '{value}'"
        text = f"{text} with {word} {value}"
        if rng.random() < 0.6:
            where += f" AND {number} {sign} {limit}"
            text = f"{text} and {number} {than} {limit}"
        query = f"SELECT {what} FROM {table} WHERE {where}"
        if what == columns[0] and rng.random() < 0.5:
            query += f" ORDER BY {number} DESC"
            text = f"{text}, highest {number} first"
        rows[f"{text}?"] = query
    return pairs(rows)


@dataclass(frozen=True)
class Made:
    """One task: how its rows are made, and the task that reads them."""

    rows: Callable[[], list[dict[str, Any]]]
    task: str


TASKS = {
    "tickets": Made(tickets, "classify"),
    "sentiment": Made(opinions, "classify"),
    "dates": Made(dates, "jsonl"),
    "emails": Made(mails, "jsonl"),
    "sums": Made(sums, "jsonl"),
    "sql": Made(queries, "jsonl"),
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
