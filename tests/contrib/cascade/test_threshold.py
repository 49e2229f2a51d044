"""A cascade's threshold: how often its promise is broken, and what it refuses."""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from in_process import stratos
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).parents[2] / "report"))

import factory

from stratos.config import LimitsConfig
from stratos.contrib.cascade.config import CascadeConfig
from stratos.contrib.cascade.group import CascadeGroup
from stratos.contrib.cascade.pairs import Answered, ByTeacher, answered, level, look_of
from stratos.contrib.cascade.stage import pair_of
from stratos.contrib.cascade.threshold import (
    UNREADABLE_ONLY,
    Pair,
    agreement,
    choose,
    is_escalated,
    is_right,
    n_needed,
    p_value,
    thresholds,
)
from stratos.contrib.cascade.verdict import cascade_of
from stratos.contrib.cascade.words import WithCascade, probability
from stratos.evaluate.answers import KeptAnswer, Took, answers_path
from stratos.records import ModelCard, save
from stratos.tasks.base import Score

N_COMPARED = 60
"""Draws for which `choose` is compared with the same in numpy, which is quick enough for all."""


def drawn(rng: np.random.Generator, n: int, teacher: float, informative: float) -> list[Pair]:
    """Draw items on which a student is right as often as its probability says, more or less."""
    sure = rng.beta(3, 1, n)
    right = rng.random(n) < informative * sure + (1 - informative) * sure.mean()
    taught = rng.random(n) < teacher
    unread = rng.random(n) < 0.02
    return [
        Pair(-math.inf if lost else math.log(p), bool(one and not lost), bool(other))
        for p, one, other, lost in zip(sure, right, taught, unread, strict=True)
    ]


@pytest.mark.parametrize(
    ("teacher", "informative", "accuracy"),
    [(0.95, 1.0, 0.85), (0.95, 1.0, 0.9), (0.9, 0.0, 0.8), (0.75, 1.0, 0.7), (0.3, 1.0, 0.7)],
)
def test_the_promise_is_broken_as_seldom_as_is_said(teacher, informative, accuracy):
    """The share that is right of 40,000 items stands for the truth; 1,000 draws choose."""
    rng, n, delta = np.random.default_rng(0), 150, 0.05
    everything = drawn(rng, 40_000, teacher, informative)
    sure, student, taught = (
        np.array([getattr(one, name) for one in everything])
        for name in ("confidence", "student", "teacher")
    )
    right = np.column_stack([
        np.where((sure < one) | np.isinf(sure), taught, student) for one in thresholds()
    ])  # fmt: skip
    assert right[7].tolist() == [is_right(everything[7], one) for one in thresholds()]
    truth = dict(zip(thresholds(), right.mean(axis=0).tolist(), strict=True))
    p_of = [p_value(wrong, n, accuracy) for wrong in range(n + 1)]
    n_draws, broken, promised = 1000, 0, 0
    for draw in range(n_draws):
        places = rng.choice(len(everything), n, replace=False)
        found = chosen(right[places], p_of, delta)
        if found is not None:
            promised += 1
            broken += truth[found] < accuracy
        if draw < N_COMPARED:
            one = choose([everything[i] for i in places.tolist()], accuracy, delta)
            assert one == found
    assert broken <= n_draws * delta + 2.5 * math.sqrt(n_draws * delta * (1 - delta))
    assert accuracy > 0.8 or promised > 100, "a promise that is easy to keep is made often"


@pytest.mark.parametrize(("below", "least", "most"), [(0.001, 0.3, 1.0), (0.03, 0.0, 0.05)])
def test_the_confidence_is_no_share_of_the_promises_given(below, least, most):
    """Just below what both reach together few are given, and many of those broken: as docs say."""
    rng, n, delta, n_draws = np.random.default_rng(1), 500, 0.05, 2000
    everything = drawn(rng, 40_000, 0.95, 1.0)
    sure, student, taught = (
        np.array([getattr(one, name) for one in everything])
        for name in ("confidence", "student", "teacher")
    )
    right = np.column_stack([
        np.where((sure < one) | np.isinf(sure), taught, student) for one in thresholds()
    ])  # fmt: skip
    truth = dict(zip(thresholds(), right.mean(axis=0).tolist(), strict=True))
    accuracy = max(truth.values()) - below
    p_of = [p_value(wrong, n, accuracy) for wrong in range(n + 1)]
    draws = [
        chosen(right[rng.choice(len(right), n, replace=False)], p_of, delta) for _ in range(n_draws)
    ]
    broken = [truth[found] < accuracy for found in draws if found is not None]
    assert sum(broken) <= delta * n_draws, "of all draws"
    assert least <= sum(broken) / len(broken) <= most, "of those that promise"


