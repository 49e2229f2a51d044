"""In which country a region lies, and what may be planned together."""

import csv

import pytest

from stratos.catalog import load_catalog
from stratos.catalog.residency import (
    EU,
    REGIONS_CSV,
    area_of,
    areas,
    country_of,
    is_within,
)
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError

HEADER = (
    "Cloud,InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,SpotPrice"
)


@pytest.fixture
def load(tmp_path):
    def _load(*rows, **cloud):
        file = tmp_path / "offers.csv"
        file.write_text("\n".join([HEADER, *rows]) + "\n")
        return load_catalog(CloudConfig(catalog=(str(file),), **cloud))

    return _load


def row(cloud, region, usd, name="x", spot=""):
    return f"{cloud},{name},,,4,16,{usd},{region},{spot}"


@pytest.mark.parametrize(
    ("cloud", "region", "country"),
    [
        ("aws", "eu-central-1", "DE"),
        ("aws", "eu-west-2", "GB"),
        ("azure", "swedencentral", "SE"),
        ("gcp", "europe-west6", "CH"),
        ("vast", "Denmark, DK, EU", "DK"),
        ("vast", "US, NA", "US"),
        ("vast", "somewhere", ""),
        ("runpod", "CZ", "CZ"),
        ("ours", "hall-a", ""),
    ],
)
def test_the_country_of_a_region(cloud, region, country):
    assert country_of(cloud, region) == country


def test_a_country_may_be_told():
    countries = {"ours": "de", "ours/hall-b": "fr"}
    assert country_of("ours", "hall-a", countries) == "DE"
    assert country_of("ours", "hall-b", countries) == "FR"


def test_areas_and_groups_of_countries():
    assert (area_of("FR"), area_of("GB"), area_of("")) == ("eu", "gb", "")
    assert is_within("FR", ["eu"]) and not is_within("GB", ["eu"])
    assert is_within("NO", ["eea"]) and is_within("GB", ["uk"]) and is_within("JP", ["us", "jp"])
    assert not is_within("", ["eu"])
    assert len(EU) == 27


def test_every_region_of_our_table_has_a_country():
    with REGIONS_CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(r["Cloud"], r["Region"]) for r in rows}) == len(rows)
    for region in load_catalog(CloudConfig(marketplaces=True)).table.places:
        assert country_of(*region), region


def test_residency_leaves_what_stands_there(load, snapshot):
    rows = [row("aws", "us-east-1", 1), row("aws", "eu-west-1", 2), row("aws", "eu-west-2", 3)]
    regions = [offer.region for offer in load(*rows, residency=("eu",)).offers]
    assert regions == ["eu-west-1"]
    assert len(load(*rows, residency=("eu", "gb")).offers) == 2
    assert len(load(*rows, residency=("any",)).offers) == 3
    with pytest.raises(CatalogError) as caught:
        load(*rows, residency=("jp",))
    assert str(caught.value) == snapshot


def test_without_residency_offers_in_the_us_and_the_eu_are_taken_where_there_are_some(load):
    us, fr = row("aws", "us-east-1", 1), row("aws", "eu-west-3", 2)
    jp, ours = row("aws", "ap-northeast-1", 0.5), row("ours", "hall-a", 3)
    catalog = load(us, fr, jp, ours)
    assert [offer.region for offer in catalog.offers] == ["eu-west-3", "us-east-1", "hall-a"]
    assert catalog.left_out == {
        "servers in jp": "neither in the US nor in the EU; cloud.residency=<country> takes them"
    }
    assert not catalog.warnings
    assert len(load(jp).offers) == 1
    named = load(us, fr, jp, ours, regions=("ap-northeast-1", "us-east-1"))
    assert len(named.offers) == 2 and not named.left_out


def test_a_place_of_no_known_country_is_left_out_and_that_is_said(load, snapshot):
    rows = [row("aws", "eu-west-1", 1), row("ours", "hall-a", 1)]
    catalog = load(*rows, residency=("eu",))
    assert [offer.cloud for offer in catalog.offers] == ["aws"]
    assert catalog.warnings == snapshot
    known = load(*rows, residency=("eu",), countries={"ours": "de"})
    assert len(known.offers) == 2 and not known.warnings


def places_by_area(catalog, **cloud):
    table = catalog.table
    of_area = areas(table, CloudConfig(**cloud))
    return {
        name: {"/".join(table.places[p]) for p in table.location[rows].tolist()}
        for name, rows in of_area.items()
    }


def test_without_residency_the_servers_of_a_plan_stand_in_one_area(load):
    catalog = load(
        row("aws", "us-east-1", 1),
        row("gcp", "us-central1", 1),
        row("aws", "eu-west-1", 0.5),
        row("gcp", "europe-west4", 2),
        row("ours", "hall-a", 1),
    )
    assert places_by_area(catalog) == {
        "": {"ours/hall-a"},
        "eu": {"aws/eu-west-1", "gcp/europe-west4"},
        "us": {"aws/us-east-1", "gcp/us-central1"},
    }
    everywhere = places_by_area(catalog, residency=("any",))
    assert everywhere == {"": set().union(*places_by_area(catalog).values())}


def test_an_area_that_another_one_has_all_of_for_no_more_is_left_out(load):
    us, ie = row("aws", "us-east-1", 1, spot=0.5), row("aws", "eu-west-1", 1.2, spot=0.6)
    assert places_by_area(load(us, ie)) == {"us": {"aws/us-east-1"}}
    assert set(places_by_area(load(us, row("aws", "eu-west-1", 1.2, spot=0.4)))) == {"us", "eu"}
    assert set(places_by_area(load(us, ie, row("aws", "eu-west-1", 3, name="y")))) == {"us"}
    only_there = "aws,z,,,64,128,9,eu-west-1,"
    assert set(places_by_area(load(us, ie, only_there))) == {"us", "eu"}
    # Two regions that have it only together are two places, between which data would move.
    apart = ["aws,z,,,64,128,8,us-west-2,", only_there]
    assert set(places_by_area(load(us, ie, *apart))) == {"us", "eu"}
    assert set(places_by_area(load(us, ie), quotas={"aws/us-east-1": 1})) == {"us", "eu"}


def test_this_machine_is_in_every_area(load):
    catalog = load_catalog(CloudConfig(providers=("local", "aws", "gcp")))
    for rows in areas(catalog.table, CloudConfig()).values():
        clouds = {catalog.table.places[p][0] for p in catalog.table.location[rows].tolist()}
        assert "local" in clouds and len(clouds) > 1
