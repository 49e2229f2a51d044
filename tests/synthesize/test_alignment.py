"""Alignment with several answers: harder questions take more, what the student knows none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from stratos.config import EvaluateConfig, StudentConfig
from stratos.core.context import Context
from stratos.core.errors import ConfigError, TeacherError
from stratos.ledger import Ledger
from stratos.synthesize import synthesize
from stratos.synthesize.admission import PretrainedStudent
from stratos.synthesize.alignment import Alignment, _in_its_words
from stratos.tasks.jsonl import JsonlTask
from stratos.teachers.base import Answer, Question
from stratos.teachers.huggingface import HuggingFaceTeacher
from tests.evaluate.tiny_student import Larger, make_students
from tests.synthesize.adder import Adder, config_of, plan_of, rows_of, run, sums
from tests.synthesize.hub_server import NAME, HubServer
from tests.teachers.echo_teacher import DrawingTeacher, EchoTeacher

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Says(EchoTeacher):
    """Gives one answer to everything."""

    name: str = "adder"
    text: str = "Answer: yes"

    def reply(self, chat: Any) -> Answer:
        return replace(super().reply(chat), text=self.text)


@dataclass
class Sampler(DrawingTeacher, Adder):
    """Draws: the larger the number, the later the sample that is right. Above 400, none is."""

    name: str = "adder"
    calls: list[tuple[int, int, float | None]] = field(default_factory=list)

    def draw(self, question: Question) -> Answer:
        number = int(question.chat[-1]["content"].split()[2])
        self.calls.append((number, question.sample, question.temperature))
        right = question.sample >= number // 100 and number < 400
        total = 2 * number if right else 2 * number + 1
        text = f"Sample {question.sample}{' again' * question.sample}.\nAnswer: {total}"
        return Answer(text, 10, 5, 0.0)


def test_harder_questions_are_asked_more_often(tmp_path):
    task, teacher = replace(sums(tmp_path), prompts=("default",)), Sampler()
    corpus, _ = run(tmp_path, task, Alignment(n_items=1000, n_samples=4), (teacher,))
    times = Counter(number for number, _, _ in teacher.calls)
    assert {times[n] for n in times if n < 100} == {1}
    assert {times[n] for n in times if n >= 300} == {4}
    assert all((sample == 0) == (warm is None) for _, sample, warm in teacher.calls)
    n_right = sum(n < 400 for n in times)
    assert corpus.n_items == n_right
    assert corpus.refused == {"wrong": len(times) - n_right}
    # No question is asked again before every one was asked.
    samples = [sample for _, sample, _ in teacher.calls]
    assert samples == sorted(samples)


def test_the_shortest_right_answer_is_learnt(tmp_path):
    task, teacher = replace(sums(tmp_path), prompts=("default",)), Sampler()
    strategy = Alignment(n_items=1000, n_samples=4, best="shortest", temperature=1.0)
    run(tmp_path, task, strategy, (teacher,))
    times = Counter(number for number, _, _ in teacher.calls)
    assert {times[n] for n in times if n < 100} == {2}, "two right answers are enough"
    assert {temperature for _, sample, temperature in teacher.calls if sample} == {1.0}


def test_lucky_guesses_are_outvoted(tmp_path):
    task, teacher = replace(sums(tmp_path), prompts=("default",)), Sampler()
    strategy = Alignment(n_items=1000, n_samples=4, best="majority")
    corpus, _ = run(tmp_path, task, strategy, (teacher,))
    numbers = {number for number, _, _ in teacher.calls}
    assert corpus.n_items == sum(n < 200 for n in numbers)
    assert corpus.refused == {
        "outvoted": sum(200 <= n < 300 for n in numbers),
        # Three equal wrong answers of four decide; the fourth is not bought.
        "wrong": sum(n >= 300 for n in numbers),
    }


def test_a_teacher_that_cannot_draw_is_asked_with_each_prompt(tmp_path, snapshot):
    corpus, warnings = run(tmp_path, sums(tmp_path), Alignment(n_items=50, n_samples=9), (Adder(),))
    assert corpus.n_items == 50
    assert warnings == snapshot


def test_a_teacher_that_is_always_wrong_is_found_out_early(tmp_path, snapshot):
    task, teacher = replace(sums(tmp_path), prompts=("default",)), Adder(knows=0)
    with pytest.raises(TeacherError) as caught:
        run(tmp_path, task, Alignment(n_items=400, n_samples=4), (teacher,))
    assert str(caught.value) == snapshot
    assert len(teacher.seen) == 64
    # One right answer among them is enough to go on; so is a set that is no larger than a look.
    few = Adder(knows=20)
    corpus, _ = run(tmp_path, task, Alignment(n_items=400), (few,))
    assert (
        corpus.n_items == sum(int(row["question"].split()[2]) < 20 for row in rows_of(corpus)) > 0
    )
    assert len(few.seen) == task.n_train
    with pytest.raises(ConfigError, match="made no training item"):
        run(tmp_path, task, Alignment(n_items=60), (Adder(knows=0, bare=True),))


def test_a_text_begins_as_the_teacher_began_it(tmp_path):
    task = sums(tmp_path)
    item = task.items("train", 1)[0]
    path = f" Twice that number, added up.\nAnswer: {item.answer}"
    item_in_its_words, completion = _in_its_words(task, item, f"{path}\n")
    assert completion == item_in_its_words.rationale == path
    assert _in_its_words(task, item, f" {item.answer}\n")[1] == item.answer


@pytest.mark.slow
def test_a_local_teacher_draws_further_answers(student, tmp_path):
    # Half trained, it is right the more often the more answers it is asked for.
    teacher = HuggingFaceTeacher("tiny", path=str(student), dtype="float32")
    made = {}
    for n_samples in (1, 4, 4):
        strategy = Alignment(n_items=40, n_samples=n_samples, max_tokens=12)
        context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"))
        config = with_student(Larger(), teacher, strategy, student)
        corpus = synthesize(config, plan_of(teacher=teacher.name, student="tiny"), context)
        assert made.setdefault(n_samples, corpus.sha256) == corpus.sha256
        made[f"{n_samples} items"] = corpus.n_items
    assert made["1 items"] < made["4 items"]


# --- the student's say ---------------------------------------------------------------------------


def with_student(task: Any, teacher: Any, strategy: Any, path: Path) -> Any:
    """Return a config with the student in a folder."""
    return config_of(
        task, strategy, (teacher,), students=(StudentConfig("tiny", path=str(path)),),
        evaluate=EvaluateConfig(max_new_tokens=12, n_items=60),
    )  # fmt: skip


LEARNS = plan_of(teacher="largest", student="tiny")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_students(tmp_path_factory.mktemp("student"), steps=30)[0]


@pytest.mark.slow
def test_likelihood_is_that_of_the_model(student):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chat = [{"role": "user", "content": "3 7"}]
    texts = ["3 7 ; 7", "7", "0 1 2 3 ; 7"]
    likelihoods = PretrainedStudent(str(student), Larger(), EvaluateConfig()).likelihood(
        chat, texts
    )
    tokenizer = AutoTokenizer.from_pretrained(student)
    model = AutoModelForCausalLM.from_pretrained(student).eval()
    for text, score in zip(texts, likelihoods, strict=True):
        whole = [*chat, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(whole, return_dict=True)["input_ids"]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        n_asked = len(prompt["input_ids"])
        labels = torch.tensor([[-100] * n_asked + ids[n_asked:]])
        with torch.inference_mode():
            loss = model(torch.tensor([ids]), labels=labels).loss
        assert score == pytest.approx(-float(loss), abs=1e-4)


@dataclass
class Largest(Adder):
    """A teacher that is always right about the larger of two digits."""

    name: str = "largest"
    usd: float = 0.0
    seen: list[Any] = field(default_factory=list)

    def identity(self) -> str:
        return "largest"

    def card(self) -> Any:
        return replace(Adder().card(), usd_per_million_output_tokens=self.usd)

    def reply(self, chat: Any) -> Answer:
        self.seen.append(chat)
        return Answer(f"as I see it ; {max(chat[-1]['content'].split())}", 3, 3, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("usd", "skip_known", "skips"),
    [(0.0, "auto", False), (1.0, "auto", True), (0.0, "always", True), (1.0, "never", False)],
)
def test_what_the_student_knows_is_not_bought(student, tmp_path, usd, skip_known, skips):
    task, teacher = Larger(), Largest(usd=usd)
    config = with_student(task, teacher, Alignment(n_items=40, skip_known=skip_known), student)
    context = Context(tmp_path, tmp_path / "cache", Ledger(tmp_path / "ledger"))
    items = task.items("train", 40)
    known = PretrainedStudent(str(student), task, config.evaluate).knows(items)
    corpus = synthesize(config, LEARNS, context)
    assert 0 < sum(known) < 40
    n_known = sum(known) if skips else 0
    assert len(teacher.seen) == 40 - n_known == corpus.n_items
    assert corpus.refused.get("known to the student", 0) == n_known


# Prints how many of 40 questions the student at a path knows, or what is said instead; the client
# of the hub reads its settings when it is imported.
ASK = """
import sys
from pathlib import Path
from tests.synthesize.test_alignment import LEARNS, Largest, with_student
from tests.evaluate.tiny_student import Larger
from stratos.core.context import Context
from stratos.core.errors import StratosError
from stratos.ledger import Ledger
from stratos.synthesize import synthesize
from stratos.synthesize.alignment import Alignment
folder, teacher = Path(sys.argv[2]), Largest(usd=1.0)
config = with_student(Larger(), teacher, Alignment(n_items=40), sys.argv[1])
context = Context(folder, folder / "cache", Ledger(folder / "ledger"))
try:
    corpus = synthesize(config, LEARNS, context)
    print(corpus.refused["known to the student"])
