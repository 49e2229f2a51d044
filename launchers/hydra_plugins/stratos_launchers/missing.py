"""What `stratos sweep resume` puts in the place of Hydra's own sweeper.

Hydra imports this file at every start, so it holds no more than the class.
"""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class MissingSweeper(BasicSweeper):
    """Hydra's grid, without the jobs that have finished."""

    def sweep(self, arguments: list[str]) -> Any:
        """Launch what is missing."""
        from hydra_plugins.stratos_launchers import _missing

        return _missing.run(self, arguments)
