import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tiny students are those of the evaluation's tests.
sys.path.append(str(Path(__file__).parents[2] / "evaluate"))
