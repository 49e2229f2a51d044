"""The progress of a stage's items in words."""

from __future__ import annotations

from stratos.core.formats import ItemProgress, with_items


def test_items_rate_and_time_left_follow_each_part() -> None:
    now = 100.0
    progress = ItemProgress(lambda: now)
    assert progress.said("student", 1, 500) == "student · 1 of 500"
    now = 110.0
    assert progress.said("student", 21, 500) == "student · 21 of 500 · 2/s · 4:00 left"
    # Another part has a clock of its own.
    assert progress.said("teacher", 1, 40) == "teacher · 1 of 40"
    now = 120.0
    assert progress.said("teacher", 3, 40) == "teacher · 3 of 40 · 0.2/s · 3:05 left"
    assert progress.said("teacher", 40, 40) == "teacher · 40 of 40"


def test_what_has_no_items_yet_keeps_its_words() -> None:
    told: list[tuple[float, float, str]] = []
    tick = with_items(lambda done, total, text="": told.append((done, total, text)))
    tick(0, 64, "server starts")
    tick(8, 64, "requests")
    assert told == [(0, 64, "server starts"), (8, 64, "requests · 8 of 64")]
