"""The seed of a run that was typed none, of a task that makes its items.

The developers of Stratos have read the test items of seed 0, so that an accuracy on these is one
that the code was made with. So the seed is the time, and the command goes on as if it had been
typed: the run folder keeps it, the jobs of a sweep share it, and the page shows it in the command
that repeats the run. A run that goes on from the records of another has the seed of that. The rows
of a file are split once, whatever the seed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from stratos.core.errors import ConfigError
from stratos.run.mirror import copied_config
from stratos.run.stored_config import HYDRA

VARIABLE = "STRATOS_SEED"
"""Of the environment: the seed of all commands that are typed none."""
_CONFIG = "config.yaml"
_LINE = re.compile(r"^seed: (\d+)\s*$", re.MULTILINE)
"""Of a config as Hydra writes it: read without YAML, which takes its time."""


def drawn_seed(
    folder: Path,
    mirror: str | None = None,
    records: Path | None = None,
    now: float | None = None,
) -> int:
    """Return the seed that a run or a sweep goes on with, else a new one.

    Args:
        folder: of the run, or of the sweep, whose jobs lie in it.
        mirror: URL of the copy of the run folder.
        records: folder of another run, whose records are read.
        now: seconds since the epoch; None for those of the clock.

    Raises:
        ConfigError: the variable of the environment holds no seed.
        StratosError: the copy cannot be read.
    """
    for text in _configs(folder, mirror, records):
        if (match := _LINE.search(text)) is not None:
            return int(match[1])
    if text := os.environ.get(VARIABLE, ""):
        if not (text.isascii() and text.isdigit() and int(text) < 2**32):
            raise ConfigError(f"{VARIABLE}={text}: a seed is a whole number from 0 to {2**32 - 1}.")
        return int(text)
    return int(time.time() if now is None else now) % 2**32


def _configs(folder: Path, mirror: str | None, records: Path | None) -> Iterator[str]:
    """Yield the configs of earlier commands of the run or the sweep, then of what it reads."""
    yield _text(folder / HYDRA / _CONFIG)
    yield from map(_text, sorted(folder.glob(f"*/{HYDRA}/{_CONFIG}")))
    if mirror is not None:
        yield copied_config(mirror)
    if records is not None:
        yield _text(records / HYDRA / _CONFIG)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
