"""Logs: what the filters find in one with known corruption.

    python benchmarks/contrib/logs.py [--rows 3000] --keep

A known share of the rows is spoilt in each of nine ways, and what `task.answers=verify` finds of
each is counted, and what else. A workload of free texts, which vary as those of a shop do
(apologies, tables, rules, code), is spoilt in the two ways that are found there. Forms of personal
data are planted, and harmless ones that look like some.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.contrib.logs.log_task import LogTask
from stratos.contrib.logs.words import Doubt
from stratos.core.redact import CARD, EMAIL, IBAN, PHONE, kinds_in

SEED = 0
START_S = 1_760_000_000
STEP_S = 60
SHARES = (0.005, 0.02, 0.04)
"""Of the rows that are spoilt in one way."""
TEXT = (
    "the a my your it this that was is has been not very quite again still since before after "
    "when while with without from into over under about please thanks hello dear team service "
    "quality price store shop week day month morning evening friend family gift return delay "
    "parcel box colour size shape button screen cable plug manual warranty invoice account "
    "page app update"
)
WORDS = TEXT.split()
PRODUCTS = ("laptop", "router", "printer", "camera", "monitor", "keyboard")
EXTRACT = "Extract product, order and mail from the message of a customer as one JSON object."
SORT = "Say whether the review of the user is positive, negative or neutral, in one word."
REPLY = "You answer the messages of the customers of a shop in a friendly way and in full."
REPLIES: dict[str, Callable[[int, str], str]] = {
    # What a text that nobody spoilt is like; a number and some words make each its own.
    "plain": lambda k, words: f"Order {k} is on its way: {words}.",
    "apology": lambda k, words: f"I'm sorry, but your parcel {k} is late: {words}.",
    "regret": lambda k, words: f"I am sorry to hear that. We send order {k} again: {words}.",
    "unable to say": lambda k, words: f"I can't say yet when order {k} comes: {words}.",
    "rule": lambda k, words: f"Order {k}\n{'-' * (20 + k % 60)}\n{words}\n{'=' * (20 + k % 60)}",
    "table": lambda k, words: (
        f"| {' | '.join(words.split()[:6])} |\n|{'----------|' * 6}\n| {k} |{' n/a |' * 5}"
    ),
    "code": lambda k, words: (
        f"def ship_{k}():\n{' ' * (8 + 4 * (k % 12))}return {words.split()[0]!r}"
    ),
    "list": lambda k, words: "\n".join(f"- [ ] {part}" for part in (str(k), *words.split()[:6])),
    "zeros": lambda k, words: f"Stock of {k}: {'0, ' * 30}0; {words}",
    "dots": lambda k, words: f"Chapter {k} {'. ' * 30}{k % 97}\n{words}",
}
OPINIONS = {
    "positive": ("I love it", "it is wonderful", "I would buy it again"),
    "negative": ("I hate it", "it is awful", "I want my money back"),
    "neutral": ("it is a thing that I own", "I have no opinion of it", "it is as described"),
}


def row(system: str, question: str, answer: str, k: int) -> dict[str, Any]:
    """Return a logged request with its answer."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    choice = {"index": 0, "finish_reason": "stop"}
    return {
        "created": START_S + STEP_S * k,
        "request": {"model": "gpt-4o", "messages": messages},
        "response": {
            "model": "gpt-4o-2024-08-06",
            "choices": [{**choice, "message": {"role": "assistant", "content": answer}}],
            "usage": {
                "prompt_tokens": (len(system) + len(question)) // 4,
                "completion_tokens": len(answer) // 4 + 1,
            },
        },
    }


def extraction(rng: random.Random, k: int, characters: int) -> dict[str, Any]:
    """Return a row whose answer is a JSON object of what its message says."""
    product, order = rng.choice(PRODUCTS), rng.randrange(10**5, 10**7)
    mail = f"{rng.choice(WORDS)}{order % 997}@example.com"
    words = text(rng, characters)
    question = f"{words}: the {product} of order {order} is late. Write to {mail}"
    return row(EXTRACT, question, json.dumps({"product": product, "order": order, "mail": mail}), k)


def opinion(rng: random.Random, k: int, characters: int) -> dict[str, Any]:
    """Return a row whose answer is a label."""
    label = rng.choice(tuple(OPINIONS))
    question = f"{text(rng, characters)}, and {rng.choice(OPINIONS[label])}"
    return row(SORT, question, label, k)


