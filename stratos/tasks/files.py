"""Rows of a file, whatever it is: JSON lines, CSV or Parquet, here, behind a URL or on the hub.

`hf://datasets/OWNER/NAME[@REVISION]/FILE` goes through the hub's own client, which keeps what it
fetched, so that a second run needs no network; `@~parquet` is the Parquet copy that the hub keeps
of every data set. Every other address goes through fsspec.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stratos.words import counted

_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@(~parquet|refs/\w+/\w+|[^/]+))?/(.+)")
_REVISIONS = {"~parquet": "refs/convert/parquet"}
_NO_HUB_FILE = "hf:// names a file of a data set: hf://datasets/OWNER/NAME[@REVISION]/FILE"


def read_records(path: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield where each row stands ("line 3") with its fields, or with what is wrong with it.

    Raises:
        OSError: the file cannot be fetched or read.
    """
    with _open(path) as file:
        name = path.partition("?")[0].lower()
        if name.endswith((".parquet", ".pq")):
            yield from _parquet(file)
        elif name.endswith((".csv", ".tsv")):
            yield from _csv(file, "\t" if name.endswith(".tsv") else ",")
        else:
            yield from _json_lines(file)


def is_local(path: str) -> bool:
    """Return whether a path names a file of this machine."""
    return "://" not in path


def _open(path: str) -> IO[bytes]:
    if path.startswith("hf://"):
        return open(_fetched(path), "rb")
    if is_local(path):
        return open(Path(path).expanduser(), "rb")
    import fsspec

    opened: IO[bytes] = fsspec.open(path, "rb").open()
    return opened


def _fetched(path: str) -> str:
    """Return the local copy of a file of the hub; it is fetched once.

    Raises:
        OSError: the hub cannot be reached and there is no copy, or it has no such file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    found = _HUB.fullmatch(path)
    if found is None:
        raise OSError(_NO_HUB_FILE)
    repository, revision, name = found.groups()
    try:
        return str(
            hf_hub_download(
                repository,
                name,
                repo_type="dataset",
                revision=_REVISIONS.get(revision, revision),
            )
        )
    except LocalEntryNotFoundError as error:
        raise OSError(
            "the hub cannot be reached and no copy is here. Fetch the file on a machine that "
            f"reaches it: hf download --repo-type dataset {repository} {name}"
            + (f" --revision {_REVISIONS.get(revision, revision)}" if revision else "")
        ) from error
    except HfHubHTTPError as error:
        raise OSError(str(error).strip().splitlines()[0]) from error


def _json_lines(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    is_first = True
    for number, data in enumerate(file, start=1):
        data = data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data
        if number == 1 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise OSError(
                "it is UTF-16, not UTF-8. Type: iconv -f UTF-16 -t UTF-8 <it> > <new file>"
            )
        if data.strip():
            if is_first and _begins_array(data.strip()):
                raise OSError(
                    "it is one JSON array, where one object a line is read. "
                    "Type: jq -c '.[]' <it> > <new file>"
                )
            is_first = False
            yield f"line {number}", _json_line(data)


def _begins_array(line: bytes) -> bool:
    """Tell whether the first line opens an array of objects that is the whole file."""
    return re.match(rb"\[\s*(\{|$)", line) is not None


def _json_line(data: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(data.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1})"
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg}, column {error.colno})"
    except (RecursionError, ValueError) as error:  # nested too deep, a number of too many digits
        return f"not JSON that can be read ({str(error).partition(':')[0]})"
    return row if isinstance(row, dict) else f"expected an object, found {json.dumps(row)[:60]}"


def _csv(file: IO[bytes], separator: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    reader = csv.DictReader(text, delimiter=separator)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield f"line {reader.line_num}", f"not CSV ({error})"
            continue
        if row is None:
            return
        where = f"line {reader.line_num}"
        if None in row or None in row.values():
            yield where, f"expected {counted(len(reader.fieldnames or ()), 'field')}"
        elif any("\udc80" <= character <= "\udcff" for character in "".join(row.values())):
            yield where, "not UTF-8"
        else:
            yield where, dict(row)


def _parquet(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except pyarrow.ArrowInvalid as error:
        raise OSError(f"no Parquet file ({str(error).splitlines()[0]})") from error
