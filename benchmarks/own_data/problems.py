"""Questions that have to be worked out: word problems, and SQL for a question in English."""

from __future__ import annotations

import random

N_ROWS = 300
NAMES = ("Ana", "Ben", "Chloe", "Dev", "Ella", "Farid", "Gia", "Hugo", "Iris", "Jon")
THINGS = ("apples", "stickers", "books", "marbles", "cards", "pens", "shells", "coins")


def sums(seed: int = 0) -> list[dict[str, str]]:
    """Return word problems of two steps."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < N_ROWS:
        one, two = rng.sample(NAMES, 2)
        thing = rng.choice(THINGS)
        a, b, c = rng.randrange(3, 30), rng.randrange(2, 10), rng.randrange(2, 20)
        text, answer = rng.choice(
            (
                (f"{one} has {a} {thing} and buys {b} boxes of {c} {thing} each. How many {thing} "
                 f"does {one} have now?", a + b * c),
                (f"{one} has {b} times as many {thing} as {two}, who has {c}. How many {thing} do "
                 "they have together?", b * c + c),
                (f"{one} shares {b * c} {thing} equally among {b} friends and then gives each "
                 f"{a} more. How many {thing} does each friend get?", c + a),
                (f"There are {a + c} {thing} in a box. {one} takes {c} and {two} puts in {b}. How "
                 f"many {thing} are in the box now?", a + b),
                (f"{one} saves {b} {thing} a day for {c} days and loses {min(a, b * c)} of them. "
                 f"How many {thing} are left?", b * c - min(a, b * c)),
            )
        )  # fmt: skip
        rows[text] = str(answer)
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


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
    return [{"question": question, "answer": answer} for question, answer in rows.items()]
