"""The action for GitHub: its steps are run as a runner would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.contrib.gate.test_frozen import runs

__all__ = ["runs"]

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def test_every_input_has_a_name_that_is_read():
    read = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text()))
    assert read == set(ACTION["inputs"])
    assert not any("${{" in step.get("run", "") for step in ACTION["runs"]["steps"]), (
        "what a user types is no shell code"
    )


@pytest.mark.parametrize(
    ("candidate", "cannot_tell", "delta", "code", "outcome"),
    [
        ("worse", "fail", "0.02", 1, "worse"),
        ("same", "fail", "0.02", 0, "no worse"),
        ("same", "fail", "0.001", 3, "cannot tell"),
        ("same", "pass", "0.001", 0, "cannot tell"),
        ("none", "pass", "0.02", 2, ""),
    ],
)
def test_the_gate_of_a_pull_request(candidate, cannot_tell, delta, code, outcome, runs, tmp_path):
    program = tmp_path / "bin" / "stratos"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m stratos "$@"\n')
    program.chmod(0o755)
    [step] = [step for step in ACTION["runs"]["steps"] if step.get("id") == "gate"]
    inputs = {name: str(given.get("default", "")) for name, given in ACTION["inputs"].items()}
    inputs |= {"candidate": candidate, "against": "frozen.jsonl", "delta": delta}
    inputs["cannot-tell"] = cannot_tell
    env = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda name: inputs[name[1]], value)
        for key, value in step["env"].items()
    } | {
        "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'launchers'}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(
        command, cwd=runs, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    output = tmp_path / "output"
    assert (output.read_text() if output.exists() else "") == (
        f"outcome={outcome}\n" if outcome else ""
    )
