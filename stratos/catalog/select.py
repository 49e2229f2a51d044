"""Filter the offers by `cloud=`, and report every name without an offer at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from stratos.catalog.residency import MARKETPLACES, allowed_places
from stratos.catalog.table import LOCAL, Bools, Floats, Table
from stratos.core.errors import CatalogError, did_you_mean, nearest

if TYPE_CHECKING:
    from stratos.config import CloudConfig


# Match offers with the keys of `cloud.quotas`.


def rows_of(table: Table, key: str) -> Bools:
    """Return a mask of the offers that a quota counts.

    Args:
        table: the offers.
        key: "cloud", "cloud/region" or "cloud/region/instance_type"; a `*` stands for any text,
            so that "*/*/g5.*" counts every g5 of every cloud.
    """
    mask = np.ones(len(table), bool)
    columns = (table.cloud, table.region, table.instance_type)
    for column, pattern in zip(columns, key.split("/", 2), strict=False):
        mask &= column.where(_matcher(pattern))
    return mask


def suggestion(table: Table, key: str) -> str:
    """Return " Did you mean x?" for a key that matches no offer; the first wrong part decides."""
    parts = key.split("/", 2)
    here = np.ones(len(table), bool)
    for n, column in enumerate((table.cloud, table.region, table.instance_type)[: len(parts)]):
        matches = here & column.where(_matcher(parts[n]))
        if not matches.any():
            known = column.take(here).used()
            found = [
                "/".join([*parts[:n], name, *parts[n + 1 :]]) for name in nearest(parts[n], known)
            ]
            return f" Did you mean {' or '.join(found)}?" if found else ""
        here = matches
    return ""


def _matcher(pattern: str) -> Callable[[str], bool]:
    regex = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return lambda name: regex.fullmatch(name) is not None


MAX_NAMES = 20
"""Known names that one message lists."""


def select(table: Table, cloud: CloudConfig) -> tuple[Table, list[str]]:
    """Return the offers that clouds, regions, residency and price cap allow, and warnings.

    Raises:
        CatalogError: a cloud, a region or a quota names what no offer has, nothing is left without
            marketplaces or within the residency, or no server is cheap enough.
    """
    allowed = np.ones(len(table), bool)
    if cloud.providers:
        allowed &= table.cloud.where(lambda name: name in cloud.providers)
    elif not cloud.marketplaces:
        allowed &= _no_marketplaces(table)
    problems = [*_unknown_clouds(table, cloud), *_unknown_quotas(table, cloud.quotas)]
    if cloud.regions and allowed.any():
        problems += _unknown_regions(table.region.take(allowed).used(), cloud)
        allowed &= table.region.where(lambda name: _is_of(name, cloud.regions))
    if problems:
        raise CatalogError("\n".join(problems))
    allowed, warnings = allowed_places(table, cloud, allowed)
    idle = [key for key in cloud.quotas if not rows_of(table, key)[allowed].any()]
    if cloud.spot:
        warnings += _without_spot(table, allowed)
    if cloud.max_usd_per_hour is not None:
        allowed &= _cheap_enough(table, allowed, cloud.max_usd_per_hour, cloud.spot)
    if idle:
        warnings.append(f"cloud.quotas: no allowed offer is of {', '.join(idle)}.")
    return table if allowed.all() else table.take(allowed), warnings


def _no_marketplaces(table: Table) -> Bools:
    own = ~table.cloud.where(MARKETPLACES.__contains__)
    if not own.any():
        raise CatalogError(
            "All offers of the catalog are of a marketplace "
            f"({_listed(table.cloud.used())}), whose hosts are not verified. "
            "Type cloud.marketplaces=true to rent from them anyway."
        )
    return own


def _unknown_clouds(table: Table, cloud: CloudConfig) -> Iterator[str]:
    known = table.cloud.used()
    for name in cloud.providers:
        if name not in known:
            yield (
                f"cloud.providers has {name!r}, and the catalog has no offer of it."
                f"{did_you_mean(name, known)} It has: {_listed(known)}."
            )


def _unknown_regions(known: list[str], cloud: CloudConfig) -> Iterator[str]:
    for region in cloud.regions:
        if not any(_is_of(name, [region]) for name in known):
            yield (
                f"cloud.regions has {region!r}, and no offer of {cloud.name} is there."
                f"{did_you_mean(region, known)} Known are: {_listed(known)}."
            )


def _is_of(region: str, patterns: Iterable[str]) -> bool:
    """Return whether a region is one of several, in which * and ? stand for any letters."""
    return any(fnmatchcase(region, one) for one in patterns)


def _unknown_quotas(table: Table, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if not rows_of(table, key).any():
            yield (
                f"cloud.quotas has {key!r}, and no offer matches it.{suggestion(table, key)} "
                "A key is cloud, cloud/region or cloud/region/instance_type, and * stands for any."
            )


def _without_spot(table: Table, allowed: Bools) -> Iterator[str]:
    """Say of which clouds no allowed offer has a spot price, though spot was asked for."""
    priced = allowed & ~np.isnan(table.usd_per_hour_spot)
    others = sorted(
        set(table.cloud.take(allowed).used()) - set(table.cloud.take(priced).used()) - {LOCAL}
    )
    if others:
        yield (
            f"cloud.spot=true: no offer of {', '.join(others)} has a spot price, so that "
            f"{'its' if len(others) == 1 else 'their'} servers are planned on demand. Name a "
            "catalog with spot prices: cloud.catalog=[…]."
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
