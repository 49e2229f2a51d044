import json
import random

import numpy as np
import pytest

from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.readings import Wordings, folds_of

TEMPLATES = (
    "Book a table for {n} at {p} on {d}.",
    "Could we come to {p}? There are {n} of us, {d}.",
    "{p}, {d}: seats wanted, {n} guests",
    "We are {n} and wish to eat with {p} the evening of {d}",
    "Is {p} free {d}? My party has {n} heads.",
    "Dinner, {n} people; {d} suits us; {p} please",
    "Reserve {p} now - {d} - all {n} chairs",
    "Hello, do you keep space in {p} when {n} friends arrive {d}",
)
PLACES = ("Casa Verde", "Old Mill", "El Toro", "Blue Lagoon", "Taj Palace")


def requests(n_templates, n, seed=0):
    """Return texts, answers and the template of each."""
    source, rows = random.Random(seed), []
    for _ in range(n):
        kind, month = source.randrange(n_templates), source.choice(["May", "June", "July"])
        people, day = source.randint(1, 9), source.randint(1, 28)
        place = source.choice(PLACES)
        text = TEMPLATES[kind].format(n=people, p=place, d=f"{day} {month} 2026")
        rows.append((text, {"people": people, "place": place, "day": day}, kind))
    return map(list, zip(*rows, strict=True))


def test_rows_of_one_template_are_of_one_wording_and_of_one_fold():
    texts, answers, kinds = requests(8, 200)
    wordings, numbers = Wordings.among(texts, answers)
    assert len(set(zip(kinds, numbers.tolist(), strict=True))) == len(set(kinds)) == 8
    _, turned = Wordings.among(texts[::-1], answers[::-1])
    assert (turned[::-1] == numbers).all(), "whatever their order"
    folds, are_whole = folds_of(numbers, 4, seed=0)
    assert are_whole and set(folds) == {0, 1, 2, 3}
    assert all(len(set(folds[numbers == number])) == 1 for number in set(numbers))
    assert not {"casa", "may", "toro"} & set(wordings.words), "values are no words of a wording"


def test_a_new_wording_is_not_known():
    texts, answers, _ = requests(4, 120)
    wordings, _ = Wordings.among(texts, answers)
    known, known_answers, _ = requests(4, 40, seed=1)
    new, new_answers, kinds = requests(8, 80, seed=2)
    assert all(map(wordings.knows, known, known_answers))
    told = [wordings.knows(*row) for row in zip(new, new_answers, strict=True)]
    assert told == [kind < 4 for kind in kinds]
    assert Wordings().knows("anything", {}), "where rows have no wordings"


def test_no_wording_is_known_where_most_texts_are_worded_freely():
    source = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfg" for b in "aeio" for c in "lmnr"]
    free = [" ".join(source.sample(words, 8)) for _ in range(80)]
    texts, answers, _ = requests(1, 20)
    wordings, numbers = Wordings.among(free + texts, [{}] * 80 + answers)
    assert len(set(numbers[80:])) == 1, "rows of one template stay together"
    assert wordings.knows(" ".join(source.sample(words, 8)), {})


@pytest.mark.parametrize("text", ["word{}", "the {} day of a {} man"])
def test_rows_are_held_out_at_random_where_there_is_no_other_wording(text):
    letters = [chr(ord("a") + k % 26) + chr(ord("a") + k // 26) for k in range(40)]
    texts = [text.format(word, word) for word in letters]
    _, numbers = Wordings.among(texts, [{}] * 40)
    folds, are_whole = folds_of(numbers, 4, seed=0)
    assert not are_whole
    assert np.bincount(folds).tolist() == [10, 10, 10, 10]


def written(path, texts, answers):
    """Write rows into a file, and return its path."""
    lines = [
        json.dumps({"question": text, "answer": json.dumps(answer)})
        for text, answer in zip(texts, answers, strict=True)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def kinds_of(splits, texts, kinds):
    """Return the templates of each split."""
    kind_of = dict(zip(texts, kinds, strict=True))
    return {
        name: {kind_of[row.question] for row in rows if row.question in kind_of}
        for name, rows in splits.rows.items()
    }


def many_requests(n_templates, n):
    """Return texts, answers and the template of each, where each template has its own words."""
    source, letters = random.Random(0), "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=6)) for _ in range(5 * n_templates)]
    templates, rows = [words[5 * k : 5 * k + 5] for k in range(n_templates)], []
    for k in range(n):
        (a, b, c, d, e), n_people = templates[k % n_templates], 100 + k
        rows.append((f"{a} {b} {n_people} {c} {d} {e}", {"people": n_people}, k % n_templates))
    return map(list, zip(*rows, strict=True))


def test_a_test_asks_in_other_wordings_where_it_has_several(tmp_path):
    texts, answers, kinds = many_requests(60, 480)
    splits = JsonlTask(written(tmp_path / "rows.jsonl", texts, answers)).splits
    shown = kinds_of(splits, texts, kinds)
    assert len(shown["test"]) >= 8
    assert not shown["test"] & (shown["train"] | shown["validation"])
    assert "so that the test asks in other wordings" in splits.how


@pytest.mark.parametrize("n_templates", [3, 4, 8])
def test_a_test_that_would_have_few_wordings_asks_in_those_that_are_learnt(tmp_path, n_templates):
    # else its result is the luck of one wording, which the choice of readers would not know
    texts, answers, kinds = requests(n_templates, 250)
    splits = JsonlTask(written(tmp_path / "rows.jsonl", texts, answers)).splits
    shown = kinds_of(splits, texts, kinds)
    assert shown["train"] == shown["test"] == set(range(n_templates))
    assert "in wordings that training rows show" in splits.how


def test_what_a_file_of_test_rows_measures_is_planned_for_new_wordings(tmp_path):
    texts, answers, kinds = requests(4, 250)
    path = written(tmp_path / "rows.jsonl", texts, answers)
    test_path = written(tmp_path / "test.jsonl", *[*requests(8, 100, seed=1)][:2])
    splits = JsonlTask(path, test_path=test_path, on_error="skip").splits
    shown = kinds_of(splits, texts, kinds)
    assert shown["validation"] and not shown["validation"] & shown["train"]
    assert "training row" not in splits.how, "nobody knows how the file asks"