def chosen(right: np.ndarray, p_of: list[float], delta: float) -> float | None:
    """Return what `choose` does, in other words."""
    wrong = (~right).sum(axis=0).tolist()
    fine = [p_of[one] <= delta / 2 for one in wrong]
    n_down = fine.index(False) if False in fine else len(fine)
    n_up = fine[::-1].index(False) if False in fine else len(fine)
    if n_up:
        return UNREADABLE_ONLY
    return thresholds()[n_down - 1] if n_down else None


def test_the_p_value_is_that_of_the_binomial():
    n, accuracy, wrong = 30, 0.9, 1
    exact = sum(math.comb(n, k) * 0.1**k * 0.9 ** (n - k) for k in range(wrong + 1))
    assert p_value(wrong, n, accuracy) == pytest.approx(exact)
    assert p_value(0, 0, accuracy) == 1.0


def test_what_is_sure_is_kept_and_what_is_not_goes_to_the_teacher():
    pairs = [Pair(-0.001, True, True)] * 300 + [Pair(-2.0, False, True)] * 100
    found = choose(pairs, 0.95, 0.05)
    assert found is not None and -2.0 < found <= -0.001
    assert escalated_and_right(pairs, found) == (100, 400)
    unread = [Pair(-math.inf, False, True)] * 100 + [Pair(-0.001, True, False)] * 300
    found = choose(unread, 0.95, 0.05)
    assert found == UNREADABLE_ONLY and escalated_and_right(unread, found)[0] == 100
    hopeless = [Pair(-0.001, False, True)] * 400
    found = choose(hopeless, 0.95, 0.05)
    assert found is not None and escalated_and_right(hopeless, found) == (400, 400)


def escalated_and_right(pairs: list[Pair], threshold: float) -> tuple[int, int]:
    """Return how many items go to the teacher, and how many the cascade answers right."""
    n_escalated = sum(is_escalated(pair.confidence, threshold) for pair in pairs)
    return n_escalated, sum(is_right(pair, threshold) for pair in pairs)


def test_the_number_that_is_needed_is_the_least():
    n = n_needed(1.0, 0.95, 0.05)
    assert n is not None and p_value(0, n, 0.95) <= 0.025 < p_value(0, n - 1, 0.95)
    assert n_needed(0.95, 0.95, 0.05) is None and n_needed(0.9, 0.95, 0.05) is None
    many = n_needed(0.96, 0.95, 0.05)
    assert many is not None and many > 1000


def run_of(pairs: list[Pair]) -> Answered:
    half = len(pairs) // 2
    return Answered(
        factory.make_plan(), pairs[:half], pairs[half:], 0.02, 0.5,
        sum(one.student for one in pairs) / len(pairs),
        sum(one.teacher for one in pairs) / len(pairs),
    )  # fmt: skip


def test_the_verdict_has_accuracy_share_and_dollars():
    pairs = [Pair(-0.001, True, True), Pair(-0.001, True, True), Pair(-3.0, False, True)] * 200
    found = cascade_of(run_of(pairs), 0.95, 0.95)
    assert found.is_promised and found.escalated is not None
    assert found.escalated.mean == pytest.approx(1 / 3, abs=0.01)
    assert found.measured is not None and found.measured.mean == 1.0
    assert found.usd_per_1000 == pytest.approx(0.02 + 0.5 * found.escalated.mean)
    assert (found.accuracy, found.confidence, found.n_choosing) == (0.95, 0.95, 300)
    assert (found.student_usd_per_1000, found.teacher_usd_per_1000) == (0.02, 0.5)


