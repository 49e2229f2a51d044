import itertools
import json
import random
import re

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scipy.optimize import check_grad
from scipy.sparse import csr_matrix

from stratos.models.kinds import load_predictor
from stratos.models.kinds.tagger import (
    ExtractionScore,
    Method,
    cannot_tag,
    extraction_scores,
    fit_tagger,
    majority_object,
    rank,
)
from stratos.models.kinds.tagger.labels import expectations, fit_chain, viterbi
from stratos.tasks.answers import object_of, same
from stratos.tasks.readings import later

SCHEMA = {
    "type": "object",
    "properties": {
        "number": {"type": "string", "pattern": "^[A-Z]+-[0-9]+$"},
        "date": {"type": "string", "format": "date"},
        "due": {"type": ["string", "null"]},
        "total": {"type": "number"},
        "urgent": {"type": "boolean"},
    },
    "required": ["number", "date", "due", "total", "urgent"],
    "additionalProperties": False,
}
MONTHS = ["January", "February", "March", "April", "May", "June"]
STRANGE = ("", "hello", "Bill QQ of 99 May 2025", "1 2 3 4 5 6 7 8 9", "\n\n|||", "RX-1 " * 50)


def bill(source):
    """Make a short bill: the due date is stated, follows from a count of days, or is absent."""
    month, day, n = source.randint(1, 6), source.randint(1, 28), source.randint(100, 999)
    date, total = f"2025-{month:02d}-{day:02d}", source.randint(100, 99999) / 10
    days, mode, urgent = source.choice([7, 14, 30]), source.random(), source.random() < 0.5
    due = next(later(date, days)).value if mode < 0.7 else None
    terms = f"Due on {due}." if mode < 0.7 else "Thank you."
    terms = f"Terms: net {days} days." if mode < 0.4 else terms
    call = "Please pay at once!" if urgent else "No rush."
    order = source.choice(
        ["Bill {0} of {1}, {2} EUR. {3} {4}", "{3} {4} Date {1}. Sum {2} EUR, bill {0}."]
    )
    text = order.format(f"RX-{n}", f"{day} {MONTHS[month - 1]} 2025", f"{total:,.2f}", terms, call)
    answer = {"number": f"RX-{n}", "date": date, "due": due, "total": total, "urgent": urgent}
    return text, json.dumps(answer)


def bills(seed, n):
    source = random.Random(seed)
    return tuple(map(list, zip(*[bill(source) for _ in range(n)], strict=True)))


@pytest.fixture(scope="module")
def fit():
    texts, answers = bills(0, 80)
    ticks = []
    fit = fit_tagger(texts, answers, schema=SCHEMA, tick=lambda: ticks.append(1))
    assert ticks
    return fit


def share_right(tagger, texts, answers):
    return np.mean([
        same(object_of(p.text), json.loads(answer))
        for p, answer in zip(tagger.predict(texts), answers, strict=True)
    ])  # fmt: skip


def test_bills_are_read(fit):
    assert share_right(fit.tagger, *bills(1, 60)) >= 0.9
    assert all(0 <= p.probability <= 1 for p in fit.tagger.predict(bills(1, 9)[0]))


def test_the_fit_says_what_cross_validation_shows(fit):
    assert fit.n_rows == len(fit.right) == 80
    known, low, high = fit.known
    assert fit.holds_out_layouts and fit.n_layouts == 4, "two orders of two terms"
    assert 0.6 <= low < known <= high == fit.expected[2] <= 1
    assert fit.low < fit.accuracy <= fit.high
    assert fit.accuracy < known, "new wordings are harder"
    methods = {field.name: field.method for field in fit.fields}
    assert methods["urgent"] is Method.FEW
    assert {methods[name] for name in ("number", "date", "total")} <= {Method.RANK, Method.CHAIN}
    assert fit.cpu_seconds > 0


def test_a_new_wording_lowers_the_probability(fit):
    known, new = (
        bills(3, 20)[0],
        ["Kindly note RX-123 costs 99.50 EUR since 3 May 2025, cheers"] * 3,
    )
    sure = [np.mean([p.probability for p in fit.tagger.predict(texts)]) for texts in (known, new)]
    assert sure[1] < sure[0] - 0.2


def test_a_text_beside_freely_worded_rows_is_as_sure_as_these():
    source = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfg" for b in "aeio" for c in "lmnr"]

    def free(n):
        return [f"{' '.join(source.sample(words, 8))} {source.randint(10, 99)}" for _ in range(n)]

    texts = free(80) + [f"please send the {n} boxes to me soon" for n in range(10, 20)]
    answers = [json.dumps({"n": int(re.search(r"\d+", text)[0])}) for text in texts]
    fit = fit_tagger(texts, answers)
    assert not fit.holds_out_layouts
    # At even odds where a text of no known wording were one of a new wording.
    assert np.mean([p.probability for p in fit.tagger.predict(free(20))]) > 0.9


