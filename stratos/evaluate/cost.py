"""What 1,000 answers cost on the planned server, or from whoever hosts the model.

On a server:  $/hour of one server x hours that it takes for 1,000 answers in batches. Tokens
              are those measured on the test items, hours are estimated for the planned server
              (`stratos.estimate`), since the run's own machine is a different one. Waiting for the
              server to start is not counted: this is the price of the next thousand.
Hosted:       1,000 x ($ per input token x input tokens + the same for output tokens) / answers.
"""

from __future__ import annotations

from stratos.estimate import Workload, batch_hours
from stratos.records import ModelCard, RoleChoice


def usd_per_1000(
    card: ModelCard,
    choice: RoleChoice,
    *,
    input_tokens: int,
    output_tokens: int,
    n_answers: int,
) -> float | None:
    """Return the dollars for 1,000 answers, given the tokens that `n_answers` took.

    None where the model has no price and no server is planned for it.
    """
    if not n_answers:
        return None
    mean_input, mean_output = input_tokens / n_answers, output_tokens / n_answers
    if card.usd_per_million_input_tokens is not None or card.usd_per_million_output_tokens:
        usd_per_million = (card.usd_per_million_input_tokens or 0.0) * mean_input
        usd_per_million += (card.usd_per_million_output_tokens or 0.0) * mean_output
        return usd_per_million / 1e6 * 1000
    if choice.offer is None:
        return None
    usd_per_hour = choice.offer.usd_per_hour
    if choice.spot and choice.offer.usd_per_hour_spot is not None:
        usd_per_hour = choice.offer.usd_per_hour_spot
    work = Workload(prompt_tokens=mean_input, answer_tokens=mean_output)
    # The second thousand: the first one waits for the server.
    first, both = (batch_hours(card, choice.offer, work, n) for n in (1000, 2000))
    return usd_per_hour * (both - first)
