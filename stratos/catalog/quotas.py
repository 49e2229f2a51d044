"""Match offers with the keys of `cloud.quotas`."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from stratos.catalog.table import Table
from stratos.catalog.text_column import Bools
from stratos.core.errors import nearest


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
