"""Cards of the user's own, and which card a listing means."""

import pytest

from stratos.catalog import find_gpu, load_catalog, use_gpu_file
from stratos.catalog.gpus import COLUMNS, fit
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


# --- which card a listing means, by every way in which catalogs write its memory ----------------


def info(size: float | None, total: float | None = None) -> str:
    sizes = "" if size is None else f"'MemoryInfo': {{'SizeInMiB': {size}}}"
    totals = "" if total is None else f", 'TotalGpuMemoryInMiB': {total}"
    return f"{{'Gpus': [{{{sizes}}}]{totals}}}"


@pytest.mark.parametrize(
    ("name", "size", "total", "count", "card"),
    [
        ("A100", 40960, 327680, 8, "A100"),  # AWS: one, and all
        ("A100", 40960, 40960, 8, "A100"),  # Lambda: one, under both keys
        ("A100", 81920, 81920, 1, "A100-80GB"),  # Vast: named A100, has 80 GiB
        ("A100", 81920, 81920, 2, "A100"),  # Vast: both, under both keys
        ("A100", 163840, 163840, 2, "A100-80GB"),
        ("A100", 81920, 163840, 2, "A100-80GB"),  # size x count is the total: it is that of one
        ("A100-80GB", 80, 80, 1, "A100-80GB"),  # RunPod: GiB under a key that says MiB
        ("A100-80GB", 160, 160, 2, "A100-80GB"),
        ("A100-80GB", 80, 640, 8, "A100-80GB"),
        ("A100-80GB", None, 655360, 8, "A100-80GB"),
        ("V100", 32768, 262144, 8, "V100-32GB"),
        ("V100", 32768, 32768, 2, "V100"),
        ("L4", 22888, 22888, 1, "L4"),  # what the driver leaves of 24 GiB
        ("H100", 95830, 95830, 1, "H100-NVL"),
        ("RTX3060", 8192, 8192, 1, "RTX3060-Ti"),
        ("RTX4060", 65520, 65520, 4, "RTX4060-Ti"),
        ("RTX4070", 65504, 65504, 4, "RTX4070-Ti-Super"),
        ("h100-sxm", None, None, 1, "H100"),
        ("GH200", 147456, None, 1, "GH200"),  # 144 GiB: more than its datasheet; that is taken
        ("A100-80GB", 10240, 10240, 1, None),  # a slice
        ("L4", 5722, 5722, 1, None),
        ("RTX3090", 16384, 16384, 2, None),
    ],
)
def test_every_way_to_write_memory_is_understood(name, size, total, count, card):
    gpu = fit(find_gpu(name), info(size, total), count)
    assert (gpu and gpu.name) == card


@pytest.mark.parametrize("text", ["", "V100", "nan", "{'SizeInMiB': 'x'}", "{'SizeInMiB': 1.2.3}"])
def test_what_says_nothing_takes_the_card_by_its_name(text):
    assert fit(find_gpu("V100"), text, 1).name == "V100"
