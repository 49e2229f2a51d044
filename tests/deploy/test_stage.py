"""The whole stage once, with the real server, and then what it left behind."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_run import tiny_context

from stratos import config as c
from stratos.catalog.offers import local_offer
from stratos.core.errors import StratosError
from stratos.deploy import stage
from stratos.deploy.bundle_server import serving_bundle
from stratos.deploy.card import sentences
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.load_test import LOOKS, LoadTest, load_test
from stratos.deploy.server import ServeError, free_port
from stratos.deploy.service import service_files
from stratos.deploy.stage import _is_personal, deploy
from stratos.deploy.trial import Trial, try_server
from stratos.estimate.cards import Workload, card_of_student
from stratos.estimate.fleet import calibration
from stratos.estimate.serving import LEAST_HOST_SHARE, foresee
from stratos.evaluate.answers import KeptAnswer, answers_path, read_answers
from stratos.records import Deployment, ServingSetting
from stratos.tasks.base import Score

pytestmark = pytest.mark.slow


class Deployed:
    """What the stage returned, said and logged."""

    def __init__(self, run) -> None:
        self.warnings: list[str] = []
        self.ticks: list[tuple[int, int, str]] = []
        self.metrics: dict[str, float] = {}
        self.run = run
        context = tiny_context(
            run.folder,
            warn=self.warnings.append,
            tick=lambda done, total, text="": self.ticks.append((done, total, text)),
            log=lambda metrics, step=None: self.metrics.update(metrics),
        )
        # A limit that no server meets, so that the warning is seen.
        config = replace(run.config, limits=c.LimitsConfig(latency_ms=0.001))
        self.context = context
        self.student_card = card_of_student(config.students[0], config.task)
        self.trials: list[Trial] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "try_server", self._try_server)
            result = deploy(config, run.plan, run.scorecard, run.student, context)
        assert result is not None
        self.record: Deployment = result
        self.bundle = Path(result.bundle_path)
        self.answers = read_answers(run.folder)[:12]

    def _try_server(self, *args, **options) -> Trial:
        """Try the real server, and remember what it showed."""
        self.trials.append(try_server(*args, **options))
        return self.trials[-1]


@pytest.fixture(scope="module")
def deployed(run) -> Deployed:
    return Deployed(run)


def test_every_served_answer_is_that_of_the_evaluation(deployed):
    assert deployed.record.n_requests == 12
    assert deployed.record.n_equal == 12
    lengths = {answer.output_tokens for answer in deployed.answers}
    assert len(lengths) > 3


def test_an_answer_that_is_not_that_of_the_evaluation_is_counted(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    path = answers_path(folder)
    lines = path.read_bytes().splitlines()
    for place in (0, 5, 11, 12):  # the last of them is not asked
        kept = json.loads(lines[place])
        lines[place] = json.dumps({**kept, "text": f"{kept['text']}1"}).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    warnings, metrics = [], {}
    context = tiny_context(
        folder, warn=warnings.append, log=lambda found, step=None: metrics.update(found)
    )
    config = replace(run.config, deploy=replace(run.config.deploy, load_seconds=0))
    record = deploy(config, run.plan, run.scorecard, run.student, context)
    assert (record.n_requests, record.n_equal) == (12, 9)
    assert metrics["deploy/equal"] == 0.75
    assert warnings[0].startswith("3 of 12 answers of the server differ from the evaluation.")


def test_a_run_folder_that_is_deleted_meanwhile_is_not_made_anew(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)

    def delete(done, total, text=""):
        if text.startswith("requests") and done == total:
            shutil.rmtree(folder)

    config = replace(run.config, deploy=replace(run.config.deploy, load_seconds=0))
    # What the server showed is kept for this machine, outside the run.
    context = tiny_context(folder, tick=delete, cache_dir=tmp_path / "cache")
    with pytest.raises(StratosError, match="was deleted or emptied"):
        deploy(config, run.plan, run.scorecard, run.student, context)
    assert not (folder / "bundle").exists() and not (folder / "deploy").exists()


def test_latency_and_throughput_are_measured(deployed):
    record, [trial] = deployed.record, deployed.trials
    seconds = sorted(answer.seconds for answer in trial.closed.answers)
    assert 1000 * seconds[5] <= record.latency_p50_ms <= 1000 * seconds[6]
    assert 1000 * seconds[-2] <= record.latency_p95_ms <= 1000 * seconds[-1]
    assert 0 < record.latency_p50_ms < record.latency_p95_ms < 60_000
    assert deployed.metrics["deploy/latency_p95_ms"] == record.latency_p95_ms
    n_tokens = sum(answer.output_tokens for answer in deployed.answers)
    # One request at a time: the tokens of all divided by the time of all.
    assert record.tokens_per_s == pytest.approx(n_tokens / sum(seconds), rel=0.2)
    assert deployed.metrics["deploy/equal"] == 1.0


def test_a_latency_limit_that_is_missed_is_said(deployed):
    assert deployed.record.meets_latency_limit is False
    [warning] = deployed.warnings
    assert "for one answer (p95), above limits.latency_ms=0.001." in warning


def test_progress_is_told(deployed):
    assert deployed.ticks[:2] == [(0, 12, "bundle"), (0, 12, "server starts")]
    assert (12, 12, "requests · 12 of 12") in deployed.ticks
    done, total, what = deployed.ticks[-1]
    assert done == total and what.endswith(f" · {done} of {total}")


def test_the_server_is_tested_at_the_highest_rate_that_it_keeps_up_with(deployed):
    record = deployed.record
    assert record.run == ServingSetting("transformers")
    load = record.load
    assert load is not None and load.planned_per_s is None
    # It asks in equal parts, after each of which it may end.
    assert 0 <= round(load.requests_per_s * 3.0) - load.n_requests < LOOKS
    # One at a time: the capacity is one over the mean seconds of an answer, or nearly.
    mean_ms = record.answer_ms.measured
    assert load.capacity_per_s == pytest.approx(1000 / mean_ms, rel=0.1)
    assert load.requests_per_s <= 0.86 * load.capacity_per_s
    assert load.latency_p95_ms >= load.latency_p50_ms > 0
    assert deployed.metrics["deploy/load_p95_ms"] == load.latency_p95_ms


def test_the_estimate_of_this_machine_stands_beside_the_measurement(deployed):
    record = deployed.record
    for prediction in (record.answer_ms, record.load.capacity):
        assert 0 < prediction.predicted.low < prediction.predicted.mean < prediction.predicted.high
        assert prediction.predicted.source == "roofline of this machine, measured"
    speed, _, limits = (deployed.bundle / "README.md").read_text().partition("## Limits")
    assert limits and all(f"- {sentence}\n" in speed for sentence in sentences(record))


def test_a_measurement_joins_the_estimate_of_this_machine_if_it_is_quiet(deployed):
    known = calibration(deployed.context.cache_dir)
    if deployed.record.was_busy:
        assert known.served == ()
        return
    (served,) = known.served
    assert served.engine == "transformers"
    mean_s = deployed.record.answer_ms.measured / 1000
    assert served.answer_s == pytest.approx(mean_s)
    work = Workload(10.0, served.answer_tokens)
    run = deployed.record.run
    now = foresee(deployed.student_card, local_offer(), work, run, known)
    host_s = served.block_s * served.answer_tokens
    host_s *= Transformers.cost.host_blocks(deployed.student_card.n_layers, 1)
    if host_s > 1.01 * LEAST_HOST_SHARE * mean_s:
        assert now.answer_ms.mean / 1000 == pytest.approx(mean_s, rel=0.05)
    else:  # faster than what a request is taken for beside the host: the estimate's least stands
        assert now.answer_ms.mean / 1000 > mean_s


def test_the_bundle_holds_what_it_should_and_no_pickles(deployed):
    names = {file.name for file in deployed.bundle.iterdir()}
    assert names == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json",
        "known_answers.jsonl", "manifest.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    n_bytes = sum(file.stat().st_size for file in deployed.bundle.iterdir())
    assert deployed.record.bundle_bytes == n_bytes


def test_the_cards_python_answers_in_the_bundle_without_stratos(deployed):
    card = (deployed.bundle / "README.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    script += "import sys\nassert not any(name.startswith('stratos') for name in sys.modules)\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=deployed.bundle,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = deployed.answers[0].text
    assert done.stdout == f"{expected}\n"
    (shown,) = re.findall(r"It answered .*:\n\n```text\n(.*?)\n```", card)
    assert shown == expected


def test_the_service_script_and_the_cards_commands_serve_the_bundle(deployed, tmp_path):
    """The launch script of a server that no tool rents, asked with the card's curl."""
    choice = replace(deployed.run.plan.role("serve"), offer=None)
    [(name, text)] = service_files([choice], "larger-tiny", deployed.bundle, tmp_path / "stratos")
    script = deployed.run.folder / "deploy" / name
    script.write_text(text)
    card = (deployed.bundle / "README.md").read_text()
    (curl,) = re.findall(r"```sh\n(curl .*?)```", card, re.DOTALL)
    port = free_port()
    curl = curl.replace(":8000", f":{port}").replace("curl", "curl -s --noproxy '*'", 1)
    commands = Path(sys.executable).parent
    server = subprocess.Popen(
        ["sh", str(script)],
        env={**os.environ, "PORT": str(port), "PATH": f"{commands}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answer, deadline = "", time.monotonic() + 120
        while not answer and time.monotonic() < deadline:
            time.sleep(0.3)
            assert server.poll() is None
            answer = subprocess.run(
                ["sh", "-c", curl], capture_output=True, text=True, check=False
            ).stdout
    finally:
        server.kill()
        server.wait()
    assert f'"content":"{deployed.answers[0].text}"' in answer
    assert shlex.split(deployed.record.server)[:2] == ["transformers", "serve"]


def test_none_serves_nothing(run, tmp_path):
    config = replace(run.config, deploy=c.DeployConfig(name="none"))
    context = tiny_context(tmp_path)
    assert deploy(config, run.plan, run.scorecard, run.student, context) is None
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_load_end_in_one_clear_error(run, deployed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("bundle"))
    (folder / "student" / "model.safetensors").write_bytes(b"not weights")
    student = replace(run.student, path=str(folder / "student"))
    with pytest.raises(ServeError) as caught:
        deploy(run.config, run.plan, run.scorecard, student, tiny_context(folder))
    message = str(caught.value)
    assert message.startswith("The server ended with code 1 ")
    assert "Error while deserializing header" in message


def test_batches_are_answered_as_one_after_another(deployed, tmp_path):
    """`transformers serve --continuous-batching`, which is planned where a rate has to be kept."""
    run, answers = ServingSetting("transformers-batching", slots=4), deployed.answers
    chats = [answer.messages for answer in answers]
    with serving_bundle(deployed.bundle, run, tmp_path / "server.log") as server:
        tests = [
            load_test(
                server, chats, max_tokens=40, concurrency=6, tick=lambda *done: None, stream=True
            )
            for _ in range(3)
        ]
    for test in tests:
        assert [answer.text for answer in test.answers] == [answer.text for answer in answers]
    # Answers that are written one after another take together no longer than the whole.
    assert max(_writing_s(test) / test.seconds for test in tests) > 1.2


def _writing_s(test: LoadTest) -> float:
    """Return the seconds from the first token of each answer to its last, summed."""
    return sum(answer.seconds - answer.first_token for answer in test.answers)


def test_a_bundle_shows_no_question_that_seems_personal_while_there_are_others():
    def kept(question: str) -> KeptAnswer:
        return KeptAnswer(
            id=question, slice="all", question=question, gold="g",
            messages=[{"role": "user", "content": question}], text="t", output_tokens=1,
            score=Score(1.0, 1.0, True), logprob=-0.1,
        )  # fmt: skip

    answers = [
        kept("mail jane.doe@example.org"),
        kept("where is it"),
        kept("card 4242424242424242"),
    ]
    assert min(answers, key=_is_personal).question == "where is it"
    assert _is_personal(kept("the key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"))
