import json
from random import Random

import pytest

from stratos.models.kinds.base import load_predictor
from stratos.models.kinds.tagger import cannot_tag, fit_tagger
from stratos.models.kinds.tagger.fields import Amount, amounts_of, joined, split

TEXTS = [f"it costs {sign}{n}.50 in all" for n in range(10, 30) for sign in ("€", "$")]
ANSWERS = [
    {"a": {"total": f"{n}.50 {unit}"}} for n in range(10, 30) for unit in ("EUR", "USD")
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("12.50 EUR", Amount(("x",), False, " ", 2)),
        ("EUR 12.50", Amount(("x",), True, " ", 2)),
        ("€12", Amount(("x",), True, "", 0)),
        ("3.5kg", Amount(("x",), False, "", 1)),
    ],
)
def test_a_value_is_the_same_when_written_together_again(value: str, amount: Amount) -> None:
    apart = split({"x": value, "y": 1}, [amount])
    assert list(apart) == ["x (number)", "x (unit)", "y"]
    assert joined(apart, [amount]) == {"x": value, "y": 1}


def test_only_what_the_text_writes_otherwise_is_split() -> None:
    assert amounts_of(TEXTS, ANSWERS) == (Amount(("a", "total"), False, " ", 2),)
    shown = [f"it costs {answer['a']['total']} in all" for answer in ANSWERS]
    assert amounts_of(shown, ANSWERS) == ()
    assert amounts_of(TEXTS, [{"a": f"{n} item{n}"} for n in range(len(TEXTS))]) == ()
    assert amounts_of(TEXTS, [{"a": n} for n in range(len(TEXTS))]) == ()


def test_amounts_are_read_saved_and_absent_where_the_text_has_none(tmp_path) -> None:
    rows = list(zip(TEXTS, map(json.dumps, ANSWERS), strict=True))
    Random(0).shuffle(rows)
    texts, answers = map(list, zip(*rows, strict=True))
    assert cannot_tag(texts, answers) is None
    fit_tagger(texts, answers).tagger.save(tmp_path)
    known, other = load_predictor(tmp_path).predict(["it costs $44.50 in all", "hello there"])
    assert json.loads(known.text) == {"a": {"total": "44.50 USD"}}
    assert json.loads(other.text)["a"]["total"] in ("", None)
