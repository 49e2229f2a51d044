"""A teacher behind an API as an offer: dollars by the token, hours by its rate limits."""

from __future__ import annotations

from collections.abc import Callable

from stratos.plan.asked import Load
from stratos.plan.option import Option
from stratos.records import ModelCard, TeacherProbe
from stratos.words import counted


def is_hosted(card: ModelCard) -> bool:
    """Return whether a model has a price by the token, and so needs no server."""
    return (
        card.usd_per_million_input_tokens is not None
        or card.usd_per_million_output_tokens is not None
    )


def hosted_options(
    teacher: TeacherProbe,
    load: Load,
    ends: tuple[Load, Load] | None = None,
    *,
    evaluated: Load | None = None,
    scored: Load | None = None,
) -> tuple[Option, ...]:
    """Return the ways to ask a hosted teacher: at once, and as a batch where that has a price.

    At once, its rate limits and the pace that the probe saw bound the hours, of which the slowest
    counts; longer answers than the probe's take as much longer. A batch comes back within a window
    that the provider promises, however many answers; what is asked or scored behind it is at once.

    Args:
        teacher: what the probe saw.
        load: answers asked for.
        ends: the fewest and the most that may be asked for, where that is a range.
        evaluated: those of the load that are asked behind the training.
        scored: texts that it scores besides, where its endpoint can; it takes their hours for none.
    """
    card = teacher.card
    usd_in, usd_out = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    scored_usd = 0.0 if scored is None else _usd(scored, usd_in, usd_out)
    answers = counted(load.n_answers, "answer")
    if ends is not None:
        answers += f" ({ends[0].n_answers} to {ends[1].n_answers})"
    options = [
        Option(
            offer=None,
            spot=False,
            hours=_hours(teacher, load),
            usd=_usd(load, usd_in, usd_out) + scored_usd,
            note=f"hosted, {answers} by the token",
            hours_range=None if ends is None else _both(ends, lambda one: _hours(teacher, one)),
            usd_range=_range(ends, lambda one: _usd(one, usd_in, usd_out), scored_usd),
        )
    ]
    batch_in = card.usd_per_million_batch_input_tokens
    batch_out = card.usd_per_million_batch_output_tokens
    later = evaluated or Load.of([])
    if batch_in is not None and batch_out is not None and load.n_answers > later.n_answers:
        dearer = _usd(later, usd_in, usd_out) - _usd(later, batch_in, batch_out)
        options.append(
            Option(
                offer=None,
                spot=False,
                hours=card.batch_hours + _hours(teacher, later),
                usd=_usd(load, batch_in, batch_out) + dearer + scored_usd,
                note=f"hosted, {answers} as a batch",
                usd_range=_range(
                    ends, lambda one: _usd(one, batch_in, batch_out) + dearer, scored_usd
                ),
                as_batch=True,
            )
        )
    return tuple(options)


def _both(ends: tuple[Load, Load], of: Callable[[Load], float]) -> tuple[float, float]:
    return of(ends[0]), of(ends[1])


def _range(
    ends: tuple[Load, Load] | None, of: Callable[[Load], float], scored_usd: float
) -> tuple[float, float] | None:
    """Return the dollars of both ends; what may be scored is paid for at the upper one."""
    if ends is None:
        return None
    low, high = _both(ends, of)
    return low, high + scored_usd


def _hours(teacher: TeacherProbe, load: Load) -> float:
    """Return the hours of answers that are asked for at once."""
    card, n_answers, work = teacher.card, load.n_answers, load.work
    minutes = 0.0
    if card.max_requests_per_minute:
        minutes = n_answers / card.max_requests_per_minute
    if card.max_tokens_per_minute:
        minutes = max(minutes, n_answers * work.context / card.max_tokens_per_minute)
    pace = teacher.seconds / max(1, teacher.n_items)
    if teacher.output_tokens:
        pace *= max(1.0, work.answer_tokens * teacher.n_items / teacher.output_tokens)
    return max(minutes / 60, n_answers * pace / 3600)


def _usd(load: Load, usd_in: float | None, usd_out: float | None) -> float:
    """Return the dollars of answers at prices per million tokens."""
    one = load.work.prompt_tokens * (usd_in or 0.0) + load.work.answer_tokens * (usd_out or 0.0)
    return load.n_answers * one / 1e6
