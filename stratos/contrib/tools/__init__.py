"""Tool calls: requests, the tools that are there, and the calls that a model should make.

It reads rows of logs, too, by `stratos.contrib.logs`.
"""

from typing import Any

from stratos.core.extensions import Extension

EXTENSION = Extension(
    kinds="stratos.contrib.tools.caller_kind",
    predictors={"caller": "stratos.contrib.tools.call_student:Caller"},
)


def __getattr__(name: str) -> Any:
    """Return the task, which is imported where it is used."""
    if name != "ToolsTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stratos.contrib.tools.tools_task import ToolsTask

    return ToolsTask
