"""Limits, quotas and traffic that cannot be planned with: each told once, all at once."""

from __future__ import annotations

from pathlib import Path

import checked
import pytest


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(*argv: str) -> list[str]:
    return checked.problems("+task=mahjong", *argv)


BUCKET = "{prompt_tokens: 64, answer_tokens: 128, share: 1}"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        # limits that are no limits
        ("limits.accuracy=95", "limits.accuracy=95: expected a number from 0 to 1 or null."),
        ("limits.accuracy=-0.1", "limits.accuracy=-0.1: expected a number from 0 to 1 or null."),
        ("limits.budget_usd=-5", "limits.budget_usd=-5: expected a number of at least 0 or null."),
        (
            "limits.budget_usd=nan",
            "limits.budget_usd=nan: expected a number of at least 0 or null, and a finite one.",
        ),
        (
            "limits.latency_ms=inf",
            "limits.latency_ms=inf: expected a number of at least 0 or null, and a finite one.",
        ),
        (
            "limits.deadline_hours=1e999",
            "limits.deadline_hours=inf: expected a number of at least 0 or null, and a finite one.",
        ),
        (
            "limits.deadline_hours=0",
            "limits.deadline_hours=0: every run takes some time. Give hours above 0, or null for "
            "no limit.",
        ),
        (
            "limits.latency_ms=0",
            "limits.latency_ms=0: every run takes some time. Give milliseconds above 0, or null "
            "for no limit.",
        ),
        (
            "limits.serve_hours=1e6",
            "limits.serve_hours=1e+06 is more than ten years (87600 hours), longer than any price "
            "is valid.",
        ),
        ("limits.serve_hours=-1", "limits.serve_hours=-1: expected a number of at least 0."),
        ("limits.probe_usd=nan", "limits.probe_usd=nan: expected a number of at least 0, and a "
         "finite one."),
        # caps and quotas
        (
            "cloud.max_usd_per_hour=-1",
            "cloud.max_usd_per_hour=-1: expected a number of at least 0 or null.",
        ),
        (
            "cloud.max_usd_per_hour=0",
            "cloud.max_usd_per_hour=0: only this machine costs nothing. Type cloud=local, or a cap "
            "above 0.",
        ),
        ("cloud.max_nodes=0", "cloud.max_nodes=0: expected a whole number of at least 1."),
        (
            "+cloud.quotas.aws=0",
            "cloud.quotas.aws=0: a quota is at least 1. To exclude servers, use "
            "cloud.providers=[…] or cloud.regions=[…].",
        ),
        (
            "+cloud.quotas.aws=-2",
            "cloud.quotas.aws=-2: expected a whole number of at least 0.",
        ),
        ("+cloud.quotas.aws=2.5", "cloud.quotas.aws=2.5: expected a whole number of at least 0."),
        (
            "++cloud.quotas={aws//p5: 2}",
            "cloud.quotas.aws//p5: a quota is for cloud, cloud/region or "
            "cloud/region/instance_type; * matches any.",
        ),
        # traffic
        ("traffic.requests_per_s=0", "traffic.requests_per_s=0: expected a number above 0 or "
         "null."),
        ("traffic.requests_per_s=-3", "traffic.requests_per_s=-3: expected a number above 0 or "
         "null."),
        (
            "traffic.requests_per_s=1e9",
            "traffic.requests_per_s=1e+09 is more than 1,000,000 requests a second, too many for "
            "one student.",
        ),
        (
            "traffic.buckets=[{prompt_tokens: 64, answer_tokens: 128, share: 0}]",
            "traffic.buckets[0].share=0: expected a number above 0.",
        ),
        (
            "traffic.buckets=[{prompt_tokens: 0, answer_tokens: 128, share: 1}]",
            "traffic.buckets[0].prompt_tokens=0: expected a whole number of at least 1.",
        ),
        (
            "traffic.buckets=[{prompt_tokens: 64, answer_tokens: 128}]",
            "traffic.buckets[0].share is required: give it with traffic.buckets[0].share=…",
        ),
        (
            f"traffic.buckets=[{BUCKET},{BUCKET}]",
            "traffic.buckets[1]: 64 + 128 tokens appear twice; add up their shares.",
        ),
        (
            "traffic.buckets=[{prompt_tokens: 4000, answer_tokens: 128, share: 1}]",
            "traffic.buckets[0]: 4000 + 128 tokens are more than any student's context_length (at "
            "most 1024).",
        ),
        # weights and the solver
        (
            "objective.usd_per_100ms=-0.2",
            "objective.usd_per_100ms=-0.2: expected a number of at least 0 or null.",
        ),
        (
            "plan.solver=HiGHs",
            "plan.solver=HiGHs: there is no such solver. Did you mean HiGHS? Known: "
            "HiGHS, PULP_CBC_CMD, COIN_CMD, HiGHS_CMD.",
        ),
        ("plan.time_limit_s=0", "plan.time_limit_s=0: expected a number above 0."),
        ("plan.gap=2", "plan.gap=2: expected a number from 0 to 1."),
    ],
)  # fmt: skip
def test_a_limit_that_is_none_is_told(argv: str, message: str) -> None:
    assert problems(argv) == [message]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["limits.budget_usd=3", "limits.probe_usd=4"],
            "limits.probe_usd=4 is more than limits.budget_usd=3: the probe's money is a part of "
            "the budget. Type limits.probe_usd=3 or less, or a larger budget.",
        ),
        (
            ["cloud=aws", "+cloud.quotas.gcp=2"],
            "cloud.quotas.gcp: gcp is not among the clouds of this run (aws).",
        ),
        (
            ["teacher=openai", "teacher.usd_per_million_output_tokens=-1"],
            "teacher: a price per million tokens cannot be negative.",
        ),
        (
            ["teacher=openai", "teacher.usd_per_million_input_tokens=nan"],
            "teacher.usd_per_million_input_tokens=nan: expected a number or null, and a finite "
            "one.",
        ),
        (
            ["teacher=llama3_3_70b"],
            "teacher llama3_3_70b: llama-3.3-70b-versatile was retired on 2026-08-16 "
            "(https://console.groq.com/docs/deprecations). The nearest teacher that lives is "
            "gpt_oss_120b: type teacher=gpt_oss_120b",
        ),
        (
            ["teacher=endpoint", "teacher.base_url=https://llm.example.com/v1", "teacher.model=x"],
            "teacher x: the price of x at https://llm.example.com/v1 is not known, and "
            "nothing is asked at an unknown price. Type "
            "teacher.usd_per_million_input_tokens=<dollars> "
            "teacher.usd_per_million_output_tokens=<dollars>, for a million tokens; 0 for what "
            "costs nothing.",
        ),
        (
            ["teacher=gpt_4o", "teacher.retires=soon"],
            "teacher: retires=soon is no date of the form YYYY-MM-DD.",
        ),
        (
            ["deploy=none", "deploy.keep=true"],
            "deploy.keep=true: deploy=none makes no bundle to host. Leave one of them out.",
        ),
        (
            ["cloud.residency=europe"],
            "cloud: residency=europe: give eu, eea, any, or a country's code of two letters, such "
            "as de or us.",
        ),
    ],
)  # fmt: skip
def test_a_contradiction_is_told(argv: list[str], message: str) -> None:
    assert problems(*argv) == [message]


