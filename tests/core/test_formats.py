"""Numbers, counts, lists, progress and foreign text in words."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stratos.report
from stratos.core import formats
from stratos.core.formats import ItemProgress, counted, visible, with_items
from stratos.records import Comparison, Interval, PlanPoint


def test_a_bound_of_nothing_is_not_written():
    one = Interval(0.0, 0.0, 0.05)
    compared = Comparison(67, one, one, 0.5, 0.01, 0, 28, 0.001)
    assert formats.at_least(compared) == ""
    none = replace(compared, ratio=None, ratio_at_least=72.4)
    assert none.least_ratio is None and "×" not in formats.at_least(none)
    assert "none of 67 items right, so at most 5.0%" in formats.at_least(none)
    more = replace(compared, ratio_at_least=1.5)
    assert formats.at_least(more).startswith("at least 1.50× the teacher (the 67 items")


@given(st.floats(1e-3, 500), st.integers(0, 3))
def test_a_bound_is_never_written_stronger_than_it_is(value, digits):
    low, high = (write(value, digits).replace(",", "") for write in (formats.least, formats.most))
    assert float(low) <= value * (1 + 1e-11) and float(high) >= value * (1 - 1e-11)
    assert float(high) - float(low) <= 1.001 * 10**-digits
    assert float(formats.times_least(value)[:-1]) <= value * (1 + 1e-11)
    assert float(formats.times_most(value)[:-1]) >= value * (1 - 1e-11)


@pytest.mark.parametrize(
    ("ratio", "wanted"), [(0.9735, "0.97×"), (0.9781, "0.97×"), (0.9999, "0.99×"), (1.0, "1.00×")]
)
def test_a_ratio_that_is_at_least_so_much_is_rounded_down(ratio, wanted):
    one = Interval(0.9, 0.85, 0.95)
    compared = Comparison(67, one, one, 1.0, ratio, 0, 28, 0.001)
    assert formats.at_least(compared).startswith(f"at least {wanted} the teacher")
    assert formats.at_least(compared).endswith("can show 17.5× at most)")  # 17.44


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (formats.percent_least(0.9919), "99.1%"),
        (formats.percent_most(0.9911), "99.2%"),
        (formats.percent_least(0.29, 0), "29%"),
        (formats.percent_most(0.974, 0), "98%"),
        (formats.percent_most(None), "–"),
        (formats.times_least(63.97), "63.9×"),
        (formats.times_least(None), "–"),
        (formats.percent(0.9912), "99.1%"),
        (formats.percent(None), "–"),
        (formats.percent(math.nan), "–"),
        (formats.percent_range(0.983, 0.996), "98.3–99.6%"),
        (formats.usd(0), "$0"),
        (formats.usd(0.00271), "$0.0027"),
        (formats.usd(0.0594), "$0.059"),
        (formats.usd(12.345), "$12.35"),
        (formats.usd(12345.6), "$12,346"),
        (formats.usd(1e-7), "<$0.0001"),
        (formats.usd(math.inf), "–"),
        (formats.duration(0), "0 s"),
        (formats.duration(0.0031), "3 ms"),
        (formats.duration(59.96), "1 min 00 s"),
        (formats.duration(482.4), "8 min 02 s"),
        (formats.duration(3599.7), "1 h 00 min"),
        (formats.hours(3.0833), "3 h 05 min"),
        (formats.hours(100), "4 d 4 h"),
        (formats.hours(None), "–"),
        (formats.milliseconds(4.26), "4.3 ms"),
        (formats.milliseconds(742.2), "742 ms"),
        (formats.milliseconds(1240), "1.24 s"),
        (formats.magnitude(862_208), "862k"),
        (formats.magnitude(1_062_400), "1.06M"),
        (formats.count(24_000), "24,000"),
        (formats.n_bytes(3_618_402), "3.6 MB"),
        (formats.times(21.7), "22×"),
        (formats.times(4.26), "4.3×"),
        (formats.p_value(1e-37), "< 0.0001"),
        (formats.p_value(0.0312), "0.031"),
        (formats.sentence("full_flush"), "Full flush"),
        (formats.sentence(formats.measured("exact_match")), "Exact match"),
        (formats.measured("exact"), "exact match"),
        (formats.measured("numeric"), "right numbers"),
        (formats.measured("sql"), "queries with the right rows"),
        (formats.measured("MyOwn_metric"), "MyOwn metric"),
    ],
)
def test_numbers_are_written_as_people_write_them(written, wanted):
    assert written == wanted


@given(st.text(st.characters(codec=None)))
def test_nothing_invisible_or_unencodable_is_left(given_text):
    shown = visible(given_text)
    shown.encode()
    assert all(
        character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Cf", "Co")
        for character in shown
    )


def test_ordinary_text_stays_as_it_is():
    words = "123m456p – größer, 七対子 ✓\n\tnext"
    assert visible(words) == words
    assert visible("\x1b[31m\x07\x7f\u202e\x9b\ud800") == "␛[31m␇␡<U+202E><U+009B><U+D800>"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1])
def test_text_stands_out_in_both_themes(theme):
    css = (Path(stratos.report.__file__).parent / "templates" / "style.css").read_text()
    colours = dict(
        re.findall(r"--([\w-]+): (#\w{6});", css.split("* { box-sizing")[0].split("@media")[theme])
    )
    for ink in ("ink", "muted", "student", "teacher", "good", "bad"):
        for paper in ("page", "surface"):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {paper}"


def test_a_predicted_accuracy_has_its_interval_and_an_unknown_one_its_bound():
    point = PlanPoint("t", "s", "injection", 0.977, 1.0, 1.0, 1.0, {}, 0.0)
    known = replace(point, accuracy_low=0.961, accuracy_high=0.987)
    assert formats.accuracy(known) == "97.7% (96.1–98.7%)"
    unknown = replace(point, accuracy=0.0, accuracy_known=False)
    assert formats.accuracy(unknown) == "unknown"
    assert formats.accuracy(replace(unknown, accuracy_high=0.861)) == "≤ 87%, not measured"


@pytest.mark.parametrize(
    ("n", "words", "spec", "said"),
    [
        (0, ("item",), "", "0 items"),
        (1, ("item",), "", "1 item"),
        (2, ("item",), "", "2 items"),
        (1, ("try", "tries"), "", "1 try"),
        (3, ("try", "tries"), "", "3 tries"),
        (1, ("item is", "items are"), "", "1 item is"),
        (2000, ("item is", "items are"), "", "2000 items are"),
        (2000, ("item",), ",", "2,000 items"),
        (1.0, ("hour",), "g", "1 hour"),
        (1.5, ("hour",), "g", "1.5 hours"),
        (1.04, ("item",), ".2g", "1 item"),  # what is read decides, not what was rounded
    ],
)
def test_a_count_and_its_noun_agree(n, words, spec, said):
    assert counted(n, *words, spec=spec) == said


def test_what_has_one_reason_is_one_line_with_a_count():
    from stratos.core.formats import by_reason

    left_out = {f"s{i}": "needs 30 GiB" for i in range(20)} | {"t": "has no key", "u": "has no key"}
    assert by_reason(left_out) == [
        ("s0, s1, s2, s3 and 16 more (20 in all)", "needs 30 GiB"),
        ("t and u", "has no key"),
    ]


def test_items_rate_and_time_left_follow_each_part():
    now = 100.0
    progress = ItemProgress(lambda: now)
    assert progress.text("student", 1, 500) == "student · 1 of 500"
    now = 110.0
    assert progress.text("student", 21, 500) == "student · 21 of 500 · 2/s · 4:00 left"
    # Another part has a clock of its own.
    assert progress.text("teacher", 1, 40) == "teacher · 1 of 40"
    now = 120.0
    assert progress.text("teacher", 3, 40) == "teacher · 3 of 40 · 0.2/s · 3:05 left"
    assert progress.text("teacher", 40, 40) == "teacher · 40 of 40"


def test_what_has_no_items_yet_keeps_its_words():
    told: list[tuple[float, float, str]] = []
    tick = with_items(lambda done, total, text="": told.append((done, total, text)))
    tick(0, 64, "server starts")
    tick(8, 64, "requests")
    assert told == [(0, 64, "server starts"), (8, 64, "requests · 8 of 64")]
