"""Items that choose and measure a cascade are drawn as requests are."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

import pytest

from stratos import config as c
from stratos.contrib.cascade import choosing_items as budget
from stratos.contrib.cascade.choosing_items import (
    can_promise,
    check_enough,
    choosing_items,
    measuring_items,
)
from stratos.contrib.cascade.group import CascadeGroup
from stratos.contrib.cascade.pairs import in_shares, level
from stratos.contrib.cascade.threshold import n_needed
from stratos.core.errors import StratosError
from stratos.tasks.jsonl import JsonlTask


def share(items: list[Any]) -> float:
    return sum(one.slice == "hard" for one in items) / len(items)


def test_a_rare_slice_has_its_share_of_the_items_that_choose_and_measure(tmp_path, monkeypatch):
    rng = random.Random(3)
    rows = [
        {
            "question": f"q {i}",
            "answer": str(i % 7),
            "kind": "hard" if rng.random() < 0.1 else "easy",
        }
        for i in range(8000)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask(name="own", path=str(path), slice="kind", slices=("easy", "hard"))
    monkeypatch.setattr(budget, "n_payable", lambda probed, most, limit_usd, limits: most)
    config: Any = SimpleNamespace(
        task=task, callbacks=c.CallbacksConfig(n_validation_items=64, n_final_validation_items=32),
        rooms={"cascade": CascadeGroup(accuracy=0.95)}, evaluate=c.EvaluateConfig(n_items=500),
        limits=c.LimitsConfig(),
    )  # fmt: skip
    probe: Any = SimpleNamespace(teachers=[SimpleNamespace(n_items=16)])
    everything = task.items("validation", 10_000)
    choosing, left_out = choosing_items(config, probe, probe)
    read = {one.id for one in task.items("validation", 64 + 32)}
    assert left_out == 0 and not read & {one.id for one in choosing}
    assert len(choosing) > 200 and abs(share(choosing) - share(everything)) < 1 / len(choosing)
    asked = task.items("test", 500)
    assert share(asked) > 0.15, "the slices alternate"
    scorecard: Any = SimpleNamespace(seed=0)
    tested, _ = measuring_items(config, scorecard, {one.id for one in asked})
    whole = share(task.items("test", 10_000))
    assert len(tested) > 250 and abs(share(tested) - whole) < 1 / len(tested)


def test_where_a_slice_is_used_up_fewer_are_taken_of_all():
    slice_of = {f"e{i}": "easy" for i in range(960)} | {f"h{i}": "hard" for i in range(40)}
    able = [one for one in slice_of if one not in {f"h{i}" for i in range(30)}]
    drawn = in_shares(slice_of, able, 1000)
    assert len(drawn.ids) == 250 and sum(one[0] == "h" for one in drawn.ids) == 10
    assert not in_shares(slice_of, [f"e{i}" for i in range(900)], 100).ids
    # A slice that hardly any request is of does not hold up the others: it counts as wrong.
    slice_of = {f"e{i}": "easy" for i in range(997)} | {f"h{i}": "hard" for i in range(3)}
    drawn = in_shares(slice_of, [f"e{i}" for i in range(900)], 500)
    assert len(drawn.ids) == 500 and drawn.left_out == pytest.approx(0.003)


def test_a_share_that_is_no_whole_number_is_right_on_average():
    slice_of = {f"e{i}": "easy" for i in range(970)} | {f"h{i}": "hard" for i in range(30)}
    n_hard = [
        sum(one[0] == "h" for one in in_shares(slice_of, [*slice_of][: 1000 - k], 50).ids)
        for k in range(1, 21)
    ]
    assert {*n_hard} == {1, 2} and 1.2 < sum(n_hard) / len(n_hard) < 1.8


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("left_out", [0.0, 0.004])
def test_the_plan_counts_as_many_items_as_a_first_look_needs(accuracy, left_out):
    promise = CascadeGroup(accuracy=accuracy, confidence=0.9)
    least = n_needed(1.0, accuracy / (1 - left_out), level(0.1, 1))
    assert least is not None
    assert can_promise(least, promise, left_out) and not can_promise(least - 1, promise, left_out)
    assert not can_promise(10**6, promise, 1 - accuracy)


def test_what_is_left_out_counts_as_wrong_before_anybody_is_asked():
    promise = CascadeGroup(accuracy=0.8, confidence=0.8)
    check_enough(22, promise, 1, 0.0)
    with pytest.raises(StratosError, match=r"there are 22 items .* and at least 24 are needed"):
        check_enough(22, promise, 1, 0.09)
    with pytest.raises(StratosError, match=r"and no number shows that, all answered right"):
        check_enough(10_000, promise, 1, 0.2)
