"""Where chunks of work run: in this process, or on a cluster that a package of contrib knows.

An engine applies a function to chunks and gives the results in the order of the chunks, so that
what is made of them does not depend on the engine. Money and kept answers stay with the process
that runs the stage; an engine is handed neither.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TypeVar

from stratos.core.extensions import extensions, load
from stratos.core.reasons import Reason

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
