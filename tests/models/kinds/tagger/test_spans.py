import pytest

from stratos.models.kinds.tagger.spans import Extraction, learn, learn_base, options, spans
from stratos.models.kinds.tagger.tagged_text import Vocabulary, read
from stratos.tasks.readings import dates, later, numbers, times


def values(text, extraction, base=None):
    return [c.value for c in options(read(text), extraction, base).candidates]


def test_a_stated_or_proven_order_of_day_and_month_decides():
    extraction = Extraction("date", "date", ("dmy",))
    assert values("dates MM/DD/YYYY\nissued 03/04/2025", extraction) == ["2025-03-04"]
    assert values("03/04/2025 03/14/2025", extraction) == ["2025-03-04", "2025-03-14"]
    assert values("03/04/2025", extraction) == ["2025-04-03", "2025-03-04"]


def test_the_reader_is_learned_from_values():
    texts = [f"{n} boxes for Ann Lee{n} by {n} May 2025" for n in range(1, 9)]
    rows = list(enumerate(map(read, texts), 1))
    assert learn("date", [(d, f"2025-05-0{n}") for n, d in rows])[0].reader == "date"
    assert learn("n", [(d, n) for n, d in rows])[0].reader == "number"
    name, share = learn("name", [(d, f"ann lee{n}") for n, d in rows])
    assert (name.reader, name.readings, share) == ("text", ("lower",), 1.0)
    assert spans(rows[0][1], name, "ann lee1") == [(3, 4)]
    assert learn("other", [(d, f"zzz{n}") for n, d in rows])[1] == 0


def test_a_word_that_spells_its_value_may_stand_beside_another():
    rows = [(f"€ {n} in all", "EUR") for n in range(10, 20)]
    rows += [(f"GBP {n} in all", "GBP") for n in range(20, 32)]
    rows += [(f"USD {n}, and not GBP {n} as last year", "USD") for n in range(40, 46)]
    learnt, share = learn("currency", [(read(text), value) for text, value in rows])
    assert learnt.reader == "lexicon" and share == 1.0
    assert learnt.lexicon == {"€": "EUR", "gbp": "GBP", "usd": "USD", **learnt.lexicon}


def test_a_value_of_a_single_row_is_learnt_where_words_spell_it():
    rows = [(f"€ {n} in all", "EUR") for n in range(10, 30)]
    rows += [(f"GBP {n} in all", "GBP") for n in range(30, 42)]
    rows += [("SEK 77 in all, soon", "SEK"), ("paid by gift card, 10 in all", "gift card")]
    learnt, _ = learn("currency", [(read(text), value) for text, value in rows])
    assert values("now SEK 12", learnt) == ["SEK"]
    assert values("two on a Gift card", learnt) == ["gift card"]
    assert not values("soon by card", learnt), "of other words, one row tells nothing"


def test_a_date_may_be_another_one_plus_a_count():
    texts = [f"made 2025-01-0{n}, net {n + 7} days" for n in range(1, 9)]
    made = [f"2025-01-0{n}" for n in range(1, 9)]
    due = [f"2025-01-{2 * n + 7:02d}" for n in range(1, 9)]
    due_date = Extraction("due", "date", ())
    learnt, share = learn_base(due_date, [read(t) for t in texts], due, {"made": made})
    assert (learnt.base, learnt.readings, share) == ("made", ("days",), 1.0)
    assert values("made 2025-02-01, net 30 days", learnt, "2025-02-01") == ["2025-03-03"]


def test_amounts_that_add_up_are_described():
    document = read("Net 100.00\nVAT 19% 19.00\nTotal 119.00")
    number = Extraction("total", "number", ("decimal.", "plain"))
    choice = options(document, number)
    by_value = dict(zip([c.value for c in choice.candidates], choice.features, strict=True))
    assert "is_sum" in by_value[119.0]
    assert "is_rate_of" in by_value[19.0]


#


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


def test_nothing_of_an_address_is_kept():
    for spaced in (True, False):
        documents = [read("write to ann.lee@example.com today", spaced=spaced)] * 3
        names = Vocabulary.fitted(documents, 2).names
        assert "w=write" in names and not any("ann" in name or "xam" in name for name in names)
