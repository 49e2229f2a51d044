"""A teacher behind an API as an offer: dollars by the token, hours by its rate limits."""

from __future__ import annotations

from stratos.estimate import Workload
from stratos.plan.option import Option
from stratos.records import ModelCard, TeacherProbe


def is_hosted(card: ModelCard) -> bool:
    """Return whether a model has a price by the token, and so needs no server."""
    return (
        card.usd_per_million_input_tokens is not None
        or card.usd_per_million_output_tokens is not None
    )


def hosted_options(teacher: TeacherProbe, work: Workload, n_answers: int) -> tuple[Option, ...]:
    """Return the ways to ask a hosted teacher: at once, and as a batch where that has a price.

    At once, its rate limits and the pace that the probe saw bound the hours, of which the slowest
    counts; longer answers than the probe's take as much longer. A batch comes back within a window
    that the provider promises, however many answers.

    Args:
        teacher: what the probe saw.
        work: tokens of one answer, on average.
        n_answers: answers asked for.
    """
    card = teacher.card
    minutes = 0.0
    if card.max_requests_per_minute:
        minutes = n_answers / card.max_requests_per_minute
    if card.max_tokens_per_minute:
        minutes = max(minutes, n_answers * work.context / card.max_tokens_per_minute)
    pace = teacher.seconds / max(1, teacher.n_items)
    if teacher.output_tokens:
        pace *= max(1.0, work.answer_tokens * teacher.n_items / teacher.output_tokens)
    options = [
        Option(
            offer=None,
            spot=False,
            hours=max(minutes / 60, n_answers * pace / 3600),
            usd=_usd(
                n_answers,
                work,
                card.usd_per_million_input_tokens,
                card.usd_per_million_output_tokens,
            ),
            note=f"hosted, {n_answers} answers by the token",
        )
    ]
    batch_in = card.usd_per_million_batch_input_tokens
    batch_out = card.usd_per_million_batch_output_tokens
    if batch_in is not None and batch_out is not None:
        options.append(
            Option(
                offer=None,
                spot=False,
                hours=card.batch_hours,
                usd=_usd(n_answers, work, batch_in, batch_out),
                note=f"hosted, {n_answers} answers as a batch",
                as_batch=True,
            )
        )
    return tuple(options)


def _usd(n_answers: int, work: Workload, usd_in: float | None, usd_out: float | None) -> float:
    """Return the dollars of answers at prices per million tokens."""
    one = work.prompt_tokens * (usd_in or 0.0) + work.answer_tokens * (usd_out or 0.0)
    return n_answers * one / 1e6
