"""Past runs: whether predictions came true, and a sweep as a W&B workspace."""

from stratos.core.extensions import Command, Extension

EXTENSION = Extension(
    commands={
        "calibration": Command(
            "how often the plans of past runs came true",
            "stratos.contrib.monitor.calibration",
            rank=6,
            failure=2,
        ),
        "dashboard": Command(
            "a sweep as a saved W&B workspace and a report",
            "stratos.contrib.monitor.dashboard",
            rank=7,
            failure=2,
        ),
    }
)
