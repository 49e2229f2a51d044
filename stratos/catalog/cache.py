"""Cache of cleaned catalogs as Parquet, keyed by the content of files and of the cleaning code.

A file of the cache is written beside its place and moved there, so that a reader sees all of it or
nothing. Its pages carry checksums: what a disk has spoilt is found out, made anew, and said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from stratos.catalog.clean import Cleaned
from stratos.catalog.gpus import own_gpus
from stratos.catalog.source import File
from stratos.catalog.table import Table, Words, arrow_array, arrow_coded, arrow_floats, arrow_ints
from stratos.core.atomic_files import replacing_file

_META = b"stratos"


def cached(
    folder: Path,
    files: Sequence[tuple[File, str]],
    make: Callable[[], Cleaned],
    warn: Callable[[str], None],
) -> Cleaned:
    """Return what was made of these files before, else make it and keep it.

    Args:
        folder: where cleaned catalogs are kept; made if need be. It may be deleted at any time.
        files: each file, and the cloud whose offers it lists.
        make: reads and cleans the files.
        warn: told of an entry that is damaged, and of a folder that cannot be written to.
    """
    path = folder / f"{_key(files)}.parquet"
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except Exception as error:
        warn(f"The cached catalog {path} was damaged ({type(error).__name__}) and is made again.")
    made = make()
    try:
        _write(made, path)
    except OSError as error:
        warn(f"The cleaned catalog could not be kept in {folder}: {error}.")
    return made


def _key(files: Sequence[tuple[File, str]]) -> str:
    digest = hashlib.blake2b(_code_version(), digest_size=16)
    digest.update(repr(own_gpus()).encode())
    for file, cloud in files:
        digest.update(f"\0{file.name}\0{cloud}\0{len(file.data)}\0".encode())
        digest.update(file.data)
    return digest.hexdigest()


@cache
def _code_version() -> bytes:
    """Return the hash of all code and tables that decide what a file is cleaned to."""
    digest = hashlib.blake2b(digest_size=16)
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), here / "gpus.csv"]):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.digest()


def _read(path: Path) -> Cleaned:
    from pyarrow import parquet

    # Not `read_table`: it loads the machinery of data sets, which takes longer than to read.
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(use_threads=False)
    meta = json.loads(table.schema.metadata[_META])
    columns: dict[str, Any] = {}
    for field in fields(Table):
        if field.type == "Words":
            codes, names = arrow_coded(table[field.name])
            columns[field.name] = Words(codes, tuple(names))
        else:
            read = arrow_ints if field.type == "Ints" else arrow_floats
            columns[field.name] = read(table[field.name])
    return Cleaned(Table(**columns), meta["dropped"], meta["unknown"])


def _write(cleaned: Cleaned, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    names = [field.name for field in fields(Table)]
    columns = [arrow_array(getattr(cleaned.table, name)) for name in names]
    meta = json.dumps({"dropped": cleaned.dropped, "unknown": cleaned.unknown})
    table = pyarrow.Table.from_arrays(columns, names=names)
    with replacing_file(path, flushed=False) as new:
        parquet.write_table(
            table.replace_schema_metadata({_META: meta.encode()}),
            new,
            compression="zstd",
            row_group_size=max(1, table.num_rows),
            write_page_checksum=True,
            write_statistics=False,
        )
