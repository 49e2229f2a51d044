"""From all offers to those that `cloud=` allows, and every name that no offer has, at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from stratos.catalog.quotas import rows_of, suggestion
from stratos.catalog.table import Table
from stratos.catalog.words import Bools, Floats
from stratos.errors import CatalogError, did_you_mean

if TYPE_CHECKING:
    from stratos.config import CloudConfig

MAX_NAMES = 20
"""Known names that one message lists."""


def select(table: Table, cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers that clouds, regions and price cap allow, and warnings.

    Raises:
        CatalogError: a cloud, a region or a quota names what no offer has, or no server is cheap
            enough.
    """
    allowed = np.ones(len(table), bool)
    if cloud.clouds:
        allowed &= table.cloud.where(lambda name: name in cloud.clouds)
    problems = [*_unknown_clouds(table, cloud), *_unknown_quotas(table, cloud.quotas)]
    if cloud.regions and allowed.any():
        problems += _unknown_regions(table.region.take(allowed).used(), cloud)
        allowed &= table.region.where(lambda name: name in cloud.regions)
    if problems:
        raise CatalogError("\n".join(problems))
    idle = [key for key in cloud.quotas if not rows_of(table, key)[allowed].any()]
    if cloud.max_usd_per_hour is not None:
        allowed &= _cheap_enough(table, allowed, cloud.max_usd_per_hour, cloud.spot)
    warnings = [f"cloud.quotas: no allowed offer is of {', '.join(idle)}."] if idle else []
    return table if allowed.all() else table.take(allowed), warnings


def _unknown_clouds(table: Table, cloud: CloudConfig) -> Iterator[str]:
    known = table.cloud.used()
    for name in cloud.clouds:
        if name not in known:
            yield (
                f"cloud.clouds has {name!r}, and the catalog has no offer of it."
                f"{did_you_mean(name, known)} It has: {_listed(known)}."
            )


def _unknown_regions(known: list[str], cloud: CloudConfig) -> Iterator[str]:
    wrong = [region for region in cloud.regions if region not in known]
    if wrong:
        hints = " ".join(f"{name!r}:{did_you_mean(name, known)}" for name in wrong)
        yield (
            f"cloud.regions names what no offer of {cloud.name} has. {hints} "
            f"Known are: {_listed(known)}."
        )


def _unknown_quotas(table: Table, keys: Iterable[str]) -> Iterator[str]:
    wrong = [key for key in keys if not rows_of(table, key).any()]
    if wrong:
        hints = " ".join(f"{key!r}:{suggestion(table, key)}" for key in wrong)
        yield (
            f"cloud.quotas has keys that no offer matches. {hints} A key is cloud, cloud/region or "
            "cloud/region/instance_type, and * stands for any."
        )


def _cheap_enough(table: Table, allowed: Bools, cap: float, spot: bool) -> Bools:
    lowest = lowest_usd_per_hour(table, spot)
    cheap = lowest <= cap
    if not (cheap & allowed).any():
        cheapest = float(lowest[allowed].min())
        raise CatalogError(
            f"No server costs ${cap:g} an hour or less (cloud.max_usd_per_hour): the cheapest "
            f"is ${cheapest:.4g}. Type cloud.max_usd_per_hour={cheapest:.4g} or more."
        )
    return cheap


def lowest_usd_per_hour(table: Table, spot: bool) -> Floats:
    """Return the lowest price that each offer can be had at, with spot prices or without."""
    if not spot:
        return table.usd_per_hour
    return np.fmin(table.usd_per_hour, table.usd_per_hour_spot)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:MAX_NAMES])}{' …' if len(names) > MAX_NAMES else ''}"
