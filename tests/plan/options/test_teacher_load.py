"""What a plan counts of a teacher that writes reasoning: tokens, dollars, hours."""

import json
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import pytest
from world import LARGE, OBJECTIVES, STUDENTS, World, teacher

from stratos.catalog import load_catalog
from stratos.config import CloudConfig, EvaluateConfig, LimitsConfig
from stratos.core.intervals import wilson
from stratos.plan.options.candidates import build_problem
from stratos.plan.options.teacher import teacher_load_of
from stratos.plan.stage import solve
from stratos.synthesize.alignment import Alignment
from stratos.synthesize.injection import Injection
from stratos.synthesize.rationale import reading, request
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.math import MathTask

AWS = CloudConfig(name="aws", providers=("aws",))
IN, OUT = 2_000.0, 10_000.0
"""Dollars for a million tokens: dear enough to be seen beside the servers."""


def task_of(
    folder: Path, kind: type[JsonlTask | MathTask] = JsonlTask, path: str = ""
) -> JsonlTask | MathTask:
    rows = [
        {"question": f"What is {i} + {i}?", "answer": 2 * i, **({"why": path} if path else {})}
        for i in range(50)
    ]
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    metric = {} if kind is MathTask else {"metric": "numeric"}
    return kind(str(file), **metric, **({"rationale": "why"} if path else {}))


def size(chats) -> int:
    return sum(len(message["content"].encode()) for chat in chats for message in chat)


def asked_one_token_a_byte(task, n_output=5, **prices):
    """A teacher whose tokenizer makes one token of a byte."""
    items = task.items("validation", 100)
    chats = [task.messages(item, "default") for item in items]
    n = len(items)
    card = replace(LARGE, **prices)
    return teacher(card, right=1, n=n, input_tokens=size(chats), output_tokens=n_output * n)


def hosted(task, **changes):
    return asked_one_token_a_byte(
        task, usd_per_million_input_tokens=IN, usd_per_million_output_tokens=OUT, **changes
    )


def strategy_of(how, **changes):
    return Injection(rationale=how, max_tokens=300, **changes)


def plan_of(task, strategy, *teachers, limits=None, objective="balanced"):
    world = World(
        cloud=AWS,
        task=task,
        strategies=(strategy,),
        teachers=teachers,
        students=(replace(STUDENTS[0], runs=()),),
        limits=limits or LimitsConfig(),
        objective=OBJECTIVES[objective],
    )
    return solve(build_problem(world.config(), world.probe(), load_catalog(world.cloud)))


def test_writing_and_reading_are_in_the_plan(tmp_path):
    task = task_of(tmp_path)
    items = list(task.reverse(1000))
    n = len(items)
    assert 0 < n == task.n_train <= 32
    engine, written = (
        plan_of(task, strategy_of(how, n_retries=0), hosted(task)).role("teacher")
        for how in ("engine", "teacher")
    )
    n_output = n * 150  # half of the longest, where nothing tells
    n_concluded = sum(len(f"Answer: {item.answer}") for item in items)
    n_input = size(map(request, items))
    n_input += size(reading(item, "") for item in items) + n_output
    expected = (n_input * IN + (n_output + n_concluded) * OUT) / 1e6
    assert written.usd - engine.usd == pytest.approx(expected)
    assert engine.note == f"hosted, {task.n_test} answers by the token"
    assert written.note == f"hosted, {task.n_test + 2 * n} answers by the token"
    assert written.hours > engine.hours
    assert written.usd_range is None, "nothing is written again"


