"""GSM8K and AIME: official test questions, gold answers read back, sums checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stratos.tasks.base import Item, Task
from stratos.tasks.math import AimeTask, MathTask
from stratos.tasks.numbers import n_steps, without_marks, wrong_step
from stratos.tasks.words import NeverReached, WrongStep

GSM8K = Path(__file__).parents[2].parent / "shared" / "gsm8k"
SPLITS = ("train", "validation", "test")


def gsm8k() -> MathTask:
    if not GSM8K.is_dir():
        pytest.skip("no GSM8K beside the checkout")
    return MathTask(
        str(GSM8K / "train.jsonl"), test_path=str(GSM8K / "test.jsonl"), split_answer="####"
    )


# --- GSM8K ---------------------------------------------------------------------------------------


def test_every_gold_answer_of_gsm8k_is_read_back():
    task = gsm8k()
    assert isinstance(task, Task)
    for path in (task.path, task.test_path):
        for line in Path(str(path)).read_text().splitlines():
            text = json.loads(line)["answer"]
            gold = text.rpartition("####")[2].strip().replace(",", "")
            assert task.parse(text) == gold
    for split in SPLITS:
        for item in task.items(split, 10_000):
            assert task.score(task.completion(item), item).exact == 1


def test_the_official_test_file_is_the_test_split():
    task = gsm8k()
    sizes = [len(task.items(split, 10_000)) for split in SPLITS]
    assert sizes[2] == 1319
    assert sum(sizes[:2]) + sum(task.left_out.values()) == 7473
    families = [{item.family for item in task.items(split, 10_000)} for split in SPLITS]
    assert not families[2] & (families[0] | families[1])


def test_few_of_the_gold_solutions_do_not_verify():
    task = gsm8k()
    items = task.items("train", 2_000)
    wrong = [item for item in items if task.verify(item) is not None]
    assert 0 < len(wrong) < 0.01 * len(items), "the data set has some wrong sums, and few"
    assert not any("<<" in item.rationale for item in items)
    sums = sum(n_steps(item.rationale) for item in items)
    assert sums > 2 * len(items)
    # A changed number is found.
    right = next(item for item in items if n_steps(item.rationale) and task.verify(item) is None)
    at = right.rationale.index("= ") + 2
    changed = f"{right.rationale[:at]}1{right.rationale[at:]}"
    assert str(task.verify(replace(right, rationale=changed))).endswith("does not come out")


@pytest.mark.slow
def test_what_is_left_of_gsm8k_that_does_not_verify():
    task = gsm8k()
    items = [item for split in SPLITS for item in task.items(split, 10_000)]
    problems = [problem for item in items if (problem := task.verify(item)) is not None]
    assert len(items) == 8792
    assert sum(isinstance(problem, WrongStep) for problem in problems) == 25
    assert sum(isinstance(problem, NeverReached) for problem in problems) == 6
    assert len(problems) == 31


@pytest.mark.parametrize(
    ("answer", "path", "holds"),
    [
        ("118000", "Hence his net proceeds are $400 000 - $282 000 = $118 000.", True),
        ("25", "Each costs 40/160 = $0.25.", True),
        ("25", "Each weighs 40/160 = 0.25 kg.", False),
        ("50", "Each costs 40/160 = $0.25.", False),
        ("140", "There are 100+20 = 120 of them.", False),
    ],
)
def test_a_path_has_to_reach_the_answer(tmp_path, answer, path, holds):
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(9)]
    task = MathTask(write(tmp_path / "rows.jsonl", rows))
    problem = task.verify(Item("", "", "How many?", answer, rationale=path))
    assert problem == (None if holds else NeverReached(answer))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("9 * 2 = $<<9*2=18>>18 a day", None),
        ("9 * 2 = 19", "9 * 2 = 19"),
        ("16 - 3 – 4 = 9 eggs", None),
        ("10 / 3 = 3.33", None),
        ("10 / 3 = 3.34", None),
        ("10 / 3 = 3.4", None),
        ("10 / 3 = 3.5", "10 / 3 = 3.5"),
        ("1,000 x 3 = 3,000", None),
        ("(2 + 3) * 4 = 20 and 20 / 5 = 3", "20 / 5 = 3"),
        ("80,000 * 150% = 120,000", None),
        ("1/4 = 25%", None),
        ("In all, 2 + 2 = 5.", "2 + 2 = 5"),
        ("It is over. 2 + 2 = 5", "2 + 2 = 5"),
        ("2 + 2 = 2 * 2 = 4", None),
        ("2x + 4 = 10", None),
        ("84 holes / 3 holes a day = 27 days", None),
        ("$1 / 2 = 50 cents", None),
        ("5 / 0 = 1", None),
        ("1 + = 5", None),
        ("((((1 + 1 = 3", None),
        ("2 <= 3 and 1 + 1 == 2", None),
        ("25 / 1/3 = 75, 3/ 1/4 = 12 and $2000 / 2/3 = $3000", None),
        ("500/ 2/5 = 200", "500/ 2/5 = 200"),
        ("25 / 1/3 = 8.33", "25 / 1/3 = 8.33"),
        ("25/1/5 = 5", None),
        ("600 x 30 = 18 000 watts", None),
        ("600 x 30 = 19 000 watts", "600 x 30 = 19 000"),
        ("12*1000=12,000MB", None),
        ("14, 400 / 80 = 180 pages", None),
        ("14, 400 / 80 = 5 pages", None),
        ("14, 400 / 80 = 190 pages", "400 / 80 = 190"),
        ("Of 14, 40 / 8 = 6 are left", "40 / 8 = 6"),
        (".8 + . 84 + .82 = 2.46", None),
        ("0900-0130 = 0730 hours", None),
        ("0.5 * 4 = 3", "0.5 * 4 = 3"),
        ("Each 1% is $7500/75% = $100.", None),
        ("So each 1% is 180/150 = 1.2, and its height was 1.2 x 100% = 120.", None),
        ("One percent is 3, so it was 3 x 100% = 300.", None),
        ("1.2 x 100% = 120", "1.2 x 100% = 120"),
        ("11% of it is $7500/75% = $100.", "$7500/75% = 100"),
        ("Each 1% is $7500/75% = $101.", "$7500/75% = 101"),
        ("It loses 5 thousand dollars a day: 5 * 3 = $15,000.", None),
        ("2.5 million a year: 4 * 2.5 = 10,000,000", None),
        ("It loses 5 thousand dollars a day: 5 * 3 = $16,000.", "5 * 3 = 16,000"),
        ("It loses 5 dollars a day: 5 * 3 = $15,000.", "5 * 3 = 15,000"),
        ("It loses 15 thousand dollars a day: 5 * 3 = $15,000.", "5 * 3 = 15,000"),
        ("10 pages on day 1 * 2 = 20 pages", None),
        ("On each day 1 * 2 = 20 pages", "1 * 2 = 20"),
        ("After 10 pages on day 1, 2 * 3 = 20", "2 * 3 = 20"),
        ("", None),
    ],
)
def test_sums(text, wrong):
    step = wrong_step(without_marks(text))
    assert (None if step is None else f"{step.calculation} = {step.result}") == wrong


@pytest.mark.parametrize("text", ["1+" * 50_000 + "=2", "(" * 50_000 + "=1", "=" * 50_000])
def test_hostile_sums_are_passed_over(text):
    assert wrong_step(text) is None


# --- AIME ----------------------------------------------------------------------------------------


def problems(year: int, n: int, field: str = "Question") -> list[dict[str, Any]]:
    return [
        {"Year": year, field: f"Find the remainder of {year} times {k} by 1000.", "Answer": k}
        for k in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_all_thirty_of_each_named_year_are_tested_and_none_is_trained_on(tmp_path):
    rows = [row for year in range(2010, 2024) for row in problems(year, 30)] + problems(2024, 15)
    path = write(tmp_path / "aime.jsonl", rows)
    with pytest.raises(ValueError, match=r"AIME 2024 has 30 problems, .* has 15 of them"):
        AimeTask(path, years=(2024,))
    # The same problems in another file, with other names and another spelling.
    asked = [{"problem": f" {r['Question'].upper()} ", "answer": r["Answer"]} for r in rows]
    tests = {"2024": write(tmp_path / "2024.jsonl", [*asked[-15:], *asked[:15]])}
    task = AimeTask(path, years=(2022, 2024), test_paths=tests)
    assert isinstance(task, Task)
    items = task.items("test", 1000)
    assert len(items) == 60
    assert len(task.items("test", 1000, slice="2022")) == 30
    rest = task.items("train", 1000) + task.items("validation", 1000)
    assert not any("of 2022 " in i.question or "of 2024 " in i.question for i in rest)
    assert task.left_out == {"training question of the test file": 15}
    assert len(rest) == 13 * 30 - 15
    assert task.score(r"… so it is \boxed{007}.", Item("", "", "", "7")).exact == 1


def test_years_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="name at least one"):
        AimeTask("x", years=())
    with pytest.raises(ValueError, match=r"test_paths.2020: that year is not among years"):
        AimeTask("x", years=(2024,), test_paths={"2020": "y"})
