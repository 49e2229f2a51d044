"""The service files of SkyServe: as agreed, and taken by SkyPilot itself."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from planned_servers import (
    BATCHING,
    BUNDLE,
    GPU,
    HOSTILE,
    LLAMA_CPP,
    VLLM,
    WHEELS,
    role,
    service_file,
)
from tiny_run import SERVER

from stratos.deploy.manifest import Known, write_known
from stratos.deploy.service import service_files

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("choice", "golden"),
    [
        (replace(role(SERVER, run=BATCHING), count=3), "cpu.sky.yaml"),
        (role(replace(GPU, accelerator_count=8), spot=True, run=VLLM), "gpu.sky.yaml"),
        (role(SERVER, run=LLAMA_CPP), "llamacpp.sky.yaml"),
    ],
)
def test_the_service_file_is_as_agreed(choice, golden, monkeypatch):
    monkeypatch.setattr("stratos.deploy.service.version", lambda name: "1.2.3+cpu")
    monkeypatch.setattr("stratos.contrib.skypilot.servers.python_version", lambda: "3.11")
    _, text = service_file(choice, "larger-tiny", BUNDLE)
    assert text == (GOLDEN / golden).read_text()


def test_clouds_that_skypilot_knows_get_a_task_and_others_a_script():
    assert service_file(role(SERVER), "x", BUNDLE)[0] == "serve.sky.yaml"
    assert service_file(role(replace(SERVER, cloud="elsewhere")), "x", BUNDLE)[0] == "serve.sh"
    assert service_file(role(None), "x", BUNDLE)[0] == "serve.sh"


def test_the_service_mounts_the_bundle_and_lets_no_one_in_without_a_key():
    _, text = service_file(role(GPU), "Larger: Tiny_1M", BUNDLE)
    task = yaml.safe_load(text)
    assert task["name"] == "larger-tiny-1m"
    assert task["file_mounts"] == {"~/bundle": str(BUNDLE)}
    assert task["resources"]["infra"] == "gcp/us-central1"
    assert task["resources"]["accelerators"] == "L4:1"
    assert task["resources"]["ports"] == 8000
    assert task["secrets"] == {"STRATOS_KEY": None}
    assert "--host 127.0.0.1 --port 8001" in task["run"]
    assert '"~^(?i:Bearer) +${STRATOS_KEY}\\$" default;' in task["run"]
    assert "limit_conn all 32;" in task["run"]
    assert subprocess.run(["sh", "-n"], input=task["run"], text=True, check=False).returncode == 0


def test_a_server_is_ready_when_it_has_answered_a_question_of_the_bundle(tmp_path):
    chat = [{"role": "user", "content": "1m 2m 3m"}]
    write_known(tmp_path, [Known(chat, "4m", "4m", True, 8)])
    _, text = service_file(replace(role(GPU, spot=True), count=3), "x", tmp_path)
    service = yaml.safe_load(text)["service"]
    probe = service["readiness_probe"]
    assert probe["path"] == "/v1/chat/completions"
    assert probe["post_data"]["messages"] == chat
    assert probe["headers"] == {"Authorization": "Bearer $STRATOS_KEY"}
    assert service["replica_policy"] == {
        "min_replicas": 3, "max_replicas": 3, "dynamic_ondemand_fallback": True,
    }  # fmt: skip


def test_each_kind_of_server_of_a_mix_has_a_service_of_its_own():
    mix = [
        replace(role(GPU, run=VLLM), count=2, traffic=(1.0, 0.25)),
        replace(role(SERVER, run=BATCHING), traffic=(0.0, 0.75)),
    ]
    found = dict(service_files(mix, "x", BUNDLE, WHEELS))
    assert list(found) == ["serve-1.sky.yaml", "serve-2.sky.yaml"]
    tasks = [yaml.safe_load(text) for text in found.values()]
    assert [task["name"] for task in tasks] == ["x-1", "x-2"]
    assert [task["service"]["replica_policy"]["min_replicas"] for task in tasks] == [2, 1]
    assert "It gets 100%, 25% of the requests" in found["serve-1.sky.yaml"]


@pytest.mark.parametrize("spot", [False, True])
def test_skypilot_takes_the_service(spot):
    sky = pytest.importorskip("sky")
    from sky.utils import common_utils, schemas

    _, text = service_file(role(GPU, spot=spot, run=VLLM), "x", Path(__file__).parent)
    task = yaml.safe_load(text)
    common_utils.validate_schema(task, schemas.get_task_schema(), "task: ")
    common_utils.validate_schema(task["service"], schemas.get_service_schema(), "service: ")
    made = sky.Task.from_yaml_config(task, secrets_overrides=[("STRATOS_KEY", "abc")])
    assert made.service.readiness_headers == {"Authorization": "Bearer abc"}
    assert made.service.min_replicas == 1


def test_a_name_that_no_letter_begins_is_given_one():
    _, text = service_file(role(SERVER), "3M", BUNDLE)
    assert yaml.safe_load(text)["name"] == "student-3m"


def test_no_name_leaves_its_place_in_the_yaml():
    offer = replace(GPU, region=HOSTILE, instance_type=HOSTILE, price_date=HOSTILE)
    _, text = service_file(role(offer), HOSTILE, Path(f"/runs/{HOSTILE}/bundle"))
    task = yaml.safe_load(text)
    assert set(task) == {
        "name", "resources", "secrets", "file_mounts", "service", "setup", "run",
    }  # fmt: skip
    assert task["resources"]["infra"] == f"gcp/{HOSTILE}"
    assert task["resources"]["instance_type"] == HOSTILE
    assert task["file_mounts"] == {"~/bundle": f"/runs/{HOSTILE}/bundle"}
    assert "touch" not in task["setup"] + task["run"]
    assert "\x1b" not in text and "\u202e" not in text