@pytest.mark.parametrize(
    "argv",
    [
        ["limits.budget_usd=1"],  # the default of probe_usd is a ceiling
        ["limits.budget_usd=0", "cloud=local", "cloud.max_usd_per_hour=0"],
        ["limits.accuracy=1", "limits.serve_hours=0"],
        ["++cloud.quotas={aws: 2, aws/us-east-1: 1, */*/p5.48xlarge: 1}"],
        ["cloud=aws", "++cloud.quotas={*/us-east-1: 1, aws: 3}"],
        ["traffic.requests_per_s=30", f"traffic.buckets=[{BUCKET}]"],
        ["plan.solver=PULP_CBC_CMD"],
    ],
)
def test_what_can_be_planned_passes(argv: list[str]) -> None:
    assert problems(*argv) == []


def test_all_are_told_at_once() -> None:
    told = problems(
        "limits.deadline_hours=0", "limits.budget_usd=2", "limits.probe_usd=3",
        "+cloud.quotas.aws=0", "traffic.requests_per_s=1e9", "cloud.max_usd_per_hour=0",
        "plan.solver=glpk",
    )  # fmt: skip
    keys = [line.partition("=")[0] for line in told]
    assert keys == [
        "limits.deadline_hours", "limits.probe_usd", "cloud.max_usd_per_hour",
        "cloud.quotas.aws", "traffic.requests_per_s", "plan.solver",
    ]  # fmt: skip


def test_serving_that_no_budget_pays_for_is_no_mistake_of_the_config() -> None:
    assert problems("limits.budget_usd=1", "limits.serve_hours=80000") == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["strategy.cache=sampled", "strategy.objective=reverse_kl"],
            "Sampled tokens estimate the forward KL, not reverse_kl: "
            "strategy.objective=forward_kl, or strategy.cache=topk",
        ),
        (
            ["strategy.cache=topk", "strategy.hidden_match=0.1"],
            "strategy.cache=topk keeps the teacher's probabilities, not its hidden states: "
            "strategy.cache=none, or strategy.hidden_match=0",
        ),
    ],
)
def test_a_signal_that_cannot_be_is_refused_at_once(argv: list[str], message: str) -> None:
    assert problems("strategy=alignment_logits", *argv) == [message]
