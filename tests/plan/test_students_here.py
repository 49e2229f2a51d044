"""Students that nobody named join the choice where they can be trained on this machine in time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from world import STUDENTS, World

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, LimitsConfig, StudentConfig, TrainerConfig
from stratos.estimate.fleet import Calibration
from stratos.plan.options.candidates import build_problem, this_machine
from stratos.plan.words import TooSlowHere
from stratos.tasks.base import Item

FACTS = {
    "n_params": 134_515_008, "n_layers": 30, "hidden_size": 576, "n_heads": 9, "n_kv_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49152, "context_length": 8192,
}  # fmt: skip
LAPTOP = Calibration("a laptop", 50e9, 10e9, 1e-6, "2026-11-26")


def unnamed(path: Path | str, train_tokens: int) -> StudentConfig:
    return StudentConfig(
        "pretrained", path=str(path), facts=FACTS, train_tokens=train_tokens, only_if_here=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shape = {
        "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536,
        "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(shape))
    return tmp_path / "model"


def problem(student: StudentConfig, machine: Calibration | None = LAPTOP, run=(), **changes):
    world = World(
        cloud=CloudConfig(providers=("aws",)), students=(*STUDENTS[:1], student), **changes
    )
    config = replace(world.config(), **dict(run))
    catalog = load_catalog(config.cloud, cache_dir=None)
    return build_problem(config, world.probe(), catalog, calibration=machine)


def names(found) -> set[str]:
    return {candidate.student for candidate in found.candidates}


def test_one_without_weights_is_left_out_with_what_brings_it_in(snapshot):
    found = problem(unnamed("org/none", 20_000))
    assert names(found) == {"stratos_300k"}
    assert found.left_out["pretrained"] == snapshot
    named = replace(unnamed("org/none", 20_000), only_if_here=False)
    assert names(problem(named)) == {"stratos_300k", "pretrained"}, "its facts suffice to plan"


def test_one_that_trains_in_time_joins_and_one_that_does_not_is_left_out(folder):
    assert names(problem(unnamed(folder, 20_000))) == {"stratos_300k", "pretrained"}
    slow = problem(unnamed(folder, 12_000_000))
    assert names(slow) == {"stratos_300k"}
    [why] = [one.why for one in slow.exclusions if one.subject == "pretrained"]
    assert isinstance(why, TooSlowHere)
    assert (why.tokens, why.most_hours) == (12_000_000, 1.0)
    assert why.hours is not None and why.hours > 1
    patient = problem(unnamed(folder, 12_000_000), limits=LimitsConfig(train_hours=1000))
    assert "pretrained" not in patient.left_out
    assert "pretrained" not in problem(unnamed(folder, 12_000_000), None).left_out


def test_a_named_one_is_not_refused_whose_rows_begin_alike(folder, monkeypatch):
    """A training computes what they begin with once: it may end in time."""
    named = replace(unnamed(folder, 5_000_000), only_if_here=False)
    whole = {"stages": ("plan", "distill"), "trainer": TrainerConfig(max_epochs=-1)}
    assert "pretrained" not in names(problem(named, run=whole))
    beginning = "What was said before in the conversation. " * 50
    rows = [Item(f"{n}", "main", f"{beginning} {n}?", f"{n}") for n in range(64)]
    monkeypatch.setattr(type(World().task), "items", lambda *_, **__: rows)
    assert "pretrained" in names(problem(named, run=whole))


def test_a_named_one_that_surely_takes_too_long_is_refused_before_anything_is_paid(folder):
    named = replace(unnamed(folder, 50_000_000), only_if_here=False)
    whole = {"stages": ("plan", "distill"), "trainer": TrainerConfig(max_epochs=-1)}
    slow = problem(named, run=whole)
    assert names(slow) == {"stratos_300k"}
    [why] = [e.why for e in slow.exclusions if e.subject == "pretrained by injection"]
    assert isinstance(why, TooSlowHere) and why.most_hours == 1.0
    perhaps = replace(named, train_tokens=400_000)
    assert "pretrained" in names(problem(perhaps, run=whole)), "it may take less time"
    trainer = TrainerConfig(max_epochs=-1, max_time="00:00:30:00")
    capped = problem(named, run=whole | {"trainer": trainer})
    assert "pretrained" in names(capped), "trainer.max_time ends it in time"
    assert "pretrained" in names(problem(named)), "it is not trained here"


def test_this_machine_is_measured_only_where_the_plan_depends_on_it(folder):
    here = World(students=(unnamed(folder, 1),), cloud=CloudConfig(providers=("aws",))).config()
    missing = World(
        students=(unnamed("org/none", 1),), cloud=CloudConfig(providers=("aws",))
    ).config()
    cache = folder.parent / "cache"
    assert this_machine(missing.cloud, missing.students, missing.trainer, cache) is None
    assert isinstance(this_machine(here.cloud, here.students, here.trainer, cache), Calibration)
