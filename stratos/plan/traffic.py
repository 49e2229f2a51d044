"""Traffic of the served student: request sizes and rates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from stratos.config import Config
from stratos.estimate import Workload
from stratos.estimate import constants as k
from stratos.plan.assumptions import P95, PROMPT_TOKENS, answer_tokens
from stratos.records import Assumption, ModelCard


def assumed(config: Config, works: Sequence[Workload], is_recorded: bool) -> tuple[Assumption, ...]:
    """Return the numbers that the serving of some requests rests on and nobody measured.

    Args:
        config: the run.
        works: sizes of requests, as `workloads` has them.
        is_recorded: whether a run has shown how long answers are.
    """
    found = [P95]
    if not config.traffic.buckets:
        found.append(PROMPT_TOKENS)
        if not is_recorded:
            why = "no recorded run of the task says how long its answers are"
            if config.complexity.path_tokens is not None:
                why = "complexity.path_tokens"
            found.append(answer_tokens(works[0].answer_tokens, why))
    return tuple(found)


def is_recorded(config: Config, cards: Sequence[ModelCard], strategy: str) -> bool:
    """Return whether some run of any student has shown how long the task's answers are."""
    return any(
        run.task == config.task.name and run.strategy == strategy
        for card in cards
        for run in card.runs
    )


def workloads(
    config: Config, card: ModelCard, cards: Sequence[ModelCard], strategy: str
) -> tuple[Workload, ...]:
    """Return the sizes of requests: the config's buckets, or the one that runs have shown.

    Args:
        config: the run.
        card: the student.
        cards: all students, whose runs speak where this one has none.
        strategy: how it is trained, as cards call it; "" where no run of theirs was taught alike.
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
