"""The whole stage once, with the real server, and then what it left behind."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_run import tiny_context

from stratos import config as c
from stratos.deploy import deploy
from stratos.deploy.server import ServeError
from stratos.evaluate.files import read_answers
from stratos.records import Deployment, from_json, to_json


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
        result = deploy(config, run.plan, run.scorecard, run.student, context)
        assert result is not None
        self.record: Deployment = result
        self.bundle = Path(result.bundle_path)


@pytest.fixture(scope="module")
def deployed(run) -> Deployed:
    return Deployed(run)


def test_every_served_answer_is_that_of_the_evaluation(deployed):
    assert deployed.record.n_requests == 12
    assert deployed.record.n_equal == 12
    lengths = {answer.output_tokens for answer in read_answers(deployed.run.folder)[:12]}
    assert len(lengths) > 3


def test_latency_and_throughput_are_measured(deployed):
    record = deployed.record
    assert 0 < record.latency_p50_ms <= record.latency_p95_ms < 60_000
    n_tokens = sum(answer.output_tokens for answer in read_answers(deployed.run.folder)[:12])
    # One request at a time: the tokens of all divided by the time of all.
    assert record.tokens_per_s <= n_tokens / (12 * 0.4 * record.latency_p50_ms / 1000)
    assert record.tokens_per_s >= n_tokens / (12 * 2 * record.latency_p95_ms / 1000)
    assert deployed.metrics["deploy/equal"] == 1.0


def test_a_latency_limit_that_is_missed_is_said(deployed):
    assert deployed.record.meets_latency_limit is False
    assert len(deployed.warnings) == 1
    assert re.fullmatch(
        r"The server on this machine took \d+ ms for one answer \(p95\), above "
        r"limits\.latency_ms=0\.001\. The planned server may be faster; a smaller student is\.",
        deployed.warnings[0],
    )


def test_progress_is_told(deployed):
    assert deployed.ticks[0] == (0, 12, "bundle")
    assert deployed.ticks[1] == (0, 12, "server starts")
    assert deployed.ticks[-1] == (12, 12, "requests")


def test_the_server_is_gone_and_its_log_is_kept(deployed):
    log = (deployed.run.folder / "deploy" / "server.log").read_text()
    assert "Application startup complete" in log
    (pid,) = re.findall(r"Started server process \[(\d+)\]", log)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_record_survives_the_disk(deployed):
    assert from_json(to_json(deployed.record), Deployment) == deployed.record


def test_the_bundle_holds_what_it_should_and_no_pickles(deployed):
    names = {file.name for file in deployed.bundle.iterdir()}
    assert names == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
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
    expected = read_answers(deployed.run.folder)[0].text
    assert done.stdout == f"{expected}\n"
    (shown,) = re.findall(r"It answers\n\n```text\n(.*?)\n```", card, re.DOTALL)
    assert shown == expected


def test_the_service_script_and_the_cards_commands_serve_the_bundle(deployed, tmp_path):
    """The launch script of a server that no tool rents, asked with the card's curl."""
    import time

    from stratos.deploy.server import free_port
    from stratos.deploy.service import service_file

    name, text = service_file(
        replace(deployed.run.plan.role("serve"), offer=None), "larger-tiny", deployed.bundle
    )
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
    assert f'"content":"{read_answers(deployed.run.folder)[0].text}"' in answer
    assert shlex.split(deployed.record.server)[:2] == ["transformers", "serve"]


def test_none_serves_nothing(run, tmp_path):
    config = replace(run.config, deploy=c.DeployConfig(name="none"))
    context = tiny_context(tmp_path)
    assert deploy(config, run.plan, run.scorecard, run.student, context) is None
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_load_end_in_one_clear_error(run, deployed, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("bundle"))
    (folder / "student" / "model.safetensors").write_bytes(b"not weights")
    student = replace(run.student, path=str(folder / "student"))
    with pytest.raises(ServeError) as caught:
        deploy(run.config, run.plan, run.scorecard, student, tiny_context(folder))
    message = str(caught.value)
    assert message.startswith("The server ended with code 1 before it answered. The end of ")
    assert "safetensors" in message.lower()
    assert message.endswith("Leave it out with deploy=none; every other result is kept.")
