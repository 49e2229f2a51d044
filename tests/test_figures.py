"""What README and docs say between the markers of a figure is what the kept results say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.pages import contrib_pages

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("figures", BENCHMARKS / "figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_say_what_the_results_say(figures: ModuleType) -> None:
    texts = {path: path.read_text() for path in figures.DOCUMENTS}
    assert any("<!-- figures: " in text for text in texts.values())
    for path, text in texts.items():
        written = here(figures.rewritten(text), path)
        assert written == here(text, path), f"{path}: type python benchmarks/figures.py"


def here(text: str, page: Path) -> str:
    """Return a text without the lines that link to the page of a room that is not here."""
    return "\n".join(
        line
        for line in text.splitlines()
        if all(linked.exists() for linked in contrib_pages(line, page))
    )


def test_a_figure_that_was_changed_by_hand_is_noticed(figures: ModuleType) -> None:
    text = next(t for p in figures.DOCUMENTS if "<!-- figures: " in (t := p.read_text()))
    changed = text.replace("0.978 (0.960 to 0.989)", "0.998 (0.990 to 0.999)")
    for document in (changed, text.replace("<!-- /figures -->", "99%\n<!-- /figures -->", 1)):
        if document != text:
            assert figures.rewritten(document) == text
