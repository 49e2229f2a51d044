"""What trackers say."""

from stratos.config import LoggerConfig
from stratos.tracking import sink
from stratos.tracking.sink import KeyRefused, NoTrackingServer, PackageMissing


def test_reasons_in_words(snapshot, monkeypatch):
    monkeypatch.setattr("stratos.core.extras.install", lambda name: f"pip install {name}")
    reasons = (PackageMissing("mlflow"), NoTrackingServer(), KeyRefused("https://w.example", 401))
    assert [str(reason) for reason in reasons] == snapshot


def test_what_a_tracker_lacks(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sink, "find_spec", lambda name: None)
    both = LoggerConfig(tensorboard=True, mlflow=True)
    lacking = [PackageMissing("tensorboard"), PackageMissing("mlflow"), NoTrackingServer()]
    assert list(sink.unusable(both)) == lacking
    assert list(sink.unusable(LoggerConfig(wandb=True))) == []
