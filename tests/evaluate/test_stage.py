import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tiny_run import (
    SERVER,
    SecondNumber,
    tiny_config,
    tiny_context,
    tiny_corpus,
    tiny_plan,
    tiny_probe,
    tiny_trained,
)
from tiny_student import Larger

from stratos.config import EvaluateConfig, StudentConfig
from stratos.core.errors import StratosError
from stratos.core.intervals import wilson
from stratos.evaluate import evaluate
from stratos.evaluate.answers import read_answers
from stratos.ledger import Ledger
from stratos.records import Scorecard, from_json, to_json
from stratos.teachers.base import Question


def pretrained(students) -> tuple[StudentConfig, ...]:
    """Return the student as one that started from its untouched twin."""
    return (StudentConfig("tiny", path=str(students[1])),)


def run(folder: Path, students, *, config=None, context=None, plan=None) -> Scorecard:
    config = config or tiny_config(folder, students=pretrained(students))
    (teacher,) = config.teachers
    return evaluate(
        config,
        tiny_probe(config.task, teacher),
        plan or tiny_plan(),
        tiny_corpus(folder, config.task),
        tiny_trained(students),
        context or tiny_context(folder),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def scorecard(folder, students):
    return run(folder, students)


def test_everyone_is_scored_on_every_slice(scorecard):
    assert [score.role for score in scorecard.scores] == [
        "student",
        "untouched",
        "teacher",
        "majority",
        "lookup",
        "linear",
        "chance",
    ]
    for score in scorecard.scores:
        assert {row.slice for row in score.slices} == {"near", "far", "all"}
        *slices, overall = score.slices
        assert overall.slice == "all"
        assert sum(row.n_items for row in slices) == overall.n_items
    assert [score.slice().n_items for score in scorecard.scores] == [60, 60, 40, 60, 60, 60, 60]


def test_the_student_knows_what_it_learnt_and_the_untouched_one_does_not(scorecard):
    student, untouched = scorecard.score("student"), scorecard.score("untouched")
    assert student.slice().exact.mean >= 0.95
    assert student.slice().exact == wilson(student.slice().exact.mean * 60, 60)
    assert untouched.slice().exact.mean < 0.4
    assert student.output_tokens > 60 * 5
    assert student.input_tokens == 60 * 4
    assert student.seconds > 0


def test_the_teacher_is_right_where_the_second_number_is_the_larger(scorecard, folder):
    rows = [json.loads(line) for line in Path(scorecard.examples_path).read_text().splitlines()]
    asked = [row for row in rows if "teacher" in row]
    assert len(rows) == 60
    assert len(asked) == 40
    right = sum(int(row["question"].split()[1]) >= int(row["question"].split()[0]) for row in asked)
    teacher = scorecard.score("teacher")
    assert teacher.slice().exact == wilson(right, 40)
    assert teacher.slice().choice == 0.625  # from the probe
    assert scorecard.comparison.teacher_exact == wilson(right, 40)


def test_the_comparison_is_on_the_items_that_both_answered(scorecard):
    comparison = scorecard.comparison
    assert comparison.n_items == 40
    assert comparison.only_student + comparison.only_teacher > 5
    assert comparison.ratio == comparison.student_exact.mean / comparison.teacher_exact.mean
    assert comparison.ratio_at_least == comparison.student_exact.low / comparison.teacher_exact.high
    assert comparison.ratio_low < comparison.ratio < comparison.ratio_high
    assert comparison.p_value < 0.001


def test_the_asked_part_is_random_and_seeded(scorecard, folder, students, tmp_path):
    def ids(card: Scorecard) -> list[str]:
        return [json.loads(line)["id"] for line in Path(card.examples_path).open()]

    options = EvaluateConfig(n_items=60, n_teacher_items=20, batch_size=16, max_new_tokens=2)
    others = []
    for seed in (0, 1):
        config = tiny_config(tmp_path / str(seed), evaluate=options, seed=seed)
        (tmp_path / str(seed)).mkdir()
        others.append(ids(run(tmp_path / str(seed), students, config=config)))
    assert others[0] == ids(scorecard)
    assert others[1] != others[0]
    assert others[0] != [item.id for item in Larger().items("test", 60)]


def test_the_test_items_are_those_of_the_run_s_seed(students, tmp_path):
    class Fresh(Larger):
        def items(self, split, n, seed=0, slice=None):
            found = super().items(split, 100, 0, slice)
            return found[10 * seed :][:n] if split == "test" else found[:n]

    options = EvaluateConfig(n_items=10, n_teacher_items=4, batch_size=16, max_new_tokens=2)
    asked = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        config = tiny_config(folder, evaluate=options, seed=seed, task=Fresh())
        run(folder, students, config=config)
        asked.append({answer.id for answer in read_answers(folder)})
    assert len(asked[0]) == len(asked[1]) == 10
    assert not asked[0] & asked[1]


class Slow(SecondNumber):
    """Takes so long that its time is over behind the first few."""

    def ask(self, chats, max_tokens, tick=None, keep=None):
        time.sleep(0.02 * len(chats))
        return super().ask(chats, max_tokens, tick, keep)


def test_the_teacher_is_asked_as_many_as_its_time_allows(students, tmp_path, snapshot):
    said = []
    options = EvaluateConfig(
        n_items=60, n_teacher_items=60, teacher_minutes=0.002, batch_size=16, max_new_tokens=2
    )
    config = tiny_config(tmp_path, evaluate=options, teachers=(Slow(),))
    scorecard = run(
        tmp_path, students, config=config, context=tiny_context(tmp_path, note=said.append)
    )
    assert scorecard.score("teacher").slice().n_items == scorecard.comparison.n_items == 32
    assert said == snapshot
    again = run(tmp_path, students, config=config)
    assert again.comparison.n_items >= 32, "what is kept takes no time"


def test_a_run_says_who_has_read_its_test_items_before(students, tmp_path):
    for n_before in range(3):
        folder = tmp_path / str(n_before)
        folder.mkdir()
        context = tiny_context(folder, cache_dir=tmp_path / "cache")
        config = tiny_config(folder)
        reads = run(folder, students, config=config, context=context).earlier_reads
        assert (reads.n_runs, reads.n_items) == (n_before, 60)
        assert run(folder, students, config=config, context=context).earlier_reads == reads


def test_the_untouched_student_is_asked_as_many_as_are_wanted(students, tmp_path):
    options = EvaluateConfig(
        n_items=20, n_teacher_items=8, n_untouched_items=3, batch_size=16, max_new_tokens=2
    )
    config = tiny_config(tmp_path, evaluate=options, students=pretrained(students))
    scorecard = run(tmp_path, students, config=config)
    assert scorecard.score("untouched").slice().n_items == 3
    rows = map(json.loads, Path(scorecard.examples_path).read_text().splitlines())
    roles = [set(row["scores"]) for row in rows]
    both = [{"student", "teacher"}] * 5
    assert roles == [{"student", "teacher", "untouched"}] * 3 + both + [{"student"}] * 12


def test_baselines_are_memory_and_a_random_guess(scorecard):
    lookup, chance = scorecard.score("lookup"), scorecard.score("chance")
    # A neighbour's answer is right about as often as its larger number is the same.
    assert 0.2 < lookup.slice().exact.mean < 0.9
    exact = chance.slice().exact
    assert (exact.mean, exact.low, exact.high) == (0.0, 0.0, 0.0)
    assert [row.choice for row in chance.slices] == [0.25, 0.25, 0.25]


def test_baselines_learn_the_validation_rows_beside_a_language_model(
    students, tmp_path, monkeypatch
):
    class OfAFile(Larger):
        has_rows = True

        def items(self, split, n, seed=0, slice=None):
            found = super().items(split, 100, seed, slice)
            parts = {"validation": found[:20], "test": found[20:], "train": found}
            return parts[split][:n]

    learnt: list[str] = []

    def baselines(task, train, items, tick):
        learnt.extend(item.id for item in train)
        return []

    monkeypatch.setattr("stratos.evaluate.stage.free_baselines", baselines)
    task = OfAFile()
    run(tmp_path, students, config=tiny_config(tmp_path, task=task))
    ids = {split: {item.id for item in task.items(split, 100)} for split in ("train", "validation")}
    assert set(learnt) == ids["train"] | ids["validation"]
    assert len(learnt) == 60


def test_student_and_teacher_have_a_price(scorecard):
    assert scorecard.score("student").usd_per_1000 > 0
    assert scorecard.score("teacher").usd_per_1000 > 0
    assert scorecard.score("lookup").usd_per_1000 is None


def test_what_decoded_each_model_is_kept(scorecard, students, tmp_path):
    assert {one.role: one.decoder for one in scorecard.scores if one.decoder} == {
        "student": "direct",
        "untouched": "direct",
    }
    options = EvaluateConfig(n_items=20, n_teacher_items=2, decoder="transformers")
    again = run(tmp_path, students, config=tiny_config(tmp_path, evaluate=options))
    assert again.score("student").decoder == "transformers"


def test_every_answer_of_the_student_is_kept(scorecard, folder):
    kept = read_answers(folder)
    task = Larger()
    assert [answer.id for answer in kept] == [item.id for item in task.items("test", 60)]
    right = [task.parse(answer.text) == answer.gold for answer in kept]
    assert [answer.score.exact for answer in kept] == [float(ok) for ok in right]
    assert kept[0].messages == task.student_messages(task.items("test", 1)[0])
    assert sum(answer.output_tokens for answer in kept) == scorecard.score("student").output_tokens


def test_kept_answers_that_are_corrupt_are_said_to_be(tmp_path):
    (tmp_path / "evaluate").mkdir()
    path = tmp_path / "evaluate" / "answers.jsonl"
    path.write_text('{"id": "1"')
    with pytest.raises(StratosError, match=rf"^The student's answers cannot be read from {path} "):
        read_answers(tmp_path)


def test_the_scorecard_survives_the_disk(scorecard):
    assert from_json(to_json(scorecard), Scorecard) == scorecard


def test_progress_rises_to_the_total(students, tmp_path):
    seen = []
    context = tiny_context(
        tmp_path, tick=lambda done, total, text="": seen.append((done, total, text))
    )
    run(tmp_path, students, context=context)
    done = [now for now, _, _ in seen]
    assert done == sorted(done)
    assert (160, 160, "teacher · 40 of 40") in seen and seen[-1][:2] == (160, 160)
    said = {"student", "untouched student", "teacher", "fitting the free baselines"}
    assert {text.partition(" · ")[0] for _, _, text in seen} == said


def test_the_teacher_is_asked_once_and_its_weights_are_freed(students, tmp_path):
    first, second = tiny_config(tmp_path), tiny_config(tmp_path)
    a = run(tmp_path, students, config=first)
    b = run(tmp_path, students, config=second)
    assert first.teachers[0].n_asked == 40
    assert second.teachers[0].n_asked == 0
    assert second.teachers[0].closed
    assert a.comparison == b.comparison
    assert a.score("teacher").seconds == b.score("teacher").seconds == 20.0


def test_a_teacher_that_cannot_be_paid_leaves_the_student_scored(students, tmp_path):
    warnings: list[str] = []
    config = tiny_config(tmp_path, teachers=(SecondNumber(usd_per_million=1e6),))
    context = tiny_context(
        tmp_path, ledger=Ledger(tmp_path / "ledger.jsonl", budget_usd=0.5), warn=warnings.append
    )
    scorecard = run(tmp_path, students, config=config, context=context)
    assert scorecard.score("student").slice().n_items == 60
    assert scorecard.score("teacher") is None
    assert scorecard.comparison is None
    assert len(warnings) == 1
    assert "was asked 32 questions less: " in warnings[0]  # its first part


def test_random_weights_are_not_asked_for_their_noise(students, tmp_path):
    scorecard = run(tmp_path, students, config=tiny_config(tmp_path))
    assert scorecard.score("untouched") is None
    assert "untouched" not in {one.role for one in scorecard.against}


class Wordy(SecondNumber):
    """Has its answers cut short."""

    def ask(self, chats, max_tokens, tick=None, keep=None):
        answers = [replace(one, finish="length") for one in super().ask(chats, max_tokens, tick)]
        for index, answer in enumerate(answers if keep else ()):
            keep(index, answer)
        return answers


def test_no_ratio_is_stated_to_a_teacher_that_was_cut_short(students, tmp_path):
    scorecard = run(tmp_path, students, config=tiny_config(tmp_path, teachers=(Wordy(),)))
    assert scorecard.score("teacher").is_cut_short
    assert scorecard.comparison is None
    assert "teacher" in {one.role for one in scorecard.against}


def test_a_student_that_learnt_nothing_is_said_with_likely_causes(students, tmp_path):
    warnings: list[str] = []
    context = tiny_context(tmp_path, warn=warnings.append)
    config = tiny_config(tmp_path)
    run(tmp_path, (students[1], students[1]), context=context, config=config)
    (said,) = [text for text in warnings if "answered none of 60 test items right" in text]
    causes = ("strategy.n_items", "trainer.max_tokens", "random weights", "evaluate.max_new_tokens")
    assert all(cause in said for cause in causes)
    warnings.clear()
    run(tmp_path, students, context=context)
    assert not [text for text in warnings if "answered none" in text]


def test_a_task_without_test_items_is_refused(students, tmp_path):
    class Empty(Larger):
        def items(self, split, n, seed=0, slice=None):
            return [] if split == "test" else super().items(split, n, seed, slice)

    config = tiny_config(tmp_path, task=Empty())
    with pytest.raises(StratosError, match=r"^Task larger has no test items, so nothing can be "):
        run(tmp_path, students, config=config)


def test_a_plan_without_a_serving_server_has_no_price(students, tmp_path):
    assert run(tmp_path, students, plan=tiny_plan(None)).score("student").usd_per_1000 is None


def test_import_loads_no_torch():
    script = "import sys, stratos.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_record_is_plain_json(scorecard):
    plain = msgspec.json.decode(to_json(replace(scorecard, seconds=1.0)))
    assert plain["comparison"]["n_items"] == 40
    assert SERVER.name == "aws/us-east-1 c7i.large"


class Narrow(SecondNumber):
    """Cannot read questions whose first number is even."""

    def too_long(self, question: Question) -> str | None:
        return None if int(question.chat[-1]["content"].split()[0]) % 2 else "so it is"


def test_what_the_teacher_cannot_read_is_no_error_of_it(tmp_path, students):
    said: list[str] = []
    config = tiny_config(tmp_path, teachers=(Narrow(),))
    context = replace(tiny_context(tmp_path), warn=said.append)
    narrow = run(tmp_path, students, config=config, context=context)
    n_read = narrow.comparison.n_items
    assert 0 < n_read == narrow.score("teacher").slice().n_items < 40
    assert any(f"cannot read {40 - n_read} of 40 questions" in text for text in said)


def test_a_student_is_priced_with_the_vocabulary_that_it_has(tmp_path, students):
    exact = run(tmp_path, students, config=tiny_config(tmp_path))
    planned = StudentConfig(name="tiny", license="Apache-2.0", vocab_size=50_000)
    other = run(tmp_path, students, config=tiny_config(tmp_path, students=(planned,)))
    assert other.score("student").usd_per_1000 == exact.score("student").usd_per_1000
    assert other.score("student").usd_per_1000 is not None
