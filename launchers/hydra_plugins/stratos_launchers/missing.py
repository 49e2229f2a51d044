"""What `stratos sweep resume` puts in the place of Hydra's own sweeper.

Hydra imports this file at every start, so it holds no more than the class.
"""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from typing_extensions import override


class MissingSweeper(BasicSweeper):
    """Hydra's grid, without the jobs that have finished."""

    @override
    def sweep(self, arguments: list[str]) -> Any:
        from hydra_plugins.stratos_launchers import _missing

        return _missing.run(self, arguments)