@pytest.mark.parametrize(
    ("sure", "n_answers", "told"),
    [
        (-2e-5, 1, "Ask the teacher nearly all requests, those where the student's answer has a "
         "probability below 0.999985:"),
        (None, 1, "Ask the teacher all requests: the student's answer has a probability below "),
        (-0.001, 1, "Ask the teacher where the student's answer has a probability below 0.127:"),
        (-0.2, 5, "Ask the teacher where fewer than 4 of 4 drawn answers say the same as the "
         "student's:"),
    ],
)  # fmt: skip
def test_the_verdict_says_when_the_teacher_is_asked(sure, n_answers, told):
    """The student is right where it is surest, and wrong elsewhere."""
    surest, unsure = -1.2e-5 if sure == -2e-5 else -0.001, -3.0 if sure != -2e-5 else -2e-5
    if n_answers > 1:
        surest, unsure = agreement(4, 4), agreement(3, 4)
    share = {-2e-5: 5, None: 0}.get(sure, 60)
    pairs = [
        Pair(surest if i % 100 < share else unsure, i % 100 < share, True) for i in range(1000)
    ]
    found = cascade_of(replace(run_of(pairs), n_answers=n_answers), 0.97, 0.95)
    assert found.is_promised and found.text.startswith(told)


def test_a_probability_below_one_is_never_written_as_one():
    assert [probability(one) for one in (1.0, 1 - 1e-5, 0.9995, 0.63961, 9.358e-14)] == [
        "1", "0.99999", "0.9995", "0.6396", "9.358e-14",
    ]  # fmt: skip
    assert all(probability(math.exp(one)) != "1" for one in thresholds()[1:])


def test_too_few_items_are_refused_with_the_number_that_is_enough():
    few = cascade_of(run_of([Pair(-0.001, True, True)] * 40), 0.95, 0.95)
    assert not few.is_promised and few.n_needed is not None
    assert few.n_needed == 2 * (n_needed(1.0, 0.95, level(0.05, 2)) or 0)
    assert f"evaluate.n_teacher_items={few.n_needed}" in few.text
    here = replace(run_of([Pair(-0.001, True, True)] * 40), folder=Path("my runs/one"))
    again = f"{few.n_needed} hydra.run.dir='my runs/one'."
    assert f"evaluate.n_teacher_items={again}" in cascade_of(here, 0.95, 0.95).text
    there = replace(here, chosen_on="validation")
    number = cascade_of(there, 0.95, 0.95).n_needed
    told = f"cascade.n_items={number} hydra.run.dir='my runs/one'."
    assert told in cascade_of(there, 0.95, 0.95).text
    assert few.most_promised is not None and few.most_promised < 0.95
    assert few.text.endswith(f"enough for a promise of {few.most_promised:.1%}.")
    lower = run_of([Pair(-0.001, True, True)] * 40)
    assert cascade_of(lower, few.most_promised, 0.95).is_promised
    assert not cascade_of(lower, few.most_promised + 0.005, 0.95).is_promised
    none = cascade_of(
        run_of([Pair(-0.001, True, False), Pair(-1.0, False, True)] * 200), 0.95, 0.95
    )
    assert not none.is_promised and none.n_needed is None
    assert none.n_choosing + none.n_measuring == 400


def test_whoever_asks_more_until_it_passes_breaks_it_no_more_often():
    """Student and teacher are right a little less often than promised; six looks, each doubled."""
    rng, accuracy, n_draws, sizes = (
        np.random.default_rng(5),
        0.9,
        1500,
        [100 << i for i in range(6)],
    )
    table = [binom.cdf(np.arange(n + 1), n, 1 - accuracy) for n in sizes]  # as `p_value`
    broken = {"by look": 0, "alike": 0}
    for _ in range(n_draws):
        wrong = np.cumsum(rng.random((2, sizes[-1])) >= 0.899, axis=1)
        p_of = [of[wrong[:, n - 1].min()] for of, n in zip(table, sizes, strict=True)]
        broken["by look"] += any(p <= level(0.05, k) / 2 for k, p in enumerate(p_of, 1))
        broken["alike"] += any(p <= 0.05 / 2 for p in p_of)
    assert broken["by look"] <= 0.05 * n_draws < broken["alike"]


