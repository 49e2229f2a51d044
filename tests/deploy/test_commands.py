"""The command that serves a bundle is that of the engine that the plan counted on."""

import json
import re
import shlex

import pytest

from stratos.core.errors import StratosError
from stratos.core.extensions import shipped_choices
from stratos.deploy.bundle_server import (
    context_of,
    environment_of,
    serve_arguments,
    serve_command,
)
from stratos.deploy.engines.base import Engine
from stratos.deploy.engines.known import engine_named, engines
from stratos.estimate.constants import ONE_THREAD_BYTES
from stratos.records import ServingSetting


def test_a_path_with_spaces_is_quoted_in_the_command():
    words = shlex.split(serve_command("/my runs/bundle", port=1))
    assert words[:3] == ["transformers", "serve", "/my runs/bundle"]


def test_every_engine_that_a_yaml_names_is_known_by_its_kind():
    known = {f"{type(one).__module__}.{type(one).__name__}" for one in engines().values()}
    texts = [path.read_text() for path in shipped_choices("deploy").values()]
    assert {target for text in texts for target in re.findall(r"_target_: (\S+)", text)} <= known
    assert all(isinstance(one, Engine) and one.kind == kind for kind, one in engines().items())
    with pytest.raises(StratosError, match="Did you mean vllm"):
        engine_named("vlm")


def test_batches_of_transformers_have_a_cache_for_all_slots():
    run = ServingSetting("transformers-batching", slots=16)
    words = serve_arguments("b", "h", 1, run, context=1000)
    assert words[6:] == ["--continuous-batching", "--cb-num-blocks", "80"]  # (4 pages + 1) each


def test_vllm_fills_all_gpus_and_is_greedy():
    run = ServingSetting("vllm", slots=64, tensor_parallel=2)
    words = shlex.split(serve_command(".", run=run, n_devices=8, context=1024))
    assert words[:3] == ["vllm", "serve", "."]
    assert words[words.index("--max-num-seqs") + 1] == "64"
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert words[words.index("--data-parallel-size") + 1] == "4"
    assert json.loads(words[-1]) == {"temperature": 0}
    alone = shlex.split(serve_command(".", run=ServingSetting("vllm"), n_devices=1))
    assert not {"--tensor-parallel-size", "--data-parallel-size"} & set(alone)


def test_vllm_compiles_nothing_without_a_gpu_and_takes_the_precision_that_is_named():
    named = ServingSetting("vllm", slots=4, format="bf16")
    words = serve_arguments("b", "h", 1, named, n_devices=0)
    assert words[words.index("--dtype") + 1] == "bfloat16" and "--enforce-eager" in words
    words = serve_arguments("b", "h", 1, ServingSetting("vllm"), n_devices=1)
    assert not {"--dtype", "--enforce-eager"} & set(words)


def test_the_context_is_that_of_the_bundle(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert context_of(tmp_path) == 512
    assert context_of(tmp_path / "nowhere") == 8192
    long = serve_arguments("b", "h", 1, ServingSetting("vllm"), context=131072)
    assert long[long.index("--max-model-len") + 1] == "8192"


def test_a_small_model_is_served_by_one_thread_and_a_large_one_by_all(tmp_path):
    weights = tmp_path / "model.safetensors"
    for n_bytes, threads in ((ONE_THREAD_BYTES, "1"), (ONE_THREAD_BYTES + 1, None)):
        with weights.open("wb") as file:
            file.truncate(n_bytes)
        found = environment_of(tmp_path)
        assert found.pop("OMP_NUM_THREADS", None) == threads
        assert found == {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
