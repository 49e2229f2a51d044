"""A run folder in which the corpus is made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the tests share lies beside them

from prepared import command, mark, prepared, trained

__all__ = ["command", "prepared", "trained"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark(items, "prepared", pytest.mark.slow)
