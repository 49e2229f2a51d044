"""Data residency: the country of a region, and the areas in which data may stay.

An area is the European Union as a whole, or one country outside it. Without `cloud.residency` a
plan may stand in any area, but in one alone, so that its data cross no border. `regions.csv` has
the country of the regions of the large clouds, after their own lists of regions; catalogs of
marketplaces name it in the region itself; `cloud.countries` says it for a cloud of the user's own.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from stratos.catalog.table import LOCAL, Bools, Ints, Table, estimate_kinds
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError

REGIONS_CSV = Path(__file__).with_name("regions.csv")

EU = frozenset(
    ("AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE", "IT", "LV",
     "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE")
)  # fmt: skip
EEA = EU | {"IS", "LI", "NO"}
HOME_AREAS = ("us", "eu")
"""Areas that are planned in where no residency and no region is given, if there are offers."""
ANY = "any"
"""`cloud.residency` that lets the data of a plan cross borders."""
UNKNOWN = ""
"""Area of regions whose country nobody told."""

MARKETPLACES = frozenset({"vast"})
"""Clouds whose servers belong to many hosts, each of whom can reach what runs on them."""

COUNTRY_PART = {"vast": -2, "runpod": -1}
"""Clouds that write the country into the region ("Denmark, DK, EU"): which part of it, by comma."""


@cache
def listed_countries() -> Mapping[tuple[str, str], str]:
    """Return the table of `regions.csv`."""
    with REGIONS_CSV.open(newline="", encoding="utf-8") as file:
        return {(row["Cloud"], row["Region"]): row["Country"] for row in csv.DictReader(file)}


def country_of(cloud: str, region: str, overrides: Mapping[str, str] | None = None) -> str:
    """Return the country's code in two capitals, "" where it is not known.

    Args:
        cloud: name of the cloud.
        region: name of the region.
        overrides: countries by "cloud/region" or "cloud", which go first.
    """
    for key in (f"{cloud}/{region}", cloud):
        if overrides and key in overrides:
            return overrides[key].upper()
    if cloud in COUNTRY_PART:
        parts = [part.strip() for part in region.split(",")]
        part = COUNTRY_PART[cloud]
        code = parts[part] if len(parts) >= -part else ""
        return code if len(code) == 2 and code.isupper() else UNKNOWN
    return listed_countries().get((cloud, region), UNKNOWN)


def area_of(country: str) -> str:
    """Return the area of a country: "eu", or its own code in small letters."""
    return "eu" if country in EU else country.lower()


def is_within(country: str, residency: Sequence[str]) -> bool:
    """Return whether a country is in one of several areas or countries."""
    groups = {"eu": EU, "eea": EEA, "uk": frozenset({"GB"})}
    return any(country in groups.get(group, {group.upper()}) for group in residency if country)


def allowed_places(table: Table, cloud: CloudConfig, allowed: Bools) -> tuple[Bools, list[str]]:
    """Return which offers stand where `cloud.residency` allows, and warnings.

    Without it, offers in the United States and in the EU are left, and those of clouds of the
    user's own, whose country is not known; all, where these are none or regions are given. This
    machine is where the user put it, and is allowed everywhere.

    Raises:
        CatalogError: no offer stands there.
    """
    residency = cloud.residency
    if ANY in residency or (not residency and cloud.regions):
        return allowed, []
    countries = [country_of(*location, cloud.countries) for location in table.places]
    inside = np.array(
        [
            location[0] == LOCAL or is_within(country, residency)
            for location, country in zip(table.places, countries, strict=True)
        ],
        dtype=bool,
    )
    if not residency:
        at_home = (
            allowed & np.array([_is_at_home(country) for country in countries])[table.location]
        )
        return (at_home if at_home.any() else allowed), []
    rows = allowed & inside[table.location]
    named = ", ".join(residency)
    here = set(table.location[allowed].tolist())
    if not rows.any():
        areas = sorted({area_of(countries[index]) for index in here} - {UNKNOWN})
        raise CatalogError(
            f"No allowed offer is in cloud.residency={named}. There are offers in: "
            f"{', '.join(areas) or 'no country that is known'}."
        )
    lost = sorted({"/".join(table.places[p]) for p in here if not countries[p] and not inside[p]})
    reasons = []
    if lost:
        reasons.append(
            f"No country is known of {', '.join(lost[:5])}{' …' if len(lost) > 5 else ''}, left "
            f"out under cloud.residency={named}. Type '+cloud.countries={{{lost[0]}: de}}' with "
            "its country to include it."
        )
    return rows, reasons


def _is_at_home(country: str) -> bool:
    return area_of(country) in (*HOME_AREAS, UNKNOWN)


def left_out(before: Table, after: Table, cloud: CloudConfig) -> dict[str, str]:
    """Return what a run could rent and does not take unless it is asked to, with the reason.

    Args:
        before: the offers of the catalog.
        after: those that are taken.
        cloud: what the run allows.
    """
    reasons = marketplaces_left_out(before, cloud)
    if not cloud.residency and not cloud.regions:
        clouds = set(after.cloud.used())
        elsewhere = {
            area_of(country_of(*location, cloud.countries))
            for location in set(before.places) - set(after.places)
            if location[0] in clouds
        } - {*HOME_AREAS, UNKNOWN}
        if elsewhere:
            reasons[f"servers in {', '.join(sorted(elsewhere))}"] = (
                "neither in the US nor in the EU; cloud.residency=<country> takes them"
            )
    return reasons


def marketplaces_left_out(table: Table, cloud: CloudConfig) -> dict[str, str]:
    """Return the marketplaces whose offers a run does not take, each with the reason."""
    if cloud.providers or cloud.marketplaces:
        return {}
    return {
        name: "a marketplace, whose hosts are not verified; cloud.marketplaces=true takes it"
        for name in sorted(MARKETPLACES & set(table.cloud.used()))
    }


def areas(table: Table, cloud: CloudConfig) -> dict[str, Bools]:
    """Return the areas that a plan may stand in, each with its rows; this machine is in all.

    With `cloud.residency` there is one, since data may cross what borders lie inside it. An area is
    left out if another one has, in one region of each of its clouds, every kind of server at no
    higher price: whatever can be done in the first is done there as fast, no dearer, and with the
    same moves from cloud to cloud. That is not looked at where quotas or counts bind.
    """
    everything = np.ones(len(table), bool)
    of_place = [
        LOCAL if location[0] == LOCAL else area_of(country_of(*location, cloud.countries))
        for location in table.places
    ]
    names = sorted(set(of_place) - {LOCAL})
    if cloud.residency or len(names) < 2:
        return {names[0] if len(names) == 1 else UNKNOWN: everything}
    numbers = np.array([names.index(area_) if area_ != LOCAL else -1 for area_ in of_place])
    area = numbers[table.location]
    is_bound = bool(cloud.quotas) or bool((table.max_count[area >= 0] < cloud.max_nodes).any())
    useful = range(len(names)) if is_bound else _useful(table, numbers)
    return {names[i]: (area == i) | (area < 0) for i in useful}


def _useful(table: Table, area: Ints) -> list[int]:
    """Return the areas that no other one makes useless; see `areas`.

    Args:
        table: the offers.
        area: number of the area by place; -1 is in all.
    """
    kind = estimate_kinds(table)
    spot = np.where(np.isnan(table.usd_per_hour_spot), np.inf, table.usd_per_hour_spot)
    least = np.full((2, len(area), int(kind.max()) + 1), np.inf)
    np.minimum.at(least[0], (table.location, kind), table.usd_per_hour)
    np.minimum.at(least[1], (table.location, kind), spot)
    clouds = [cloud for cloud, _ in table.places]
    places: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (cloud, number) in enumerate(zip(clouds, area.tolist(), strict=True)):
        if number >= 0:
            places[number][cloud].append(index)
    cheapest = {
        number: {cloud: least[:, rows].min(axis=1) for cloud, rows in of_cloud.items()}
        for number, of_cloud in places.items()
    }

    def covers(first: int, second: int) -> bool:
        return all(
            any((least[:, index] <= prices).all() for index in places[first].get(cloud, ()))
            for cloud, prices in cheapest[second].items()
        )

    # Of areas that cover each other the first by name stays.
    return [
        b
        for b in sorted(places)
        if not any(covers(a, b) and (a < b or not covers(b, a)) for a in places if a != b)
    ]
