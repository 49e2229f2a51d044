"""A plan chooses engine and format with the servers, if it is let to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_market import rented
from world import World

from stratos.catalog import Catalog, Table
from stratos.config import DeployConfig, LimitsConfig, TrafficConfig
from stratos.deploy.engines import direct
from stratos.deploy.engines.base import NotInstalled
from stratos.deploy.engines.cost import FORMATS
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.engines.vllm import Vllm
from stratos.plan import words
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.role_options import engine_choices, loss_points, not_chosen_from

ENGINES = {"llamacpp": LlamaCpp(formats=("f32", "q8_0")), "transformers": Transformers()}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(LlamaCpp, "needs", ())


def problem(engines, rate=20.0, **limits):
    world = World(traffic=TrafficConfig(requests_per_s=rate))
    config = replace(
        world.config(), deploy=DeployConfig(engines=engines), limits=LimitsConfig(**limits)
    )
    offers = [rented("aws", "us-east-1", f"c{n}", 0.1 * n, vcpus=2.0 * n) for n in (1, 2)]
    catalog = Catalog(Table.of(offers), {}, ())
    return build_problem(config, world.probe(), catalog)


def served(found):
    return [
        option
        for key, options in found.options.items()
        for option in options
        if key.startswith("serve")
    ]


def test_the_options_of_serving_have_the_engine_and_the_format():
    options = served(problem(ENGINES))
    assert {one.run.engine for one in options} == {"llamacpp"}, "it is faster on every server"
    assert {one.run.format for one in options} <= {"f32", "q8_0"}
    assert all(f" by {one.run.name}" in one.note for one in options)
    usual = served(problem({}))
    assert {one.run.engine for one in usual} <= {"transformers", "transformers-batching"}
    assert not any(" by " in one.note for one in usual)
    assert max(one.requests_per_s[0] for one in options) > 3 * max(
        one.requests_per_s[0] for one in usual
    )


def test_a_small_student_is_planned_on_stratos_own_decoder_where_that_can_be_compiled(monkeypatch):
    monkeypatch.setattr(direct, "c_compiler", lambda: "/usr/bin/cc")
    engines = {"direct": direct.Direct(), **ENGINES}
    own, others = served(problem(engines)), served(problem(ENGINES))
    most, of_others = (max(some, key=lambda one: one.requests_per_s[0]) for some in (own, others))
    assert (most.run.engine, of_others.run.engine) == ("direct", "llamacpp")
    assert most.requests_per_s[0] > 1.2 * of_others.requests_per_s[0]
    monkeypatch.setattr(direct, "c_compiler", lambda: None)
    assert {one.run.engine for one in served(problem(engines))} == {"llamacpp"}
    [left_out] = not_chosen_from(DeployConfig(engines=engines))
    assert left_out.title == "Stratos' own decoder"


def test_what_is_not_installed_is_not_chosen_and_that_is_said(monkeypatch):
    monkeypatch.setattr(LlamaCpp, "needs", ("no_such_module",))
    found = problem(ENGINES)
    assert {one.run.engine for one in served(found)} == {"transformers"}
    why = words.EngineLeftOut("llama.cpp", NotInstalled("llama.cpp", LlamaCpp().how_to_install))
    assert list(not_chosen_from(DeployConfig(engines=ENGINES))) == [why]


def test_an_engine_that_runs_on_no_server_is_the_reason_why_a_student_is_left_out():
    found = problem({"vllm": Vllm()})
    assert not found.candidates
    [why] = {one.why for one in found.exclusions if one.subject == "stratos_1m"}
    assert why == words.NoEngine((("vLLM", Vllm.wants),))


def test_a_fixed_engine_leaves_the_plan_as_it_is():
    assert engine_choices(DeployConfig(engine=LlamaCpp())) is None
    [one] = engine_choices(DeployConfig(engines={"x": LlamaCpp(at_once=4)}))
    assert [form.name for form in one.formats] == ["f32", "q8_0"]
    assert (one.engine.kind, one.slots) == ("llamacpp", (1, 4))


def test_a_format_is_offered_while_what_it_may_lose_keeps_the_accuracy_limit():
    def formats(least, confidence="mean"):
        found = problem(ENGINES, accuracy=least, confidence=confidence)
        works = {one.work[2] for one in found.candidates if one.student == "stratos_1m"}
        return {one.run.format for work in works for one in found.options[work]}, found

    candidate = next(one for one in problem(ENGINES).candidates if one.student == "stratos_1m")
    mean, low = candidate.accuracy.mean, candidate.accuracy.low
    q8_0 = loss_points(FORMATS["q8_0"]) / 100
    assert 0 < q8_0 < loss_points(FORMATS["q8_0"], "low") / 100
    assert "q8_0" in formats(mean - q8_0 - 1e-4)[0]
    only, found = formats(mean - q8_0 + 1e-4)
    assert only == {"f32"}
    loss = words.LosesTooMuch("stratos_1m", (("q8_0", 0.1),), mean - q8_0 + 1e-4)
    assert str(loss) in found.evidence
    assert formats(low - 0.001, "low")[0] == {"f32"}, "then the upper end of the loss counts"
    assert "q8_0" in formats(low - 0.0061, "low")[0]
    assert formats(0.999)[0] == {"f32"}, "a limit that is lowered to what it reaches is kept"


def test_what_formats_lose_is_the_most_that_was_measured():
    path = Path(__file__).parents[3] / "benchmarks/results/serving/format_loss.json"
    rows = [one for run in json.loads(path.read_text())["result"] for one in run["formats"]]
    for form in {one["format"] for one in rows}:
        found = [one for one in rows if one["format"] == form]
        if all(one["n_equal"] == one["n_items"] for one in found):
            assert FORMATS[form].most_loss_points == 0
            continue
        loss = [one["loss_points"] for one in found]
        most = max(one["mean"] for one in loss), max(one["high"] for one in loss)
        stated = FORMATS[form].loss_points, FORMATS[form].most_loss_points
        assert stated == pytest.approx(most, abs=0.06)
