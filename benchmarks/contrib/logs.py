"""Logs: how long a large one takes, and what the filters find in one with known corruption.

    python benchmarks/contrib/logs.py size [--rows 100000] [--characters 400]
    python benchmarks/contrib/logs.py filters [--rows 3000]

`size` writes a log, and reads it with `stratos logs` and as `+task=logs`, each in a
process of its own whose CPU time and peak resident memory the kernel counts. `filters` spoils a
known share of the rows in each of nine ways, and counts what each check of `task.answers=verify`
finds of its kind, and what else it finds. A workload of free texts, which vary as those of a shop
do (apologies, tables, rules, code), is spoilt in the two ways that are found there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

from stratos.contrib.logs.messages import LogTask
from stratos.contrib.logs.survey import CARD, EMAIL, IBAN, PHONE, personal_data
from stratos.contrib.logs.words import Doubt

READ = """
import sys
from stratos.contrib.logs.messages import LogTask
task = LogTask(sys.argv[1], on_error="skip")
print(task.n_train, task.n_test)
"""
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
    "plain": lambda k, told: f"Order {k} is on its way: {told}.",
    "apology": lambda k, told: f"I'm sorry, but your parcel {k} is late: {told}.",
    "regret": lambda k, told: f"I am sorry to hear that. We send order {k} again: {told}.",
    "unable to say": lambda k, told: f"I can't say yet when order {k} comes: {told}.",
    "rule": lambda k, told: f"Order {k}\n{'-' * (20 + k % 60)}\n{told}\n{'=' * (20 + k % 60)}",
    "table": lambda k, told: (
        f"| {' | '.join(told.split()[:6])} |\n|{'----------|' * 6}\n| {k} |{' n/a |' * 5}"
    ),
    "code": lambda k, told: (
        f"def ship_{k}():\n{' ' * (8 + 4 * (k % 12))}return {told.split()[0]!r}"
    ),
    "list": lambda k, told: "\n".join(f"- [ ] {one}" for one in (str(k), *told.split()[:6])),
    "zeros": lambda k, told: f"Stock of {k}: {'0, ' * 30}0; {told}",
    "dots": lambda k, told: f"Chapter {k} {'. ' * 30}{k % 97}\n{told}",
}
OPINIONS = {
    "positive": ("I love it", "it is wonderful", "I would buy it again"),
    "negative": ("I hate it", "it is awful", "I want my money back"),
    "neutral": ("it is a thing that I own", "I have no opinion of it", "it is as described"),
}


def row(system: str, asked: str, said: str, k: int) -> dict[str, Any]:
    """Return a logged request with its answer."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
    choice = {"index": 0, "finish_reason": "stop"}
    return {
        "created": START_S + STEP_S * k,
        "request": {"model": "gpt-4o", "messages": messages},
        "response": {
            "model": "gpt-4o-2024-08-06",
            "choices": [{**choice, "message": {"role": "assistant", "content": said}}],
            "usage": {
                "prompt_tokens": (len(system) + len(asked)) // 4,
                "completion_tokens": len(said) // 4 + 1,
            },
        },
    }


def extraction(rng: random.Random, k: int, characters: int) -> dict[str, Any]:
    """Return a row whose answer is a JSON object of what its message says."""
    product, order = rng.choice(PRODUCTS), rng.randrange(10**5, 10**7)
    mail = f"{rng.choice(WORDS)}{order % 997}@example.com"
    told = text(rng, characters)
    asked = f"{told}: the {product} of order {order} is late. Write to {mail}"
    return row(EXTRACT, asked, json.dumps({"product": product, "order": order, "mail": mail}), k)


def opinion(rng: random.Random, k: int, characters: int) -> dict[str, Any]:
    """Return a row whose answer is a label."""
    label = rng.choice(tuple(OPINIONS))
    asked = f"{text(rng, characters)}, and {rng.choice(OPINIONS[label])}"
    return row(SORT, asked, label, k)


