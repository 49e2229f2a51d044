"""Which card a listing means, by every way in which catalogs write its memory."""

import pytest

from stratos.catalog import find_gpu
from stratos.catalog.gpus import fit


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
