"""Read rows from JSON lines, CSV or Parquet: local, behind a URL, or on the hub; gzip is unpacked.

`hf://datasets/OWNER/NAME[@REVISION]/FILE` goes through the hub's own client, which keeps what it
fetched, so that a second run needs no network; `@~parquet` is the Parquet copy that the hub keeps
of every data set. Every other address goes through fsspec. A JSON array, or several JSON texts
behind each other, are read one object at a time.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec

from stratos.core.digest import identity, remember
from stratos.core.foreign import cause, open_regular
from stratos.core.reasons import Reason
from stratos.core.remote import file_system, local_path
from stratos.tasks import words

ROW_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".json", ".ndjson")
"""Of files that `read_records` reads, before `.gz`."""
_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)(?:@(~parquet|refs/\w+/\w+|[^/]+))?/(.+)")
_REVISIONS = {"~parquet": "refs/convert/parquet"}
_NO_HUB_FILE = "hf:// names a file of a data set: hf://datasets/OWNER/NAME[@REVISION]/FILE"
_HEAD = 4096
"""Bytes that tell whether a file is JSON lines."""
_CHUNK = 2**20
"""Bytes that are read at a time."""
LONGEST_LINE = 16 * 2**20
"""Bytes of a line of JSON; no model reads a question that long."""
_PARQUET_ROWS = 4096
"""Rows that are made into objects at a time."""
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What may separate the columns of a file that is called CSV, besides commas, and what it is
called."""
Encoding: TypeAlias = str
"""Name of an encoding, as iconv takes it."""
_FAST = msgspec.json.Decoder()
_NO_TEXT = {
    b"PK\x03\x04": "a zip archive. Type: unzip <it>",
    b"\x28\xb5\x2f\xfd": "zstd. Type: zstd -d <it>",
    b"BZh": "bzip2. Type: bunzip2 -k <it>",
    b"\xfd7zXZ\x00": "xz. Type: xz -dk <it>",
    b"SQLite format 3\x00": "a database of SQLite. Type: sqlite3 -csv -header <it> "
    "'select …' > <new file>.csv",
    b"PAR1": "Parquet. Give it a name that ends in .parquet",
}
"""What files begin with that are no text, what they are, and what to type."""
_GZIP = b"\x1f\x8b"
_MOST_TIMES, _FREE_BYTES = 200, 2**26
"""How many times its size a gzip file may unpack to, behind the first bytes of it; text is ten or
twenty times as large."""
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
TO_LABEL = ".to_label.csv"
"""What the table ends in that people fill in, in a spreadsheet."""
_FORMULA, _NO_FORMULA = re.compile(r"'*[=+@-]"), re.compile(r"'+[=+@-]")


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; `TO_LABEL` is read without it."""
    return f"'{text}" if _FORMULA.match(text) else text


def _unsafe(row: dict[str, Any] | Reason) -> dict[str, Any] | Reason:
    """Return the row that `safe_cell` made safe."""
    if isinstance(row, Reason):
        return row
    return {key: text[1:] if _NO_FORMULA.match(text) else text for key, text in row.items()}


def read_records(path: str) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    """Yield where each row stands ("line 3") with its fields, or with what is wrong with it.

    Args:
        path: of the file.

    Raises:
        OSError: the file cannot be fetched or read.
    """
    with _open(path) as file:
        name = name_of(path)
        if name.endswith((".parquet", ".pq")):
            yield from _parquet(file)
            return
        if name.endswith(_SPREADSHEETS):
            raise OSError("it is a spreadsheet. Save it as CSV (UTF-8) there, and name that file")
        head = file.read(max(map(len, _NO_TEXT)))
        file.seek(0)
        for begins, kind in _NO_TEXT.items():
            if head.startswith(begins):
                raise OSError(f"it is {kind}")
        if name.endswith(TO_LABEL):
            yield from ((line, _unsafe(row)) for line, row in _csv(file, None))
        elif name.endswith((".csv", ".tsv")):
            yield from _csv(file, "\t" if name.endswith(".tsv") else None)
        elif _is_values(file):
            yield from values_in(file, LONGEST_LINE)
        else:
            yield from _json_lines(file)


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a file of text, for a reader of a format of its own.

    A byte that is no UTF-8 becomes a lone surrogate.

    Raises:
        OSError: the file cannot be fetched or read.
    """
    with _open(path) as file:
        yield from _text(file)


def separator_of(path: str) -> str:
    """Return what separates the columns of a CSV file, as its header shows it.

    It is a comma, unless the header holds none outside of quotes and one of the others separates
    it into several columns.

    Raises:
        OSError: the file cannot be read, or its header leaves open what separates its columns.
    """
    with _open(path) as file:
        return _separator(_text(file).readline())


def separators_in(paths: Iterable[str]) -> Iterator[str]:
    """Yield which files have columns that are separated by other signs than commas."""
    for path in paths:
        if not name_of(path).endswith(".csv"):
            continue
        name = OTHER_SEPARATORS.get(separator_of(path))
        if name is not None:
            yield f"{path}: read with {name} between its columns, as its header shows."


