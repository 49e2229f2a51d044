import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_run import SERVER

from stratos.deploy.service import service_file
from stratos.records import RoleChoice

GOLDEN = Path(__file__).parent / "golden"
BUNDLE = Path("/runs/one of many/bundle")
GPU = replace(
    SERVER,
    cloud="gcp",
    region="us-central1",
    instance_type="g2-standard-4",
    accelerator="L4",
    accelerator_count=1,
    usd_per_hour=0.7069,
    usd_per_hour_spot=0.2121,
)


def role(offer, spot: bool = False) -> RoleChoice:
    return RoleChoice("serve", offer, 1, spot, 24.0, 1.0)


@pytest.mark.parametrize(
    ("choice", "golden"),
    [
        (role(SERVER), "cpu.sky.yaml"),
        (role(GPU, spot=True), "gpu.sky.yaml"),
        (role(replace(SERVER, cloud="local", region="here")), "local.sh"),
    ],
)
def test_the_service_file_is_as_agreed(choice, golden):
    _, text = service_file(choice, "larger-tiny", BUNDLE)
    assert text == (GOLDEN / golden).read_text()


def test_clouds_that_skypilot_knows_get_a_task_and_others_a_script():
    assert service_file(role(SERVER), "x", BUNDLE)[0] == "serve.sky.yaml"
    assert service_file(role(replace(SERVER, cloud="elsewhere")), "x", BUNDLE)[0] == "serve.sh"
    assert service_file(role(None), "x", BUNDLE)[0] == "serve.sh"


def test_the_task_is_yaml_that_mounts_the_bundle_and_opens_no_port():
    _, text = service_file(role(GPU), "Larger: Tiny_1M", BUNDLE)
    task = yaml.safe_load(text)
    assert task["name"] == "larger-tiny-1m"
    assert task["file_mounts"] == {"~/bundle": str(BUNDLE)}
    assert task["resources"]["infra"] == "gcp/us-central1"
    assert task["resources"]["accelerators"] == "L4:1"
    assert "ports" not in task["resources"]


def test_a_name_that_no_letter_begins_is_given_one():
    _, text = service_file(role(SERVER), "3M", BUNDLE)
    assert yaml.safe_load(text)["name"] == "student-3m"


def test_the_script_is_a_script():
    _, text = service_file(role(None), "x", BUNDLE)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
