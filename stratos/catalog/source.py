"""Rows of a catalog from wherever it lies: local path or fsspec URL, CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from stratos.errors import CatalogError, did_you_mean

BUILTIN = Path(__file__).with_name("offers.csv")
"""Our own curated table, which `cloud.catalog=[builtin]` names."""

REQUIRED = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "Region",
)
"""Columns that every version of the schema has; SpotPrice, GpuInfo and zones may be absent."""


@dataclass(frozen=True)
class Row:
    """One row as it stands in the file."""

    file: str
    line: int
    cells: dict[str, Any]


def read_rows(url: str) -> Iterator[Row]:
    """Yield the rows of every file that `url` names (globs such as `s3://bucket/*/vms.csv` too).

    Raises:
        CatalogError: nothing is there, it cannot be read, it is empty or lacks a column.
    """
    for file, data in _contents(url):
        reader = _parquet if data[:4] == b"PAR1" else _csv
        n_rows = 0
        for line, cells in reader(file, data):
            n_rows += 1
            yield Row(file, line, cells)
        if not n_rows:
            raise CatalogError(f"The catalog {file} is empty: it has no row below its header.")


def cloud_of(url: str) -> str:
    """Return the name of the folder that a file lies in, as SkyPilot lays its catalogs out."""
    return PurePosixPath(url.split("://")[-1]).parent.name.lower()


def _contents(url: str) -> Iterator[tuple[str, bytes]]:
    if url == "builtin":
        yield "builtin", BUILTIN.read_bytes()
        return
    try:
        if "://" not in url and "*" not in url:
            yield url, Path(url).expanduser().read_bytes()
            return
        import fsspec

        files: list[IO[bytes]] = fsspec.open_files(url, mode="rb")
        if not files:
            raise FileNotFoundError(url)
        for opener in files:
            with opener as file:
                yield opener.path, file.read()  # type: ignore[attr-defined]
    except FileNotFoundError as error:
        raise CatalogError(
            f"The catalog {url} does not exist. Name a CSV or Parquet file or URL in the "
            "SkyPilot schema with cloud.catalog=[…], or take our own: cloud.catalog=[builtin]."
        ) from error
    except ImportError as error:
        protocol = url.split("://")[0]
        extra = {"s3": "aws", "gs": "gcp", "gcs": "gcp", "abfs": "azure", "az": "azure"}
        hint = f"pip install 'stratos-llm[{extra[protocol]}]'" if protocol in extra else str(error)
        raise CatalogError(
            f"The catalog {url} needs a package that is not there: {hint}"
        ) from error
    except (OSError, ValueError) as error:
        raise CatalogError(
            f"The catalog {url} cannot be read: {error}. Check the path or URL in cloud.catalog."
        ) from error


def _csv(file: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogError(f"The catalog {file} is no text: {error}.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    _check_columns(file, list(reader.fieldnames or []))
    for cells in reader:
        surplus = cells.pop(None, None)  # where csv puts the fields that the header has no name for
        if surplus:
            raise CatalogError(
                f"{file}, line {reader.line_num}: the row has {len(surplus)} more field(s) than "
                "the header. A value with a comma needs quotes."
            )
        yield reader.line_num, cells


def _parquet(file: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except pyarrow.ArrowInvalid as error:
        raise CatalogError(f"The catalog {file} is no readable Parquet file: {error}.") from error
    _check_columns(file, table.column_names)
    yield from enumerate(table.to_pylist(), start=1)


def _check_columns(file: str, columns: list[str]) -> None:
    if not columns:
        raise CatalogError(
            f"The catalog {file} is empty. It needs the columns {', '.join(REQUIRED)}."
        )
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        named = "; ".join(f"{name}{did_you_mean(name, columns)}" for name in missing)
        raise CatalogError(
            f"The catalog {file} lacks the column{'s' if len(missing) > 1 else ''} {named}. "
            f"It has: {', '.join(columns)}."
        )
