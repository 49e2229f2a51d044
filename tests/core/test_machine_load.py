"""A clock of own work on a busy machine."""

from __future__ import annotations

import pytest

from stratos.core import machine
from stratos.core.machine import Usage, WorkClock


@pytest.mark.parametrize(
    ("idle_s", "own_s", "seconds"),
    [(0.0, 10.0, 5.0), (10.0, 10.0, 10.0), (0.0, 1.0, 2.0), (0.0, 19.5, 10.0)],
    ids=["half of the cores", "an idle core", "never less than a fifth", "alone"],
)
def test_seconds_of_other_work_do_not_count(
    idle_s: float, own_s: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds on two cores."""
    now = [0.0]
    usages = iter([Usage(0.0, 0.0, 0.0, 0.0), Usage(10.0, idle_s, 20.0 - idle_s, own_s)])
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(WorkClock, "_usage", lambda *_: next(usages))
    clock = WorkClock()
    now[0] = 0.5
    assert clock() == 0.5, "too short to measure"
    now[0] = 10.0
    assert clock() == pytest.approx(seconds)


def test_where_nothing_is_told_it_is_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(machine.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(WorkClock, "_usage", lambda *_: None)
    clock = WorkClock()
    now[0] = 7.0
    assert clock() == 7.0
