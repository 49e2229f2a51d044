"""What the money cut short goes on where it ended, as soon as there is more: asked anew is nothing.

The stages run as in a run, with a priced teacher behind a real server on loopback.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stratos import config as schema
from stratos.core.errors import BudgetError
from stratos.ledger import LedgerError, reserves
from stratos.ledger.book import TEACHER
from stratos.records import Corpus, Interval, Offer, Plan, Probe, RoleChoice
from stratos.run import resume
from stratos.run.resume import Stage
from stratos.run.runner import opened
from stratos.run.stage_job import hold_money
from stratos.run.stages import EVALUATE, PLAN, PROBE, STAGES, SYNTHESIZE
from stratos.synthesize.alignment import Alignment
from stratos.tasks.jsonl import JsonlTask
from tests.report import factory
from tests.stub_executors import Queue
from tests.teachers.chat_server import KEY, ChatServer
from tests.teachers.questions import parrot

USD = (100 * 1_000 + 10 * 10_000) / 1e6
"""Of one answer of the server: 100 tokens in, 10 out."""
MOST = 0.5
"""More than the ceiling of one call."""
N = 40


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("PARROT_KEY", KEY)
    with ChatServer() as running:
        yield running


class World:
    """One run folder; the task is to say a question in capitals, as the server does."""

    def __init__(self, folder: Path, server: ChatServer) -> None:
        self.run_dir, self.server = folder / "run", server
        rows = [{"question": f"word {i}", "answer": f"WORD {i}"} for i in range(300)]
        path = folder / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        self.task = JsonlTask(str(path), prompts=("zero_shot",), validation_share=0.5)

    def config(
        self, stage: str, budget_usd: float | None, student: str | None = None
    ) -> schema.Config:
        prices = {"usd_per_million_input_tokens": 1e3, "usd_per_million_output_tokens": 1e4}
        teacher = parrot(self.server, concurrency=2, **prices)
        return factory.make_config(
            self.run_dir,
            task=self.task,
            teachers=(teacher,),
            students=() if student is None else (schema.StudentConfig(student, path=student),),
            strategies=(Alignment(n_items=N, max_tokens=20),),
            cloud=schema.CloudConfig(),
            limits=schema.LimitsConfig(budget_usd=budget_usd, probe_usd=100.0),
            probe=schema.ProbeConfig(n_items=N, max_items=N, max_tokens=20, n_samples=2),
            stages=(stage,),
            plain={"limits": {"probe_usd": 100.0}, "student": {"path": student}},
        )

    def made_by(self, stage: str, budget_usd: float | None, student: str | None = None) -> Any:
        """Run a stage behind the plan that is there; return its record."""
        with opened(self.config(stage, budget_usd, student), STAGES) as run:
            record = run(SYNTHESIZE, run(PLAN)) if stage == "synthesize" else run(PROBE)
            assert record is not None
            self.spent_usd = run.state.ledger.spent_usd
        return record

    def synthesize(self, budget_usd: float | None) -> Corpus:
        return self.made_by("synthesize", budget_usd)

    def probe(self, budget_usd: float | None, student: str | None = None) -> Probe:
        return self.made_by("probe", budget_usd, student)

    def plan(self, mark: str = "mark", serve_usd: float = 0.0) -> None:
        """Let a plan be there whose servers cost so much."""
        self.run_dir.mkdir(exist_ok=True)
        resume.keep(PLAN, self.run_dir, mark, planned(serve_usd))

    def mark(self, stage: str) -> Any:
        return json.loads((self.run_dir / f"{stage}.json").read_text())["fingerprint"]

    @property
    def n_asked(self) -> int:
        """How many questions the server was asked."""
        return len(self.server.requests)


@pytest.fixture
def world(tmp_path: Path, server: ChatServer) -> World:
    return World(tmp_path, server)


def planned(serve_usd: float = 0.0) -> Plan:
    unknown = Interval(0.0, 0.0, 1.0, "unknown")
    return Plan(
        status="optimal", solver="none", teacher="parrot", student="s", strategy="alignment",
        roles=(RoleChoice("serve", None, 1, False, 24.0, serve_usd),) if serve_usd else (),
        accuracy=unknown, usd=0.0, hours=0.0, latency_ms=0.0,
        objective="balanced", frontier=(), n_frontier=0, alternatives={}, reasons=(), left_out={},
        warnings=(), n_offers=0, price_dates=("", ""), seconds=0.0, net_usd=0.0,
        prompt="zero_shot",
    )  # fmt: skip


def test_a_corpus_goes_on_when_the_budget_rises(world, capsys):
    world.plan()
    budget = 12 * USD + MOST
    first = world.synthesize(budget)
    assert first.cut_at_usd == budget
    n_first = world.n_asked
    assert 12 <= n_first == first.n_items < N
    assert first.refused == {"not asked: budget used up": N - n_first}
    mark = world.mark("synthesize")

    # Less money, or as much, asks for nothing.
    capsys.readouterr()
    assert world.synthesize(budget) == first and world.synthesize(budget / 2) == first
    assert world.n_asked == n_first
    assert f"{n_first} verified rows" in capsys.readouterr().out

    second = world.synthesize(2 * N * USD + MOST)
    assert (second.n_items, second.cut_at_usd, second.refused) == (N, None, {})
    assert world.n_asked == N, "nothing is asked a second time"
    assert second.usd == pytest.approx((N - n_first) * USD)
    assert world.spent_usd == pytest.approx(N * USD)
    assert world.mark("synthesize") != mark, "what was trained on the first part is out of date"
    printed = " ".join(capsys.readouterr().out.split())
    assert "stopped at $2.90 and now may spend $16.50" in printed

    # A corpus that lacks nothing is kept, whatever the budget is.
    assert world.synthesize(None) == second
    assert world.n_asked == N


def test_what_the_planned_servers_need_is_not_spent_on_answers(world, caplog):
    world.plan(serve_usd=8.0)
    budget = 12 * USD + MOST + 8.0  # as much as for all 40, if nothing were held
    first = world.synthesize(budget)
    assert 12 <= first.n_items < 16
    assert first.cut_at_usd == pytest.approx(budget - 8.0)
    assert world.spent_usd <= budget - 8.0
    assert "the plan holds $8.00 for serve" in caplog.text  # the screen has one line of it
    # The same budget asks for nothing more; without the servers there is enough for all.
    n_asked = world.n_asked
    assert world.synthesize(budget) == first and world.n_asked == n_asked
    world.plan("another mark")
    assert world.synthesize(budget).n_items == N
    with opened(world.config("evaluate", budget), STAGES) as run:
        reserves.allot(run.state.ledger, "a third", {"teacher": 1.0, "serve": 2.0})
        hold_money(run.state, EVALUATE, None)
        assert run.state.ledger.totals.reserves["teacher"].released_usd == 1.0
        assert run.state.ledger.totals.reserves["serve"].released_usd is None


def test_what_is_held_for_a_teacher_stays_until_a_later_stage_has_asked_it(world):
    added: Stage[Any] = Stage(
        name="added", function="", record=object, reads=(), is_part_of="deploy",
        releases=(TEACHER,),
    )  # fmt: skip
    config = replace(world.config("evaluate", 5.0), stages=("evaluate", "deploy"))
    with opened(config, (*STAGES, added)) as run:
        reserves.allot(run.state.ledger, "a plan", {"teacher": 1.0})
        hold_money(run.state, EVALUATE, None)
        assert run.state.ledger.totals.reserves["teacher"].released_usd is None
        hold_money(run.state, added, None)
        assert run.state.ledger.totals.reserves["teacher"].released_usd == 1.0


def test_a_plan_whose_job_cannot_be_set_aside_for_is_refused_before_it_is_paid_for(world):
    """The job is submitted with the high end of its hours alone; serving waits until it is done."""
    node = Offer("queue", "gpu", "node", None, 0, 8.0, 32.0, 0.0, 3.0)
    train = RoleChoice("train", node, 1, False, 1.0, 3.0, usd_range=(2.0, 9.0))
    serve = RoleChoice("serve", node, 1, False, 24.0, 4.0)
    plan = replace(planned(), roles=(train, serve))
    for budget, hint in ((8.0, "limits.budget_usd=9.00 or more"), (9.0, None)):
        config = replace(world.config("distill", budget), executor=Queue())
        with opened(config, STAGES) as run:
            run.state.marks[PLAN.name] = f"of {budget}"
            if hint is None:
                hold_money(run.state, PLAN, plan)
                assert run.state.ledger.held_usd() == {"train": 9.0}
                run.state.ledger.check("train a node", 9.0, role="train")
            else:
                with pytest.raises(BudgetError, match=re.escape(hint)):
                    hold_money(run.state, PLAN, plan)


def test_a_lost_ledger_is_no_fresh_budget(world):
    world.plan()
    world.synthesize(12 * USD + MOST)
    (world.run_dir / "ledger.jsonl").unlink()
    (world.run_dir / ".ledger.json").unlink()
    n_asked = world.n_asked
    with pytest.raises(LedgerError, match=r"is not there, and the records .* say that"):
        world.synthesize(20 * USD + MOST)
    assert world.n_asked == n_asked


def test_a_probe_goes_on_when_the_budget_rises(world):
    budget = 12 * USD + MOST
    first = world.probe(budget)
    assert first.cut_at_usd == budget
    assert 12 <= first.teachers[0].n_items == world.n_asked < N
    second = world.probe(None)
    n_all = N + 2 * 8  # answers and samples
    assert (second.teachers[0].n_items, second.cut_at_usd) == (N, None)
    assert world.n_asked == n_all
    assert world.spent_usd == pytest.approx(n_all * USD)
    assert world.probe(None) == second
    assert world.n_asked == n_all


def test_another_student_is_measured_and_no_answer_is_paid_a_second_time(world):
    first = world.probe(None, "one")
    n_asked, usd = world.n_asked, world.spent_usd
    assert n_asked > 0 and usd == pytest.approx(n_asked * USD)
    mark = world.mark("probe")
    # Not even money that is left is needed.
    second = world.probe(usd, "another")
    assert world.mark("probe") != mark
    assert [fit.student for fit in second.students] == ["another"]
    assert (world.n_asked, world.spent_usd) == (n_asked, usd)
    assert second.cut_at_usd is None
    (before,), (after,) = first.teachers, second.teachers
    for name in ("exact", "samples", "seconds"):
        assert getattr(after, name) == getattr(before, name)
    assert (after.usd, after.n_cached) == (0.0, after.n_items)
