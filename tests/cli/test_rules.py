"""Limits, quotas and traffic that cannot be planned with: each told once, all at once."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from tests import checked

pytestmark = pytest.mark.usefixtures("own_folder")


def problems(*argv: str) -> list[str]:
    return checked.problems("+task=mahjong", *argv)


BUCKET = "{prompt_tokens: 64, answer_tokens: 128, share: 1}"


IMPOSSIBLE = (
    "limits.accuracy=95",
    "limits.accuracy=-0.1",
    "limits.budget_usd=-5",
    "limits.budget_usd=nan",
    "limits.latency_ms=inf",
    "limits.deadline_hours=1e999",
    "limits.deadline_hours=0",
    "limits.latency_ms=0",
    "limits.model_mb=0",
    "limits.server_memory_gb=0",
    "limits.serve_hours=1e6",
    "limits.serve_hours=-1",
    "limits.probe_usd=nan",
    "cloud.max_usd_per_hour=-1",
    "cloud.max_nodes=0",
    "+cloud.quotas.aws=2.5",
    "traffic.requests_per_s=0",
    "traffic.requests_per_s=-3",
    "traffic.requests_per_s=1e9",
    "traffic.buckets=[{prompt_tokens: 64, answer_tokens: 128, share: 0}]",
    "traffic.buckets=[{prompt_tokens: 0, answer_tokens: 128, share: 1}]",
    "traffic.buckets=[{prompt_tokens: 64, answer_tokens: 128}]",
    f"traffic.buckets=[{BUCKET},{BUCKET}]",
    "traffic.buckets=[{prompt_tokens: 4000, answer_tokens: 128, share: 1}]",
    "objective.usd_per_100ms=-0.2",
    "plan.time_limit_s=0",
    "plan.gap=2",
)


CONTRADICTIONS = (
    ["cloud=multi", "cloud.max_usd_per_hour=0"],
    ["cloud=multi", "+cloud.quotas.aws=0"],
    ["cloud=multi", "+cloud.quotas.aws=-2"],
    ["cloud=multi", "++cloud.quotas={aws//p5: 2}"],
    ["cloud.spot=true", "cloud.residency=[eu]", "+cloud.quotas.aws=2"],
    ["limits.budget_usd=3", "limits.probe_usd=4"],
    ["cloud=aws", "+cloud.quotas.gcp=2"],
    ["teacher=openai", "teacher.usd_per_million_output_tokens=-1"],
    ["teacher=openai", "teacher.usd_per_million_input_tokens=nan"],
    ["teacher=llama3_3_70b"],
    ["teacher=endpoint", "teacher.base_url=https://llm.example.com/v1", "teacher.model=x"],
    ["teacher=gpt_4o", "teacher.retires=soon"],
    ["deploy=none", "deploy.keep=true"],
    ["cloud.residency=europe"],
    ["strategy=alignment_logits", "strategy.cache=sampled", "strategy.objective=reverse_kl"],
    ["strategy=alignment_logits", "strategy.cache=topk", "strategy.hidden_match=0.1"],
    ["strategy=alignment_logits", "student=smollm2_135m", "student.fit.vocabulary=true"],
    ["student=stratos_1m", "++student.fit.vocabulary=0.1"],
    ["student=stratos_1m", "++student.fit.depth=true"],
    ["student=smollm2_135m", "student.fit.depth=true", "trainer.devices=2"],
    ["student=stratos_1m", "++student.fit.vocabulary=auto"],
)
WRONG = (*([typed] for typed in IMPOSSIBLE), *CONTRADICTIONS)


@pytest.mark.parametrize("typed", WRONG, ids=" ".join)
def test_what_cannot_be_is_told(typed: list[str], snapshot: SnapshotAssertion) -> None:
    [line] = problems(*typed)
    assert checked.shape(line) == snapshot


@pytest.mark.parametrize(
    "argv",
    [
        ["limits.budget_usd=1"],  # the default of probe_usd is a ceiling
        ["limits.budget_usd=0", "cloud=local", "cloud.max_usd_per_hour=0"],
        ["limits.accuracy=1", "limits.serve_hours=0"],
        ["cloud=multi", "++cloud.quotas={aws: 2, aws/us-east-1: 1, */*/p5.48xlarge: 1}"],
        ["cloud=aws", "++cloud.quotas={*/us-east-1: 1, aws: 3}"],
        ["traffic.requests_per_s=30", f"traffic.buckets=[{BUCKET}]"],
    ],
)
def test_what_can_be_planned_passes(argv: list[str]) -> None:
    assert problems(*argv) == []


def test_all_are_told_at_once() -> None:
    lines = problems(
        "limits.deadline_hours=0", "limits.budget_usd=2", "limits.probe_usd=3",
        "cloud=multi", "+cloud.quotas.aws=0", "traffic.requests_per_s=1e9",
        "cloud.max_usd_per_hour=0",
    )  # fmt: skip
    keys = [line.partition("=")[0] for line in lines]
    assert keys == [
        "limits.deadline_hours", "limits.probe_usd", "cloud.max_usd_per_hour",
        "cloud.quotas.aws", "traffic.requests_per_s",
    ]  # fmt: skip


def test_serving_that_no_budget_pays_for_is_no_mistake_of_the_config() -> None:
    assert problems("limits.budget_usd=1", "limits.serve_hours=80000") == []
