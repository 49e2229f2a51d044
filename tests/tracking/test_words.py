"""What trackers say."""

from __future__ import annotations

from typing import Any

import pytest

from stratos.config import LoggerConfig
from stratos.tracking import sink
from stratos.tracking.sink import KeyRefused, NoTrackingServer, PackageMissing


def test_reasons_in_words(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratos.core.extras.install", lambda name: f"pip install {name}")
    reasons = (PackageMissing("mlflow"), NoTrackingServer(), KeyRefused("https://w.example", 401))
    assert [str(reason) for reason in reasons] == snapshot


def test_what_a_tracker_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sink, "find_spec", lambda name: None)
    both = LoggerConfig(tensorboard=True, mlflow=True)
    lacking = [PackageMissing("tensorboard"), PackageMissing("mlflow"), NoTrackingServer()]
    assert list(sink.unusable(both)) == lacking
    assert list(sink.unusable(LoggerConfig(wandb=True))) == []
