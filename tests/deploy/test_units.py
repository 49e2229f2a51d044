"""What systemd, Docker, Kubernetes and Grafana are given: checked by what reads it, and run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from predictor_student import trained
from required import lacking

from stratos.core.errors import StratosError
from stratos.deploy.hosted_server import CACHE, Hosted
from stratos.deploy.hosting import KEY, setting_here
from stratos.deploy.manifest import write_manifest
from stratos.deploy.proxy import Metrics
from stratos.deploy.units import SYSTEMS, container_command, unit
from stratos.records import ServingSetting, save
from tests.report.factory import make_records


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    bundle = tmp_path / "a run" / "bundle"
    trained().save(bundle)
    write_manifest(bundle)
    return bundle


def hosted(bundle: Path, name: str = "my student") -> Hosted:
    return Hosted(
        bundle=str(bundle), name=name, port=9000, engine_port=1, module="", arguments=[],
        environment={}, log="", since="", version="", engine="predictor", at_once=16,
    )  # fmt: skip


def text(system: str, bundle: Path, **more: Any) -> str:
    return unit(system, bundle, replace(hosted(bundle), **more), 0, bundle.parent / "100% $HOME")


def test_systemd_reads_its_unit(bundle, tmp_path):
    program = shutil.which("systemd-analyze") or lacking("systemd", "no systemd-analyze")
    path = tmp_path / "stratos-my-student.service"
    path.write_text(text("systemd", bundle))
    done = subprocess.run([program, "verify", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"serve" "start" "my student" "--foreground"' in path.read_text()
    assert f'{CACHE}={bundle.parent}/100%% $$HOME"' in path.read_text()
    with pytest.raises(StratosError, match="--port <number>"):
        unit("systemd", bundle, None, 0, tmp_path)


def test_a_container_starts_what_is_served_here(bundle):
    image = text("docker", bundle)
    (command,) = re.findall(r"^CMD (.*)", image, re.M)
    run = ServingSetting("predictor", slots=16)
    assert json.loads(command) == container_command(bundle, "my student", run, 8000)
    context = bundle.parent
    copied = [words.split()[1] for words in re.findall(r"^(COPY d.*)", image, re.M)]
    assert [*(context / copied[0]).glob("*.whl")], "its wheel is written"
    assert f"-f - {shlex.quote(str(context))}" in image
    with pytest.raises(StratosError, match="only systemd"):
        text("docker", bundle, front="with its teacher behind it")


def test_kubernetes_asks_the_paths_that_there_are(bundle):
    deployment, service = yaml.safe_load_all(text("kubernetes", bundle))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness")}
    assert paths == {key: {"path": "/ready", "port": 8000} for key in paths}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": 8000}
    assert [one["name"] for one in container["env"]] == [KEY]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["metadata"]["name"] == "my-student"


def test_the_dashboard_asks_what_is_counted(bundle):
    board = json.loads(text("grafana", bundle))
    there = {family.name for family in Metrics().registry.collect()}
    for panel in board["panels"]:
        for query in panel["targets"]:
            for name in re.findall(r"\b((?:http|gen_ai|stratos)_\w+)[{\[ ]?", query["expr"]):
                label = name in ("http_response_status_code", "http_route", "gen_ai_token_type")
                base = re.sub(r"_(total|bucket|count)$", "", name)
                assert label or base in there or base.startswith("stratos_cascade_"), name
    errors = next(panel for panel in board["panels"] if panel["title"] == "Errors")
    (query,) = errors["targets"]
    assert "499" in query["expr"], "who did not wait for an answer got none"
    assert set(SYSTEMS) == {"systemd", "docker", "kubernetes", "grafana"}


def test_it_is_hosted_as_it_was_measured(bundle):
    deployment = make_records(bundle.parent)["deploy"]
    measured = replace(deployment, run=ServingSetting("predictor", slots=3))
    save(bundle.parent / "deploy.json", "deploy", "mark", measured)
    assert setting_here(bundle)[0] == ServingSetting("predictor", slots=3)
    assert setting_here(bundle, 5)[0] == ServingSetting("predictor", slots=5)
    image = unit("docker", bundle, None, 0, bundle.parent)
    assert '"--name", "a run", "--at-once", "3"]' in image
    image = unit("docker", bundle, None, 0, bundle.parent, "mine")
    assert '"--name", "mine", "--at-once", "3"]' in image


INSIDE = """
import json, subprocess, sys, time, urllib.error, urllib.request
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = subprocess.Popen(json.loads(sys.argv[1]))
def status(path, key=""):
    request = urllib.request.Request(f"http://127.0.0.1:8000{path}")
    request.add_header("Authorization", f"Bearer {key}")
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
until = time.monotonic() + 90
while status("/ready") != 200 and time.monotonic() < until:
    time.sleep(0.2)
found = [status("/ready"), status("/v1/models"), status("/v1/models", "sk-secret")]
server.terminate()
print(json.dumps([*found, server.wait(30)]))
"""


@pytest.mark.slow
@pytest.mark.kill
def test_the_command_of_the_image_serves_in_a_namespace_of_its_own(bundle, monkeypatch, tmp_path):
    """As in a container: no network but its own, and the bundle in the current folder."""
    alone = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]
    if not shutil.which("ip") or subprocess.run([*alone, "true"], check=False).returncode:
        lacking("unshare", "no namespaces may be made here")
    command = container_command(bundle, "s", ServingSetting("predictor", slots=4), 8000)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv(KEY, "sk-secret")
    inside = [sys.executable, "-c", INSIDE, json.dumps([sys.executable, *command[1:]])]
    done = subprocess.run(
        [*alone, *inside], cwd=bundle.parent, capture_output=True, text=True, timeout=180
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [200, 401, 200, 0], done.stderr
