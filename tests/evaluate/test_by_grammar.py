"""Which answers of a student are also asked for with constrained decoding."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import EvaluateConfig
from stratos.evaluate import answers
from stratos.evaluate.answers import schemas_of
from stratos.tasks.jsonl import JsonlTask

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Told:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warn = self.note = self.said.append


def asked(folder: Path, completion: str, schema: Any = SCHEMA, **options: Any) -> tuple[Any, Any]:
    rows = [{"question": f"What is {i}?", "answer": {"n": i}} for i in range(200)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "schema.json").write_text(json.dumps(schema))
    row = json.dumps({"completion": completion})
    (folder / "train.jsonl").write_text(f"{row}\n" * 3)
    task = JsonlTask(str(folder / "rows.jsonl"), schema=str(folder / "schema.json"))
    evaluate, items = EvaluateConfig(**options), task.items("test", 4)
    corpus: Any = SimpleNamespace(path=str(folder / "train.jsonl"))
    context: Any = Told()
    return schemas_of(task, evaluate, corpus, items, context), context.said


def test_bare_json_is_constrained_and_reasoning_is_not(tmp_path):
    pytest.importorskip("llguidance", reason="needs the extra schema")
    assert asked(tmp_path, '{"n": 1}') == ([SCHEMA] * 4, [])
    assert asked(tmp_path, '{"n": 1}', constrained=False) == ([], [])
    said = "The student reasons before it answers: its decoding is not constrained."
    assert asked(tmp_path, 'It is one. Answer: {"n": 1}') == ([], [said])


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "is_installed", lambda: False)
    found, [said] = asked(tmp_path, '{"n": 1}')
    assert found == []
    assert "llguidance" in said and "[schema]" in said
