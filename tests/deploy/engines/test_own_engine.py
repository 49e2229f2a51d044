"""An engine of a user's own is one class and one YAML: planned, explained, checked, served."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checked import problems
from hydra.types import RunMode
from serving_points import serving

from stratos.cli.build import build
from stratos.cli.compose import hydra_for
from stratos.cli.help import group_page, page
from stratos.config import Config
from stratos.core.trust import ALLOW_TARGETS
from stratos.deploy.bundle_server import serve_command
from stratos.deploy.engines.base import engine_named
from stratos.estimate.answering import EngineChoice, runners
from stratos.estimate.cards import Workload
from stratos.estimate.fleet import Fleet, device_of
from stratos.plan.options.role_options import engine_choices, loss_of, too_lossy
from stratos.records import ModelCard, Offer, ServingSetting

SERVER = Path(__file__).parents[1] / "slow_server.py"
CLASS = '''
from dataclasses import dataclass

from stratos.deploy.engines.base import Count, Engine
from stratos.deploy.engines.cost import ServingCost, WeightFormat


@dataclass(frozen=True)
class Quick(Engine):
    """A server that answers several requests at once, on GPUs."""

    kind = "quick"
    title = "Quick"
    packages = ("quick-server>=1",)
    needs = ("quick_server",)
    program = "python -m quick_server"
    module = "quick_server"
    wants = "a GPU"
    devices = "gpu"
    weight_formats = (WeightFormat("int4", 0.5, loss_points=0.4, most_loss_points=2.0),)
    cost = ServingCost(slots=(1, 16), block=0.0, step=1.0, all_devices=True)

    at_once: Count = 16

    def arguments(self, model, host, port, run, n_devices, context):
        """Return the arguments of its program."""
        return ["--model-path", model, "--port", str(port), "--slots", str(run.slots)]
'''
YAML = """\
# Serve the student with Quick.
#
#   python -m stratos +task=mahjong deploy=quick
defaults:
  - local
  - _self_
engine:
  _target_: my_engines.Quick
engines:
  quick:
    _target_: my_engines.Quick
    at_once: 4
"""
MAIN = """
import sys
from slow_server import OneAtATime, Server
import threading
httpd = Server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), OneAtATime)
httpd.lock, httpd.seconds = threading.Lock(), 0.0
httpd.serve_forever()
"""
CARD = ModelCard("tiny", 869_504, 4, 128, 2, 2, 384, 512, 2048)
H100 = Offer("aws", "us-east-1", "p5", "H100", 8, 96, 1000, 80, 40.0)
CPU = Offer("aws", "us-east-1", "c7i", None, 0, 4, 16, 0, 0.2)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of choices; the program that the class starts is installed."""
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "code"
    code.mkdir()
    (code / "my_engines.py").write_text(CLASS)
    (code / "slow_server.py").write_text(SERVER.read_text())
    (code / "quick_server.py").write_text(MAIN)
    (tmp_path / "mine" / "deploy").mkdir(parents=True)
    (tmp_path / "mine" / "deploy" / "quick.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(str(code))
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    monkeypatch.setenv(ALLOW_TARGETS, "my_engines")
    monkeypatch.delitem(sys.modules, "my_engines", raising=False)
    return tmp_path / "mine"


def composed(own: Path, *typed: str) -> Config:
    with hydra_for(str(own)) as hydra:
        lines = ["+task=mahjong", "deploy=quick", "paths=here", "paths.run_dir=run", *typed]
        return build(hydra.compose_config("config", lines, RunMode.RUN, True))


def test_help_and_check_know_it(own, snapshot):
    assert "quick" in page(str(own))
    assert "deploy.engine" in group_page(["deploy=quick"], str(own))
    typed = ["--config-dir", str(own), "+task=mahjong", "deploy=quick"]
    assert problems(*typed) == []
    assert problems(*typed, "+deploy.engine.at_once=0") == snapshot
    (own.parent / "code" / "quick_server.py").unlink()
    assert problems(*typed) == snapshot


def test_a_class_that_lacks_its_cost_is_refused(own, snapshot):
    module = own.parent / "code" / "my_engines.py"
    incomplete = CLASS.replace("    cost = ", "    price = ").replace('    title = "Quick"', "")
    module.write_text(incomplete)
    typed = ["--config-dir", str(own), "+task=mahjong", "deploy=quick"]
    assert problems(*typed) == snapshot


def test_a_plan_chooses_it_where_it_runs_with_what_its_format_loses(own):
    config = composed(own)
    [choice] = engine_choices(config.deploy) or ()
    assert (choice.engine.kind, choice.engine.at_once) == ("quick", 4)
    work, choices = Workload(64, 150), (choice, EngineChoice(engine_named("transformers")))
    fleet = Fleet.of([device_of(H100), device_of(CPU)])
    assert {one.kind: one.runs.tolist() for one in runners(CARD, fleet, choices)} == {
        "quick": [True, False], "transformers": [False, True],
    }  # fmt: skip
    points = serving(CARD, H100, [work], choices=(choice,))
    assert {(one.engine, one.format) for one in points} == {("quick", "int4")}
    assert {one.batch for one in points} <= {1, 16}
    [form] = choice.engine.weight_formats
    assert loss_of(form).value == 0.4
    strict = replace(config.limits, accuracy=0.895)
    with_format = (replace(choice, formats=(form,)),)
    assert too_lossy(with_format, 0.9, strict) == {form}
    assert not too_lossy(with_format, 0.9, replace(strict, accuracy=0.88, confidence="low"))


def test_its_command_is_its_own(own):
    composed(own)
    words = shlex.split(serve_command(".", port=1, run=ServingSetting("quick", 4)))
    assert words[:3] == ["python", "-m", "quick_server"]
    assert words[3:] == ["--model-path", ".", "--port", "1", "--slots", "4"]


@pytest.mark.slow
def test_it_is_hosted_by_name(own, tmp_path):
    bundle = tmp_path / "run" / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text('{"max_position_embeddings": 512}')
    (bundle / "model.safetensors").write_bytes(b"")

    def command(*argv: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "STRATOS_CACHE": str(tmp_path / "cache")}
        return subprocess.run(
            [sys.executable, "-m", "stratos", "serve", *argv],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    unknown = command(str(bundle), "--engine", "quick")
    assert unknown.returncode == 1 and "There is no serving engine quick." in unknown.stderr
    done = command(str(bundle), "--engine", "quick", "--config-dir", str(own))
    assert done.returncode == 0, done.stderr
    try:
        assert "quick, 16 answers at once" in done.stdout
        [curl] = re.findall(r"ask:    (curl .*)", done.stdout)
        reply = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=60)
        assert json.loads(reply.stdout)["choices"][0]["message"]["content"] == "…"
    finally:
        assert command("stop", str(bundle)).returncode == 0
    # The config of its run tells, too.
    (tmp_path / "run" / ".hydra").mkdir()
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text(
        "deploy:\n  engine:\n    _target_: my_engines.Quick\n"
    )
    done = command(str(tmp_path / "run"), "--engine", "quick", "--at-once", "2")
    assert done.returncode == 0, done.stderr
    assert "2 answers at once" in done.stdout
    assert command("stop", "--all").returncode == 0
