"""What README and docs say between the markers of a figure is what the kept results say."""

from __future__ import annotations

import importlib.util
import json
import subprocess
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


def test_documents_say_what_the_results_say(figures):
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


def test_a_figure_that_was_changed_by_hand_is_noticed(figures):
    text = next(t for p in figures.DOCUMENTS if "<!-- figures: " in (t := p.read_text()))
    changed = text.replace("0.978 (0.960 to 0.989)", "0.998 (0.990 to 0.999)")
    for document in (changed, text.replace("<!-- /figures -->", "99%\n<!-- /figures -->", 1)):
        if document != text:
            assert figures.rewritten(document) == text


SINCE = "2026-12-01"
"""From when on a result is kept of a commit alone."""


def test_every_result_says_what_made_it():
    for path in (BENCHMARKS / "results").rglob("*.json"):
        content = json.loads(path.read_text())
        assert {"date", "machine", "cores", "load_average", "commit"} <= content.keys(), path
        is_old = content["date"] < SINCE
        assert is_old or not ("dirty" in content["commit"] or "commit_is_lost" in content), path


def test_a_result_is_kept_of_a_commit_alone(figures, tmp_path, monkeypatch):
    record = sys.modules["record"]
    monkeypatch.setattr(record, "ROOT", tmp_path)

    def refused() -> str:
        record.commit.cache_clear()
        with pytest.raises(SystemExit) as caught:
            record.arguments("").parse_args(["--keep"])
        return str(caught.value)

    assert "this is no clone" in refused()
    code = tmp_path / "code.py"
    code.write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"]):
        subprocess.run([*git, *words], check=True)
    record.commit.cache_clear()
    assert len(record.commit()) == 12
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "a.json").write_text("{}")
    record.commit.cache_clear()
    assert record.commit()  # a result is no code
    code.write_text("2")
    assert "code.py" in refused()
    (tmp_path / "new.py").write_text("3")
    assert "new.py" in refused()
    record.commit.cache_clear()
