"""Assumptions about the workload that were not measured, and what would replace them."""

from __future__ import annotations

from stratos.estimate import constants as k
from stratos.records import Assumption

LOAD_TEST = "the load test of deploy, which measures it on this machine"

P95 = Assumption(
    "p95 latency over the mean",
    k.P95_OVER_MEAN,
    "times",
    "answers differ in length",
    LOAD_TEST,
)
PROMPT_TOKENS = Assumption(
    "tokens of a question",
    k.STUDENT_PROMPT_TOKENS,
    "tokens",
    "a student is asked without examples",
    "traffic.buckets=[{prompt_tokens: …, answer_tokens: …, share: 1}]",
)


def utilised(share: float) -> Assumption:
    """Return the share of its capacity that a server is planned to be busy to."""
    return Assumption(
        "utilisation of servers",
        share,
        "share of capacity",
        "requests come at random, and the wait for others is that of an M/G/c queue",
        LOAD_TEST,
    )


def answer_tokens(tokens: float, why: str) -> Assumption:
    """Return the assumed length of a student's answer."""
    return Assumption(
        "tokens of a student's answer",
        tokens,
        "tokens",
        why,
        "traffic.buckets, complexity.path_tokens, or a first run of the student on the task",
    )


def refused_share(share: float) -> Assumption:
    """Return the assumed share of a teacher's reasonings that are refused."""
    return Assumption(
        "reasonings that are refused",
        share,
        "share of each try",
        "the probe asks for answers, not for a reasoning to a known one",
        "strategy.refused_share=…, as a first corpus measures it",
    )


def reasoning_tokens(tokens: float) -> Assumption:
    """Return the assumed length of a reasoning that a teacher writes."""
    return Assumption(
        "tokens of a reasoning",
        tokens,
        "tokens",
        "half of strategy.max_tokens, where the items bring no paths",
        "complexity.path_tokens=…",
    )
