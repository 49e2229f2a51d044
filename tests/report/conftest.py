"""What the tests of reports share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import chrome, page
from tests.report import factory

__all__ = ["chrome", "page"]


@pytest.fixture
def records(tmp_path: Path) -> dict[str, Any]:
    """Records of a realistic Mahjong run, whose student has 979 of 1,000 test items."""
    return factory.make_records(tmp_path)
