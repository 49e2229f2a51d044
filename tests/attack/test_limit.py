"""Answers longer than their limit: ceilings rise, and a passed budget ends the run and is said."""

from __future__ import annotations

import itertools
import re

import pytest

from stratos.core.errors import BudgetError, OverspentError
from stratos.ledger import reserves
from stratos.teachers import scheduler
from stratos.teachers.asking import stream_ask
from tests.attack.whole_run import command
from tests.teachers.provider import Reply, always
from tests.teachers.questions import cached_ask, chats, questions

pytestmark = pytest.mark.usefixtures("quick")

ONE = (6 * 1_000 + 2 * 10_000) / 1e6
"""Dollars of an answer to "word 7" at these prices, and of its limit of 10 tokens below $0.13."""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question does not go alone, so that the first answers come all at once."""
    monkeypatch.setattr(scheduler, "_REFUSED_WITHIN_S", 0.0)


@pytest.mark.parametrize("budget", [3.0, 6.0])
@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_an_endpoint_that_ignores_the_limit_takes_no_more_than_the_budget(
    run, teacher, dear, warnings, budget, delay_s
):
    """Its answers are five times as long; the first goes alone and tells."""
    dear.rule = always(n_tokens=50, delay_s=delay_s)
    context = run(budget)
    with pytest.raises(BudgetError):
        list(stream_ask(teacher(dear), questions(40, 10), context))
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd <= budget
    assert context.ledger.spent_usd > budget - 2 * dear.bill.usd / dear.bill.n_answers
    assert "wrote 50 tokens where 10 were the most" in warnings[0]
    # A later run in this folder knows it from the start.
    assert run(budget).ledger.overrun("teacher parrot").output_factor == 5


@pytest.mark.usefixtures("at_once")
def test_where_many_are_under_way_the_budget_may_be_passed_and_it_is_said(run, teacher, dear):
    dear.rule = always(n_tokens=90, delay_s=0.2)
    context = run(3.0)
    with pytest.raises(OverspentError) as caught:
        cached_ask(teacher(dear), chats(20), 10, context)
    match = re.match(r"limits\.budget_usd=3 is passed by up to \$([\d.]+)\. ", str(caught.value))
    assert match is not None
    assert dear.bill.usd - 1e-9 <= context.ledger.spent_usd
    assert context.ledger.spent_usd - 3.0 == pytest.approx(float(match[1]), abs=1e-3)
    assert "wrote 90 tokens where 10 were the most" in str(caught.value)
    n_asked = dear.n_tries
    # Nothing more is asked for in this folder, and what was answered, in any order, is kept.
    again = run(3.0)
    assert len(cached_ask(teacher(dear), chats(20), 10, again)) <= dear.bill.n_answers < 20
    assert dear.n_tries == n_asked
    more = run(100.0)
    answers = cached_ask(teacher(dear), chats(20), 10, more)
    assert len(answers) == 20
    assert sum(answer.cached for answer in answers) == n_asked + 20 - dear.n_tries > 0
    assert dear.bill.usd - 1e-9 <= more.ledger.spent_usd <= 100.0


@pytest.mark.usefixtures("at_once")
def test_what_is_under_way_is_given_up_where_the_money_does_not_suffice(run, teacher, dear):
    def rule(text: str, n_tries: int) -> Reply:
        return Reply(n_tokens=90, delay_s=0.5) if text == "word 0" else Reply(delay_s=30.0)

    dear.rule = rule
    with pytest.raises(OverspentError, match=r"What was under way \(1\d at once\) is given up"):
        cached_ask(teacher(dear), chats(20), 10, run(3.0))
    assert dear.bill.n_answers == 1


def test_where_the_money_suffices_what_is_under_way_is_covered_and_comes(run, teacher, dear):
    lengths = itertools.cycle((5, 12, 40, 25))
    dear.rule = lambda text, n: Reply(n_tokens=next(lengths))
    context = run(100.0)
    assert len(cached_ask(teacher(dear), chats(60), 10, context)) == 60
    assert dear.bill.usd == pytest.approx(context.ledger.spent_usd)
    assert context.ledger.reserved_usd == 0


@pytest.mark.usefixtures("at_once")
def test_the_cap_of_a_probe_and_what_a_plan_holds_are_caps_too(run, teacher, dear):
    dear.rule = always(n_tokens=90, delay_s=0.2)
    with pytest.raises(OverspentError, match=r"limits\.probe_usd=3 is passed by up to \$"):
        cached_ask(teacher(dear), chats(20), 10, run(name="probe"), limit_usd=3.0)
    context = run(100.0, name="held")
    reserves.allot(context.ledger, "a plan", {"teacher": 2.0, "serve": 97.0})
    with pytest.raises(OverspentError) as caught:
        cached_ask(teacher(dear), chats(20), 10, context)
    assert "the plan holds $97.00 for serve" in str(caught.value)
    assert context.ledger.spent_usd >= dear.bill.usd / 2 - 1e-9


def test_the_command_ends_non_zero_and_says_by_how_much(tmp_path, dear):
    dear.rule = always(n_tokens=600, delay_s=0.2)
    done = command(tmp_path, dear, "stages=[probe]", "limits.budget_usd=20", "limits.probe_usd=20")
    assert done.returncode == 1
    assert "=20 is passed by up to $" in done.stderr
    assert "Traceback" not in done.stderr
    assert dear.bill.n_answers > 0


def test_a_limit_without_a_name_is_refused_before_anything(tmp_path, dear):
    done = command(tmp_path, dear, "teacher.token_limit_field=''")
    assert done.returncode == 2
    assert "is no field that limits an answer" in done.stderr
    assert dear.tries == {} and dear.keys == []