def test_whatever_may_be_tried_again_is_another_look(tmp_path):
    assert look_of(tmp_path, "ab", ["student", "teacher"], None) == 1
    assert look_of(tmp_path, "ab", ["student", "teacher"], ["a 1", "b 0"]) == 1
    assert look_of(tmp_path, "ba", ["student", "teacher"], ["b 0", "a 1"]) == 1
    for look, (ids, facts, answers) in enumerate([
        ("abc", ["student", "teacher"], ["a 1", "b 0", "c 1"]),
        ("ab", ["student", "another"], ["a 1", "b 0"]),
        ("ab", ["trained again", "teacher"], ["a 1", "b 0"]),
        ("ab", ["student", "teacher"], ["a 1", "b 1"]),
    ], 2):  # fmt: skip
        assert look_of(tmp_path, ids, facts, answers) == look
    # Before anybody is asked only items and facts are known.
    assert look_of(tmp_path, "ab", ["student", "teacher"], None) == 1
    assert look_of(tmp_path, "ab", ["another", "teacher"], None) == 6


def test_a_run_whose_student_answers_otherwise_is_looked_at_again(tmp_path):
    folder = make_run(tmp_path / "run")
    assert answered(folder).look == answered(folder).look == 1
    kept = answers_path(folder)
    kept.write_bytes(kept.read_bytes().replace(b'"logprob":-0.001', b'"logprob":-0.002'))
    assert answered(folder).look == 2


def test_all_answers_of_agreement_are_paid_and_waited_for():
    pairs = [Pair(-0.001, True, True), Pair(-0.001, True, True), Pair(-3.0, False, True)] * 200
    asked = {"student_ms": 10.0, "teacher_ms": 100.0, "requests_per_day": 1000.0}
    one = cascade_of(replace(run_of(pairs), **asked), 0.95, 0.95)
    five = cascade_of(replace(run_of(pairs), **asked, n_answers=5), 0.95, 0.95)
    assert five.usd_per_1000 == pytest.approx(one.usd_per_1000 + 4 * 0.02)
    assert five.cascade_ms == pytest.approx(one.cascade_ms + 4 * 10)
    assert one.month is not None and five.month is not None and one.month.student_usd > 0
    more = five.month.cascade_usd - one.month.cascade_usd
    assert more == pytest.approx(4 * one.month.student_usd)
    assert (one.n_answers, five.n_answers) == (1, 5)


def test_what_is_sent_on_is_priced_and_timed_as_it_is_where_that_is_known():
    """A quarter is unsure, and its answers are seven times as long as the others."""
    easy, hard = Pair(-0.001, True, True, 0.001, 1.0), Pair(-3.0, False, True, 0.007, 7.0)
    asked = {"student_ms": 10.0, "teacher_ms": 2500.0, "requests_per_day": 1000.0}
    pairs = [easy, easy, easy, hard] * 200
    known = cascade_of(replace(run_of(pairs), **asked), 0.95, 0.95)
    bare = [replace(one, teacher_usd=None, teacher_seconds=None) for one in pairs]
    mean = cascade_of(replace(run_of(bare), **asked), 0.95, 0.95)
    assert mean.escalated is not None and known.escalated == mean.escalated
    share, higher = mean.escalated.mean, 7 / 2.5
    assert mean.usd_per_1000 == pytest.approx(0.02 + share * 0.5)
    assert known.usd_per_1000 == pytest.approx(0.02 + share * 0.5 * higher)
    assert known.cascade_ms == pytest.approx(10 + share * 2500 * higher)
    assert known.month is not None and mean.month is not None
    servers = mean.month.student_usd
    assert known.month.cascade_usd - servers == pytest.approx(
        higher * (mean.month.cascade_usd - servers)
    )


