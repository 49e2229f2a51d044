"""Shifts of live requests: false alarms, what is found, and the command."""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.stats
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from in_process import stratos
from omegaconf import OmegaConf, open_dict
from sklearn.feature_extraction.text import HashingVectorizer

sys.path.insert(0, str(Path(__file__).parents[2] / "report"))

import factory

from stratos.cli.compose import CONFIG_NAME, VERSION_BASE
from stratos.contrib.drift import command as renewals
from stratos.contrib.drift import shifts as module
from stratos.contrib.drift.command import evaluated, logged, typed_for
from stratos.contrib.drift.shifts import Response, _apart, _chi_squared, _distance, shifts
from stratos.core.errors import StratosError
from stratos.core.extensions import conf_dir
from stratos.evaluate.answers import KeptAnswer, answers_path
from stratos.records import save
from stratos.tasks.base import Score
from stratos.tasks.mahjong import MahjongTask

LABELS = ("refund", "delivery", "account")
PHRASES = {
    "refund": ("money back please", "charge me twice", "return the item"),
    "delivery": ("where is my parcel", "courier never came", "tracking number"),
    "account": ("cannot log in", "reset my password", "delete my profile"),
}


def asked(rng: random.Random, unread: float = 0.02, labels: tuple[str, ...] = LABELS) -> Response:
    label = rng.choice(labels)
    question = f"order {rng.randint(1, 999)}: {rng.choice(PHRASES[label])}"
    return Response(question, label, None if rng.random() < unread else label)


def moved(before: list[Response], now: list[Response], alpha: float = 0.05) -> set[str]:
    return {one.name for one in shifts(before, now, alpha) if one.is_shift}


@pytest.mark.slow
def test_without_a_change_alarms_are_as_rare_as_is_said(monkeypatch):
    monkeypatch.setattr(module, "N_DEALT", 199)
    rng, n, alpha = random.Random(0), 150, 0.1
    n_alarms = 0
    for _ in range(n):
        before = [asked(rng) for _ in range(60)]
        now = [asked(rng) for _ in range(40)]
        n_alarms += bool(moved(before, now, alpha))
    assert n_alarms <= alpha * n + 2.5 * math.sqrt(n * alpha * (1 - alpha))


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 5])
def test_requests_that_come_again_alarm_no_more_often(times, monkeypatch):
    """At 1% each request sent twice alarmed in 20 of 100, and five times in 98."""
    monkeypatch.setattr(module, "N_DEALT", 999)
    rng, n, alpha = random.Random(8), 100, 0.01
    n_alarms = 0
    for _ in range(n):
        before = [asked(rng) for _ in range(100)]
        now = [asked(rng) for _ in range(60)]
        n_alarms += bool(moved(before, [*now * times], alpha))
    assert n_alarms <= alpha * n + 2.5 * math.sqrt(n * alpha * (1 - alpha))


def test_each_kind_of_change_is_found_where_it_is():
    rng = random.Random(1)
    before = [asked(rng) for _ in range(300)]
    assert not moved(before, [asked(rng) for _ in range(200)], 0.01)
    broken = moved(before, [asked(rng, unread=0.2) for _ in range(200)])
    assert "answers that cannot be read" in broken and "words of questions" not in broken
    other = moved(before, [asked(rng, labels=("refund",)) for _ in range(200)])
    assert {"words of questions", "shares of answers"} <= other
    longer = [asked(rng) for _ in range(200)]
    longer = [Response(one.question, f"The answer is {one.answer}.", one.value) for one in longer]
    assert moved(before, longer) == {"length of answers"}


def test_the_statistics_are_those_of_scipy():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 20, 50).tolist(), rng.integers(3, 25, 30).tolist()
    live = np.array([[0.0] * 50 + [1.0] * 30])
    found = _apart([*first, *second])(live)
    assert found[0] == pytest.approx(scipy.stats.ks_2samp(first, second).statistic)
    names = [f"{one % 4}" for one in (*first, *second)]
    table = [
        [names[:50].count(kind) for kind in sorted(set(names))],
        [names[50:].count(kind) for kind in sorted(set(names))],
    ]
    # Of two samples the chi-squared statistic is that of one row, times a constant.
    chi = scipy.stats.chi2_contingency(table, correction=False).statistic
    assert _chi_squared(names)(live)[0] == pytest.approx(chi)


def test_the_distance_of_texts_is_that_of_their_mean_vectors():
    texts = ["a parcel", "the parcel", "a password", "my password please"]
    made = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=2**12)
    vectors = made.transform(texts).toarray()
    apart = vectors[2:].mean(axis=0) - vectors[:2].mean(axis=0)
    live = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert _distance(texts)(live)[0] == pytest.approx((apart**2).sum())


