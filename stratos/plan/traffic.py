"""Traffic of the served student: request sizes and rates.

The size of a request is that of the config's buckets; else that of the recorded runs; else that of
the task's rows, as the student is asked and taught them; else an assumed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from stratos.config import Config
from stratos.estimate import Workload
from stratos.estimate import constants as k
from stratos.plan.assumptions import P95, answer_tokens, prompt_tokens
from stratos.plan.options.training_length import RowSizes
from stratos.records import Assumption, CardRun, ModelCard
from stratos.synthesize.strategy import Strategy

_NO_RUN = "no recorded run of the task says how long its answers are"


@dataclass(frozen=True)
class Requests:
    """Sizes of the requests to a student, and the numbers of them that no run has measured."""

    works: tuple[Workload, ...]
    assumptions: tuple[Assumption, ...]

    @property
    def name(self) -> str:
        """The sizes in a word, which tells apart what is planned for requests of other sizes."""
        return " ".join(f"{one.prompt_tokens:.6g}+{one.answer_tokens:.6g}" for one in self.works)


def requests_of(
    config: Config,
    card: ModelCard,
    cards: Sequence[ModelCard],
    strategy: Strategy,
    sizes: RowSizes,
    history: Sequence[CardRun] = (),
) -> Requests:
    """Return the sizes of requests to a student, and what is assumed of them.

    Args:
        config: the run.
        card: the student.
        cards: all students, whose runs speak where this one has none.
        strategy: how it is trained.
        sizes: of the rows that it learns from.
        history: past runs of this machine. They speak where the rows do not: of reasoning.
    """
    task = config.task.name
    kind = strategy.kind if strategy.teaches_as_recorded else ""
    if config.traffic.buckets:
        works = tuple(
            Workload(bucket.prompt_tokens, bucket.answer_tokens, task, kind)
            for bucket in config.traffic.buckets
        )
        return Requests(works, (P95,))
    recorded = _recorded(task, kind, card, cards)
    # Recorded answers were timed at this length of a question (`recorded_over_computed`).
    is_usual = sizes.prompt is None or (recorded is not None and not config.task.has_rows)
    prompt, why = (None, "") if is_usual else (sizes.prompt, sizes.prompt_source)
    asked = prompt_tokens(prompt, why)
    found: tuple[Assumption, ...] = ()
    if recorded is not None:
        answer = recorded
    else:
        answer, found = _answer(config, card, strategy, sizes, history)
    return Requests((Workload(asked.value, answer, task, kind),), (P95, asked, *found))


def _recorded(task: str, kind: str, card: ModelCard, cards: Sequence[ModelCard]) -> float | None:
    """Return the tokens of an answer by the cards' runs, the student's own before others'."""
    for some in ([card], cards):
        seen = [
            run.tokens_per_answer
            for other in some
            for run in other.runs
            if run.task == task and run.strategy == kind
        ]
        if seen:
            return mean(seen)
    return None


def _answer(
    config: Config,
    card: ModelCard,
    strategy: Strategy,
    sizes: RowSizes,
    history: Sequence[CardRun],
) -> tuple[float, tuple[Assumption, ...]]:
    """Return the tokens of an answer that no card has a run of, and what that assumes."""
    most = config.evaluate.max_new_tokens
    if sizes.answer is not None:
        tokens, why = min(sizes.answer, most), sizes.answer_source
        # A 95th percentile is taken for so much of the mean. Where the rows spread further, their
        # own is what requests take.
        long = min(sizes.long_answer or 0.0, most) / k.P95_OVER_MEAN
        if long > tokens:
            why = f"{why}: {tokens:.3g}; more, since 1 in 20 has {k.P95_OVER_MEAN * long:.3g}"
            tokens = long
        return tokens, (answer_tokens(tokens, why),)
    past = [
        run.tokens_per_answer
        for run in history
        if (run.student, run.strategy) == (card.name, strategy.name)
    ]
    if past:
        return mean(past), ()
    declared = config.complexity.path_tokens
    tokens = min(declared or k.ASSUMED_ANSWER_TOKENS, most)
    return tokens, (answer_tokens(tokens, "complexity.path_tokens" if declared else _NO_RUN),)


def rates_of(config: Config, n_sizes: int) -> tuple[float, ...] | None:
    """Return requests per second of each size; None where they come one at a time."""
    rate = config.traffic.requests_per_s
    if rate is None:
        return None
    shares = [bucket.share for bucket in config.traffic.buckets] or [1.0] * n_sizes
    return tuple(rate * share / sum(shares) for share in shares)
