"""How large the code is, how long its tests take, and how many tests there are.

    python benchmarks/product/house.py [--tests] [--keep]

Lines of code are those that are neither blank, nor comment, nor docstring. `--tests` types
`make test` as a contributor does and times it, which says little on a busy machine.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import keep

ROOT = Path(__file__).parents[2]
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
    for first, last in _texts(ast.parse(text)):
        lines -= set(range(first, last + 1))
    return len(lines)


def _texts(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield first and last line of every statement that is but a text."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                yield node.lineno, node.end_lineno or node.lineno


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
    before, start = os.times(), time.monotonic()
    if subprocess.run(["make", "test"], cwd=ROOT, check=False).returncode:
        sys.exit("make test has failed: nothing is kept.")
    after = os.times()
    cpu = after.children_user + after.children_system
    return {
        "seconds": time.monotonic() - start,
        "cpu_seconds": cpu - before.children_user - before.children_system,
    }


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="time make test, too")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"sizes": sizes()}
    if arguments.tests:
        found["tests"] = timed_tests()
    for group, values in found.items():
        for name, value in values.items():
            print(f"{group}: {name} {value:,.0f}")
    if arguments.keep:
        keep("house", found)


if __name__ == "__main__":
    main()
