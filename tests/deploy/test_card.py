import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tiny_run import tiny_probe

from stratos.core.intervals import wilson
from stratos.deploy.card import TriedSize, model_card, tried_sizes, with_sizes
from stratos.evaluate.answers import KeptAnswer
from stratos.evaluate.metrics import against, compare
from stratos.records import (
    CurvePoint,
    EarlierReads,
    Interval,
    ModelScore,
    Pilot,
    PilotPoint,
    PilotRun,
    PlanPoint,
    Scorecard,
    SliceScore,
)
from stratos.synthesize.injection import Injection
from stratos.synthesize.supervised import Augmentation, Supervised
from stratos.tasks.base import Score
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.mahjong import MahjongTask

pytestmark = pytest.mark.slow

RIGHT, FALSE = Score(1.0, 1.0, True), Score(0.0, 0.0, True)
GOLDEN = Path(__file__).parent / "golden" / "README.md"
EXAMPLE = KeptAnswer(
    id="3-8",
    slice="far",
    question="3 8",
    gold="8",
    messages=[{"role": "user", "content": "3 8"}],
    text="0 1 2 3 4 5 6 7 8 ; 8",
    output_tokens=12,
    score=Score(1.0, 1.0, True),
    logprob=-0.1,
)


@pytest.fixture
def scorecard() -> Scorecard:
    """Fixed numbers: those that are measured change with every library."""
    scores = (
        ModelScore("student", "tiny", (SliceScore("all", 60, wilson(59, 60), 0.983),)),
        ModelScore(
            "teacher", "second", (SliceScore("all", 40, wilson(20, 40), 0.5),), n_params=100_000
        ),
        ModelScore("chance", "random guess", (SliceScore("all", 60, wilson(0, 60), 0.0),)),
    )
    comparison = compare([RIGHT] * 39 + [FALSE], [RIGHT] * 20 + [FALSE] * 20)
    return Scorecard(
        "larger",
        "exact",
        scores,
        comparison,
        "",
        1.0,
        against=(),
        earlier_reads=EarlierReads(7, 60, 60),
        answers_path="",
        seed=7,
    )


@pytest.fixture
def write(run, scorecard) -> Callable[..., str]:
    """Return what writes a card of the run with some of its records changed."""

    def written(*answers: KeptAnswer, **changes) -> str:
        records = {
            "config": run.config, "plan": run.plan, "scorecard": scorecard, "student": run.student,
            "corpus": None, **changes,
        }  # fmt: skip
        return model_card(answers=answers or (EXAMPLE,), **records)

    return written


@pytest.fixture
def card(run, write) -> str:
    probe = tiny_probe(run.config.task, run.config.teachers[0])
    points = tuple(PilotPoint(n, 0.5, 12, 30, 1.0, 1.0, 1.0) for n in (1000, 2000))
    short = PilotRun("tiny", "injection", "second", points, "pilot")
    pilot = Pilot("larger", (short,), {}, 2.0, 2.0, 0.0)
    student = replace(
        run.student,
        curve=(CurvePoint(75, 75_000, 0.5, 0.8), CurvePoint(150, 150_000, 0.1, 0.95)),
        n_validation_items=20,
        n_validation_reused=4,
        n_choosing_items=4,
    )
    return write(student=student, corpus=run.corpus, probe=probe, pilot=pilot)


def test_the_card_is_as_agreed(card):
    assert card == GOLDEN.read_text()


def test_the_card_says_what_a_vocabulary_was_cut_to(run, write):
    cut = replace(run.student, vocabulary=(2_100, 49_152))
    assert " cut to 2,100 of 49,152 tokens" in write(student=cut)
    assert "cut to" not in write()


def test_the_front_matter_is_what_hubs_read(card):
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "text-generation"
    (entry,) = front["model-index"]
    assert entry["name"] == "larger-tiny"
    (metric,) = entry["results"][0]["metrics"]
    assert metric == {"type": "exact", "name": "exact (all)", "value": 0.9833}