def name_of(path: str) -> str:
    """Return the address of a file in lower case without what says that it is packed."""
    return path.partition("?")[0].lower().removesuffix(".gz")


def is_local(path: str) -> bool:
    """Return whether a path names a file of this machine."""
    return "://" not in local_path(path)


def is_same_file(path: str, second: str | None) -> bool:
    """Return whether two paths or URLs name one file, however they are written."""
    if second is None or path == second:
        return path == second
    if not (is_local(path) and is_local(second)):
        return False
    return len({os.path.realpath(os.path.expanduser(local_path(u))) for u in (path, second)}) == 1


class _Recoded(io.RawIOBase):
    """A file in another encoding as the bytes of UTF-8; it can be begun again, and no more."""

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
        self._file, self._encoding = file, encoding
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("it can be begun again, and no more")
        self._decoder, self._rest = codecs.getincrementaldecoder(self._encoding)(), b""
        return self._file.seek(0)

    def readinto(self, buffer: Any) -> int:
        try:
            while not self._rest and (chunk := self._file.read(len(buffer))):
                self._rest = self._decoder.decode(chunk).encode("utf-8", "surrogatepass")
            if not self._rest:
                self._rest = self._decoder.decode(b"", final=True).encode()
        except UnicodeDecodeError as error:
            raise OSError(f"it is no {self._encoding} ({error.reason})") from error
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


class _Unpacked(io.RawIOBase):
    """What a gzip file unpacks to; no more of it than any text can be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._most = _FREE_BYTES + _MOST_TIMES * file.seek(0, os.SEEK_END)
        file.seek(0)
        self._file = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except (EOFError, zlib.error) as error:
            raise OSError(f"it is no whole gzip file ({error})") from error
        if self._file.tell() > self._most:
            raise OSError(
                f"it unpacks to more than {_MOST_TIMES} times its size, as no text does. If it is "
                "one all the same, type: gunzip -k <it>"
            )
        buffer[: len(data)] = data
        return len(data)


def _open(path: str) -> IO[bytes]:
    """Open a file; of gzip what it unpacks to, of UTF-16 or UTF-32 the bytes of UTF-8."""
    file = _opened(path)
    head = file.read(4)
    if head.startswith(_GZIP):
        file = io.BufferedReader(_Unpacked(file))
        head = file.read(4)
    encoding = _other_encoding(head)
    file.seek(0)
    return file if encoding is None else io.BufferedReader(_Recoded(file, encoding))


def _opened(path: str) -> IO[bytes]:
    if path.startswith("hf://"):
        return open(_fetched(path), "rb")
    here = local_path(path)
    if is_local(here):
        return open_regular(Path(here).expanduser())
    try:
        system, location = file_system(path)
        opened: IO[bytes] = system.open(location, "rb")
    except Exception as error:  # what a remote file system raises is its own affair
        raise OSError(cause(error)) from error
    return opened


def _fetched(path: str) -> str:
    """Return the local copy of a file of the hub; it is fetched once.

    Raises:
        OSError: the hub cannot be reached and there is no copy, or it has no such file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    match = _HUB.fullmatch(path)
    if match is None:
        raise OSError(_NO_HUB_FILE)
    repository, revision, name = match.groups()
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


def _json_lines(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    is_first = True
    for number, data in enumerate(_lines(file), start=1):
        if isinstance(data, int):
            is_first = False
            yield f"line {number}", words.LineTooLong(data, LONGEST_LINE)
            continue
        if is_first:
            data = data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data
        if data.strip():
            is_first = False
            yield f"line {number}", _json_line(data)


def _other_encoding(data: bytes) -> Encoding | None:
    # The mark of UTF-32 begins with that of UTF-16.
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    # Without a mark, two plain letters tell it: no text in UTF-8 begins with such zeros.
    zeros = [byte == 0 for byte in data]
    if zeros == [False, True, False, True]:
        return "UTF-16LE"
    return "UTF-16BE" if zeros == [True, False, True, False] else None


def _lines(file: IO[bytes]) -> Iterator[bytes | int]:
    """Yield each line without its end; of one that is too long its number of bytes.

    No more than a chunk and a line is held at a time. A file of this machine that is read to its
    end is hashed on the way, so that nobody has to read it again to tell whether it has changed.
    """
    digest, before = hashlib.sha256(), _status(file)
    head: list[bytes] = []  # of a line that goes on in the next chunk
    n_bytes = 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        first, *rest = chunk.split(b"\n")
        n_bytes += len(first)
        if n_bytes <= LONGEST_LINE:
            head.append(first)
        if not rest:
            continue
        yield n_bytes if n_bytes > LONGEST_LINE else b"".join(head)
        yield from rest[:-1]
        head, n_bytes = [rest[-1]], len(rest[-1])
    if n_bytes:
        yield n_bytes if n_bytes > LONGEST_LINE else b"".join(head)
    after = _status(file)
    if before is not None and after is not None:
        remember(identity(before), after, digest.hexdigest())


def _status(file: IO[bytes]) -> os.stat_result | None:
    try:
        return os.fstat(file.fileno())
    except (OSError, AttributeError):  # of another file system
        return None


def _is_values(file: IO[bytes]) -> bool:
    """Return whether a file is an array of objects, or objects of several lines each."""
    is_stream = is_values(file.read(_HEAD))
    file.seek(0)
    return is_stream


def _json_line(data: bytes) -> dict[str, Any] | Reason:
    try:
        row = _FAST.decode(data)
        if isinstance(row, dict):
            return row
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass  # the slower reader takes what is beside the standard, or says why
    try:
        row = json.loads(data.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        return words.NotUtf8(error.start + 1)
    except json.JSONDecodeError as error:
        return words.NotJson(error.msg, error.colno)
    except (RecursionError, ValueError) as error:  # nested too deep, a number of too many digits
        return words.UnreadableJson(cause(error).partition(":")[0])
    return row if isinstance(row, dict) else words.NoObject(json.dumps(row)[:60])


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")


def _separator(header: str) -> str:
    separators = [sign for sign in OTHER_SEPARATORS if _n_columns(header, sign) > 1]
    if not separators or _n_columns(header, ",") > 1:
        return ","
    if len(separators) > 1:
        names = " or ".join(OTHER_SEPARATORS[sign] for sign in separators)
        raise OSError(
            f"its header has no comma, and its columns may be separated by {names}. Save it as CSV "
            "with commas"
        )
    return separators[0]


def _n_columns(header: str, separator: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=separator, strict=True), []))
    except csv.Error:  # such as a quoted name that goes on in the next line
        return 0


