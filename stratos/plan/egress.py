"""Egress costs of data, checkpoint and bundle between regions and clouds.

A place is a region of a cloud. Data leave it at one of three prices per GB: 0 within the region,
the cloud's price between its regions, its internet price to any other place. What comes in is free
everywhere, and so is what a hosted teacher sends. `egress.csv` has the list prices with date and
source; a cloud without a row pays the row `*`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from stratos.records import Offer

EGRESS_CSV = Path(__file__).with_name("egress.csv")

BYTES_PER_TOKEN = 4.0
"""Bytes of text that a token stands for: what a data set weighs on its way."""
BYTES_PER_PARAM = 2.0
"""Bytes of a weight in the bundle: bf16."""

OTHER = "*"
"""The row of clouds that have none of their own."""

Place = tuple[str, str]
"""Cloud and region."""


@dataclass(frozen=True)
class Egress:
    """Dollars per GB by cloud: between its regions, and to the internet."""

    usd_per_gb: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    provenance: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Cloud to the day of its prices, and their source."""
    assumed: frozenset[str] = frozenset()
    """Clouds whose prices are those of another one."""

    def price(self, source: Place | None, target: Place | None) -> float:
        """Return dollars per GB from one place to another; None is a hosted teacher, and free."""
        if source is None or target is None or source == target:
            return 0.0
        same_cloud, internet = self.of(source[0])
        return same_cloud if source[0] == target[0] else internet

    def of(self, cloud: str) -> tuple[float, float]:
        """Return the two prices of a cloud."""
        return self.usd_per_gb.get(cloud, self.usd_per_gb.get(OTHER, (0.0, 0.0)))

    def provenance_of(self, cloud: str) -> tuple[str, str]:
        """Return the day of a cloud's prices, and their source."""
        return self.provenance.get(cloud, self.provenance.get(OTHER, ("", "")))

    @property
    def most(self) -> float:
        """The highest price of all: no move of one GB costs more."""
        return max((max(prices) for prices in self.usd_per_gb.values()), default=0.0)


@cache
def list_prices() -> Egress:
    """Return the table of `egress.csv`."""
    with EGRESS_CSV.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Egress(
        {
            row["Cloud"]: (float(row["SameCloudUsdPerGb"]), float(row["InternetUsdPerGb"]))
            for row in rows
        },
        {row["Cloud"]: (row["PriceDate"], row["Source"]) for row in rows},
    )


def place_of(offer: Offer | None) -> Place | None:
    """Return where a server stands; None for a role without one."""
    return None if offer is None else (offer.cloud, offer.region)