def test_an_answer_cannot_break_out_of_its_block(write):
    evil = "```\n# Not a heading\n````"
    text = write(replace(EXAMPLE, text=evil))
    (shown,) = re.findall(r"^`````text\n(.*?)\n`````$", text, re.DOTALL | re.MULTILINE)
    assert shown == evil


def test_controls_of_an_example_are_shown_and_sent(write):
    evil = "a\u202eb\x1b[2Jc"
    text = write(replace(EXAMPLE, text=evil, messages=[{"role": "user", "content": evil}]))
    assert not {"\x1b", "\u202e"} & {*text}
    assert "\na<U+202E>b␛[2Jc\n" in text
    assert json.dumps(evil) in text, "what the command sends is the question itself"


def test_a_teacher_without_a_right_answer_has_no_ratio_in_the_card(write, scorecard):
    none_right = replace(scorecard, comparison=compare([RIGHT] * 40, [FALSE] * 40))
    text = write(scorecard=none_right)
    assert "the teacher has none right." in text and "times that of the teacher" not in text
    assert "Data:" not in text


def test_the_card_of_a_pretrained_student_says_where_the_instruction_is(run, write, tmp_path):
    rows = [{"text": f"ticket {i}", "label": "ab"[i % 2]} for i in range(40)]
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    task = ClassifyTask(str(path), instruction="Sort it.")
    start = replace(run.config.students[0], path="org/model")
    text = write(config=replace(run.config, task=task, students=(start,)))
    assert "\nSort it. The labels are: a, b.\n" in text
    assert "Send the bare question. A system message" in text
    assert "Sort it." not in write(config=replace(run.config, task=task))


def test_the_example_is_an_answer_that_is_right(write):
    wrong = replace(EXAMPLE, id="9-2", gold="9", text="0 1 2 ; 2", score=FALSE)
    text = write(wrong, EXAMPLE)
    assert f" this test item right:\n\n```text\n{EXAMPLE.text}\n```" in text
    assert wrong.text not in text
    assert f", where `9` is:\n\n```text\n{wrong.text}\n```" in write(wrong)


def test_reasoning_is_spoken_of_where_the_student_writes_some(write):
    bare, announced = replace(EXAMPLE, text="8"), replace(EXAMPLE, text="Answer: 8")
    words = "reasoning is written before the answer"
    assert words in write(EXAMPLE) and words not in write(bare, announced, EXAMPLE)


def test_a_teacher_that_was_asked_nothing_is_not_named_as_one(run, write):
    def card_by(strategy, **corpus) -> str:
        return write(
            plan=replace(run.plan, strategy=strategy.name),
            config=replace(run.config, strategies=(strategy,)),
            corpus=replace(run.corpus, **corpus),
        )

    text = card_by(Supervised())
    assert "\n- Learned from: the answers in" in text and "No teacher's answer was used.\n" in text
    assert "Teacher: second" not in text and "`larger`, trained by Stratos" in text
    assert "- Learned from: questions that the task" in card_by(Injection(name="injection"))
    text = card_by(Augmentation(), teacher_tokens=10)
    assert "- Teacher: second (licence: MIT)." in text and "`larger`, distilled by Stratos" in text


def test_a_baseline_that_is_as_good_comes_before_the_ratio(write, scorecard):
    student, linear = [RIGHT] * 59 + [FALSE], [FALSE] + [RIGHT] * 59
    versus = against(ModelScore("linear", "TF-IDF with logistic regression", ()), student, linear)
    text = write(scorecard=replace(scorecard, against=(versus,)))
    assert (
        "nothing shows that the student is better, so you need no model.**\n\n## Measured" in text
    )
    assert text.index("You need no model for this") < text.index("accuracy is about 1.95 times")


