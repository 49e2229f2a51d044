"""Limits on bytes: each size that a student may be served in is a candidate of its own."""

import re
from dataclasses import replace

import pytest
from test_engine_choices import ENGINES, problem
from world import STUDENTS, World

from stratos.config import LimitsConfig
from stratos.core.errors import InfeasibleError
from stratos.deploy.engines.base import engine_named
from stratos.deploy.engines.cost import FORMATS, OWN_WEIGHTS
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.estimate.cards import card_of_student
from stratos.estimate.hours import process_gib
from stratos.plan.options.sizes import Size, size_of_kind, weights_mb
from stratos.plan.stage import solve
from stratos.records import Interval, KindProbe, ModelCard

STUDENT = "stratos_3m"


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(LlamaCpp, "needs", ())


def candidates(rate=20.0, **limits):
    return [c for c in problem(ENGINES, rate, **limits).candidates if c.student == STUDENT]


def formats(found, work):
    return {option.run.format for option in found.options[work]}


def test_without_a_limit_nothing_is_counted():
    assert {(c.model_mb, c.memory_gb) for c in candidates()} == {(0.0, 0.0)}
    assert len(candidates()) == len({c.strategy for c in candidates()})


@pytest.mark.parametrize("rate", [20.0, None])
def test_each_format_is_a_candidate_with_the_megabytes_of_its_file(rate):
    found = problem(ENGINES, rate, model_mb=1.0)
    card = next(c for c in STUDENTS if c.name == STUDENT)
    card = card_of_student(card, World().task)
    sizes = {c.model_mb: c.work[2] for c in found.candidates if c.student == STUDENT}
    forms = FORMATS["q8_0"], OWN_WEIGHTS, FORMATS["f32"]
    assert sorted(sizes) == [pytest.approx(weights_mb(card, form)) for form in forms]
    small, _, large = (formats(found, sizes[mb]) for mb in sorted(sizes))
    assert small == {"q8_0"} and small <= large <= {"q8_0", "f32"}
    assert {c.memory_gb for c in found.candidates} == {0.0}


@pytest.mark.parametrize(
    ("form", "n_bytes"),
    [(FORMATS["q8_0"], 144_811_904), (FORMATS["f32"], 539_846_528), (OWN_WEIGHTS, 538_090_408)],
)
def test_megabytes_are_those_of_a_written_file_and_no_less(form, n_bytes):
    smollm = ModelCard("SmolLM2-135M", 134_515_008, 30, 576, 9, 3, 1536, 49_152, 8192)
    assert n_bytes <= 1e6 * weights_mb(smollm, form) <= 1.0001 * n_bytes


def test_no_server_of_a_size_holds_more_than_it():
    found = problem(ENGINES, server_memory_gb=0.2)
    sizes = {c.memory_gb: c.work[2] for c in found.candidates if c.student == STUDENT}
    assert len(sizes) > 2
    card = card_of_student(next(c for c in STUDENTS if c.name == STUDENT), World().task)
    for gb, work in sizes.items():
        for option in found.options[work]:
            engine, run = engine_named(option.run.engine), option.run
            form = engine.weight_format(run.format)
            held = process_gib(card, 64 + 150, engine.cost, form, run.slots)
            assert held * 2**30 / 1e9 <= gb + 0.01


def test_a_limit_on_bytes_decides_the_format_and_what_is_least_is_named(snapshot):
    free = solve(problem(ENGINES))
    sizes = sorted(c.model_mb for c in problem(ENGINES, model_mb=1.0).candidates)
    least, most = sizes[0], sizes[-1]
    asked = problem(ENGINES, model_mb=1.01 * least)
    plan = solve(replace(asked, settings=replace(asked.settings, explain=True)))
    assert {part.run.format for part in plan.roles_of("serve")} == {"q8_0"}
    assert any("model size" in reason for reason in plan.reasons)
    assert plan.what_if[0].limit == "limits.model_mb"
    same = solve(problem(ENGINES, model_mb=1.01 * most))
    assert (same.usd, same.student) == (free.usd, free.student)
    with pytest.raises(InfeasibleError) as error:
        solve(problem(ENGINES, model_mb=0.5 * least))
    assert str(error.value) == snapshot
    typed = float(re.search(r"limits\.model_mb=([\d.]+)", str(error.value))[1])
    assert least <= typed <= 1.01 * least
    assert solve(problem(ENGINES, model_mb=typed)).usd > 0


def test_students_that_are_no_language_models_have_a_size_too():
    accuracy = Interval(0.9, 0.8, 1.0)
    kind = KindProbe("static", "static", accuracy, 0.9, 100, 0.0, 1.0, 0.5, 1000, n_bytes=730_000)
    both = LimitsConfig(model_mb=1.0, server_memory_gb=1.0)
    assert size_of_kind(kind, LimitsConfig(), has_encoder=False) == Size()
    size = size_of_kind(kind, both, has_encoder=False)
    assert size.model_mb == 0.73 and 0.32 < size.memory_gb < 0.33
    unknown = size_of_kind(replace(kind, n_bytes=0), both, has_encoder=True)
    assert unknown.model_mb == 0.004, "float32"


@pytest.mark.parametrize(
    ("shape", "compute_mib"),
    # hidden, heads, intermediate, context; what llama.cpp gave itself with one slot of 2,048 tokens
    # or of the whole context.
    [
        ((128, 4, 384, 1024), 12.01),
        ((256, 4, 768, 1024), 14.01),
        ((512, 16, 1536, 4096), 76.01),
        ((576, 9, 1536, 8192), 47.51),
        ((1024, 8, 4096, 2048), 52.01),
        ((1024, 16, 2816, 2048), 84.01),
    ],
)
def test_a_server_has_room_for_what_it_computes_of_a_prompt(shape, compute_mib):
    hidden, heads, intermediate, context = shape
    card = ModelCard("m", 10**6, 4, hidden, heads, heads, intermediate, 1024, context)
    cost = engine_named("llamacpp").cost
    assert cost.prompt_bytes(card, 100) / 2**20 == pytest.approx(compute_mib, rel=0.1)
    assert engine_named("predictor").cost.prompt_bytes(card, 100) == 0


@pytest.mark.parametrize(("vocab_size", "measured_mib"), [(49_152, 472), (713, 315)])
def test_a_server_s_memory_is_bounded_closely(vocab_size, measured_mib):
    """Of SmolLM2-135M in q8_0, whole and with its vocabulary cut, the most under a load test."""
    n_params = 134_515_008 - 576 * (49_152 - vocab_size)
    card = ModelCard("smollm2", n_params, 30, 576, 9, 3, 1536, vocab_size, 8192)
    mib = 1024 * process_gib(card, 100, engine_named("llamacpp").cost, FORMATS["q8_0"], 1)
    assert measured_mib <= mib <= 1.15 * measured_mib
