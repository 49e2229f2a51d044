"""Parse a catalog file into typed columns; errors name file, line and column.

There are two readers of CSV, and they agree: pyarrow's, which is fast, and Python's, which knows
the line of every value. Python's reads small files (ours among them, so that planning on it does
not import pyarrow), and whatever pyarrow's will not take, so that an error names file, line and
column.
"""

from __future__ import annotations

from dataclasses import fields

from stratos.catalog.exact import read_csv
from stratos.catalog.listings import TEXTS, Listings
from stratos.catalog.source import File
from stratos.core.errors import CatalogError
from stratos.core.names import why_no_name
from stratos.core.printable import shown

SMALL_BYTES = 2**18
"""CSV files up to this size are read by Python: pyarrow takes longer to import."""


def parse(file: File, cloud: str) -> Listings:
    """Return the rows of a file.

    Args:
        file: CSV or Parquet, by its content.
        cloud: whose offers they are, where a row does not say so itself.

    Raises:
        CatalogError: the file is empty, no table, or lacks a column.
        Malformed: it has values that cannot be read.
    """
    if file.data[:4] == b"PAR1":
        from stratos.catalog.fast import read_parquet

        listings = read_parquet(file)
    elif len(file.data) <= SMALL_BYTES:
        listings = read_csv(file)
    else:
        from stratos.catalog.fast import Unclear, read_csv_fast

        try:
            listings = read_csv_fast(file)
        except Unclear:
            listings = read_csv(file)
    if not len(listings):
        raise CatalogError(f"The catalog {file.name} is empty: it has no row below its header.")
    columns = {field.name: getattr(listings, field.name) for field in fields(listings)}
    columns["cloud"] = listings.cloud.map(lambda name: (name or cloud).lower())
    # Vast writes ", US, NA" where it does not know the town.
    columns["region"] = listings.region.map(lambda name: name.lstrip(", "))
    columns["source"] = listings.source.map(lambda name: name or file.name)
    for field, column in TEXTS.items():
        if field == "gpu_info":  # is read, and never written
            continue
        for name in columns[field].used():
            if name and (reason := why_no_name(name)):
                raise CatalogError(
                    f"The catalog {file.name} has '{shown(name, 60)}' in its column {column}: "
                    f"{reason}. Fix or remove the rows."
                )
    return Listings(**columns)
