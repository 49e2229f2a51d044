"""Real catalogs of six clouds, where they lie beside the checkout: 89,808 rows and their traps."""

import csv
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from stratos.catalog import UNLIMITED, find_gpu, load_catalog
from stratos.config import CloudConfig

SHARED = Path(__file__).parents[2].parent / "shared" / "catalog"
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="no real catalogs beside the checkout")

URL = f"{SHARED}/*/vms.csv"


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(CloudConfig(catalog=(URL,), marketplaces=True, residency=("any",)))


@pytest.fixture(scope="module")
def by_cloud(catalog):
    offers = defaultdict(list)
    for offer in catalog.offers:
        offers[offer.cloud].append(offer)
    return offers


def rows_of(cloud):
    with (SHARED / cloud / "vms.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def number(text):
    return float(text) if text else math.nan


def test_everything_is_an_offer_or_dropped_for_a_reason(catalog, by_cloud):
    assert {cloud: len(offers) for cloud, offers in by_cloud.items()} == {
        "aws": 499,
        "azure": 56_381,
        "gcp": 10_587,
        "lambda": 425,
        "nebius": 21,
        "vast": 64,
    }
    assert catalog.dropped == {
        "TPU": 2544,
        "GPU host without a price of its GPU": 2,
        "price of a GPU without a host": 31,
        "accelerator that is not named": 113,
        "fraction of a GPU": 197,
    }
    assert not any(warning.startswith("No specification") for warning in catalog.warnings)


def test_no_price_is_free_and_no_spot_price_is_above_its_own(catalog):
    table = catalog.table
    assert table.usd_per_hour.min() > 0 and np.isfinite(table.usd_per_hour).all()
    spot = table.usd_per_hour_spot
    priced = ~np.isnan(spot)
    assert priced.sum() > 60_000
    assert (spot[priced] > 0).all() and (spot[priced] < table.usd_per_hour[priced]).all()
    assert (table.max_count == UNLIMITED).all()


@pytest.mark.parametrize("cloud", ["aws", "azure", "lambda", "nebius"])
def test_zones_are_collapsed_to_what_a_plain_loop_finds(cloud, by_cloud):
    prices, spots = defaultdict(list), defaultdict(list)
    for row in rows_of(cloud):
        key = row["Region"], row["InstanceType"]
        prices[key].append(float(row["Price"]))
        spots[key].append(number(row["SpotPrice"]))
    for offer in by_cloud[cloud]:
        key = offer.region, offer.instance_type
        assert offer.usd_per_hour == min(prices.pop(key)), offer.name
        cheaper = [usd for usd in spots[key] if 0 < usd < offer.usd_per_hour]
        assert offer.usd_per_hour_spot == min(cheaper, default=None), offer.name
    # What is left over is what was dropped, and nothing else.
    dropped = {
        (row["Region"], row["InstanceType"])
        for row in rows_of(cloud)
        if 0 < (number(row["AcceleratorCount"]) or 1) < 1
        or row["InstanceType"].startswith(("Standard_NP", "Standard_NG"))
        or (row["InstanceType"].startswith("Standard_N") and not row["AcceleratorName"])
        or row["InstanceType"] in ("Standard_NV4as_v4", "Standard_NV8as_v4", "Standard_NV16as_v4")
    }
    assert set(prices) == dropped


def test_azure_gpu_servers_are_none_but_those_that_name_a_whole_gpu(by_cloud):
    for offer in by_cloud["azure"]:
        if offer.instance_type.startswith("Standard_N"):
            assert offer.accelerator, offer.name
    amd = {o.instance_type for o in by_cloud["azure"] if o.accelerator == "MI25"}
    assert amd == {"Standard_NV32as_v4"}


def test_gcp_hosts_and_accelerators_are_summed_as_a_plain_loop_does(by_cloud):
    gpus, hosts = {}, []
    for row in rows_of("gcp"):
        if row["InstanceType"]:
            hosts.append(row)
        else:
            key = row["AvailabilityZone"], row["AcceleratorName"], number(row["AcceleratorCount"])
            gpus[key] = float(row["Price"])
    names = {"a2-highgpu": "A100", "a2-ultragpu": "A100-80GB", "a3-highgpu": "H100"}
    expected = {}
    for row in hosts:
        family, _, size = row["InstanceType"].rpartition("-")
        if family in names:
            count = int(size.removesuffix("g"))
            gpu = gpus.get((row["AvailabilityZone"], names[family], count))
            key = row["Region"], row["InstanceType"]
            if gpu is not None:
                usd = float(row["Price"]) + gpu
                expected[key] = min(usd, expected.get(key, math.inf))
    prices = {
        (o.region, o.instance_type): o.usd_per_hour
        for o in by_cloud["gcp"]
        if o.instance_type.rpartition("-")[0] in names
    }
    assert prices.keys() == expected.keys() and len(prices) > 50
    assert all(prices[key] == pytest.approx(expected[key], abs=2e-5) for key in prices)


def test_no_gcp_gpu_host_passes_for_a_cpu_server(by_cloud):
    assert not [
        offer.name
        for offer in by_cloud["gcp"]
        if offer.accelerator is None
        and offer.instance_type.startswith(("a2-", "a3-", "a4-", "g2-"))
    ]
    prices = {offer.name: offer.usd_per_hour for offer in by_cloud["gcp"]}
    # Host $0.73948 and one A100 $2.93391.
    assert prices["gcp/us-central1 a2-highgpu-1g (1xA100)"] == pytest.approx(3.67339)
    # The host is at $0.
    assert prices["gcp/us-central1 a4-highgpu-8g (8xB200)"] == pytest.approx(90.216)


def test_a_cap_of_a_dollar_never_gives_a_machine_of_nineteen():
    cloud = CloudConfig(catalog=(URL,), providers=("gcp",), max_usd_per_hour=1.0)
    offers = load_catalog(cloud).offers
    assert offers and max(offer.usd_per_hour for offer in offers) <= 1.0
    assert not [o.name for o in offers if o.accelerator == "A100" and o.accelerator_count == 8]


def test_vast_has_no_spot_and_its_memory_is_that_of_all_gpus(by_cloud):
    vast = by_cloud["vast"]
    assert all(offer.usd_per_hour_spot is None for offer in vast)
    cards = Counter((o.instance_type, o.accelerator) for o in vast)
    # One name, 40 GiB each and 80 GiB each.
    assert cards["2x-A100_SXM4-32-65536", "A100"] == 1
    assert cards["2x-A100_SXM4-32-65536", "A100-80GB"] == 1
    assert cards["2x-A100_PCIE-32-65536", "A100"] == 1
    assert cards["1x-H100_NVL-32-65536", "H100-NVL"] == 1
    assert cards["1x-RTX_3060_Ti-32-65536", "RTX3060-Ti"] == 1
    assert {"CA, NA", "US, NA", "Denmark, DK, EU"} <= {offer.region for offer in vast}


def test_every_gpu_has_the_memory_of_its_card(catalog):
    for offer in catalog.offers:
        assert offer.vram_gib == (
            find_gpu(offer.accelerator).memory_gib if offer.accelerator else 0
        )


def test_a_folder_a_glob_and_a_url_are_the_same(catalog):
    for url in (str(SHARED), f"file://{SHARED}", f"file://{SHARED}/*/vms.csv"):
        copy = load_catalog(CloudConfig(catalog=(url,), marketplaces=True, residency=("any",)))
        assert len(copy.offers) == len(catalog.offers)
        assert copy.dropped == catalog.dropped
        np.testing.assert_array_equal(copy.table.usd_per_hour, catalog.table.usd_per_hour)
    again = (URL, str(SHARED / "aws" / "vms.csv"))
    twice = load_catalog(CloudConfig(catalog=again, marketplaces=True, residency=("any",)))
    assert len(twice.offers) == len(catalog.offers)
