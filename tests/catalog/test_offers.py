from __future__ import annotations

import csv
import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import stratos.catalog
from stratos.catalog import find_gpu, load_catalog
from stratos.catalog.gpus import GPUS_CSV, gpu_table
from stratos.catalog.readers import BUILTIN
from stratos.catalog.residency import MARKETPLACES
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError

LARGE = ("aws", "azure", "gcp", "lambda")
EVERYTHING = CloudConfig(marketplaces=True, residency=("any",))


@pytest.fixture(scope="module")
def offers():
    return load_catalog(EVERYTHING).offers


def test_there_are_enough_offers_of_every_cloud(offers):
    assert len(offers) >= 170
    gpus = Counter(offer.cloud for offer in offers if offer.accelerator)
    assert all(gpus[cloud] >= 15 for cloud in (*LARGE, "vast"))
    assert {o.cloud for o in offers if not o.accelerator} >= set(LARGE)
    for cloud in LARGE:
        assert len({o.region for o in offers if o.cloud == cloud}) >= 2


def test_no_row_of_the_table_is_dropped(offers):
    catalog = load_catalog(EVERYTHING)
    with BUILTIN.open(newline="") as file:
        n_rows = sum(1 for _ in csv.DictReader(file))
    assert catalog.dropped == {}
    assert len(catalog.offers) == n_rows


def test_every_offer_is_dated_sourced_and_plausible(offers):
    for offer in offers:
        assert datetime.date.fromisoformat(offer.price_date) <= datetime.date.today(), offer
        assert offer.source and offer.source != "builtin", offer
        assert 0.01 < offer.usd_per_hour < 200, offer
        assert offer.vcpus > 0 and offer.memory_gib > 0, offer
        if offer.usd_per_hour_spot is not None:
            assert offer.usd_per_hour_spot < offer.usd_per_hour, offer
        if offer.accelerator:
            gpu = find_gpu(offer.accelerator)
            assert gpu is not None and offer.vram_gib == gpu.memory_gib, offer


def test_marketplaces_are_rented_from_only_where_they_are_asked_for(snapshot):
    catalog = load_catalog(CloudConfig())
    rented = {offer.cloud for offer in catalog.offers}
    assert rented >= set(LARGE) and not rented & MARKETPLACES
    assert catalog.left_out["vast"] == snapshot
    by_name = load_catalog(CloudConfig(providers=("vast",), residency=("any",)))
    assert {offer.cloud for offer in by_name.offers} == {"vast"} and not by_name.left_out


def test_aws_has_its_common_regions(offers):
    regions = {offer.region for offer in offers if offer.cloud == "aws"}
    assert regions >= {
        "us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1",
        "eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1", "eu-north-1", "eu-south-1",
        "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "ap-northeast-2",
    }  # fmt: skip


def test_known_prices(offers):
    by_name = {offer.name: offer.usd_per_hour for offer in offers}
    # aws.amazon.com/ec2/pricing and cloud.google.com/compute/all-pricing.
    assert by_name["aws/us-east-1 g5.xlarge (1xA10G)"] == pytest.approx(1.006)
    assert by_name["aws/us-east-1 p5.48xlarge (8xH100)"] == pytest.approx(55.04)
    assert by_name["gcp/us-central1 a2-highgpu-1g (1xA100)"] == pytest.approx(3.673, abs=1e-3)
    assert by_name["gcp/us-central1 g2-standard-4 (1xL4)"] == pytest.approx(0.7068, abs=1e-4)


def test_specifications_are_complete_and_sane():
    assert len(gpu_table()) >= 30
    for gpu in gpu_table().values():
        assert gpu.memory_gib > 0 and gpu.bandwidth_gb_per_s > 100 and gpu.source
        assert gpu.tflops_train >= gpu.tflops_fp32 * 0.99
        if gpu.tflops_fp8:
            assert gpu.tflops_bf16 and gpu.tflops_fp8 > 1.9 * gpu.tflops_bf16
    # NVIDIA's datasheets.
    h100, a100 = gpu_table()["H100"], gpu_table()["A100-80GB"]
    assert (h100.memory_gib, h100.bandwidth_gb_per_s, h100.tflops_bf16) == (80, 3350, 989)
    assert (a100.memory_gib, a100.tflops_bf16, a100.tflops_fp8) == (80, 312, None)


def test_names_and_aliases_are_unique():
    with GPUS_CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = [w.lower() for r in rows for w in (r["Name"], *filter(None, r["Aliases"].split("|")))]
    assert [word for word, n in Counter(words).items() if n > 1] == []


def test_an_unknown_gpu_is_not_guessed():
    assert find_gpu("Z9000") is None


# The built-in prices against themselves; `test_offers_sources.py` has them against their sources.

OFFERS = Path(stratos.catalog.__file__).with_name("offers.csv")

