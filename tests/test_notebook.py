"""The notebook and the page for Python: every cell runs, and every name that is told is there."""

from __future__ import annotations

import ast
import inspect
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import stratos
from stratos.models.kinds import student_kinds

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "tickets.ipynb"
PAGES = ("python.md",)
OFFERED = {"run": stratos.Run, "student": stratos.Student, "server": stratos.Served}
"""Names that the pages give to what is made."""


def cells() -> list[str]:
    made = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """In a kernel of Jupyter, where there is one; else its cells in order, in this process.

    Here it is as on a machine without the weights of an encoder, which takes a minute.
    """
    here = student_kinds.folder_here
    monkeypatch.setattr(
        student_kinds,
        "folder_here",
        lambda student: None if student.kind == "encoder" else here(student),
    )
    monkeypatch.setenv("STRATOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'launchers'}")
    monkeypatch.chdir(tmp_path)
    if find_spec("nbclient") and find_spec("ipykernel"):
        import nbclient
        import nbformat

        book = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
        answer = book.cells[-1].outputs[-1].data["text/plain"].strip("'")
    else:
        names: dict[str, Any] = {}
        for text in cells():
            exec(compile(text, NOTEBOOK.name, "exec"), names)
        answer = names["answer"]["choices"][0]["message"]["content"]
    assert answer == "charged_twice"
    assert (tmp_path / "outputs" / "tickets" / "report.html").is_file()


def test_the_notebook_holds_no_output_of_a_machine():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK.name])
def test_what_is_shown_of_python_is_there(page):
    texts = cells() if page == NOTEBOOK.name else python_of((ROOT / "docs" / page).read_text())
    known = inspect.signature(stratos.distil).parameters
    n = 0
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.ImportFrom) and node.module == "stratos":
            assert {name.name for name in node.names} <= {*stratos.__all__}
            n += 1
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "distil":
            assert {keyword.arg for keyword in node.keywords} <= known.keys()
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in OFFERED:
            made = OFFERED[ast.unparse(node.value)]
            is_field = node.attr in inspect.get_annotations(made)
            is_set = f"self.{node.attr} = " in inspect.getsource(made)
            assert is_field or is_set or node.attr in dir(made), ast.unparse(node)
    assert n


def python_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
