"""A flaky gateway: no run is refused whose faultless cost fits, and its money is used."""

from __future__ import annotations

import random
import re

import pytest
from cached_ask import cached_ask
from server import Bill, Provider, flaky

from stratos.core.errors import BudgetError
from stratos.teachers.base import Question
from stratos.teachers.cost_estimate import expect

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

N_PROBE, N = 40, 120
LIMIT = 200
"""Tokens: ten times what an answer takes, so that a ceiling is far from what is usual."""


def questions(n: int, start: int, seed: int) -> list[Question]:
    draw = random.Random(f"{seed} {start}")
    texts = [f"word {i} " + "more " * draw.randint(5, 30) for i in range(start, start + n)]
    return [Question([{"role": "user", "content": text}], LIMIT) for text in texts]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_a_run_whose_faultless_cost_fits_is_not_refused_and_gets_its_answers(
    run, teacher, seed: int, share: float
) -> None:
    probe, rest = questions(N_PROBE, 0, seed), questions(N, 1000, seed)
    with Provider(bill=Bill(1_000.0, 10_000.0)) as provider:  # what all costs without a fault
        cached_ask(
            teacher(provider), [one.chat for one in (*probe, *rest)], LIMIT, run(name="faultless")
        )
        faultless = provider.bill.usd
    budget = faultless * (1 + 2.5 * share)
    with Provider(flaky(share, seed), bill=Bill(1_000.0, 10_000.0)) as provider:
        asked = teacher(provider, max_retries=20, cache="write")
        context = run(budget)
        cached_ask(asked, [one.chat for one in probe], LIMIT, context)
        told = expect(asked, rest, context, like=probe)
        told.check()
        answers = cached_ask(asked, [one.chat for one in rest], LIMIT, context, cut=True)
        assert len(answers) == N
        assert context.ledger.tries("teacher parrot")[1] > 5
        assert provider.bill.usd - 1e-9 <= context.ledger.spent_usd <= budget


def test_where_the_answers_alone_do_not_fit_it_is_refused(run, teacher) -> None:
    probe, rest = questions(N_PROBE, 0, 0), questions(N, 1000, 0)
    with Provider(flaky(0.3, 0), bill=Bill(1_000.0, 10_000.0)) as provider:
        asked = teacher(provider, max_retries=20)
        cached_ask(asked, [one.chat for one in probe], LIMIT, run())
        poor = run(run().ledger.spent_usd * 1.5)
        with pytest.raises(BudgetError, match="120 questions are expected to take"):
            expect(asked, rest, poor, like=probe).check()


@pytest.mark.parametrize("seed", range(3))
def test_the_budget_that_a_refusal_proposes_suffices_to_the_last_call(
    run, teacher, seed: int
) -> None:
    """The last call sets its ceiling aside, ten times what it spends."""
    probe, rest = questions(N_PROBE, 0, seed), questions(20, 1000, seed)
    with Provider(bill=Bill(1_000.0, 10_000.0)) as provider:
        asked = teacher(provider)
        cached_ask(asked, [one.chat for one in probe], LIMIT, run())
        spent = run().ledger.spent_usd
        poor = run(spent + 0.5)
        with pytest.raises(BudgetError) as caught:
            expect(asked, rest, poor, like=probe).check()
        told = re.search(r"Give limits\.budget_usd .* \$([\d.]+) more", str(caught.value))
        assert told is not None
        rich = run(spent + 0.5 + float(told[1]))
        expect(asked, rest, rich, like=probe).check()
        assert len(cached_ask(asked, [one.chat for one in rest], LIMIT, rich, cut=True)) == 20
