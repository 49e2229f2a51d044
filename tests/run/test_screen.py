"""What six real runs print, as someone reads it who sees it for the first time.

`pytest tests/run/test_screen.py --snapshot-update` writes them again; then read them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stratos.records import LoadResult
from stratos.run.screen import lines_of
from tests.in_process import stratos
from tests.report.factory import make_records
from tests.teachers.chat_server import KEY, ChatServer

MOST_LINES, MOST_CHARACTERS, MOST_WORDS = 25, 100, 300
WORDS = {
    "card": ("card", "pin", "plastic", "chip", "contactless"),
    "transfer": ("transfer", "wire", "iban", "payee", "send"),
    "account": ("account", "balance", "statement", "open", "close"),
}
FILLERS = (
    "please",
    "my",
    "the",
    "help",
    "with",
    "today",
    "again",
    "why",
    "is",
    "it",
    "not",
    "here",
)
DEPLOY = ("deploy.n_requests=4", "deploy.load_seconds=1")
VARYING = (
    (re.compile(r"\n {11}(?! )"), " "),
    (re.compile(r"missed .*\n"), ""),
    (re.compile(r" +\(made before\)"), " (made before)"),
    (re.compile(r"\b[\d.]+(e-\d+)? (h|min|s|ms)\b( \d\d (min|s)\b)?"), "#"),
    (re.compile(r"\b[\d.]+ [kM]B\b"), "# bytes"),
    # Which plans are dominated depends on the times that were measured.
    (
        re.compile(r"best of \d+ plans in [a-z, ]+|the only plan within the limits"),
        "best of # plans",
    ),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:####"),
)
"""What is not compared: where a line is broken, what is measured; and what stands in its place."""


def write_rows(
    path: Path, n: int, share_known: float = 1.0, *, seed: int = 0, has_labels: bool = True
) -> None:
    """Write questions of three labels; of the others a word of any label, as chance has it."""
    draw = random.Random(seed)
    rows = []
    for number in range(n):
        label = draw.choice(list(WORDS))
        seen = label if draw.random() < share_known else draw.choice(list(WORDS))
        words = [*draw.sample(FILLERS, 6), draw.choice(WORDS[seen]), str(number)]
        draw.shuffle(words)
        rows.append({"text": " ".join(words), **({"label": label} if has_labels else {})})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class LabellingServer(ChatServer):
    """A teacher that knows the label of a question by its words."""

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        reply = super()._completion(body)
        words = {*body["messages"][-1]["content"].split()}
        label = next((label for label, known in WORDS.items() if words & {*known}), "card")
        reply["choices"][0]["message"]["content"] = label
        return reply


ONE = "~student.candidates.static"
"""Of two students that are as accurate, the one is planned that was measured to answer sooner."""


def type_words(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Return what a run prints, without what differs from machine to machine."""
    done = stratos(
        "+task=classify", "task.path=tickets.jsonl", "~student.candidates.encoder", "logger=none",
        "hydra.run.dir=run", *words, cwd=folder,
        env={"STRATOS_CACHE": str(folder / "cache"), **(env or {})},
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert len(printed.splitlines()) <= MOST_LINES
    assert max(map(len, done.stdout.splitlines())) <= MOST_CHARACTERS
    assert len(printed.split()) <= MOST_WORDS
    for pattern, shown in VARYING:
        printed = pattern.sub(shown, printed)
    return printed.replace(str(folder), "FOLDER")


@pytest.mark.slow
def test_a_good_run(tmp_path, snapshot):
    write_rows(tmp_path / "tickets.jsonl", 240, share_known=0.9)
    assert type_words(tmp_path, *DEPLOY) == snapshot
    assert type_words(tmp_path, *DEPLOY, "--quiet") == snapshot(name="quiet")


@pytest.mark.slow
def test_a_poor_run(tmp_path, snapshot):
    write_rows(tmp_path / "tickets.jsonl", 240, share_known=0.2)
    assert type_words(tmp_path, "deploy=none") == snapshot


def test_a_run_that_is_refused(tmp_path, snapshot):
    write_rows(tmp_path / "tickets.jsonl", 240)
    assert type_words(tmp_path, "limits.accuracy=0.999", ONE) == snapshot


def test_a_run_over_its_budget(tmp_path, snapshot):
    write_rows(tmp_path / "tickets.jsonl", 240)
    assert type_words(tmp_path, "cloud=aws", "limits.budget_usd=0.05", ONE) == snapshot


@pytest.mark.slow
def test_a_run_that_is_killed_and_goes_on(tmp_path, snapshot, monkeypatch):
    write_rows(tmp_path / "tickets.jsonl", 240)

    def terminated(*arguments: Any, **named: Any) -> None:
        raise SystemExit(143)  # as where SIGTERM ends a stage

    with monkeypatch.context() as patch:
        patch.setattr("stratos.evaluate.stage.evaluate", terminated)
        assert type_words(tmp_path, "deploy=none", ONE) == snapshot(name="killed")
    assert type_words(tmp_path, "deploy=none", ONE) == snapshot(name="goes on")


@pytest.mark.slow
def test_a_run_with_a_hosted_teacher(tmp_path, snapshot):
    write_rows(tmp_path / "tickets.jsonl", 240, share_known=0.9, seed=2)
    write_rows(tmp_path / "more.jsonl", 100, seed=1, has_labels=False)
    with LabellingServer() as server:
        printed = type_words(
            tmp_path, "deploy=none", "task.unlabelled_path=more.jsonl", "teacher=endpoint",
            "teacher.model=parrot-large", f"teacher.base_url={server.base_url}",
            "teacher.usd_per_million_input_tokens=1", "teacher.usd_per_million_output_tokens=4",
            "teacher.outputs_may_train=true", "limits.budget_usd=5",
            "traffic.requests_per_day=20000", "teacher.api_key_env=KEY_OF_TEST",
            env={"KEY_OF_TEST": KEY},
        )  # fmt: skip
    assert printed == snapshot


def test_how_to_leave_the_load_test_out_is_said_where_there_was_one(tmp_path):
    deployment = replace(make_records(tmp_path)["deploy"], load=None)
    tried = LoadResult(9.0, 900, 100.0, True, 1.0, 1.0, 9.0, 12.0, 30.0, ())
    [without] = lines_of(deployment)
    [served, _] = lines_of(replace(deployment, load=tried))
    assert "deploy.load_seconds=0" in served.text and "load" not in without.text


@pytest.mark.parametrize(("n", "shown"), [(1, "1 row without"), (260, "260 rows without")])
def test_rows_that_are_left_out_are_counted_in_their_number(n, shown, tmp_path):
    made = make_records(tmp_path)["synthesize"]
    corpus = replace(
        made, strategy="supervised", refused={"row without an answer": n}, n_by_source={}
    )
    [line] = lines_of(corpus)
    assert f"{n} left out ({shown} an answer)" in line.text


def test_a_slice_that_is_surely_worse_is_named(tmp_path):
    card = make_records(tmp_path)["evaluate"]
    [test] = [line.text for line in lines_of(card) if line.name == "test"]
    assert "by slice" not in test
    student, *more = card.scores
    rows = tuple(
        replace(row, exact=replace(row.exact, mean=0.0, low=0.0, high=0.008))
        if row.slice == "general"
        else row
        for row in student.slices
    )
    worse = replace(card, scores=(replace(student, slices=rows), *more))
    [test] = [line.text for line in lines_of(worse) if line.name == "test"]
    assert "The student by slice: general 0.0% of 500, full_flush 99.4% of 500." in test
