"""No student replaces a hosted one that the gate finds better."""

from __future__ import annotations

from pathlib import Path

import pytest

from stratos.contrib.gate import command
from stratos.contrib.gate.command import GateFront, Side
from stratos.core.errors import StratosError
from stratos.evaluate.answers import KeptAnswer
from stratos.tasks.base import Score


def side(path: Path, n_right: int) -> Side:
    answers = {
        (f"q{k}", "g"): KeptAnswer(
            str(k), "all", f"q{k}", "g", [], "t", 1, Score(float(k < n_right), 0.0, True), -0.1
        )
        for k in range(400)
    }
    return Side(path, answers)


@pytest.mark.parametrize(("n_right", "refusal"), [(398, ""), (300, "WORSE by"), (390, "CANNOT T")])
def test_one_that_is_not_shown_to_be_as_good_is_refused(n_right, refusal, monkeypatch):
    right = {Path("old"): 398, Path("new"): n_right}
    monkeypatch.setattr(command, "side_of", lambda path: side(path, right[path]))
    if not refusal:
        assert "400 frozen items" in GateFront().compare(Path("new"), Path("old"))
        return
    with pytest.raises(StratosError, match=refusal) as refused:
        GateFront().compare(Path("new"), Path("old"))
    says_what_to_do = "no worse by more than 5 points. To know more, label more rows"
    assert (says_what_to_do in str(refused.value)) == (n_right == 390)


def test_a_bundle_that_was_made_anew_has_nothing_to_compare_with():
    with pytest.raises(StratosError, match="made anew"):
        GateFront().compare(Path("same"), Path("same"))
