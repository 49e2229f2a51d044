"""The stage on a real student behind llama.cpp: what it asks, keeps and promises."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_run import (
    SecondNumber,
    tiny_config,
    tiny_context,
    tiny_corpus,
    tiny_plan,
    tiny_probe,
    tiny_trained,
)
from tiny_student import Larger, make_students

from stratos import config as c
from stratos.contrib.cascade.group import CascadeGroup
from stratos.contrib.cascade.pairs import answered, read_pairs
from stratos.contrib.cascade.stage import cascade
from stratos.contrib.cascade.threshold import bared, is_bare
from stratos.contrib.cascade.words import LateTeacher
from stratos.core.errors import StratosError
from stratos.deploy.engines.gguf_file import export
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.stage import make_bundle
from stratos.estimate.cards import Workload
from stratos.evaluate import evaluate
from stratos.evaluate.answers import read_answers
from stratos.ledger import Ledger
from stratos.plan.options.teacher import CachedAnswers, Load, hosted_options
from stratos.records import Deployment, ServingSetting, save
from stratos.report.costs import read_ledger
from stratos.tasks.base import Item

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LlamaCpp().unusable() is not None, reason=str(LlamaCpp().unusable())),
]


class Wide(Larger):
    """The tiny task with validation items that are no test items."""

    def items(self, split: str, n: int, seed: int = 0, slice: str | None = None) -> list[Item]:
        made = super().items("train" if split == "train" else "test", 1000, 0, slice)
        if split == "train":
            return made[:n]
        return (made[:30] if split == "validation" else made[30:])[:n]


class Sure(SecondNumber):
    """A teacher that is right."""

    def ask(self, chats: Any, max_tokens: int, tick: Any = None, keep: Any = None) -> Any:
        right = [[{"role": "user", "content": f"0 {larger(chat)}"}] for chat in chats]
        return super().ask(right, max_tokens, tick, keep)


def larger(chat: Any) -> str:
    return str(max(chat[-1]["content"].split()))


def promise(**keys: Any) -> dict[str, CascadeGroup]:
    """Return the config groups of rooms with what is promised."""
    return {"cascade": CascadeGroup(**keys)}


class Run:
    """A run up to `deploy`, whose student is served by llama.cpp."""

    def __init__(self, folder: Path) -> None:
        self.task = Wide()
        self.folder, self.teacher = folder, Sure()
        self.config = tiny_config(
            folder, task=self.task, teachers=(self.teacher,),
            callbacks=c.CallbacksConfig(n_validation_items=4, n_final_validation_items=2),
            rooms=promise(accuracy=0.8, confidence=0.8),
            traffic=c.TrafficConfig(requests_per_day=1000),
        )  # fmt: skip
        self.context = tiny_context(folder)
        self.plan, self.student = tiny_plan(), tiny_trained(make_students(folder))
        probe = tiny_probe(self.task, self.teacher)
        self.probe = replace(probe, teachers=(replace(probe.teachers[0], n_items=6),))
        corpus = tiny_corpus(folder, self.task)
        save(folder / "synthesize.json", "synthesize", "", corpus)
        self.scorecard = evaluate(
            self.config, self.probe, self.plan, corpus, self.student, self.context
        )
        bundle = folder / "bundle"
        make_bundle(Path(self.student.path), bundle, card="card", max_new_tokens=30)
        export(bundle, ["f32"], [self.task.student_messages(self.task.items("test", 1)[0])])
        self.deployment = Deployment(
            str(bundle), "", 1, 1, 1.0, 1.0, 1.0, "", 0, 0.0,
            run=ServingSetting("llamacpp", slots=4, format="f32"),
        )  # fmt: skip

    def stage(self, config: c.Config) -> Any:
        return cascade(config, self.probe, self.plan, self.scorecard, self.deployment, self.context)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_validation_items_choose_and_test_items_measure(run):
    n_before = run.teacher.n_asked
    made = run.stage(run.config)
    # Those that chose the teacher come first among the validation items, and choose nothing else.
    assert made.n_choosing == 22 and run.teacher.n_asked == n_before + 22
    assert made.chosen_on == "validation" and made.teacher == 1.0
    assert made.is_promised, made.text
    assert (made.accuracy, made.confidence) == (0.8, 0.8)
    assert made.endpoint.measure == "probability" and made.endpoint.run.format == "f32"
    assert not made.endpoint.is_bare
    pairs = read_pairs(run.folder)
    measured = {one.id for one in pairs if not one.chooses}
    assert measured <= {one.id for one in run.task.items("test", 1000)} and len(pairs) > 40
    # What is served is as sure as it was in the evaluation, and as right.
    by_id = {one.id: one for one in pairs}
    for one in read_answers(run.folder):
        if one.id in by_id and by_id[one.id].confidence is not None:
            assert by_id[one.id].confidence == pytest.approx(one.logprob, abs=0.05)
            assert by_id[one.id].student == (one.score.exact >= 1)


def test_the_plan_counts_the_dollars_that_the_teacher_is_paid_for_the_threshold(
    run, tmp_path, monkeypatch
):
    """A scripted teacher has the price of 4 tokens in and 1 out, which the probe saw of 6 items."""
    shutil.copytree(run.folder / "evaluate", tmp_path / "evaluate")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    monkeypatch.setattr(
        run, "context", replace(run.context, run_dir=tmp_path, cache_dir=tmp_path, ledger=ledger)
    )
    config = replace(run.config, teachers=(Sure(usd_per_million=1000.0),))
    [seen] = run.probe.teachers
    seen = replace(seen, card=config.teachers[0].card(), input_tokens=24, output_tokens=6)
    monkeypatch.setattr(run, "probe", replace(run.probe, teachers=(seen,)))

    def planned() -> float:
        """Return what the plan counts of answers that are not kept."""
        n = CachedAnswers(config, tmp_path).n_after_deploy(run.probe, seen)
        load = Load(n, Workload(4, 1))
        nothing = Load(0, Workload(0, 0))
        [option] = hosted_options(seen, nothing, after_deploy=load)
        assert option.usd == option.after_deploy_usd and option.hours == 0
        return option.after_deploy_usd

    expected = planned()
    assert expected == pytest.approx(22 * 5 * 1000 / 1e6)
    run.stage(config)
    paid = sum(one.usd for one in read_ledger(ledger.path) if one.role == "teacher")
    assert paid == pytest.approx(expected)
    assert planned() == 0, "kept answers are paid no more"
    for changes in (
        {"rooms": promise()},  # none is asked for
        {"rooms": promise(accuracy=0.99, confidence=0.8)},  # half of the test items chooses
        {"deploy": replace(config.deploy, name="none")},  # nobody serves it
    ):
        kept = CachedAnswers(replace(config, **changes), tmp_path / "none")
        assert kept.n_after_deploy(run.probe, seen) == 0


def test_items_longer_than_the_context_are_told_in_the_promise(run, monkeypatch):
    scores = tuple(
        replace(one, n_too_long=2 * (one.role == "teacher")) for one in run.scorecard.scores
    )
    monkeypatch.setattr(run, "scorecard", replace(run.scorecard, scores=scores))
    made = run.stage(run.config)
    assert made.n_too_long == 2


def test_agreement_of_drawn_answers_tells_it_too(run):
    rooms = promise(accuracy=0.8, confidence=0.8, measure="agreement", n_samples=3)
    made = run.stage(replace(run.config, rooms=rooms))
    assert made.endpoint.measure == "agreement" and made.endpoint.n_samples == 3
    sure = {one.confidence for one in read_pairs(run.folder)} - {None}
    assert len(sure) <= 4 and all(value < 0 for value in sure)


def test_another_accuracy_is_no_look_and_another_teacher_or_measure_is(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "context", replace(run.context, run_dir=tmp_path))
    shutil.copytree(run.folder / "evaluate", tmp_path / "evaluate")
    low = promise(accuracy=0.5, confidence=0.8)
    assert run.stage(run.config).look == 1
    assert run.stage(replace(run.config, rooms=low)).look == 1
    drawn = promise(accuracy=0.5, confidence=0.8, measure="agreement", n_samples=2)
    assert run.stage(replace(run.config, rooms=drawn)).look == 2
    monkeypatch.setattr(run.teacher, "identity", lambda: "another model")
    made = run.stage(replace(run.config, rooms=low))
    assert made.look == 3


def test_a_teacher_that_is_too_slow_counts_as_the_endpoint_answers_then(run, monkeypatch):
    warned: list[str] = []
    monkeypatch.setattr(run, "context", replace(run.context, warn=warned.append))
    short = promise(accuracy=0.1, confidence=0.8, teacher_seconds=0.1, if_unavailable="error")
    run.stage(replace(run.config, rooms=short))
    pairs = read_pairs(run.folder)
    assert pairs and not any(one.teacher for one in pairs)
    assert {one.teacher_seconds for one in pairs} == {0.5}
    assert warned[0] == str(LateTeacher(len(pairs), len(pairs), 0.1, "error"))


def test_a_promise_that_no_answers_could_show_asks_nobody(run):
    n_before = run.teacher.n_asked
    bold = replace(run.config, rooms=promise(accuracy=0.99))
    with pytest.raises(StratosError, match=r"there are 22 items to choose a threshold by, and at"):
        run.stage(bold)
    assert run.teacher.n_asked == n_before


def test_the_command_reads_what_the_stage_kept(run, monkeypatch):
    made = run.stage(run.config)
    for name, record in (("plan", run.plan), ("evaluate", run.scorecard), ("cascade", made)):
        save(run.folder / f"{name}.json", name, "mark", record)
    monkeypatch.setattr("stratos.contrib.cascade.pairs.is_run", lambda folder: True)
    found = answered(run.folder)
    assert found.chosen_on == "validation" and len(found.choosing) == 22


def test_an_engine_that_does_not_tell_is_refused(run):
    batching = replace(run.deployment, run=ServingSetting("transformers-batching", slots=4))
    with pytest.raises(StratosError, match="does not tell how sure it is of its answers"):
        cascade(run.config, run.probe, run.plan, run.scorecard, batching, run.context)


def test_an_answer_alone_is_told_from_one_with_reasoning():
    task = Larger()
    item = Item("", "near", "3 7", "")
    assert not is_bare(task, item, "of 3 and 7 ; 7") and bared(task, item, "well ; 7") == " ; 7"
