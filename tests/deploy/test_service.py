"""The command and the files that serve a bundle are those of the engine that was planned."""

import re
import shlex
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

from stratos.core.errors import StratosError
from stratos.core.extensions import Extension, shipped_choices
from stratos.deploy import service
from stratos.deploy.bundle_server import (
    context_of,
    environment_of,
    serve_arguments,
    serve_command,
)
from stratos.deploy.engines.base import engine_named, engines
from stratos.deploy.engines.hugging_face import Transformers
from stratos.deploy.engines.llamacpp import LlamaCpp
from stratos.deploy.service import CPU_TORCH, Servers, installs, service_files, write_wheels
from stratos.estimate.constants import ONE_THREAD_BYTES
from stratos.records import Offer, ServingSetting

GOLDEN = Path(__file__).parent / "golden"
HERE = replace(SERVER, cloud="local", region="here")


def test_every_engine_that_a_yaml_names_is_known_by_its_kind():
    known = {f"{type(engine).__module__}.{type(engine).__name__}" for engine in engines().values()}
    texts = [path.read_text() for path in shipped_choices("deploy").values()]
    assert {target for text in texts for target in re.findall(r"_target_: (\S+)", text)} <= known
    assert all(engine.kind == kind for kind, engine in engines().items())
    with pytest.raises(StratosError, match="Did you mean vllm"):
        engine_named("vlm")


def test_batches_of_transformers_have_a_cache_for_all_slots():
    run = ServingSetting("transformers-batching", slots=16)
    words = serve_arguments("b", "h", 1, run, context=1000)
    assert words[6:] == ["--continuous-batching", "--cb-num-blocks", "80"]  # (4 pages + 1) each


def test_vllm_fills_all_gpus_is_greedy_and_compiles_nothing_without_a_gpu():
    run = ServingSetting("vllm", slots=64, tensor_parallel=2)
    words = shlex.split(serve_command("/my runs/b", run=run, n_devices=8, context=131072))
    assert words[:3] == ["vllm", "serve", "/my runs/b"]
    options = dict(zip(words[7::2], words[8::2], strict=True))
    assert options == {
        "--max-num-seqs": "64", "--max-model-len": "8192", "--tensor-parallel-size": "2",
        "--data-parallel-size": "4", "--override-generation-config": '{"temperature": 0}',
    }  # fmt: skip
    alone = serve_arguments("b", "h", 1, ServingSetting("vllm"), n_devices=1)
    assert not {"--tensor-parallel-size", "--data-parallel-size", "--dtype"} & set(alone)
    cpu = serve_arguments("b", "h", 1, ServingSetting("vllm", slots=4, format="bf16"), n_devices=0)
    assert cpu[cpu.index("--dtype") + 1] == "bfloat16" and "--enforce-eager" in cpu


def test_context_and_threads_are_those_of_the_bundle(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert context_of(tmp_path) == 512
    assert context_of(tmp_path / "nowhere") == 8192
    for n_bytes, threads in ((ONE_THREAD_BYTES, "1"), (ONE_THREAD_BYTES + 1, None)):
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.truncate(n_bytes)
        assert environment_of(tmp_path).get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize(
    ("choice", "golden"),
    [(role(HERE), "local.sh"), (role(HERE, run=LLAMA_CPP), "llamacpp.sh")],
)
def test_the_script_is_as_agreed(choice, golden, monkeypatch):
    monkeypatch.setattr("stratos.deploy.service.version", lambda name: "1.2.3+cpu")
    _, text = service_file(choice, "larger-tiny", BUNDLE)
    assert text == (GOLDEN / golden).read_text()
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


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
    assert sorted(file.name for file in (tmp_path / "stratos").iterdir()) == [
        "pins.txt", f"stratos_llm-{version('stratos-llm')}-py3-none-any.whl",
    ]  # fmt: skip
    assert "torch==" in (tmp_path / "stratos" / "pins.txt").read_text()
    write_wheels(mix[:1], tmp_path / "stratos")
    assert not (tmp_path / "stratos").exists()


def test_no_name_is_a_command_of_the_script(tmp_path):
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
