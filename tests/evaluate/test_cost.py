from dataclasses import replace

import pytest
from serving_points import serving
from tiny_run import CARD, SERVER

from stratos.estimate.cards import Workload
from stratos.estimate.hours import batch_hours
from stratos.evaluate.stage import usd_per_1000
from stratos.records import RoleChoice, ServingSetting

TOKENS = {"input_tokens": 500, "output_tokens": 4000, "n_answers": 10}


def role(offer, spot: bool = False) -> list[RoleChoice]:
    return [RoleChoice("serve", offer, 1, spot, 24.0, 1.0)]


def test_a_hosted_model_costs_its_tokens():
    card = replace(CARD, usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=10.0)
    # 50,000 input tokens at $2 and 400,000 output tokens at $10 a million.
    assert usd_per_1000(card, role(None), **TOKENS) == pytest.approx(0.1 + 4.0)


def test_a_served_model_costs_the_server_while_it_answers():
    usd = usd_per_1000(CARD, role(SERVER), **TOKENS)
    hours = batch_hours(CARD, SERVER, Workload(50, 400), 1000)
    assert 0 < usd < 0.09 * hours  # the start of the server is not paid again
    assert usd_per_1000(CARD, role(replace(SERVER, usd_per_hour=0.18)), **TOKENS) == pytest.approx(
        2 * usd
    )
    twice = {**TOKENS, "input_tokens": 1000, "output_tokens": 8000, "n_answers": 20}
    assert usd_per_1000(CARD, role(SERVER), **twice) == pytest.approx(usd)


def test_a_spot_server_costs_its_spot_price():
    spot = replace(SERVER, usd_per_hour_spot=0.03)
    usd = usd_per_1000(CARD, role(spot), **TOKENS)
    assert usd_per_1000(CARD, role(spot, spot=True), **TOKENS) == pytest.approx(usd / 3)


def test_without_server_price_or_answers_there_is_no_cost():
    assert usd_per_1000(CARD, role(None), **TOKENS) is None
    assert usd_per_1000(CARD, role(SERVER), input_tokens=0, output_tokens=0, n_answers=0) is None


def test_a_mix_costs_what_each_of_its_offers_answers():
    dear = replace(SERVER, usd_per_hour=10 * SERVER.usd_per_hour)
    usd = usd_per_1000(CARD, role(SERVER), **TOKENS)
    mix = [
        replace(role(SERVER)[0], count=3, traffic=(1.0, 0.25)),
        replace(role(dear)[0], traffic=(0.0, 0.75)),
    ]
    # Of 3 + 1 parts of the traffic the dear server answers three quarters of the last one.
    expected = usd * (3.25 + 10 * 0.75) / 4
    assert usd_per_1000(CARD, mix, **TOKENS, bucket_shares=(3.0, 1.0)) == pytest.approx(expected)
    assert usd_per_1000(CARD, [*mix, *role(None)], **TOKENS, bucket_shares=(3, 1)) is None


def test_a_server_that_answers_one_at_a_time_is_paid_for_every_answer():
    """What was wrong: 1,000 answers in batches of 32 by a server that takes one after another."""
    alone = [replace(role(SERVER)[0], run=ServingSetting("transformers"))]
    usd = usd_per_1000(CARD, alone, **TOKENS)
    work = Workload(50, 400)
    (point,) = serving(CARD, SERVER, (work,), fastest=True)
    assert usd == pytest.approx(0.09 * 1000 / point.requests_per_s[0] / 3600)
    assert usd > 5 * usd_per_1000(CARD, role(SERVER), **TOKENS)
    busy = [replace(alone[0], run=replace(alone[0].run, utilisation=0.5))]
    assert usd_per_1000(CARD, busy, **TOKENS) == pytest.approx(2 * usd)
