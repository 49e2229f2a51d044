from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stratos.config import LimitsConfig
from stratos.ledger import Ledger, reserves
from stratos.records import (
    Export,
    Exports,
    Interval,
    Report,
    ServingSetting,
    SliceScore,
    Versus,
    Way,
    Worth,
)
from stratos.report import report
from stratos.report.run_verdict import run_verdict, shares_of
from tests.report import factory

STAGES = ("probe", "plan", "synthesize", "distill", "evaluate", "deploy")


class Reader(HTMLParser):
    """Collects the text a reader sees, section by section, and whatever could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.loads: list[str] = []
        self.tags: list[str] = []
        self._section = ""
        self._skip = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.handle_data(" ")
        if tag == "section":
            self._section = values.get("id") or ""
        self._skip += tag in ("script", "style")
        self.loads += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "srcset", "href", "action", "data", "poster", "formaction")
            and not (value or "").startswith(("#", "data:"))
        ]
        self.loads += [f"{tag} {name}" for name in values if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text[self._section] = self.text.get(self._section, "") + data

    def section(self, name: str) -> str:
        return " ".join(self.text.get(name, "").split())


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    return reader


def make(run_dir: Path, records: dict[str, Any] | None = None, **config: Any) -> Reader:
    if records is None:
        records = factory.make_records(run_dir)
    report(factory.make_config(run_dir, **config), records, factory.make_context(run_dir))
    return read(run_dir / "report.html")


def test_the_page_tells_the_whole_run(tmp_path, records, snapshot):
    factory.write_hydra(tmp_path, ["+task=mahjong", "cloud=aws", "limits.budget_usd=25"])
    line = {"kind": "settled", "what": "teacher gpt", "role": "teacher", "usd": 0.25}
    paid = json.dumps({**line, "total_usd": 0.25})
    (tmp_path / "ledger.jsonl").write_text(f'{paid}\n{{"what": "te')
    ledger = Ledger(tmp_path / "ledger.jsonl")
    reserves.allot(ledger, "a plan", {"teacher": 1.0, "serve": 2.5})
    reserves.release(ledger, "teacher")
    made = report(
        factory.make_config(tmp_path), records, factory.make_context(tmp_path), ["Mind the gap."]
    )
    path = tmp_path / "report.html"
    assert made == Report(str(path), path.stat().st_size, made.seconds)
    page = read(path)
    sections = ("result", "costs", "scorecard", "plan", "frontier", "training", "examples")
    texts = {name: page.section(name) for name in sections}
    texts["result"] = re.sub(r"\d+ [A-Z]\w+ 20\d\d", "<today>", texts["result"])
    assert texts == snapshot
    evidence = page.section("evidence")
    for words in ("34%", "91%", "worked_example", "held out 3,377", "p95 742 ms", "32 of 32"):
        assert words in evidence
    assert "plan.pilot=true trains each student" in evidence
    assert "not measured" in evidence
    assert "coverage smollm2_135m 1.6%" in evidence and "answer alone task 6 characters" in evidence
    assert " stratos +task=mahjong cloud=aws " in page.section("repeat")
    assert page.loads == []


def test_what_limits_are_worth_and_what_the_choice_gains(tmp_path):
    page = make(tmp_path)
    plan = page.section("plan")
    assert "the plan needs $2.56." in plan and "(900 ms) buys accuracy +0.004." in plan
    assert "Planned cost $2.55 ($2.31 to $2.98)" in plan
    assert "8 min 28 s (6 min 36 s to 12 min 00 s)" in plan
    records = factory.make_plan()
    more = records.alternatives["cheapest"].net_usd - records.net_usd
    assert f"{'+' if more > 0 else '−'}${abs(more):,.2f}" in page.section("frontier")
    assert "Teacher answers until 2027-01-14" in plan
    assert "a list of <prices>" in plan  # escaped, or it would be a tag
    assert "1.5 times answers differ in length" in plan


def test_whether_it_pays_is_said_first_and_the_ways_are_listed(tmp_path, records):
    price = Interval(0.002, 0.0018, 0.0022)
    hosted = Way("gpt<b>", False, Interval(0.9, 0.8, 0.95), price, 900.0, retires="2027-01-01")
    poor = replace(hosted, name="poor", why_not="12.0% (8.0–20.0%), surely less accurate")
    text = "Distil: pays back after 41 days [29, 66] at 20,000 requests a day against gpt<b>."
    plan = records["plan"]
    student = Way(plan.student, True, plan.accuracy, None, plan.latency_ms)
    saved, models = Interval(5.0, 4.0, 7.0), (student, hosted, poor)
    worth = Worth("distil", text, models, "gpt<b>", saved, 2.0, 12.0, 20_000.0)
    records["plan"] = replace(plan, worth=worth)
    page = make(tmp_path, records)
    assert text in page.section("result") and "b" not in page.tags[:20]
    shown = page.section("plan")
    for words in (
        "gpt<b> 90.0%", "ends on 2027-01-01", "surely less accurate", "$2.00", "$1,218", "$60.88",
    ):  # fmt: skip
        assert words in shown, shown[:3000]


def test_mixed_servers_and_egress_are_counted(tmp_path, records):
    plan = records["plan"]
    serve = plan.role("serve")
    mixed = (*plan.roles[:2], replace(serve, usd=2.0), replace(serve, offer=factory.G5, count=2,
                                                               usd=9.0))  # fmt: skip
    records["plan"] = replace(plan, roles=mixed, usd=11.3, egress_usd=0.25)
    money = make(tmp_path, records).section("costs")
    assert f"{factory.C7.name} + 2 × {factory.G5.name} $11.00" in money
    assert "leaves regions and clouds $0.25" in money


def test_secrets_of_the_config_stay_out(tmp_path):
    factory.write_hydra(tmp_path, ["+task=mahjong", "teacher.api_key=sk-abcdefghijklmnopqrstuv"])
    make(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "hunter22" not in text
    assert "sk-abcdef" not in text
    assert "max_tokens" in text


@pytest.mark.parametrize("missing", [*itertools.combinations(STAGES, 1), STAGES[1:], STAGES])
def test_stages_that_did_not_run_are_named(tmp_path, missing):
    records = {k: v for k, v in factory.make_records(tmp_path).items() if k not in missing}
    page = make(tmp_path, records)
    for stage in missing:
        assert re.search(rf"Not part of this run:[^.]*\b{stage}\b", page.section("result"))
    whole = " ".join(" ".join(page.text.values()).split())
    for stage in STAGES:
        assert (f"the stage {stage} was not part of this run" in whole) == (stage in missing)


def test_a_run_without_a_plan_says_so(tmp_path):
    page = make(tmp_path, {"probe": factory.make_probe(), "plan": None})
    assert "Teachers measured, nothing planned yet" in page.section("result")


CLOSE = {"student_exact": factory.share(60, 128), "ratio": 60 / 62, "ratio_at_least": 0.7}


@pytest.mark.parametrize(
    ("compared", "words"),
    [
        (
            {**CLOSE, "teacher_exact": factory.share(62, 128), "p_value": 0.9},
            "do not separate it from",
        ),
        (
            {**CLOSE, "teacher_exact": factory.share(110, 128), "p_value": 1e-6},
            "SmolLM2-135M-Instruct is more accurate",
        ),
        (
            {"ratio": None, "teacher_exact": factory.share(0, 128)},
            "questions right, so at most 3.0%",
        ),
    ],
    ids=["no better", "worse", "no ratio"],
)
def test_the_headline_says_how_student_and_teacher_compare(tmp_path, records, compared, words):
    comparison = replace(records["evaluate"].comparison, **compared)
    factory.change(records, "evaluate", comparison=comparison)
    assert words in make(tmp_path, records).section("result")


def test_what_needs_no_model_is_the_headline(tmp_path, records):
    share = factory.share(979, 1000)
    linear = Versus("linear", "TF-IDF", 1000, share, share, 3, 3, 1.0)
    factory.change(records, "evaluate", against=(linear,))
    page = make(tmp_path, records)
    headline = page.section("result")
    html = (tmp_path / "report.html").read_text()
    verdict = (
        "TF-IDF answers 97.9%, the student 97.9%: nothing shows that the student is better, "
        "so you need no model"
    )
    judged = run_verdict(factory.make_config(tmp_path), records)
    assert judged is not None and judged.outcome == "stay" and verdict in judged.text
    assert f'<h1 class="sentence">{judged.text}</h1>' in html, "as on the screen"
    assert headline.index(verdict) < headline.index("You need no model for this")
    ratio = headline.index("At least 21.7× as accurate")
    assert headline.index("You need no model for this") < ratio


def test_a_micro_f1_is_no_share_of_rows():
    share = factory.share(52, 59)
    versus = Versus("linear", "TF-IDF", 59, share, share, 3, 3, 1.0)
    assert shares_of(versus) == "the student has 88.1% of 59 test rows right, TF-IDF 88.1%"
    of_labels = replace(versus, micro_f1=(0.935, 0.926))
    assert shares_of(of_labels) == (
        "the student has a micro-F1 of 93.5% on 59 test rows, TF-IDF 92.6%"
    )


def test_one_slice_is_not_told_apart_from_all(tmp_path, records):
    scores = tuple(
        replace(score, slices=(replace(score.slices[0], slice="main"), score.slice()))
        for score in records["evaluate"].scores
    )
    factory.change(records, "evaluate", scores=scores)
    factory.change(records, "synthesize", n_by_slice={"main": 5}, answer_sizes={"main": {"1": 5}})
    page = make(tmp_path, records)
    assert "All questions" in page.section("scorecard")
    for section in ("scorecard", "evidence"):
        assert "main" not in page.section(section).lower()


def test_one_question_is_no_questions(tmp_path, records):
    compared = replace(records["evaluate"].comparison, n_items=1, ratio_at_least=0.7, p_value=1.0)
    factory.change(records, "evaluate", comparison=compared)
    factory.change(records, "distill", steps=1)
    page = make(tmp_path, records)
    headline = page.section("result")
    assert "The 1 question that both answered" in headline
    assert "on 1,000 held-out questions (95%" in headline
    assert "Of 1 question that both answered" in page.section("scorecard")
    assert " in 1 step " in page.section("training")


def test_an_unknown_accuracy_is_called_so(tmp_path):
    plan = factory.make_plan()
    points = tuple(replace(p, accuracy=0.0, accuracy_known=False) for p in plan.frontier)
    unknown = Interval(0.5, 0.0, 1.0, "unknown: no recorded run of llama-1m on mahjong")
    plan = replace(plan, accuracy=unknown, frontier=points, alternatives={})
    page = make(tmp_path, {"plan": plan})
    assert "Planned, of unknown accuracy" in page.section("result")
    assert "50.0%" not in page.section("result")
    assert "Predicted accuracy unknown" in page.section("plan")
    assert page.section("frontier").count("unknown") >= len(points)
    assert "Hours until trained against cost" in page.section("frontier")


def test_odd_numbers_do_not_break_the_page(tmp_path, records):
    nan = float("nan")
    factory.change(
        records,
        "distill",
        curve=tuple(replace(point, loss=nan) for point in records["distill"].curve[:3]),
        seconds=nan,
    )
    factory.change(records, "plan", frontier=(), alternatives={}, usd=0.0, reasons=())
    student = records["evaluate"].scores[0]
    only_all = replace(
        student, slices=(SliceScore("all", 0, factory.share(0, 0), f1=nan),), output_tokens=5
    )
    factory.change(records, "evaluate", scores=(only_all,), comparison=None)
    page = make(tmp_path, records)
    assert "No teacher was measured" in page.section("scorecard")
    assert "nan" not in " ".join(page.text.values()).replace("finance", "").lower()


def test_examples_that_are_gone_or_broken_are_said(tmp_path, records):
    path = Path(records["evaluate"].examples_path)
    path.write_bytes(path.read_bytes() + b'{"question": "cut sh\n[1]\n\xff\n')
    assert "3 lines could not be read" in make(tmp_path, records).section("examples")
    path.unlink()
    assert "The answers cannot be read from" in make(tmp_path, records).section("examples")


def test_a_moved_run_folder_finds_its_examples(tmp_path):
    records = factory.make_records(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert "held-out questions" in make(tmp_path / "new", records).section("examples")


def test_hostile_text_is_text(tmp_path, records):
    hostile = factory.HOSTILE
    row = {
        **dict.fromkeys(("question", "gold", "slice", "teacher"), hostile),
        "student": f"{hostile}\n{hostile}",
        "untouched": {"odd": [hostile]},
        "scores": {"student": "x"},
    }
    records["evaluate"] = factory.make_scorecard(tmp_path, [row])
    factory.change(
        records, "plan", student=hostile, reasons=(hostile,), left_out={hostile: hostile}
    )
    clean = make(tmp_path / "clean", factory.make_records(tmp_path / "clean"))
    page = make(tmp_path, records)
    assert page.loads == []
    assert set(page.tags) == set(clean.tags)
    assert page.tags.count("script") == 1
    examples = page.section("examples")
    assert "<script>window.hacked = 1</script>" in examples
    assert "␛[31mred␛[0m" in examples
    assert "<U+202E>evil<U+D83D>" in examples
    raw = (tmp_path / "report.html").read_bytes()
    assert b"\x1b" not in raw
    assert "\u202e" not in raw.decode()


def test_formats_are_told_and_the_accuracy_limit_counts_what_is_served(tmp_path, records):
    evidence = make(tmp_path).section("evidence")
    assert "Served as the weights as evaluated" in evidence and "Points lost" not in evidence
    whole = Export(
        "f32", 3_800_000, 1000, 1000, Interval(0.979, 0.968, 0.986), Interval(0.979, 0.968, 0.986),
        Interval(0.0, -0.4, 0.4), 1.0, 38.0, 74.0, 16.2, 8, 114.6, 2.0,
    )  # fmt: skip
    small = replace(
        whole, format="q8_0", n_bytes=1_020_000, n_equal=990, exact=Interval(0.961, 0.947, 0.972),
        loss_points=Interval(1.8, 0.9, 2.9), p_value=0.0002,
    )  # fmt: skip
    factory.change(records, "deploy", run=ServingSetting("llamacpp", 8, format="q8_0"),
        exports=Exports("llamacpp", "x 1", "Whole.", (whole, small), "q8_0"),
    )  # fmt: skip
    limits = {least: LimitsConfig(accuracy=least) for least in (0.96, 0.97)}
    pages = {
        least: make(tmp_path, records, limits=limit).section("evidence")
        for least, limit in limits.items()
    }
    assert "q8_0 for llamacpp: 96.1% (94.7–97.2%)" in pages[0.96]
    assert "Accuracy limit kept (96.0%)" in pages[0.96]
    assert "Accuracy limit NOT kept (97.0%)" in pages[0.97], "the student itself has 97.9%"
    assert "q8_0 served 96.1% 94.7–97.2% 1.8" in pages[0.97]
    assert "0.9 to 2.9 not shown: up to 2.9 0.0002" in pages[0.97]
    assert "990 of 1,000 1.0 115 MiB" in pages[0.97]
