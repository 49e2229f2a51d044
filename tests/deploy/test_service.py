import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_run import SERVER

from stratos.deploy.service import service_file
from stratos.records import RoleChoice, ServingSetting

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


VLLM = ServingSetting("vllm", slots=16, tensor_parallel=2, utilisation=0.7)
BATCHING = ServingSetting("transformers-batching", slots=4, utilisation=0.7)


def role(offer, spot: bool = False, run: ServingSetting | None = None) -> RoleChoice:
    return RoleChoice("serve", offer, 1, spot, 24.0, 1.0, run=run)


@pytest.mark.parametrize(
    ("choice", "golden"),
    [
        (role(SERVER, run=BATCHING), "cpu.sky.yaml"),
        (role(replace(GPU, accelerator_count=8), spot=True, run=VLLM), "gpu.sky.yaml"),
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


HOSTILE = "x\nsetup: touch made\n# $(touch made) `touch made` \x1b[31m\u202e"


def test_no_name_leaves_its_place_in_the_yaml():
    offer = replace(GPU, region=HOSTILE, instance_type=HOSTILE, price_date=HOSTILE)
    _, text = service_file(role(offer), HOSTILE, Path(f"/runs/{HOSTILE}/bundle"))
    task = yaml.safe_load(text)
    assert set(task) == {"name", "resources", "file_mounts", "setup", "run"}
    assert task["resources"]["infra"] == f"gcp/{HOSTILE}"
    assert task["resources"]["instance_type"] == HOSTILE
    assert task["file_mounts"] == {"~/bundle": f"/runs/{HOSTILE}/bundle"}
    assert "touch" not in task["setup"] + task["run"]
    assert "\x1b" not in text and "\u202e" not in text


def test_no_name_is_a_command_of_the_script(tmp_path: Path):
    offer = replace(SERVER, cloud="elsewhere", region=HOSTILE, instance_type=HOSTILE)
    bundle = tmp_path / f"{HOSTILE.replace('/', '')}"
    bundle.mkdir()
    name, text = service_file(role(offer), HOSTILE, bundle)
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / name
    script.write_text(text.replace("exec transformers", "exec echo"))
    done = subprocess.run(["sh", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["serve"]), done.stderr
    assert not list(tmp_path.rglob("made"))
