"""Rows without answers: labelled where the teacher agrees with itself, listed where it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stratos.config import StudentConfig
from stratos.records import ModelCard
from stratos.synthesize.pseudo_labels import (
    DISAGREE,
    NO_LABEL,
    NO_MONEY,
    NOT_WORTH,
    ROWS_TO_LABEL,
    PseudoLabels,
    Votes,
    suggested,
)
from stratos.tasks.base import Item
from stratos.tasks.classify import ClassifyTask
from stratos.teachers.base import Answer, Question
from tests.synthesize.adder import config_of, rows_of, run
from tests.teachers.echo_teacher import DrawingTeacher

LABELS = ("bug", "praise", "question")


def write(path: Path, n: int) -> str:
    rows = [{"text": f"ticket number {i}", "label": LABELS[i % 3]} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def task_of(folder: Path, n: int = 60) -> ClassifyTask:
    more = [{"text": f"open case {i}"} for i in range(n)]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    tickets = write(folder / "tickets.jsonl", 120)
    return ClassifyTask(tickets, unlabelled_path=str(folder / "more.jsonl"))


@dataclass
class Committee(DrawingTeacher):
    """Is sure of even cases; of those that end in 5 it never says the same twice in a row."""

    name: str = "adder"
    usd: float = 0.0
    calls: list[tuple[int, int]] = field(default_factory=list)

    def card(self) -> ModelCard:
        prices = {"usd_per_million_input_tokens": self.usd}
        return replace(super().card(), **prices, usd_per_million_output_tokens=self.usd)

    def draw(self, question: Question) -> Answer:
        number, sample = int(question.chat[-1]["content"].split()[-1]), question.sample
        self.calls.append((number, sample))
        shift = 0
        if number % 10 == 5:
            shift = sample
        elif number % 2 and sample == 1:
            shift = 1  # one slip among five answers
        return Answer(LABELS[(number + shift) % 3], 10, 5, 0.0, finish="stop")


def test_rows_are_labelled_where_the_answers_agree(tmp_path):
    task, teacher = task_of(tmp_path), Committee()
    corpus, warnings = run(tmp_path / "run", task, PseudoLabels(), (teacher,), prompt="default")
    learnt = {row["question"]: row["answer"] for row in rows_of(corpus)}
    labelled = {q: a for q, a in learnt.items() if q.startswith("open")}
    assert len(learnt) - len(labelled) == task.n_train
    assert {int(q.split()[-1]) % 10 for q in labelled} == {0, 1, 2, 3, 4, 6, 7, 8, 9}
    assert all(a == LABELS[int(q.split()[-1]) % 3] for q, a in labelled.items())
    assert corpus.n_by_source == {"of the file": task.n_train, "labelled by adder": 54}
    assert corpus.refused[DISAGREE] == 6
    agreement = {row["question"]: row["agreement"] for row in rows_of(corpus)}
    assert {round(agreement[q], 2) for q in labelled} == {0.8, 1.0}
    # Where two answers agree, there is no third.
    times = {number: sum(case == number for case, _ in teacher.calls) for number in range(60)}
    assert {times[number] for number in range(0, 60, 2)} == {2}
    assert {times[number] for number in range(1, 60, 2)} == {5}

    path = tmp_path / "run" / ROWS_TO_LABEL
    assert corpus.rows_to_label == str(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert corpus.n_rows_to_label == len(rows) == 30
    assert all(row["text"].endswith("5") for row in rows[:6]), "the most informative first"
    assert [row["is_learnt"] for row in rows] == [False] * 6 + [True] * 24
    assert rows[0]["label"] == "" and sum(rows[0]["teacher_answers"].values()) == 5
    assert any("30 rows are worth labelling by hand" in case for case in warnings)


def test_the_list_filled_in_is_a_file_of_rows(tmp_path):
    run(
        tmp_path / "run",
        task_of(tmp_path),
        PseudoLabels(),
        (Committee(),),
        prompt="default",
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / ROWS_TO_LABEL).open()]
    with (tmp_path / "tickets.jsonl").open("a") as file:
        for row in rows:
            file.write(json.dumps({**row, "label": "bug"}) + "\n")
    assert ClassifyTask(str(tmp_path / "tickets.jsonl")).n_train > 72


def test_the_money_ends_between_rows_and_not_within_one(tmp_path):
    task, teacher = task_of(tmp_path), Committee(usd=1000.0)
    # A row costs two answers of 15 tokens at $1000 a million: $0.03; what one may cost is more.
    corpus, warnings = run(
        tmp_path / "run",
        task,
        PseudoLabels(max_tokens=5),
        (teacher,),
        prompt="default",
        budget_usd=1.0,
    )
    n = corpus.n_by_source.get("labelled by adder", 0)
    assert 0 < n < 54
    assert corpus.refused[NO_MONEY] > 0
    assert corpus.usd <= 1.0
    assert any("less" in line for line in warnings)


def test_how_often_the_first_answers_agree_is_said_before_the_others_are_paid(tmp_path, snapshot):
    task, teacher = task_of(tmp_path), Committee(usd=1000.0)
    _, warnings = run(
        tmp_path / "run", task, PseudoLabels(max_tokens=5), (teacher,), prompt="default",
        budget_usd=10.0,
    )  # fmt: skip
    [line_of_votes] = [line for line in warnings if "of the first 32 items of 60" in line]
    assert line_of_votes == snapshot


def test_rows_have_one_answer_each_where_gold_labels_correct_it(tmp_path):
    task, teacher = task_of(tmp_path), Committee()
    linear = StudentConfig("linear", "linear")
    strategy = PseudoLabels()
    corpus, _ = run(
        tmp_path / "run", task, strategy, (teacher,), students=(linear,), prompt="default"
    )
    assert len(teacher.calls) == 60 == corpus.n_by_source["labelled by adder"]
    config = config_of(task, strategy, (), students=(linear,))
    few = replace(task, path=write(tmp_path / "few.jsonl", 18))
    assert strategy.most_samples(config) == 1
    assert strategy.most_samples(config_of(few, strategy, (), students=(linear,))) == 5
    assert strategy.most_samples(config_of(task, strategy, ())) == 5


def test_an_answer_that_is_no_label_is_left_out_as_such(tmp_path):
    strategy = PseudoLabels(n_first=0)
    corpus, _ = run(tmp_path / "run", task_of(tmp_path), strategy, (Stranger(),), prompt="default")
    assert corpus.refused[NO_LABEL] == 60


@dataclass
class Stranger(Committee):
    """Knows none of the labels."""

    def draw(self, question: Question) -> Answer:
        return Answer("weather", 10, 5, 0.0, finish="stop")


@dataclass
class Guesser(Committee):
    """Never says the same twice."""

    def draw(self, question: Question) -> Answer:
        number = int(question.chat[-1]["content"].split()[-1])
        self.calls.append((number, question.sample))
        return Answer(LABELS[(number + question.sample) % 3], 10, 5, 0.0, finish="stop")


def test_a_teacher_that_hardly_ever_agrees_is_asked_no_more(tmp_path):
    teacher = Guesser()
    task = task_of(tmp_path)
    corpus, warnings = run(tmp_path / "run", task, PseudoLabels(), (teacher,), prompt="default")
    assert len(teacher.calls) == 64 and corpus.n_by_source == {"of the file": task.n_train}
    assert corpus.refused[NOT_WORTH] == 28 and corpus.refused[DISAGREE] == 32
    assert any("agree too seldom to be learnt" in line for line in warnings)
    everything = Guesser()
    run(
        tmp_path / "all", task_of(tmp_path), PseudoLabels(n_first=0), (everything,),
        prompt="default",
    )  # fmt: skip
    assert len({number for number, _ in everything.calls}) == 60


def test_votes():
    item = Item("1", "main", "?", "")
    votes = Votes(item)
    assert (votes.agreement, votes.disagreement, votes.best) == (0.0, 0.0, None)
    for answer in ("Bug", "bug", "praise"):
        votes.add(replace(item, answer=answer))
    votes.add(None)
    assert votes.best is not None and votes.best.answer == "Bug"
    assert votes.agreement == 0.5
    assert votes.disagreement == 1.5
    assert votes.counts == {"Bug": 2, "praise": 1}


# --- rows worth a label: doubtful, with others like them, and not twice the same ------------------


def test_a_dense_group_of_doubtful_rows_comes_first_and_once():
    group, alone, sure = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    vectors = np.array([*[group] * 5, alone, *[sure] * 5], np.float32)
    doubt = np.array([*[0.5] * 5, 0.9, *[0.01] * 5], np.float32)
    rows = suggested(vectors, doubt, 3)
    assert rows[0][0] < 5 and rows[1][0] == 5 and rows[2][0] > 5
    assert [round(gain, 2) for _, gain in rows] == [2.5, 0.9, 0.05]


def test_no_more_rows_than_there_are():
    assert suggested(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), 5) == []
    assert len(suggested(np.eye(2, dtype=np.float32), np.array([0.5, 0.4], np.float32), 5)) == 2


def test_a_student_of_a_kind_gets_its_rows_by_expected_gain(tmp_path):
    task, student = task_of(tmp_path), StudentConfig("linear", "linear")
    corpus, _ = run(
        tmp_path / "run",
        task,
        PseudoLabels(),
        (Committee(),),
        students=(student,),
        prompt="default",
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / ROWS_TO_LABEL).open()]
    gains = [row["expected_gain"] for row in rows]
    assert corpus.n_rows_to_label == len(rows) > 0
    assert gains == sorted(gains, reverse=True)
