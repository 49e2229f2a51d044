import sys
from pathlib import Path

# The tiny task and its planned servers are those of the core's tests.
for folder in ("evaluate", "deploy"):
    sys.path.insert(0, str(Path(__file__).parents[2] / folder))
