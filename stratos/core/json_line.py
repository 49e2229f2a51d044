"""`--json`: what a command says to a program, as one line of JSON on standard output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import msgspec

from stratos.core.printable import visible
from stratos.core.redact import redact_text

FLAG = "--json"


def add_flag(parser: argparse.ArgumentParser, what: str = "one JSON object") -> None:
    """Add the flag to a command that has it.

    Args:
        parser: of the command.
        what: it prints then.
    """
    parser.add_argument(FLAG, action="store_true", help=what)


def json_line(value: object) -> str:
    """Return a value as JSON without line breaks.

    Args:
        value: of dicts, lists, plain values and dataclasses; of numbers that are not finite, which
            JSON has none of, null is written.
    """
    plain = msgspec.json.decode(msgspec.json.encode(value, enc_hook=float))  # NumPy's, too
    return json.dumps(plain)


_VARIABLE = "STRATOS_JSON"
"""By which the processes that a command starts know of it."""

_kept: list[TextIO] = []
"""Standard output, while all else that is written to it goes to standard error."""


def take_flag(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the flag, which Hydra does not know; remember it."""
    if FLAG in arguments:
        os.environ[_VARIABLE] = "1"
    return [one for one in arguments if one != FLAG]


def is_for_machines() -> bool:
    """Return whether standard output is kept for the line."""
    return os.environ.get(_VARIABLE) == "1"


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Keep standard output for the lines, whoever else writes to it: Hydra, a library."""
    if not is_for_machines():
        yield
        return
    _kept.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()


def say_ended(folder: Path, stages: Sequence[str], numbers: Mapping[str, Any], usd: float) -> None:
    """Write the line of a run that has ended well, if it was asked for.

    Args:
        folder: of the run.
        stages: that have a record.
        numbers: that runs are compared by.
        usd: spent by the run.
    """
    _say({"status": "finished", "folder": str(folder), "stages": list(stages), "spent_usd": usd,
          **numbers})  # fmt: skip


def say_failed(folder: Path, error: BaseException) -> None:
    """Write the line of a run that has failed, if it was asked for."""
    told = redact_text(visible(str(error))) or type(error).__name__
    _say({"status": "failed", "folder": str(folder), "error": told})


def _say(line: Mapping[str, Any]) -> None:
    if is_for_machines():
        print(json_line(line), file=_kept[-1] if _kept else sys.stdout, flush=True)
