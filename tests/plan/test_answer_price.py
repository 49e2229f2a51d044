"""The price of an answer counts each slice by its share of the rows, not by the turn of a probe."""

from __future__ import annotations

import json

import pytest
from test_worth import HOSTED, PAID, TODAY, of_a_year
from world import replace

from stratos.core.intervals import wilson
from stratos.plan import words
from stratos.plan.alternatives import mean_tokens, price_of_answer
from stratos.plan.worth import verdict_of
from stratos.records import AnswerSpread, Probe, SliceAnswers
from stratos.tasks.base import shares_of_slices
from stratos.tasks.jsonl import JsonlTask

SPREAD = AnswerSpread(20.0, 2.0, 0.5)
SHORT, LONG = (
    SliceAnswers(32, 32 * 50, 32 * 12, SPREAD),
    SliceAnswers(32, 32 * 4000, 32 * 12, SPREAD),
)
"""One row in a hundred is long: the probe asks as many of them as of the short ones."""
ASKED = replace(
    PAID,
    input_tokens=SHORT.input_tokens + LONG.input_tokens,
    output_tokens=SHORT.output_tokens + LONG.output_tokens,
    spread=AnswerSpread(1975.0, 2.0, 0.5),
    exact_by_slice={"long": wilson(30, 32), "short": wilson(30, 32)},
    by_slice={"long": LONG, "short": SHORT},
)
SHARES = {"long": 0.01, "short": 0.99}


def probed(teacher, shares) -> Probe:
    """Return what a probe of one model showed."""
    return replace(of_a_year(1000, (teacher,))[1], shares=shares)


def test_each_slice_counts_by_its_share():
    probe = probed(ASKED, SHARES)
    usd_in, usd_out = (
        HOSTED.usd_per_million_input_tokens / 1e6, HOSTED.usd_per_million_output_tokens / 1e6
    )  # fmt: skip
    found = price_of_answer(probe, ASKED)
    assert mean_tokens(probe, ASKED) == pytest.approx((0.99 * 50 + 0.01 * 4000, 12))
    assert found.mean == pytest.approx(usd_in * 89.5 + usd_out * 12)
    assert found.low < found.mean < found.high < 1.2 * found.mean
    alike = usd_in * 2025 + usd_out * 12
    assert alike > 10 * found.mean, "what the probe's own mean would be"
    half = price_of_answer(probed(ASKED, {"long": 0.5, "short": 0.5}), ASKED)
    assert half.mean == pytest.approx(alike)


def test_the_verdict_is_that_of_the_natural_shares():
    config, probe, plan = of_a_year(5000, (ASKED,))
    told = verdict_of(config, replace(probe, shares=SHARES), plan, TODAY)
    assert told.outcome == "stay" and words.SharesUnknown(2) not in told.notes
    half = verdict_of(config, replace(probe, shares=dict.fromkeys(SHARES, 0.5)), plan, TODAY)
    assert half.outcome == "distil", "as the probe asks them"


def test_where_shares_are_not_known_that_is_said_and_the_range_covers_each_slice(snapshot):
    found = price_of_answer(probed(ASKED, {}), ASKED)
    alone = [price_of_answer(probed(ASKED, {name: 1.0}), ASKED).mean for name in SHARES]
    assert found.low <= min(alone) and max(alone) <= found.high
    config, probe, plan = of_a_year(5000, (ASKED,))
    verdict = verdict_of(config, probe, plan, TODAY)
    assert verdict.outcome == "open" and words.SharesUnknown(2) in verdict.notes


def test_a_slice_of_which_nothing_was_asked_widens_the_range(snapshot):
    less = replace(ASKED, by_slice={"short": SHORT})
    whole, left = (
        price_of_answer(probed(ASKED, SHARES), ASKED),
        price_of_answer(probed(less, SHARES), less),
    )
    assert left.high - left.mean > 0.01 * left.mean and left.mean < whole.mean
    config, probe, plan = of_a_year(5000, (less,))
    verdict = verdict_of(config, replace(probe, shares=SHARES), plan, TODAY)
    [left_out] = [note for note in verdict.notes if isinstance(note, words.SlicesNotAsked)]
    assert left_out.share == pytest.approx(0.01)


def test_shares_are_those_of_all_rows_not_of_the_first_items(tmp_path):
    path = tmp_path / "rows.jsonl"
    kinds = ["short" if i % 20 else "long" for i in range(2000)]
    rows = [{"question": f"Say {i}", "answer": f"{i}", "kind": one} for i, one in enumerate(kinds)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = JsonlTask(path=str(path), slice="kind", slices=("short", "long"))
    first = [one.slice for one in task.items("validation", 10)]
    assert first.count("long") == 5
    assert shares_of_slices(task)["long"] == pytest.approx(0.05, abs=0.02)
    assert shares_of_slices(JsonlTask(path=str(path))) == {}
