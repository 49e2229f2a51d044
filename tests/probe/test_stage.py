"""What the probe measures, keeps, leaves out and says; once with a real language model."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

import pytest
from pupil import Pupil, World
from real_teacher import needs_smollm2, smollm2

from stratos.config import ComplexityConfig, LimitsConfig, ProbeConfig
from stratos.core.errors import ConfigError, TeacherError
from stratos.core.intervals import wilson
from stratos.probe.questioning import looks, surely_below, undecided
from stratos.probe.stage import coverage_level, length_level
from stratos.probe.teacher_evaluation import agreement_and_entropy
from stratos.records import Probe, from_json, to_json
from stratos.tasks.base import Item
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import LENGTH, Answer, Question


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_measures_with_the_best_prompt(world):
    teacher = Pupil()
    record = world.probe(teacher)
    (found,) = record.teachers
    assert found.prompt == "default"
    assert [(t.prompt, t.exact, t.parsable, t.n_items) for t in found.trials] == [
        ("default", 1.0, 1.0, 8),
        ("zero_shot", 0.0, 0.0, 8),
        ("reasoning", 1.0, 1.0, 8),
    ]
    assert (found.exact, found.choice) == (wilson(40, 40), wilson(0, 0))
    assert found.exact_by_slice == {"even": wilson(20, 20), "odd": wilson(20, 20)}
    assert {name: one.n_items for name, one in found.by_slice.items()} == {"even": 20, "odd": 20}
    assert sum(one.input_tokens for one in found.by_slice.values()) == found.input_tokens
    assert sum(one.output_tokens for one in found.by_slice.values()) == found.output_tokens
    assert (found.parsable, found.echoes, found.n_items, found.n_cached) == (1.0, 0.0, 40, 0)
    assert (found.input_tokens, found.output_tokens, found.seconds) == (400, 80, 20.0)
    # 8 items under three prompts, the other 32 under the best one: nothing twice, and no multiple
    # choice of one that is right without it.
    assert len(teacher.chats_seen) == 3 * 8 + 32
    assert record.complexity.level == "low"
    assert from_json(to_json(record), Probe) == record
    assert world.said == []
    assert world.ticks == sorted(world.ticks) and world.ticks[-1] == 1.0


def test_a_teacher_that_is_right_only_with_room_is_given_it(world):
    """It declines half of what it is asked, and reasons about the rest, whatever the prompt."""

    class Reasons(Pupil):
        def ask(self, chats, max_tokens, tick=None, keep=None) -> list[Answer]:
            def cut(index: int, answer: Answer) -> None:
                if max_tokens < 500 and answer.text.startswith("Answer"):
                    answer = replace(answer, text="", output_tokens=max_tokens, finish=LENGTH)
                keep(index, answer)

            return super().ask(chats, max_tokens, tick, cut)

        def reply(self, chat) -> str:
            number = int(chat[-1]["content"].split()[2])
            return f"Answer: {2 * number}" if number % 2 else "I would rather not."

    (found,) = world.probe(Reasons()).teachers
    assert found.exact.mean == 0.5 and not found.is_cut_short


def test_only_validation_items_are_asked(world):
    teacher = Pupil()
    world.probe(teacher)
    asked = {chat[-1]["content"].splitlines()[0] for chat in teacher.chats_seen}
    assert asked == {item.question for item in world.task.items("validation", 40)}


def test_tells_echoes_from_answers(world):
    (found,) = world.probe(Pupil(knows=0)).teachers
    examples = world.task.example_answers("default")
    gold = [item.answer for item in world.task.items("validation", 40)]
    assert found.exact.mean == sum(answer in examples for answer in gold) / 40
    assert found.parsable == 1.0
    assert found.echoes == 1.0 - found.exact.mean


def test_every_prompt_and_raw_answer_is_kept(world):
    record = world.probe(Pupil(knows=200))
    rows = [json.loads(line) for line in Path(record.answers_path).read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["answer"] * (3 * 8 + 32)
    taken = [row for row in rows if row["kind"] == "answer" and row["prompt"] == "default"]
    assert len(taken) == 40
    assert sum(row["exact"] for row in taken) / 40 == record.teachers[0].exact.mean
    items = {item.id: item for item in world.task.items("validation", 40)}
    for row in taken:
        assert row["messages"] == world.task.messages(items[row["item"]])
        assert row["parsed"] == world.task.parse(row["answer"])


def test_a_second_run_asks_nothing(world):
    first = world.probe(Pupil(), run="first").teachers[0]
    teacher = Pupil()
    second = world.probe(teacher, run="second").teachers[0]
    assert teacher.chats_seen == []
    assert (first.n_cached, second.n_cached) == (0, 40)
    assert replace(second, n_cached=0, cpu_seconds=0) == replace(first, cpu_seconds=0)


def test_teachers_that_cannot_be_asked_are_left_out_with_reasons(world, snapshot):
    absent, broken = Pupil("absent", reason="no key"), Pupil("broken")
    broken.reply = lambda chat: (_ for _ in ()).throw(TeacherError("out of paper"))  # type: ignore
    record = world.probe(absent, Pupil(), broken)
    assert [found.teacher for found in record.teachers] == ["pupil"]
    assert record.unreachable == {"absent": "no key", "broken": "out of paper"}
    with pytest.raises(TeacherError) as caught:
        world.probe(absent, broken)
    assert str(caught.value) == snapshot


class Narrow(Pupil):
    """Reads numbers below `reads` alone."""

    reads: int = 0

    def too_long(self, question: Question) -> str | None:
        number = int(question.chat[-1]["content"].split()[2])
        return "so it is" if number >= self.reads else None


def test_questions_beyond_the_context_are_said_and_a_teacher_of_none_is_left_out(world):
    some = Narrow()
    some.reads = 150
    (found,) = world.probe(some).teachers
    assert 0 < found.exact.mean < 1
    n, n_unread = found.n_items, round((1 - found.exact.mean) * found.n_items)
    assert f"cannot read {n_unread} of {n} questions" in world.said[0]
    record = world.probe(Narrow("blind"), Pupil(), run="b")
    assert [one.teacher for one in record.teachers] == ["pupil"]
    assert "cannot read 40 of 40 questions" in record.unreachable["blind"]


def test_a_probe_beyond_its_money_is_cut_and_said(world, snapshot):
    teacher = Pupil(usd_per_million=10_000.0)  # $0.12 an answer
    record = world.probe(teacher, limits=LimitsConfig(probe_usd=6.0))
    (found,) = record.teachers
    assert 0 < found.n_items < 40
    assert found.usd <= 6.0
    assert found.usd == pytest.approx(0.12 * len(teacher.chats_seen))
    assert found.exact == wilson(found.n_items, found.n_items)
    assert found.choice.source == "0 items, Wilson"
    assert world.said and all("questions less" in text for text in world.said)
    poor = world.probe(Pupil(), Pupil("dear", usd_per_million=1e6), run="poor")
    assert poor.unreachable == snapshot


def test_complexity(world):
    declared = world.probe(Pupil(), complexity=ComplexityConfig(level="medium")).complexity
    assert (declared.level, declared.declared) == ("medium", True)
    measured = world.probe(Pupil(knows=0), run="b").complexity
    assert (measured.level, measured.declared) == ("high", False)
    assert measured.evidence[0].endswith("pupil): high")
    at = ComplexityConfig()
    levels = [coverage_level(low, high, at) for low, high in ((0.7, 0.9), (0.69, 0.9), (0.0, 0.3))]
    assert levels == ["low", "medium", "medium"]
    assert coverage_level(0.0, 0.29, at) == "high"
    lengths = [length_level(n, at) for n in (100, 101, 999, 1000)]
    assert lengths == ["low", "medium", "medium", "high"]
    mine = ComplexityConfig(
        coverage_low=0.9, coverage_high=0.1, completion_low=5, completion_high=9
    )
    assert [coverage_level(low, low, mine) for low in (0.9, 0.8, 0.09)] == ["low", "medium", "high"]
    assert [length_level(n, mine) for n in (5, 6, 9)] == ["low", "medium", "high"]


def test_complexity_is_told_in_numbers(world):
    record = world.probe(Pupil())
    (found,) = record.teachers
    told = {measure.name: measure for measure in record.complexity.measures}
    assert (told["coverage"].value, told["coverage"].level) == (found.exact, "low")
    assert told["coverage"].of == "pupil" and told["answer alone"].of == "task"
    # Of three prompts two are answered alike, the third unreadably: one pair of three is equal.
    assert told["agreement between prompts"].value.mean == pytest.approx(1 / 3)
    assert told["entropy of the answers"].value.mean == pytest.approx(log2(3) - 2 / 3)
    assert told["length of an answer"].value.mean == 2.0
    assert from_json(to_json(record), Probe) == record


def test_agreement_and_entropy():
    assert agreement_and_entropy([["a", "a"], ["a", "b"]]) == (0.5, 0.5)
    assert agreement_and_entropy([[None, None]]) == (0.0, 1.0)
    assert agreement_and_entropy([["a"] * 4]) == (1.0, 0.0)
    assert agreement_and_entropy([["a"], []]) is None


def test_a_coverage_near_a_threshold_asks_more_and_says_what_stays_open(world, snapshot):
    items = world.task.items("validation", 60)
    numbers = sorted(int(item.question.split()[2]) for item in items[:20])
    middle = Pupil(knows=numbers[6])  # 6 of 20: on both sides of 30%
    few = ProbeConfig(n_items=20, max_items=20, n_trial_items=4)
    assert world.probe(middle, probe=few).teachers[0].n_items == 20
    assert world.said == snapshot
    world.ticks.clear()
    more = replace(few, max_items=60)
    (found,) = world.probe(middle, run="more", probe=more).teachers
    assert found.n_items in (40, len(items))
    assert world.ticks == sorted(world.ticks) and world.ticks[-1] == 1.0
    rows = (world.folder / "more" / "probe" / "answers.jsonl").read_text().splitlines()
    asked = [row for row in map(json.loads, rows) if row["kind"] == "answer"]
    assert len({row["item"] for row in asked if row["prompt"] == found.prompt}) == found.n_items
    assert found.exact.mean == sum(
        int(item.question.split()[2]) < middle.knows for item in items[: found.n_items]
    ) / found.n_items  # fmt: skip


def test_what_is_settled_or_declared_asks_no_more(world):
    few = ProbeConfig(n_items=20, max_items=60, n_trial_items=4)
    assert world.probe(Pupil(), probe=few).teachers[0].n_items == 20
    items = world.task.items("validation", 20)
    numbers = sorted(int(item.question.split()[2]) for item in items)
    middle = Pupil(knows=numbers[6])
    declared = ComplexityConfig(level="low", strategies=("alignment",))
    assert world.probe(middle, probe=few, complexity=declared).teachers[0].n_items == 20
    assert world.probe(middle, probe=few, strategies=()).teachers[0].n_items == 20
    assert world.said == []


def test_more_items_keep_within_the_money_of_the_probe(world):
    items = world.task.items("validation", 20)
    numbers = sorted(int(item.question.split()[2]) for item in items)
    middle = Pupil(knows=numbers[6], usd_per_million=100.0)  # $0.0012 an answer
    few = ProbeConfig(n_items=20, max_items=60, n_trial_items=4)
    limits = LimitsConfig(probe_usd=0.08)
    (found,) = world.probe(middle, probe=few, limits=limits).teachers
    assert 20 < found.n_items < 40
    assert found.usd <= 0.08


def test_what_asks_more_is_what_would(world):
    everything = world.task.items("validation", 10_000)
    numbers = sorted(int(item.question.split()[2]) for item in everything)
    middle = Pupil(knows=numbers[round(0.3 * len(numbers))])
    all_there_is = ProbeConfig(n_items=10_000, max_items=10_000, n_trial_items=4)
    (found,) = world.probe(middle, probe=all_there_is).teachers
    assert found.n_items == len(everything)
    [told] = world.said
    assert "more rows would settle it; " in told
    world.said.clear()
    paid = replace(middle, name="paid", usd_per_million=100.0)
    few = replace(all_there_is, n_items=20)
    limits = LimitsConfig(probe_usd=0.06)
    (found,) = world.probe(paid, run="paid", probe=few, limits=limits).teachers
    assert found.n_items < len(everything)
    [told] = [one for one in world.said if "not settled" in one]
    assert "limits.probe_usd or limits.budget_usd asks more; " in told


def test_looks():
    assert looks(16, 64, 256) == [16, 64, 128, 256]
    assert looks(16, 64, 200) == [16, 64, 128, 200]
    assert looks(64, 64, 64) == looks(64, 64, 10) == [64]


def test_a_hopeless_teacher_is_left_alone(world):
    config = ProbeConfig(n_items=40, max_items=40, n_trial_items=16)
    blind = Pupil(knows=0)
    (found,) = world.probe(blind, probe=config).teachers
    assert surely_below(0, 16, [0.3, 0.7], 2) and not surely_below(0, 8, [0.3, 0.7], 2)
    assert not surely_below(0, 16, [], 2) and not surely_below(3, 16, [0.3], 2)
    assert (found.n_items, found.choice.source) == (16, "32 items, Wilson")
    # All prompts have 8 items, on which no answer was right; one goes on to the first look.
    assert {trial.n_items for trial in found.trials} == {8}
    assert len(blind.chats_seen) == 3 * 8 + 8 + 32
    # Where no strategy has a threshold, nothing is known to be hopeless.
    (free,) = world.probe(Pupil(knows=0), probe=config, strategies=(), run="b").teachers
    assert free.n_items == 40


def test_a_look_is_the_stricter_the_more_there_are():
    assert undecided(27, 64, [0.3, 0.5]) == [0.5]
    assert undecided(27, 64, [0.3, 0.5], n_looks=3) == [0.3, 0.5]
    assert undecided(1, 64, [0.3, 0.5], n_looks=3) == []


def test_the_sequential_test_errs_as_seldom_as_it_says():
    rng = random.Random(0)
    sizes, wrong, n_tests = looks(16, 64, 512), 0, 2000
    for _ in range(n_tests):
        answers = [rng.random() < 0.3 for _ in range(sizes[-1])]  # just at the threshold
        wrong += any(not undecided(sum(answers[:n]), n, [0.3], len(sizes)) for n in sizes)
    assert wrong / n_tests < 0.05


class Without(JsonlTask):
    """A file of which no row happens to be a validation item."""

    def items(self, split: Any, *args: Any, **kwargs: Any) -> list[Item]:
        return [] if split == "validation" else super().items(split, *args, **kwargs)


def test_no_validation_items(world, snapshot):
    world.task = Without(world.task.path, metric="numeric", validation_share=1e-9)
    with pytest.raises(ConfigError) as caught:
        world.probe(Pupil())
    assert str(caught.value) == snapshot


@pytest.mark.slow
@needs_smollm2
def test_a_small_real_teacher_is_blind_on_mahjong(world):
    from stratos.tasks.mahjong import MahjongTask

    world.task = MahjongTask()
    few = ProbeConfig(n_items=8, n_trial_items=2, max_items=8, max_tokens=12)
    record = world.probe(smollm2(), probe=few)
    (found,) = record.teachers
    assert found.exact.mean <= 0.25
    assert found.n_items == 8
    assert [trial.prompt for trial in found.trials] == list(world.task.prompts)
    assert 0 < found.output_tokens <= 8 * 12
    assert found.card.n_params == 134_515_008
    assert record.complexity.level in ("medium", "high")
    rows = [json.loads(line) for line in Path(record.answers_path).read_text().splitlines()]
    assert sum(row["kind"] == "choice" for row in rows) in (0, 8)
    again = world.probe(smollm2(), probe=few, run="again").teachers[0]
    assert again.n_cached == 8
    assert again.exact == found.exact
