"""The reasons of trackers: what they lack on this machine."""

from __future__ import annotations

from stratos.core import extras
from stratos.core.reasons import Reason


class PackageMissing(Reason):
    """A tracker's package is not installed."""

    name: str

    def __str__(self) -> str:
        return (
            f"logger={self.name} needs the package {self.name}. Type: {extras.install(self.name)}"
        )


class NoTrackingServer(Reason):
    """MLflow is asked for, and nothing says where its server is."""

    says = (
        "logger=mlflow needs the address of a tracking server. Type "
        "logger.tracking_uri=http://<host>:5000, or set MLFLOW_TRACKING_URI. To start one "
        "here: mlflow server --port 5000"
    )


class KeyRefused(Reason):
    """W&B does not take the key of the environment."""

    host: str
    status: int
    """HTTP status of its answer."""

    says = "{host} refuses the key of WANDB_API_KEY (HTTP {status})"
