import sys
from pathlib import Path

# The tests of a folder share its helper modules, and some of another test file.
HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    *(str(HERE / room) for room in ("options", "accuracy", "solve", "explain")),
]
