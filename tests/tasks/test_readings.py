import pytest

from stratos.models.kinds.tagger.tagged_text import Vocabulary, read
from stratos.tasks.readings import dates, later, numbers, times


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.50", {1234.5}),
        ("1.234,50", {1234.5}),
        ("1 234,50", {1234.5}),
        ("1.234.567", {1234567}),
        ("12", {12}),
        ("seven", {7}),
        ("3x", {3}),
        ("1,234", {1234, 1.234}),
        ("RX-12", set()),
        ("9" * 5000, set()),
    ],
)
def test_numbers(text, values):
    assert {reading.value for reading in numbers(text)} == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("14.03.2025", {"2025-03-14"}),
        ("03/04/2025", {"2025-04-03", "2025-03-04"}),
        ("04/04/2025", {"2025-04-04"}),
        ("3 Mar 2025", {"2025-03-03"}),
        ("June 7, 2025", {"2025-06-07"}),
        ("2025/1/2", {"2025-01-02"}),
        ("31.02.2025", set()),
        ("3 May", {f"{year}-05-03" for year in range(2015, 2036)}),
        ("1/1/" + "9" * 5000, set()),
    ],
)
def test_dates(text, values):
    assert {reading.value for reading in dates(text)} == values


@pytest.mark.parametrize(
    ("text", "value"), [("7:30 pm", "19:30"), ("12am", "00:00"), ("18:05", "18:05")]
)
def test_times(text, value):
    assert times(text)[0].value == value


def test_a_month_later_is_the_last_day_of_a_shorter_month():
    assert {d.way: d.value for d in later("2025-12-31", 2)} == {
        "days": "2026-01-02",
        "weeks": "2026-01-14",
        "months": "2026-02-28",
    }
    assert not list(later("9999-12-01", 1)) or all(d.value for d in later("9999-12-01", 1))
    assert list(later("soon", 1)) == []


def test_typed_spans_stay_whole():
    document = read("Invoice/Rechnung RE_2025/7, 3 May 2025: 1 234,50 EUR, S.A.")
    assert document.tokens == [
        *("Invoice", "/", "Rechnung", "RE_2025/7", ",", "3 May 2025", ":", "1 234,50", "EUR"),
        *(",", "S.A."),
    ]


@pytest.mark.parametrize(
    "text", ["Total:  12.50\n\nDue 3 May 2025", "İstanbul 5\n\n|a|", "x", "", "\n"]
)
def test_features_fit_the_vocabulary(text):
    document = read(text)
    vocabulary = Vocabulary.fitted([document], least=1)
    ids = vocabulary.features(document)
    assert len(ids) == len(document)
    assert ids.min(initial=0) >= 0
    assert ids.max(initial=0) < vocabulary.size
    assert len(document.folded) == len(text)
