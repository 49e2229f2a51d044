"""Variants of a problem with other clouds, quotas, hours or traffic.

The limits of `limits` are constraints of the model and can be moved in it. What `cloud` and
`traffic` allow decides which servers there are in the first place, so another value of them is
another problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stratos.catalog import Catalog, load_catalog
from stratos.config import CloudConfig, Config
from stratos.core.errors import CatalogError
from stratos.plan.problem import Problem


@dataclass
class Variants:
    """A run's config, and the problem of any variant of it."""

    config: Config
    catalog: Catalog
    """The offers that `config.cloud` allows."""
    build: Callable[[Config, Catalog], Problem]
    """Makes the problem, with probe, history and what is spent already bound in."""
    cache_dir: Path | None = None
    """Where cleaned catalogs are kept."""
    _catalogs: dict[str, Catalog | None] = field(default_factory=dict, init=False, repr=False)

    def problem(self, config: Config) -> Problem | None:
        """Return the problem of a variant; None if its catalog has no offer."""
        catalog = self._offers(config.cloud)
        return None if catalog is None else self.build(config, catalog)

    def _offers(self, cloud: CloudConfig) -> Catalog | None:
        if cloud == self.config.cloud:
            return self.catalog
        key = repr(cloud)
        if key not in self._catalogs:
            try:
                self._catalogs[key] = load_catalog(cloud, cache_dir=self.cache_dir)
            except CatalogError:
                self._catalogs[key] = None
        return self._catalogs[key]
