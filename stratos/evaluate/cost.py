"""Cost of 1,000 answers on the planned servers, or from a hosted model.

On a server:  $/hour of one server x hours that it takes for 1,000 answers: in batches, or as the
              server of a student is run, by its engine at its planned utilisation. Tokens
              are those measured on the test items, hours are estimated for the planned server
              (`stratos.estimate`), since the run's own machine is a different one. Waiting for the
              server to start is not counted: this is the price of the next thousand.
On a mix:     the same for each of its offers, weighed by the share of the answers that it gives:
              over the buckets of requests, their share of the traffic x its share of the bucket.
Hosted:       1,000 x ($ per input token x input tokens + the same for output tokens) / answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from stratos.estimate.cards import Workload
from stratos.estimate.hours import answers_per_s, batch_hours
from stratos.records import ModelCard, RoleChoice


def usd_per_1000(
    card: ModelCard,
    choices: Sequence[RoleChoice],
    *,
    input_tokens: int,
    output_tokens: int,
    n_answers: int,
    bucket_shares: Sequence[float] = (),
) -> float | None:
    """Return the dollars for 1,000 answers, given the tokens that `n_answers` took.

    None where the model has no price and no server is planned for it.

    Args:
        card: the model.
        choices: the servers of its role, several where serving mixes offers.
        input_tokens: of all answers together.
        output_tokens: of all answers together.
        n_answers: how many.
        bucket_shares: weight of each bucket of requests; none where there is one bucket.
    """
    if not n_answers:
        return None
    mean_input, mean_output = input_tokens / n_answers, output_tokens / n_answers
    if card.usd_per_million_input_tokens is not None or card.usd_per_million_output_tokens:
        usd_per_million = (card.usd_per_million_input_tokens or 0.0) * mean_input
        usd_per_million += (card.usd_per_million_output_tokens or 0.0) * mean_output
        return usd_per_million / 1e6 * 1000
    work = Workload(prompt_tokens=mean_input, answer_tokens=mean_output)
    weights = [_weight(choice, bucket_shares) for choice in choices]
    usd = 0.0
    for choice, weight in zip(choices, weights, strict=True):
        if choice.offer is None:
            return None
        usd_per_hour = choice.offer.usd_per_hour
        if choice.spot and choice.offer.usd_per_hour_spot is not None:
            usd_per_hour = choice.offer.usd_per_hour_spot
        usd += weight / sum(weights) * usd_per_hour * _hours_per_1000(card, choice, work)
    return usd


def _hours_per_1000(card: ModelCard, choice: RoleChoice, work: Workload) -> float:
    """Return the hours of one server of a choice for 1,000 answers."""
    assert choice.offer is not None
    if choice.run is not None:
        return 1000 / answers_per_s(card, choice.offer, work, choice.run) / 3600
    # The second thousand: the first one waits for the server.
    first, both = (batch_hours(card, choice.offer, work, n) for n in (1000, 2000))
    return both - first


def _weight(choice: RoleChoice, bucket_shares: Sequence[float]) -> float:
    """Return the weight of the answers that servers give; 1 where one offer gives them all."""
    if not choice.traffic:
        return 1.0
    shares = bucket_shares or (1.0,) * len(choice.traffic)
    return sum(share * part for share, part in zip(shares, choice.traffic, strict=True))
