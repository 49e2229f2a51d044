"""Texts to be written in one form: addresses, dates and quantities."""

from __future__ import annotations

import datetime
import random

N_ROWS = 300

STREETS = (
    "Linden", "Station", "Mill", "Church", "Harbour", "Victoria", "Castle", "Garden", "Bridge",
    "Meadow", "North", "Chapel", "Market", "Hazel", "Quarry", "Orchard",
)  # fmt: skip
KINDS = {
    "Street": ("St", "St.", "street", "Str."),
    "Road": ("Rd", "Rd.", "road"),
    "Avenue": ("Ave", "Ave.", "avenue", "Av."),
    "Backend": ("Ln", "Ln.", "lane"),
    "Square": ("Sq", "Sq.", "square"),
}
CITIES = ("Leeds", "Bristol", "Dover", "York", "Cardiff", "Oxford", "Exeter", "Derby", "Luton")
PEOPLE = ("A. Keller", "Mrs Jones", "Dr Patel", "Accounts Dept", "Sam Reed", "c/o Wright")


def addresses(seed: int = 0) -> list[dict[str, str]]:
    """Return addresses as people write them, with the form of a database."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < N_ROWS:
        kind = rng.choice(list(KINDS))
        street, city = rng.choice(STREETS), rng.choice(CITIES)
        number = rng.randrange(1, 240)
        letters = "".join(rng.choice("ABDEGHLNPRSTWY") for _ in range(4))
        area, sector = (
            f"{letters[:2]}{rng.randrange(1, 30)}",
            f"{rng.randrange(1, 10)}{letters[2:]}",
        )
        flat = rng.randrange(1, 20) if rng.random() < 0.4 else None
        road = f"{street} {rng.choice((kind, *KINDS[kind]))}"
        if rng.random() < 0.3:
            road = road.upper() if rng.random() < 0.5 else road.lower()
        code = rng.choice((f"{area} {sector}", f"{area}{sector}", f"{area} {sector}".lower()))
        house = rng.choice((f"{number} {road}", f"No. {number}, {road}", f"{number}, {road}"))
        parts = [house, rng.choice((city, city.upper())), code]
        if flat is not None:
            parts.insert(
                0, rng.choice((f"Flat {flat}", f"Apt. {flat}", f"flat {flat}", f"#{flat}"))
            )
        if rng.random() < 0.3:
            parts.insert(0, rng.choice(PEOPLE))
        if rng.random() < 0.3:
            parts[-2:] = [f"{parts[-1]} {parts[-2]}"]
        flats = "" if flat is None else f"{flat}/"
        rows[rng.choice((", ", " - ", "; ")).join(parts)] = (
            f"{flats}{number} {street} {kind}|{city}|{area} {sector}"
        )
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


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
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


_UNITS = (
    ("km", "m", 1000), ("m", "cm", 100), ("kg", "g", 1000), ("h", "min", 60), ("min", "s", 60),
    ("l", "ml", 1000), ("days", "h", 24), ("weeks", "days", 7), ("t", "kg", 1000),
)  # fmt: skip


def units(seed: int = 0) -> list[dict[str, str]]:
    """Return quantities to be written in a smaller unit."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < N_ROWS:
        big, small, factor = rng.choice(_UNITS)
        tenths = factor % 10 == 0 and rng.random() < 0.6
        value = rng.randrange(1, 200) if tenths else 10 * rng.randrange(1, 40)
        amount = f"{value / 10:g}"
        text = rng.choice(("{n} {a} in {b}", "How many {b} are {n} {a}?", "{n}{a} → {b}")).format(
            n=amount, a=big, b=small
        )
        rows[text] = f"{value * factor // 10} {small}"
    return [{"question": question, "answer": answer} for question, answer in rows.items()]
