"""Write the corpus: decontaminate, deduplicate, store.

Rows go to Parquet in groups, so memory stays flat; the file appears under its name when it is
whole, and never before.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from stratos.core.atomic_files import flush, staged_apart
from stratos.synthesize.leaks import NEAR, HeldOut, NearDuplicates, family_of
from stratos.tasks.base import Item

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

COLUMNS = ("id", "family", "slice", "question", "rationale", "answer", "completion")

_ROWS_PER_GROUP = 4096


class CorpusFile:
    """Takes items one by one; `with` completes the file, an exception leaves none.

    Args:
        path: where the Parquet file is to lie.
        held_out: what may not be trained on.
        size_of: size of an item's answer, for the table of sizes.
        near: tells near duplicates; None keeps them.
    """

    def __init__(
        self,
        path: Path,
        held_out: HeldOut,
        size_of: Callable[[Item], int],
        near: NearDuplicates | None = None,
    ) -> None:
        """Open a temporary file beside `path`."""
        import pyarrow
        import pyarrow.parquet

        self.path = path
        self.refused: Counter[str] = Counter()
        self.n_by_slice: Counter[str] = Counter()
        self.answer_sizes: dict[str, Counter[int]] = {}
        self._held_out = held_out
        self._size_of = size_of
        self._near = near
        self._seen: set[str] = set()
        self._rows: list[tuple[str, ...]] = []
        self._sha256 = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = staged_apart(path)
        self._schema: pyarrow.Schema = pyarrow.schema(
            [(name, pyarrow.string()) for name in COLUMNS]
        )
        self._writer = pyarrow.parquet.ParquetWriter(self._temporary, self._schema)

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def sha256(self) -> str:
        """Hash of the content, row by row: equal for equal corpora, however they are stored."""
        return self._sha256.hexdigest()

    def add(self, item: Item, completion: str) -> bool:
        """Take an item, or count why it is refused."""
        if item.id in self._seen:
            self.refused["duplicate"] += 1
            return False
        leak = self._held_out.leak(item, completion)
        if leak is not None:
            self.refused[leak] += 1
            return False
        if self._near is not None and self._near.is_near(item):
            self.refused[NEAR] += 1
            return False
        self._seen.add(item.id)
        self.n_by_slice[item.slice] += 1
        self.answer_sizes.setdefault(item.slice, Counter())[self._size_of(item)] += 1
        self._rows.append(
            (
                *(item.id, family_of(item), item.slice, item.question),
                *(item.rationale, item.answer, completion),
            )
        )
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()
        return True

    def _flush(self) -> None:
        import pyarrow

        if not self._rows:
            return
        for row in self._rows:
            self._sha256.update("\x1f".join(row).encode("utf-8", "surrogatepass") + b"\n")
        columns = [
            pyarrow.array(column, pyarrow.string()) for column in zip(*self._rows, strict=True)
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=self._schema))
        self._rows.clear()

    def __enter__(self) -> CorpusFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Move the whole file to its name, or throw a part of one away."""
        try:
            if error is None:
                self._flush()
            self._writer.close()
            if error is None:
                flush(self._temporary)
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
