"""A plan chooses engine and format with the servers, if it is let to."""

from dataclasses import replace

import pytest
from test_market import rented
from world import World

from stratos.catalog import Catalog, Table
from stratos.config import DeployConfig, TrafficConfig
from stratos.engines.hugging_face import Transformers
from stratos.engines.llamacpp import LlamaCpp
from stratos.engines.vllm import Vllm
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.engine_choices import engine_choices

ENGINES = {"llamacpp": LlamaCpp(formats=("f32", "q8_0")), "transformers": Transformers()}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(LlamaCpp, "needs", ())


def problem(engines, rate=20.0):
    world = World(traffic=TrafficConfig(requests_per_s=rate))
    config = replace(world.config(), deploy=DeployConfig(engines=engines))
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


def test_what_is_not_installed_is_not_chosen_and_that_is_said(monkeypatch):
    monkeypatch.setattr(LlamaCpp, "needs", ("no_such_module",))
    found = problem(ENGINES)
    assert {one.run.engine for one in served(found)} == {"transformers"}
    assert found.warnings == (
        "The plan does not consider llama.cpp. llama.cpp is not installed here. Type: pip install "
        '"stratos-llm[llamacpp]"',
    )


def test_an_engine_that_runs_on_no_server_is_the_reason_why_a_student_is_left_out():
    found = problem({"vllm": Vllm()})
    assert not found.candidates
    [why] = {one.text for one in found.exclusions if one.subject == "stratos_1m"}
    assert why == (
        "none of deploy.engines serves it on a server that is allowed (vLLM wants a GPU from "
        "compute capability 7.0 on, and attention heads of 32 to 256)"
    )


def test_a_fixed_engine_leaves_the_plan_as_it_is():
    assert engine_choices(DeployConfig(engine=LlamaCpp())) is None
    [one] = engine_choices(DeployConfig(engines={"x": LlamaCpp(at_once=4)}))
    assert (one.engine, one.formats, one.slots) == ("llamacpp", ("f32", "q8_0"), (1, 4))
