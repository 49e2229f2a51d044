"""Memory-efficient storage of a file's rows.

A million rows as objects take half a gigabyte. Here a row takes 35 bytes: its hashes, and where its
text lies in a spool, which is memory while it is small, and a file without a name from then on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, overload

import msgspec

from stratos.tasks.dedup.hashes import content_hash, family_hash, normalised

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IN_MEMORY = 32 * 2**20
"""Bytes of a spool up to which it has no file, unless it is told another number."""
_WRITTEN_AT_ONCE = 2**20
_READ_AT_ONCE = 16 * 2**20


class Provenance(msgspec.Struct, frozen=True, array_like=True):
    """Which conversation a row is a turn of."""

    conversation: int
    """Its number among those of all files of the task."""
    time_s: float
    """When, in seconds since 1970; NaN where nobody says."""
    model: str
    """That wrote the answer; "" where nobody says."""
    workload: str
    """Id of the workload that it is of."""
    input_tokens: int | None = None
    """As logged; None where nobody says, or they are those of several answers."""
    output_tokens: int | None = None


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One line of the file."""

    line: str
    """Where it stands: "line 3"."""
    question: str
    answer: str
    rationale: str
    slice: str
    options: tuple[str, ...]
    provenance: Provenance | None = None
    """Of a row that is a turn of a conversation."""


Column = Literal["ids", "families", "answers", "slices", "has_path", "conversations", "times"]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Row).decode


