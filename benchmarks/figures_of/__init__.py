"""What each block of figures says, from the raw results: see `figures.py`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

MODULES = (
    "commands", "contrib", "gym", "kinds", "planning", "runs", "scoreboard", "serving",
    "summary", "training",
)  # fmt: skip


def _blocks() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the blocks of all modules but those of rooms of contrib that are not here."""
    for name in MODULES:
        try:
            module = importlib.import_module(f"figures_of.{name}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("stratos.contrib."):
                raise
            continue
        yield from module.BLOCKS.items()


BLOCKS: dict[str, Callable[[], str]] = dict(_blocks())
