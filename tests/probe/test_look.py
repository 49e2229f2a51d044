"""A look at a file: what is in it, what is measured, and what is said of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stratos.core.errors import ConfigError
from stratos.core.redact import CARD, EMAIL, PHONE, SECRET
from stratos.models.kinds import student_kinds
from stratos.probe.look import AnswerKind, Facts, Look, Worth, look, measure, read_facts
from stratos.probe.look.columns import UncertainError, kind_of
from stratos.probe.look.look_lines import command, fact_lines, measured_lines
from stratos.probe.words import LooksLikeId, LooksMislabelled, Suspect
from stratos.tasks.classify import ClassifyTask
from stratos.tasks.file_task import FileTask
from stratos.tasks.jsonl import JsonlTask
from stratos.tasks.words import TooFewToTell

WORDS = {
    "refund": ("money", "refund", "charge", "return"),
    "delivery": ("parcel", "late", "tracking", "courier"),
    "login": ("password", "locked", "account", "reset"),
}
OTHER_WORDS = [f"{a}{b}{c}" for a in "bdklm" for b in "aeiou" for c in "nrstwxyz"]
KEY = "sk-proj-" + "a1b2c3d4e5f6" * 4


def texts(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return texts of which one word tells the label, each another one."""
    rng = random.Random(seed)
    rows = []
    for k in range(n):
        label = rng.choice(list(WORDS))
        words = [rng.choice(WORDS[label]), *rng.choices(OTHER_WORDS, k=4), "the", "please"]
        rows.append((f"{' '.join(rng.sample(words, k=7))} {k}", label))
    return rows