def text(rng: random.Random, characters: int) -> str:
    """Return words that tell nothing."""
    return " ".join(rng.choices(WORDS, k=max(8, characters // 6)))


def write_log(path: Path, n: int, characters: int) -> None:
    """Write a log of two workloads."""
    rng = random.Random(SEED)
    with path.open("w") as file:
        for k in range(n):
            made = (extraction if k % 2 else opinion)(rng, k, characters)
            file.write(json.dumps(made) + "\n")


def measured(command: list[str]) -> dict[str, float]:
    """Run a command; return its seconds and its peak memory."""
    from time import perf_counter

    start = perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command} failed")
    return {
        "wall_s": round(perf_counter() - start, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
    }


def size(n: int, characters: int) -> None:
    """Measure a log of so many rows, and one of a tenth."""
    found = []
    for rows in (n // 10, n):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            write_log(path, rows, characters)
            commands = {
                "stratos logs": [sys.executable, "-m", "stratos", "logs", str(path)],
                "+task=logs": [sys.executable, "-c", READ, str(path)],
            }
            for name, command in commands.items():
                one = {
                    "rows": rows,
                    "file_mib": round(path.stat().st_size / 2**20, 1),
                    "what": name,
                    **measured(command),
                }
                print(json.dumps(one), flush=True)
                found.append(one)
    record.keep("logs/size", found, seed=SEED)


def answer_of(made: dict[str, Any]) -> dict[str, Any]:
    """Return the message that holds a row's answer."""
    message: dict[str, Any] = made["response"]["choices"][0]["message"]
    return message


def said_of(made: dict[str, Any]) -> dict[str, Any]:
    """Return the object that a row's answer is."""
    said: dict[str, Any] = json.loads(answer_of(made)["content"])
    return said


SPOILT: dict[str, tuple[Doubt | None, bool, Callable[[dict[str, Any]], str]]] = {
    # What is done, the check that is to find it (None: no check can), of extractions or labels.
    "JSON cut off": (Doubt.NO_JSON, True, lambda one: json.dumps(said_of(one))[:-3]),
    "field renamed": (
        Doubt.FIELDS,
        True,
        lambda one: json.dumps(
            {"item" if name == "product" else name: v for name, v in said_of(one).items()}
        ),
    ),
    "number as text": (
        Doubt.TYPES,
        True,
        lambda one: json.dumps({**said_of(one), "order": str(said_of(one)["order"])}),
    ),
    "wrong number": (
        Doubt.NOT_SAID,
        True,
        lambda one: json.dumps({**said_of(one), "order": said_of(one)["order"] + 7}),
    ),
    "refusal": (Doubt.REFUSED, True, lambda one: "I'm sorry, but I can't help with that."),
    "repeated text": (Doubt.LOOPS, False, lambda one: "positive or negative " * 40),
    "label misspelled": (Doubt.RARE, False, lambda one: answer_of(one)["content"][:-1]),
    "another label": (
        None,
        False,
        lambda one: {"positive": "negative", "negative": "neutral", "neutral": "positive"}[
            answer_of(one)["content"]
        ],
    ),
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


def filters(n: int) -> None:
    """Spoil logs, and count what each check finds."""
    result = {
        "logs": [spoilt_log(n, share, seed) for seed, share in enumerate(SHARES, start=1)],
        "replies": [spoilt_replies(n, share, seed) for seed, share in enumerate(SHARES, start=1)],
        "personal": personal(random.Random(SEED)),
    }
    print(json.dumps(result, indent=1))
    record.keep("logs/filters", result, seed=SEED)


def spoilt_rows(n: int, share: float, seed: int) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Spoil a share of a log in each way; return the rows, and place to kind of those spoilt."""
    rng = random.Random(seed)
    rows = [(extraction if k % 2 else opinion)(rng, k, 100) for k in range(n)]
    n_each = round(share * n)
    free = {True: [k for k in range(n) if k % 2], False: [k for k in range(n) if not k % 2]}
    for some in free.values():
        rng.shuffle(some)
    spoilt: dict[int, str] = {}
    for name, (_, is_extraction, spoil) in SPOILT.items():
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
    found = found_in(rows)
    by_kind = []
    for name, why in [
        *((name, why) for name, (why, _, _) in SPOILT.items()),
        (CONTRADICTED, Doubt.CONTRADICTED),
    ]:
        of_kind = {k for k, kind in spoilt.items() if kind == name}
        by_check = {k for k, reason in found.items() if reason == why}
        by_kind.append(
            {
                "kind": name,
                "check": None if why is None else why.value,
                "spoilt": len(of_kind),
                "found_by_any_check": len(of_kind & set(found)),
                "found_by_its_check": len(of_kind & by_check),
                "check_found": len(by_check),
                "check_found_unspoilt": len(by_check - set(spoilt)),
            }
        )
    return {
        "share": share,
        "rows": len(rows),
        "spoilt": len(spoilt),
        "found": len(found),
        "found_unspoilt": len(set(found) - set(spoilt)),
        "kinds": by_kind,
    }


def spoilt_replies(n: int, share: float, seed: int) -> dict[str, Any]:
    """Spoil a share of a log of free texts; return what is found, and of which unspoilt texts."""
    rng = random.Random(seed)
    forms = [rng.choice(tuple(REPLIES)) for _ in range(n)]
    rows = [
        row(REPLY, text(rng, 100), REPLIES[form](k, text(rng, 60)), k)
        for k, form in enumerate(forms)
    ]
    told = {Doubt.REFUSED: "I can't help with that.", Doubt.LOOPS: "we send it and then " * 40}
    spoilt: dict[int, str] = {}
    for why, said in told.items():
        for k in rng.sample([k for k in range(n) if k not in spoilt], round(share * n)):
            answer_of(rows[k])["content"] = said
            spoilt[k] = why
    found = found_in(rows)
    wrongly = Counter(forms[k] for k in found if k not in spoilt)
    kinds = [
        {"kind": kind, "check": why.value, "spoilt": round(share * n),
         "found": sum(found.get(k) == why for k, of in spoilt.items() if of == why)}
        for kind, why in (("refusal", Doubt.REFUSED), ("repeated text", Doubt.LOOPS))
    ]  # fmt: skip
    return {
        "share": share,
        "rows": n,
        "kinds": kinds,
        "unspoilt": Counter(forms),
        "wrongly": wrongly,
    }


def found_in(rows: list[dict[str, Any]]) -> dict[int, Doubt]:
    """Return the places of the doubtful answers of a log, and why they are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
        doubtful = LogTask(str(path)).doubtful
    return {int(one.line.removeprefix("line ")) - 1: why for why, one in doubtful}


def personal(rng: random.Random) -> list[dict[str, Any]]:
    """Plant each form of personal data and each harmless one into texts; count what is found."""
    found: Counter[tuple[str, str]] = Counter()
    wrongly: Counter[tuple[str, str]] = Counter()
    forms = [*((kind, form) for kind, some in PLANTED.items() for form in some)]
    for kind, form in [*forms, *(("", form) for form in HARMLESS)]:
        for _ in range(N_PLANTED):
            kinds = personal_data(f"{text(rng, 100)} {form}, {text(rng, 60)}")
            found[kind, form] += kind in kinds
            wrongly.update((other, form) for other in kinds - {kind})
    return [
        {
            "kind": kind,
            "planted": N_PLANTED * len(some),
            "forms": len(some),
            "found": sum(found[kind, form] for form in some),
            "missed": [form for form in some if found[kind, form] < N_PLANTED],
            "others": N_PLANTED * (len(forms) - len(some) + len(HARMLESS)),
            "wrongly": sum(n for (other, _), n in wrongly.items() if other == kind),
            "mistaken": [form for other, form in wrongly if other == kind],
        }
        for kind, some in PLANTED.items()
    ]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["size", "filters"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--characters", type=int, default=400, help="of a message, about")
    arguments = parser.parse_args()
    if arguments.what == "size":
        size(arguments.rows or 100_000, arguments.characters)
    else:
        filters(arguments.rows or 3000)


if __name__ == "__main__":
    main()
