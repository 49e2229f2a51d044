"""What is wrong with a command line, as a user reads it before anything runs."""

from __future__ import annotations

import re

from hydra._internal.utils import get_args_parser

from stratos.cli.check import check
from stratos.core.errors import ConfigError


def problems(*argv: str) -> list[str]:
    """Return the mistakes of a command line."""
    try:
        check(get_args_parser().parse_args(list(argv)))
    except ConfigError as error:
        lines = str(error).splitlines()
        if len(lines) > 1:
            assert lines[0] == f"{len(lines) - 1} problems in the configuration:"
            return [line.removeprefix("  ") for line in lines[1:]]
        return lines
    return []


def shape(line: str) -> str:
    """Return a message without what changes whenever a choice is added."""
    return re.sub(r"Known: [^.]+\.", "Known: ….", line)
