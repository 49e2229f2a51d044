from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the tests share lies beside them

from served_bundle import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, whose answers are decided: no two tokens come close."""
    return make_bundle(tmp_path_factory.mktemp("bundle"))