USD_PER_VCPU_HOUR = (0.015, 0.15)
USD_PER_GPU_HOUR = {
    "RTX3060": (0.02, 0.3), "RTX3090": (0.06, 0.8), "RTX4090": (0.12, 1.6),
    "RTX5070": (0.03, 0.5), "RTX5090": (0.15, 2.0), "RTX5880-Ada": (0.12, 1.8),
    "RTX6000": (0.25, 2.0), "RTX6000-Ada": (0.18, 2.5), "RTXA5000": (0.08, 1.0),
    "RTXA6000": (0.15, 2.0), "RTXPRO6000": (1.0, 8.0), "RTXPRO6000WS": (0.35, 5.0),
    "A6000": (0.35, 3.0), "P4": (0.3, 3.0), "P100": (0.5, 5.0), "V100": (0.1, 5.0),
    "T4": (0.2, 3.0), "A10": (0.5, 6.0), "A10G": (0.4, 5.0), "L4": (0.3, 4.0),
    "A40": (0.15, 3.0), "L40S": (0.3, 7.0),
    "A100": (0.4, 6.0), "A100-80GB": (0.5, 8.0), "H100": (1.2, 18.0),
    "H100-PCIE": (1.2, 12.0), "H100-NVL": (1.2, 14.0), "H100-MEGA": (4.0, 20.0),
    "GH200": (0.8, 10.0), "H200": (1.5, 20.0), "B200": (2.5, 25.0),
}  # fmt: skip
"""On demand, from the cheapest marketplace to the dearest region."""
ACROSS_REGIONS = 2.5
"""How much dearer one instance type may be in one region than in another."""
WITHIN_A_CLOUD = 4.5
"""How far $ per GPU-hour of one GPU may lie from the median of its cloud's other servers."""

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def per_unit(row: Row) -> float:
    """Dollars per GPU-hour, or per vCPU-hour where there is none."""
    n_gpus = float(row["AcceleratorCount"] or 0)
    return float(row["Price"]) / (n_gpus or float(row["vCPUs"]))


def implausible(rows: Iterable[Row]) -> list[str]:
    """Return what is wrong with prices, by what is known of all servers alike."""
    rows, wrong = list(rows), []
    by_type: dict[tuple[str, ...], list[float]] = defaultdict(list)
    by_gpu: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        kind = row["Cloud"], row["InstanceType"], row["AcceleratorName"], row["AcceleratorCount"]
        by_type[kind].append(float(row["Price"]))
        by_gpu[row["Cloud"], row["AcceleratorName"]].append(per_unit(row))
    for kind, prices in by_type.items():
        if max(prices) > ACROSS_REGIONS * min(prices):
            wrong.append(f"{kind}: {min(prices):g} to {max(prices):g} across regions")
    for row in rows:
        gpu, value = row["AcceleratorName"], per_unit(row)
        name = f"{row['Cloud']}/{row['Region']} {row['InstanceType']} {gpu}"
        if gpu and gpu not in USD_PER_GPU_HOUR:
            wrong.append(f"{gpu}: say in USD_PER_GPU_HOUR what an hour of it may cost")
            continue
        low, high = USD_PER_GPU_HOUR[gpu] if gpu else USD_PER_VCPU_HOUR
        if not low <= value <= high:
            wrong.append(f"{name}: ${value:.3f} a unit is not within {low:g} to {high:g}")
        neighbours = list(by_gpu[row["Cloud"], gpu])
        neighbours.remove(value)
        if (
            len(neighbours) > 1
            and not 1 / WITHIN_A_CLOUD < value / median(neighbours) < WITHIN_A_CLOUD
        ):
            wrong.append(
                f"{name}: ${value:.3f} a unit beside a median of ${median(neighbours):.3f}"
            )
        if row["SpotPrice"] and not 0.05 <= float(row["SpotPrice"]) / float(row["Price"]) <= 1:
            wrong.append(f"{name}: spot ${row['SpotPrice']} of ${row['Price']}")
    return wrong


def test_prices_are_plausible():
    assert implausible(rows_of(OFFERS)) == []


@pytest.mark.parametrize("column", ["Price", "SpotPrice"])
def test_a_price_ten_times_too_high_or_too_low_is_noticed(column):
    rows = rows_of(OFFERS)
    missed = []
    for index, row in enumerate(rows):
        for factor in (10.0, 0.1):
            # A spot price may be a tenth of the one on demand: then only the higher one shows.
            if row[column] and not (column == "SpotPrice" and factor < 1):
                wrong = {**row, column: str(float(row[column]) * factor)}
                if not implausible([*rows[:index], wrong, *rows[index + 1 :]]):
                    missed.append(f"{factor:g} x {row['Cloud']} {row['InstanceType']}")
    assert missed == []


def test_spot_is_refused_where_no_offer_has_a_price_of_it(snapshot):
    with pytest.raises(CatalogError) as refused:
        load_catalog(CloudConfig(name="aws", providers=("aws",), spot=True))
    assert str(refused.value) == snapshot
    some = load_catalog(CloudConfig(providers=("aws", "gcp"), spot=True))
    assert [text for text in some.warnings if "no offer of aws has a spot price" in text]
    for allowed in ({"providers": ("aws", "local")}, {"regions": ("us-east-1",)}):
        planned = load_catalog(CloudConfig(**{"providers": ("aws",), "spot": True, **allowed}))
        assert [text for text in planned.warnings if "no offer of aws has a spot price" in text]