except StratosError as error:
    print(f"{type(error).__name__} after {len(teacher.seen)} answers: {error}")
"""


def asked_from(path: str, folder: Path, home: Path, **settings: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK, path, str(folder)], cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_HOME": str(home), **settings},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr


@pytest.mark.slow
def test_a_student_of_the_hub_is_fetched_once_before_it_is_asked(student, tmp_path):
    home, n_known = tmp_path / "home", asked_from(str(student), tmp_path / "a", tmp_path)
    assert 0 < int(n_known) < 40
    with HubServer(student) as hub:
        reached = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        assert asked_from(NAME, tmp_path / "b", home, **reached) == n_known
        assert hub.fetched.count("model.safetensors") == 1
    # And from then on the hub is not needed.
    assert asked_from(NAME, tmp_path / "c", home, HF_HUB_OFFLINE="1") == n_known


@pytest.mark.slow
def test_a_student_that_cannot_be_fetched_is_told_before_the_teacher_is_paid(tmp_path, snapshot):
    printed = asked_from(NAME, tmp_path, tmp_path / "home", HF_HUB_OFFLINE="1")
    cause = printed.partition("before training: ")[2].partition("\n")[0]
    assert cause and printed.replace(cause, "CAUSE") == snapshot


def test_a_question_that_leaks_a_held_out_one_is_not_paid(tmp_path):
    rows = [
        {"question": f"{' '.join(f'{word}{i // 2}' for word in LETTERS)} and {i}", "answer": "yes"}
        for i in range(200)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = JsonlTask(str(path), prompts=("zero_shot",))
    teacher = Says()
    corpus, _ = run(tmp_path, task, Alignment(), (teacher,))
    n_leaks = corpus.refused["held out (13-gram)"]
    assert n_leaks > 10
    assert len(teacher.calls) == corpus.n_items == task.n_train - n_leaks