def test_an_answer_that_comes_too_late_is_the_student_s_or_none():
    sizes = dict.fromkeys(("n_params", "n_layers", "hidden_size", "n_heads", "n_kv_heads"), 1)
    sizes |= dict.fromkeys(("intermediate_size", "vocab_size", "context_length"), 1)
    prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 2.0}
    card = msgspec.convert({"name": "teacher", **sizes, **prices}, ModelCard)
    wait = CascadeConfig(teacher_seconds=5.0)
    fails = replace(wait, if_unavailable="error")
    for seconds, right, student, options, counts in (
        (5.0, True, False, wait, True),
        (6.0, True, False, wait, False),
        (6.0, False, True, wait, True),
        (6.0, True, True, fails, False),
        (4.0, True, False, fails, True),
    ):
        took = Took(1000, 500, seconds)
        pair = pair_of("a", True, -math.inf, student, ByTeacher(right, took), options, card)
        assert (pair.student, pair.teacher, pair.confidence) == (student, counts, None)
        assert (pair.teacher_usd, pair.teacher_seconds) == (pytest.approx(0.002), seconds)


def make_run(folder: Path, n: int = 600) -> Path:
    (folder / "evaluate").mkdir(parents=True)
    factory.write_hydra(folder, [], ["evaluate"])
    records = factory.make_records(folder)
    for stage in ("plan", "evaluate"):
        save(folder / f"{stage}.json", stage, "mark", records[stage])
    kept, rows = [], []
    rng = random.Random(0)
    for i in range(n):
        right = rng.random() < 0.8
        sure = -0.001 if right else -2.0
        score = Score(float(right), 0.0, True)
        kept.append(KeptAnswer(f"{i}", "all", f"q{i}", "g", [], "t", 1, score, logprob=sure))
        teacher = {"exact": 1.0, "f1": 1.0, "parsed": True}
        took = {"input_tokens": 1000, "output_tokens": 500, "seconds": 1.0}
        rows.append(
            {
                "id": f"{i}",
                "teacher": "g",
                "scores": {"teacher": teacher},
                "took": {"teacher": took},
            }
        )
    answers_path(folder).write_bytes(b"\n".join(map(msgspec.json.encode, kept)))
    (folder / "evaluate" / "examples.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    return folder


def test_the_command_reads_what_a_run_kept(tmp_path):
    folder = make_run(tmp_path / "run")

    def call(*words: str) -> tuple[int, str, str]:
        done = stratos("cascade", *words)
        return done.returncode, done.stdout, done.stderr

    run = answered(folder)
    assert run.n == 600 and 250 < len(run.choosing) < 350
    code, text, _ = call(str(folder), "--accuracy", "0.95", "--json")
    found = json.loads(text)
    assert code == 0 and found["is_promised"] and found["measured"]["mean"] == 1.0
    assert found["escalated"]["mean"] == pytest.approx(0.2, abs=0.06)
    code, text, _ = call(str(folder), "--accuracy", "0.999")
    assert code == 1 and "cannot be promised" in text
    for words, told in (
        ((str(tmp_path), "--accuracy", "0.9"), "is no folder of a run"),
        ((str(folder), "--accuracy", "95"), "--accuracy: type a share between 0 and 1"),
    ):
        code, _, error = call(*words)
        assert code == 2 and told in error
    (folder / "evaluate" / "examples.jsonl").write_text("")
    assert "the teacher answered no test item" in call(str(folder), "--accuracy", "0.9")[2]


def test_a_run_that_misses_its_limit_ends_with_what_a_cascade_promises(tmp_path):
    folder = make_run(tmp_path / "run")
    config: Any = SimpleNamespace(limits=LimitsConfig(accuracy=0.95), run_dir=folder)
    remedy = CascadeGroup().remedy(config, {})
    assert isinstance(remedy, WithCascade)
    cascade = remedy.cascade
    assert cascade.is_promised and (cascade.accuracy, cascade.confidence) == (0.95, 0.95)
    assert str(remedy) == f"With a cascade: {cascade.text}"
    assert CascadeGroup().remedy(config, {"cascade": cascade}) is None
    out_of_reach = SimpleNamespace(limits=LimitsConfig(accuracy=0.9999), run_dir=folder)
    assert CascadeGroup().remedy(out_of_reach, {}) is None, "these items cannot promise it"
    config.run_dir = tmp_path
    assert CascadeGroup().remedy(config, {}) is None
