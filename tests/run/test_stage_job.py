"""Where a stage runs: what asks a hosted teacher stays, and so do keys."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.config import DeployConfig
from stratos.core.reasons import Because
from stratos.records import Offer, Plan, RoleChoice
from stratos.run.stage_job import keys_of, why_here
from stratos.teachers.huggingface import HuggingFaceTeacher
from stratos.teachers.openai import OpenAITeacher

OFFER = Offer("aws", "us-east-1", "m7i.large", None, 0, 2, 8, 0, usd_per_hour=0.1)
SERVE = RoleChoice("serve", OFFER, 1, False, hours=1.0, usd=0.1)
TEACHER = RoleChoice("teacher", OFFER, 1, False, hours=1.0, usd=0.1)
TRAIN = RoleChoice("train", OFFER, 1, False, hours=1.0, usd=0.1)
LOCAL = HuggingFaceTeacher("small", path="/models/small")
HOSTED = OpenAITeacher("big", model="big", base_url="https://big.example/v1", api_key_env="BIG_KEY")
STAYS = Because("it asks big over the network, and keys stay on this machine")


def plan(teacher: str, *roles: RoleChoice) -> Plan:
    fields: dict = dict.fromkeys(Plan.__dataclass_fields__)
    return Plan(**fields | {"roles": roles, "teacher": teacher, "strategy": "made"})


@pytest.fixture
def config() -> Any:
    strategy = SimpleNamespace(
        name="made",
        writes_reasoning=False,
        words_questions=False,
        needs_logits=False,
        n_questions=lambda task: 0,
    )
    return SimpleNamespace(
        teachers=(LOCAL, HOSTED), strategies=(strategy,), task=None,
        deploy=DeployConfig(),
    )  # fmt: skip


def test_with_weights_all_stages_go(config):
    there = plan("small", TEACHER, TRAIN, SERVE)
    assert {why_here(config, one, there) for one in ("synthesize", "distill", "evaluate", "deploy")
            } == {None}  # fmt: skip
    config.deploy = DeployConfig(name="none")
    assert why_here(config, "deploy", there) == Because("deploy=none leaves nothing to do")


def test_what_asks_a_hosted_teacher_stays(config):
    there = plan("big", replace(TEACHER, offer=None), TRAIN, SERVE)
    [strategy] = config.strategies
    assert why_here(config, "evaluate", there) == STAYS
    assert why_here(config, "distill", there) is None
    strategy.needs_logits = True
    assert why_here(config, "distill", there) == STAYS
    assert why_here(config, "synthesize", there) == Because("the plan has no server for it")
    strategy.n_questions = lambda task: 3
    assert why_here(config, "synthesize", there) == STAYS


def test_a_probe_goes_where_no_hosted_teacher_can_be_asked(config, monkeypatch):
    monkeypatch.delenv("BIG_KEY", raising=False)
    assert why_here(config, "probe", None) is None
    monkeypatch.setenv("BIG_KEY", "abc")
    assert why_here(config, "probe", None) == STAYS
    monkeypatch.delenv("BIG_KEY")
    config.teachers = (LOCAL, replace(HOSTED, api_key_env=None))
    assert why_here(config, "probe", None) == STAYS


def test_the_keys_that_no_job_gets(config):
    config.teachers = (LOCAL, HOSTED, replace(HOSTED, api_key_env=None), HOSTED)
    assert keys_of(config) == ("BIG_KEY",)
