import csv
import datetime
from collections import Counter

import pytest

from stratos.catalog import find_gpu, load_catalog
from stratos.catalog.gpus import GPUS_CSV, gpu_table
from stratos.catalog.source import BUILTIN
from stratos.config import CloudConfig

CLOUDS = ("aws", "azure", "gcp", "lambda", "vast")
EVERYTHING = CloudConfig(marketplaces=True, residency=("any",))


@pytest.fixture(scope="module")
def offers():
    return load_catalog(EVERYTHING).offers


def test_there_are_enough_offers_of_every_cloud(offers):
    assert len(offers) >= 170
    gpus = Counter(offer.cloud for offer in offers if offer.accelerator)
    assert set(gpus) == set(CLOUDS)
    assert min(gpus.values()) >= 15
    assert {o.cloud for o in offers if not o.accelerator} >= {"aws", "azure", "gcp", "lambda"}
    for cloud in ("aws", "azure", "gcp", "lambda"):
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
    assert {offer.cloud for offer in catalog.offers} == {"aws", "azure", "gcp", "lambda"}
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
