"""Lets Hydra find the choices of config groups that rooms of contrib ship."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class ContribConf(SearchPathPlugin):
    """Searches the `conf` of each room of contrib after the core's; of other programs, nothing."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders where the main one is that of Stratos."""
        from stratos.core.extensions import conf_dir, contrib_conf_dirs

        folders = {one.provider: one.path.removeprefix("file://") for one in search_path.get_path()}
        if Path(folders.get("main", "")) != conf_dir():
            return
        for room, folder in contrib_conf_dirs().items():
            search_path.append(f"stratos.contrib.{room}", f"file://{folder}")
