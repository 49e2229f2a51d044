"""How large the code is, how long its tests take, and how many tests there are.

    python benchmarks/product/house.py [--tests] [--keep]

Lines of code are those that are neither blank, nor comment, nor docstring. `--tests` types
`make test` as a contributor does and times it, which says little on a busy machine.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import record

ROOT = record.ROOT
LAYOUT = frozenset(
    (
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
        tokenize.ENDMARKER, tokenize.ENCODING,
    )
)  # fmt: skip
"""Tokens that make no line one of code."""


def lines_of_code(text: str) -> int:
    """Return how many lines of a module are neither blank, nor comment, nor docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    spans = [(token.start[0], token.end[0]) for token in tokens if token.type not in LAYOUT]
    lines = {line for first, last in spans for line in range(first, last + 1)}
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def sizes() -> dict[str, int]:
    """Count packages, files and lines of code."""
    files = sorted((ROOT / "stratos").rglob("*.py"))
    lines = {path: lines_of_code(path.read_text(encoding="utf-8")) for path in files}
    contrib = sum(n for path, n in lines.items() if path.is_relative_to(ROOT / "stratos/contrib"))
    return {
        "core_lines": sum(lines.values()) - contrib,
        "contrib_lines": contrib,
        "files": len(files),
        "packages": sum((path / "__init__.py").exists() for path in (ROOT / "stratos").iterdir()),
        "rooms": len(list((ROOT / "stratos/contrib").glob("*/__init__.py"))),
    }


def timed_tests() -> dict[str, float]:
    """Type `make test`, which must pass, and return its wall and CPU seconds."""
    used = record.measured_process(["make", "test"], cwd=ROOT)
    return {"seconds": used["wall_s"], "cpu_seconds": used["cpu_s"]}


def main() -> None:
    """Measure, print, and keep."""
    parser = record.arguments(__doc__)
    parser.add_argument("--tests", action="store_true", help="time make test, too")
    options = parser.parse_args()
    result: dict[str, Any] = {"sizes": sizes()}
    if options.tests:
        result["tests"] = timed_tests()
    record.finish("house", result, options)


if __name__ == "__main__":
    main()
