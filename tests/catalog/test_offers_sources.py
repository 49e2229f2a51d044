"""Every row of our own catalog against the public data that it names, where that is at hand."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from stratos.catalog.readers import BUILTIN

ROOT = Path(__file__).parents[2]
PATH = ROOT / "benchmarks" / "catalog" / "offers.py"
SHARED = ROOT.parent / "shared" / "catalog"
NEEDS_SHARED = pytest.mark.skipif(
    not SHARED.exists(), reason="no real catalogs beside the checkout"
)


@pytest.fixture(scope="module")
def offers():
    spec = importlib.util.spec_from_file_location("offers", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["offers"] = module
    spec.loader.exec_module(module)
    return module


@NEEDS_SHARED
def test_every_row_is_what_its_source_says(offers):
    wrong, checked = offers.check(BUILTIN, SHARED, offers.installed_libcloud())
    assert wrong == []
    with BUILTIN.open(newline="") as file:
        assert sum(checked.values()) == sum(1 for _ in csv.DictReader(file))
    assert checked["not at hand"] <= 65  # those of apache-libcloud, where it is not installed


@NEEDS_SHARED
@pytest.mark.parametrize(
    ("column", "value"),
    [("Price", "5.26"), ("SpotPrice", "0.1"), ("vCPUs", "8"), ("Region", "us-far-1"),
     ("Source", "aws.amazon.com/ec2/pricing/on-demand"), ("Source", "")],
)  # fmt: skip
def test_a_row_that_differs_is_found(offers, tmp_path, column, value):
    with BUILTIN.open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = next(r for r in rows if r["InstanceType"] == "g4dn.xlarge" and r["Region"] == "us-east-1")
    row[column] = value
    copy = tmp_path / "offers.csv"
    with copy.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(rows)
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "aws").symlink_to(SHARED / "aws")  # the rows of other clouds are not at hand
    (wrong,), _ = offers.check(copy, catalog)
    assert "g4dn.xlarge" in wrong


def test_servers_without_gpus_are_compared_with_libcloud(offers, tmp_path):
    prices = {
        f"{family}.{size}": {"us-east-1": usd * n, "mars-1": 0.0}
        for family, usd in (("c7i", 0.04), ("m7i", 0.05))
        for size, n in offers.VCPUS.items()
    }
    pricing = tmp_path / "pricing.json"
    pricing.write_text(json.dumps({"compute": {"ec2_linux": prices}}))
    (tmp_path / "offers.csv").write_text(
        "Cloud,InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,"
        "Source\n"
        "aws,c7i.large,,,2,4,0.08,,us-east-1,EC2 on-demand list price as in apache-libcloud 3.9.1\n"
        "aws,m7i.large,,,2,8,0.11,,us-east-1,EC2 on-demand list price as in apache-libcloud 3.9.1\n"
    )
    (wrong,), checked = offers.check(tmp_path / "offers.csv", tmp_path, pricing)
    assert wrong.startswith("aws/us-east-1 m7i.large: ") and sum(checked.values()) == 1
