"""A perfect teacher behind an endpoint that cuts at `max_tokens` is found to be perfect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import KEY
from perfect_server import GSM8K, PerfectServer, gsm8k_solutions

from stratos.records import Envelope, Plan, Probe, corpus_rows, from_json

pytestmark = pytest.mark.skipif(not GSM8K.is_dir(), reason="no GSM8K beside the checkout")

N_ITEMS = 48


@pytest.fixture(scope="module")
def solutions() -> dict[str, str]:
    return gsm8k_solutions()


@pytest.fixture
def server(solutions: dict[str, str]) -> Iterator[PerfectServer]:
    with PerfectServer(solutions) as running:
        yield running


def command(folder: Path, server: PerfectServer, *words: str) -> str:
    """Run the command as a user types it; return what it says."""
    argv = [
        *(sys.executable, "-m", "stratos", "logger=none", f"hydra.run.dir={folder / 'run'}"),
        *("teacher=endpoint", f"teacher.base_url={server.base_url}", "teacher.model=parrot-large"),
        *("teacher.api_key_env=PARROT_KEY", "teacher.accept_terms=true", "cloud=aws"),
        *(f"probe.n_items={N_ITEMS}", f"probe.max_items={N_ITEMS}", *words),
    ]
    env = {**os.environ, "STRATOS_CACHE": str(folder / "cache"), "PARROT_KEY": KEY}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(folder: Path, stage: str, kind: Any) -> Any:
    envelope = from_json((folder / "run" / f"{stage}.json").read_bytes(), Envelope)
    return from_json(bytes(envelope.record), kind)


def rows(folder: Path, solutions: dict[str, str], with_solution: bool) -> Path:
    """Write a user's file of 300 problems: with their solutions, or with the numbers alone."""
    path = folder / "problems.jsonl"
    lines = [
        {"question": question, "answer": text if with_solution else text.rpartition("####")[2]}
        for question, text in list(solutions.items())[:300]
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.mark.slow
def test_gsm8k(tmp_path, server):
    files = (f"task.path={GSM8K / 'train.jsonl'}", f"task.test_path={GSM8K / 'test.jsonl'}")
    said = command(
        tmp_path, server, "+task=gsm8k", *files, "strategy=alignment", "strategy.n_items=200",
        "student=stratos_300k", "stages=[probe,plan,synthesize]",
    )  # fmt: skip
    [found] = record(tmp_path, "probe", Probe).teachers
    assert found.exact.mean >= 0.95, said
    assert (found.n_truncated, found.is_cut_short) == (0, False)
    # The plan hands on the longest answer, and the corpus has whole solutions.
    assert record(tmp_path, "plan", Plan).max_tokens[found.prompt] == found.max_tokens
    corpus = list(corpus_rows(tmp_path / "run" / "corpus" / "train.jsonl"))
    assert len(corpus) >= 0.95 * 200 - 10, said
    assert all(row.completion == server.solutions[row.question] for row in corpus)
    asked = {body["max_tokens"] for body in server.requests}
    assert min(asked) >= 400


@pytest.mark.parametrize("with_solution", [True, False])
def test_a_file_of_ones_own(tmp_path, server, with_solution, solutions):
    """Where only the numbers are known the model is asked for those, and chats all the same."""
    path = rows(tmp_path, solutions, with_solution)
    split = ("'task.split_answer=\"####\"'".strip("'"),) if with_solution else ()
    said = command(
        tmp_path, server, "+task=jsonl", f"task.path={path}", "task.metric=numeric", *split,
        "stages=[probe]",
    )  # fmt: skip
    [found] = record(tmp_path, "probe", Probe).teachers
    assert found.exact.mean >= 0.95, said
    assert not found.is_cut_short
    assert all(trial.exact >= 0.95 for trial in found.trials), said
    assert "cut short" not in said


@pytest.mark.slow
def test_a_server_that_always_cuts_is_named_beside_the_number(tmp_path, server):
    server.cuts_at = 16
    files = (f"task.path={GSM8K / 'train.jsonl'}", f"task.test_path={GSM8K / 'test.jsonl'}")
    said = command(
        tmp_path,
        server,
        "+task=gsm8k",
        *files,
        "student=stratos_1m",
        "stages=[probe,plan]",
        "--verbose",
    )
    [found] = record(tmp_path, "probe", Probe).teachers
    assert found.is_cut_short and found.n_truncated > 0.9 * found.n_items
    said = " ".join(said.split())
    assert f"right ({found.n_truncated} of {found.n_items} answers cut short)" in said
    assert said.count("were cut short at") == 1
    assert f"{found.n_truncated} of {found.n_items} answers were cut" in said
    assert "check its endpoint's own limit." in said
    # What was settled once is not tried again and again.
    longest = max(body["max_tokens"] for body in server.requests)
    assert len([1 for body in server.requests if body["max_tokens"] == longest]) <= 32


@pytest.mark.slow
def test_a_limit_of_the_user_is_kept_to_and_its_cuts_are_said(tmp_path, server):
    files = (f"task.path={GSM8K / 'train.jsonl'}", f"task.test_path={GSM8K / 'test.jsonl'}")
    said = command(
        tmp_path,
        server,
        "+task=gsm8k",
        *files,
        "stages=[probe]",
        "probe.max_tokens=32",
        "--verbose",
    )
    assert {body["max_tokens"] for body in server.requests} <= {32, 8}
    [found] = record(tmp_path, "probe", Probe).teachers
    assert found.is_cut_short and found.max_tokens == 32
    assert "at 32 tokens (probe.max_tokens=32)" in " ".join(said.split())
