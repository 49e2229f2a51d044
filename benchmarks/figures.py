"""Write the measured numbers of README and docs from the raw results of the benchmarks.

    python benchmarks/figures.py            rewrites every block between its two markers
    python benchmarks/figures.py --check    fails if a block does not say what the result says

A block stands between `<!-- figures: NAME -->` and `<!-- /figures -->`. What stands in it is what
the function NAME of `figures_of` returns, from `benchmarks/results/*.json` alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures_of import BLOCKS

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
BLOCK = re.compile(
    r"(?P<open><!-- figures: (?P<name>\w+) -->\n).*?(?P<close><!-- /figures -->)", re.DOTALL
)


def rewritten(text: str) -> str:
    """Return a document with every block as the results have it.

    Raises:
        KeyError: a block that nothing writes.
    """
    return BLOCK.sub(lambda m: f"{m['open']}{BLOCKS[m['name']]().strip()}\n{m['close']}", text)


def main() -> None:
    """Rewrite the documents, or check them."""
    stale = [path for path in DOCUMENTS if rewritten(path.read_text()) != path.read_text()]
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(path.relative_to(ROOT).as_posix() for path in stale)
            sys.exit(f"{names}: not what benchmarks/results says. Type: python {sys.argv[0]}")
        return
    for path in stale:
        path.write_text(rewritten(path.read_text()))
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
