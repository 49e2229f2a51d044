from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.append(str(Path(__file__).parents[3] / "report"))


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """Records of a realistic Mahjong run."""
    return importlib.import_module("factory")
