"""Tasks are put together: no class changes what another keeps to itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import fsspec
import pytest

from stratos.core.trust import find_class
from stratos.tasks.base import Task
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.file_task import FileTask
from stratos.tasks.files import read_lines
from stratos.tasks.metrics import Exact
from stratos.tasks.reader import Content, FileReader
from stratos.tasks.rows import Fields, Record, RowSource

ROOT = Path(__file__).parents[2]
YAMLS = sorted((*ROOT.glob("conf/task/*.yaml"), *ROOT.glob("stratos/contrib/*/conf/task/*.yaml")))


def class_of(path: Path) -> type[Task]:
    lines = path.read_text().splitlines()
    name = next(line for line in lines if line.startswith("_target_")).split()[1]
    cls = find_class(name)
    assert isinstance(cls, type) and issubclass(cls, Task)
    return cls


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_no_class_changes_a_hook_or_takes_away_a_setting_of_another(path):
    cls = class_of(path)
    private = [
        name
        for base in cls.__mro__
        if base.__module__.startswith("stratos.")
        for name in vars(base)
        if name.startswith("_") and not name.startswith(("__", "_abc_"))
    ]
    assert len(private) == len(set(private))
    assert all(field.init for field in fields(cls))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_task_of_files_has_one_class_above_it_or_two(path):
    cls = class_of(path)
    above = [base for base in cls.__mro__[1:] if issubclass(base, FileTask)]
    assert len(above) <= 2, "a class of what conversations have in common may stand between"


def test_a_prompt_that_is_added_reads_no_file_again():
    rows = [{"text": f"ticket {n}", "label": "ab"[n % 2]} for n in range(60)]
    system = fsspec.filesystem("memory")
    with system.open("/tickets.jsonl", "w") as file:
        file.write("\n".join(map(json.dumps, rows)))
    task = ClassifyTask("memory://tickets.jsonl")
    assert task.n_train
    system.rm("/tickets.jsonl")
    twin = task.telling_apart("apart", "default", [("a", "b")])
    item = twin.items("validation", 1)[0]
    before, after = (twin.messages(item, prompt) for prompt in ("default", "apart"))
    assert "easily confused" in after[0]["content"] and before[1:] == after[1:]
    assert "apart" in twin.prompts and "apart" not in task.prompts


@dataclass(frozen=True)
class Pairs(FileTask[Content]):
    """Questions and answers in a format of their own: a line each, with an arrow between."""

    unlabelled_path: str | None = None
    slices: tuple[str, ...] = ("main",)
    measure = Exact()
    fields_named = Fields("question", "answer")

    @property
    def file_reader(self) -> FileReader:
        return replace(super().file_reader, source=RowSource(self.records))

    @staticmethod
    def records(path: str) -> Iterator[tuple[str, Record]]:
        for number, line in enumerate(read_lines(path), 1):
            question, _, answer = line.strip().partition(" => ")
            row = {"question": question, "answer": answer}
            yield f"line {number}", row


def test_a_format_of_its_own_is_read_in_every_file_of_the_task(tmp_path):
    labelled, others = tmp_path / "pairs.txt.gz", tmp_path / "others.txt"
    lines = [f"What is {n}? => {n}\n" for n in range(60)]
    labelled.write_bytes(gzip.compress("".join(lines).encode("utf-16")))
    others.write_text("What is pi?\nWhat is e?\n")
    task = Pairs(str(labelled), unlabelled_path=str(others))
    assert sum(len(task.items(split, 99)) for split in ("train", "validation", "test")) == 60
    assert {item.question for item in task.unlabelled(9)} == {"What is pi?", "What is e?"}
