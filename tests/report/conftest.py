from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.browser import chrome, page

sys.path.append(str(Path(__file__).parent))  # what the tests share lies beside them

__all__ = ["chrome", "page"]

_spec = importlib.util.spec_from_file_location(
    "report_factory", Path(__file__).with_name("factory.py")
)
assert _spec is not None and _spec.loader is not None
_factory = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _factory
_spec.loader.exec_module(_factory)


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """Records of a realistic Mahjong run."""
    return _factory
