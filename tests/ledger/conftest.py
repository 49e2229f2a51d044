import sys
from pathlib import Path

# Test modules are imported by their files; what several of them need lies beside them.
sys.path.insert(0, str(Path(__file__).parent))
