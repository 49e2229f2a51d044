"""A strategy is its class: its name changes nothing, and one of a user's own needs no more."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode

from stratos.catalog import load_catalog
from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.config import ComplexityConfig, Config
from stratos.core.errors import ConfigError
from stratos.core.trust import ALLOW_TARGETS
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.teacher import teacher_load_of
from stratos.plan.options.workload import expected_rows
from stratos.plan.problem import Problem
from stratos.plan.stage import solve
from stratos.records import TeacherProbe
from stratos.synthesize.alignment import Alignment, AlignmentLogits, AlignmentOnPolicy
from stratos.synthesize.choice import StudentFacts, pick
from stratos.synthesize.injection import Injection
from stratos.synthesize.pseudo_labels import PseudoLabels
from stratos.synthesize.strategy import Family, Strategy, kind_of
from stratos.synthesize.supervised import Augmentation, Supervised

sys.path.insert(0, str(Path(__file__).parent / "plan"))
sys.path.insert(0, str(Path(__file__).parent / "synthesize"))
from adder import Adder, sums
from world import LARGE, SMALL, World, context, runs, student, teacher

PAID = replace(
    LARGE, name="gpt", usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=8.0
)
OURS = (
    Alignment, AlignmentLogits, AlignmentOnPolicy, Augmentation, Injection, PseudoLabels,
    Supervised,
)  # fmt: skip
DOC = Path(__file__).parents[1] / "docs" / "extending.md"


def composed(*argv: str, config_dir: Path | None = None) -> Config:
    with hydra_for(None if config_dir is None else str(config_dir)) as hydra:
        lines = ["paths.run_dir=run", "paths.cache_dir=cache", "cloud=aws", *argv]
        lines += ["plan.history=false", "logger=none"]
        return build(hydra.compose_config("config", lines, RunMode.RUN, True))


# --- a name is a label ----------------------------------------------------------------------------


def problem(strategy: str, label: str, one: TeacherProbe, *argv: str) -> tuple[Problem, Config]:
    named = () if not label else (f"strategy.name={label}",)
    config = composed("+task=mahjong", f"strategy={strategy}", *named, *argv)
    recorded = student("tried", 128, 4, (0.9, 420.0, 1100.0))
    config = replace(
        config,
        students=(
            replace(recorded, runs=runs(0.9, 420.0, 1100.0, strategy)),
            replace(student("untried", 96, 3, (0.9, 300.0, 600.0)), runs=()),
        ),
    )
    return build_problem(config, World(teachers=(one,)).probe(), load_catalog(config.cloud)), config


def seen(found: Problem, label: str) -> dict[str, Any]:
    """Return all that a problem holds of its pairs, with the label left out."""

    def plain(text: str) -> str:
        return re.sub(rf"\b{label}\b", "…", text)

    return {
        "pairs": [
            (one.student, replace(one.accuracy, source=plain(one.accuracy.source)))
            for one in found.candidates
        ],
        "tokens": [(one.stand_in, one.train_tokens) for one in found.candidates],
        "options": [
            (role, found.options[key])
            for one in found.candidates
            for role, key in enumerate(one.work)
        ],
        "left_out": {plain(who): plain(why) for who, why in found.left_out.items()},
        "evidence": [plain(text) for text in found.evidence],
    }


@pytest.mark.parametrize("right", [1, 60])
@pytest.mark.parametrize("strategy", ["alignment", "injection"])
def test_another_name_changes_no_verdict_price_or_accuracy(strategy, right):
    one = teacher(PAID, right=right)
    first, config = problem(strategy, "", one)
    second, renamed = problem(strategy, "mine", one)
    assert seen(second, "mine") == seen(first, strategy)
    loads = [
        (
            teacher_load_of(now, one, now.strategies[0]),
            expected_rows(now, one, now.strategies[0]),
        )
        for now in (config, renamed)
    ]
    assert loads[0] == loads[1]
    if strategy == "alignment":
        assert bool(first.candidates) == (right == 60), "the coverage decides"
        assert loads[1][0].n_answers > config.strategies[0].n_items, "questions are priced"
    if first.candidates:
        plans = solve(first), solve(second)
        assert plans[0].usd == plans[1].usd and plans[0].hours == plans[1].hours
        assert (plans[0].strategy, plans[1].strategy) == (strategy, "mine")


def test_rules_and_a_declared_complexity_know_the_class():
    with pytest.raises(ConfigError, match="strategy=supervised: the task mahjong has no labelled"):
        composed("+task=mahjong", "strategy=supervised", "strategy.name=mine")
    with pytest.raises(ConfigError, match="leaves alignment, supervised, but this run has mine"):
        composed("+task=mahjong", "strategy=injection", "strategy.name=mine", "complexity=low")
    composed("+task=mahjong", "strategy=alignment", "strategy.name=injection", "complexity=low")


def test_names_differ():
    twice = "strategy.candidates.injection.name=alignment"
    with pytest.raises(ConfigError, match="strategy: two candidates are named alignment"):
        composed("+task=mahjong", "strategy=auto", twice)


def test_of_several_classes_a_name_changes_no_verdict():
    """Rows of a file: every rule that speaks of another strategy."""
    ones: tuple[Strategy, ...] = tuple(cls() for cls in OURS)  # type: ignore[abstract]
    labels = {one.name: f"s{place}" for place, one in enumerate(ones)}
    renamed = tuple(replace(one, name=labels[one.name]) for one in ones)
    for right in (1, 40, 64):
        found = [
            pick(
                some, teacher(PAID, right=right), StudentFacts("grown", True, PAID.vocab_size),
                ComplexityConfig(), task="tickets", can_reverse=True, n_rows=100, n_unlabelled=50,
            )
            for some in (ones, renamed)
        ]  # fmt: skip
        for name, label in labels.items():
            assert found[0][name].is_taken == found[1][label].is_taken, (name, right)
            assert found[0][name].concerns == found[1][label].concerns


# --- what a class says ----------------------------------------------------------------------------


def test_what_ours_are():
    kinds = {cls.kind: (cls.family, cls().needs_logits, cls().is_on_policy) for cls in OURS}  # type: ignore[abstract]
    assert kinds == {
        "alignment": (Family.ALIGNMENT, False, False),
        "alignment_logits": (Family.ALIGNMENT, True, False),
        "alignment_on_policy": (Family.ALIGNMENT, True, True),
        "augmentation": (Family.ROWS, False, False),
        "injection": (Family.INJECTION, False, False),
        "pseudo_labels": (Family.ROWS, False, False),
        "supervised": (Family.ROWS, False, False),
    }
    renamed = replace(Injection(), name="mine")
    assert (renamed.kind, kind_of((renamed,), "mine")) == ("injection", "injection")
    assert kind_of((renamed,), "alignment") == "alignment", "a record of another run"


def test_a_class_that_is_none_is_refused(tmp_path):
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "odd.yaml").write_text("_target_: stratos.config.ComplexityConfig\n")
    with pytest.raises(ConfigError, match=r"^strategy\._target_=stratos\.config\.Complexity") as e:
        composed("+task=mahjong", "strategy=odd", config_dir=tmp_path)
    assert "is not a Strategy." in str(e.value)


# --- one of a user's own --------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example of the documentation: a module and one YAML."""
    text = DOC.read_text(encoding="utf-8")
    for name in ("own/strategy.py", "mine/strategy/first_right.yaml"):
        [content] = re.findall(rf"```\w+\n# {re.escape(name)}\n(.*?)```", text, re.DOTALL)
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(ALLOW_TARGETS, "own")
    for name in ("own", "own.strategy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "mine"


def test_a_strategy_of_a_user_s_own_is_planned_drawn_and_trained(own, tmp_path):
    from stratos.distill import distill
    from stratos.synthesize import synthesize

    task = sums(tmp_path)
    config = composed(
        "+task=jsonl", f"task.path={tmp_path / 'sums.jsonl'}", "task.metric=numeric",
        "strategy=first_right", "student=stratos_300k", "student.hidden_size=32",
        "student.n_layers=2", "student.n_heads=2", "student.intermediate_size=64",
        "student.runs=[]", "trainer.precision=fp32", "trainer.max_tokens=8000",
        "trainer.batch_tokens=2048", "trainer.n_threads=1", "callbacks.n_validation_items=2",
        "callbacks.n_final_validation_items=2", "evaluate.max_new_tokens=4",
        config_dir=own,
    )  # fmt: skip
    asked = Adder()
    config = replace(config, task=task, teachers=(asked,))
    knows, blind = (
        replace(teacher(SMALL, right=right, n=60), teacher="adder") for right in (40, 6)
    )
    refused = build_problem(config, World(teachers=(blind,)).probe(), load_catalog(config.cloud))
    assert not refused.candidates
    assert refused.left_out["first_right from adder"] == "coverage 0.100 is below min_coverage 0.3"
    load = teacher_load_of(config, knows, config.strategies[0])
    assert load.n_answers - load.evaluated.n_answers == 100, "its questions are planned"

    found = build_problem(config, World(teachers=(knows,)).probe(), load_catalog(config.cloud))
    assert [one.stand_in for one in found.candidates] == [knows.exact.mean]
    assert found.candidates[0].accuracy.high == knows.exact.high, "bounded by the teacher's"
    plan = solve(found)
    assert (plan.strategy, plan.teacher) == ("first_right", "adder")
    where = replace(context(tmp_path / "run"), fingerprint="f")
    corpus = synthesize(config, plan, where)
    assert len(asked.seen) == 100
    assert corpus.n_items + corpus.refused.get("wrong", 0) <= 100 and corpus.n_items > 20
    trained = distill(config, plan, corpus, where)
    assert trained.train_tokens >= 8000
