"""A declared complexity, from the command line to the plan: each thing that it sets."""

import pytest
from hydra.types import RunMode

from stratos.catalog import load_catalog
from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.core.errors import ConfigError
from stratos.estimate.cards import card_of_student
from stratos.models.students import is_here
from stratos.plan.options.candidates import build_problem
from stratos.plan.stage import solve
from stratos.synthesize.choice import contradictions, least_coverage, with_declared
from tests.plan.world import BLIND, LARGE, World, teacher
from tests.stub_task import StubTask

SIGHTED, DOUBTFUL = teacher(LARGE, right=60), teacher(LARGE, right=48)


def composed(*overrides, task="mahjong"):
    with hydra_for(None) as hydra:
        lines = [f"+task={task}", "paths.run_dir=run", "paths.cache_dir=cache", *overrides]
        return build(hydra.compose_config("config", lines, RunMode.RUN, True))


def problem(*overrides, teachers=(SIGHTED,), **changes):
    config = composed("cloud=aws", "plan.history=false", *overrides, **changes)
    probe = World(teachers=teachers).probe()
    return build_problem(config, probe, load_catalog(config.cloud)), config


@pytest.mark.slow
def test_the_strategy_follows():
    chosen = {}
    for level in ("measured", "low", "medium", "high"):
        for probed in (SIGHTED, BLIND):
            options, _ = problem(f"complexity={level}", teachers=(probed,))
            chosen[level, probed.teacher] = sorted({c.strategy for c in options.candidates})
    both = ["alignment", "injection"]
    assert {key: value for key, value in chosen.items() if key[1] == SIGHTED.teacher} == {
        ("measured", SIGHTED.teacher): both,
        ("low", SIGHTED.teacher): ["alignment"],
        ("medium", SIGHTED.teacher): both,
        ("high", SIGHTED.teacher): ["injection"],
    }
    assert chosen["measured", BLIND.teacher] == ["injection"]
    doubtful, _ = problem(teachers=(DOUBTFUL,))
    assert {probed.strategy for probed in doubtful.candidates} == {"injection"}
    assert "coverage may be 0.632" in doubtful.left_out[f"alignment from {LARGE.name}"]
    assert chosen["low", BLIND.teacher] == ["alignment"]
    assert chosen["medium", BLIND.teacher] == both
    plans = {level: solve(problem(f"complexity={level}")[0]) for level in ("low", "high")}
    assert {level: plan.strategy for level, plan in plans.items()} == {
        "low": "alignment",
        "high": "injection",
    }
    assert any("complexity=low is declared" in reason for reason in plans["low"].reasons)
    assert "complexity=high" in plans["high"].left_out["alignment"]


def test_samples_and_length_of_the_path_change_strategy_and_plan():
    words = ("strategy=alignment", "student=stratos_1m", "complexity=low")
    few, config = problem(*words)
    assert (config.strategies[0].n_samples, config.strategies[0].max_tokens) == (1, 64)
    more, config = problem(*words, "complexity.n_samples=5")
    assert config.strategies[0].n_samples == 5
    longer, config = problem(*words, "complexity.path_tokens=500")
    assert config.strategies[0].max_tokens == 1000
    plans = [solve(words) for words in (few, more, longer)]
    hours = [plan.role("teacher").hours for plan in plans]
    dollars = [plan.role("teacher").usd for plan in plans]
    assert dollars[0] < dollars[1] and dollars[0] < dollars[2]
    assert len(set(hours)) == 3
    latencies = [plan.latency_ms for plan in plans]
    assert latencies[0] == latencies[1] < latencies[2]


@pytest.mark.parametrize(
    ("level", "n_samples", "max_tokens", "smallest"),
    [
        ("measured", 1, None, "stratos_300k"),
        ("low", 1, 64, "stratos_300k"),
        ("medium", 4, 256, "stratos_1m"),
        ("high", 8, 768, "stratos_1m"),
    ],
)
def test_each_level(level, n_samples, max_tokens, smallest):
    options, config = problem(f"complexity={level}")
    alignment = next(strategy for strategy in config.strategies if strategy.name == "alignment")
    injection = next(strategy for strategy in config.strategies if strategy.name == "injection")
    assert (alignment.n_samples, alignment.max_tokens) == (n_samples, max_tokens)
    assert injection.max_tokens == max_tokens and not hasattr(injection, "n_samples")
    names = ["stratos_300k", "stratos_1m"]
    too_small = names[: names.index(smallest)]
    here = {s.name for s in config.students if not s.only_if_here or is_here(s)}
    assert {c.student for c in options.candidates} == here - set(too_small)
    for name in too_small:
        assert f"(complexity={level})" in options.left_out[name]


def test_the_floor_of_the_student_is_exact():
    words = ("student=stratos_1m", "complexity=high")
    _, config = problem(*words)
    n_params = card_of_student(config.students[0], config.task).n_params
    at, above = (problem(*words, f"complexity.min_student_params={n}")[0]
                 for n in (n_params, n_params + 1))  # fmt: skip
    assert at.candidates and not above.candidates


def test_on_policy_texts_are_as_long_as_the_path():
    _, config = problem("strategy=alignment_on_policy", "complexity=low")
    assert config.strategies[0].max_new_tokens == 64
    assert config.plain["strategy"]["max_new_tokens"] == 64


def test_what_it_sets_is_what_records_are_made_from():
    measured, low = (problem(f"complexity={level}")[1] for level in ("measured", "low"))
    assert measured.plain["strategy"] != low.plain["strategy"]
    assert with_declared(low.plain) == low.plain


def test_what_contradicts_it(snapshot):
    with pytest.raises(ConfigError) as caught:
        composed("strategy=injection", "complexity=low")
    assert str(caught.value) == snapshot
    composed("strategy=injection", "complexity=low", "complexity.strategies=[injection]")
    with pytest.raises(ConfigError, match=r"complexity\.n_samples"):
        composed("complexity=low", "complexity.n_samples=0")


def test_a_task_without_a_way_back(snapshot):
    config = composed("complexity=high")
    essay = StubTask("essay")
    assert list(contradictions(essay, config.strategies, config.complexity)) == snapshot


def test_all_four_with_the_thresholds_of_the_shipped_files():
    config = composed("strategy=auto_white_box")
    least = {
        strategy.name: [least_coverage(strategy, x) for x in (False, True)]
        for strategy in config.strategies
    }
    assert least == {
        "alignment": [0.3, 0.7],
        "alignment_logits": [0.5, 0.7],
        "alignment_on_policy": [0.5, 0.7],
        "injection": [None, None],
        "supervised": [None, None],
        "pseudo_labels": [None, None],
    }
    options, _ = problem("strategy=auto_white_box")
    assert {c.strategy for c in options.candidates} == {"alignment", "injection"}
    key = f"alignment_logits from {SIGHTED.teacher} to stratos_1m"
    assert options.left_out[key].startswith("it needs the teacher's weights")
