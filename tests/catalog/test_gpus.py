"""Cards of the user's own."""

import pytest

from stratos.catalog import find_gpu, load_catalog, use_gpu_file
from stratos.catalog.gpus import COLUMNS
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError

HEADER = ",".join(COLUMNS)
GAUDI = "Gaudi9,HL-999|gaudi_9,128,3700,1678,,105,3356,vendor's datasheet"
ROWS = """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo
dl9,GAUDI 9,8,96,768,13.1,here,
cpu,,,2,4,0.1,here,
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "vms.csv").write_text(ROWS)
    yield tmp_path
    use_gpu_file(None)


def write(files, *lines, header=HEADER):
    (files / "gpus.csv").write_text("\n".join([header, *lines]) + "\n")
    return CloudConfig(catalog=(str(files / "mine" / "vms.csv"),), gpu_file=str(files / "gpus.csv"))


def test_a_card_of_the_users_own_is_planned_with_and_forgotten(files):
    cloud = write(files, GAUDI)
    catalog = load_catalog(cloud)
    (offer,) = [offer for offer in catalog.offers if offer.accelerator]
    assert (offer.accelerator, offer.accelerator_count, offer.vram_gib) == ("Gaudi9", 8, 128)
    assert catalog.dropped == {}
    assert find_gpu("hl-999").tflops_bf16 == 1678
    plain = CloudConfig(catalog=cloud.catalog)
    assert load_catalog(plain).dropped == {"GPU without a specification": 1}
    assert find_gpu("Gaudi9") is None


def test_the_cache_knows_which_cards_there_were(files):
    plain = CloudConfig(catalog=(str(files / "mine" / "vms.csv"),))
    for cloud, n_offers in ((plain, 1), (write(files, GAUDI), 2), (plain, 1)):
        assert len(load_catalog(cloud, cache_dir=files / "cache").offers) == n_offers


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Gaudi9,,many,3700,,,105,,x"], "line 2: MemoryGiB of Gaudi9 is 'many', but must be a"),
        (["Gaudi9,,0,3700,,,105,,x"], "MemoryGiB of Gaudi9 is '0'"),
        (["Gaudi9,,128,nan,,,105,,x"], "BandwidthGBs of Gaudi9 is 'nan'"),
        (["Gaudi9,,128,3700,,,,,x"], "TflopsFp32 of Gaudi9 is ''"),
        (["Gaudi9,,128,3700,-1,,105,,x"], "TflopsBf16 of Gaudi9 is '-1'"),
        ([",,128,3700,,,105,,x"], "a card needs a Name"),
        (["Gaudi9,h100,128,3700,,,105,,x"], "h100 is in the table already"),
        ([GAUDI, GAUDI], "line 3: .*is in the table already"),
        (["Gaudi9,,128"], "line 2: "),
    ],
)
def test_a_card_that_an_estimate_cannot_be_made_with(files, lines, message):
    with pytest.raises(CatalogError, match=message):
        load_catalog(write(files, *lines))


def test_files_that_are_none(files):
    with pytest.raises(CatalogError, match="lacks the columns Aliases, Source"):
        load_catalog(write(files, header=HEADER.replace("Aliases,", "").replace(",Source", "")))
    with pytest.raises(CatalogError, match=r"gpu_file=.*none\.csv cannot be read"):
        use_gpu_file(str(files / "none.csv"))
