"""Catalogs are read value by value, or an error names file, line and column."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.catalog.readers import (
    ABSENT,
    COLUMNS,
    File,
    Malformed,
    parse,
    read_csv,
    read_parquet,
)
from stratos.core.errors import CatalogError

CELLS = st.sampled_from(
    [
        *("", "nan", "NaN", "NA", "n/a", "None", "null", "NULL", "nAn"),
        *("1", "1.5", " 2 ", "-3", "1e3", "0", "0.0", "inf", "-inf", "+4", "1_000", "many", "٣"),
        *("us-east-1", " eu ", ", US, NA", 'he said "x"', "two\nlines", "a,b", "ü", "2026-07-20"),
        *("2026-07-20T10:00:00", "20260720", "2026-13-01", "{'SizeInMiB': 40960}"),
    ]
)


@settings(max_examples=400)
@given(st.permutations(COLUMNS), st.lists(st.lists(CELLS, min_size=14, max_size=14), max_size=4))
def test_a_file_is_read_whole_or_all_that_is_wrong_is_named(header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    try:
        listings = read_csv(File("x.csv", text.getvalue().encode()))
    except Malformed as error:
        assert all(problem.startswith("x.csv, line ") for problem in error.args)
        return
    assert len(listings) == len(rows)
    region = [row[header.index("Region")] for row in rows]
    assert listings.region.spelled() == [
        "" if text.strip().lower() in ABSENT else text.strip() for text in region
    ]


@pytest.mark.parametrize("written", ["2026-07-20", "2026-07-20T10:00:00", "20260720"])
def test_a_date_is_written_without_the_time_of_day(written):
    head = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,PriceDate"
    file = File("x.csv", f"{head}\nx,,,2,4,0.1,here,{written}\n".encode())
    assert read_csv(file).price_date.spelled() == ["2026-07-20"]


@pytest.mark.parametrize(
    ("text", "n_rows"),
    [
        ("{h}\n{r}\n", 1),
        ("\ufeff{h}\r\n{r}\r\n\r\n{r}\r\n", 2),
        ("{h}\n{r}", 1),
        ("{h}\n{r}\n{r},\n", None),
        ("{h}\n{r}\nx,,\n", None),
        ("{h}\n\n\n", 0),
    ],
)
def test_marks_and_empty_lines(text, n_rows):
    text = text.format(
        h="InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region",
        r="x,,,2,4,0.1,here",
    )
    file = File("x.csv", text.encode())
    if n_rows is None:
        with pytest.raises(CatalogError):
            read_csv(file)
    else:
        assert read_csv(file).instance_type.spelled() == ["x"] * n_rows


def test_an_error_in_a_large_file_is_named_by_its_line():
    row = "x,,,2,4,0.1,here\n"
    lines = [row] * 20_000
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


def test_reading_a_csv_and_its_cache_imports_neither_pandas_nor_pyarrow(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from stratos.catalog import load_catalog\n"
        "from stratos.config import CloudConfig\n"
        "load_catalog(CloudConfig(), cache_dir=Path(sys.argv[1]))\n"
        "mine = Path(sys.argv[1]) / 'aws' / 'vms.csv'\n"
        "for _ in range(2):\n"
        "    load_catalog(CloudConfig(catalog=(str(mine),)), cache_dir=mine.parent)\n"
        "assert not {'pyarrow', 'fsspec', 'pandas', 'torch'} & set(sys.modules)\n"
    )
    (tmp_path / "aws").mkdir()
    row = "x,,,2,4,0.1,here\n"
    header = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region\n"
    (tmp_path / "aws" / "vms.csv").write_text(header + row * 20_000)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
