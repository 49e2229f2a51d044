"""Logs: how long a large one takes, and what the filters find in one with known corruption.

    python benchmarks/logs.py size [--rows 100000] [--characters 400]
    python benchmarks/logs.py filters [--rows 3000]

`size` writes a log, and reads it with `python -m stratos.logs` and as `+task=logs`, each in a
process of its own whose CPU time and peak resident memory the kernel counts. `filters` spoils a
known share of the rows in each of nine ways, and counts what each check of `task.answers=verify`
finds of its kind, and what else it finds.
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

import record

from stratos.logs.personal import CARD, EMAIL, IBAN, PHONE, personal_data
from stratos.tasks.messages import LogTask
from stratos.tasks.messages import answer_checks as checks

READ = """
import sys
from stratos.tasks.messages import LogTask
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
                "python -m stratos.logs": [sys.executable, "-m", "stratos.logs", str(path)],
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


SPOILT: dict[str, tuple[str | None, bool, Callable[[dict[str, Any]], str]]] = {
    # What is done, the check that is to find it (None: no check can), of extractions or labels.
    "JSON cut off": (checks.NO_JSON, True, lambda one: json.dumps(said_of(one))[:-3]),
    "field renamed": (
        checks.FIELDS,
        True,
        lambda one: json.dumps(
            {"item" if name == "product" else name: v for name, v in said_of(one).items()}
        ),
    ),
    "number as text": (
        checks.TYPES,
        True,
        lambda one: json.dumps({**said_of(one), "order": str(said_of(one)["order"])}),
    ),
    "wrong number": (
        checks.NOT_SAID,
        True,
        lambda one: json.dumps({**said_of(one), "order": said_of(one)["order"] + 7}),
    ),
    "refusal": (checks.REFUSED, True, lambda one: "I'm sorry, but I can't help with that."),
    "repeated text": (checks.LOOPS, False, lambda one: "positive or negative " * 40),
    "label misspelled": (checks.RARE, False, lambda one: answer_of(one)["content"][:-1]),
    "another label": (
        None,
        False,
        lambda one: {"positive": "negative", "negative": "neutral", "neutral": "positive"}[
            answer_of(one)["content"]
        ],
    ),
}
CONTRADICTED = "asked three times, one answer wrong"
PLANTED = {
    EMAIL: ("jo.doe@mail.example", "a.b@c.example.org"),
    PHONE: ("+49 30 1234567", "(212) 555-0147-22", "+1 415 555 2671"),
    CARD: ("4111 1111 1111 1111", "5500 0000 0000 0004", "378282246310005"),
    IBAN: ("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"),
}
HARMLESS = ("order 48213377", "2024-05-06", "version 3.14.159", "1,234,567", "192.168.10.12",
            "4111 1111 1111 1112", "ab12cd34", "50% of 12 345")  # fmt: skip


def filters(n: int) -> None:
    """Spoil logs, and count what each check finds."""
    result = {
        "logs": [spoilt_log(n, share, seed) for seed, share in enumerate(SHARES, start=1)],
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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text("".join(f"{json.dumps(one)}\n" for one in rows))
        task = LogTask(str(path))
    found = {int(one.line.removeprefix("line ")) - 1: why for why, one in task.doubtful}
    by_kind = []
    for name, why in [
        *((name, why) for name, (why, _, _) in SPOILT.items()),
        (CONTRADICTED, checks.CONTRADICTED),
    ]:
        of_kind = {k for k, kind in spoilt.items() if kind == name}
        by_check = {k for k, reason in found.items() if reason == why}
        by_kind.append(
            {
                "kind": name,
                "check": why,
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


def personal(rng: random.Random) -> list[dict[str, Any]]:
    """Plant personal data into texts, and harmless numbers into others; count what is found."""
    found: Counter[tuple[str, str]] = Counter()
    texts = 200
    for kind, forms in PLANTED.items():
        for _ in range(texts):
            kinds = personal_data(f"{text(rng, 100)} {rng.choice(forms)}, {text(rng, 60)}")
            found[kind, "found"] += kind in kinds
            found.update((other, "wrongly") for other in kinds - {kind})
    for _ in range(texts):
        for other in personal_data(f"{text(rng, 100)} {rng.choice(HARMLESS)}, {text(rng, 60)}"):
            found[other, "wrongly"] += 1
    return [
        {"kind": kind, "planted": texts, "found": found[kind, "found"],
         "wrongly": found[kind, "wrongly"]}
        for kind in PLANTED
    ]  # fmt: skip


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
