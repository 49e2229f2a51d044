import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # rows that several tests share