def _csv(file: IO[bytes], separator: str | None) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    """Yield the rows; without a separator it is the one that the header shows."""
    text = _text(file)
    first = text.readline()
    # Strict: a quote that is never closed would swallow the lines behind it.
    reader = csv.DictReader(
        itertools.chain([first] if first else [], text),
        delimiter=separator or _separator(first),
        strict=True,
    )
    twice = [name for name, n in Counter(_header(reader)).items() if n > 1]
    if twice:
        raise OSError(f"its header has {', '.join(twice)} more than once")
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield f"line {reader.line_num}", words.NotCsv(str(error))
            continue
        if row is None:
            return
        where = f"line {reader.line_num}"
        if None in row or None in row.values():
            yield where, words.OtherFieldCount(len(reader.fieldnames or ()))
        elif any("\udc80" <= character <= "\udcff" for character in "".join(row.values())):
            yield where, words.NotUtf8()
        else:
            yield where, dict(row)


def _header(reader: csv.DictReader[str]) -> Sequence[str]:
    try:
        return reader.fieldnames or ()
    except csv.Error as error:
        raise OSError(f"its header is not CSV ({error})") from error


def _parquet(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_PARQUET_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except Exception as error:  # pyarrow raises its own, OSError and UnicodeDecodeError
        raise OSError(f"no Parquet file ({cause(error)})") from error


_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,\[\ufeff]*")
_END = re.compile(r"[\s,\]]*")
_CLOSED = re.compile(r"\s*\]")


def is_values(head: bytes) -> bool:
    """Return whether a file begins with an array of objects, or an object of several lines."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return re.match(rb"\[\s*\{|\[\s*$|\{\s*\n|\[\s*\]", text) is not None


def values_in(file: IO[bytes], longest: int) -> Iterator[tuple[str, dict[str, Any] | Reason]]:
    """Yield where each object stands ("row 3") with it, or with what is wrong; then it ends.

    No more than an object and a chunk are held.

    Args:
        file: of JSON.
        longest: characters that an object may have.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    text, position, number, is_over = "", 0, 0, False
    while True:
        position = _behind(_BETWEEN, text, position)
        where = f"row {number + 1}"
        try:
            if position == len(text):
                raise json.JSONDecodeError("cut off", text, position)
            start = position
            value, position = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            if _END.fullmatch(text, position) and is_over:
                return
            rest = len(text) - position
            if is_over or rest > longest:
                yield where, words.RowTooLong() if rest > longest else _problem(error, text)
                return
            try:
                chunk = file.read(max(_CHUNK, rest))
                is_over = not chunk
                text, position = text[position:] + decode(chunk, is_over), 0
            except UnicodeDecodeError:
                yield where, words.NotUtf8()
                return
            continue
        except (RecursionError, ValueError):
            yield where, words.UnreadableJson()
            return
        number += 1
        if position - start > longest:
            yield where, words.RowTooLong()
        else:
            yield where, value if isinstance(value, dict) else words.NoObject()
        position = _behind(_CLOSED, text, position)


def _behind(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return the place behind what stands at a place, if it does."""
    match = pattern.match(text, position)
    return match.end() if match else position


def _problem(error: json.JSONDecodeError, text: str) -> Reason:
    is_cut_off = error.pos >= len(text) - 1 or error.msg.startswith("Unterminated")
    return words.JsonEndsHere("" if is_cut_off else error.msg)
