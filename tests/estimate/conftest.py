"""Makes the helpers of these tests, and the benchmark that fits the constants, importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "estimate"))
