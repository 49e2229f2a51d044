"""Tiny students, and trainings on a small corpus, as the core's tests have them."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parents[2] / "evaluate"))
sys.path.append(str(Path(__file__).parents[2] / "distill"))

from training_runs import corpus_path, run_distill

__all__ = ["corpus_path", "run_distill"]
