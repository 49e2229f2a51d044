import sys
from pathlib import Path

# The teachers and runs of other tests.
TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "synthesize"), str(TESTS / "teachers"), str(Path(__file__).parent)]
