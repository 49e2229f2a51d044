"""Answer extraction on tricky forms: what must be read, and what must not."""

import random
import time
from fractions import Fraction

import pytest

from stratos.tasks.answers import find_answer, find_number
from stratos.tasks.numbers import numbers_in, write_number

FORMS = [
    # plain, signs and spacing
    ("18", "18"),
    ("  18 \n", "18"),
    ("#### 18", "18"),
    ("####18", "18"),
    ("The answer is 18.", "18"),
    ("The answer is: 18", "18"),
    ("Answer: 18", "18"),
    ("answer = 18", "18"),
    ("The final answer is 18!", "18"),
    ("**Answer:** 18", "18"),
    ("**Final Answer**: 18", "18"),
    ("**Answer: 18**", "18"),
    ("The answer to the question is 18.", "18"),
    ("<answer>18</answer>", "18"),
    ("<answer>\n18 apples\n</answer>", "18"),
    ("=> 18", "18"),
    ("Answer: -3", "-3"),
    ("Answer: −3", "-3"),
    ("Answer: – 3", "-3"),
    ("Answer: +5", "5"),
    ("Answer: 018", "18"),
    ("Answer: １８", "18"),
    # commas, points and groups of digits
    ("Answer: 1,234", "1234"),
    ("Answer: 1,234,567.50", "1234567.5"),
    ("Answer: 12.00", "12"),
    ("Answer: .5", "0.5"),
    ("Answer: 5.", "5"),
    (r"\boxed{1{,}234}", "1234"),
    (r"\boxed{1\,234}", "1234"),
    (r"\boxed{1,\!234}", "1234"),
    ("Answer: 1\u202f234\u202f567", "1234567"),
    # money, units, percent
    ("Answer: $1,234.50", "1234.5"),
    (r"Answer: \$18", "18"),
    ("Answer: 18€", "18"),
    ("Answer: US$ 18", "18"),
    ("Answer: £18 a week", "18"),
    ("Answer: 18 dollars", "18"),
    ("Answer: 18 dollars in 2 days", "18"),
    ("Answer: 5%", "5"),
    (r"\boxed{5\%}", "5"),
    ("Answer: 90°", "90"),
    (r"\boxed{90^\circ}", "90"),
    (r"\boxed{18 \text{ m}^2}", "18"),
    ("Answer: 18 m²", "18"),
    ("Answer: about 18 kg", "18"),
    # fractions and powers
    ("Answer: 3/4", "0.75"),
    ("Answer: 1/3", "1/3"),
    ("Answer: ½", "0.5"),
    ("Answer: 1½ cups", "1.5"),
    ("Answer: 3 1/2", "3.5"),
    (r"\boxed{\frac{3}{4}}", "0.75"),
    (r"\boxed{\dfrac{1}{3}}", "1/3"),
    (r"\boxed{\frac34}", "0.75"),
    (r"\boxed{-\frac{1}{2}}", "-0.5"),
    (r"\boxed{3\frac{1}{2}}", "3.5"),
    ("Answer: 2e6", "2000000"),
    ("Answer: 2×10^6", "2000000"),
    (r"\boxed{2 \times 10^{6}}", "2000000"),
    ("Answer: 10³", "1000"),
    ("Answer: 2^10", "1024"),
    # mark-up around it
    (r"\boxed{18}", "18"),
    (r"$\boxed{18}$.", "18"),
    (r"So it is $$\boxed{\text{18 apples}}$$", "18"),
    (r"\boxed{\textbf{18}}", "18"),
    (r"The answer is \(18\).", "18"),
    ("The answer is:\n\n$$\n18\n$$", "18"),
    ("The answer is `18`", "18"),
    # sums, and more than one number
    ("Answer: 5 + 13 = 18", "18"),
    ("Answer: 9 * 2 = $18 per day", "18"),
    ("Answer: x = 18", "18"),
    ("Answer: 126 days / 7 days a week = <<126/7=18>>18 weeks", "18"),
    ("Answer: $9 * 2 = <<9*2=18>>18", "18"),
    ("Answer: 18, as 9 * 2 = 18 and 2 > 1", "18"),
    ("Answer: In 2 days she makes 18 dollars", "18"),
    ("Answer: 18 (9 a day for 2 days)", "18"),
    ("She sells 9 eggs for 2 dollars each, so she makes 18 dollars.", "18"),
    ("First 5.\nThe answer is 7. Wait.\nThe answer is 18.", "18"),
    ("#### 18\nI hope the answer is right.", "18"),
    ("It is 18.\nI hope this helps!", "18"),
    # nothing to read
    ("", None),
    ("no idea", None),
    ("Answer: none of them", None),
    ("Answer: 1/0", None),
    ("Answer: x86", None),
]


def test_the_table_is_long_enough():
    assert len(FORMS) >= 60
    assert len({text for text, _ in FORMS}) == len(FORMS)


@pytest.mark.parametrize(("text", "number"), FORMS)
def test_tricky_forms(text, number):
    found = find_number(text)
    assert (None if found is None else write_number(found)) == number


def test_every_number_reads_back_from_its_spelling():
    rng = random.Random(0)
    for _ in range(3000):
        top = rng.randrange(-(10 ** rng.randrange(1, 9)), 10**8)
        number = Fraction(top, rng.choice((1, 1, 2, 3, 7, 10, 100, 1000)))
        assert find_number(f"The answer is {write_number(number)}.") == number
        if number.denominator == 1:
            assert find_number(f"#### {number.numerator:,}") == number
            assert find_number(rf"\boxed{{{number.numerator:,} \text{{ dollars}}}}") == number


@pytest.mark.parametrize(
    "text",
    [
        *("1" * 100_000, "1," * 50_000, "1/" * 50_000, "- " * 50_000, "1 + " * 25_000),
        *("{" * 100_000, r"\boxed{" * 2_000, "answer to " * 5_000, "answer is " * 2_000),
        *("9^400^400^400", "1e999", "2^" * 9_999, "<<" * 50_000),
    ],
)
def test_hostile_texts_are_read_in_no_time(text):
    started = time.process_time()
    find_number(text)
    find_answer(text)
    assert time.process_time() - started < 5, "a second is usual, beside other work two"


def test_all_numbers_of_a_text_in_order():
    assert numbers_in("2 of 1,000 at $1.50 (-3%)") == [2, 1000, Fraction(3, 2), -3]
