"""Where the money for one teacher ends, the next cheaper one goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from stratos.core.context import Context
from stratos.core.errors import BudgetError
from stratos.ledger import Ledger
from stratos.records import ModelCard
from stratos.teachers.asking import going_down, stream_down
from tests.teachers.echo_teacher import EchoTeacher
from tests.teachers.questions import questions


@dataclass
class Priced(EchoTeacher):
    """An echo at a price for a million tokens."""

    usd: float = 0.0
    reason: str | None = None

    def card(self) -> ModelCard:
        prices = {"usd_per_million_input_tokens": self.usd}
        return replace(super().card(), **prices, usd_per_million_output_tokens=self.usd)

    def identity(self) -> str:
        return self.name

    def unreachable(self) -> str | None:
        return self.reason


def test_the_next_are_those_that_cost_less_and_can_be_asked() -> None:
    dear, middle, free = Priced("dear", usd=9.0), Priced("middle", usd=3.0), Priced("free")
    absent, dearer = Priced("absent", usd=1.0, reason="no key"), Priced("dearer", usd=20.0)
    teachers = going_down(dear, [free, dearer, absent, dear, middle])
    assert [teacher.name for teacher in teachers] == ["dear", "middle", "free"]


def test_the_rest_is_answered_by_the_next(context: Context, warnings: list[str]) -> None:
    poor = replace(context, ledger=Ledger(context.run_dir / "l", 0.001))
    teachers = [Priced("dear", usd=10.0), Priced("cheap", usd=0.1)]
    seen: list[tuple[int, int]] = []
    got = list(stream_down(teachers, questions(40), poor, tick=lambda d, t: seen.append((d, t))))
    assert [answer.text for _, answer in got] == [f"word {i}" for i in range(40)]
    names = [teacher.name for teacher, _ in got]
    n_dear = names.count("dear")
    assert 0 < n_dear < 40 and names == ["dear"] * n_dear + ["cheap"] * (40 - n_dear)
    assert poor.ledger.spent_usd <= 0.001
    assert poor.ledger.cut_at_usd == 0.001, "more money may ask the dear one again"
    assert seen[-1] == (40, 40)
    assert warnings[0].startswith(f"Teacher cheap goes on with {40 - n_dear} of 40 questions: ")
    assert len(warnings) == 1


def test_the_last_one_stops(context: Context) -> None:
    poor = replace(context, ledger=Ledger(context.run_dir / "l", 0.001))
    with pytest.raises(BudgetError):
        list(stream_down([Priced("dear", usd=10.0)], questions(99), poor))
