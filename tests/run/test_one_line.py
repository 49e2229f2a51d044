"""`--json`: one line on standard output, whatever comes of the run."""

import json
import math
import os
import subprocess
import sys

import pytest
from probed_run import probe_by_hand

from stratos.core.output import is_for_machines, say_ended, stdout_kept, take_flags


def test_the_line_is_written_if_it_was_asked_for(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("STRATOS_JSON", "")
    assert take_flags(["stratos", "+task=x"]) == ["stratos", "+task=x"] and not is_for_machines()
    say_ended(tmp_path, ["probe"], {}, 0.0)
    assert capsys.readouterr().out == ""
    assert take_flags(["stratos", "--json", "+task=x"]) == ["stratos", "+task=x"]
    assert is_for_machines()
    say_ended(tmp_path, ["probe", "plan"], {"planned_usd": 1.5, "payback_days": math.inf}, 0.25)
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "status": "finished", "folder": str(tmp_path), "stages": ["probe", "plan"],
        "spent_usd": 0.25, "planned_usd": 1.5, "payback_days": None,
    }  # fmt: skip


def test_what_others_write_goes_to_standard_error(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("STRATOS_JSON", "1")
    with stdout_kept():
        print("[HYDRA] Launching 2 jobs locally")
        say_ended(tmp_path, [], {}, 0.0)
    told = capsys.readouterr()
    assert told.err == "[HYDRA] Launching 2 jobs locally\n"
    assert json.loads(told.out)["status"] == "finished"
    monkeypatch.setenv("STRATOS_JSON", "")
    with stdout_kept():
        print("as ever")
    assert capsys.readouterr().out == "as ever\n"


@pytest.mark.slow
def test_a_run_that_ends_and_one_that_fails_write_one_line(tmp_path):
    run = tmp_path / "run"
    probe_by_hand(run)
    env = {**os.environ, "WANDB_MODE": "disabled", "STRATOS_CACHE": str(tmp_path / "cache")}
    env.pop("STRATOS_JSON", None)
    for folder, status in ((run, "finished"), (tmp_path / "empty", "failed")):
        told = subprocess.run(
            [sys.executable, "-m", "stratos", "+task=mahjong", "cloud=aws", "stages=[plan]",
             "logger=none", f"hydra.run.dir={folder}", "--json"],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        [line] = told.stdout.splitlines()
        found = json.loads(line)
        assert (found["status"], found["folder"]) == (status, str(folder)), told.stderr
        if status == "finished":
            assert found["stages"] == ["probe", "plan"] and found["planned_usd"] > 0
            assert "\nplan       smollm2 → " in told.stderr
        else:
            assert found["error"].startswith("plan needs the record of probe")
        assert (told.returncode == 0) is (status == "finished")
