"""A flaky gateway: no run is refused whose faultless cost fits, and its money is used."""

from __future__ import annotations

import random
import re

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError
from stratos.teachers.base import Answer, Question
from stratos.teachers.cost_estimate import expect
from stratos.teachers.openai import OpenAITeacher
from tests.teachers.provider import Bill, Provider, flaky
from tests.teachers.questions import cached_ask, chat

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]

N_PROBE, N = 40, 120
LIMIT = 200
"""Tokens: ten times what an answer takes, so that a ceiling is far from what is usual."""


def questions(n: int, start: int, seed: int) -> list[Question]:
    draw = random.Random(f"{seed} {start}")
    texts = [f"word {i} " + "more " * draw.randint(5, 30) for i in range(start, start + n)]
    return [Question(chat(text), LIMIT) for text in texts]


def ask(asker: OpenAITeacher, asked_for: list[Question], context: Context, **how) -> list[Answer]:
    return cached_ask(asker, [question.chat for question in asked_for], LIMIT, context, **how)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_a_run_whose_faultless_cost_fits_is_not_refused_and_gets_its_answers(
    run, teacher, dear, seed, share
):
    probe, rest = questions(N_PROBE, 0, seed), questions(N, 1000, seed)
    with Provider(bill=Bill(1_000.0, 10_000.0)) as faultless:
        ask(teacher(faultless), [*probe, *rest], run(name="faultless"))
    budget = faultless.bill.usd * (1 + 2.5 * share)
    dear.rule = flaky(share, seed)
    asker, context = teacher(dear, max_retries=20, cache="write"), run(budget)
    ask(asker, probe, context)
    expect(asker, rest, context, like=probe).check()
    assert len(ask(asker, rest, context)) == N
    assert context.ledger.tries("teacher parrot")[1] > 5
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd <= budget


def test_where_the_answers_alone_do_not_fit_it_is_refused(run, teacher, dear):
    probe, rest = questions(N_PROBE, 0, 0), questions(N, 1000, 0)
    dear.rule = flaky(0.3, 0)
    asker = teacher(dear, max_retries=20)
    ask(asker, probe, run())
    poor = run(run().ledger.spent_usd * 1.5)
    with pytest.raises(BudgetError, match="120 questions are expected to take"):
        expect(asker, rest, poor, like=probe).check()


@pytest.mark.parametrize("seed", range(3))
def test_the_budget_that_a_refusal_proposes_suffices_to_the_last_call(run, teacher, dear, seed):
    """The last call sets its ceiling aside, ten times what it spends."""
    probe, rest = questions(N_PROBE, 0, seed), questions(20, 1000, seed)
    asker = teacher(dear)
    ask(asker, probe, run())
    spent = run().ledger.spent_usd
    with pytest.raises(BudgetError) as caught:
        expect(asker, rest, run(spent + 0.5), like=probe).check()
    more = re.search(r"Give limits\.budget_usd .* \$([\d.]+) more", str(caught.value))
    assert more is not None
    rich = run(spent + 0.5 + float(more[1]))
    expect(asker, rest, rich, like=probe).check()
    assert len(ask(asker, rest, rich)) == 20