class Spool:
    """Bytes that are appended once and read anywhere, on disk where they are many."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        """Start empty, in memory.

        Args:
            in_memory: bytes up to which it has no file.
        """
        self._in_memory = in_memory
        self._tail = bytearray()
        self._file: IO[bytes] | None = None
        self._n_written = 0

    def append(self, data: bytes) -> int:
        """Take bytes in; return where they end.

        Raises:
            OSError: the folder for temporary files is full.
        """
        self._tail += data
        n_bytes = len(self._tail)
        if n_bytes > (self._in_memory if self._file is None else _WRITTEN_AT_ONCE):
            self._write()
            return self._n_written
        return self._n_written + n_bytes

    def read(self, start: int, stop: int) -> bytes:
        """Return some of the bytes; any number of threads may."""
        if start >= self._n_written:
            return bytes(self._tail[start - self._n_written : stop - self._n_written])
        assert self._file is not None
        return os.pread(self._file.fileno(), stop - start, start)

    def parts(self) -> Iterator[bytes]:
        """Yield all bytes, some at a time: a single read of a file ends at 2 GiB."""
        for start in range(0, self._n_written, _READ_AT_ONCE):
            yield self.read(start, min(start + _READ_AT_ONCE, self._n_written))
        yield bytes(self._tail)

    def read_all(self) -> bytes:
        """Return all bytes."""
        return b"".join(self.parts())

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it lives as we do)
        tail, self._tail = self._tail, bytearray()
        remaining = memoryview(tail)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        self._n_written += len(tail)

    def __getstate__(self) -> bytes:
        """Return all bytes: a spool that is sent to another process takes them along."""
        return self.read_all()

    def __setstate__(self, data: bytes) -> None:
        """Take all bytes in."""
        self.__init__()  # type: ignore[misc]
        self.append(data)


class Table:
    """The rows of one file, in the order of its lines."""

    def __init__(self) -> None:
        self._spool = Spool()
        self._ends = array("Q")
        self.ids = array("Q")
        self.families = array("Q")
        self.answers = array("Q")
        """Of each answer a hash: equal answers have equal ones."""
        self.slices = array("H")
        self.has_path = array("B")
        self.conversations = array("Q")
        """Of rows that are turns: which conversation."""
        self.times = array("d")
        """The same: when, in seconds since 1970, or NaN."""
        self.slice_names: dict[str, int] = {}

    def append(self, row: Row) -> None:
        """Take a row in."""
        normal = normalised(row.question)
        self.ids.append(content_hash(normal))
        self.families.append(family_hash(normal))
        self.answers.append(answer_hash(row.answer))
        self.slices.append(self.slice_names.setdefault(row.slice, len(self.slice_names)))
        self.has_path.append(bool(row.rationale))
        if row.provenance is not None:
            self.conversations.append(row.provenance.conversation)
            self.times.append(row.provenance.time_s)
        self._ends.append(self._spool.append(_encode(row)))

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, index: int) -> Row:
        """Return one row."""
        start = self._ends[index - 1] if index else 0
        return _decode(self._spool.read(start, self._ends[index]))

    def content_digest(self) -> bytes:
        """Return the SHA-256 of every row as bytes, in the order of the lines."""
        digest = hashlib.sha256()
        for part in self._spool.parts():
            digest.update(part)
        return digest.digest()

    def column(self, name: Column) -> NDArray[Any]:
        """Return one number of each row."""
        import numpy as np

        column = getattr(self, name)
        return np.frombuffer(column, column.typecode)


class Rows(Sequence[Row]):
    """Some rows of some tables, each made when it is asked for."""

    def __init__(
        self, tables: tuple[Table, ...], table: NDArray[np.uint8], index: NDArray[np.uint32]
    ) -> None:
        """Name rows: which table of `tables` each lies in, and where in it."""
        self._tables = tables
        self._table = table
        self._index = index

    @staticmethod
    def of(table: Table, mask: NDArray[np.bool_]) -> Rows:
        """Return the rows of a table that a mask takes."""
        import numpy as np

        index = np.flatnonzero(mask).astype(np.uint32)
        return Rows((table,), np.zeros(len(index), np.uint8), index)

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts, one after the other."""
        import numpy as np

        if len(parts) == 1:
            return parts[0]
        tables: list[Table] = []
        places = []
        for part in parts:
            places.append(part._table + np.uint8(len(tables)))
            tables += part._tables
        empty = np.zeros(0, np.uint32)
        return Rows(
            tuple(tables),
            np.concatenate([*places, empty.astype(np.uint8)]),
            np.concatenate([*(part._index for part in parts), empty]),
        )

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, key: int) -> Row: ...

    @overload
    def __getitem__(self, key: slice) -> Rows: ...

    def __getitem__(self, key: int | slice) -> Row | Rows:
        if isinstance(key, slice):
            return Rows(self._tables, self._table[key], self._index[key])
        return self._tables[int(self._table[key])].row(int(self._index[key]))

    def __iter__(self) -> Iterator[Row]:
        for k in range(len(self)):
            yield self[k]

    def take(self, where: NDArray[Any]) -> Rows:
        """Return the rows at these places, or those that a mask takes."""
        return Rows(self._tables, self._table[where], self._index[where])

    def column(self, name: Column) -> NDArray[Any]:
        """Return one number of each row: see `Table`."""
        import numpy as np

        if len(self._tables) == 1:
            return self._tables[0].column(name)[self._index]
        columns = [table.column(name) for table in self._tables]
        values = [columns[k][i] for k, i in zip(self._table, self._index, strict=True)]
        return np.array(values, columns[0].dtype if columns else np.uint64)

    def of_slice(self, name: str) -> NDArray[np.bool_]:
        """Return a mask of the rows of one slice."""
        import numpy as np

        mask = np.zeros(len(self), bool)
        slices = self.column("slices")
        for k, table in enumerate(self._tables):
            if name in table.slice_names:
                mask |= (self._table == k) & (slices == table.slice_names[name])
        return mask

    def of_answer(self, answer: str) -> NDArray[np.bool_]:
        """Return a mask of the rows with one answer."""
        return self.column("answers") == answer_hash(answer)

    def respelled(self, spellings: Mapping[str, str]) -> Rows:
        """Return the rows with other spellings of their answers.

        Args:
            spellings: an answer to how it is spelled from now on; others stay.
        """
        import numpy as np
        from msgspec.structs import replace

        table = Table()
        for row in self:
            table.append(replace(row, answer=spellings.get(row.answer, row.answer)))
        return Rows.of(table, np.ones(len(table), bool))

    def sha256(self) -> str:
        """Return the digest of what the rows and all others of their files hold."""
        digest = hashlib.sha256()
        for table in self._tables:
            digest.update(table.content_digest())
        digest.update(self._table.tobytes() + self._index.tobytes())
        return digest.hexdigest()

    def answers(self, n: int) -> list[str]:
        """Return the different answers in their order; of more than `n`, some that are fixed."""
        import numpy as np

        _, first = np.unique(self.column("answers"), return_index=True)
        # The hashes are sorted: those taken depend on the answers alone, not on their order.
        return sorted(self[int(k)].answer for k in first[:n])


def answer_hash(answer: str) -> int:
    """Return a number that differs where answers do: two checksums, for a slip costs a choice."""
    data = answer.encode("utf-8", "surrogatepass")
    return zlib.crc32(data) << 32 | zlib.adler32(data)
