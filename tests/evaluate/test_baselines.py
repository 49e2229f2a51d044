"""What needs no model: a guess, the most frequent answer, the nearest row, a classifier."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from stratos.core.intervals import wilson
from stratos.evaluate import baselines
from stratos.evaluate.baselines import chance, free_baselines, labelled_rows
from stratos.evaluate.metrics import against, field_shares
from stratos.evaluate.verdict import verdict
from stratos.records import EarlierReads, Interval, LoggedVersus, ModelScore, Scorecard, SliceScore
from stratos.synthesize.admission import listed_by, without_leaks
from stratos.tasks.base import Item, Score
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.words import Leak

NO_READS = EarlierReads(0, 0, 0)


class Guessable:
    """A task that knows how often a guess is right."""

    @staticmethod
    def chance(item: Item) -> float:
        return 1 / len(item.question)


def test_a_task_may_say_how_often_a_guess_is_right():
    items = [
        Item("1", "short", "ab", "a", choices=("a", "b")),
        Item("2", "long", "abcd", "a"),
    ]
    score = chance(Guessable(), items)
    assert {row.slice: row.exact.mean for row in score.slices} == {
        "short": 0.5,
        "long": 0.25,
        "all": 0.375,
    }
    assert all(row.exact.low == row.exact.mean == row.exact.high for row in score.slices)
    assert {row.slice: row.choice for row in score.slices} == {
        "short": 0.5,
        "long": None,
        "all": 0.5,
    }


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def labelled(n: int) -> list[dict]:
    """Texts whose label is told by one of two words, beside words that tell nothing."""
    rng = random.Random(0)
    fill = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]
    rows = []
    for i in range(n):
        label = ("cat", "dog", "cat")[i % 3]
        words = [*rng.sample(fill, 5), {"cat": "meow", "dog": "bark"}[label], str(i)]
        rng.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def scores_of(task, train, items) -> dict[str, float]:
    found = free_baselines(task, train, items)
    return {one.score.role: one.score.slice().exact.mean for one in found}


def test_labels_have_three_baselines(tmp_path):
    task = ClassifyTask(write(tmp_path / "a.jsonl", labelled(300)))
    items, train = task.items("test", 1000), labelled_rows(task)
    assert len(train) == task.n_train
    found = scores_of(task, train, items)
    share = sum(item.answer == "cat" for item in items) / len(items)
    assert found["majority"] == pytest.approx(share)
    assert found["linear"] == 1.0
    near = task.lookup(train, items)
    assert found["lookup"] == pytest.approx(
        sum(a == i.answer for a, i in zip(near, items, strict=True)) / len(items)
    )
    assert found["lookup"] < 1


def test_sets_of_labels_have_the_same_baselines(tmp_path):
    rows = [{**row, "label": [row["label"]]} for row in labelled(200)]
    for row in rows[::4]:
        row["text"], row["label"] = f"{row['text']} meow bark", ["cat", "dog"]
    task = ClassifyTask(write(tmp_path / "a.jsonl", rows))
    found = free_baselines(task, labelled_rows(task), task.items("test", 1000))
    f1 = {one.score.role: one.score.slice().micro_f1.mean for one in found}
    assert f1["linear"] > 0.95 > f1["majority"] > 0
    assert set(f1) == {"majority", "lookup", "linear"}


def test_the_classifier_fits_on_one_thread_and_says_that_it_fits(monkeypatch):
    rows = labelled(250)
    steps: list[list[int]] = []
    model = baselines._model

    def watched(strength: float):
        steps.append([pool["num_threads"] for pool in threadpool_info()])
        return model(strength)

    monkeypatch.setattr(baselines, "_model", watched)
    told: list[None] = []
    before = [pool["num_threads"] for pool in threadpool_info()]
    texts, answers = [row["text"] for row in rows], [row["label"] for row in rows]
    started = time.process_time()
    answered = baselines.classify(texts, answers, texts[:9], lambda: told.append(None))
    assert time.process_time() - started < 10, "a few of them where nobody else wants the cores"
    assert answered == answers[:9]
    assert {n for step in steps for n in step} == {1}
    assert len(told) == len(steps), "each fit is said"
    assert [pool["num_threads"] for pool in threadpool_info()][: len(before)] == before


def test_a_rare_answer_does_not_stop_the_choice_of_a_strength():
    rows = [*labelled(60), {"text": "a word", "label": "bird"}]
    told: list[None] = []
    baselines.classify(
        [row["text"] for row in rows],
        [row["label"] for row in rows],
        ["meow"],
        lambda: told.append(None),
    )
    assert len(told) > 1


def test_answers_that_are_all_different_have_no_classifier(tmp_path):
    rows = [{"question": f"{i} in words", "answer": f"word {i}"} for i in range(100)]
    task = JsonlTask(write(tmp_path / "a.jsonl", rows))
    found = scores_of(task, labelled_rows(task), task.items("test", 99))
    assert found == {"majority": 0.0, "lookup": 0.0}
    assert free_baselines(task, [], task.items("test", 99)) == []


def test_objects_are_answered_field_by_field(tmp_path):
    rows = []
    for i, row in enumerate(labelled(300)):
        who = {"kind": row["label"], "legs": 4}
        rows.append({"question": row["text"], "answer": {"id": i, "animal": who}})
    task = JsonlTask(write(tmp_path / "a.jsonl", rows))
    items = task.items("test", 1000)
    found = {one.score.role: one.score for one in free_baselines(task, labelled_rows(task), items)}
    assert all(score.slice().exact.mean == 0 for score in found.values()), "no id can be known"
    fields = found["linear"].fields
    assert list(fields) == ["id", "animal.kind", "animal.legs"]
    assert (fields["id"].mean, fields["animal.kind"].mean) == (0.0, 1.0)
    assert fields["animal.kind"] == wilson(len(items), len(items))
    assert found["majority"].fields["animal.legs"].mean == 1.0


def test_the_most_frequent_answer_may_be_a_whole_object(tmp_path):
    """Seen: {} is right for 15% of the rows, and no most frequent value of each field together."""
    rows = [
        {"question": f"{row['text']} {i}", "answer": "{}" if i % 6 == 0 else {"id": i, "n": i % 4}}
        for i, row in enumerate(labelled(300))
    ]
    task = JsonlTask(write(tmp_path / "a.jsonl", rows))
    items = task.items("test", 1000)
    empty = sum(item.answer == "{}" for item in items) / len(items)
    assert empty > 0.1
    assert scores_of(task, labelled_rows(task), items)["majority"] == pytest.approx(empty)


class Plain:
    """A task that scores no fields itself."""

    @staticmethod
    def field_scores(item: Item, answer: str | None) -> dict[str, float]:
        return {}


def test_a_field_is_right_by_its_value_alone():
    golds = [Item("1", "main", "q", '{"a": "New York", "b": {"c": 1}}')]
    shares = {
        text: {name: one.mean for name, one in field_shares(Plain(), golds, [text]).items()}
        for text in ('{"b": {"c": 1.0}, "a": "new  york"}', '{"a": 1}', '{"b": {"c": true}}', None)
    }
    assert [list(one.values()) for one in shares.values()] == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert field_shares(Plain(), [*golds, Item("2", "main", "q", "none")], ["", ""]) == {}


@pytest.mark.parametrize(
    ("role", "right", "of_student", "outcome", "said"),
    [
        ("lookup", 94, 70, "worse", "You need no model for this: it is free and answers at once."),
        ("linear", 91, 92, "open", "You need no model for this: it is free and answers at once. "),
        ("linear", 60, 90, "better", "The student is better than the best baseline."),
        ("majority", 5, 6, "open", "The student is not significantly better than no model: it"),
        ("majority", 45, 6, "worse", "The student is worse than no model: it needs more rows"),
        ("teacher", 95, 70, "worse", "The teacher is better; the student saves the cost and"),
        ("teacher", 90, 91, "open", "The difference is not significant; the student saves the"),
        ("untouched", 95, 70, "worse", "Training made it worse: try more rows or other training"),
    ],
)
def test_the_verdict_compares_with_the_best_baseline(role, right, of_student, outcome, said):
    card = scorecard({role: right, "chance": 2}, of_student)
    found = verdict(card)
    assert found is not None
    assert found.outcome == outcome
    assert f"answers {right:.1f}% of 100 test items, the student {of_student:.1f}%" in found.text
    assert said in found.text


@pytest.mark.parametrize(
    ("role", "right", "of_student", "headline"),
    [
        ("lookup", 94, 70, " answers 94.0%, the student 70.0%: you need no model"),
        ("linear", 91, 92, ": nothing shows that the student is better, so you need no model"),
        ("linear", 60, 65, ": 100 test items are too few to tell them apart"),
        ("linear", 60, 90, ""),
        ("majority", 5, 6, " answers 5.0%, the student 6.0%: 100 items do not tell them apart"),
        ("majority", 45, 6, " answers 45.0%, the student 6.0%: the student is worse"),
        ("teacher", 95, 70, " answers 95.0%, the student 70.0%: the student is worse"),
        ("teacher", 90, 91, " answers 90.0%, the student 91.0%: 100 items do not tell them apart"),
        ("untouched", 95, 70, " answers 95.0%, the student 70.0%: training made it worse"),
    ],
)  # fmt: skip
def test_a_baseline_that_is_as_good_is_the_headline(role, right, of_student, headline):
    found = verdict(scorecard({role: right, "chance": 2}, of_student))
    assert found is not None
    assert found.headline.endswith(headline) and bool(found.headline) == bool(headline)


@pytest.mark.parametrize(
    ("rights", "of_student", "told"),
    [
        ({"majority": 15}, 0, "Majority answers 15.0%, the student 0.0%: the student is worse"),
        (
            {"lookup": 81, "teacher": 99},
            67,
            "item answers 81.0%, the student 67.0%: the student is worse",
        ),
        ({"linear": 60}, 65, ""),
        ({"linear": 60, "teacher": 99}, 90, ""),
    ],
)
def test_what_is_free_and_as_good_is_said_beside_a_better_teacher(rights, of_student, told):
    found = verdict(scorecard(rights, of_student))
    assert found is not None and told in found.against_free
    assert bool(found.against_free) == bool(told)


def test_a_student_that_is_no_language_model_is_not_sent_away_for_one():
    card = scorecard({"linear": 91, "chance": 2}, 92)
    [student] = [one for one in card.scores if one.role == "student"]
    others = [one for one in card.scores if one is not student]
    light = replace(card, scores=(replace(student, calibration_error=0.02), *others))
    heavy, found = verdict(card), verdict(light)
    assert "need no model" in heavy.headline and "need no model" not in found.headline
    assert heavy.outcome == found.outcome


def test_of_two_as_good_the_headline_is_what_needs_no_model(snapshot):
    card = scorecard({"linear": 91, "teacher": 99}, 90)
    found = verdict(card)
    assert found is not None and card.best_baseline.role == "teacher"
    assert found.headline == snapshot


def test_of_equal_baselines_the_simplest_is_the_best():
    card = scorecard({"majority": 40, "lookup": 70, "linear": 70, "teacher": 70}, 90)
    assert card.best_baseline.role == "lookup"
    assert verdict(replace(card, against=())) is None


def scorecard(rights: dict[str, int], of_student: int) -> Scorecard:
    """Everyone on 100 items; who has more right has those of the others, too."""

    def scored(right: int) -> list[Score]:
        return [Score(float(i < right), float(i < right), True) for i in range(100)]

    def made(role: str, right: int) -> ModelScore:
        names = {"lookup": "the nearest training item", "linear": "TF-IDF with logistic regression"}
        rows = (SliceScore("all", 100, wilson(right, 100), right / 100),)
        return ModelScore(role, names.get(role, role), rows)

    scores = [made(role, right) for role, right in rights.items()]
    compared = [
        against(score, scored(of_student), scored(rights[score.role]))
        for score in scores
        if score.role != "chance"
    ]
    student = made("student", of_student)
    return Scorecard("t", "exact", (student, *scores), None, "", 1.0, tuple(compared), NO_READS, "")


def test_import_loads_no_library_of_learning():
    script = "import sys, stratos.evaluate, stratos.probe; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- spellings, options and rows ------------------------------------------------------------------


def cased(n: int) -> list[dict]:
    """Yes or no, the yes in three spellings, told by a word of the question."""
    rng = random.Random(3)
    fill = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]
    rows = []
    for i in range(n):
        is_yes = rng.random() < 0.6
        words = [*rng.sample(fill, 4), "sun" if is_yes else "rain", str(i)]
        rng.shuffle(words)
        answer = rng.choice(["Yes", "yes", "YES"]) if is_yes else "no"
        rows.append({"question": " ".join(words), "answer": answer})
    return rows


def lowered(rows: list[dict]) -> list[dict]:
    return [{**row, "answer": row["answer"].lower()} for row in rows]


def as_objects(rows: list[dict]) -> list[dict]:
    return [{**row, "answer": {"it": {"is": row["answer"]}}} for row in rows]


@pytest.mark.parametrize("shape", [list, as_objects], ids=["texts", "objects"])
def test_baselines_count_spellings_of_one_answer_as_one(tmp_path, shape):
    found, splits = [], []
    for name, rows in (("many", cased(300)), ("one", lowered(cased(300)))):
        task = JsonlTask(write(tmp_path / f"{name}.jsonl", shape(rows)))
        found.append(scores_of(task, labelled_rows(task), task.items("test", 1000)))
        test = task.items("test", 1000)
        splits.append({item.id for item in test})
        share_yes = sum("yes" in item.answer.lower() for item in test) / len(test)
    assert found[0] == found[1]
    assert found[0]["majority"] == pytest.approx(share_yes) and found[0]["linear"] > 0.95
    assert splits[0] == splits[1]


def test_splits_go_by_answers_as_the_metric_compares_them(tmp_path):
    """Each of 40 spellings of one label is rare; as labels of their own they would move rows."""
    rng = random.Random(1)
    spelled = lambda: "".join(rng.choice([c, c.upper()]) for c in "yes indeed")  # noqa: E731
    rows = [{"question": f"row {i}", "answer": spelled() if i % 4 else "no"} for i in range(120)]
    parts = []
    for name, some in (("many", rows), ("one", lowered(rows))):
        task = JsonlTask(write(tmp_path / f"{name}.jsonl", some))
        parts.append([{i.id for i in task.items(s, 999)} for s in ("train", "validation", "test")])
    assert parts[0] == parts[1]


def choosing(path: Path, options: tuple[int, ...], question: str = "which is {}?") -> JsonlTask:
    rows = [
        {
            "question": question.format(i),
            "options": [f"thing {i} {k}" for k in range(options[i % len(options)])],
            "answer": "AB"[i % 2],
        }
        for i in range(60)
    ]
    return JsonlTask(write(path, rows), metric="multiple_choice")


@pytest.mark.parametrize("question", ["which is {}?", "of\nthese,\nA) or B) {}:\nA) x\nwhich?"])
def test_a_guess_among_options_is_right_as_often_as_there_are_few(tmp_path, question):
    task = choosing(tmp_path / "a.jsonl", (4,), question)
    items = task.items("test", 99)
    assert chance(task, items).slice().exact.mean == 0.25
    assert all(item.choices == tuple("ABCD") for item in items)
    mixed = choosing(tmp_path / "b.jsonl", (2, 5), question)
    items = mixed.items("test", 99)
    assert {len(mixed.measure.options_of(item.question)) for item in items} == {2, 5}
    assert {mixed.chance(item) for item in items} == {1 / 2, 1 / 5}
    free = JsonlTask(write(tmp_path / "c.jsonl", cased(60)))
    assert chance(free, free.items("test", 9)).slice().exact.mean == 0.0


def test_baselines_do_not_learn_what_the_student_is_refused(tmp_path):
    """Rows of the training file that hold a test question in a longer text are leaks.

    The frame is long, so that the rows are no near duplicates, which no split has.
    """
    told = "the quick brown fox number {} jumps over the lazy dog and runs away at once"
    frame = " ".join(f"frame{k}" for k in range(30)) + " {} end"
    rows = [{"question": f"something else about {i}", "answer": f"old {i}"} for i in range(40)]
    rows += [{"question": frame.format(told.format(i)), "answer": f"fox {i}"} for i in range(9)]
    tests = [{"question": told.format(i), "answer": f"fox {i}"} for i in range(9)]
    task = JsonlTask(
        write(tmp_path / "a.jsonl", rows), test_path=write(tmp_path / "t.jsonl", tests)
    )
    refused: Counter[str] = Counter()
    all_rows = task.items("train", 999)
    allowed = without_leaks(listed_by(task), all_rows, refused)
    assert refused[Leak.OVERLAP] > 0
    learnt = labelled_rows(task)
    assert [item.id for item in learnt] == [item.id for item in allowed]
    assert scores_of(task, learnt, task.items("test", 9))["lookup"] == 0.0
    assert scores_of(task, all_rows, task.items("test", 9))["lookup"] > 0.5


@pytest.mark.parametrize("strengths", [(1e-6, 10.0), (10.0, 1e-6)])
def test_the_strength_of_regularisation_is_the_best_of_those_tried(monkeypatch, strengths):
    """With the strong one every answer is the most frequent label."""
    monkeypatch.setattr(baselines, "_STRENGTHS", strengths)
    rows = labelled(150)
    known, asked = rows[:120], rows[120:]
    texts, answers = [row["text"] for row in known], [row["label"] for row in known]
    found = baselines.classify(texts, answers, [row["text"] for row in asked])
    assert found == [row["label"] for row in asked]


# --- the verdict where baselines answer different items -------------------------------------------


def scores(right: set[int], n: int) -> list[Score]:
    return [Score(float(i in right), float(i in right), True) for i in range(n)]


def compared(student: list[Score], others: dict[str, list[Score]]) -> Scorecard:
    """Each baseline on as many of the first items as it has scores."""
    versus = tuple(
        against(ModelScore(role, role, ()), student[: len(one)], one)
        for role, one in others.items()
    )
    return Scorecard(
        "t", "exact", (ModelScore("student", "s", ()),), None, "", 1.0, versus, NO_READS, ""
    )


def test_a_teacher_on_few_items_does_not_hide_that_no_model_is_needed(snapshot):
    student = scores({i for i in range(1000) if i % 10 < 8}, 1000)
    classifier = scores({i for i in range(1000) if i % 100 < 97}, 1000)
    card = compared(student, {"linear": classifier, "teacher": scores(set(range(32)), 32)})
    assert card.best_baseline is not None and card.best_baseline.role == "teacher"
    assert card.best_free is not None and card.best_free.role == "linear"
    found = verdict(card)
    assert found is not None and found.outcome == "worse"
    assert found.text == snapshot


def test_a_student_that_beats_its_teacher_but_no_classifier_is_not_called_the_best():
    student = scores(set(range(90)), 100)
    card = compared(student, {"linear": scores(set(range(91)), 100), "teacher": scores({0, 1}, 40)})
    found = verdict(card)
    assert found is not None and found.outcome == "open"
    assert "You need no model for this" in found.text and "best baseline" not in found.text


def test_what_needs_no_model_takes_the_place_of_no_model_that_is_surely_better():
    student, linear = scores({0}, 200), scores(set(range(120)), 200)
    by_teacher = compared(student, {"linear": linear, "teacher": scores(set(range(190)), 200)})
    agrees = Interval(0.005, 0.0, 0.03)
    log = LoggedVersus("large", 200, 0, agrees, Interval(1.0, 0.98, 1.0), 0, 199, 1e-9, agrees)
    by_log = replace(compared(student, {"linear": linear}), logged=log)
    for card in (by_teacher, by_log):
        found = verdict(card)
        assert found is not None and found.outcome == "worse"
        assert "You need no model" not in found.text and "you need no model" not in found.headline
    alone = verdict(compared(student, {"linear": linear}))
    assert alone is not None and "You need no model" in alone.text


def test_what_needs_no_model_is_not_spoken_of_where_the_student_is_surely_better():
    student = scores(set(range(90)), 100)
    others = {"linear": scores(set(range(40)), 100), "teacher": scores(set(range(30)), 30)}
    found = verdict(compared(student, others))
    assert found is not None and "no model" not in found.text and found.outcome == "open"


def test_an_easy_part_of_the_items_makes_no_baseline_the_best():
    """The untouched student has 60% of 20 easy items, all of which the trained one has right."""
    student = scores(set(range(50)), 100)
    others = {"lookup": scores(set(range(45)), 100), "untouched": scores(set(range(12)), 20)}
    card = compared(student, others)
    assert card.best_baseline is not None and card.best_baseline.role == "lookup"


def test_a_difference_counts_from_p_below_five_percent_on():
    """Of 5 items that one alone has right, p is 0.0625; of 6 it is 0.03125."""
    for n, outcome in ((5, "open"), (6, "better")):
        student = scores(set(range(50 + n)), 100)
        found = verdict(compared(student, {"lookup": scores(set(range(50)), 100)}))
        assert found is not None and found.outcome == outcome