def lines(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def table(path: Path, header: str, rows: Iterable[tuple[Any, ...]], separator: str = ",") -> str:
    text = "".join(separator.join(f'"{value}"' for value in row) + "\n" for row in rows)
    path.write_text(f"{header}\n{text}" if header else text, encoding="utf-8")
    return str(path)


@pytest.fixture
def linear_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no weights of encoders and tables on this machine: they take most of the seconds."""
    monkeypatch.setattr(student_kinds, "has_weights", lambda student: student.kind == "linear")


# --- what is in a file ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "columns", "kind"),
    [
        ([{"text": t, "label": x} for t, x in texts(40)], ("text", "label"), AnswerKind.LABELS),
        ([{"queue": x, "body": t, "id": k} for k, (t, x) in enumerate(texts(40))],
         ("body", "queue"), AnswerKind.LABELS),
        ([{"a": f"{t} and more words", "b": x} for t, x in texts(40)],
         ("a", "b"), AnswerKind.LABELS),
        ([{"review": t, "stars": k % 5} for k, (t, _) in enumerate(texts(40))],
         ("review", "stars"), AnswerKind.LABELS),
        ([{"question": t, "answer": 31 * k} for k, (t, _) in enumerate(texts(40))],
         ("question", "answer"), AnswerKind.NUMBERS),
        ([{"input": t, "output": {"n": k, "what": x}} for k, (t, x) in enumerate(texts(40))],
         ("input", "output"), AnswerKind.OBJECTS),
        ([{"text": t, "tags": [x, "new"] if k % 2 else [x]} for k, (t, x) in enumerate(texts(40))],
         ("text", "tags"), AnswerKind.SETS),
        ([{"prompt": t, "response": f"the customer writes that {t}, which is a {x}"}
          for t, x in texts(40)], ("prompt", "response"), AnswerKind.TEXTS),
    ],
)  # fmt: skip
def test_columns_and_kind_of_answers_are_told(tmp_path, rows, columns, kind):
    facts = read_facts(lines(tmp_path / "rows.jsonl", rows))
    assert ((facts.text, facts.answer), facts.kind) == (columns, kind)


def test_that_numbers_of_a_column_that_nobody_named_are_labels_is_said(tmp_path):
    rows = [{"review": t, "stars": k % 5, "mood": x} for k, (t, x) in enumerate(texts(40))]
    path = lines(
        tmp_path / "rows.jsonl", [{k: row[k] for k in ("review", "stars")} for row in rows]
    )
    moods = lines(
        tmp_path / "moods.jsonl", [{k: row[k] for k in ("review", "mood")} for row in rows]
    )

    def said(path: str, answer: str | None = None) -> str:
        return " ".join(" ".join(fact_lines(read_facts(path, answer=answer))).split())

    assert "text in review, labels from column stars (each number is one)" in said(path)
    assert "text in review, a label in stars" in said(path, "stars")
    assert "text in review, a label in mood" in said(moods)


def order(k: int) -> dict[str, Any]:
    return {"part": f"pedal {k}", "side": "left", "parts": ["bolt"], "urgent": k % 2 == 0}


FREE_TEXT_NAMES = (
    "name", "note", "order", "reason", "reply", "response", "summary", "target", "transcript",
)  # fmt: skip
OBJECTS: dict[str, Callable[[int], Any]] = {
    "object": order,
    "string": lambda k: json.dumps(order(k)),
    "list": lambda k: [order(k), order(k + 1)] if k % 9 else [],
}


@pytest.mark.parametrize("form", OBJECTS)
@pytest.mark.parametrize("text", [*FREE_TEXT_NAMES, "label", "text"])
@pytest.mark.parametrize("answer", ["work_order", "text", "summary"])
def test_objects_are_the_answer_to_a_text_of_any_name(tmp_path, text, answer, form):
    if text == answer:
        answer = "fields"
    for is_reversed in (False, True):
        rows = []
        for k, (t, x) in enumerate(texts(40)):
            items = [(text, t), (answer, OBJECTS[form](k)), ("site", x), ("day", "2026-01-02")]
            rows.append(dict(reversed(items) if is_reversed else items))
        facts = read_facts(lines(tmp_path / "rows.jsonl", rows))
        assert (facts.text, facts.answer) == (text, answer)
        assert facts.kind is AnswerKind.OBJECTS or form == "list"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("reason", "category"), ("message", "team"), ("body", "queue"), ("response", "team"),
        ("target", "queue"), ("reply", "reason"), ("name", "kind"), ("note", "status"),
        ("summary", "owner"), ("transcript", "outcome"), ("order", "site"), ("a", "b"),
        ("output", "severity"), ("completion", "grade"), ("complaint", "product"),
        ("subject", "team"), ("title", "section"), ("remark", "label"), ("log", "class"),
        ("email", "intent"), ("expected", "found"), ("topic", "department"),
    ],
)  # fmt: skip
def test_the_column_of_few_values_is_the_answer(tmp_path, text, answer):
    long = {label: f"{label} of a very long name that no text is as long as" for label in WORDS}
    for pairs in (texts(40), [(t, long[x][:40]) for t, x in texts(40)]):
        for columns in ((text, answer), (answer, text)):
            rows = [{c: {text: t, answer: x}[c] for c in columns} for t, x in pairs]
            facts = read_facts(lines(tmp_path / "rows.jsonl", rows))
            assert (facts.text, facts.answer) == (text, answer)


@pytest.mark.parametrize(
    ("row", "given", "columns"),
    [
        ({"event": order, "label": "few"}, {}, ("event", "label")),
        ({"title": "short", "note": "text", "fields": order}, {}, ("note", "fields")),
        ({"prompt": "short", "reasoning": "text", "output": order}, {}, ("prompt", "output")),
        ({"note": "text", "kind": "few", "fields": order}, {"answer": "kind"}, ("note", "kind")),
        ({"note": "text", "fields": order}, {"answer": "note"}, ("fields", "note")),
        ({"note": "text", "fields": order}, {"text": "fields"}, ("fields", "note")),
        ({"note": "text", "extra": order, "output": order}, {}, ("note", "output")),
        ({"note": "Chinese", "site": "few", "fields": order}, {}, ("note", "fields")),
        ({"note": "text", "category": "few", "fields": order}, {}, None),
        ({"note": "text", "extra": order, "fields": order}, {}, None),
    ],
)
def test_objects_beside_other_columns(tmp_path, row, given, columns):
    rows = []
    for k, (t, x) in enumerate(texts(40)):
        values = {"text": f"{t} and so on", "short": t[:20], "few": x, "Chinese": f"修理左踏板{k}"}
        rows.append({name: v(k) if callable(v) else values[v] for name, v in row.items()})
    path = lines(tmp_path / "rows.jsonl", rows)
    if columns is None:
        with pytest.raises(UncertainError) as caught:
            read_facts(path)
        assert caught.value.text == "note" and "--label" in str(caught.value)
        return
    facts = read_facts(path, **given)
    assert (facts.text, facts.answer) == columns


def test_one_column_is_not_both(tmp_path):
    with pytest.raises(ConfigError, match="--text <column> --label <column>"):
        read_facts(table(tmp_path / "a.csv", "text,label", texts(30)), "text", "text")


FORMS: dict[str, Callable[[Path], str]] = {
    "comma.csv": lambda path: table(path, "text,label", texts(60)),
    "semicolon.csv": lambda path: table(path, "text;label", texts(60), ";"),
    "bom.csv": lambda path: table(path, "\ufefftext,label", texts(60)),
    "tab.tsv": lambda path: table(path, "text\tlabel", texts(60), "\t"),
    "lines.jsonl": lambda path: lines(path, ({"text": t, "label": x} for t, x in texts(60))),
    "array.json": lambda path: str(
        path.write_text(json.dumps([{"text": t, "label": x} for t, x in texts(60)], indent=1))
        and path
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_format_says_the_same(tmp_path, name):
    facts = read_facts(FORMS[name](tmp_path / name))
    assert (facts.n_rows, facts.n_labelled) == (60, 60)
    assert facts.labels == Counter(label for _, label in texts(60))


def test_parquet_is_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = zip(*texts(60), strict=True)
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table(dict(zip(("text", "label"), map(list, columns), strict=True))), path
    )
    assert read_facts(str(path)).n_labelled == 60


def test_rows_that_a_run_cannot_use_are_counted(tmp_path):
    rows: list[Any] = [{"text": t, "label": x} for t, x in texts(30)]
    rows += [rows[0], {"text": rows[1]["text"].upper(), "label": "other"}]
    rows += [{"text": "", "label": "login"}, {"text": "a new one", "label": ""}, [1]]
    facts = read_facts(lines(tmp_path / "rows.jsonl", rows))
    assert (facts.n_rows, facts.n_labelled, facts.n_repeats) == (35, 32, 1)
    assert (facts.n_broken, facts.n_without_text, facts.n_unlabelled) == (1, 1, 1)
    assert facts.contradictions == (("line 2", "line 32"),)
    assert facts.needs_skip and "task.on_error=skip" in command(facts, measure(facts))


def test_near_duplicates_are_counted(tmp_path):
    long = "please tell me why the parcel that I ordered last week has not arrived at my door"
    rows = [(f"{long} yet", "late"), (f"{long} today", "late"), *texts(20)]
    assert read_facts(table(tmp_path / "a.csv", "text,label", rows)).n_near == 2


def test_personal_data_and_keys_are_named_and_never_shown(tmp_path):
    secrets = ["ann.lee@example.org", "4111 1111 1111 1111", "+49 30 1234567", KEY]
    rows = [(f"{t} {x}", a) for (t, a), x in zip(texts(30), [*secrets, *[""] * 26], strict=True)]
    facts = read_facts(table(tmp_path / "a.csv", "text,label", rows))
    assert {f.kind: (f.n_rows, f.lines) for f in facts.personal} == {
        EMAIL: (1, ("line 2",)),
        CARD: (1, ("line 3",)),
        PHONE: (1, ("line 4",)),
        SECRET: (1, ("line 5",)),
    }
    seen = f"{facts} {list(fact_lines(facts))}"
    assert not [secret for secret in (*secrets, "lee@", "4111", "30 12") if secret in seen]


def test_personal_data_in_any_column_are_named_with_it(tmp_path):
    rows = [(t, a, f"81.20.30.{k}", "ssn 123 45 6789") for k, (t, a) in enumerate(texts(30))]
    facts = read_facts(table(tmp_path / "a.csv", "text,label,host,note", rows))
    assert {(f.kind, f.column, f.n_rows) for f in facts.personal} == {
        ("IP address", "host", 30), ("US SSN", "note", 30),
    }  # fmt: skip


def test_labels_in_the_text_and_rows_sorted_by_time_are_said(tmp_path):
    days = [f"{day:02}.{month:02}.2026" for month in (1, 2) for day in range(1, 21)]
    rows = [(f"queue {a}: {t}", a, day) for (t, a), day in zip(texts(40), days, strict=True)]
    facts = read_facts(table(tmp_path / "a.csv", "text,label,day", rows))
    assert (facts.n_with_label, facts.sorted_by) == (40, "day")
    assert "40 of 40 texts hold their label" in "\n".join(fact_lines(facts))
    random.Random(0).shuffle(rows)
    plain = [(t.partition(": ")[2], a, day) for t, a, day in rows]
    facts = read_facts(table(tmp_path / "b.csv", "text,label,day", plain))
    assert (facts.n_with_label, facts.sorted_by) == (0, "")


IDS: dict[str, Callable[[int], Any]] = {
    "number": lambda k: 4_000 + 3 * k,
    "number in no order": lambda k: 4_000 + k * 7 % 60,
    "code": lambda k: f"T-{k * 7 % 60:03}",
    "nearly each": lambda k: f"T-{k - k % 15 // 14:03}",
    "day": lambda k: f"2026-{1 + k // 28:02}-{1 + k % 28:02}",
}


@pytest.mark.parametrize("form", IDS)
def test_an_id_in_place_of_the_label_is_named_with_the_column_of_labels(tmp_path, form):
    rows = [{"id": IDS[form](k), "body": t, "team": x} for k, (t, x) in enumerate(texts(60))]
    path = lines(tmp_path / "rows.jsonl", rows)
    facts = read_facts(path, answer="id")
    assert facts.like_id == LooksLikeId(path, "body", "id", {"team": 3})
    measured = measure(facts)
    assert measured.worth is Worth.LIKE_ID and str(facts.like_id) in measured.why
    assert command(facts, measured) == f"stratos look {path} --text body --label team"
    printed = "\n".join(measured_lines(facts, measured))
    assert "stratos plan +task=jsonl" in printed and "task.answer=id" in printed, "it may be"
    assert max(map(len, fact_lines(facts))) <= 100
    assert read_facts(path).answer == "team"


def test_an_answer_of_its_own_in_each_row_may_be_no_id(tmp_path):
    some = list(enumerate(texts(60)))
    read_off = [
        {"text": f"order T-{k:03}: {t}", "code": f"T-{k:03}", "team": x} for k, (t, x) in some
    ]
    alone = [{"word": f"{t} and so on", "code": f"{k * 7 % 60:03}x"} for k, (t, _) in some]
    for name, rows in (("read off", read_off), ("no other column", alone)):
        facts = read_facts(lines(tmp_path / "rows.jsonl", rows), answer="code")
        assert facts.like_id is None, name
    numbered = lines(tmp_path / "rows.jsonl", [{"row": 700 + k, "body": t} for k, (t, _) in some])
    with pytest.raises(ConfigError, match=r"no answers.*\+task=classify"):
        read_facts(numbered)
    facts = read_facts(numbered, answer="row")
    assert facts.like_id == LooksLikeId(numbered, "body", "row", {})
    assert command(facts, measure(facts)).startswith("stratos plan +task=classify")


# --- what cannot be looked at ---------------------------------------------------------------------

REFUSED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no file": ("tickts.csv", lambda path: table(path.with_name("tickets.csv"), "a,b", [])),
    "nothing in it": ("a.csv", lambda path: path.write_text("")),
    "a header alone": ("a.csv", lambda path: path.write_text("text,label\n")),
    "no header": ("a.csv", lambda path: table(path, "", texts(30))),
    "no answers": ("a.csv", lambda path: table(path, "text", ((t,) for t, _ in texts(30)))),
    "empty answers": ("a.csv", lambda path: table(
        path, "text,label", [(t, "") for t, _ in texts(9)])),
    "several answers": ("a.csv", lambda path: table(
        path, "body,team,state", [(t, x, k % 2) for k, (t, x) in enumerate(texts(30))])),
    "swapped": ("a.csv", lambda path: table(
        path, "text,label", [(x, f"{t} and so on") for t, x in texts(30)])),
    "conversations": ("a.jsonl", lambda path: lines(
        path, ({"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "no",
                              "tool_calls": []}]} for t, _ in texts(9)))),
    "ids alone": ("a.csv", lambda path: table(
        path, "id,day", [(f"a{k}", f"2026-01-{k:02}") for k in range(10, 30)])),
    "spreadsheet": ("a.xlsx", lambda path: path.write_bytes(b"PK\x03\x04")),
    "folder": ("folder", lambda path: path.mkdir()),
    "Windows-1252": ("a.csv", lambda path: path.write_bytes("".join(
        ["text;label\n", *(f"prüfe {t};{x}\n" for t, x in texts(30))]).encode("cp1252"))),
    "a heading in Windows-1252": ("a.csv", lambda path: path.write_bytes("".join(
        ["prüftext;label\n", *(f"{t};{x}\n" for t, x in texts(30))]).encode("cp1252"))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_looked_at_is_refused_with_what_to_type(
    tmp_path, name, snapshot, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file, write = REFUSED[name]
    write(Path(file))
    with pytest.raises(ConfigError) as caught:
        look(file)
    assert str(caught.value) == snapshot


def test_a_column_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    path = table(tmp_path / "a.csv", "body,queue", texts(30))
    with pytest.raises(ConfigError, match="Did you mean queue"):
        look(path, answer="queu")


def test_answers_may_begin_late_in_the_file(tmp_path):
    rows = [(f"{t} late", "") for t, _ in texts(1_200)] + texts(30)
    facts = read_facts(table(tmp_path / "a.csv", "text,label", rows))
    assert (facts.n_unlabelled, facts.n_labelled) == (1_200, 30)


def test_names_that_are_given_are_taken(tmp_path):
    rows = [(t, x, k % 2) for k, (t, x) in enumerate(texts(30))]
    path = table(tmp_path / "a.csv", "body,team,state", rows)
    facts = read_facts(path, "body", "STATE")
    assert (facts.text, facts.answer, facts.labels) == ("body", "state", {"0": 15, "1": 15})


# --- what is measured -----------------------------------------------------------------------------


@pytest.fixture
def tickets(tmp_path: Path) -> str:
    return table(tmp_path / "tickets.csv", "text,label", texts(300))


def test_a_student_is_measured_on_rows_that_are_no_test(tickets, linear_only, monkeypatch):
    task = JsonlTask(tickets, question="text", answer="label")
    read = FileTask.items
    splits: list[str] = []

    def items(self: FileTask[Any], split: Any, *args: Any, **kwargs: Any) -> Any:
        splits.append(split)
        return read(self, split, *args, **kwargs)

    monkeypatch.setattr(FileTask, "items", items)
    measured = look(tickets).measured
    assert set(splits) == {"train", "validation"}
    assert measured.n_rows + measured.n_test == 300 and measured.n_test == task.n_test
    assert [student.name for student in measured.students] == ["linear"]
    assert set(measured.not_measured) == {"static", "encoder"}
    assert measured.worth is Worth.YES and measured.gain is not None
    assert measured.students[0].accuracy.low > measured.baselines[0].accuracy.high
    assert measured.gain.low <= measured.gain.mean <= measured.gain.high


def test_rows_that_are_not_learnt_from_are_counted(tmp_path, linear_only):
    pairs = texts(250)
    looked = look(table(tmp_path / "a.csv", "text,label", [*pairs, pairs[0]]))
    measured = looked.measured
    assert measured.n_rows + measured.n_like_test == measured.n_learnable
    assert measured.n_learnable + measured.n_test + looked.facts.n_repeats == 251
    assert "left out: 1 repeated" in " ".join(str(looked).split())


def test_the_numbers_are_those_of_the_probe_of_a_run(tickets, linear_only):
    from stratos.config import StudentConfig
    from stratos.models.kinds.learnt_rows import Rows, studied
    from stratos.probe.kind_probes import learning_curve
    from stratos.synthesize.admission import labelled_rows
    from stratos.tasks.classify import ClassifyTask

    task = ClassifyTask(tickets)
    rows = Rows.of([*labelled_rows(task), *task.items("validation", 300)])
    study, choice = studied(rows, [StudentConfig("linear", "linear")], 0, several=False)
    measured = look(tickets).measured
    accuracy = measured.students[0].accuracy
    assert (accuracy.mean, accuracy.low, accuracy.high) == (
        choice.accuracy, choice.low, choice.high
    )  # fmt: skip
    assert measured.curve is not None
    curve = learning_curve(study, "linear")
    assert [p.accuracy.mean for p in measured.curve.points] == [y for _, y in curve.points]
    assert (measured.curve.gain_low, measured.curve.gain_high) == (curve.gain_low, curve.gain_high)


def test_what_the_nearest_row_does_needs_no_training(tmp_path, linear_only):
    rng = random.Random(0)
    sentences = {
        "late": "where is the parcel that I ordered",
        "paid": "why did you take my money twice",
    }
    rows = [(f"{sentences[x]} {k}", x) for k in range(200) for x in [rng.choice([*sentences])]]
    measured = look(table(tmp_path / "a.csv", "text,label", rows)).measured
    assert measured.baselines[0].name == "lookup" and measured.worth is Worth.NO


def test_rows_that_look_mislabelled_are_named_with_line_and_likely_label(tmp_path, linear_only):
    rows = [(f"{text} {' '.join(WORDS[x])}", x) for text, x in texts(400)]
    order = [*WORDS, *WORDS]
    wrong = {k: order[order.index(rows[k][1]) + 1 + k % 2] for k in range(0, 400, 25)}
    given = [(text, wrong.get(k, label)) for k, (text, label) in enumerate(rows)]
    clean = look(table(tmp_path / "a.csv", "text,label", rows)).measured
    assert clean.mislabelled is None
    looked = look(table(tmp_path / "b.csv", "text,label", given))
    found = looked.measured.mislabelled
    assert found is not None and len(found.suspects) >= 5
    for row in found.suspects:
        k = int(row.line.removeprefix("line ")) - 2  # below the header
        assert (row.label, row.likely) == (wrong.get(k), rows[k][1])
    assert "look mislabelled: line" in str(looked)
    parts = looked.facts, looked.measured
    whole = [line.strip() for line in measured_lines(*parts, is_whole=True)]
    for row in found.suspects:
        assert f"{row.line} has {row.label}, likely {row.likely}" in whole
    assert any(line.endswith("… (whole: --verbose)") for line in measured_lines(*parts))


def test_a_token_that_tells_the_label_is_a_leak(tmp_path):
    leaky = [(f"{t} [action={x[0]}]", x) for t, x in texts(60)]
    facts = read_facts(table(tmp_path / "a.csv", "text,label", leaky))
    assert facts.leaks == {x: f"[action={x[0]}]" for x in WORDS}
    assert "[action=" in " ".join(fact_lines(facts))
    assert not read_facts(table(tmp_path / "b.csv", "text,label", texts(60))).leaks


def test_look_and_run_say_the_same_of_too_few_rows(tmp_path):
    path = table(tmp_path / "a.csv", "text,label", texts(19))
    few = TooFewToTell(19, 100)
    assert look(path).measured.why == str(few)
    assert few in ClassifyTask(path).complaints


def test_labels_that_no_text_tells_are_not_said_to_pay(tmp_path, linear_only):
    rng = random.Random(1)
    rows = [(t, rng.choice("ab")) for t, _ in texts(120)]
    measured = look(table(tmp_path / "a.csv", "text,label", rows)).measured
    assert measured.worth in (Worth.UNDECIDED, Worth.NO)
    assert measured.gain is not None and measured.gain.low < 0


@pytest.mark.parametrize(
    ("rows", "worth"),
    [
        ([("hello", "a"), ("bye", "b")], Worth.TOO_FEW),
        ([(t, "a") for t, _ in texts(40)], Worth.ONE_LABEL),
        ([(f"{t} {k}", f"sku{k % 300}") for k, (t, _) in enumerate(texts(900))],
         Worth.TOO_MANY_LABELS),
        ([(f"what is {k} and {k}?", 2 * k) for k in range(60)], Worth.LANGUAGE_MODEL),
    ],
)  # fmt: skip
def test_what_is_not_measured_says_why(tmp_path, rows, worth):
    looked = look(table(tmp_path / "a.csv", "text,label", rows))
    assert looked.measured.worth is worth and not looked.measured.students
    assert bool(looked.next) == (worth is Worth.LANGUAGE_MODEL)


def test_objects_whose_values_stand_in_the_text_are_for_a_tagger(tmp_path):
    rng = random.Random(0)
    rows = []
    for _ in range(80):
        n, what = rng.randrange(2, 99), rng.choice(["tea", "milk", "rice"])
        rows.append({"input": f"send {n} boxes of {what}", "output": {"n": n, "what": what}})
    measured = look(lines(tmp_path / "a.jsonl", rows)).measured
    assert [student.name for student in measured.students] == ["tagger"]
    assert measured.worth is Worth.YES


def test_several_labels_have_a_micro_f1(tmp_path, linear_only):
    pairs = zip(texts(90), texts(90, seed=1), strict=True)
    rows = [{"text": f"{a[0]} and {b[0]}", "tags": [a[1], b[1]]} for a, b in pairs]
    measured = look(lines(tmp_path / "a.jsonl", rows)).measured
    assert measured.micro_f1 is not None
    assert measured.micro_f1.mean >= measured.students[0].accuracy.mean


# --- what is said ---------------------------------------------------------------------------------


def test_a_look_is_short_whatever_is_in_the_file(tmp_path, linear_only):
    looked = look(table(tmp_path / "tickets.csv", "text,label", texts(300)))
    finding = read_facts(table(tmp_path / "p.csv", "text,label", [("a@b.org x", "y")])).personal[0]
    labels = {f"{'a very long name of a label ' * 4}{k}": 10**6 - k for k in range(150)}
    worst = replace(
        looked.facts,
        path=f"{'folder/' * 6}file.csv",
        text="t" * 50,
        answer="a" * 50,
        labels=labels,
        n_broken=10**6,
        why_broken="line 7: not UTF-8",
        n_without_text=10**6,
        n_unlabelled=10**6,
        n_repeats=10**6,
        n_near=10**6,
        contradictions=tuple(tuple(f"line {k}{j}" for j in range(9)) for k in range(10**3)),
        languages=dict.fromkeys("abcdefgh", 10**5),
        personal=(replace(finding, kind="a kind with a name"),) * 9,
    )
    measured = replace(
        looked.measured,
        n_rows=10**6,
        n_learnable=10**7,
        n_cut=10**6,
        not_measured={name: "needs what is not here and has to be installed" for name in "abcd"},
        students=looked.measured.students * 6,
        mislabelled=LooksMislabelled((Suspect("line 123456", "a" * 50, "b" * 50),) * 99, 10**6),
    )
    said = [*fact_lines(worst), *measured_lines(worst, measured)]
    assert len(said) <= 25  # and one of how long it took
    assert max(map(len, said)) <= 100


def test_a_look_as_it_is_printed(tickets, linear_only, snapshot, monkeypatch):
    monkeypatch.chdir(Path(tickets).parent)
    looked = look("tickets.csv")
    assert str(looked) == snapshot
    assert isinstance(looked, Look) and isinstance(looked.facts, Facts)


@pytest.mark.parametrize(("n_rows", "kind"), [(60, AnswerKind.LABELS), (12, AnswerKind.TEXTS)])
def test_long_answers_are_labels_where_each_stands_in_many_rows(n_rows, kind):
    long = [f"folder {k} of all the letters which nobody has answered yet" for k in range(3)]
    answers = [long[k % 3] for k in range(n_rows)]
    assert kind_of([*answers, *(["something else to be said of it"] * 12)])[0] is kind