def test_answers_match_the_schema_whatever_the_text(fit):
    check = Draft202012Validator(SCHEMA)
    for prediction in fit.tagger.predict(STRANGE):
        assert check.is_valid(json.loads(prediction.text))
    assert fit.tagger.predict([]) == []


def test_a_saved_tagger_answers_the_same(fit, tmp_path):
    fit.tagger.save(tmp_path)
    texts, _ = bills(2, 20)
    loaded = load_predictor(tmp_path)
    assert loaded.predict([*texts, *STRANGE]) == fit.tagger.predict([*texts, *STRANGE])
    assert loaded.n_params == fit.tagger.n_params > 0
    assert {path.name for path in tmp_path.iterdir()} == {"student.json", "student.safetensors"}


def test_lists_are_read_by_the_chain(tmp_path):
    source, names = random.Random(0), "tea milk rice bread soup salt".split()  # noqa: SIM905
    rows = []
    for _ in range(60):
        items = [{"n": n, "q": source.randint(2, 9)} for n in source.sample(names, 2)]
        spoken = " and ".join(f"{item['q']} {item['n']}" for item in items)
        rows.append((f"Please send {spoken} today.", json.dumps({"items": items})))
    texts, answers = zip(*rows, strict=True)
    fit = fit_tagger(texts, answers)
    assert fit.fields[0].method is Method.CHAIN
    assert fit.accuracy > 0.8
    fit.tagger.save(tmp_path)
    assert load_predictor(tmp_path).predict(texts[:9]) == fit.tagger.predict(texts[:9])


def test_rows_of_weight_zero_teach_nothing():
    rows = [(f"From {k} to {k + 500}.", f'{{"n": "{k}"}}') for k in range(100, 150)]
    wrong = [(text, f'{{"n": "{k + 600}"}}') for k, (text, _) in enumerate(rows)]
    texts, answers = zip(*rows, *wrong, strict=True)
    weights = np.array([1.0] * 50 + [0.0] * 50)
    tagger = fit_tagger(texts, answers, row_weights=weights).tagger
    assert share_right(tagger, texts[:50], answers[:50]) == 1


def test_fields_that_cannot_be_read_are_named():
    source = random.Random(0)
    texts, answers = bills(0, 60)
    coded = [
        json.dumps({"total": json.loads(answer)["total"], "code": f"{source.random():.9f}"})
        for answer in answers
    ]
    assert cannot_tag(texts, answers) is None
    assert "code" in cannot_tag(texts, coded)
    assert "total" not in cannot_tag(texts, coded)
    fields = {field.name: field for field in fit_tagger(texts, coded).fields}
    assert fields["code"].method is Method.CANNOT
    assert fields["code"].score.exact < 0.1
    assert fields["total"].score.exact > 0.8


def test_empty_texts_and_answers_are_rows():
    rows = [("", "{}"), (" ", "{}"), ("Ann", '{"a": "Ann"}'), ("Bo", '{"a": "Bo"}')] * 5
    tagger = fit_tagger(*map(list, zip(*rows, strict=True))).tagger
    assert [p.text for p in tagger.predict(["Ann", ""])] == ['{"a": "Ann"}', "{}"]


@pytest.mark.parametrize(
    ("schema", "total"),
    [
        (None, None),
        ({"type": "object", "properties": {"total": {"type": ["number", "null"]}}}, None),
        ({"type": "object", "properties": {"total": {"type": "number"}}}, 8),
    ],
)
def test_no_number_stands_for_a_text_without_any_unless_the_schema_wants_one(schema, total):
    numbers = [8, *range(10, 29)]
    texts = [f"the order costs {n} euros in all" for n in numbers]
    answers = [json.dumps({"total": n}) for n in numbers]
    tagger = fit_tagger(texts + texts[:1], answers + answers[:1], schema=schema).tagger
    known, empty, unrelated = tagger.predict(["the order costs 14 euros in all", "", "hello there"])
    assert json.loads(known.text) == {"total": 14}
    assert json.loads(empty.text) == json.loads(unrelated.text) == {"total": total}
    assert unrelated.probability < 0.5


