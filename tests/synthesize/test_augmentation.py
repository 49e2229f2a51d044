"""More rows from few: written after the answer, and learnt where a blind answer agrees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Any

from stratos.synthesize.supervised import BLIND, REPEATED, Augmentation
from stratos.teachers.base import Answer
from tests.synthesize.adder import rows_of, run, sums
from tests.teachers.echo_teacher import EchoTeacher


@dataclass
class Author(EchoTeacher):
    """Says "How much is i plus i?" of every sum, with a slip where i ends in 7; adds rightly."""

    name: str = "adder"

    def reply(self, chat: Any) -> Answer:
        text = chat[-1]["content"]
        if text.startswith("Text: "):
            number = int(text.split()[3])
            number += number % 10 == 7
            reply = f'New text: "How much is {number} plus {number}?"\nAnswer: {2 * number}'
        elif text.startswith("Answer of all texts"):
            reply = text.splitlines()[-2].removeprefix("Text: ")  # repeats an example
        else:
            reply = f"Answer: {2 * int(text.split()[3 if 'plus' in text else 2])}"
        return Answer(reply, 10, 5, 0.0, finish="stop")


def test_new_questions_are_learnt_where_a_blind_answer_agrees(tmp_path):
    task = sums(tmp_path, 200)
    corpus, _ = run(tmp_path / "run", task, Augmentation(), (Author(),), prompt="default")
    rows = rows_of(corpus)
    train = {item.question: item for item in task.items("train", 999)}
    written = [row for row in rows if row["question"] not in train]
    assert corpus.n_by_source == {"of the file": len(train), "written by adder": len(written)}
    assert all(row["question"].startswith("How much is ") for row in written)
    assert all(row["answer"] == str(2 * int(row["question"].split()[3])) for row in written)
    # A slip changes the answer, which the blind check finds.
    n_slips = sum(int(item.answer) // 2 % 10 == 7 for item in train.values())
    assert n_slips > 5
    assert corpus.refused[BLIND] == n_slips
    assert len(written) == len(train) - n_slips
    assert corpus.refused[REPEATED] == len(train), "what only repeats a row adds nothing"


def test_what_is_held_out_is_not_written_anew(tmp_path):
    @dataclass
    class Copies(Author):
        def reply(self, chat: Any) -> Answer:
            return Answer(next(questions), 1, 1, 0.0, finish="stop")

    task = sums(tmp_path, 200)
    questions = cycle(item.question for item in task.items("test", 999))
    corpus, _ = run(tmp_path / "run", task, Augmentation(), (Copies(),), prompt="default")
    assert "written by adder" not in corpus.n_by_source
    assert sum(n for why, n in corpus.refused.items() if why.startswith("held out")) > 0
