"""Answers of a paid teacher that are kept from before: the plan does not price them again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_teacher_load import AWS, IN, OUT, hosted, size, strategy_of, task_of
from world import STUDENTS, World

from stratos.catalog import load_catalog
from stratos.config import CallbacksConfig, RoomConfig
from stratos.core.context import Context
from stratos.ledger import Ledger
from stratos.ledger.reserves import planned_usd
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.teacher import CachedAnswers, Load, hosted_options, teacher_load_of
from stratos.plan.stage import solve
from stratos.records import AnswerSpread, Plan, TeacherProbe
from stratos.synthesize.alignment import Alignment, AlignmentLogits
from stratos.synthesize.strategy import Tally
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import Answer, Question, Teacher
from stratos.teachers.cache import AnswerCache, question_key


@dataclass
class Paid(Teacher):
    """Answers every second question rightly, all of them at once."""

    probe: TeacherProbe
    cache: str = "write"
    asked: list[Question] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.probe.teacher

    def card(self) -> Any:
        return self.probe.card

    def identity(self) -> str:
        return "paid"

    def ask(self, *_: Any, **__: Any) -> list[Answer]:
        raise AssertionError("it is asked as questions come")

    def stream(self, questions: Iterator[Question | None], meter: Any) -> Iterator[Any]:
        for number, question in enumerate(questions):
            if question is None:
                yield None
                continue
            self.asked.append(question)
            words = question.chat[-1]["content"].split()
            i = int(words[2]) if words[0] == "What" else 0
            yield number, Answer(f"Answer: {2 * i + i % 2}", 100, 10, 0.0)

    def close(self) -> None:
        return


@dataclass(frozen=True)
class Asks(RoomConfig):
    """A room that asks the teacher once the student is served."""

    n: int

    def questions_after_deploy(
        self, config: Any, probe: Any, probed: TeacherProbe, teacher: Any
    ) -> list[Question]:
        return [Question([{"role": "user", "content": f"served {i}"}], 8) for i in range(self.n)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def keep(folder: Path, questions: Sequence[Question]) -> None:
    cache = AnswerCache(folder, pytest.fail)
    for question in questions:
        cache.put(question_key("paid", question), Answer("yes", 100, 10, 0.0))
    cache.close()


def planned(task: Any, strategy: Any, teacher: Paid, folder: Path | None) -> Plan:
    world = World(
        cloud=AWS,
        task=task,
        strategies=(strategy,),
        teachers=(teacher.probe,),
        students=(replace(STUDENTS[0], runs=()),),
    )
    config = replace(world.config(), teachers=(teacher,))
    kept = None if folder is None else CachedAnswers(config, folder)
    return solve(build_problem(config, world.probe(), load_catalog(world.cloud), cached=kept))


def config_of(task: Any, teacher: Paid) -> Any:
    return SimpleNamespace(task=task, seed=0, teachers=(teacher,))


@pytest.mark.parametrize("best", ["first", "majority"])
def test_alignment_asks_what_it_says_it_asks(tmp_path, best):
    task, strategy = task_of(tmp_path), Alignment(n_samples=5, best=best)
    teacher = Paid(replace(hosted(task), prompt="zero_shot"))
    said = list(strategy.asks(config_of(task, teacher), teacher, "zero_shot"))
    assert len(said) == 5 * task.n_train
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"))
    plan: Any = SimpleNamespace(
        teacher=teacher.name, prompt="zero_shot", max_tokens={}, student="", roles_of=lambda _: ()
    )
    config = World(task=task, strategies=(strategy,)).config(tmp_path)
    list(strategy.draw(replace(config, teachers=(teacher,)), plan, context, Tally()))
    keys = [question_key("paid", one) for one in said]
    asked = [question_key("paid", one) for one in teacher.asked]
    assert asked and not Counter(asked) - Counter(keys), "nothing else is asked"
    assert asked[: task.n_train] == keys[: task.n_train], "in this order"


def test_kept_answers_are_not_priced_again(tmp_path, folder):
    task, strategy = task_of(tmp_path), Alignment(min_coverage=0.0)
    teacher = Paid(hosted(task))
    config = config_of(task, teacher)
    questions = list(strategy.asks(config, teacher, teacher.probe.prompt))
    before = planned(task, strategy, teacher, folder)
    assert not folder.exists(), "looking makes no file"
    keep(folder, questions[:20])
    after = planned(task, strategy, teacher, folder)
    n = task.n_test + task.n_train
    assert before.role("teacher").note == f"hosted, {n} answers by the token"
    assert after.role("teacher").note == f"hosted, {n - 20} answers by the token"
    assert after.role("teacher").usd == pytest.approx(before.role("teacher").usd * (n - 20) / n)
    told = (
        f"20 answers of {teacher.name} that alignment asks for, already in the cache: not paid "
        "again."
    )
    assert told in after.reasons and told not in before.reasons
    assert planned(task, strategy, replace(teacher, cache="off"), folder).usd == before.usd


def test_the_answers_that_rooms_ask_for_after_deploy_are_priced_and_held(tmp_path):
    """Besides those of the evaluation, at once and not as a batch, and in no hours."""
    rows = [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(2000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask(str(tmp_path / "rows.jsonl"), metric="numeric")
    spread = AnswerSpread(0.0, 0.0, 0.0)
    probed = replace(hosted(task), spread=spread)
    teacher = Paid(probed)
    world = World(
        cloud=AWS, task=task, teachers=(probed,), students=(replace(STUDENTS[0], runs=()),)
    )
    few = CallbacksConfig(n_validation_items=4, n_final_validation_items=4)
    plain = replace(world.config(), teachers=(teacher,), callbacks=few)
    promised = replace(plain, rooms={"added": Asks(60)})

    def made(config: Any) -> Plan:
        return solve(build_problem(config, world.probe(), load_catalog(world.cloud)))

    without, plan = made(plain), made(promised)
    before, role = without.role("teacher"), plan.role("teacher")
    n_items = probed.n_items
    usd = 60 * (probed.input_tokens * IN + probed.output_tokens * OUT) / n_items / 1e6
    assert role.after_deploy_usd == pytest.approx(usd) and before.after_deploy_usd == 0
    assert role.usd == pytest.approx(before.usd + usd) and role.hours == before.hours
    assert role.note.endswith(" answers, and 60 once the student is served, by the token")
    low, high = role.usd_range
    assert low < role.usd < high and high > before.usd_range[1]
    more = planned_usd(plan)["teacher"] - planned_usd(without)["teacher"]
    assert more == pytest.approx(high - before.usd_range[1])
    silent = replace(plain, rooms={"added": RoomConfig()})
    assert made(silent).role("teacher").after_deploy_usd == 0


def test_all_that_is_kept_leaves_the_evaluation(tmp_path):
    task = task_of(tmp_path)
    config = World(task=task).config()
    for strategy in (Alignment(n_samples=3), strategy_of("teacher")):
        asked = teacher_load_of(config, hosted(task), strategy, n_cached=10_000)
        assert (asked.n_answers, asked.least.n_answers, asked.most.n_answers) == (task.n_test,) * 3


@pytest.mark.parametrize(("cache", "n_times"), [("topk", 1), ("none", 3)])
def test_a_paid_signal_is_priced(tmp_path, cache, n_times):
    """Of each right answer the document that the student reads, and one token out."""
    task = task_of(tmp_path)
    n, n_output = task.n_train, 5
    sure = replace(hosted(task), exact=replace(hosted(task).exact, mean=1.0))
    items = task.items("validation", sure.n_items)
    n_document = size(map(task.student_messages, items)) / len(items) + n_output
    config = World(task=task).config()
    trainer = replace(config.trainer, max_tokens=round(3 * n * n_document))
    asked = teacher_load_of(replace(config, trainer=trainer), sure, AlignmentLogits(cache=cache))
    text = teacher_load_of(config, sure, Alignment())
    assert (asked.n_answers, asked.work, asked.least) == (text.n_answers, text.work, text.least)
    assert asked.scored.n_answers == pytest.approx(n_times * n, abs=1)
    assert asked.scored.work.prompt_tokens == pytest.approx(n_document, rel=1e-6)
    assert asked.scored.work.answer_tokens == 1
    assert f"it scores {n} right answers" in asked.why
    plain, learnt = (
        hosted_options(
            sure, Load(one.n_answers, one.work), (one.least, one.most), scored=one.scored
        )
        for one in (text, asked)
    )
    usd = asked.scored.n_answers * (n_document * IN + OUT) / 1e6
    assert learnt[0].usd - plain[0].usd == pytest.approx(usd, rel=1e-6)
    assert learnt[0].hours == plain[0].hours
    assert learnt[0].usd_range == pytest.approx(
        (plain[0].usd_range[0], plain[0].usd_range[1] + usd)
    )
    for never in ({"only_shared": True}, {"hidden_match": 0.1}, {"temperature": 2.0}):
        assert teacher_load_of(config, sure, AlignmentLogits(**never)).scored.n_answers == 0
    free = replace(sure, card=replace(sure.card, usd_per_million_input_tokens=None))
    assert teacher_load_of(config, free, AlignmentLogits(cache=cache)).scored.n_answers == 0


def test_a_batch_prices_the_evaluation_at_once(tmp_path):
    task = task_of(tmp_path)
    prices = {
        "usd_per_million_batch_input_tokens": IN / 2,
        "usd_per_million_batch_output_tokens": OUT / 2,
    }
    probe = hosted(task, **prices)
    asked = teacher_load_of(World(task=task).config(), probe, Alignment())
    load = Load(asked.n_answers, asked.work)
    at_once, batch = hosted_options(probe, load, evaluated=asked.evaluated)
    one = at_once.usd / load.n_answers
    n_later = asked.evaluated.n_answers
    assert n_later == task.n_test
    assert batch.usd == pytest.approx(one * (n_later + (load.n_answers - n_later) / 2))
    assert batch.hours > probe.card.batch_hours
    assert len(hosted_options(probe, asked.evaluated, evaluated=asked.evaluated)) == 1


def test_a_call_sets_aside_more_than_it_spends(tmp_path):
    task = task_of(tmp_path)
    probe = replace(hosted(task), max_tokens=400)
    asked = teacher_load_of(World(task=task).config(), probe, Alignment())
    assert asked.most_tokens.answer_tokens == 400
    load = Load(asked.n_answers, asked.work)
    (option,) = hosted_options(probe, load, most_tokens=asked.most_tokens)
    one = option.usd / load.n_answers
    assert option.last_call_usd > (400 - asked.work.answer_tokens) * OUT / 1e6 > one
    fixed = teacher_load_of(World(task=task).config(), probe, Alignment(max_tokens=900))
    assert fixed.most_tokens.answer_tokens == 900
