"""The fast reader and the exact one read the same, or the fast one leaves it to the other."""

import csv
import io
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.catalog.readers import (
    COLUMNS,
    SMALL_BYTES,
    TEXTS,
    File,
    Listings,
    Malformed,
    Unclear,
    parse,
    read_csv,
    read_csv_fast,
    read_parquet,
)
from stratos.core.errors import CatalogError

SHARED = Path(__file__).parents[2].parent / "shared" / "catalog"

CELLS = st.sampled_from(
    [
        *("", "nan", "NaN", "NA", "n/a", "None", "null", "NULL", "nAn"),
        *("1", "1.5", " 2 ", "-3", "1e3", "0", "0.0", "inf", "-inf", "+4", "1_000", "many", "٣"),
        *("us-east-1", " eu ", ", US, NA", 'he said "x"', "two\nlines", "a,b", "ü", "2026-07-20"),
        *("2026-07-20T10:00:00", "20260720", "2026-13-01", "{'SizeInMiB': 40960}"),
    ]
)


def same(listings: Listings, expected_listings: Listings) -> None:
    for field in fields(Listings):
        column, expected = getattr(listings, field.name), getattr(expected_listings, field.name)
        if field.name in TEXTS:
            assert column.spelled() == expected.spelled(), field.name
            assert column.used() == expected.used()
        else:
            np.testing.assert_array_equal(column, expected, err_msg=field.name)


def outcome(read, file):
    try:
        return read(file)
    except (CatalogError, Malformed) as error:
        return error


@settings(max_examples=400)
@given(st.permutations(COLUMNS), st.lists(st.lists(CELLS, min_size=14, max_size=14), max_size=4))
def test_the_fast_reader_reads_what_the_exact_one_reads_or_leaves_it(header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    file = File("x.csv", text.getvalue().encode())
    expected = outcome(read_csv, file)
    try:
        listings = read_csv_fast(file)
    except Unclear:
        return
    assert not isinstance(expected, Exception), expected
    same(listings, expected)


@pytest.mark.parametrize("written", ["2026-07-20", "2026-07-20T10:00:00", "20260720"])
def test_both_readers_write_a_date_alike(written):
    head = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,PriceDate"
    file = File("x.csv", f"{head}\nx,,,2,4,0.1,here,{written}\n".encode())
    assert read_csv(file).price_date.spelled() == ["2026-07-20"]
    assert read_csv_fast(file).price_date.spelled() == ["2026-07-20"]


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        ("{h}\n{r}\n", True),
        ("\ufeff{h}\r\n{r}\r\n\r\n{r}\r\n", True),
        ("{h}\n{r}", True),
        ("{h}\n{r}\n{r},\n", False),
        ("{h}\n{r}\nx,,\n", False),
        ("{h}\n\n\n", True),
    ],
)
def test_marks_and_empty_lines(text, fast):
    text = text.format(
        h="InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region",
        r="x,,,2,4,0.1,here",
    )
    file = File("x.csv", text.encode())
    expected = outcome(read_csv, file)
    if fast:
        same(read_csv_fast(file), expected)
    else:
        with pytest.raises(Unclear):
            read_csv_fast(file)
        assert isinstance(expected, CatalogError)


@pytest.mark.skipif(not SHARED.exists(), reason="no real catalogs beside the checkout")
@pytest.mark.parametrize("cloud", ["aws", "gcp", "vast"])
def test_both_read_real_catalogs_the_same(cloud):
    path = SHARED / cloud / "vms.csv"
    file = File(str(path), path.read_bytes())
    same(read_csv_fast(file), read_csv(file))


def test_an_error_in_a_large_file_is_named_by_its_line():
    row = "x,,,2,4,0.1,here\n"
    lines = [row] * (SMALL_BYTES // len(row) + 10)
    lines[12_345] = '"x\ny",,,2,4,0.1,here\n'
    lines[-1] = "x,,,2,four,0.1,here\n"
    header = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region\n"
    file = File("big.csv", (header + "".join(lines)).encode())
    with pytest.raises(Malformed) as caught:
        parse(file, "aws")
    line = len(lines) + 2  # below the header, and one value is of two lines
    assert caught.value.args == (f"big.csv, line {line}, column MemoryGiB: 'four' is not a number",)


def test_parquet_types_are_read_as_their_text(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "InstanceType": ["x", None],
            "AcceleratorName": pa.array(["L4", "L4"]).dictionary_encode(),
            "AcceleratorCount": pa.array([1, 2], pa.int8()),
            "vCPUs": [4.0, None],
            "MemoryGiB": ["16", "nan"],
            "Price": pa.array([0.5, 0.25], pa.float32()),
            "Region": ["here", " there "],
            "GpuInfo": [{"SizeInMiB": 24576}, None],
        }
    )
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=1)
    listings = read_parquet(File("x.parquet", (tmp_path / "x.parquet").read_bytes()))
    assert listings.region.spelled() == ["here", "there"]
    assert listings.instance_type.spelled() == ["x", ""]
    assert listings.accelerator_count.tolist() == [1, 2]
    assert listings.usd_per_hour.tolist() == [0.5, 0.25]
    assert np.isnan(listings.memory_gib[1]) and listings.memory_gib[0] == 16
    assert listings.gpu_info.spelled() == ["{'SizeInMiB': 24576}", ""]


def test_reading_imports_neither_pandas_nor_for_our_own_table_pyarrow(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from stratos.catalog import load_catalog\n"
        "from stratos.config import CloudConfig\n"
        "load_catalog(CloudConfig(), cache_dir=Path(sys.argv[1]))\n"
        "assert not {'pyarrow', 'fsspec', 'pandas', 'torch'} & set(sys.modules)\n"
        "mine = Path(sys.argv[1]) / 'aws' / 'vms.csv'\n"
        "for _ in range(2):\n"
        "    load_catalog(CloudConfig(catalog=(str(mine),)), cache_dir=mine.parent)\n"
        "assert 'pyarrow' in sys.modules and 'pandas' not in sys.modules\n"
    )
    (tmp_path / "aws").mkdir()
    row = "x,,,2,4,0.1,here\n"
    header = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region\n"
    (tmp_path / "aws" / "vms.csv").write_text(header + row * (SMALL_BYTES // len(row) + 1))
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
