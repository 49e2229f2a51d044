"""What the served student has to answer: sizes of requests, and how many of each a second."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from stratos.config import Config
from stratos.estimate import Workload
from stratos.estimate import constants as k
from stratos.records import ModelCard


def workloads(
    config: Config, card: ModelCard, cards: Sequence[ModelCard], strategy: str
) -> tuple[Workload, ...]:
    """Return the sizes of requests: the config's buckets, or the one that runs have shown.

    Args:
        config: the run.
        card: the student.
        cards: all students, whose runs speak where this one has none.
        strategy: how it is trained.
    """
    task = config.task.name
    if config.traffic.buckets:
        return tuple(
            Workload(bucket.prompt_tokens, bucket.answer_tokens, task, strategy)
            for bucket in config.traffic.buckets
        )
    for some in ([card], cards):
        seen = [
            run.tokens_per_answer
            for other in some
            for run in other.runs
            if run.task == task and run.strategy == strategy
        ]
        if seen:
            return (Workload(k.STUDENT_PROMPT_TOKENS, mean(seen), task, strategy),)
    expected = config.complexity.path_tokens or k.ASSUMED_ANSWER_TOKENS
    assumed = min(expected, config.evaluate.max_new_tokens)
    return (Workload(k.STUDENT_PROMPT_TOKENS, assumed, task, strategy),)


def rates_of(config: Config, n_sizes: int) -> tuple[float, ...] | None:
    """Return requests per second of each size; None where they come one at a time."""
    rate = config.traffic.requests_per_s
    if rate is None:
        return None
    shares = [bucket.share for bucket in config.traffic.buckets] or [1.0] * n_sizes
    return tuple(rate * share / sum(shares) for share in shares)
