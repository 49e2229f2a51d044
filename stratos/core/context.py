"""What a stage gets besides config and records, and the engine that its chunks of work run on.

An engine applies a function to chunks and gives the results in the order of the chunks, so that
what is made of them does not depend on the engine. Money and kept answers stay with the process
that runs the stage; an engine is handed neither.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stratos.core.extensions import extensions, load
from stratos.core.reasons import Reason

if TYPE_CHECKING:
    from stratos.ledger import Ledger


A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


class Engine(ABC):
    """What applies functions to chunks."""

    @abstractmethod
    def map(
        self, function: Callable[[list[A]], list[B]], chunks: Iterable[list[A]], n_gpus: float = 0.0
    ) -> Iterator[list[B]]:
        """Yield what a function makes of each chunk, in order.

        Args:
            function: of one chunk; may be called again for a chunk whose worker died.
            chunks: taken as there is room for them.
            n_gpus: GPUs that a call takes, where there are any.
        """

    def spread(self, teacher: T) -> T:
        """Return a teacher that answers where the chunks are worked on; by default here."""
        return teacher

    @classmethod
    def unusable(cls) -> Reason | None:
        """Return why there can be no such engine here; None if there can."""
        return None

    @classmethod
    @abstractmethod
    def connected(
        cls, address: str | None, say: Callable[[str], None]
    ) -> AbstractContextManager[Engine]:
        """Return an engine that is there for the length of a block.

        Args:
            address: of what runs already; None starts it.
            say: takes a line about it.

        Raises:
            StratosError: it cannot be had.
        """


class Here(Engine):
    """This process: one chunk after the other."""

    def map(
        self, function: Callable[[list[A]], list[B]], chunks: Iterable[list[A]], n_gpus: float = 0.0
    ) -> Iterator[list[B]]:
        """Yield what a function makes of each chunk, when it is asked for."""
        return map(function, chunks)

    @classmethod
    def connected(
        cls, address: str | None, say: Callable[[str], None]
    ) -> AbstractContextManager[Engine]:
        """Return an engine, which is always there."""
        return nullcontext(cls())


ENGINES = {
    "local": f"{__name__}:Here",
    **{name: target for room in extensions() for name, target in room.chunk_engines.items()},
}
"""Choice of `synthesize.engine` to the class of the engine."""


def engine_of(name: str) -> type[Engine]:
    """Return the class of an engine, by its name in `ENGINES`."""
    engine: type[Engine] = load(ENGINES[name])
    return engine


def in_chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Yield items in lists of a size; the last may be shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def unsaid(*values: Any, **named: Any) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Context:
    """Handed to every stage by the pipeline."""

    run_dir: Path
    """Folder of the run; a stage writes its big files here."""
    cache_dir: Path
    """Folder shared by runs; content-addressed."""
    ledger: Ledger
    """What was spent so far; every paid call is reserved and settled here."""
    tick: Callable[..., None] = field(default=unsaid)
    """Progress of the stage: tick(done, total, text="")."""
    warn: Callable[[str], None] = field(default=unsaid)
    """Say something that the user should read; kept and shown at the end too."""
    log: Callable[..., None] = field(default=unsaid)
    """Metrics for the tracker: log({"name": value}, step=None)."""
    fingerprint: str = ""
    """What the stage's inputs are: a checkpoint made from others must not be gone on from."""
    sample: Callable[..., None] = field(default=unsaid)
    """Show an answer that was just given: sample(model, question, gold, answer, is_right=None)."""
    note: Callable[[str], None] = field(default=unsaid)
    """Say something that explains what happens next; shown and not kept."""
    spent_seconds: float = 0.0
    """What the stages before this one took: `limits.deadline_hours` is for all of them."""
    answers_dir: Path | None = None
    """Where answers of hosted teachers are kept beside the cache; None where the folder of the run
    has no copy."""
    engine: Engine = field(default_factory=Here)
    """Where work is done that is the same wherever it is done."""
