import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Test modules are imported by their files; what several of them need lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

import pytest
import tiny_student


@pytest.fixture(scope="session")
def students(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a trained student and its untouched twin."""
    return tiny_student.make_students(tmp_path_factory.mktemp("students"))
