import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
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

from stratos.core.extensions import Extension
from stratos.deploy import service
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.service import CPU_TORCH, Servers, installs, service_files, write_wheels
from stratos.records import Offer

GOLDEN = Path(__file__).parent / "golden"
HERE = replace(SERVER, cloud="local", region="here")


@pytest.mark.parametrize(
    ("choice", "golden"),
    [(role(HERE), "local.sh"), (role(HERE, run=LLAMA_CPP), "llamacpp.sh")],
)
def test_the_script_is_as_agreed(choice, golden, monkeypatch):
    monkeypatch.setattr("stratos.deploy.service.version", lambda name: "1.2.3+cpu")
    _, text = service_file(choice, "larger-tiny", BUNDLE)
    assert text == (GOLDEN / golden).read_text()


def written(servers: Servers, offer: Offer) -> tuple[str, str]:
    return f"of_a_room{servers.mark}.yaml", f"{servers.name} on {offer.name}"


def test_a_room_writes_the_file_of_its_clouds_and_others_get_a_script(monkeypatch):
    room = Extension(service_files={"mine": f"{__name__}:written"})
    monkeypatch.setattr(service, "extensions", lambda: (room,))
    monkeypatch.setattr(service, "load", lambda target: {f"{__name__}:written": written}[target])
    mine = replace(SERVER, cloud="mine")
    assert service_file(role(mine), "x", BUNDLE) == ("of_a_room.yaml", f"x on {mine.name}")
    assert service_file(role(SERVER), "x", BUNDLE)[0] == "serve.sh"
    assert service_file(role(None), "x", BUNDLE)[0] == "serve.sh"
    mix = [role(mine, run=VLLM), role(GPU, run=BATCHING)]
    names = [name for name, _ in service_files(mix, "x", BUNDLE, WHEELS)]
    assert names == ["of_a_room-1.yaml", "serve-2.sh"]


def test_versions_are_those_of_this_machine_and_torch_that_of_the_server():
    cpu, gpu = installs(Transformers(), SERVER), installs(Transformers(), GPU)
    torch = f'"torch=={version("torch").partition("+")[0]}"'
    assert cpu[0] == f"pip install {torch} --index-url {CPU_TORCH}"
    assert cpu[1:] == gpu == (
        f'pip install "transformers[serving]=={version("transformers")}"',
    )  # fmt: skip
    wanted = installs(LlamaCpp(), SERVER)[1].split()
    assert wanted[:2] == ["pip", "install"] and "stratos/*.whl)[llamacpp]" in " ".join(wanted)
    assert wanted[-3:] == [f'"xllamacpp=={version("xllamacpp")}"', "-c", "stratos/pins.txt"]


def test_a_server_of_llama_cpp_has_the_stratos_of_here_and_no_other_server_does(tmp_path):
    mix = [role(SERVER, run=BATCHING), role(SERVER, run=LLAMA_CPP)]
    write_wheels(mix, tmp_path / "stratos")
    assert sorted(one.name for one in (tmp_path / "stratos").iterdir()) == [
        "pins.txt", f"stratos_llm-{version('stratos-llm')}-py3-none-any.whl",
    ]  # fmt: skip
    assert "torch==" in (tmp_path / "stratos" / "pins.txt").read_text()
    write_wheels(mix[:1], tmp_path / "stratos")
    assert not (tmp_path / "stratos").exists()


def test_the_script_is_a_script():
    _, text = service_file(role(None), "x", BUNDLE)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


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
