from stratos.models.kinds.tagger import ExtractionScore, extraction_scores, majority_object


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
