import json
from random import Random

import pytest
from jsonschema import Draft202012Validator

from stratos.models.kinds.base import load_predictor
from stratos.models.kinds.tagger import cannot_tag, fit_tagger
from stratos.models.kinds.tagger.fields import Amount, Form, amounts_of, joined, split
from stratos.models.kinds.tagger.labels import Labelling, align, elements, segments
from stratos.models.kinds.tagger.spans import Extraction
from stratos.models.kinds.tagger.tagged_text import read

NESTED = [
    {"a": 1, "b": {"c": {"d": "x"}}, "items": [{"n": "tea", "q": 2}], "tags": ["u"]},
    {"a": 2, "b": None, "items": [], "tags": []},
    {"a": 3, "items": [{"n": "milk"}], "tags": ["v", "w"]},
]
SCHEMA = {
    "type": "object",
    "properties": {
        "unit": {"$ref": "#/$defs/unit"},
        "n": {"type": "integer", "minimum": 1},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
    },
    "required": ["code", "unit"],
    "additionalProperties": False,
    "$defs": {"unit": {"enum": ["kg", "g"]}},
}


def test_answers_are_taken_apart_and_built_again():
    form = Form.of_rows(NESTED)
    names = [field.name for field in form.fields]
    assert names == ["a", "b.c.d", "items[].n", "items[].q", "tags[]"]
    for answer in NESTED[:2]:
        values = {field.whole: field.value(answer) for field in form.fields}
        assert form.built(values) == (answer, True)


def test_an_object_that_may_be_null_holds_one_that_may_be():
    rows = [{"a": {"b": {"c": 1}}}, {"a": {"b": None}}, {"a": None}, {"a": {}}]
    form = Form.of_rows(rows)
    assert [field.name for field in form.fields] == ["a.b.c"]
    assert form.built({"a.b.c": 1}) == (rows[0], True)
    assert form.built({})[0] == {"a": None}


def test_an_answer_that_is_built_matches_the_schema():
    rows = [{"n": 2, "code": "AB", "unit": "kg"}, {"code": "C", "unit": "g"}]
    form = Form.of_rows(rows, SCHEMA)
    check = Draft202012Validator(SCHEMA)
    some = [None, 2.0, 0, "kg", "ab", True, 1.5, "Q"]
    for code in some:
        for n in some:
            for unit in some:
                answer, _ = form.built({"code": code, "n": n, "unit": unit})
                assert check.is_valid(answer)
    answer, is_valid = form.built({"code": "Q", "n": 2.0, "unit": "g"})
    assert is_valid
    assert list(answer.items()) == [("unit", "g"), ("n", 2), ("code", "Q")]
    assert isinstance(answer["n"], int)


def test_no_row_that_matches_the_schema_is_an_error():
    with pytest.raises(ValueError, match="schema"):
        Form.of_rows([{"unit": "lb"}], SCHEMA)


def test_what_a_field_allows_comes_from_rows_or_the_schema():
    code, n = Form.of_rows([{"code": "AB", "n": 1}, {"code": "C"}]).fields
    assert code.allows("x")
    assert not code.allows(None)
    assert n.allows(None)
    assert not n.allows(True)
    [code] = Form.of_rows([{"code": "AB", "unit": "g"}], SCHEMA).fields[:1]
    assert not code.allows("x")


def test_labels_turn_back_into_elements():
    answer = {"items": [{"n": "tea", "q": 2}, {"n": "apple pie", "q": 1}]}
    form, document = Form.of_rows([answer]), read("two tea and an apple pie")
    readers = [
        Extraction("items[].n", "text", ("exact",)),
        Extraction("items[].q", "number", ("word",)),
    ]
    labelling = Labelling({reader.name: reader for reader in readers})
    labels = align(document, form.fields, answer, labelling)
    assert labels == [
        *("S-items[].q", "B-items[].n", "O", "S-items[].q", "B-items[].n", "I-items[].n")
    ]
    assert elements(document, labelling, form.fields, segments(labels)) == answer["items"]


#

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
