import sys
from pathlib import Path

# The tests of a folder share its helper module.
sys.path.insert(0, str(Path(__file__).parent))
