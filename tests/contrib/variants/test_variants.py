"""Variants of word problems: numbers exchanged, sums worked out anew, and what is left out."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest

from stratos.contrib.variants.number_tokens import NoVariant, UntraceableError
from stratos.contrib.variants.problem_trace import trace
from stratos.contrib.variants.variant_drawer import VariantDrawer, form_of, redrawn
from stratos.tasks.base import Item
from stratos.tasks.math import AimeTask, MathTask
from stratos.tasks.numbers import write_number

GSM8K = Path(__file__).parents[3].parent / "shared" / "gsm8k"
IN_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
IN_WORDS |= {"ten": 10, "eleven": 11, "twelve": 12}


class Row(NamedTuple):
    """A problem, what its answer is of the numbers in the question, and which of these stay."""

    question: str
    solution: str
    answer_of: Callable[..., Fraction]
    kept: tuple[int, ...] = ()


def numbers(text: str) -> list[Fraction]:
    """Read the numbers of a text, words included, as the product does not."""
    found = re.findall(rf"\d[\d,]*(?:\.\d+)?|\.\d+|\b(?:{'|'.join(IN_WORDS)})\b", text.lower())
    return [Fraction(IN_WORDS.get(one, one.rstrip(",").replace(",", ""))) for one in found]


ROWS = {
    "difference": Row(
        "A farm has 48 hens. Foxes take 17 of them. How many are left?",
        "There are 48 - 17 = 31 hens left.",
        lambda hens, taken: hens - taken,
    ),
    "half": Row(
        "Ana sold 48 clips in April and half as many in May. How many clips did she sell?",
        "She sold 48/2 = 24 clips in May.\nShe sold 48+24 = 72 clips altogether.",
        lambda clips: clips + clips / 2,
    ),
    "twice beside a 2": Row(
        "Jo has 2 dogs and 35 birds. Max has twice as many birds. How many animals are there?",
        "Max has 35*2 = 70 birds.\nTogether they have 2+35+70 = 107 animals.",
        lambda dogs, birds: dogs + 3 * birds,
        kept=(0,),
    ),
    "percent as a hundredth": Row(
        "A shirt costs $40 and is 25% off. What is the price now?",
        "The discount is 40*.25 = $10.\nThe price is 40-10 = $30.",
        lambda price, off: price - price * off / 100,
    ),
    "percent over 100": Row(
        "Of 80 pupils, 30% are ill. How many are well?",
        "There are 30/100 * 80 = 24 ill pupils.\nSo 80 - 24 = 56 are well.",
        lambda pupils, share: pupils - pupils * share / 100,
    ),
    "the rest of a percentage": Row(
        "40% of the 50 students eat for free. How many students pay?",
        "100 - 40 = 60% of the students pay.\nThat is 50 * .6 = 30 students.",
        lambda share, pupils: pupils * (100 - share) / 100,
    ),
    "percent of a sum in words": Row(
        "Mia has $60. She spends 20% of it. How much does she spend?",
        "She spends 20% of $60 = $12.",
        lambda money, share: money * share / 100,
    ),
    "money with cents": Row(
        "Pens cost $1.50 each and a pad costs $4.25. How much are 6 pens and a pad?",
        "The pens cost 6 * $1.50 = $9.00.\nTogether they cost $9.00 + $4.25 = $13.25.",
        lambda pen, pad, n: n * pen + pad,
    ),
    "cents in dollars": Row(
        "Apples are 75 cents each. How many dollars do 12 apples cost?",
        "One apple costs $0.75.\nSo 12 apples cost 12 * 0.75 = $9.",
        lambda cents, n: cents * n / 100,
    ),
    "thousands": Row(
        "A car costs $24,000. Lee pays 12 equal rates. How much is a rate, if he has paid $6,000?",
        "There are $24,000 - $6,000 = $18,000 left.\nA rate is $18,000 / 12 = $1,500.",
        lambda price, rates, paid: (price - paid) / rates,
    ),
    "words in the sum": Row(
        "A roll covers 12 feet. A wall is 84 feet long. How many rolls for 2 walls and 3 doors of "
        "8 feet?",
        "The walls are 84 feet * 2 walls = 168 feet.\nThe doors are 8 feet * 3 doors = 24 feet.\n"
        "That is 168 feet + 24 feet = 192 feet, or 192 feet / 12 feet a roll = 16 rolls.",
        lambda roll, wall, walls, doors, door: (wall * walls + door * doors) / roll,
        kept=(0, 2),
    ),
    "age": Row(
        "Ben is 14 years old. His aunt is 3 times as old. How old is she in 5 years?",
        "She is 14 * 3 = 42 years old.\nIn 5 years she is 42 + 5 = 47.",
        lambda age, times, years: age * times + years,
    ),
    "a week": Row(
        "Kim runs 8 miles on each of 4 days a week. How many miles are that in 9 weeks?",
        "Kim runs 8*4 = 32 miles a week.\nThat is 32*9 = 288 miles.",
        lambda miles, days, weeks: miles * days * weeks,
    ),
    "a week of seven days": Row(
        "Zoe reads 7 poems a day and 30 pages a day. How many poems and pages is that in a week?",
        "She reads 7 * 7 = 49 poems.\nShe reads 30 * 7 = 210 pages.\nThat is 49 + 210 = 259.",
        lambda poems, pages: 7 * poems + 7 * pages,
        kept=(0,),
    ),
    "average of three": Row(
        "In 3 games, Al scored 10, 14 and 24 points. What is his average?",
        "He scored 10 + 14 + 24 = 48 points.\nThe average is 48 / 3 = 16 points.",
        lambda games, *points: sum(points) / games,
        kept=(0,),
    ),
    "a result that is also given": Row(
        "A box has 6 rows of 4 eggs. Pat eats 24 eggs in 8 weeks. How many eggs are a box and what "
        "Pat eats in 20 weeks?",
        "A box has 6*4 = 24 eggs.\nPat eats 24/8 = 3 eggs a week.\nThat is 3*20 = 60 eggs.\n"
        "Together they are 24+60 = 84 eggs.",
        lambda rows, eggs, eaten, weeks, more: rows * eggs + eaten / weeks * more,
        kept=(0, 1, 2),
    ),
    "a year": Row(
        "In 1998 a tree was 14 feet tall. It grows 3 feet a year. How tall was it 5 years later?",
        "It grew 3*5 = 15 feet.\nIt was 14+15 = 29 feet tall in 5 years after 1998.",
        lambda year, tall, grows, years: tall + grows * years,
        kept=(0,),
    ),
    "said before it is worked out": Row(
        "Hal buys 3 bags with 11 books each. How many books are left if 8 go?",
        "He buys 33 books because 3 x 11 = 33\nThere are 25 books left because 33 - 8 = 25",
        lambda bags, each, gone: bags * each - gone,
    ),
    "a chain of equals signs": Row(
        "Ivy has 60 balls and loses 20% of them. How many are left?",
        "She loses 20% of 60 = 60 * 20/100 = 12 balls.\nShe has 60 - 12 = 48 balls left.",
        lambda balls, lost: balls * (100 - lost) / 100,
    ),
    "the article": Row(
        "A shop sells an 18-foot rope and a 25-foot rope. How long are both with an 8-foot one?",
        "They are 18 + 25 + 8 = 51 feet long.",
        lambda one, two, three: one + two + three,
    ),
}
OUT = {
    "nowhere": ("Each of 5 spiders has spots: 12 each. How many?", "There are 5*13 = 65.", "65"),
    "rounded": ("10 sweets for 3 children?", "Each gets 10/3 = 3.33.", "3.33"),
    "time of day": ("From 8:30 on, she reads 12 pages in 4 hours. Pages?", "12*4 = 48", "48"),
    "unused": ("Of 30 boys and 12 girls, 4 left. How many girls?", "12-4 = 8 girls", "8"),
    "algebra": ("Twice a number and 9 is 31. Which?", "2x + 9 = 31\n2x = 22\nx = 22/2 = 11", "11"),
    "compared": ("At 3 shops, pens are $9 or $7. Save how much at the cheaper?", "9-7 = 2", "2"),
    "no sum": ("Ann has 12 pens. How many pens has Ann?", "Ann has 12 pens.", "12"),
    "nothing to exchange": ("A week has 7 days. What have 2 pairs?", "2*2*7 = 28 days", "28"),
    "mixed number": ("It took 1 1/2 hours for 30 miles. Twice?", "30*2 = 60", "60"),
    "in words": ("Tom has three boxes of eight pears. How many?", "He has 3 * 8 = 24.", "24"),
    "equal by chance": ("6 rows of 8 in 4 halls, 12 more?", "6*8 = 4*12 = 48 and 48+4 = 52", "52"),
    "large in words": ("Of 5 million people, 30 left, 4 came. Who?", "30-4 = 26", "26"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_variant_has_the_answer_that_its_own_numbers_give(name):
    row = ROWS[name]
    given = numbers(row.question)
    answer = write_number(Fraction(row.answer_of(*given)))
    problem = trace(row.question, row.solution, answer)
    seen: set[tuple[Fraction, ...]] = set()
    for seed in range(30):
        found = redrawn(problem, random.Random(seed))
        assert found is not None
        question, solution, result = found
        new = numbers(question)
        assert len(new) == len(given)
        assert result == row.answer_of(*new), question
        assert [new[k] for k in row.kept] == [given[k] for k in row.kept], question
        # The words are those of the row, and so is the way to the answer.
        assert form_of(question.replace(" an ", " a ")) == form_of(
            row.question.replace(" an ", " a ")
        )
        assert len(numbers(solution)) == len(numbers(row.solution))
        for old, one in zip(given, new, strict=True):
            assert one > 0 and (one == 1) == (old == 1)
            assert (one.denominator == 1) or (old.denominator > 1)
            assert old / 2 <= one <= max(2 * old, old + 3)
        assert len(set(new)) == len(set(given))
        seen.add(tuple(new))
    assert len(seen) > 2 and tuple(given) not in seen
    # What is kept is all that is kept.
    changed = {k for new in seen for k in range(len(given)) if new[k] != given[k]}
    assert changed == set(range(len(given))) - set(row.kept)


@pytest.mark.parametrize("name", OUT)
def test_a_problem_with_a_doubt_about_a_number_has_no_variant(name):
    with pytest.raises(UntraceableError):
        trace(*OUT[name])


def test_how_numbers_are_written_stays():
    def variants(name: str) -> list[tuple[str, str]]:
        row = ROWS[name]
        answer = write_number(Fraction(row.answer_of(*numbers(row.question))))
        problem = trace(row.question, row.solution, answer)
        found = (redrawn(problem, random.Random(seed)) for seed in range(40))
        return [one[:2] for one in found if one is not None]

    for question, solution in variants("money with cents"):
        assert all(re.fullmatch(r"\d+\.\d\d", n) for n in re.findall(r"\$([\d.]*\d)", solution))
        assert re.match(r"Pens cost \$\d+\.\d\d each", question)
    for question, solution in variants("thousands"):
        assert not re.search(r"\d{4}", question + solution)
    for question, _ in variants("percent as a hundredth"):
        [share] = re.findall(r"(\d+)%", question)
        assert int(share) <= 95 and int(share) % 5 == 0
    for question, _ in variants("a week"):
        [days] = re.findall(r"of (\d+) days", question)
        assert 2 <= int(days) <= 7
    articles = {
        (article, n)
        for question, _ in variants("the article")
        for article, n in re.findall(r"\b(an?) (\d+)-foot", question)
    }
    for article, n in articles:
        assert (article == "an") == (n.startswith("8") or n in ("11", "18")), (article, n)


# --- the task ------------------------------------------------------------------------------------


def rows(tmp_path: Path, n: int = 60) -> Path:
    path = tmp_path / "problems.jsonl"
    lines = []
    for k in range(n):
        a, b = 20 + k, 3 + k % 7
        lines.append(
            f'{{"question": "Shop {chr(97 + k % 26)}{chr(97 + k // 26)} has {a} red hats and sells '
            f'{b} hats. How many are left?", "answer": "There are {a}-{b} = <<{a}-{b}={a - b}>>'
            f'{a - b} hats left.\\n#### {a - b}"}}'
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def test_injection_learns_rows_and_variants_or_variants_alone(tmp_path):
    path = str(rows(tmp_path))
    plain = MathTask(path, split_answer="####")
    own = plain.n_train
    assert plain.n_made == 0 and list(plain.reverse(10_000)) == plain.items("train", own)
    both = MathTask(path, split_answer="####", n_drawn=100)
    items = list(both.reverse(10_000))
    assert items[:own] == both.items("train", own) and len(items) == own + 100
    assert both.n_made == 100 and both.left_out == plain.left_out
    alone = MathTask(path, split_answer="####", n_drawn=100, drawn_from="exchanged")
    made = list(alone.reverse(10_000))
    assert len(made) == 100 == len({item.id for item in made})
    assert {item.id for item in made}.isdisjoint(item.id for item in plain.items("train", own))
    assert {i.family for i in made}.isdisjoint(i.family for i in alone.held_out())
    assert all(alone.verify(item) is None and alone.checks_steps(item) for item in made)
    # A shorter draw is the beginning of a longer one; another seed gives others.
    assert list(alone.reverse(30)) == made[:30] == list(MathTask(**vars_of(alone)).reverse(30))
    assert {i.id for i in alone.reverse(100, seed=1)} != {i.id for i in made}
    # What was looked at stays here when the task is sent to other machines.
    sent = pickle.dumps(alone)
    assert len(sent) < 1.5 * len(pickle.dumps(MathTask(**vars_of(alone))))
    assert list(pickle.loads(sent).reverse(30)) == made[:30]
    # Every row has its turn before one has a second.
    assert len({form_of(item.question) for item in made[:own]}) == own


def vars_of(task: MathTask) -> dict[str, object]:
    return {"path": task.path, "split_answer": "####", "n_drawn": 100, "drawn_from": "exchanged"}


def test_a_row_whose_variants_are_used_up_is_left(tmp_path):
    task = MathTask(str(rows(tmp_path)), split_answer="####")
    item = Item("1", "main", "3 bags hold 2 dozen eggs. 2 dozen eggs a bag?", "8",
                rationale="There are 2*12 = 24 eggs.\nA bag holds 24/3 = 8 eggs.")  # fmt: skip
    made = list(VariantDrawer(task.verify).draw([item], 1000, 0))
    assert 1 <= len(made) < 30
    assert len({one.question for one in made}) == len(made)


def test_no_variant_is_made_of_a_held_out_question(tmp_path):
    task = MathTask(str(rows(tmp_path)), split_answer="####")
    [item] = task.items("train", 1)
    other = re.sub(r"\d+", "77", item.question)
    drawn = VariantDrawer(task.verify, frozenset([form_of(other)]))
    assert list(drawn.draw([item], 5, 0)) == []
    assert drawn.left_out == {f"row without a variant: {NoVariant.HELD_OUT}": 1}
    assert len(list(VariantDrawer(task.verify).draw([item], 5, 0))) == 5


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"n_drawn": -1}, "n_drawn must be at least 0"),
        ({"drawn_from": "air", "n_drawn": 5}, "drawn_from=air: it is rows or exchanged"),
        ({"drawn_from": "exchanged"}, "learns from variants that are drawn"),
    ],
)
def test_settings_are_checked(tmp_path, settings, error):
    with pytest.raises(ValueError, match=error):
        MathTask(str(rows(tmp_path)), **settings)  # type: ignore[arg-type]


def test_aime_has_no_variants():
    assert not {"n_drawn", "drawn_from"} & {
        one.name for one in AimeTask.__dataclass_fields__.values() if one.init
    }


# --- GSM8K ---------------------------------------------------------------------------------------

PLAIN_SUM = re.compile(
    r"(?:^|(?<=[a-z]{2} ))((?:\$?[\d.]+ ?[-+*/] ?)+\$?[\d.]+) ?= ?\$?(\d+(?:\.\d+)?)"
    r"(?![\d,])(?! ?[-+*/=%])",
    re.MULTILINE,
)


def worked_out(text: str) -> list[tuple[Fraction, Fraction]]:
    """Read the plain sums of a solution with Python's own arithmetic, and their results."""
    found = []
    for left, right in PLAIN_SUM.findall(text):
        left = re.sub(r"\d+(?:\.\d+)?|\.\d+", r"Fraction('\g<0>')", left.replace("$", ""))
        found.append((eval(left), Fraction(right)))
    return found


def test_variants_of_gsm8k_verify_and_their_sums_come_out():
    if not GSM8K.is_dir():
        pytest.skip("no GSM8K beside the checkout")
    train, test = (str(GSM8K / f"{name}.jsonl") for name in ("train", "test"))
    task = MathTask(train, test_path=test, split_answer="####", n_drawn=160, drawn_from="exchanged")
    made = list(islice(task.reverse(160), 160))
    assert len(made) == 160
    looked_at = sum(n for why, n in task.left_out.items() if why.startswith("row without")) + 160
    assert 0.45 < 160 / looked_at < 0.65
    held = {form_of(item.question) for item in task.held_out()}
    n_sums = 0
    for item in made:
        assert task.verify(item) is None and task.score(task.completion(item), item).exact == 1
        assert form_of(item.question) not in held
        for value, result in worked_out(item.rationale):
            n_sums += 1
            assert value == result, item.rationale
    assert n_sums > 250