def text(rng: random.Random, characters: int) -> str:
    """Return words that tell nothing."""
    return " ".join(rng.choices(WORDS, k=max(8, characters // 6)))


def answer_of(made: dict[str, Any]) -> dict[str, Any]:
    """Return the message that holds a row's answer."""
    message: dict[str, Any] = made["response"]["choices"][0]["message"]
    return message


def with_fields(row: dict[str, Any], **changes: Any) -> str:
    """Return the object that a row's answer is, with some fields changed."""
    return json.dumps({**json.loads(answer_of(row)["content"]), **changes})


def order_of(row: dict[str, Any]) -> int:
    """Return a field of the object that a row's answer is."""
    order: int = json.loads(answer_of(row)["content"])["order"]
    return order


NEXT_LABEL = {"positive": "negative", "negative": "neutral", "neutral": "positive"}
SPOILT: dict[str, tuple[bool, Callable[[dict[str, Any]], str]]] = {
    # Whether it is done to extractions or to labels, and how.
    "JSON cut off": (True, lambda row: answer_of(row)["content"][:-3]),
    "field renamed": (True, lambda row: answer_of(row)["content"].replace('"product"', '"item"')),
    "number as text": (True, lambda row: with_fields(row, order=str(order_of(row)))),
    "wrong number": (True, lambda row: with_fields(row, order=order_of(row) + 7)),
    "refusal": (True, lambda row: "I'm sorry, but I can't help with that."),
    "repeated text": (False, lambda row: "positive or negative " * 40),
    "label misspelled": (False, lambda row: answer_of(row)["content"][:-1]),
    "another label": (False, lambda row: NEXT_LABEL[answer_of(row)["content"]]),
}
N_PLANTED = 20
"""Texts of each form."""
CONTRADICTED = "asked three times, one answer wrong"
PLANTED = {
    EMAIL: ("jo.doe@mail.example", "a.b@c.example.org", "JO@EXAMPLE.COM", "jörg@müller.example",
            "o'brien+x@ex.org", "jo_1@a.b.co.uk", "jo (at) ex.org"),
    PHONE: ("+49 30 1234567", "(212) 555-0147-22", "+1 415 555 2671", "0170-1234567",
            "030/1234567", "(030) 1234567", "06 12 34 56 78", "06.12.34.56.78",
            "+49 (0)30 123 45 67", "415.555.2671", "1-415-555-2671", "0044 20 7946 0958",
            "+14155552671", "tel 4155552671", "4155552671", "01 234 5678", "612 345 678"),
    CARD: ("4111 1111 1111 1111", "5500 0000 0000 0004", "378282246310005", "2223 0031 2200 3222",
           "6011-1111-1111-1117", "3530111333300000", "30569309025904"),
    IBAN: ("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "de89370400440532013000",
           "FR14-2004-1010-0505-0001-3M02-606", "NO93 8601 1117 947", "BE68 5390 0754 7034"),
}  # fmt: skip
"""Forms of personal data, also such as no pattern knows."""
HARMLESS = (
    "order 48213377", "2024-05-06", "version 3.14.159", "1,234,567", "192.168.10.12",
    "4111 1111 1111 1112", "ab12cd34", "50% of 12 345", "2024-05-06 10:11:12", "10.0.19045.3693",
    "52.5200 13.4050", "IMEI 490154203237518", "IMEI 356938035643809", "ISBN 978-3-16-148410-0",
    "12.05.2024 - 13.06.2024", "2024-05-06/2024-05-09", "1 234 567 890", "100 000 000",
    "order 10-2024-55512", "192.168.10.12/24", "0.12 0.34 0.56", "user@v1.2.3",
    "git@github.com:a/b", "1999-2024", "21-19 21-17 21-15", "invoice 0012345678",
    "part 300-400-5000", "serial 0170-2024001",
)  # fmt: skip
"""What is no personal data, also such as looks like some."""


def filters(n: int) -> dict[str, Any]:
    """Spoil logs, and count what the checks find."""
    seeds = dict(enumerate(SHARES, start=1))
    return {
        "logs": [spoilt_log(n, share, seed) for seed, share in seeds.items()],
        "replies": [spoilt_replies(n, share, seed) for seed, share in seeds.items()],
        "personal": personal(random.Random(SEED)),
    }


def spoilt_rows(n: int, share: float, seed: int) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Spoil a share of a log in each way; return the rows, and the kind of those spoilt."""
    rng = random.Random(seed)
    rows = [(extraction if k % 2 else opinion)(rng, k, 100) for k in range(n)]
    n_each = round(share * n)
    free = {True: [k for k in range(n) if k % 2], False: [k for k in range(n) if not k % 2]}
    for numbers in free.values():
        rng.shuffle(numbers)
    spoilt: dict[int, str] = {}
    for name, (is_extraction, spoil) in SPOILT.items():
        for _ in range(n_each):
            k = free[is_extraction].pop()
            answer_of(rows[k])["content"] = spoil(rows[k])
            spoilt[k] = name
    # Requests that were asked three times: the wrong answer stands in rows behind all others.
    for _ in range(n_each):
        k = free[False].pop()
        label = answer_of(rows[k])["content"]
        for wrong in (False, True):
            again = json.loads(json.dumps(rows[k]))
            again["created"] += 1
            if wrong:
                answer_of(again)["content"] = "neutral" if label != "neutral" else "positive"
                spoilt[len(rows)] = CONTRADICTED
            rows.append(again)
    return rows, spoilt


def spoilt_log(n: int, share: float, seed: int) -> dict[str, Any]:
    """Spoil a share of a log in each way; return what is found."""
    rows, spoilt = spoilt_rows(n, share, seed)
    doubts = doubts_of(rows)
    kinds = []
    for name in (*SPOILT, CONTRADICTED):
        of_kind = {k for k, kind in spoilt.items() if kind == name}
        kinds.append(
            {"kind": name, "spoilt": len(of_kind), "found_by_any_check": len(of_kind & set(doubts))}
        )
    return {"share": share, "found_unspoilt": len(set(doubts) - set(spoilt)), "kinds": kinds}


def spoilt_replies(n: int, share: float, seed: int) -> dict[str, Any]:
    """Spoil a share of a log of free texts; return what is found, and of which unspoilt texts."""
    rng = random.Random(seed)
    forms = [rng.choice(tuple(REPLIES)) for _ in range(n)]
    rows = [
        row(REPLY, text(rng, 100), REPLIES[form](k, text(rng, 60)), k)
        for k, form in enumerate(forms)
    ]
    answers = {Doubt.REFUSED: "I can't help with that.", Doubt.LOOPS: "we send it and then " * 40}
    spoilt: dict[int, Doubt] = {}
    for doubt, answer in answers.items():
        for k in rng.sample([k for k in range(n) if k not in spoilt], round(share * n)):
            answer_of(rows[k])["content"] = answer
            spoilt[k] = doubt
    doubts = doubts_of(rows)
    kinds = [
        {"kind": kind, "spoilt": round(share * n),
         "found": sum(doubts.get(k) == doubt for k, of in spoilt.items() if of == doubt)}
        for kind, doubt in (("refusal", Doubt.REFUSED), ("repeated text", Doubt.LOOPS))
    ]  # fmt: skip
    return {
        "share": share,
        "rows": n,
        "kinds": kinds,
        "unspoilt": Counter(forms),
        "wrongly": Counter(forms[k] for k in doubts if k not in spoilt),
    }


def doubts_of(rows: list[dict[str, Any]]) -> dict[int, Doubt]:
    """Return the numbers of the doubtful answers of a log, and why they are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        doubtful = LogTask(str(path)).doubtful
    return {int(row.line.removeprefix("line ")) - 1: doubt for doubt, row in doubtful}


def personal(rng: random.Random) -> list[dict[str, Any]]:
    """Plant each form of personal data and each harmless one into texts; count what is found."""
    kinds_of: dict[str, Counter[str]] = {}
    forms = {form: kind for kind, some in PLANTED.items() for form in some}
    for form in (*forms, *HARMLESS):
        kinds_of[form] = Counter(
            kind
            for _ in range(N_PLANTED)
            for kind in kinds_in(f"{text(rng, 100)} {form}, {text(rng, 60)}")
        )
    rows = []
    for kind, planted in PLANTED.items():
        unlike = [form for form in kinds_of if form not in planted]
        rows.append(
            {
                "kind": kind,
                "planted": N_PLANTED * len(planted),
                "forms": len(planted),
                "found": sum(kinds_of[form][kind] for form in planted),
                "missed": [form for form in planted if kinds_of[form][kind] < N_PLANTED],
                "others": N_PLANTED * len(unlike),
                "wrongly": sum(kinds_of[form][kind] for form in unlike),
                "mistaken": [form for form in unlike if kinds_of[form][kind]],
            }
        )
    return rows


def main() -> None:
    """Count what the filters find."""
    parser = record.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    options = parser.parse_args()
    record.finish("logs/filters", filters(options.rows), options, seed=SEED)


if __name__ == "__main__":
    main()
