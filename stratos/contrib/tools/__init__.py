"""Tool calls: requests, the tools that are there, and the calls that a model should make.

It reads rows of logs, too, by `stratos.contrib.logs`.
"""

from stratos.core.extensions import Extension

EXTENSION = Extension(
    kinds="stratos.contrib.tools.caller_kind",
    predictors={"caller": "stratos.contrib.tools.call_student:Caller"},
)
