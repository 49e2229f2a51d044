"""`stratos logs`: workloads told apart, what they cost, what to run next."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from in_process import stratos
from syrupy.assertion import SnapshotAssertion

from stratos.contrib.logs.command import lines_of, survey
from stratos.contrib.logs.teacher import shipped_card
from stratos.core.redact import CARD, EMAIL, IBAN, ID, PHONE, kinds_in
from stratos.teachers.openai_settings import card_of

EXTRACT = "Extract product and order from the message of a customer, as one JSON object."
SORT = "Say whether the review that the user sends is positive or negative, in one word."
START = 1_760_000_000
DAY = 86_400
WORDS = [f"{one}{two}{three}" for one in "bdklm" for two in "aeiou" for three in "nrstwxyz"]


def exchange(system: str | None, asked: str, said: str, time_s: float) -> dict[str, Any]:
    told = [] if system is None else [{"role": "system", "content": system}]
    return {
        "created": time_s,
        "model": "gpt-4o-2024-08-06",
        "messages": [*told, {"role": "user", "content": asked}],
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }


@pytest.fixture
def log(tmp_path: Path) -> str:
    rng = random.Random(0)
    rows: list[Any] = []
    for k in range(200):
        text = " ".join(rng.choices(WORDS, k=12))
        said = '{"product": "mug"' + ("}" if k % 20 else "")
        rows.append(exchange(EXTRACT, f"{text} mail a{k}@b.com", said, START + k * DAY / 10))
        if k % 2:
            label = rng.choice(["positive", "negative"])
            rows.append(exchange(SORT, text, label, START + k * DAY / 10))
        if k % 10 == 0:
            rows.append(exchange(None, " ".join(rng.choices(WORDS, k=12)), text, START))
    rows += [rows[0], {"messages": [rows[0]["messages"][1]]}]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"messages": [\n')
    return str(path)


def test_workloads_are_told_apart_and_counted(log: str) -> None:
    found = survey(log)
    sizes = {(one.system if one.workload else None): one.n for one in found.workloads}
    assert sizes == {EXTRACT: 201, SORT: 100, None: 20}
    extract, sort, _ = found.workloads
    assert (extract.n_json, extract.n_like_json, extract.n_copies) == (190, 201, 1)
    assert extract.personal == {EMAIL: 201} and not sort.personal
    assert extract.input_tokens == 201_000 and extract.n_counted == 201
    assert (found.broken.n_lines, found.unanswered.n_lines) == (1, 1)


def printed(log: str, card: str | None = None) -> str:
    """Return what is printed of a file, whose place and date of prices are left out."""
    priced = None if card is None else shipped_card(card, "--card ")
    text = "\n".join(lines_of(survey(log), priced))
    return re.sub(r"\d{4}-\d\d-\d\d\)", "DATE)", text.replace(str(Path(log).parent), "FOLDER"))


def test_what_is_printed_says_dollars_a_month_and_the_command(
    log: str, snapshot: SnapshotAssertion
) -> None:
    text = "\n".join(lines_of(survey(log), None))
    card = shipped_card("gpt_4o", "--card ")
    assert card.usd_per_million_input_tokens and card.usd_per_million_output_tokens
    usd = (
        card.usd_per_million_input_tokens * 201_000 + card.usd_per_million_output_tokens * 20_100
    ) / 1e6
    assert f"cost: ${usd * 30 / 19.9:,.2f} a month (${usd:,.2f} for these rows" in text
    assert printed(log) == snapshot
    id = next(
        one.workload.id for one in survey(log).workloads if one.system == SORT if one.workload
    )
    assert f"+task=logs task.path={log} task.workload={id} task.on_error=skip" in text


def test_the_command_that_is_printed_passes_the_check(
    log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from hydra._internal.utils import get_args_parser

    from stratos.cli.check import check

    spaced = Path(log).with_name("my log, of May.jsonl")
    Path(log).rename(spaced)
    lines = [line.strip() for line in lines_of(survey(str(spaced)), None)]
    commands = [line for line in lines if line.startswith("next: python -m stratos ")]
    assert len(commands) == 2
    argv = shlex.split(commands[0].removeprefix("next: python -m stratos "))
    monkeypatch.chdir(spaced.parent)
    check(get_args_parser().parse_args(argv))


def test_a_log_without_prices_and_times_says_so(
    tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    rows = [
        {"prompt": " ".join(random.Random(k).choices(WORDS, k=9)), "completion": "yes"}
        for k in range(60)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert [printed(str(path)), printed(str(path), "gpt_4o")] == snapshot


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to ann.lee+x@mail.example.org.", {EMAIL}),
        ("call +49 30 1234567 or (030) 123-4567-89", {PHONE}),
        ("card 4111 1111 1111 1111", {CARD}),
        ("card 4111 1111 1111 1112", set()),
        ("DE89 3704 0044 0532 0130 00", {IBAN}),
        ("ssn 078-05-1120", {ID}),
        ("order 123456789012 of 2024-05-06 10:00, 3.14159265, 1,000,000 and 192.168.0.1", set()),
        ("x @ y, 10.5281/zenodo.1234567", set()),
        ("0170-1234567", {PHONE}),
        ("at 030/1234567", {PHONE}),
        ("at (030) 1234567", {PHONE}),
        ("06-12-34-56-78 or so", {PHONE}),
        ("please call me at 4155552671", {PHONE}),
        ("order 4155552671, invoice 0012345678", set()),
        ("card 2223 0031 2200 3222", {CARD}),
        ("IMEI 490154203237518 and 356938035643809", set()),
        ("de89370400440532013000 and DE89-3704-0044-0532-0130-00", {IBAN}),
        ("BE68 5390 0754 7034 now", {IBAN}),
        ("52.5200 13.4050, 100 000 000, 192.168.10.12/24, 21-19 21-17 21-15", set()),
        ("git@github.com:a/b, user@v1.2.3, 2024-05-06/2024-05-09", set()),
    ],
)
def test_personal_data_are_known_by_their_form(text: str, kinds: set[str]) -> None:
    assert kinds_in(text) == kinds


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "gpt_4o"),
        ("gpt-4o-2024-08-06", "gpt_4o"),
        ("openai/gpt-4o-mini", "gpt_4o_mini"),
        ("gpt-4o-audio", None),
        ("", None),
    ],
)
def test_a_model_has_the_card_of_its_name(model: str, name: str | None) -> None:
    card = card_of(model)
    assert (card and card.name) == name


def test_the_command_reads_and_says_what_cannot_be_read(log: str) -> None:
    done = stratos("logs", log)
    assert done.returncode == 0 and "2. system prompt" in done.stdout and not done.stderr
    done = stratos("logs", log.replace("log.jsonl", "logs.jsonl"))
    assert done.returncode == 1 and "Did you mean" in done.stderr
    done = stratos("logs", log, "--card", "gpt4o")
    assert done.returncode == 1 and "Did you mean gpt_4o" in done.stderr


PLAIN_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d[\d ()./-]{5,22}\d(?![\w])")
PLAIN_MAIL = re.compile(r"[\w.+'&-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}\b(?!:[\w/~])")


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_calls_of_tools_without_usage_are_told_by_their_length(tmp_path: Path, usage: Any) -> None:
    tool = {"name": "send", "description": "Send a text. " * 50}
    call = {"name": "send", "arguments": json.dumps({"text": "hello " * 200})}
    rows = []
    for k in range(60):
        row = exchange(EXTRACT, f"Question {k}", "", START + k * DAY)
        row |= {"usage": usage, "tools": [{"type": "function", "function": tool}]}
        row["choices"][0]["message"]["tool_calls"] = [{"id": "c", "function": call}]
        rows.append(row)
    rows[7]["created"], rows[8]["created"] = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    [facts] = survey(str(path)).workloads
    assert facts.input_tokens / 60 > 50 * 13 / 4 and facts.output_tokens / 60 > 1200 / 4
    assert facts.n_counted == 0 and facts.n_timed == 58
    told = "\n".join(lines_of(survey(str(path)), None))
    assert "$0.00 a month" not in told and " a month" in told