def test_what_is_written_again_is_expected_and_a_range(tmp_path, snapshot):
    task = task_of(tmp_path)
    items = list(task.reverse(1000))
    once = plan_of(task, strategy_of("teacher", n_retries=0), hosted(task)).role("teacher")
    strategy = strategy_of("teacher", n_retries=2, refused_share=0.25)
    plan = plan_of(task, strategy, hosted(task))
    role = plan.role("teacher")
    again = "That does not hold: the reasoning ends in another answer. Write it again, from the "
    longer = 150 + len(f"{again}question alone.")
    one = once.usd - plan_of(task, strategy_of("engine"), hosted(task)).role("teacher").usd
    # The second request holds one refused reasoning, the third two.
    second, third = (one + k * len(items) * longer * IN / 1e6 for k in (1, 2))
    assert role.usd == pytest.approx(once.usd + 0.25 * second + 0.0625 * third)
    assert role.usd_range == pytest.approx((once.usd, once.usd + second + third))
    n = 2 * len(items)
    expected = round(task.n_test + n * (1 + 0.25 + 0.0625))
    ends = f"{task.n_test + n} to {task.n_test + 3 * n}"
    assert role.note == f"hosted, {expected} answers ({ends}) by the token"
    assert role.hours_range[0] == once.hours < role.hours < role.hours_range[1]
    assert plan.usd_range[1] - plan.usd == pytest.approx(role.usd_range[1] - role.usd, rel=0.1)
    (told,) = [one for one in plan.reasons if "refused" in one]
    assert told == snapshot


def test_a_task_that_checks_steps_needs_no_reading_and_paths_tell_the_length(tmp_path):
    path = "Twice a number is the number plus itself, 2 + 2 = 4."
    task = task_of(tmp_path, MathTask, path)
    strategy = strategy_of("teacher", n_items=10, n_retries=0)
    config = World(task=task, strategies=(strategy,)).config()
    one = hosted(task)
    one = replace(one, prompt="reasoning", input_tokens=size(
        task.messages(item, "reasoning") for item in task.items("validation", 100)
    ))  # fmt: skip
    asked = teacher_load_of(config, one, strategy)
    assert asked.n_answers == task.n_test + 10
    items = list(task.reverse(10))
    n_written = sum(len(f"{path}Answer: {item.answer}") for item in items)
    probed = task.n_test * one.output_tokens / one.n_items
    assert asked.work.answer_tokens * asked.n_answers == pytest.approx(probed + n_written)
    declared = replace(config, complexity=replace(config.complexity, path_tokens=40))
    answer = teacher_load_of(declared, one, strategy).work.answer_tokens
    assert answer * asked.n_answers == pytest.approx(probed + 10 * 40)


class Drawn(JsonlTask):
    """Draws 100 items beside the rows, whose questions can have other words."""

    n_made = n_worded = 100  # type: ignore[assignment]

    def reverse(self, n, seed=0):
        drawn = (Item(f"drawn {k}", "main", f"Doze {k}", f"{k}") for k in range(self.n_made))
        return islice(chain(super().reverse(n, seed), drawn), n)

    def wording(self, item):
        is_drawn = item.id.startswith("drawn")
        return [{"role": "user", "content": item.question}] if is_drawn else None


def test_each_worded_question_is_asked_for_and_read(tmp_path):
    task = task_of(tmp_path, Drawn)
    config = replace(World(task=task).config(), evaluate=EvaluateConfig(n_teacher_items=8))
    plain, worded = (
        teacher_load_of(config, hosted(task), Injection(wording=who)) for who in ("task", "teacher")
    )
    n_evaluated = plain.n_answers
    assert worded.n_answers == n_evaluated + 2 * 100
    assert worded.why == "", "each of them is asked, whatever it writes"
    assert worded.dataset_gb == plain.dataset_gb, "no text of its own is learnt"


@pytest.mark.parametrize(("best", "fewest"), [("first", 1), ("shortest", 2), ("majority", 5)])
def test_a_question_that_is_known_takes_fewer_samples(tmp_path, best, fewest):
    task = task_of(tmp_path)
    config = replace(World(task=task).config(), evaluate=EvaluateConfig(n_teacher_items=8))
    strategy = Alignment(n_items=20, n_samples=8, best=best)
    known = replace(hosted(task), exact=wilson(3, 4))
    asked = teacher_load_of(config, known, strategy)
    assert (asked.least.n_answers, asked.most.n_answers) == (8 + 20 * fewest, 8 + 20 * 8)
    assert asked.n_answers == 8 + 15 * fewest + 5 * 8
    assert f"takes {fewest} to 8 answers" in asked.why and "75% of questions" in asked.why
