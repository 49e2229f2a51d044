"""Real catalogs of six clouds, where they lie beside the checkout."""

from collections import Counter
from pathlib import Path

import pytest

from stratos.catalog import load_catalog
from stratos.config import CloudConfig

SHARED = Path(__file__).parents[2].parent / "shared" / "catalog"
pytestmark = pytest.mark.skipif(not SHARED.exists(), reason="no real catalogs beside the checkout")


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(CloudConfig(catalog=(f"{SHARED}/*/vms.csv",)))


def test_everything_is_an_offer_or_dropped_for_a_reason(catalog):
    clouds = Counter(offer.cloud for offer in catalog.offers)
    assert set(clouds) == {"aws", "azure", "gcp", "lambda", "nebius", "vast"}
    assert len(catalog.offers) > 60_000
    assert set(catalog.dropped) == {
        "TPU",
        "fraction of a GPU",
        "GPU host without a price of its GPU",
    }
    assert not any(warning.startswith("No specification") for warning in catalog.warnings)


def test_no_gcp_gpu_host_passes_for_a_cpu_server(catalog):
    gcp = [offer for offer in catalog.offers if offer.cloud == "gcp"]
    assert not [
        offer.name
        for offer in gcp
        if offer.accelerator is None
        and offer.instance_type.startswith(("a2-", "a3-", "a4-", "g2-"))
    ]
    prices = {offer.name: offer.usd_per_hour for offer in gcp}
    # Host $0.73948 and one A100 $2.93391.
    assert prices["gcp/us-central1 a2-highgpu-1g (1xA100)"] == pytest.approx(3.67339)
    assert prices["gcp/us-central1 a4-highgpu-8g (8xB200)"] == pytest.approx(90.216)


def test_vast_has_no_spot_and_its_memory_is_per_gpu(catalog):
    vast = [offer for offer in catalog.offers if offer.cloud == "vast"]
    assert all(offer.usd_per_hour_spot is None for offer in vast)
    a100 = {o.instance_type + str(o.accelerator_count): o.accelerator for o in vast}
    assert a100["2x-A100_PCIE-32-655362"] == "A100"


def test_no_price_is_free(catalog):
    assert min(offer.usd_per_hour for offer in catalog.offers) > 0
