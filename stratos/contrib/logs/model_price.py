"""The price of a logged model, by the card of the teacher that has it."""

from __future__ import annotations

from stratos.core.errors import StratosError, did_you_mean
from stratos.teachers.lifetime import shipped_teachers
from stratos.teachers.openai_settings import OpenAISettings


def card_named(name: str) -> OpenAISettings:
    """Return the shipped card of a name, as `teacher=` takes it.

    Raises:
        StratosError: there is none.
    """
    cards = {card.name: card for card in shipped_teachers()}
    if name not in cards:
        raise StratosError(
            f"--card {name}: there is no such card.{did_you_mean(name, cards)} "
            f"Known: {', '.join(cards)}."
        )
    return cards[name]


def usd_of(card: OpenAISettings, input_tokens: float, output_tokens: float) -> float | None:
    """Return what tokens cost at a card's price; None where it has none."""
    asked, said = card.usd_per_million_input_tokens, card.usd_per_million_output_tokens
    if asked is None or said is None:
        return None
    return (asked * input_tokens + said * output_tokens) / 1e6
