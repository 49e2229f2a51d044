"""What the check says of `synthesize.engine=ray` before anything runs."""

from __future__ import annotations

from checked import problems

from stratos.contrib.ray import engine
from stratos.contrib.ray.nodes import RayNotInstalled


def test_an_engine_that_is_not_there_is_said_before_anything_runs(monkeypatch, snapshot):
    installed: object | None = None
    monkeypatch.setattr(engine, "find_spec", lambda name: installed)
    assert problems("+task=mahjong", "synthesize.engine=ray") == [str(RayNotInstalled())]
    assert problems("+task=mahjong", "synthesize.ray_address=auto") == snapshot
    installed = object()
    assert problems("+task=mahjong", "synthesize.engine=ray", "synthesize.ray_address=auto") == []
