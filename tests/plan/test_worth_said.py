"""The verdict as the command says it: before the plan, and in its record."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers"))

from chat_server import KEY
from perfect_server import PerfectServer


def test_the_verdict_is_said_once_and_needs_no_more_than_the_traffic(tmp_path):
    rows = {f"What is {i} plus {7 * i}?": str(8 * i) for i in range(2, 242)}
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"question": one, "answer": gold}) for one, gold in rows.items())
    )
    with PerfectServer(rows, None) as server:
        command = (
            sys.executable, "-m", "stratos", "+task=jsonl", "task.path=rows.jsonl", "cloud=aws",
            "teacher=endpoint", "teacher.model=parrot-large", f"teacher.base_url={server.base_url}",
            "teacher.api_key_env=PARROT_KEY", "teacher.usd_per_million_input_tokens=2",
            "teacher.usd_per_million_output_tokens=8", "teacher.outputs_may_train=true",
            "stages=[probe,plan]", "logger=none", "plan.pilot=false", "student=stratos_1m",
            "plan.history=false", "traffic.requests_per_day=50", "hydra.run.dir=run",
        )  # fmt: skip
        env = {**os.environ, "PARROT_KEY": KEY, "STRATOS_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 0, done.stdout + done.stderr
    said = "Don't distil: at 50 requests a day within 12 months parrot-large costs"

    worth = json.loads((tmp_path / "run" / "plan.json").read_bytes())["record"]["worth"]
    assert worth["outcome"] == "stay" and worth["text"].startswith(said)
    assert [way["name"] for way in worth["alternatives"]] == ["stratos_1m", "parrot-large"]
    shown = " ".join(done.stdout.split())
    verdict = "Do not serve it, for its cost. At 50 requests a day within 12 months parrot-large"
    assert shown.count(verdict) == 1 and "it is not expected to pay" in shown
