"""Tool calls: requests, the tools that are there, and the calls that a model should make.

It reads rows of logs, too, by `stratos.contrib.logs`.
"""

from stratos.contrib.tools.tools_task import ToolsTask

__all__ = ["ToolsTask"]
