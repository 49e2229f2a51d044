"""Turns of one conversation count as often as they are independent."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from in_process import stratos

from stratos.contrib.gate import command
from stratos.contrib.gate.command import Compared, Counts, ExactTest, Frozen, Side, Together
from stratos.evaluate.answers import KeptAnswer
from stratos.tasks.base import Score


def answers(right: list[bool], conversations: list[str], slices: str = "ab") -> list[KeptAnswer]:
    return [
        KeptAnswer(str(k), slices[k % len(slices)], f"q{k}", "g", [], "t", 1,
                   Score(float(is_right), 0.0, True), -0.1, conversation=conversation)
        for k, (is_right, conversation) in enumerate(zip(right, conversations, strict=True))
    ]  # fmt: skip


def compared(ours: list[KeptAnswer], theirs: list[KeptAnswer]) -> Compared:
    new, old = (Side(Path("x"), {(a.question, a.gold): a for a in some}) for some in (ours, theirs))
    test, frozen = ExactTest(0.02, 0.05), Frozen.of([*old.answers])
    return command.compare(new, old, frozen, test, lambda *_: None)


def test_items_by_themselves_are_tested_as_they_are():
    right, wrong = [k % 10 > 0 for k in range(200)], [k % 7 > 0 for k in range(200)]
    for conversations in ([""] * 200, [*map(str, range(200))]):
        found = compared(answers(right, conversations), answers(wrong, conversations))
        assert found.test == ExactTest(0.02, 0.05)
    assert Together().worth(7, 3, 2) == (7, 3, 2) and Together().level(0.05) == 0.05


def test_turns_that_are_answered_alike_count_once_a_conversation():
    alike = Together.of([1] * 4 + [0] * 4 + [-1] * 4, [*"aaaabbbbcccc"])
    assert alike == Together(4.0, 3) and alike.worth(12, 4, 4) == (3, 1, 1)
    apart = Together.of([1, -1, 1, -1] * 3, [*"aaaabbbbcccc"])
    assert apart == Together(1.0, 3), "fewer than all are never worth more"
    assert Together(4.0, 3).worth(12, 5, 7) == (3, 2, 1), "rounded against the verdict"
    assert Together(2.0, 1).level(0.05) == 0 and 0 < Together(2.0, 3).level(0.05) < 0.05


def test_few_conversations_pass_nobody_whom_as_many_items_pass():
    right = [True] * 160
    own = compared(answers(right, [""] * 160), answers(right, [""] * 160))
    turns = [str(k // 8) for k in range(160)]
    together = compared(answers(right, turns), answers(right, turns))
    assert (own.outcome, together.outcome) == ("no worse", "cannot tell")
    needed = together.test.n_needed(together.counts)
    assert needed is not None and needed > 160


@pytest.mark.slow
def test_verdicts_are_as_rarely_wrong_as_is_said(monkeypatch):
    """At a difference of delta each is wrong; 20 conversations of 8 turns, correlation 0.3."""
    monkeypatch.setattr(command, "p_value", lru_cache(None)(command.p_value))
    rng, margin, n, n_wrong = np.random.default_rng(0), 0.05, 150, np.zeros(2)
    shares = [0.08 + margin, 0.08, 0.84 - margin]
    names = [str(k // 8) for k in range(160)]
    for _ in range(n):
        own = rng.choice([1, -1, 0], (20, 1), p=shares)
        each = rng.choice([1, -1, 0], (20, 8), p=shares)
        found = np.where(rng.random((20, 8)) < 0.3**0.5, own, each).ravel().tolist()
        counts = Counts(found.count(1), found.count(-1), found.count(0))
        together = Together.of(found, names)
        outcome = ExactTest(margin, 0.05, together).outcome(counts)
        n_wrong += (outcome == "no worse", outcome == "worse")
    assert n_wrong.max() <= 0.05 * n + 2.5 * (0.05 * 0.95 * n) ** 0.5


def test_the_command_counts_each_kind_of_turn(tmp_path):
    encode = command.msgspec.json.encode
    turns = [str(k // 4) for k in range(400)]
    for name, n_right in (("old", 380), ("new", 300)):
        kept = answers([k < n_right for k in range(400)], turns)
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(map(encode, kept)))
    done = stratos("gate", "new.jsonl", "--against", "old.jsonl", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    lost = {"only_reference": 40, "only_candidate": 0, "alike": 160}
    assert found["by_kind"] == {"a": lost, "b": lost}
    assert (found["outcome"], found["n_conversations"]) == ("worse", 100)
    assert found["design_effect"] == pytest.approx(4)
    told = stratos("gate", "new.jsonl", "--against", "old.jsonl", cwd=tmp_path).stdout.splitlines()
    assert "100 conversations" in told[0] and told[1].startswith("a: -20.0 points on 200 items")
