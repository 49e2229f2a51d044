"""`--help <group>`, `--version`: every key of every group has its type, default and meaning."""

from __future__ import annotations

import dataclasses
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from stratos.cli.build import CANDIDATES, GROUPS
from stratos.cli.help import group_page, groups, meanings_of
from stratos.config import StudentConfig
from stratos.core.errors import ConfigError, nearest
from stratos.core.extensions import shipped_choices
from stratos.core.trust import find_class
from stratos.synthesize.pseudo_labels import PseudoLabels
from stratos.tasks.classify import ClassifyTask
from stratos.teachers.openai import OpenAITeacher
from tests.in_process import stratos

EXECUTORS = [
    find_class(yaml.safe_load(file.read_text())["_target_"])
    for file in shipped_choices("executor").values()
]
SCHEMAS = (
    *GROUPS.values(), StudentConfig, ClassifyTask, PseudoLabels, OpenAITeacher, *EXECUTORS,
)  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_key_has_a_line_of_help(schema):
    meanings = meanings_of(schema)
    assert [f.name for f in dataclasses.fields(schema) if f.init and f.name not in meanings] == []


@pytest.mark.parametrize("group", ["trainer", "limits", "probe", "student=stratos_1m"])
def test_the_keys_of_a_group(group):
    page = group_page([group])
    name = group.partition("=")[0]
    schema = GROUPS.get(name, StudentConfig)
    for field in dataclasses.fields(schema):
        assert f"\n  {name}.{field.name}=" in page
    assert "None" not in page
    assert max(map(len, page.splitlines())) <= 200


def test_types_defaults_and_choices():
    trainer, cloud = groups(["trainer=lora", "cloud"])
    keys = {key.name: key for key in (*trainer.keys, *cloud.keys)}
    max_epochs, spot = keys["trainer.max_epochs"], keys["cloud.spot"]
    assert (max_epochs.default, max_epochs.kind) == (
        "null",
        "a whole number of at least -1 or null",
    )
    assert (spot.default, spot.kind) == ("false", "true or false")
    assert {name for name, _ in cloud.choices} >= {"aws", "local"} and not trainer.choices
    assert "--help cloud=<name>" in group_page(["cloud"])
    task = group_page(["+task=classify"])
    assert "  task.path=<required>\n" in task and "  task.metric=" not in task
    assert "  task.question=text|question\n" in task and "  task.answer=label|answer\n" in task
    readme = Path(__file__).parents[2] / "README.md"
    for kind in ("CSV", "Parquet"):
        assert kind in task and kind in readme.read_text()


def test_a_group_that_is_none_is_told_with_what_to_type():
    for wrong, meant in (("trainr", "trainer"), ("trainer=Lora", "lora")):
        with pytest.raises(ConfigError, match=rf"Did you mean {meant}\b"):
            group_page([wrong])
    assert set(CANDIDATES) | {"task"} <= set(str(_known()).split(", "))


def _known() -> str:
    with pytest.raises(ConfigError) as error:
        group_page(["zzz"])
    return str(error.value).partition("Known: ")[2].rstrip(".")


def test_a_word_that_differs_in_case_alone_is_the_one_that_was_meant():
    assert nearest("BUDGET_USD", ["budget_usd", "probe_usd"]) == ["budget_usd"]
    assert nearest("Stratos_1m", ["stratos_1m", "stratos_3m"]) == ["stratos_1m"]
    assert nearest("bugdet_usd", ["budget_usd", "spot"]) == ["budget_usd"]


def test_version():
    done = stratos("--version")
    assert (done.returncode, done.stdout) == (0, f"stratos {metadata.version('stratos-llm')}\n")


def test_version_without_an_installation(monkeypatch, snapshot):
    monkeypatch.setattr("stratos.cli.commands.run.DISTRIBUTION", "stratos-llm-of-nobody")
    done = stratos("--version")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.replace(sys.executable, "python") == snapshot
