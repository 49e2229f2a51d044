"""What a choice of `logger=` lacks on this machine, told before anything is paid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

from stratos.config import LoggerConfig
from stratos.core import extras


def unusable(logger: LoggerConfig) -> Iterator[str]:
    """Yield what to type for each service that cannot be used; W&B alone may be left out."""
    for name, is_wanted in (("tensorboard", logger.tensorboard), ("mlflow", logger.mlflow)):
        if is_wanted and find_spec(name) is None:
            yield f"logger={name} needs the package {name}. Type: {extras.install(name)}"
    if logger.mlflow and not logger.tracking_uri and not os.environ.get("MLFLOW_TRACKING_URI"):
        yield (
            "logger=mlflow needs the address of a tracking server. Type "
            "logger.tracking_uri=http://<host>:5000, or set MLFLOW_TRACKING_URI. To start one "
            "here: mlflow server --port 5000"
        )
