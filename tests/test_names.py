"""Names tell a reader what they hold: pronouns and participles are no names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import stratos

ROOT = Path(stratos.__file__).parent
REFUSED = frozenset(
    (
        "one",
        "found",
        "told",
        "said",
        "kept",
        "asked",
        "place",
        "left",
        "other",
        "others",
        "wanted",
        "held",
        "ways",
        "handed",
        "taken",
    )
)
ALLOWED = 60
"""Nouns of `docs/glossary.md`, at most."""


def bindings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each variable, parameter, field, function and class."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.arg():
                yield node.lineno, node.arg
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name.lower()
            case ast.ExceptHandler(name=str() as name):
                yield node.lineno, name


@pytest.mark.parametrize("package", sorted(p.name for p in ROOT.iterdir() if p.name[0] != "_"))
def test_no_name_is_a_pronoun(package):
    refused = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted((ROOT / package).rglob("*.py")) or [ROOT / package]
        if path.suffix == ".py"
        for line, name in [
            (0, path.stem),
            *bindings(ast.parse(path.read_text(encoding="utf-8"))),
        ]
        if name in REFUSED
    ]
    assert refused == [], "a noun of docs/glossary.md says what it is"


def test_the_glossary_is_short():
    text = (ROOT.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
    nouns = re.findall(r"^- \*\*(.+?)\*\*: ", text, re.MULTILINE)
    assert 40 < len(nouns) == len(set(nouns)) <= ALLOWED