@pytest.mark.parametrize("alpha", [0.01, 0.0025, 0.001])
def test_everything_has_changed_at_any_alpha(alpha):
    """The least p-value of a fixed number of deals is above a small alpha, whatever changed."""
    before = [Response(f"how many apples {i}", str(i), str(i % 5)) for i in range(60)]
    now = [Response(f"completely other words {i}" * 3, "x" * 50, None) for i in range(60)]
    assert len(moved(before, now, alpha)) == 5
    assert not moved(before, before, alpha)


def test_an_alpha_that_can_never_alarm_is_refused(snapshot):
    rng = random.Random(6)
    many = [asked(rng, unread=0.0) for _ in range(40)]
    with pytest.raises(StratosError) as refused:
        shifts(many, many, 1e-6)
    assert str(refused.value) == snapshot
    with pytest.raises(StratosError, match="1 test item and 40 live requests can be dealt in 41"):
        shifts(many[:1], many, 0.1)
    with pytest.raises(StratosError, match=r"Type --alpha 0\.13, or more\."):
        shifts(many[:1], many, 0.12)
    assert shifts(many[:1], many, 0.13)


def test_deals_in_chunks_are_those_of_one(monkeypatch):
    rng = random.Random(7)
    before, now = ([asked(rng, unread) for _ in range(50)] for unread in (0.0, 0.2))
    whole = [one.p_value for one in shifts(before, now, 0.01)]
    monkeypatch.setattr(module, "_AT_ONCE", 300)
    assert [one.p_value for one in shifts(before, now, 0.01)] == whole


def test_more_than_can_be_compared_is_drawn_from(monkeypatch):
    monkeypatch.setattr(module, "MOST", 40)
    rng = random.Random(3)
    many = [asked(rng) for _ in range(500)]
    assert len(module._part(many, np.random.default_rng(0))) == 40
    assert shifts(many, many, 0.01) == shifts(many, many, 0.01)