def test_a_value_of_few_rows_is_answered_where_it_stands_in_the_text():
    source, signs = random.Random(0), {"EUR": "€", "GBP": "£"}
    rows = [
        (source.choice([signs[code], code]), code, source.randint(10, 999))
        for code in source.choices(list(signs), k=40)
    ]
    rows += [("SEK", "SEK", 77), ("SEK", "SEK", 412)]
    texts = [f"we owe {sign} {total} in all" for sign, _, total in rows]
    answers = [json.dumps({"currency": code, "total": total}) for _, code, total in rows]
    [answer] = fit_tagger(texts, answers).tagger.predict(["we owe SEK 31 in all"])
    assert json.loads(answer.text) == {"currency": "SEK", "total": 31}


@pytest.mark.parametrize("answers", [["yes"] * 20, ["{}"] * 20, ['{"a": "b"}'] * 5, ["[1]"] * 20])
def test_rows_that_are_no_objects_or_too_few_are_refused(answers):
    assert cannot_tag(["a"] * len(answers), answers)


def test_too_few_rows_are_an_error():
    with pytest.raises(ValueError, match="10 rows"):
        fit_tagger(["a"], ['{"b": "a"}'])


def test_scores_by_field():
    golds = [{"a": "x", "b": {"c": 1}}, {"a": "y", "b": {"c": None}}, {"a": None}, {}]
    answers = [{"a": "X", "b": {"c": 1.0}}, {"b": {"c": 2}}, {"a": None}, None]
    scores = extraction_scores(golds, answers)
    assert scores["a"] == ExtractionScore(exact=0.75, f1=2 / 3, n_missing=1, n_invented=0)
    assert scores["b.c"] == ExtractionScore(exact=0.75, f1=2 / 3, n_missing=0, n_invented=1)


def test_no_values_and_none_answered_is_right():
    score = extraction_scores([{"a": []}, {"a": None}], [{}, {"a": []}])["a"]
    assert score == ExtractionScore(exact=1.0, f1=1.0, n_missing=0, n_invented=0)


def test_the_majority_is_an_object_of_rows():
    rows = ["{}", "{ }", '{"a": 1}', '{"a": 2, "b": 1}', '{"a": 1, "b": 2}', '{"a": 1.0}', "{}"]
    assert majority_object(rows) == "{}"
    assert majority_object(['{"b": 1, "a": 2}', '{"a":2,"b":1}', '{"a":2,"b":1}']) == (
        '{"a":2,"b":1}'
    )


# The two models against brute force, and their gradients against differences.


def test_the_chain_agrees_with_a_sum_over_all_paths():
    source = np.random.default_rng(0)
    scores, moves = source.normal(size=(4, 3)), source.normal(size=(3, 3))
    paths = {
        path: sum(scores[t, y] for t, y in enumerate(path))
        + sum(moves[a, b] for a, b in itertools.pairwise(path))
        for path in itertools.product(range(3), repeat=4)
    }
    log_z, marginals, pairs = expectations(scores[None], moves, np.ones(1))
    assert log_z == pytest.approx(np.logaddexp.reduce(list(paths.values())))
    mass = {path: np.exp(score - log_z) for path, score in paths.items()}
    assert marginals[0, 2, 1] == pytest.approx(sum(p for path, p in mass.items() if path[2] == 1))
    expected = sum(p * list(itertools.pairwise(path)).count((0, 1)) for path, p in mass.items())
    assert pairs[0, 1] == pytest.approx(expected)
    path, best = viterbi(scores, moves)
    assert tuple(path) == max(paths, key=paths.__getitem__)
    assert best == pytest.approx(max(paths.values()))


def test_the_chain_learns_what_its_weighted_rows_say():
    features = [np.array([[1], [2]]), np.array([[1], [2]])]
    targets = [["A", "O"], ["O", "A"]]
    for weights, expected in (([9.0, 1.0], "AO"), ([1.0, 9.0], "OA")):
        labels, certain, p = fit_chain(features, targets, np.array(weights)).decode(features[0])
        assert "".join(labels) == expected
        assert 0 < p <= 1
        assert certain.shape == (2,)


def test_the_gradient_of_the_ranker_is_that_of_its_loss():
    source = np.random.default_rng(0)
    owner = np.array([0, 0, 0, 1, 1])
    right = np.array([True, False, True, False, False])
    none, weights = csr_matrix((5, 1)), np.array([1.0, 2.5])
    null_right = np.array([False, True])
    problem = rank.Problem(none, none, owner, owner, owner, right, null_right, weights, False)
    error = check_grad(
        lambda w: rank.loss(w[:5], w[5], problem)[0],
        lambda w: np.append(*rank.loss(w[:5], w[5], problem)[1:]),
        source.normal(size=6),
    )
    assert error < 1e-5