def test_slices_are_told_apart_where_there_are_several(run, write, scorecard):
    row = SliceScore("main", 60, wilson(59, 60), 0.983)
    [whole] = scorecard.scores[0].slices
    student = replace(scorecard.scores[0], slices=(row, whole))
    single = replace(scorecard, scores=(student, *scorecard.scores[1:]))
    text = write(scorecard=single, corpus=replace(run.corpus, n_by_slice={"main": 40}))
    assert "main" not in text and "| this model | all | 60 |" in text


def test_the_card_names_the_file_and_its_labels(run, write, tmp_path):
    """Two projects of the same student had cards that told nothing apart."""
    rows = tmp_path / "tickets.csv"
    rows.write_text("text,label\n" + "".join(f"text {i},label{i % 25}\n" for i in range(500)))

    def lines(task) -> list[str]:
        text = write(config=replace(run.config, task=task))
        return [line for line in text.splitlines() if line.startswith("- Rows: ")]

    [line] = lines(ClassifyTask(str(rows)))
    assert line.startswith("- Rows: `tickets.csv`; labels: `label0`,")
    assert line.endswith(" and 5 more.") and str(tmp_path) not in line
    assert not lines(MahjongTask())


def test_sizes_have_the_whole_of_a_student_that_was_cut_as_it_was_planned() -> None:
    def point(student: str, accuracy: float, mb: float, known: bool = True) -> PlanPoint:
        ends = accuracy - 0.1, accuracy + 0.1
        return PlanPoint(
            *("", student, "supervised", accuracy, 1.0, 1.0, 50.0, {}, 1.0, known, *ends),
            weights_mb=mb,
        )

    frontier = (
        point("gemma_cut", 0.8, 403.0),
        point("gemma", 0.7, 1023.0),
        point("gemma", 0.8, 1023.0),
        point("smollm2", 0.6, 538.0, known=False),
    )
    plan: Any = SimpleNamespace(frontier=frontier, alternatives={"cost": frontier[1]})
    part = SliceScore("all", 100, Interval(0.9, 0.85, 0.94), 0.9)
    score = ModelScore("student", "gemma_cut", (part,))
    served: Any = SimpleNamespace(exports=None, model_mb=410.0, latency_p50_ms=40.0)
    sizes = tried_sizes(None, plan, "gemma_cut", score, served)
    assert [(size.name, size.how, size.accuracy, size.n_bytes) for size in sizes] == [
        ("gemma_cut", "test items", 0.9, 410e6),
        ("gemma", "predicted", 0.8, 1023e6),
    ]
    whole = sizes[1].interval
    assert whole is not None and (whole.low, whole.high) == pytest.approx((0.7, 0.9))


def test_the_card_shows_what_accuracy_each_size_has() -> None:
    interval = Interval(0.9, 0.85, 0.94)
    tried = [
        TriedSize("linear", "cross-validated", 0.87, 200_000, 0.31),
        TriedSize("static", "test items", 0.9, 950_000, 12.4, True, interval),
    ]
    none: Any = SimpleNamespace(depth_curve=())
    card = "# it\n\n## Limits\n\nmany\n"
    shown = with_sizes(card, tried, none)
    assert "| linear | 0.2 | 0.31 ms | 87.0% | cross-validated |\n" in shown
    assert "| **static** (served) | 0.9 | 12 ms | 90.0% (85.0–94.0) | test items |\n" in shown
    assert shown.index("## Sizes") < shown.index("## Limits")
    assert with_sizes(card, tried[:1], none) == card
    assert with_sizes(card, [tried[1], replace(tried[1], is_served=False)], none) == card
    formats = [replace(size, is_format=True) for size in tried]
    assert with_sizes(card, formats, none) == card, "the formats have a table of their own"
    shallow: Any = SimpleNamespace(depth_curve=((29, 80, 82), (28, 79, 82)), layers=(28, 30))
    shown = with_sizes(card, tried[:1], shallow)
    assert "| 29 | 80 | 82 |\n| 28 | 79 | 82 |\n" in shown and "| tried |" not in shown
