"""What a test may lack: it is skipped where that is not there, and fails where it has to be."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

VARIABLE = "STRATOS_TESTS_REQUIRE"
"""Names, separated by commas, of what has to be there: continuous integration sets it."""


def lacking(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail it where `name` is required."""
    if name in os.environ.get(VARIABLE, "").split(","):
        pytest.fail(f"{reason} ({VARIABLE}={os.environ[VARIABLE]})", pytrace=False)
    pytest.skip(reason)
