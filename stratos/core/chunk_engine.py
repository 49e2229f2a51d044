"""Where chunks of work run: in this process or on a Ray cluster.

An engine applies a function to chunks and gives the results in the order of the chunks, so that
what is made of them does not depend on the engine. Money and kept answers stay with the process
that runs the stage; an engine is handed neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Engine(Protocol):
    """What applies functions to chunks."""

    def map(
        self, function: Callable[[list[A]], list[B]], chunks: Iterable[list[A]], n_gpus: float = 0.0
    ) -> Iterator[list[B]]:
        """Yield what a function makes of each chunk, in order.

        Args:
            function: of one chunk; may be called again for a chunk whose worker died.
            chunks: taken as there is room for them.
            n_gpus: GPUs that a call takes, where there are any.
        """
        ...


class Here:
    """This process: one chunk after the other."""

    def map(
        self, function: Callable[[list[A]], list[B]], chunks: Iterable[list[A]], n_gpus: float = 0.0
    ) -> Iterator[list[B]]:
        """Yield what a function makes of each chunk, when it is asked for."""
        return map(function, chunks)


def in_chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Yield items in lists of a size; the last may be shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
