"""`--json`: what a command says to a program, as one line of JSON on standard output."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

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
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
