"""A cloud of one's own: a catalog whose rows say how many such servers there are."""

import pytest

from stratos.catalog import UNLIMITED, load_catalog
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError

HEADER = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,Count,SpotPrice"
)


@pytest.fixture
def load(tmp_path):
    def _load(*lines):
        file = tmp_path / "ours" / "vms.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join([HEADER, *lines]) + "\n")
        return load_catalog(CloudConfig(catalog=(str(file),)))

    return _load


def test_counts_are_carried_and_a_row_without_one_has_no_limit(load):
    table = load(
        "dgx,A100-80GB,8,128,1024,9.5,hall-a,12,",
        "node,,,64,256,0.4,hall-a,3700,",
        "node,,,64,256,0.4,hall-b,,",
    ).table
    assert table.max_count.tolist() == [12, 3700, UNLIMITED]
    assert table.instance_type.spelled() == ["dgx", "node", "node"]


def test_servers_of_one_price_are_counted_together_and_others_apart(load):
    table = load(
        "node,,,64,256,0.4,hall,3,",
        "node,,,64,256,0.4,hall,4,",
        "node,,,64,256,0.5,hall,5,",
        "node,,,64,256,0.5,hall,6,0.2",
    ).table
    counts = zip(table.usd_per_hour.tolist(), table.max_count.tolist(), strict=True)
    assert sorted(counts) == [(0.4, 7), (0.5, 5), (0.5, 6)]


def test_none_of_a_server_is_no_offer(load):
    catalog = load("dgx,A100-80GB,8,128,1024,9.5,hall,0,", "node,,,64,256,0.4,hall,1,")
    assert [offer.instance_type for offer in catalog.offers] == ["node"]
    assert catalog.dropped == {"no such server (Count 0)": 1}


@pytest.mark.parametrize("count", ["-1", "2.5", "inf", "many"])
def test_a_count_that_is_none(load, count):
    with pytest.raises(CatalogError, match="line 2, column Count: "):
        load(f"node,,,64,256,0.4,hall,{count},")
