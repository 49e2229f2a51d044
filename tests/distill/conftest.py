"""Trainings on a small corpus, and what the tests of the folder share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # modules that several tests share
sys.path.append(str(Path(__file__).parent / "signal"))  # a server that scores text

from training_runs import corpus_path, run_distill, trained

__all__ = ["corpus_path", "run_distill", "trained"]
