import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from tiny_run import SERVER

from stratos.contrib.skypilot.service import installs
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.manifest import Known, write_known
from stratos.deploy.service import service_files, write_wheels
from stratos.records import RoleChoice, ServingSetting

GOLDEN = Path(__file__).parent / "golden"
BUNDLE = Path("/runs/one of many/bundle")
WHEELS = Path("/runs/one of many/deploy/stratos")
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
LLAMA_CPP = ServingSetting("llamacpp", slots=8, format="q8_0", utilisation=0.7)
BATCHING = ServingSetting("transformers-batching", slots=4, utilisation=0.7)


def service_file(choice, name, bundle):
    [found] = service_files([choice], name, bundle, WHEELS)
    return found


def role(offer, spot: bool = False, run: ServingSetting | None = None) -> RoleChoice:
    return RoleChoice("serve", offer, 1, spot, 24.0, 1.0, run=run)


@pytest.mark.parametrize(
    ("choice", "golden"),
    [
        (replace(role(SERVER, run=BATCHING), count=3), "cpu.sky.yaml"),
        (role(replace(GPU, accelerator_count=8), spot=True, run=VLLM), "gpu.sky.yaml"),
        (role(SERVER, run=LLAMA_CPP), "llamacpp.sky.yaml"),
        (role(replace(SERVER, cloud="local", region="here")), "local.sh"),
        (role(replace(SERVER, cloud="local", region="here"), run=LLAMA_CPP), "llamacpp.sh"),
    ],
)
def test_the_service_file_is_as_agreed(choice, golden, monkeypatch):
    monkeypatch.setattr("stratos.contrib.skypilot.service.version", lambda name: "1.2.3+cpu")
    monkeypatch.setattr("stratos.contrib.skypilot.service.python_version", lambda: "3.11")
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


def test_versions_are_those_of_this_machine_and_torch_that_of_the_server():
    cpu, gpu = installs(Transformers(), SERVER), installs(Transformers(), GPU)
    assert cpu[0] == (
        f'pip install "torch=={version("torch").partition("+")[0]}" '
        "--index-url https://download.pytorch.org/whl/cpu"
    )
    assert cpu[1:] == gpu == (
        f'pip install "transformers[serving]=={version("transformers")}"',
    )  # fmt: skip
    wanted = installs(LlamaCpp(), SERVER)[1]
    assert wanted == (
        f'pip install "$(ls stratos/*.whl)[llamacpp]" "xllamacpp=={version("xllamacpp")}" '
        "-c stratos/pins.txt"
    )


def test_a_server_of_llama_cpp_has_the_stratos_of_here_and_no_other_server_does(tmp_path):
    mix = [role(SERVER, run=BATCHING), role(SERVER, run=LLAMA_CPP)]
    write_wheels(mix, tmp_path / "stratos")
    assert sorted(one.name for one in (tmp_path / "stratos").iterdir()) == [
        "pins.txt", f"stratos_llm-{version('stratos-llm')}-py3-none-any.whl",
    ]  # fmt: skip
    assert "torch==" in (tmp_path / "stratos" / "pins.txt").read_text()
    write_wheels(mix[:1], tmp_path / "stratos")
    assert not (tmp_path / "stratos").exists()


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


def test_the_script_is_a_script():
    _, text = service_file(role(None), "x", BUNDLE)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


HOSTILE = "x\nsetup: touch made\n# $(touch made) `touch made` \x1b[31m\u202e"


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
