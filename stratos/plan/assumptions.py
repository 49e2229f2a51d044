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


def utilised(share: float) -> Assumption:
    """Return the share of its capacity that a server is planned to be busy to."""
    return Assumption(
        "utilisation of servers",
        share,
        "share of capacity",
        "requests come at random, and the wait for others is that of an M/G/c queue",
        LOAD_TEST,
    )


def prompt_tokens(counted: float | None, why: str) -> Assumption:
    """Return the length of a question, as rows show it or as it is assumed.

    Args:
        counted: mean of the rows; None where none tell.
        why: what it was counted on.
    """
    return Assumption(
        "tokens of a question",
        k.STUDENT_PROMPT_TOKENS if counted is None else counted,
        "tokens",
        "a student is asked without examples" if counted is None else why,
        "traffic.buckets=[{prompt_tokens: …, answer_tokens: …, share: 1}]",
    )


def answer_tokens(tokens: float, why: str) -> Assumption:
    """Return the length of a student's answer that no run of the student has shown."""
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
