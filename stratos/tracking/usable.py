"""What a choice of `logger=` lacks on this machine, told before anything is paid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

from stratos.config import LoggerConfig
from stratos.core.reasons import Reason
from stratos.tracking.words import NoTrackingServer, PackageMissing


def unusable(logger: LoggerConfig) -> Iterator[Reason]:
    """Yield why a service cannot be used; W&B alone may be left out."""
    for name, is_wanted in (("tensorboard", logger.tensorboard), ("mlflow", logger.mlflow)):
        if is_wanted and find_spec(name) is None:
            yield PackageMissing(name)
    if logger.mlflow and not logger.tracking_uri and not os.environ.get("MLFLOW_TRACKING_URI"):
        yield NoTrackingServer()