def write_log(path: Path, rows: list[Response]) -> Path:
    lines = [
        {"messages": [
            {"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer}
        ]}
        for one in rows
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_a_log_is_read_in_the_formats_that_are_known(tmp_path):
    rng = random.Random(4)
    rows = [asked(rng, unread=0.0) for _ in range(40)]
    log = write_log(tmp_path / "log.jsonl", rows)
    with log.open("a") as file:
        file.write("{broken\n")
    found, n_wrong = logged(str(log), lambda text: text or None)
    assert found == rows and n_wrong == 1
    write_log(log, rows[:10])
    with pytest.raises(
        StratosError, match="10 answered requests of different questions, and 30 are the fewest"
    ):
        logged(str(log), str)
    with pytest.raises(StratosError, match="cannot be read"):
        logged(str(tmp_path / "nowhere.jsonl"), str)
    with pytest.raises(StratosError, match="has no evaluation with answers"):
        evaluated(tmp_path, str)


@pytest.mark.slow
def test_the_command_says_what_moved(tmp_path):
    rng = random.Random(5)
    run_dir = a_run(tmp_path / "run", [asked(rng, unread=0.0) for _ in range(200)])
    write_log(tmp_path / "still.jsonl", [asked(rng, unread=0.0) for _ in range(100)])
    write_log(
        tmp_path / "moved.jsonl", [asked(rng, unread=0.0, labels=("refund",)) for _ in range(100)]
    )
    for log, code in (("still.jsonl", 0), ("moved.jsonl", 1), ("nowhere.jsonl", 2)):
        for more in ((), ("--json",)):
            done = stratos("drift", log, "--run", str(run_dir), *more, cwd=tmp_path)
            assert done.returncode == code, done.stdout + done.stderr
            if code == 2:
                assert "cannot be read" in done.stderr
            elif more:
                assert json.loads(done.stdout)["moved"] is bool(code)
            else:
                assert "1.0% of checks like this one alarm" in done.stdout
                assert ("SHIFT: " in done.stdout) is bool(code)
                typed = "python -m stratos task.unlabelled_path="
                assert (typed in done.stdout) is bool(code)


def test_a_renewal_is_typed_as_its_run_was_with_the_log_for_its_task():
    before = (
        "+task=classify", "task.path=rows.jsonl", "cloud=aws", "limits.budget_usd=5",
        "hydra.run.dir=x", "stages=[plan]", "logger=none", "+teacher.x=sk-0123456789abcdefghij",
    )  # fmt: skip
    typed = typed_for(before, "/l.jsonl", "data.turns", None)
    assert typed[:3] == ("+task=logs", "task.path=/l.jsonl", "task.answers=relabel")
    assert typed[3] == "task.messages_key=data.turns"
    assert typed[4:6] == ("cloud=aws", "limits.budget_usd=5")
    assert not any("sk-0123" in one for one in typed)
    logs = typed_for(
        ("+task=chat", "task.path=a", "task.metric=f1", "seed=3"), "b", None, "data.reply"
    )
    assert logs == ("+task=chat", "task.path=b", "task.answer_key=data.reply", "task.metric=f1",
                    "seed=3")  # fmt: skip


def test_files_of_a_renewal_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (
        "task.path=rows.jsonl", "+task.instruction_path='what to do.txt'", "cloud=local",
        "task.test_path=s3://bucket/test.jsonl", "task.schema=",
    )  # fmt: skip
    typed = renewals.labelled_by_teacher(before, tmp_path / "questions.jsonl")
    assert typed[:5] == (
        f"task.path={tmp_path}/rows.jsonl", f"+task.instruction_path='{tmp_path}/what to do.txt'",
        "cloud=local", "task.test_path=s3://bucket/test.jsonl", "task.schema=",
    )  # fmt: skip


def a_run(folder: Path, rows: list[Response]) -> Path:
    """Leave a run of a classification whose evaluation asked some questions."""
    data = folder.parent / "rows.jsonl"
    data.write_text(
        "\n".join(
            json.dumps({"question": f"{phrase} {i}", "answer": label})
            for i in range(20)
            for label in LABELS
            for phrase in PHRASES[label]
        )
    )
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        composed = compose(
            CONFIG_NAME, ["+task=classify", f"task.path={data}"], return_hydra_config=True
        )
    (folder / ".hydra").mkdir(parents=True)
    with open_dict(composed):
        hydra = {"hydra": {"runtime": {"cwd": str(folder.parent), "output_dir": str(folder)}}}
        del composed["hydra"]
    OmegaConf.save(composed, folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(hydra), folder / ".hydra" / "hydra.yaml")
    (folder / "evaluate").mkdir()
    save(folder / "evaluate.json", "evaluate", "mark", factory.make_records(folder)["evaluate"])
    kept = [
        KeptAnswer(
            str(i), "all", one.question, one.answer, [{"role": "user", "content": one.question}],
            one.answer, 1, Score(1.0, 1.0, True), -0.1,
        )
        for i, one in enumerate(rows)
    ]  # fmt: skip
    answers_path(folder).write_bytes(b"\n".join(map(msgspec.json.encode, kept)))
    return folder


@pytest.mark.slow
def test_answers_that_alarmed_are_never_trained_on(tmp_path):
    rng = random.Random(6)
    run_dir = a_run(tmp_path / "run", [asked(rng, unread=0.0) for _ in range(200)])
    before = ["+task=classify", f"task.path={tmp_path / 'rows.jsonl'}", "cloud=aws", "seed=3"]
    (run_dir / ".hydra" / "overrides.yaml").write_text(json.dumps(before))
    rows = [asked(rng, unread=0.0) for _ in range(120)]
    rows = [replace(one, answer="Sorry, I") if i % 4 == 0 else one for i, one in enumerate(rows)]
    log = write_log(tmp_path / "gar.jsonl", rows)
    done = stratos("drift", str(log), "--run", str(run_dir), cwd=tmp_path)
    told = done.stdout
    assert done.returncode == 1
    assert "SHIFT: " in told and "answers that cannot be read" in told
    assert "these 120 requests, and 30 of them" in told
    assert "+task=chat" not in told and "+task=logs" not in told and "task.path=gar" not in told
    questions = run_dir / "drift" / "questions.jsonl"
    typed = f"+task=classify task.path={tmp_path}/rows.jsonl cloud=aws seed=3"
    assert f"{typed} task.unlabelled_path={questions} strategy=pseudo_labels" in told
    kept = [json.loads(line) for line in questions.read_text().splitlines()]
    assert {one["text"] for one in kept} == {one.question for one in rows}
    assert all(set(one) == {"text"} for one in kept), "no answer of the log is in it"
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
        composed = compose(
            CONFIG_NAME, [*before, f"task.unlabelled_path={questions}", "strategy=pseudo_labels"]
        )
    made = instantiate({k: v for k, v in composed.task.items() if k != "instruction_path"})
    assert made.n_unlabelled > 0


def test_the_requests_of_another_task_are_relabelled_or_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(renewals, "overrides_of", lambda run: ("+task=mahjong", "seed=3"))
    task = MahjongTask()
    good, bad = Response("q", "a", "a"), Response("q", "?", None)
    found = renewals.renewal(tmp_path, task, "log.jsonl", [good] * 40, None, None)
    wanted = ("+task=logs", "task.path=log.jsonl", "task.answers=relabel", "seed=3")
    assert found.overrides == wanted
    assert "Nobody has checked" in found.warning
    found = renewals.renewal(tmp_path, task, "log.jsonl", [good] * 40 + [bad], None, None)
    assert not found.overrides
    assert "1 of them cannot be read" in found.warning


@pytest.mark.parametrize("record", ["{", '{"format": 0}'])
def test_an_evaluation_that_cannot_be_read_is_told(tmp_path, record):
    (tmp_path / "evaluate.json").write_text(record)
    with pytest.raises(StratosError, match=r"evaluate\.json cannot be read"):
        renewals.evaluated(tmp_path, str)
