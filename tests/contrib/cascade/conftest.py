import sys
from pathlib import Path

# The tiny task, its student and its records are those of the evaluation's tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "evaluate"))
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy"))
