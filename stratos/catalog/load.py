"""From `cloud=` to offers: read, clean, select, and say what a user should know."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from stratos.catalog.clean import clean
from stratos.catalog.local import local_offer
from stratos.catalog.parse import Listing, Malformed, parse_row
from stratos.catalog.source import cloud_of, read_rows
from stratos.errors import CatalogError, did_you_mean
from stratos.records import Offer

if TYPE_CHECKING:
    from stratos.config import CloudConfig

STALE_DAYS = 30
"""Prices older than this are warned about."""

MAX_SHOWN_ERRORS = 8
"""Malformed values that one message lists."""


@dataclass(frozen=True)
class Catalog:
    """The offers that a run may choose from."""

    offers: tuple[Offer, ...]
    dropped: dict[str, int]
    """Reason to the number of rows that were left out."""
    warnings: tuple[str, ...]

    @property
    def price_dates(self) -> tuple[str, str]:
        """Oldest and newest price; empty strings where the catalog has no dates."""
        dates = sorted(offer.price_date for offer in self.offers if offer.price_date)
        return (dates[0], dates[-1]) if dates else ("", "")


def load_catalog(cloud: CloudConfig, today: datetime.date | None = None) -> Catalog:
    """Return the offers that `cloud` allows.

    Args:
        cloud: which catalogs to read, and which clouds, regions and prices are allowed.
        today: date that the age of prices is measured from.

    Raises:
        CatalogError: a catalog is missing, empty or malformed, nothing is left of it, or a cloud
            or region is not in it.
    """
    only_here = cloud.clouds == ("local",)
    dropped: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    offers: list[Offer] = []
    if not only_here:
        offers, dropped, unknown = clean(_listings(cloud))
    if "local" in cloud.clouds:
        offers.append(local_offer())
    if not offers:
        raise CatalogError(
            f"Nothing is left of the catalog {', '.join(cloud.catalog)}: {_counts(dropped)}. "
            "Take our own with cloud.catalog=[builtin]."
        )
    chosen = _select(offers, cloud)
    warnings = []
    if dropped:
        warnings.append(f"Rows of the catalog left out: {_counts(dropped)}.")
    if unknown:
        warnings.append(
            f"No specification of {', '.join(sorted(unknown))}: add a row for it to "
            "stratos/catalog/gpus.csv to have it considered."
        )
    warnings += _stale(chosen, today or datetime.date.today())
    return Catalog(tuple(chosen), dict(dropped), tuple(warnings))


def _listings(cloud: CloudConfig) -> Iterator[Listing]:
    errors: list[str] = []
    for url in cloud.catalog:
        for row in read_rows(url):
            name = _cloud_name(row.file, cloud)
            if not name and not row.cells.get("Cloud"):
                raise CatalogError(
                    f"The catalog {row.file} does not say whose offers it lists: put it into a "
                    "folder with the cloud's name (aws/vms.csv), name one cloud with "
                    "cloud.clouds=[aws], or add a column Cloud."
                )
            try:
                yield parse_row(row, name)
            except Malformed as error:
                errors.append(str(error))
                if len(errors) >= MAX_SHOWN_ERRORS:
                    break
    if errors:
        listed = "\n  ".join(errors)
        raise CatalogError(f"The catalog is malformed:\n  {listed}\nMend the rows or remove them.")


def _cloud_name(file: str, cloud: CloudConfig) -> str:
    """SkyPilot's own layout (<cloud>/vms.csv) speaks first, then the config, then the folder."""
    folder = cloud_of(file)
    if PurePosixPath(file).stem == "vms" and folder:
        return folder
    return cloud.clouds[0] if len(cloud.clouds) == 1 else folder


def _select(offers: list[Offer], cloud: CloudConfig) -> list[Offer]:
    known_clouds = sorted({offer.cloud for offer in offers})
    for name in cloud.clouds:
        if name not in known_clouds:
            raise CatalogError(
                f"cloud.clouds has {name!r}, and the catalog has no offer of it."
                f"{did_you_mean(name, known_clouds)} It has: {', '.join(known_clouds)}."
            )
    chosen = [offer for offer in offers if not cloud.clouds or offer.cloud in cloud.clouds]
    if cloud.regions:
        known_regions = sorted({offer.region for offer in chosen})
        wrong = [region for region in cloud.regions if region not in known_regions]
        if wrong:
            hints = " ".join(f"{name!r}:{did_you_mean(name, known_regions)}" for name in wrong)
            raise CatalogError(
                f"cloud.regions names what no offer of {cloud.name} has. {hints} "
                f"Known are: {', '.join(known_regions[:20])}"
                f"{' …' if len(known_regions) > 20 else ''}."
            )
        chosen = [offer for offer in chosen if offer.region in cloud.regions]
    cap = cloud.max_usd_per_hour
    if cap is not None:
        cheapest = min(lowest_usd_per_hour(offer, cloud.spot) for offer in chosen)
        chosen = [offer for offer in chosen if lowest_usd_per_hour(offer, cloud.spot) <= cap]
        if not chosen:
            raise CatalogError(
                f"No server costs ${cap:g} an hour or less (cloud.max_usd_per_hour): the cheapest "
                f"is ${cheapest:.4g}. Type cloud.max_usd_per_hour={cheapest:.4g} or more."
            )
    return chosen


def lowest_usd_per_hour(offer: Offer, spot: bool) -> float:
    """Return the lowest price that an offer can be had at, with spot prices or without."""
    if spot and offer.usd_per_hour_spot is not None:
        return offer.usd_per_hour_spot
    return offer.usd_per_hour


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{n} × {reason}" for reason, n in sorted(dropped.items())) or "no rows"


def _stale(offers: list[Offer], today: datetime.date) -> list[str]:
    oldest: dict[str, str] = {}
    undated: set[str] = set()
    for offer in offers:
        if not offer.price_date:
            undated.add(offer.cloud)
        elif offer.price_date < oldest.get(offer.cloud, "9999"):
            oldest[offer.cloud] = offer.price_date
    limit = (today - datetime.timedelta(days=STALE_DAYS)).isoformat()
    stale = [f"{cloud} {date}" for cloud, date in sorted(oldest.items()) if date < limit]
    warnings = []
    if stale:
        warnings.append(
            f"Prices older than {STALE_DAYS} days: {', '.join(stale)}. "
            "Name a fresher catalog with cloud.catalog=[…]."
        )
    if undated:
        warnings.append(f"Prices without a date: {', '.join(sorted(undated))}.")
    return warnings
